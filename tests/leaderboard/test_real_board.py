"""A small part of leaderboards/smollm2, repeated: `tox -e real`. Needs HARNESS_TEST_DATA, vLLM and 5 to 9 minutes."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.exchange.verify import run_verify

REAL = Path(__file__).parents[2] / "leaderboards" / "smollm2"
PAIRS = 32
SIDES = ("chosen", "rejected")
pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def repeated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One loss, 32 pairs, from the weights that the board starts from; in an empty cache."""
    data = Path(os.environ.get("HARNESS_TEST_DATA", "")) / "mqm-zh-en"
    assert data.is_dir(), f"{data}: got no folder, expected the data of the board; HARNESS_TEST_DATA names its parent"
    folder = tmp_path_factory.mktemp("real")
    shutil.copytree(data, folder / "mqm-zh-en")
    ours = {name: value for name, value in os.environ.items() if name != "HARNESS_CACHE"}
    command = "run --plugins dpo --models smollm2 --dataset mqm-zh-en --seeds 0 --no-pictures --output-dir run"
    subprocess.run(
        [sys.executable, "-m", "harness", *command.split(), "--budget", f"pairs={PAIRS}"],
        cwd=folder,
        env={**ours, "HF_HUB_OFFLINE": "1", "XDG_CACHE_HOME": str(folder / "cache")},
        check=True,
    )
    return folder / "run"


def record(run: Path, loss: str) -> dict[str, Any]:
    (path,) = run.glob(f"cells/smollm2--{loss}--*seed0/record.json")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def rows(run: Path, loss: str) -> pd.DataFrame:
    (path,) = run.glob(f"cells/smollm2--{loss}--*seed0/rows.parquet")
    return pd.read_parquet(path).set_index("pair_id").sort_index()


def test_the_small_run_is_sound_and_trained_what_it_says(repeated: Path) -> None:
    text, code = run_verify(repeated)
    assert code == 0, text
    found = record(repeated, "dpo")
    assert found["status"] == "ok"
    assert found["spend"]["pairs"] == PAIRS


def test_it_has_the_data_and_the_weights_of_the_committed_board(repeated: Path) -> None:
    ours, committed = record(repeated, "dpo"), record(REAL, "dpo")
    assert ours["board"]["dataset"] == committed["board"]["dataset"]
    assert ours["model"] == committed["model"]


def test_the_start_checkpoint_gives_every_pair_the_log_probs_of_the_committed_board(repeated: Path) -> None:
    ours, committed = rows(repeated, "dpo"), rows(REAL, "dpo")
    assert list(ours.index) == list(committed.index)
    for side in SIDES:
        pd.testing.assert_series_equal(ours[f"{side}_tokens"], committed[f"{side}_tokens"])
        expected = committed[f"ref_{side}_sum_logp"]
        apart = (ours[f"ref_{side}_sum_logp"] - expected).abs()
        assert (apart <= 1e-3 + 1e-5 * expected.abs()).all(), apart.max()


def test_its_log_probs_lie_between_the_start_and_the_board_s_longer_training(repeated: Path) -> None:
    """2 steps of 16 move the policy away from the start, and less far than 16 steps did."""
    ours, committed = rows(repeated, "dpo"), rows(REAL, "dpo")

    def moved(table: pd.DataFrame) -> float:
        return float(sum((table[f"{side}_sum_logp"] - table[f"ref_{side}_sum_logp"]).abs().mean() for side in SIDES))

    assert math.isfinite(moved(ours))
    assert 0.01 < moved(ours) < moved(committed)
