"""Run folders of made-up cells, written through the store as the harness writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_records import made_record

from harness.run_folder.store import write_record

BOARD = {"dataset": "embedded", "preset": "nano", "budget": "pairs=512", "learning_rate": 1e-3, "evaluated_on": "test"}


def write_cell(
    run: Path,
    label: str,
    margins: Any = None,
    *,
    model: str = "qwen",
    seed: int = 0,
    per_prompt: int = 1,
    responses: bool = True,
    **changed: Any,
) -> None:
    """Write a cell whose pairs have these reward margins; without margins it has no tables, or no `responses`.

    Pair i is of prompt i // per_prompt; its rejected response has reward -20. `changed` overrides fields of the record.
    """
    folder = run / "cells" / f"{model}--{''.join(c for c in label if c.isalnum())}--seed{seed}"
    fields = {
        "protocol": 1,
        "status": "ok",
        "kind": "loss",
        "label": label,
        "key": folder.name,
        "loss": {"name": label, "options": {"beta": 2.0}},
        "model": {"name": model, "preset": "nano", "fingerprint": "start"},
        "dataset": {"name": "embedded", "fingerprint": "data-1", "test_pairs": 1},
        "tokens_fingerprint": f"tokens-{model}",
        "seed": seed,
        "board": BOARD,
    } | changed
    if margins is None:
        write_record(folder, made_record(fields))
        return
    margins = np.asarray(margins, float)
    write_record(
        folder,
        made_record(fields),
        rows_of(margins, per_prompt),
        responses_of(margins, per_prompt) if responses else None,
    )


def rows_of(margins: np.ndarray, per_prompt: int) -> pd.DataFrame:
    n = len(margins)
    return pd.DataFrame(
        {
            "pair_id": [f"pair{i:05d}" for i in range(n)],
            "prompt_id": [f"prompt{i // per_prompt:05d}" for i in range(n)],
            "split": "test",
            "score_chosen": 1.0,
            "score_rejected": 0.0,
            "gap": np.linspace(0.1, 1, n),
            "chosen_sum_logp": margins - 20,
            "chosen_tokens": 10,
            "rejected_sum_logp": np.where(np.isnan(margins), np.nan, -20.0),
            "rejected_tokens": 10,
            "ref_chosen_sum_logp": -20.0,
            "ref_rejected_sum_logp": -20.0,
            "reward_chosen": margins - 20,
            "reward_rejected": -20.0,
            "chosen_characters": 50,
            "rejected_characters": 50,
            "true_chosen": np.nan,
            "true_rejected": np.nan,
            "chosen_response_id": "c",
            "rejected_response_id": "r",
        }
    )


def responses_of(margins: np.ndarray, per_prompt: int) -> pd.DataFrame:
    """One response per pair: its reward is the margin, its score the pair's number."""
    n = len(margins)
    return pd.DataFrame(
        {
            "prompt_id": [f"prompt{i // per_prompt:05d}" for i in range(n)],
            "response_id": [f"response{i:05d}" for i in range(n)],
            "split": "test",
            "sum_logp": margins,
            "tokens": 10,
            "ref_sum_logp": 0.0,
            "reward": margins,
            "score": np.arange(n, dtype=float),
            "true_quality": np.nan,
            "characters": 50,
            "listwise": False,
        }
    )


@pytest.fixture(name="write_cell")
def write_cell_fixture() -> Callable[..., None]:
    """`write_cell(run, label, margins, model=, seed=, per_prompt=, responses=, **changed)`."""
    return write_cell


@pytest.fixture
def two_runs(tmp_path: Path) -> tuple[Path, Path]:
    """BASE and NEW: loss `one` has 8 of 10 right, then 5; loss `two` 5 of 10, then the same 5."""
    base, new = tmp_path / "base", tmp_path / "new"
    right = np.arange(10)
    write_cell(base, "one", np.where(right < 8, 1.0, -1.0))
    write_cell(new, "one", np.where(right < 5, 1.0, -1.0))
    for run in (base, new):
        write_cell(run, "two", np.where(right < 5, 1.0, -1.0))
    return base, new
