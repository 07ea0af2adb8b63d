"""Metrics, per example first: rows of a cell -> one value an example -> the metric, which is their mean.

A metric that is not a mean (rank correlations, a slope) has pseudo-values instead, whose mean it is; so one cluster
bootstrap over prompts gives every interval. Missing is NaN with a reason, never 0. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from harness.stats import Floats, kendall_examples, slope_examples, spearman_examples

if TYPE_CHECKING:
    import pandas as pd

YARDSTICKS = ("sum", "mean", "ratio")
"""Rewards common to all losses: summed log-prob, log-prob a token, summed log-prob over the reference's."""
LENBALANCED = "test_lenbalanced"
MIN_LIST = 3
"""Fewer scored responses of one prompt give no rank correlation within it."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What a number on the board means."""

    name: str
    unit: str
    direction: Literal["higher", "lower", "none"]
    """Which way is better; `none`: read it, do not rank by it."""
    summary: str


@dataclass(frozen=True, kw_only=True)
class Examples:
    """The values whose mean is a metric, each with the prompt it belongs to."""

    prompt: NDArray[np.object_]
    """(n,) prompt ids, the clusters of the bootstrap."""
    value: Floats
    """(n,); NaN where the example does not count."""


def _registry() -> dict[str, Metric]:
    def metric(name: str, unit: str, direction: Literal["higher", "lower", "none"], summary: str) -> Metric:
        return Metric(name=name, unit=unit, direction=direction, summary=summary)

    own = [
        metric("pairwise_accuracy", "share", "higher", "share of pairs whose chosen response has more reward, tie 0.5"),
        *(
            metric(f"pairwise_accuracy_gap_q{q}", "share", "higher", f"accuracy in score-gap quartile {q} of 4")
            for q in (1, 2, 3, 4)
        ),
        metric("pairwise_accuracy_lenbalanced", "share", "higher", "accuracy on pairs of responses of like length"),
        metric("pairwise_accuracy_true", "share", "higher", "agreement with true quality, known on simulated data"),
        metric("spearman", "correlation", "higher", "Spearman of reward and annotation score, all responses pooled"),
        metric("kendall", "correlation", "higher", "Kendall's tau-b of reward and annotation score, pooled"),
        metric(
            "spearman_within_prompt", "correlation", "higher", "Spearman among a prompt's responses, mean over prompts"
        ),
        metric("kendall_within_prompt", "correlation", "higher", "tau-b among a prompt's responses, mean over prompts"),
        metric("margin", "reward", "none", "mean reward of chosen minus rejected, in the loss's own scale"),
        metric("chosen_logp_drift", "nats", "none", "mean log-prob of chosen responses minus the reference's"),
        metric(
            "length_slope", "sd per e-fold", "none", "slope of the margin, in its sd, on log(chosen/rejected length)"
        ),
    ]
    common = [
        metric(
            f"{one.name}@{yardstick}",
            one.unit,
            one.direction,
            f"{one.summary}; reward read as the {yardstick} yardstick",
        )
        for one in own
        if one.name in ("pairwise_accuracy", "pairwise_accuracy_lenbalanced", "spearman", "kendall")
        for yardstick in YARDSTICKS
    ]
    return {one.name: one for one in [*own, *common]}


METRICS: Mapping[str, Metric] = _registry()
"""Every metric by name, in the order of the board."""


def gap_edges(rows: pd.DataFrame) -> Floats:
    """Return the three quartile edges of the score gap over the pairs of the main split; NaN where no gap is known."""
    gaps = _main(rows)["gap"].to_numpy(np.float64, na_value=np.nan)
    gaps = gaps[np.isfinite(gaps)]
    return np.quantile(gaps, [0.25, 0.5, 0.75]) if len(gaps) else np.full(3, np.nan)


