"""IPO: squared distance of the log-ratio difference to a fixed target.

Formula: (h_w / n_w - h_l / n_l - 1 / (2 tau))^2 with `reduction="mean"`, (h_w - h_l - 1 / (2 tau))^2 with "sum";
h = summed log-ratio of policy to reference, n = response tokens.
Reward: tau * (S - R) / n with "mean", tau * (S - R) with "sum".
Source: Azar et al. (2023), "A General Theoretical Paradigm to Understand Learning from Human Preferences",
arXiv:2310.12036, eq. 17. The paper prints the sum; its authors told Hugging Face that they average over tokens, and TRL
(since PR 1265) and HALOs do: hence our default.
Provenance: [V] TRL 1.16.0's code for "mean" and eric-mitchell/direct-preference-optimization's for "sum", by golden
values.
Traps: the target 1 / (2 tau) is nats *per token* under "mean" and nats per response under "sum": retune tau when
switching. The loss is unbounded: one extreme pair can dominate a batch. A gap beyond the target is pulled back. TRL
logs tau * (S - R), summed, even where it trains the average, so its logged accuracy is not the trained one; ours is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.api import Loss, PairLogps, Range, ResponseLogps, Terms, hookimpl, require

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class IPO(Loss):
    """(log-ratio chosen - log-ratio rejected - 1 / (2 tau))^2, averaged over tokens by default."""

    name: ClassVar[str] = "ipo"
    search_space: ClassVar[Mapping[str, Range]] = {"tau": Range(low=0.01, high=1.0, log=True)}
    needs_reference = True
    monotone = False

    tau: float = 0.1
    """Regularisation strength, above 0; the target gap is 1 / (2 tau). Default: TRL's `beta`."""
    reduction: Literal["mean", "sum"] = "mean"
    """Log-ratios averaged over tokens (the authors' practice) or summed (the paper's print)."""

    def __post_init__(self) -> None:
        require(0 < self.tau < math.inf, f"tau got {self.tau}, expected a finite number above 0")
        require(self.reduction in ("mean", "sum"), f"reduction got '{self.reduction}', expected 'mean' or 'sum'")

    @property
    def length_normalised(self) -> bool:
        """As the reduction says."""
        return self.reduction == "mean"

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair, (B,)."""
        chosen, rejected = pairs.log_ratios()
        if self.reduction == "mean":
            chosen, rejected = chosen / pairs.chosen.length(), rejected / pairs.rejected.length()
        return Terms.of(((chosen - rejected) - 1 / (2 * self.tau)).square().to(pairs.chosen.token.dtype))

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return tau * (S - R) / n with "mean", tau * (S - R) with "sum", (B,)."""
        assert response.ref_sum is not None, "the reward of ipo needs the reference's log-probs"
        ratio = response.sum - response.ref_sum
        return self.tau * (ratio / response.length if self.reduction == "mean" else ratio)


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [IPO]
