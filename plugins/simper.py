"""SimPER: inverse perplexity of the rejected response less that of the chosen one, no reference, no option.

Formula: -exp(A_w) + exp(A_l), A = S / n; exp(A) is 1 / perplexity.
Reward: A = S / n.
Source: Xiao et al. (2025), "SimPER: A Minimalist Approach to Preference Alignment without Hyperparameters",
arXiv:2502.00883.
Provenance: [S] the formula as others quote it; the paper was not read. Values by hand.
Traps: the value lies between -1 and 1, and the gradient has the factor exp(A): a response that is unlikely per token
hardly moves, the chosen one of a badly misranked pair included. The reward is A, which ranks as exp(A) does and does
not underflow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.api import Loss, PairLogps, ResponseLogps, Terms, hookimpl

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SimPER(Loss):
    """exp(mean logp rejected) - exp(mean logp chosen)."""

    name: ClassVar[str] = "simper"
    length_normalised = True
    comparison = "unpaired"
    saturates = True  # probabilities as values

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair, (B,)."""
        return Terms.of(pairs.rejected.mean().exp() - pairs.chosen.mean().exp())

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return A, (B,)."""
        return response.sum / response.length


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [SimPER]
