"""Tables and picture data for tests of the page, made by hand; nothing is computed."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import pairwise

import pytest

from harness.leaderboard.decide.estimates import Estimate
from harness.leaderboard.decide.standings import Standing
from harness.leaderboard.decide.wording import MEASURES, NANO, ONE_SEED
from harness.leaderboard.pictures.points import PictureData
from harness.leaderboard.table import BY, Board, Row, Table
from harness.run_folder.board_key import BoardKey
from harness.run_folder.facts import ScorerFacts
from harness.statistics.metrics import METRICS

HOSTILE = ("<script>alert(1)</script>", "\"&'", "</title><img src=x onerror=alert(2)>", "`${alert(3)}`\u2028")
"""Names that a plugin could have."""
SETTINGS = {
    "protocol": 1,
    "dataset": "embedded",
    "preset": "nano",
    "budget": "pairs=512",
    "adapter": "full",
    "start": None,
    "learning_rate": 0.001,
    "batch_pairs": 16,
    "max_length": 384,
    "max_prompt": 128,
    "dtype": "float32",
    "scorer": "vllm",
    "evaluated_on": "test",
    "control": "none",
    "reference_path": False,
    "lenient": False,
    "limit": None,
    "data_seed": 0,
}
MANIFEST = {"harness": "0.1.0", "python": "3.11.7", "plugins": {"loss0": ["outsider", "2.1"]}, "cells": [["a", "m", 0]]}


def needed(missing: str) -> None:
    """Skip the test with the reason `missing` unless it is empty; in CI, where everything must be there, fail."""
    if missing and os.environ.get("CI"):
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)


def estimate(value: float) -> Estimate:
    return Estimate(value=value, low=value - 0.05, high=value + 0.05, n=100)


def row(place: int, label: str, number: int) -> Row:
    """Return row `place` of `number`, counted from 0: accuracy 0.9 at the top, 0.4 less at the bottom."""
    value = 0.9 - 0.4 * place / number
    return Row(
        rank=place + 1,
        rank_low=max(1, place),
        rank_high=min(number, place + 2),
        tier=1 + place // 3,
        label=label,
        loss=label.partition("(")[0],
        kind="loss",
        options={"beta": 0.1 * place},
        reference_based=place % 2 == 0,
        tags=("listwise",) if place % 3 == 0 else (),
        status="ok",
        seeds=(0,),
        metrics={name: estimate(value) for name in METRICS},
        readings={
            **dict.fromkeys(BY, Standing()),
            "sum": Standing(rank=number - place, rank_low=1, rank_high=number, tier=1),
            "mean": Standing(rank=place + 1, rank_low=place + 1, rank_high=place + 1, tier=place + 1),
        },
        vs_base={"pairwise_accuracy@mean": estimate(value - 0.5)},
        vs_leader=estimate(value - 0.9) if place else Estimate(value=0.0, low=0.0, high=0.0, n=100),
        scorer=ScorerFacts(name="vllm", version="0.29"),
        spend={"seconds": 10.0 + place, "flops": 4e11, "tokens": 80_000.0, "peak_memory_bytes": 700 * 2.0**20},
    )


def table(labels: list[str], models: tuple[str, ...] = ("qwen", "gemma")) -> Table:
    """Return a board per model and one over all, each with the losses, a baseline row and one loss that diverged."""
    rows = [row(place, label, len(labels)) for place, label in enumerate(labels)]
    nothing = {name: Estimate() for name in METRICS}
    base = replace(
        row(0, "base", 1), kind="reference", rank=None, rank_low=None, rank_high=None, tier=None, metrics=nothing,
        metric_reasons={"pairwise_accuracy": "no reward is known"}, vs_leader=Estimate(), spend={}, readings={},
    )  # fmt: skip
    wild = replace(
        base, label="wild", loss="wild", kind="loss", rank=len(labels) + 1, status="diverged",
        reason="loss became NaN at step 7", reference_based=False, vs_base={},
    )  # fmt: skip
    boards = [
        Board(
            model=model,
            models=models if model == "all" else (model,),
            preset="nano",
            dataset="embedded",
            title=f"{model} · nano preset · embedded · budget pairs=512 · seed 0",
            conclusions=(f"{labels[0]} wins on this one seed.", ONE_SEED),
            disclaimers=(MEASURES, NANO),
            settings=BoardKey.of(SETTINGS),
            seeds=(0,),
            n_pairs=400,
            n_prompts=200,
            minimum_detectable_difference=0.05,
            minimum_detectable_planned=0.04,
            gap_edges=(0.2, 0.5, 0.9),
            rows=(*rows, base, wild),
            p_values={a: {b: 1.0 if a == b else 0.01 for b in labels} for a in labels},
        )
        for model in (*models, "all")
    ]
    return Table(protocol=1, ranked_by="pairwise_accuracy", boards=tuple(boards))


def picture_data(labels: list[str]) -> PictureData:
    """Return a few points of each picture for these losses."""
    steps = range(1, 6)
    return PictureData(
        places=[
            {"loss": label, "reading": reading, "order": order, "place": k, "rank": k, "low": 1, "high": len(labels)}
            for order, reading in enumerate(BY)
            for k, label in enumerate(labels if order else labels[::-1], start=1)
        ],
        by_model=[
            {"loss": label, "model": model, "value": 0.6, "low": 0.5, "high": 0.7}
            for label in labels
            for model in ("qwen", "gemma")
        ],
        quartiles=[
            {"loss": label, "quartile": q, "gap": "", "value": 0.5 + q / 10, "low": 0.4, "high": 0.99, "n": 100}
            for label in labels
            for q in (1, 2, 3, 4)
        ],
        scores=[
            {"loss": label, "score": float(k), "percentile": 40.0 + 5 * k, "n": 80} for label in labels for k in steps
        ],
        reliability=[
            {"loss": label, "confidence": 0.5 + k / 12, "accuracy": 0.5 + k / 15, "low": 0.4, "high": 0.95, "n": 9}
            for label in labels
            for k in steps
        ],
        curves=[
            {"loss": label, "step": float(k), "margin": k / 10, "accuracy": 0.5 + k / 20, "drift": 1.0 - k}
            for label in labels
            for k in steps
        ],
        spend=[
            {"loss": label, "value": 0.6, "low": 0.5, "high": 0.7, "seconds": 10.0 + k, "flops": 4e11}
            for k, label in enumerate(labels)
        ],
        differences=[
            {"loss": a, "other": b, "difference": (j - i) / 100, "p": 0.01, "significant": True}
            for i, a in enumerate(labels)
            for j, b in enumerate(labels)
            if i != j
        ],
    )


def sorted_in_order(values: list[float], falling: bool = False) -> bool:
    """Return whether no value is below, or where they fall above, the one before."""
    return all((a >= b) if falling else (a <= b) for a, b in pairwise(values))
