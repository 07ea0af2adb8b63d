"""Metrics, example by example: the rows of a cell -> one value per example -> the metric, which is their mean.

A metric that is not a mean of values (rank correlations, a slope) has pseudo-values instead, whose mean it is; so one
bootstrap over prompts gives every interval. What is missing is NaN with a reason, never 0. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from harness.run_folder.tables import Columns, columns_of
from harness.statistics.calibration import brier_examples, ece_examples, wins
from harness.statistics.estimate_interval import Kind
from harness.statistics.intervals import Floats
from harness.statistics.rank_correlations import kendall_examples, slope_examples, spearman_examples
from harness.statistics.within_prompt import best_of_n, correlations, lists, ndcg
from harness.statistics.yardsticks import READINGS, margins, rewards

if TYPE_CHECKING:
    import pandas as pd

LENBALANCED = "test_lenbalanced"
PAIRS_READ = (
    *("split", "prompt_id", "gap", "true_chosen", "true_rejected", "reward_chosen", "reward_rejected"),
    *(f"{side}_{what}" for side in ("chosen", "rejected") for what in ("sum_logp", "tokens", "characters")),
    *("ref_chosen_sum_logp", "ref_rejected_sum_logp"),
)
RESPONSES_READ = (
    *("split", "prompt_id", "sum_logp", "tokens", "ref_sum_logp", "reward", "score", "true_quality", "listwise"),
)
"""The columns that the metrics read from a cell's two tables."""
ACCURACIES = tuple(f"pairwise_accuracy{suffix}" for suffix in ("", *(f"@{reading}" for reading in READINGS)))
"""The share of pairs that are ranked as the data have it, by each reading of the reward."""
LISTWISE = ("spearman_within_prompt", "kendall_within_prompt", "ndcg", "best_of_n")
"""Metrics with one value per prompt of the listwise data."""
POOLED = ("spearman", "kendall", "spearman_true")
"""Metrics over all responses, whatever their prompt."""
ON_REFERENCE = ("chosen_logp_drift", "rejected_logp_drift", "likelihood_displacement")
"""Metrics that need the log-probs of the reference model."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """The meaning of a number on the board."""

    name: str
    unit: str
    direction: Literal["higher", "lower", "none"]
    """Which way is better; `none`: informative, but nothing to rank by."""
    summary: str
    source: str = ""
    """Who defined it; empty for a plain mean or share."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """The values whose mean is a metric, each with the prompt it belongs to."""

    prompt: NDArray[np.object_]
    """(n,) prompt ids, the clusters of the bootstrap."""
    value: Floats
    """(n,); NaN if the example does not count."""


_OWN: tuple[tuple[str, str, Literal["higher", "lower", "none"], str, str], ...] = (
    (
        *("pairwise_accuracy", "share", "higher"),
        "share of pairs whose chosen response has more reward, tie 0.5",
        "Lambert et al. 2024, arXiv:2403.13787",
    ),
    *(
        (f"pairwise_accuracy_gap_q{q}", "share", "higher", f"accuracy in score-gap quartile {q} of 4", "")
        for q in (1, 2, 3, 4)
    ),
    ("pairwise_accuracy_lenbalanced", "share", "higher", "accuracy on pairs of responses of like length", ""),
    ("pairwise_accuracy_true", "share", "higher", "agreement with true quality, known on simulated data", ""),
    ("spearman", "correlation", "higher", "Spearman of reward and annotation score, all responses pooled", ""),
    ("kendall", "correlation", "higher", "Kendall's tau-b of reward and annotation score, pooled", "Kendall 1945"),
    ("spearman_within_prompt", "correlation", "higher", "Spearman among a prompt's responses, mean over prompts", ""),
    ("kendall_within_prompt", "correlation", "higher", "tau-b among a prompt's responses, mean over prompts", ""),
    ("spearman_true", "correlation", "higher", "Spearman of reward and true quality, known on simulated data", ""),
    (
        *("ndcg", "share", "higher"),
        "NDCG@10 of a prompt's responses ordered by reward, gain: score above the prompt's lowest; mean over prompts",
        "Jaervelin & Kekaelaeinen 2002; ties: McSherry & Najork 2008",
    ),
    (
        *("best_of_n", "share of the gain", "higher"),
        "score of the response of most reward, 0: the prompt's mean, 1: its best; mean over prompts",
        "Stiennon et al. 2020, arXiv:2009.01325",
    ),
    ("brier", "squared probability", "lower", "mean (1 - sigmoid(margin))^2; 0.25: no opinion", "Brier 1950"),
    (
        *("ece", "probability", "lower"),
        "expected calibration error, 10 bins of confidence; biased upwards near 0, no interval below 100 prompts",
        "Guo et al. 2017, arXiv:1706.04599",
    ),
    ("margin", "reward", "none", "mean reward of chosen minus rejected, in the loss's own scale", ""),
    (
        *("chosen_logp_drift", "nats", "none"),
        "mean log-prob of chosen responses minus the reference's",
        "Pal et al. 2024, arXiv:2402.13228",
    ),
    (
        *("rejected_logp_drift", "nats", "none"),
        "mean log-prob of rejected responses minus the reference's",
        "Pal et al. 2024, arXiv:2402.13228",
    ),
    (
        *("likelihood_displacement", "share", "none"),
        "share of pairs whose chosen response is less likely than under the reference",
        "Razin et al. 2024, arXiv:2410.08847",
    ),
    (
        *("length_slope", "sd per e-fold", "none"),
        "slope of the margin, in its sd, on log(chosen/rejected length)",
        "after Dubois et al. 2024, arXiv:2404.04475",
    ),
)
"""Name, unit, direction, summary, source; in the order of the board.

