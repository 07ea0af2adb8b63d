"""GapPO: the loss of each pair weighted by its annotation-score gap, over any base loss.

Formula: w * l, l = the base's preference term, w = |score_chosen - score_rejected|^power, divided by its mean over the
training set ("dataset_mean"), over the step ("batch_mean") or not at all ("none"), then clipped at `clip_max`.
Reward: the base's.
Source: "GapPO: Gradient-Adaptive Pairwise Preference Optimization" (under review; abstract only).
Provenance: [R] the abstract gives the weight |score_chosen - score_rejected|; base, normalisation, clipping and ties
are NOT in it and are our choices: SimPO as base (three of its four baselines need no reference), mean weight 1 over the
training set (so a learning rate carries over from the base), no clip.
Traps: the gap is absolute: a pair whose scores contradict its label still pushes the labelled order. Ties weigh 0 and
stay in the batch. An auxiliary term of the base (CPO's NLL) is not weighted. Clipping comes last and lowers the mean
weight below 1. With "batch_mean" the loss is sum(w l) / sum(w) over the step: a ratio that re-inflates steps of
near-ties. The prepared column "weight" gives the effective number of pairs, (sum w)^2 / sum w^2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from harness.api import HarnessError, Limit, Loss, PairLogps, Range, Terms, Wrapper, hookimpl, require, wraps

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class GapPO(Wrapper):
    """weight(|score gap|) * the base loss."""

    name: ClassVar[str] = "gappo"
    search_space: ClassVar[Mapping[str, Range]] = {"power": Range(low=0.5, high=2.0, log=True)}

    base: Loss = wraps("simpo")  # noqa: RUF009  # it is a field specifier, evaluated once
    """The loss that is weighted; its options follow as `base.<option>`. Default: our choice, see above."""
    normalise: Literal["dataset_mean", "batch_mean", "none"] = "dataset_mean"
    """What the gap is divided by. Default: our choice, see above."""
    clip_max: float | None = None
    """Largest weight, above 0; None: no limit. Default: our choice."""
    power: float = 1.0
    """Exponent of the gap, above 0. Default: the abstract's plain gap."""

    def __post_init__(self) -> None:
        modes, clip = ("dataset_mean", "batch_mean", "none"), self.clip_max
        super().__post_init__()
        require(self.normalise in modes, f"normalise got '{self.normalise}', expected one of {', '.join(modes)}")
        require(clip is None or 0 < clip < math.inf, f"clip_max got {clip}, expected none or a finite number above 0")
        require(0 < self.power < math.inf, f"power got {self.power}, expected a finite number above 0")

    @property
    def batch_coupled(self) -> bool:
        """As the base, and always with "batch_mean"."""
        return self.normalise == "batch_mean" or self.base.batch_coupled

    @property
    def needs_columns(self) -> tuple[str, ...]:
        """The two scores, and what the base needs."""
        return tuple(dict.fromkeys(("score_chosen", "score_rejected", *self.base.needs_columns)))

    @property
    def limits(self) -> tuple[Limit, ...]:
        """With equal gaps it is its base; a gap of 1 leaves it so without normalisation too."""
        equal, inner = {"score_chosen": 4.0, "score_rejected": 3.0}, self.base.options()
        return (Limit(options={"clip_max": None}, equals=self.base.name, equals_options=inner, columns=equal),)

    def prepare(self, pairs: pd.DataFrame) -> Mapping[str, np.ndarray]:
        """Return "weight", (len(pairs),), beside the base's own columns; the raw gap under "batch_mean"."""
        columns = dict(self.base.prepare(pairs))
        require(
            "weight" not in columns, f"base '{self.base.name}' prepares a column 'weight' of its own; choose another"
        )
        gap = np.abs(pairs["score_chosen"].to_numpy(float) - pairs["score_rejected"].to_numpy(float)) ** self.power
        if not gap.any():
            raise HarnessError(
                f"gappo got {len(gap)} training pairs whose two scores are equal, expected some gap to weigh by; "
                "use data with graded scores, or the base loss"
            )
        if self.normalise == "dataset_mean":
            gap = gap / gap.mean()
        return {**columns, "weight": gap if self.normalise == "batch_mean" else self._clipped(gap)}

    def _clipped(self, weight: np.ndarray) -> np.ndarray:
        return weight if self.clip_max is None else np.minimum(weight, self.clip_max)

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the weighted preference term and the base's own auxiliary term, (B,) each."""
        import torch

        preference, auxiliary = self.base.terms(pairs)
        weight = pairs.columns["weight"].to(preference)
        if self.normalise == "batch_mean":
            weight = weight / weight.mean().clamp(min=torch.finfo(weight.dtype).tiny)  # a step of ties: all weights 0
            weight = weight if self.clip_max is None else weight.clamp(max=self.clip_max)
        return Terms(weight * preference, auxiliary)


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [GapPO]
