"""What a board says of generated answers, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.leaderboard.decide.answers import BoardAnswers, JudgeSummary
from harness.leaderboard.decide.estimates import Estimate
from harness.leaderboard.formatting import counted, heading, listed
from harness.statistics.answer_metrics import RATING, WIN_RATE

MOST_NAMED = 8
"""More losses are counted, not listed."""


def of_answers(answers: BoardAnswers | None) -> tuple[str, ...]:
    """Return what each judge found, a sentence each."""
    if answers is None:
        return ()
    return tuple(sentence for judge in answers.judges if (sentence := said_by(answers, judge)))


def said_by(answers: BoardAnswers, judge: JudgeSummary) -> str:
    """Return what a judge says of the losses' answers as against the base's; nothing where it compared none."""
    rating, win_rate = f"{RATING}@{judge.name}", f"{WIN_RATE}@{judge.name}"
    gains = {
        label: row.over_base.get(rating) if judge.rates else _around_zero(row.values.get(win_rate))
        for label, row in answers.rows.items()
    }
    known = {label: gain for label, gain in gains.items() if gain is not None and math.isfinite(gain.low)}
    if not known:
        return ""
    better = sorted((label for label, gain in known.items() if gain.low > 0), key=lambda label: -known[label].value)
    worse = sorted((label for label, gain in known.items() if gain.high < 0), key=lambda label: known[label].value)
    return (
        f"By {judge.name}, generated answers are better than the base's for {_named(better, len(known))}, worse for "
        f"{_named(worse, len(known))} (95 % intervals, each loss alone)."
    )


def quality_in_words(quality: str) -> str:
    """Return what a frontier has on its upright axis."""
    stem, _, judge = quality.partition("@")
    if stem == RATING:
        return f"rating by {judge}"
    return f"win rate by {judge}" if stem == WIN_RATE else f"accuracy, {heading(quality)}"


def _named(labels: Sequence[str], of: int) -> str:
    if not labels:
        return f"none of {counted(of)} losses"
    some = f"{counted(len(labels))} of {counted(of)}"
    return f"{some} ({listed(labels)})" if len(labels) <= MOST_NAMED else some


def _around_zero(win_rate: Estimate | None) -> Estimate | None:
    if win_rate is None:
        return None
    return Estimate(value=win_rate.value - 0.5, low=win_rate.low - 0.5, high=win_rate.high - 0.5)
