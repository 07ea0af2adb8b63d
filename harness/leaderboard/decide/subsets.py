"""Accuracy by subset, of the parts that the data name: with intervals, and nothing is ranked or tested by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.leaderboard.decide.estimates import Estimate, Evidence, board_estimates, unresampled
from harness.statistics.metrics import ACCURACIES

MOST = 40
"""More subsets are no parts of the data but rather names of its rows: rows.parquet has them, the board does not."""
OF_NONE = "no subset"
"""What pairs without a subset stand under, where others have one."""
ALWAYS = ("pairwise_accuracy@learned", "pairwise_accuracy")
"""Accuracies that are told by subset, besides that which the board is ranked by."""

BySubset = Mapping[str, Mapping[str, Estimate]]
"""The estimates of a system by subset and accuracy."""


def by_subset(
    evidence: Evidence, labels: Sequence[str], models: Sequence[str], seeds: Sequence[int], ranked_by: str
) -> dict[str, BySubset]:
    """Return the accuracies of each system in each subset, by label; nothing where the data have no subsets."""
    found: dict[str, dict[str, dict[str, Estimate]]] = {}
    for subset in subset_pairs(evidence):
        for metric in shown(ranked_by):
            sample = unresampled(metric, evidence.subsets[subset][metric], labels, models, seeds)
            for label, estimate in board_estimates(metric, sample).items():
                found.setdefault(label, {}).setdefault(subset, {})[metric] = estimate
    return dict(found)


def subset_pairs(evidence: Evidence) -> Mapping[str, int]:
    """Return how many pairs each subset of a board has; nothing where there are none, or too many to list."""
    return evidence.subset_pairs if len(evidence.subset_pairs) <= MOST else {}


def too_many(evidence: Evidence) -> tuple[str, ...]:
    """Return the sentence of a board whose data have too many subsets to list."""
    number = len(evidence.subset_pairs)
    if number <= MOST:
        return ()
    return (f"The data have {number} subsets, more than {MOST}: accuracy by subset is not listed.",)


def shown(ranked_by: str) -> tuple[str, ...]:
    """Return the accuracies that a board tells by subset, in order."""
    return tuple(dict.fromkeys([*([ranked_by] if ranked_by in ACCURACIES else []), *ALWAYS]))
