"""TR-DPO: DPO whose reference model follows the policy while it trains.

Formula: -log sigmoid(beta * h), h = (S_w - R_w) - (S_l - R_l), R under a reference that starts as the start checkpoint;
with `update="soft"` it becomes alpha * policy + (1 - alpha) * reference, weight by weight, after every step, with
"hard" the policy itself after every `every` steps.
Reward: beta * (S - R), R under the start checkpoint: where responses are scored, no other is known, and the moved
reference is next to the policy.
Source: Gorbatovski et al. (2024), "Learn Your Reference Model for Real Good Alignment", arXiv:2404.09656.
Provenance: [S] the rule as TRL has it (`sync_ref_model`, `ref_model_mixup_alpha`, `ref_model_sync_steps`); the paper
was not read. Tested by weights moved by hand.
Traps: a copy of the model stays in memory and runs beside every micro-batch, 2 N FLOPs per token, charged to the
budget, where DPO's reference is kept from one pass. In training the logged rewards are to the moving reference. An
`every` beyond the steps of the run is DPO. TRL also mixes after every so many steps; here soft is every step. Under
LoRA the adapters are mixed, not their products.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.api import Limit, Loss, MovingReference, PairLogps, Range, ResponseLogps, Terms, hookimpl, require

if TYPE_CHECKING:
    from torch import Tensor

ELSEWHERE = {"unchecked": "it moves the reference between steps, not the loss of one"}


@dataclass(frozen=True, kw_only=True)
class TRDPO(Loss):
    """-log sigmoid(beta * difference of log-ratios to a reference that moves)."""

    name: ClassVar[str] = "tr-dpo"
    search_space: ClassVar[Mapping[str, Range]] = {"beta": Range(low=0.01, high=0.5, log=True)}
    needs_reference = True

    beta: float = 0.1
    """Strength of the tie to the reference model, above 0. Default: DPO's."""
    update: Literal["soft", "hard"] = field(default="soft", metadata=ELSEWHERE)
    """Mixed a little after every step, or replaced now and then, see Formula. Default: the first of the paper's."""
    alpha: float = field(default=0.6, metadata=ELSEWHERE)
    """With "soft": the policy's share, above 0 and up to 1. Default: TRL's."""
    every: int = field(default=512, metadata=ELSEWHERE)
    """With "hard": steps between two updates, at least 1; mind the length of the run. Default: TRL's."""

    def __post_init__(self) -> None:
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")
        require(self.update in ("soft", "hard"), f"update got '{self.update}', expected 'soft' or 'hard'")
        require(0 < self.alpha <= 1, f"alpha got {self.alpha}, expected a number above 0 and up to 1")
        require(1 <= self.every < math.inf, f"every got {self.every}, expected a whole number of at least 1")

    @property
    def moving_reference(self) -> MovingReference:
        """By the options."""
        soft = self.update == "soft"
        return MovingReference(share=self.alpha, every=1) if soft else MovingReference(share=1.0, every=self.every)

    @property
    def limits(self) -> tuple[Limit, ...]:
        """At any one step it is DPO."""
        return (Limit(options={}, equals="dpo", equals_options={"beta": self.beta}),)

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair, (B,)."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = pairs.log_ratios()
        return Terms.of(-logsigmoid(self.beta * (chosen - rejected).to(pairs.chosen.token.dtype)))

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * (S - R), (B,): comparable between responses to one prompt only."""
        assert response.ref_sum is not None, "the reward of tr-dpo needs the reference's log-probs"
        return self.beta * (response.sum - response.ref_sum)


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [TRDPO]
