"""ODPO: a margin proportional to the annotation-score gap, over the reward of any base loss.

Formula: -log sigmoid(r(y_w) - r(y_l) - scale * (s_w - s_l) / mean|s_w - s_l|), r = the base's reward, the mean over the
training set; the base's auxiliary term (CPO's NLL) is added as it is.
Reward: the base's r, e.g. beta * A over SimPO, beta * (S - R) over DPO.
Source: Amini, Vieira, Cotterell (2024), "Direct Preference Optimization with an Offset", arXiv:2402.10571: DPO with
the offset alpha * f(s_w - s_l), f = log by default.
Provenance: [R] the offset is the paper's as third parties quote it; the linear f, the normalisation by the mean gap and
other bases than DPO are our choices, so that `scale` is the mean margin in reward units, as SimPO's gamma is, and the
loss is GapPO's ablation: the same gap as a margin instead of a weight.
Traps: the paper's log of the gap is negative for gaps below 1 and -infinity at a tie; ours is 0 at a tie. A label that
contradicts its scores gets a NEGATIVE margin (GapPO weighs such a pair by the absolute gap). Of the base only reward
and auxiliary term are kept: its own margin is replaced and its shape is logistic, so `base.gamma` of SimPO and
`base.label_smoothing` have no effect, and `base=ipo` is logistic on IPO's reward.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from harness.api import (
    HarnessError,
    Limit,
    Logps,
    Loss,
    PairLogps,
    Range,
    ResponseLogps,
    Terms,
    Wrapper,
    hookimpl,
    require,
    wraps,
)

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ODPO(Wrapper):
    """-log sigmoid(reward chosen - reward rejected - scale * score gap / mean score gap)."""

    name: ClassVar[str] = "odpo"
    search_space: ClassVar[Mapping[str, Range]] = {"scale": Range(low=0.1, high=5.0, log=True)}

    base: Loss = wraps("simpo")  # noqa: RUF009  # it is a field specifier, evaluated once
    """The loss whose reward is compared; its options follow as `base.<option>`. Default: as GapPO's."""
    scale: float = 0.5
    """Mean absolute margin in reward units, at least 0. Default: SimPO's gamma."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.scale < math.inf, f"scale got {self.scale}, expected a finite number of at least 0")

    @property
    def comparison(self) -> Literal["pairwise"]:
        """Through the difference of the rewards, whatever the base does."""
        return "pairwise"

    @property
    def needs_columns(self) -> tuple[str, ...]:
        """The two scores, and what the base needs."""
        return tuple(dict.fromkeys(("score_chosen", "score_rejected", *self.base.needs_columns)))

    @property
    def limits(self) -> tuple[Limit, ...]:
        """With equal gaps it is SimPO with gamma = scale; without a margin it is DPO."""
        inner, equal = self.base.options(), {"score_chosen": 4.0, "score_rejected": 3.0}
        if self.base.name == "simpo":
            return (Limit(options={}, equals="simpo", equals_options={**inner, "gamma": self.scale}, columns=equal),)
        if self.base.name == "dpo":
            return (Limit(options={"scale": 0.0}, equals="dpo", equals_options={**inner, "label_smoothing": 0.0}),)
        return ()

    def tuning_space(self) -> dict[str, Range]:
        """Return what tuning may vary, without the base's own margin, which the offset replaces."""
        return {option: spread for option, spread in super().tuning_space().items() if option != "base.gamma"}

    def prepare(self, pairs: pd.DataFrame) -> Mapping[str, np.ndarray]:
        """Return "offset", the margin in reward units, (len(pairs),), beside the base's own columns."""
        columns = dict(self.base.prepare(pairs))
        require(
            "offset" not in columns, f"base '{self.base.name}' prepares a column 'offset' of its own; choose another"
        )
        gap = pairs["score_chosen"].to_numpy(float) - pairs["score_rejected"].to_numpy(float)
        if not gap.any():
            raise HarnessError(
                f"odpo got {len(gap)} training pairs whose two scores are equal, expected some gap as a margin; "
                "use data with graded scores, or the base loss"
            )
        return {**columns, "offset": self.scale * gap / np.abs(gap).mean()}

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the logistic term with the offset and the base's own auxiliary term, (B,) each."""
        from torch.nn.functional import logsigmoid

        logits = self._reward(pairs.chosen, pairs.ref_chosen) - self._reward(pairs.rejected, pairs.ref_rejected)
        logits = (logits - pairs.columns["offset"].to(logits)).to(pairs.chosen.token.dtype)
        return Terms(-logsigmoid(logits), self.base.terms(pairs).auxiliary)

    def _reward(self, side: Logps, reference: Tensor | None) -> Tensor:
        return self.base.reward(ResponseLogps(sum=side.sum(), length=side.length(), ref_sum=reference))


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [ODPO]
