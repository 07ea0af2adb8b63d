"""What a board found, in words made from its tests: who is shown to be better or worse than whom, and how sure that is.

"Better" is always by the step-down tests of all pairs of losses, adjusted for all; two losses "cannot be told apart"
where these find nothing. Nothing here is read off point estimates, but for which of several is called the highest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.leaderboard.decide.estimates import OWN, Estimate, read_by
from harness.leaderboard.decide.learned import shown_to_have_learned
from harness.leaderboard.decide.standings import Family
from harness.leaderboard.decide.wording import ONE_SEED
from harness.leaderboard.formatting import counted, listed, spoken_name
from harness.statistics.yardsticks import READINGS

MOST_NAMED = 5
"""Longer lists of losses are counted, not listed."""
NONE_APART = "no two losses can be told apart"
READ_BY = {
    OWN: "each loss's own reward",
    "learned": "what was learned",
    "sum": "the summed log-prob",
    "mean": "the log-prob per token",
    "ratio": "the log-ratio to the start",
    "ratio_mean": "the log-ratio per token",
}
"""What each reading is called in a sentence."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the tests of one family say about first place; each part is ordered best first."""

    order: tuple[str, ...] = ()
    """All losses that were compared."""
    open: tuple[str, ...] = ()
    """The losses that none is shown to be better than: first place is open between them."""
    beaten: tuple[str, ...] = ()
    """Of the others, those that every one of `open` is better than."""
    partly: tuple[str, ...] = ()
    """The rest: some loss is better than each of them, but not every one of `open`."""

    @property
    def number(self) -> int:
        """How many losses were compared."""
        return len(self.order)

    @property
    def mostly_behind(self) -> bool:
        """Whether the losses that may be first are the shorter list, or the only one that can be named."""
        return 1 < len(self.open) < self.number and self.number - len(self.open) > min(MOST_NAMED, len(self.open))


def outcome_of(family: Family) -> Outcome:
    """Return what the tests of a family say about first place."""
    if family.tests is None:
        return Outcome()
    better, places = family.tests.better, range(len(family.order))
    top = [j for j in places if not better[:, j].any()]
    beaten = [j for j in places if j not in top and better[top, j].all()]
    partly = [j for j in places if j not in top and j not in beaten]
    opened, beaten_by_all, rest = (tuple(family.order[j] for j in part) for part in (top, beaten, partly))
    return Outcome(order=tuple(family.order), open=opened, beaten=beaten_by_all, partly=rest)


def findings(
    families: Mapping[str, Family],
    ranked_by: str,
    seeds: Sequence[int],
    prompts: int,
    learned: Mapping[str, Estimate],
    trouble: Mapping[str, tuple[str, str]],
    noise: str = "",
) -> tuple[str, ...]:
    """Return what a board found, the headline first, then how sure it is, and what other readings find.

    `families`: by metric; `learned`: of each loss with a value; `trouble`: status and reason of each loss without a
    result; `noise`: what a noise floor is in, where one is in use.
    """
    ranked, one_seed, lost = families[ranked_by], len(seeds) == 1, came_to_nothing(trouble)
    if not ranked.order:
        return (f"No loss has a result: {lost}.",) if lost else ()
    sure = how_sure(len(seeds), prompts, ranked) or ((noise or ONE_SEED) if one_seed else "")
    said = (
        headline(ranked, ranked_by, one_seed and not noise),
        behind(ranked),
        sure,
        shown_to_have_learned(learned),
        other_readings(families, ranked_by),
        f"Without a result: {lost}." if lost else "",
    )
    return tuple(filter(None, said))


def headline(family: Family, ranked_by: str, one_seed: bool) -> str:
    """Return the first sentence of a board with a result: which loss won, or that none did."""
    found = outcome_of(family)
    scope = f"by {named(ranked_by)}{' on this one seed' if one_seed else ''}"
    if found.number == 1:
        return f"{found.open[0]} is the only loss with a result here: there is no other to compare it with."
    if len(found.open) == found.number:
        return f"No winner {scope}: this run cannot tell {_all_of(found.open)} apart."
    if len(found.open) == 1:
        return f"{found.open[0]} wins {scope}: {_alone(found)}."
    return f"No single winner {scope}: {_several(found)}."


def behind(family: Family) -> str:
    """Return what the tests say of the losses that cannot be first, where the headline does not have it."""
    found = outcome_of(family)
    said = "; ".join(_worse(found)) if found.mostly_behind else ""
    return f"Behind them, {said}." if said else ""


