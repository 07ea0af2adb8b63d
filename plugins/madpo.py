"""MADPO: DPO with each pair weighted by how far apart a reward model puts its two responses.

Formula: w * (-log sigmoid(beta * h)), h = (S_w - R_w) - (S_l - R_l); w = sigmoid(c * H) / sigmoid(H) where H > -tau,
else 1; c = c_min + (c_max - c_min) / (1 + (c_max - 1) / (1 - c_min) * exp(slope * (|H| - tau))); H the margin of the
two responses' scores, a logit.
Reward: beta * (S - R).
Source: Rho (2025), "Margin Adaptive DPO: Leveraging Reward Model for Granular Control in Preference Optimization",
arXiv:2510.05342v1.
Provenance: [V] loss and weight: the author's `utils/loss_functions.py` (sirano1004, 306779b), by golden values; how an
annotation score becomes a logit is our choice [R], as the paper trains a reward model.
Traps: c is 1 and w is 1 at |H| = tau; 0 < H < tau weighs more than 1, H > tau less, -tau < H < 0 (the scores contradict
the label) less, H <= -tau exactly 1. Under "standard" hardly any |H| reaches the default tau of 6.9, so pairs are
amplified and seldom dampened: the author's class has tau = 2. Under "standard" the weights depend on the training set,
and where all score differences are equal there is no spread to measure by: H is 0, w is 1 and the loss is DPO's. The
weights are not rescaled to a mean of 1. Version 2 of the paper was not read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from harness.api import Limit, Loss, PairLogps, Range, ResponseLogps, Terms, hookimpl, require

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class MADPO(Loss):
    """weight(score margin) * -log sigmoid(beta * (summed log-ratio chosen - summed log-ratio rejected))."""

    name: ClassVar[str] = "madpo"
    search_space: ClassVar[Mapping[str, Range]] = {
        "beta": Range(low=0.01, high=0.5, log=True),
        "c_max": Range(low=1.2, high=4.0, log=True),
        "tau": Range(low=0.5, high=8.0, log=True),
    }
    needs_reference = True
    needs_columns = ("score_chosen", "score_rejected")

    beta: float = 0.1
    """Strength of the tie to the reference model, above 0. Default: the paper's."""
    c_max: float = 2.0
    """The margin's largest factor, approached at small margins, above 1. Default: the paper's."""
    c_min: float | None = None
    """The margin's smallest factor, approached at large ones, above 0 and below 1; none: 1 / c_max, the paper's."""
    slope: float = 1.0
    """Steepness of the passage from c_max to c_min (the paper's lambda), at least 0; 0 is DPO. Default: the paper's."""
    tau: float = 6.907
    """The margin that is left as it is, a logit of at least 0. Default: the paper's, log(0.999 / 0.001)."""
    margin_scale: Literal["standard", "raw"] = "standard"
    """How a score difference becomes a logit: divided by the standard deviation (ddof 0) of the differences over the
    training pairs ("standard"), or taken as it is ("raw"). Default: ours, as annotation scores have no logit scale."""

    def __post_init__(self) -> None:
        low, scales = self.c_min, ("standard", "raw")
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")
        require(1 < self.c_max < math.inf, f"c_max got {self.c_max}, expected a finite number above 1")
        require(low is None or 0 < low < 1, f"c_min got {low}, expected none or a number above 0 and below 1")
        require(0 <= self.slope < math.inf, f"slope got {self.slope}, expected a finite number of at least 0")
        require(0 <= self.tau < math.inf, f"tau got {self.tau}, expected a finite number of at least 0")
        require(self.margin_scale in scales, f"margin_scale got '{self.margin_scale}', expected 'standard' or 'raw'")

    @property
    def limits(self) -> tuple[Limit, ...]:
        """Without a slope, or with equal score differences to standardise, every weight is 1."""
        dpo, equal = {"beta": self.beta}, {"score_chosen": 4.0, "score_rejected": 3.0}
        return (
            Limit(options={"slope": 0.0}, equals="dpo", equals_options=dpo),
            Limit(options={"margin_scale": "standard"}, equals="dpo", equals_options=dpo, columns=equal),
        )

    def prepare(self, pairs: pd.DataFrame) -> Mapping[str, np.ndarray]:
        """Return "weight", (len(pairs),), from the two scores."""
        margin = pairs["score_chosen"].to_numpy(float) - pairs["score_rejected"].to_numpy(float)
        if self.margin_scale == "standard" and len(margin):
            spread = margin.std()  # of rounding errors alone where it is some 1e-16: |H| is huge then, and w is 1 too
            margin = margin / spread if spread > 0 else np.zeros_like(margin)
        return {"weight": self._weight(margin)}

    def _weight(self, margin: np.ndarray) -> np.ndarray:
        """Return w of each margin (a logit), (len(margin),), below 2."""
        low = 1 / self.c_max if self.c_min is None else self.c_min
        margin = np.where(margin > -self.tau, margin, 0.0)  # a margin of 0 weighs 1, as those below -tau do
        passage = np.exp(np.minimum(self.slope * (np.abs(margin) - self.tau), 700.0))  # c is c_min well before e^700
        factor = low + (self.c_max - low) / (1 + (self.c_max - 1) / (1 - low) * passage)
        weight: np.ndarray = np.exp(np.logaddexp(0, -margin) - np.logaddexp(0, -factor * margin))
        return weight

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the weighted loss of each pair, (B,)."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = pairs.log_ratios()
        logits = self.beta * (chosen - rejected).to(pairs.chosen.token.dtype)
        return Terms.of(pairs.columns["weight"].to(logits) * -logsigmoid(logits))

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * (S - R), (B,)."""
        assert response.ref_sum is not None, "the reward of madpo needs the reference's log-probs"
        return self.beta * (response.sum - response.ref_sum)


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [MADPO]
