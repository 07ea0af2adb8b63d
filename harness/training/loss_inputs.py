"""The inputs of a loss: the log-probs of a micro-batch under the policy, and whatever else the loss declared.

Legend of shapes: B pairs of a micro-batch, T response tokens (padded). A micro-batch holds 2B responses: all chosen
ones, then all rejected ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.api import Logps, Loss, Pair, PairLogps, ResponseLogps
from harness.data.collate import Batch, collate
from harness.data.tokens import TokenPair
from harness.logps.response_logps import plain_logps, response_logps
from harness.training.ranks import ALONE, Ranks
from harness.training.reference_cache import Reference


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The training pairs as text and as ids, with the further data that the loss declared."""

    pairs: Sequence[Pair]
    tokens: Sequence[TokenPair]
    reference: Reference | None
    columns: Mapping[str, np.ndarray]
    """(pairs,) float64 each; NaN on pairs that the budget does not visit."""
    mismatched: Sequence[Sequence[int]] | None = None
    """A mismatched response for each pair, as ids, for losses with `needs_kl`."""
    frozen: Any = None
    """The reference model itself, for losses with `needs_token_kl` or a `moving_reference`."""


class LossInputs:
    """Makes the `PairLogps` that one loss sees; what the loss did not declare is not computed and is None."""

    def __init__(
        self, loss: Loss, data: TrainingData, dtype: str, *, plain: bool = False, ranks: Ranks = ALONE
    ) -> None:
        self.loss, self.data, self.dtype, self.ranks = loss, data, dtype, ranks
        self.path = plain_logps if plain else response_logps
        self.mismatched_tokens = 0
        """Prompt + response tokens of the mismatched responses evaluated so far."""

    def collated(self, indices: Any) -> dict[str, Tensor]:
        """Return the tensors of the micro-batch of the pairs `indices`, (B,), by name."""
        pairs = [self.data.tokens[i] for i in indices]
        batch = collate([(pair.prompt_ids, (pair.chosen_ids, pair.rejected_ids)) for pair in pairs])
        return {"pair": torch.from_numpy(indices), **{name: getattr(batch, name) for name in Batch.names()}}

    def pair_logps(self, model: Any, inputs: Mapping[str, Tensor], *, for_loss: bool) -> PairLogps:
        """Return the log-probs of a micro-batch: with `for_loss` all that is declared, else what rewards need."""
        loss, reference = self.loss, self.data.reference
        batch = Batch(**{name: inputs[name] for name in Batch.names()})
        # the KL has a gradient of its own, which the second pass of a batch-coupled loss needs too
        frozen = self.data.frozen if loss.needs_token_kl else None
        both = self._of_policy(model, batch, log_sum_sq=for_loss and loss.needs_log_sum_sq, reference=frozen)
        indices = inputs["pair"].cpu().numpy()
        count = len(indices)
        chosen, rejected = _rows(both, slice(0, count)), _rows(both, slice(count, 2 * count))
        moving = None if loss.moving_reference is None else self._moving(batch, count)

        def column(values: np.ndarray | None) -> Tensor:
            assert values is not None, "the training data lack what the loss declared"
            return torch.as_tensor(values[indices], dtype=both.token.dtype, device=both.token.device)

        sums: tuple[Tensor | None, Tensor | None] = (None, None)
        if moving is not None:
            sums = moving[0].sum(), moving[1].sum()
        elif reference and loss.needs_reference:
            sums = column(reference.chosen), column(reference.rejected)
        return PairLogps(
            chosen=chosen,
            rejected=rejected,
            ref_chosen=sums[0],
            ref_rejected=sums[1],
            ref_tokens=moving or self._ref_tokens(indices, chosen, rejected)
            if for_loss and loss.needs_reference_tokens
            else None,
            ref_entropy=(column(reference.entropy[0]), column(reference.entropy[1]))
            if reference and reference.entropy and for_loss and loss.needs_reference_entropy
            else None,
            kl=self._mismatched(model, indices, batch.ids_L.device) if for_loss and loss.needs_kl else None,
            ref_kl=column(reference.mismatched) if reference and for_loss and loss.needs_kl else None,
            columns={name: column(values) for name, values in self.data.columns.items()},
        )

    def _moving(self, batch: Batch, count: int) -> tuple[Logps, Logps]:
        """Return what the reference model gives now, chosen and rejected."""
        with torch.no_grad():
            both = self._logps(self.data.frozen, batch)
        return _rows(both, slice(0, count)), _rows(both, slice(count, 2 * count))

    def _ref_tokens(self, indices: np.ndarray, chosen: Logps, rejected: Logps) -> tuple[Logps, Logps]:
        assert self.data.reference is not None
        assert self.data.reference.tokens is not None
        first, second = ([side[i] for i in indices] for side in self.data.reference.tokens)
        return _at_places(first, chosen.mask), _at_places(second, rejected.mask)

    def _mismatched(self, model: Any, indices: np.ndarray, device: torch.device) -> Logps:
        assert self.data.mismatched is not None
        groups = [(self.data.tokens[i].prompt_ids, (self.data.mismatched[i],)) for i in indices]
        batch = collate(groups).to(device)
        self.mismatched_tokens += int((batch.row_NS >= 0).sum())
        with torch.no_grad():
            return self._of_policy(model, batch)

    def _of_policy(self, model: Any, batch: Batch, *, log_sum_sq: bool = False, reference: Any = None) -> Logps:
        ask = partial(self._logps, batch=batch, log_sum_sq=log_sum_sq, reference=reference)
        return self.ranks.ask(model, ask)

    def _logps(self, model: Any, batch: Batch, *, log_sum_sq: bool = False, reference: Any = None) -> Logps:
        # a separate autocast for every pass: its cache must not hand weights cast without gradient on to the next pass
        with torch.autocast(batch.ids_L.device.type, torch.bfloat16, enabled=self.dtype == "bfloat16"):
            return self.path(model, batch, log_sum_sq=log_sum_sq, reference=reference)