def pair_values(rows: pd.DataFrame, edges: Floats | None = None) -> dict[str, Floats]:
    """Return per-pair values of the pairwise metrics, each over its split's pairs in the order of `rows`.

    Metrics of the length-balanced split have one value a row of that split, all others one a row of the main split.
    `edges`: the quartile edges of the score gap, (3,); by default those of `rows`. A pair on an edge is in the quartile
    below it.
    """
    main, balanced = _main(rows), rows[rows["split"] == LENBALANCED]
    edges = gap_edges(rows) if edges is None else edges
    values: dict[str, Floats] = {}
    for suffix, margin in _margins(main).items():
        values[f"pairwise_accuracy{suffix}"] = _wins(margin)
    own = _margins(main)[""]
    gap = _column(main, "gap")
    quartile = np.where(np.isfinite(gap), np.searchsorted(edges, gap, side="left") + 1, 0)
    for q in (1, 2, 3, 4):
        values[f"pairwise_accuracy_gap_q{q}"] = np.where(quartile == q, _wins(own), np.nan)
    for suffix, margin in _margins(balanced).items():
        values[f"pairwise_accuracy_lenbalanced{suffix}"] = _wins(margin)
    truth = np.sign(_column(main, "true_chosen") - _column(main, "true_rejected"))
    values["pairwise_accuracy_true"] = np.where(truth == 0, np.nan, _wins(own * truth))
    values["margin"] = own
    values["chosen_logp_drift"] = _column(main, "chosen_sum_logp") - _column(main, "ref_chosen_sum_logp")
    values["length_slope"] = _length_slope(
        own, _column(main, "chosen_characters"), _column(main, "rejected_characters")
    )
    return values


def examples(rows: pd.DataFrame, responses: pd.DataFrame, edges: Floats | None = None) -> dict[str, Examples]:
    """Return the examples of every metric in `METRICS`, in its order."""
    prompts = {False: _prompts(_main(rows)), True: _prompts(rows[rows["split"] == LENBALANCED])}
    found = {
        name: Examples(prompt=prompts[name.startswith("pairwise_accuracy_lenbalanced")], value=value)
        for name, value in pair_values(rows, edges).items()
    }
    main = _main(responses)
    score, prompt = _column(main, "score"), _prompts(main)
    for suffix, reward in _rewards(main).items():
        usable = np.isfinite(score) & np.isfinite(reward)
        for name, correlate in (("spearman", spearman_examples), ("kendall", kendall_examples)):
            value = np.full(len(main), np.nan)
            value[usable] = correlate(reward[usable], score[usable])
            found[f"{name}{suffix}"] = Examples(prompt=prompt, value=value)
    found |= _within_prompt(main[main["listwise"].to_numpy(bool)])
    return {name: found[name] for name in METRICS}


def summarise(rows: pd.DataFrame, responses: pd.DataFrame) -> tuple[dict[str, float], dict[str, str]]:
    """Return every metric of one cell and, for those that are NaN, why."""
    metrics, reasons = {}, {}
    for name, found in examples(rows, responses).items():
        value = found.value[np.isfinite(found.value)]
        metrics[name] = float(value.mean()) if len(value) else float("nan")
        if not len(value):
            reasons[name] = _why_missing(name, rows, responses)
    return metrics, reasons


def _why_missing(name: str, rows: pd.DataFrame, responses: pd.DataFrame) -> str:
    stem, _, yardstick = name.partition("@")
    on_responses = stem.startswith(("spearman", "kendall"))
    table = _main(responses) if on_responses else _main(rows)
    if stem == "pairwise_accuracy_lenbalanced":
        table = rows[rows["split"] == LENBALANCED]
    if stem.endswith("_within_prompt"):
        table = table[table["listwise"].to_numpy(bool)]
    if not len(table):
        kind = "length-balanced pairs" if "lenbalanced" in stem else "listwise data" if "within" in stem else "data"
        return f"the split has no {kind}"
    suffix = f"@{yardstick}" if yardstick else ""
    reward = (_rewards if on_responses else _margins)(table)[suffix]
    needed = (
        "score" if on_responses else "gap" if "_gap_" in stem else "true_chosen" if stem.endswith("_true") else None
    )
    if stem != "chosen_logp_drift" and not np.isfinite(reward).any():
        return "no reward is known" if not yardstick else f"the {yardstick} yardstick's log-probs are not known"
    if needed and not np.isfinite(_column(table, needed)).any():
        return f"the data has no {needed}"
    if stem == "chosen_logp_drift":
        return "the reference's log-probs are not known"
    if "_gap_" in stem:
        return "no pair falls into this quartile"
    if stem == "pairwise_accuracy_true":
        return "every pair is a tie in true quality"
    if stem.endswith("_within_prompt"):
        return f"no prompt has {MIN_LIST} scored responses that differ in reward and in score"
    return "a constant has no correlation and no slope"


