"""What a loss sees: the log-probs of a batch of preference pairs. Imports no torch.

Legend of shapes: B pairs, T response tokens (padded).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Logps:
    """Log-probs of one completion per pair: prompt excluded, end-of-turn token included."""

    token: Tensor
    """(B, T) log p(token | what precedes it), nats, exactly 0 outside the mask; fp32 in training, fp64 in checks."""
    mask: Tensor
    """(B, T) bool, True on response tokens."""
    log_sum_sq: Tensor | None = None
    """(B, T) log of the sum over the vocabulary of p(v)^2, detached; only with `needs_log_sum_sq`."""
    token_kl: Tensor | None = None
    """(B, T) KL(reference || policy) over the vocabulary, nats, with its own gradient; only with `needs_token_kl`."""

    def sum(self) -> Tensor:
        """Return the summed log-prob in nats, (B,); added up in fp64, returned in the dtype of `token`."""
        return self.token.double().sum(-1).to(self.token.dtype)

    def length(self) -> Tensor:
        """Return the number of response tokens, (B,), at least 1, in the dtype of `token`."""
        return self.mask.sum(-1).clamp(min=1).to(self.token.dtype)

    def mean(self) -> Tensor:
        """Return the log-prob averaged over response tokens in nats per token, (B,)."""
        return (self.token.double().sum(-1) / self.mask.sum(-1).clamp(min=1)).to(self.token.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairLogps:
    """The log-probs of B pairs under the policy, and whatever else the loss declared that it needs."""

    chosen: Logps
    rejected: Logps
    ref_chosen: Tensor | None = None
    """(B,) summed reference log-probs of the chosen responses, with `needs_reference`."""
    ref_rejected: Tensor | None = None
    """(B,) summed reference log-probs of the rejected responses, with `needs_reference`."""
    ref_tokens: tuple[Logps, Logps] | None = None
    """Reference log-probs per token (chosen, rejected), with `needs_reference_tokens`."""
    ref_entropy: tuple[Tensor, Tensor] | None = None
    """(B,) each, chosen and rejected: entropy of the reference's next-token distribution, averaged over the response's
    tokens and divided by log(vocabulary): 0 to 1; with `needs_reference_entropy`."""
    kl: Logps | None = None
    """A response to another prompt for each pair, with `needs_kl`; which one is fixed once for a data set."""
    ref_kl: Tensor | None = None
    """(B,) summed reference log-probs of the mismatched completions, with `needs_kl`."""
    columns: Mapping[str, Tensor] = field(default_factory=dict)
    """(B,) each: the columns named in `needs_columns` and those that `prepare` returned."""

    def log_ratios(self) -> tuple[Tensor, Tensor]:
        """Return summed log(policy / reference) of (chosen, rejected), (B,) each; with `needs_reference`."""
        assert self.ref_chosen is not None, "the loss reads the reference without declaring needs_reference"
        assert self.ref_rejected is not None
        return self.chosen.sum() - self.ref_chosen, self.rejected.sum() - self.ref_rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseLogps:
    """What the implicit reward of a response may use: its own log-prob and length, never the other response."""

    sum: Tensor
    """(B,) summed log-prob under the policy, nats."""
    length: Tensor
    """(B,) number of response tokens, at least 1."""
    ref_sum: Tensor | None
    """(B,) summed log-prob under the reference; None unless the loss has `reward_needs_reference`."""
