"""Rows of a cell -> every metric of it as one number, and the reason for each that is missing. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.run_folder.tables import Columns, columns_of
from harness.statistics.metrics import (
    LISTWISE,
    ON_REFERENCE,
    PAIRS_READ,
    RESPONSES_READ,
    balanced_split,
    examples,
    main_split,
    rows_where,
)
from harness.statistics.within_prompt import MIN_LIST
from harness.statistics.yardsticks import margins, rewards

if TYPE_CHECKING:
    import pandas as pd


def summarise(
    rows: pd.DataFrame, responses: pd.DataFrame, averaged: bool | None
) -> tuple[dict[str, float], dict[str, str]]:
    """Return every metric of one cell, and the reason for each one that is NaN."""
    metrics, reasons = {}, {}
    pairs, answers = columns_of(rows, PAIRS_READ), columns_of(responses, RESPONSES_READ)
    for name, of_metric in examples(pairs, answers, averaged).items():
        value = of_metric.value[np.isfinite(of_metric.value)]
        metrics[name] = float(value.mean()) if len(value) else float("nan")
        if not len(value):
            reasons[name] = _why_missing(name, pairs, answers, averaged)
    return metrics, reasons


def _why_missing(name: str, rows: Columns, responses: Columns, averaged: bool | None) -> str:
    """Return why no example has a value of the metric called `name`."""
    stem, _, reading = name.partition("@")
    on_responses = stem.startswith(("spearman", "kendall")) or stem in LISTWISE
    table, kind = (main_split(responses) if on_responses else main_split(rows)), "data"
    if stem == "pairwise_accuracy_lenbalanced":
        table, kind = balanced_split(rows), "length-balanced pairs"
    if stem in LISTWISE:
        table, kind = rows_where(table, table["listwise"]), "listwise data"
    if not len(table["split"]):
        return f"the split has no {kind}"
    if stem in ON_REFERENCE:
        return "the reference's log-probs are not known"
    if reading == "learned" and averaged is None:
        return "the record does not say whether the loss sums or averages log-probs"
    by_reward = (rewards if on_responses else margins)(table, averaged)
    if not np.isfinite(by_reward[f"@{reading}" if reading else ""]).any():
        return f"the log-probs that @{reading} reads are not known" if reading else "no reward is known"
    needed = _needed(stem, on_responses)
    if needed and not np.isfinite(table[needed]).any():
        return f"the data has no {needed}"
    if "_gap_" in stem:
        return "no pair falls into this quartile"
    if stem == "pairwise_accuracy_true":
        return "every pair is a tie in true quality"
    if stem in ("ndcg", "best_of_n"):
        return "no prompt has responses that differ in score"
    if stem in LISTWISE:
        return f"no prompt has {MIN_LIST} scored responses that differ in reward and in score"
    return "a constant has no correlation and no slope"


def _needed(stem: str, on_responses: bool) -> str | None:
    """Return the column of the data that the metric needs, if any."""
    if stem.endswith("_true"):
        return "true_quality" if on_responses else "true_chosen"
    return "score" if on_responses else "gap" if "_gap_" in stem else None