def _within_prompt(listwise: pd.DataFrame) -> dict[str, Examples]:
    """Return one correlation a prompt; NaN with fewer than `MIN_LIST` scored responses or a constant side.

    Prompts are padded to L responses; the signs of all differences, (P, L, L), give both: a centred mid-rank is half
    the sum of a response's signs.
    """
    score, reward = _column(listwise, "score"), _column(listwise, "reward")
    usable = np.isfinite(score) & np.isfinite(reward)
    names, of_all = np.unique(_prompts(listwise).astype(str), return_inverse=True)
    which = of_all[usable]
    sizes = np.bincount(which, minlength=len(names))
    order = np.argsort(which, kind="stable")
    place = np.arange(len(which)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    signs = []
    for values in (reward[usable], score[usable]):
        padded_PL = np.full((len(names), int(sizes.max(initial=0))), np.nan)
        padded_PL[which[order], place] = values[order]
        signs.append(np.nan_to_num(np.sign(padded_PL[:, :, None] - padded_PL[:, None, :])))
    ranks = [sign.sum(2) for sign in signs]
    found = {}
    for name, (x, y) in (
        ("spearman", ranks),
        ("kendall", [sign.reshape(len(names), sign[0].size if len(names) else 0) for sign in signs]),
    ):
        scale = np.sqrt((x**2).sum(1) * (y**2).sum(1))
        valid = (sizes >= MIN_LIST) & (scale > 0)
        value = np.where(valid, (x * y).sum(1) / np.where(valid, scale, 1.0), np.nan)
        found[f"{name}_within_prompt"] = Examples(prompt=names.astype(object), value=value)
    return found


def _length_slope(margin: Floats, chosen: Floats, rejected: Floats) -> Floats:
    """Return pseudo-values of the least-squares slope of margin / sd(margin) on log(chosen / rejected characters).

    0: the reward does not care for length beyond what the intercept, being chosen, explains. In the margin's own sd, so
    that losses of different scale compare. After the length regressions of Dubois et al. (2024), arXiv:2404.04475.
    """
    value = np.full(len(margin), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(chosen / rejected)
    usable = np.isfinite(margin) & np.isfinite(ratio)
    value[usable] = slope_examples(ratio[usable], margin[usable])
    return value


def _margins(pairs: pd.DataFrame) -> dict[str, Floats]:
    """Return reward of chosen minus rejected, (n,): under the own reward "" and "@sum", "@mean", "@ratio"."""
    chosen, rejected = _column(pairs, "chosen_sum_logp"), _column(pairs, "rejected_sum_logp")
    return {
        "": _column(pairs, "reward_chosen") - _column(pairs, "reward_rejected"),
        "@sum": chosen - rejected,
        "@mean": chosen / _column(pairs, "chosen_tokens") - rejected / _column(pairs, "rejected_tokens"),
        "@ratio": (chosen - _column(pairs, "ref_chosen_sum_logp"))
        - (rejected - _column(pairs, "ref_rejected_sum_logp")),
    }


def _rewards(responses: pd.DataFrame) -> dict[str, Floats]:
    """Return the reward of each response, (n,), under the same keys as `_margins`."""
    total = _column(responses, "sum_logp")
    return {
        "": _column(responses, "reward"),
        "@sum": total,
        "@mean": total / _column(responses, "tokens"),
        "@ratio": total - _column(responses, "ref_sum_logp"),
    }


def _wins(margin: Floats) -> Floats:
    return np.where(np.isnan(margin), np.nan, (margin > 0) + 0.5 * (margin == 0))


def _main(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["split"] != LENBALANCED]


def _column(table: pd.DataFrame, name: str) -> Floats:
    return table[name].to_numpy(np.float64, na_value=np.nan)


def _prompts(table: pd.DataFrame) -> NDArray[np.object_]:
    return table["prompt_id"].to_numpy(object)