def as_response(loss: Loss, logps: Logps, reference: Tensor | None) -> ResponseLogps:
    """Return what the reward may use of one side of the pairs: copies, which it may write into."""
    ref_sum = reference.clone() if loss.reward_needs_reference and reference is not None else None
    return ResponseLogps(sum=logps.sum().detach(), length=logps.length(), ref_sum=ref_sum)


def join(parts: Sequence[PairLogps]) -> PairLogps:
    """Return the micro-batches as one batch, padded to the longest response."""
    tokens = [part.ref_tokens for part in parts if part.ref_tokens is not None]
    mismatched = [part.kl for part in parts if part.kl is not None]
    entropies = [part.ref_entropy for part in parts if part.ref_entropy is not None]
    return PairLogps(
        chosen=_stack([part.chosen for part in parts]),
        rejected=_stack([part.rejected for part in parts]),
        ref_chosen=_concatenate([part.ref_chosen for part in parts]),
        ref_rejected=_concatenate([part.ref_rejected for part in parts]),
        ref_tokens=(_stack([side[0] for side in tokens]), _stack([side[1] for side in tokens])) if tokens else None,
        ref_entropy=(torch.cat([side[0] for side in entropies]), torch.cat([side[1] for side in entropies]))
        if entropies
        else None,
        kl=_stack(mismatched) if mismatched else None,
        ref_kl=_concatenate([part.ref_kl for part in parts]),
        columns={name: torch.cat([part.columns[name] for part in parts]) for name in parts[0].columns},
    )


def _rows(logps: Logps, rows: slice) -> Logps:
    """Return some responses, cut to the longest of them."""
    width = max(1, int(logps.mask[rows].sum(-1).max()))
    return Logps(
        token=logps.token[rows, :width],
        mask=logps.mask[rows, :width],
        log_sum_sq=None if logps.log_sum_sq is None else logps.log_sum_sq[rows, :width],
        token_kl=None if logps.token_kl is None else logps.token_kl[rows, :width],
    )


def _at_places(values: Sequence[np.ndarray], mask: Tensor) -> Logps:
    """Return known log-probs, one array per response, placed where `mask`, (B, T), is True."""
    flat = torch.as_tensor(np.concatenate(values), dtype=torch.float32, device=mask.device)
    return Logps(token=torch.zeros(mask.shape, device=mask.device).masked_scatter(mask, flat), mask=mask)


def _stack(parts: Sequence[Logps]) -> Logps:
    """Return the responses of all parts, padded to the widest part."""
    width = max(part.token.shape[1] for part in parts)

    def pad(values: Tensor) -> Tensor:
        return torch.nn.functional.pad(values, (0, width - values.shape[1]))

    squares = [pad(part.log_sum_sq) for part in parts if part.log_sum_sq is not None]
    divergences = [pad(part.token_kl) for part in parts if part.token_kl is not None]
    return Logps(
        token=torch.cat([pad(part.token) for part in parts]),
        mask=torch.cat([pad(part.mask) for part in parts]),
        log_sum_sq=torch.cat(squares) if squares else None,
        token_kl=torch.cat(divergences) if divergences else None,
    )


def _concatenate(parts: Sequence[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present else None