There is no KL divergence from the reference: it is a mean over the policy's own samples, while held-out responses and
mismatched completions come from the data. On those, the mean log-ratio is the drift, and is called so.
"""


READ: Mapping[str, str] = {
    "learned": "the loss's own kind of log-ratio to the start checkpoint, summed or per token",
    "sum": "the summed log-prob",
    "mean": "the log-prob per token",
    "ratio": "the summed log-ratio to the start checkpoint",
    "ratio_mean": "the log-ratio to the start checkpoint per token",
}
"""What each reading takes for the reward."""


def _registry() -> dict[str, Metric]:
    own = [Metric(name=row[0], unit=row[1], direction=row[2], summary=row[3], source=row[4]) for row in _OWN]
    common = [
        replace(metric, name=f"{metric.name}@{reading}", summary=f"{metric.summary}; reward read as {READ[reading]}")
        for metric in own
        if metric.name in ("pairwise_accuracy", "pairwise_accuracy_lenbalanced", "spearman", "kendall")
        for reading in READINGS
    ]
    return {metric.name: metric for metric in [*own, *common]}


METRICS: Mapping[str, Metric] = _registry()
"""Every metric by name, in the order of the board."""


def kind_of(metric: str) -> Kind:
    """Return which interval a metric has; a share's examples are right (1), wrong (0) or a tie (1/2), except NDCG's."""
    share = METRICS[metric].unit == "share" and metric != "ndcg"
    return "proportion" if share else "distance" if metric == "ece" else "mean"


def chance(metric: str) -> float:
    """Return what a reward that knows nothing has."""
    return 0.5 if metric.startswith("pairwise_accuracy") else 0.0


def is_of_responses(metric: str) -> bool:
    """Return whether a metric is read from responses.parquet; all others are read from rows.parquet."""
    return metric.partition("@")[0] in (*LISTWISE, *POOLED)


def gap_edges(rows: pd.DataFrame | Columns) -> Floats:
    """Return the three quartile edges of the score gap over the pairs of the main split; NaN where no gap is known."""
    gaps = main_split(columns_of(rows, ("split", "gap")))["gap"]
    gaps = gaps[np.isfinite(gaps)]
    return np.quantile(gaps, [0.25, 0.5, 0.75]) if len(gaps) else np.full(3, np.nan)


def pair_values(rows: pd.DataFrame | Columns, averaged: bool | None, edges: Floats | None = None) -> dict[str, Floats]:
    """Return the values of the pairwise metrics, one per pair of the metric's split, in the order of `rows`.

    Metrics of the length-balanced split have one value per row of that split, all others one per row of the main split.
    `averaged`: whether the loss averages log-probs over tokens, see `margins`. `edges`: the quartile edges of the score
    gap, (3,); by default those of `rows`. A pair on an edge belongs to the quartile below it.
    """
    columns = columns_of(rows, PAIRS_READ)
    main, balanced = main_split(columns), balanced_split(columns)
    edges = gap_edges(columns) if edges is None else edges
    by_reward = margins(main, averaged)
    values: dict[str, Floats] = {}
    for suffix, margin in by_reward.items():
        values[f"pairwise_accuracy{suffix}"] = wins(margin)
    own, gap = by_reward[""], main["gap"]
    quartile = np.where(np.isfinite(gap), np.searchsorted(edges, gap, side="left") + 1, 0)
    for q in (1, 2, 3, 4):
        values[f"pairwise_accuracy_gap_q{q}"] = np.where(quartile == q, wins(own), np.nan)
    for suffix, margin in margins(balanced, averaged).items():
        values[f"pairwise_accuracy_lenbalanced{suffix}"] = wins(margin)
    truth = np.sign(main["true_chosen"] - main["true_rejected"])
    values["pairwise_accuracy_true"] = np.where(truth == 0, np.nan, wins(own * truth))
    values |= {"brier": brier_examples(own), "ece": ece_examples(own), "margin": own}
    for side in ("chosen", "rejected"):
        values[f"{side}_logp_drift"] = main[f"{side}_sum_logp"] - main[f"ref_{side}_sum_logp"]
    drift = values["chosen_logp_drift"]
    values["likelihood_displacement"] = np.where(np.isnan(drift), np.nan, drift < 0)
    values["length_slope"] = _length_slope(own, main["chosen_characters"], main["rejected_characters"])
    return values


def examples(
    rows: pd.DataFrame | Columns,
    responses: pd.DataFrame | Columns,
    averaged: bool | None,
    edges: Floats | None = None,
) -> dict[str, Examples]:
    """Return the examples of every metric in `METRICS`, in its order; arguments as in `pair_values`."""
    pairs, main = columns_of(rows, PAIRS_READ), main_split(columns_of(responses, RESPONSES_READ))
    prompts = {False: main_split(pairs)["prompt_id"], True: balanced_split(pairs)["prompt_id"]}
    by_metric = {
        name: Examples(prompt=prompts[name.startswith("pairwise_accuracy_lenbalanced")], value=value)
        for name, value in pair_values(pairs, averaged, edges).items()
    }
    by_reward, score = rewards(main, averaged), main["score"]
    pooled = [(f"spearman{suffix}", spearman_examples, reward, score) for suffix, reward in by_reward.items()]
    pooled += [(f"kendall{suffix}", kendall_examples, reward, score) for suffix, reward in by_reward.items()]
    pooled.append(("spearman_true", spearman_examples, by_reward[""], main["true_quality"]))
    for name, correlate, reward, truth in pooled:
        usable = np.isfinite(truth) & np.isfinite(reward)
        value = np.full(len(score), np.nan)
        value[usable] = correlate(reward[usable], truth[usable])
        by_metric[name] = Examples(prompt=main["prompt_id"], value=value)
    by_metric |= _listwise(rows_where(main, main["listwise"]))
    return {name: by_metric[name] for name in METRICS}


def _listwise(responses: Columns) -> dict[str, Examples]:
    """Return the metrics that have one value per prompt."""
    of_prompts = lists(responses["prompt_id"], responses["reward"], responses["score"])
    spearman, kendall = correlations(of_prompts)
    values = dict(zip(LISTWISE, (spearman, kendall, ndcg(of_prompts), best_of_n(of_prompts)), strict=True))
    return {name: Examples(prompt=of_prompts.prompt, value=value) for name, value in values.items()}


def _length_slope(margin: Floats, chosen: Floats, rejected: Floats) -> Floats:
    """Return pseudo-values of the least-squares slope of margin / sd(margin) on log(chosen / rejected characters).

    0: length explains nothing beyond the intercept, which is the effect of being chosen. In units of the margin's own
    sd, so that losses of different scale compare. After Dubois et al. (2024), arXiv:2404.04475, length regressions.
    """
    value = np.full(len(margin), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(chosen / rejected)
    usable = np.isfinite(margin) & np.isfinite(ratio)
    value[usable] = slope_examples(ratio[usable], margin[usable])
    return value


def main_split(table: Columns) -> Columns:
    """Return the rows of every split but the length-balanced one."""
    return rows_where(table, table["split"] != LENBALANCED)


def balanced_split(table: Columns) -> Columns:
    """Return the rows of the length-balanced split."""
    return rows_where(table, table["split"] == LENBALANCED)


def rows_where(table: Columns, rows: NDArray[np.bool_]) -> Columns:
    """Return those rows of a table, (n,) bool, in every column."""
    return {name: values[rows] for name, values in table.items()}
