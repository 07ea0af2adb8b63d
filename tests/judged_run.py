"""A run folder of SimPO with answers that are counted by hand, and a judge's table about them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from click.testing import CliRunner

from harness.cli import cli
from harness.run_folder.hashes import file_hash
from harness.run_folder.store import read_record, write_record

Make = Callable[..., Path]
BASE, SIMPO = "qwen--base--5ac4d2", "qwen--simpo--5ca962--seed0"
PROMPTS, SAMPLES = 3, 2
LOOPS = [[7, 8, 7, 8, 7], [1, 2, 3], [4, 4, 4, 4], [5], [1, 2, 1, 3], [9, 9]]
"""The tokens of each cell's answers; their metrics are counted by hand below."""
BY_HAND = {
    "length": [5.0, 3, 4, 1, 4, 2],
    "cut": [1.0, 0, 0, 0, 0, 0],
    "distinct_2": [2 / 4, 1.0, 1 / 3, np.nan, 1.0, 1.0],
    "longest_loop": [5.0, 0, 4, 0, 0, 2],
}


def answers(shift: float) -> pd.DataFrame:
    """Six answers to three prompts; the model's log-probs are above the reference's by `shift`."""
    prompts = [f"prompt{number}" for number in range(PROMPTS) for _ in range(SAMPLES)]
    ref = -np.arange(11.0, 17.0)
    return pd.DataFrame(
        {
            "prompt_id": prompts,
            "sample": list(range(SAMPLES)) * PROMPTS,
            "seed": range(6),
            "text": [f"answer {number}" for number in range(6)],
            "tokens": LOOPS,
            "finish": ["length", *["stop"] * 5],
            "sum_logp": ref + shift,
            "ref_sum_logp": ref,
            "kl_log_ratio": shift,
            "kl_low_variance": shift / 4,
            **BY_HAND,
            "rouge_l": 0.25,
        }
    )


def mean(column: list[float]) -> float:
    """Over prompts of their means over samples; what is missing is left out."""
    return float(np.mean([np.nanmean(column[start : start + SAMPLES]) for start in range(0, 6, SAMPLES)]))


def add_answers(run: Path, cell: str, shift: float) -> None:
    """Give a cell answers, and its record what it says of them."""
    folder, table = run / "cells" / cell, answers(shift)
    table.to_parquet(folder / "generations.parquet", index=False)
    means = {"kl_log_ratio": shift, "kl_low_variance": shift / 4, "rouge_l": 0.25}
    facts = {"prompts": PROMPTS, "samples": SAMPLES, "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 5}
    facts |= {"stop": [0], "metrics": means | {name: mean(column) for name, column in BY_HAND.items()}}
    record = read_record(folder)
    content = record.as_json() | {"generation": facts}
    write_record(folder, record.of(content).model_copy(update={"folder": folder}), record.rows(), record.responses())


def verdicts(judge: str, against: str = "base", preference: float = 0.75) -> pd.DataFrame:
    """Both orders of a judge that always prefers the cell's answers alike."""
    rows = [
        (prompt, sample, against, order, 0, preference, np.nan, "", judge)
        for prompt, sample in zip(answers(0)["prompt_id"], answers(0)["sample"], strict=True)
        for order in (0, 1)
    ]
    names = ["prompt_id", "sample", "against", "order", "repeat", "preference", "rating", "reason", "judge"]
    return pd.DataFrame(rows, columns=names)


def table_of(run: Path, judge: str = "j") -> Path:
    return run / "cells" / SIMPO / "judgements" / f"{judge}.parquet"


def put(path: Path, table: pd.DataFrame, about: str = "") -> None:
    """Write a judge's table about the answers that lie beside its folder."""
    path.parent.mkdir(exist_ok=True)
    table.attrs = {"answers": about or file_hash(path.parent.parent / "generations.parquet")}
    table.to_parquet(path, index=False)


def made(make_run: Make, folder: Path, judge: str = "j", **said: Any) -> Path:
    run = make_run(folder, "base", "longer-wins", "simpo", board=False)
    add_answers(run, BASE, 0.0)
    add_answers(run, SIMPO, 2.0)
    put(table_of(run, judge), verdicts(judge, **said))
    rebuild(run)
    return run


def rebuild(run: Path) -> None:
    """Write the boards, which say what judges said."""
    CliRunner().invoke(cli, ["leaderboard", str(run), "--no-pictures"], catch_exceptions=False)
