"""What is measured of generated answers: numbers of each answer, and what judges say. Imports no torch.

A number of an answer is averaged over the samples of a prompt; a metric is the mean over prompts. A judge's metrics are
called `METRIC@JUDGE`.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.statistics.estimate_interval import Kind
from harness.statistics.metrics import Metric

KL = "kl_low_variance"
"""The form of the KL divergence that distances are read from: it is never negative."""
RATING, WIN_RATE, VS_CHOSEN = "rating", "win_rate", "win_rate_vs_chosen"
EQUAL_LENGTH, EQUAL_STYLE = "win_rate_at_equal_length", "win_rate_at_equal_style"

NUMBERS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            name="kl_log_ratio",
            unit="nats",
            direction="none",
            summary="KL to the start checkpoint on own samples: mean of the summed log ratio",
            source="Schulman 2020, k1",
        ),
        Metric(
            name=KL,
            unit="nats",
            direction="none",
            summary="the same KL, mean of r - 1 - log r summed over tokens: never negative, and it varies less",
            source="Schulman 2020, k3",
        ),
        Metric(name="length", unit="tokens", direction="none", summary="tokens of an answer"),
        Metric(name="cut", unit="share", direction="lower", summary="share of answers cut off at the longest length"),
        Metric(
            name="distinct_2",
            unit="ratio",
            direction="none",
            summary="different pairs of neighbouring tokens among all of an answer",
            source="Li et al. 2016, arXiv:1510.03055",
        ),
        Metric(
            name="longest_loop",
            unit="tokens",
            direction="lower",
            summary="longest stretch of an answer that says one sequence of tokens twice or more in a row",
        ),
        Metric(
            name="rouge_l",
            unit="F1",
            direction="none",
            summary="ROUGE-L with the chosen response",
            source="Lin 2004",
        ),
    )
}
"""Numbers of an answer by name, in the order of the board."""

JUDGED: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(name=RATING, unit="the judge's own", direction="higher", summary="mean rating"),
        Metric(name=WIN_RATE, unit="share", direction="higher", summary="how often preferred to the base, ties half"),
        Metric(
            name=EQUAL_LENGTH,
            unit="share",
            direction="higher",
            summary="length-controlled win rate, AlpacaEval style",
            source="Dubois et al. 2024, arXiv:2404.04475",
        ),
        Metric(
            name=EQUAL_STYLE,
            unit="share",
            direction="higher",
            summary="Bradley-Terry with style control, Arena-Hard style",
            source="Li, Angelopoulos & Chiang 2024",
        ),
        Metric(
            name=VS_CHOSEN,
            unit="share",
            direction="higher",
            summary="how often preferred to the data's chosen response, ties half",
        ),
    )
}
"""What a judge says, by name, in the order of the board."""


def answer_metric(name: str) -> Metric:
    """Return the meaning of a number of answers, with or without its judge."""
    stem = name.partition("@")[0]
    return NUMBERS[stem] if stem in NUMBERS else JUDGED[stem]


def answer_kind(name: str) -> Kind:
    """Return which interval a number of answers has."""
    return "proportion" if answer_metric(name).unit == "share" else "mean"
