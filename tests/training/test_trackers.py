"""What `--report-to` logs, read by TensorBoard's own reader, and what is refused before anything is computed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.api import HarnessError
from harness.execute.trackers import PACKAGES, require_trackers

SMALL = ("--models", "qwen", "--limit", "48", "--budget", "pairs=32", "--scorer", "transformers")


def test_tensorboard_has_the_steps_and_the_metrics_of_every_cell(harness: Any, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "run"
    done = harness("run", "--plugins", "simpo,dpo", *SMALL, "--output-dir", str(folder), "--report-to", "tensorboard")
    assert done.returncode == 0, done.stdout + done.stderr
    cells = [path for path in (folder / "cells").iterdir() if "--seed" in path.name]
    assert {path.name for path in (folder / "tensorboard").iterdir()} == {path.name for path in cells}
    for cell in cells:
        events = EventAccumulator(str(folder / "tensorboard" / cell.name))
        events.Reload()
        steps = pd.read_parquet(cell / "train.parquet")
        for column in ("loss", "rewards/accuracies", "learning_rate", "grad_norm"):
            logged = events.Scalars(f"train/{column}")
            assert [event.step for event in logged] == list(steps["step"])
            assert [event.value for event in logged] == pytest.approx(list(steps[column]), rel=1e-6)
        metrics = json.loads((cell / "record.json").read_text())["metrics"]
        for name in ("pairwise_accuracy", "pairwise_accuracy@learned", "brier"):
            (event,) = events.Scalars(f"test/{name}")
            assert (event.step, event.value) == (len(steps), pytest.approx(metrics[name], rel=1e-6))
    verified = harness("verify", str(folder))
    assert verified.returncode == 0, verified.stdout


def test_logging_elsewhere_changes_no_result(harness: Any, tmp_path: Path) -> None:
    rows = []
    for name, more in (("plain", ()), ("logged", ("--report-to", "tensorboard"))):
        done = harness("run", "--plugins", "simpo", *SMALL, "--output-dir", str(tmp_path / name), *more)
        assert done.returncode == 0, done.stdout + done.stderr
        (path,) = (tmp_path / name).glob("cells/*simpo*/rows.parquet")
        rows.append(pd.read_parquet(path))
    pd.testing.assert_frame_equal(*rows, check_exact=True)


def test_what_is_not_installed_or_not_known_is_refused_before_anything_is_written(
    harness: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = harness("run", "--plugins", "simpo", *SMALL, "--report-to", "mlflow", "--output-dir", str(tmp_path / "run"))
    assert done.returncode == 2
    assert "--report-to got 'mlflow', expected some of tensorboard, wandb, trackio" in done.stderr
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in PACKAGES:
        with pytest.raises(HarnessError, match=f"whose package is not installed; run: pip install {name}"):
            require_trackers((name,))
