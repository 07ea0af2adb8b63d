"""What the pictures of a board show: the points of each, as JSON and Vega-Lite take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

from harness.leaderboard.formatting import significant

Number = float | None
"""None where it is missing, as JSON has it."""


def short(value: float) -> Number:
    """Return `value` at four significant digits; None where it is not finite."""
    return significant(value, 4)


class Interval(TypedDict):
    """A number with its 95 % interval."""

    value: Number
    low: Number
    high: Number


class QuartilePoint(Interval):
    """The accuracy of a loss in one quartile of the score gap."""

    loss: str
    quartile: int
    """1 to 4, the last with the widest gaps."""
    gap: str
    """The gaps of the quartile in words."""
    n: int
    """Pairs."""


class ScorePoint(TypedDict):
    """The responses of a loss in one tenth of the annotation scores."""

    loss: str
    score: Number
    """Mean annotation score."""
    percentile: Number
    """Mean place of their rewards among all rewards of the cell, 0 to 100."""
    n: int
    """Responses."""


class ReliabilityPoint(TypedDict):
    """The pairs of a loss whose margins claim about the same confidence."""

    loss: str
    confidence: Number
    """Mean of sigmoid(|margin|)."""
    accuracy: Number
    """Share of right ones, with its interval in `low` and `high`."""
    low: Number
    high: Number
    n: int
    """Pairs."""


class CurvePoint(TypedDict):
    """A stretch of training steps of a loss, mean over its cells; without the columns that its step log lacks."""

    loss: str
    step: Number
    margin: NotRequired[Number]
    """Of the training pairs, in the reward's own scale."""
    accuracy: NotRequired[Number]
    """Share of the training pairs whose chosen response has more reward."""
    drift: NotRequired[Number]
    """Log-prob of the chosen responses minus its value in the first stretch, nats."""


class LearningPoint(Interval):
    """A metric of a loss at one point along the run."""

    loss: str
    metric: str
    fraction: Number
    """Of the budget."""
    step: Number
    n: int
    """Examples."""


class FrontierDot(TypedDict):
    """A loss with one seed at one point along its run; KL to the start checkpoint on its own answers."""

    loss: str
    quality: str
    """What the gain is in, in words."""
    seed: int
    fraction: Number
    """Of the budget; 0 is the start, where every line begins."""
    kl: Number
    """Nats."""
    distance: Number
    """sqrt(KL), with its interval in `near` and `far`."""
    near: Number
    far: Number
    gain: Number
    """Over the start checkpoint, with its interval in `low` and `high`."""
    low: Number
    high: Number


class JudgedPoint(Interval):
    """How often a judge prefers the answers of a loss."""

    loss: str
    judge: str
    reading: str
    """Which win rate."""


class SpendPoint(Interval):
    """The ranked metric of a loss, and what training one cell cost."""

    loss: str
    seconds: Number
    flops: Number


class PlacePoint(TypedDict):
    """Where a loss stands under one reading."""

    loss: str
    reading: str
    order: int
    """Of the readings, from 0: the one that ranks the board first."""
    place: int
    """From 1; losses of one rank stand at neighbouring places."""
    rank: int
    low: int | None
    high: int | None
    """The ranks that the comparisons leave open."""


class ModelPoint(Interval):
    """The ranked metric of a loss on one model of a board over several."""

    loss: str
    model: str


class OptionPoint(Interval):
    """The ranked metric of a loss at one value of an option that has several on the board."""

    loss: str
    """The row's label."""
    option: str
    """The loss and the option: `simpo: beta`."""
    at: float
    """The option's value."""
    others: str
    """The other options, in words."""


class PairDifference(TypedDict):
    """The difference of two losses in the ranked metric; each pair of losses stands in both directions."""

    loss: str
    other: str
    difference: Number
    """`loss` minus `other`."""
    p: Number
    """Adjusted for all pairs."""
    significant: bool


@dataclass(frozen=True, kw_only=True)
class PictureData:
    """What the pictures of one board show; a picture without data is not drawn."""

    quartiles: Sequence[QuartilePoint]
    scores: Sequence[ScorePoint]
    reliability: Sequence[ReliabilityPoint]
    curves: Sequence[CurvePoint]
    spend: Sequence[SpendPoint]
    differences: Sequence[PairDifference]
    learning: Sequence[LearningPoint] = ()
    frontier: Sequence[FrontierDot] = ()
    judged: Sequence[JudgedPoint] = ()
    places: Sequence[PlacePoint] = ()
    by_model: Sequence[ModelPoint] = ()
    options: Sequence[OptionPoint] = ()