def other_readings(families: Mapping[str, Family], ranked_by: str) -> str:
    """Return what the same losses are found to be under every other reading; empty for fewer than two losses."""
    by_what: dict[str, list[str]] = {}
    for reading in (OWN, *READINGS):
        metric = read_by(ranked_by, reading)
        found = outcome_of(families[metric])
        if metric != ranked_by and found.number > 1:
            by_what.setdefault(_in_a_clause(found), []).append(named(metric))
    same, number = by_what.pop(NONE_APART, []), sum(map(len, by_what.values()))
    clauses = [f"by {_these(readings, number + len(same))}, {clause}" for clause, readings in by_what.items()]
    if same:
        rest = f"the {counted(len(same))} other readings" if len(same) > 1 else same[0]
        clauses.append(f"by {rest}, {NONE_APART}")
    said = "; ".join(clauses)
    return f"{said[0].upper()}{said[1:]}." if said else ""


def how_sure(seeds: int, prompts: int, ranked: Family) -> str:
    """Return what a board of several seeds could have found; empty where that is not known."""
    if seeds < 2 or ranked.tests is None or not math.isfinite(ranked.tests.detectable):
        return ""
    return (
        f"With {counted(seeds)} seeds and {prompts} prompts, this run could have found differences of "
        f"{ranked.tests.detectable:.3f} or more (80 % power)."
    )


def came_to_nothing(trouble: Mapping[str, tuple[str, str]]) -> str:
    """Return which losses have no result, and how that came. `trouble`: status and reason of each."""
    by_status: dict[str, list[str]] = {}
    for label, (status, _) in trouble.items():
        by_status.setdefault(status, []).append(label)
    said = [
        f"{listed(labels) if len(labels) <= MOST_NAMED else f'{counted(len(labels))} losses'} "
        f"{status if status != 'missing' else _verb(labels, 'is missing', 'are missing')}"
        for status, labels in by_status.items()
    ]
    return "; ".join(said)


def named(metric: str) -> str:
    """Return what a metric is called in a sentence: accuracy by its reading alone, others with their names."""
    stem, _, reading = metric.partition("@")
    read = READ_BY[reading or OWN]
    return read if stem == "pairwise_accuracy" else f"{spoken_name(stem.replace('pairwise_', ''))} of {read}"


def _these(readings: Sequence[str], of: int) -> str:
    return f"each of the {counted(of)} other readings" if len(readings) == of > 1 else listed(readings)


def _in_a_clause(found: Outcome) -> str:
    if len(found.open) == found.number:
        return NONE_APART
    if len(found.open) == 1:
        return _alone(found, found.open[0])
    return _several(found, brief=True)


def _alone(found: Outcome, subject: str = "it") -> str:
    """Return what is said of a loss that is first alone."""
    if not found.partly:
        others = found.beaten
        return f"{subject} is better than {others[0] if len(others) == 1 else f'the {counted(len(others))} others'}"
    better = f"{subject} is better than {counted(len(found.beaten))} of the {counted(found.number - 1)} others"
    return f"{better}, and no loss is better than {subject}"


def _several(found: Outcome, brief: bool = False) -> str:
    """Return what is said where first place is open between some of the losses and not the others.

    The shorter of the two lists is named; `brief`: it alone.
    """
    if found.mostly_behind:
        return f"first place is open between {_named_or_counted(found.open)}"
    rest = f"the {counted(len(found.open))} others"
    if found.partly and brief:
        others = [label for label in found.order if label not in found.open]
        return f"{listed(others)} {_verb(others, 'is', 'are')} shown not to be first"
    if found.partly:
        return "; ".join([*_worse(found), f"first place is open between {rest}"])
    said = f"{listed(found.beaten)} {_verb(found.beaten, 'is', 'are')} worse than {rest}"
    return said if brief else f"{said}, which this run cannot tell apart"


def _worse(found: Outcome) -> list[str]:
    """Return which losses are worse than all that may be first, and which than some loss."""
    every = "both" if len(found.open) == 2 else f"all {counted(len(found.open))}"
    parts = []
    if found.beaten:
        losses = _others(found.beaten, every_other=not found.partly)
        parts.append(f"{losses} {_verb(found.beaten, 'is', 'are')} worse than {every} that may be first")
    if found.partly:
        losses, verb = _others(found.partly, every_other=not found.beaten), _verb(found.partly, "is", "are each")
        parts.append(f"{losses} {verb} worse than at least one other loss")
    return parts


def _others(labels: Sequence[str], every_other: bool) -> str:
    if len(labels) <= MOST_NAMED:
        return listed(labels)
    return f"{'the ' * every_other}{counted(len(labels))} others"


def _all_of(labels: Sequence[str]) -> str:
    return listed(labels) if len(labels) == 2 else f"its {counted(len(labels))} losses"


def _named_or_counted(labels: Sequence[str]) -> str:
    if len(labels) <= MOST_NAMED:
        return listed(labels)
    return f"{counted(len(labels))} losses, {labels[0]} the highest of them"


def _verb(labels: Sequence[str], one: str, several: str) -> str:
    return one if len(labels) == 1 else several
