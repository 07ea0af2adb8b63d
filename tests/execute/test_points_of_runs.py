"""Which runs have points along them, and which folder takes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.api import Dataset, HarnessError
from harness.execute.preflight import check_folder
from harness.planning.run_file import Run, make_run
from harness.planning.tuned_run import TrialRun, TunedRun

DATA = Dataset(name="mine", source="here", train=(), dev=(), test=())


def folder_of(run: Run, folder: Path) -> Path:
    """Return a folder that such a run was started in."""
    content = {"run": run.as_json(), "decisive": run.decisive().as_json(), "scorer": "transformers"}
    folder.mkdir()
    (folder / "manifest.json").write_text(
        json.dumps(content | {"dataset": {"name": "mine", "fingerprint": DATA.fingerprint}})
    )
    return folder


def test_trials_have_no_points_and_what_is_chosen_from_them_has() -> None:
    run = make_run({"trials": 4, "evaluate_at": (0.5,)})
    assert TrialRun.of(run).evaluate_at == ()
    assert TunedRun.of(run).evaluate_at == (0.5, 1.0)


@pytest.mark.parametrize(("before", "now"), [((), (0.5, 1.0)), ((0.5, 1.0), ()), ((0.5, 1.0), (0.25, 0.5, 1.0))])
def test_a_folder_of_a_run_with_other_points_is_refused(
    before: tuple[float, ...], now: tuple[float, ...], tmp_path: Path
) -> None:
    folder = folder_of(make_run({"evaluate_at": before}), tmp_path / "run")
    check_folder(folder, make_run({"evaluate_at": before}), DATA, "transformers")
    with pytest.raises(HarnessError, match=r"holds another run \(evaluate_at was \[.*\], now \[.*\]\)"):
        check_folder(folder, make_run({"evaluate_at": now}), DATA, "transformers")


def test_a_folder_that_was_made_before_there_were_points_is_one_without(tmp_path: Path) -> None:
    folder = folder_of(make_run({}), tmp_path / "run")
    content = json.loads((folder / "manifest.json").read_text())
    del content["run"]["evaluate_at"]
    (folder / "manifest.json").write_text(json.dumps(content))
    check_folder(folder, make_run({}), DATA, "transformers")
