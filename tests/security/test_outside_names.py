"""Names from outside leave no folder, steer no terminal and are no formulas."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_cells import add_cell
from made_records import made_record

from harness.api import HarnessError
from harness.exchange.export import run_export
from harness.exchange.merged_manifest import trials
from harness.execute.axes import folder_name
from harness.leaderboard import notebook, table_of, write
from harness.planning.grid import cell_key
from harness.planning.trials import Outcome, trials_csv
from harness.run_folder.paths import AXIS, judgements_file
from harness.run_folder.record import RecordError
from harness.run_folder.shown import for_the_terminal

FORMULAS = ("=1+1", "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("http://x")')
WAYS_OUT = ("..", ".", "../x", "../../x", "/etc/x", "a/../../x", "..\\x", "a\0b", "", "~/x", "C:\\x", "a\nb")
NAMES = st.text() | st.sampled_from(WAYS_OUT) | st.lists(st.sampled_from([*WAYS_OUT, "a", "@"])).map("/".join)


def outside(
    run: Path, *, label: str, model: str, dataset: str, reason: str = "none", options: dict[str, str] | None = None
) -> None:
    """Write a run of somebody else: a loss, one that failed and the baseline rows, with these names in the records."""
    add_cell(run, "loss", np.ones(60))
    add_cell(run, "gone", status="failed", reason=reason)
    for baseline in ("base", "longer-wins"):
        add_cell(run, baseline, np.ones(60))
    for path in run.glob("cells/*/record.json"):
        record = json.loads(path.read_text())
        record["model"]["name"], record["dataset"]["name"] = model, dataset
        if record["label"] == "loss":
            record["label"], record["loss"] = label, record["loss"] | {"name": label, "options": options or {}}
        path.write_text(json.dumps(record))


@given(NAMES, NAMES, NAMES)
def test_the_folder_of_a_cell_of_a_setting_and_the_file_of_a_judge_are_one_plain_name(
    model: str, label: str, judge: str
) -> None:
    for name in (cell_key(model, label, label, 0), judgements_file(Path(), judge).name, AXIS + folder_name(label)):
        assert re.fullmatch(r"[A-Za-z0-9.,=@+_-]+", name), name
        assert name not in (".", "..")


@pytest.mark.parametrize("key", [name for name in WAYS_OUT if name != "a\nb"])
def test_a_record_whose_key_is_a_way_out_is_no_record(key: str) -> None:
    with pytest.raises(RecordError, match="expected the name of a folder"):
        made_record({"key": key})


@pytest.mark.parametrize("form", ["lm-eval", "hf", "csv"])
def test_an_export_writes_inside_its_place_whatever_the_cells_say(form: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    outside(run, label="../../loss", model="../../m", dataset="../../../d")
    run_export(run, form, tmp_path / "out" / "here")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["here"]
    write(run)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run"]


@pytest.mark.parametrize("formula", FORMULAS)
def test_no_cell_of_a_csv_file_is_a_formula(formula: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    outside(run, label=formula, model=formula, dataset=formula, reason=formula, options={formula: formula})
    write(run)
    run_export(run, "csv", tmp_path / "run.csv")
    outcome = Outcome(model=formula, system=formula, number=0, options={formula: formula}, learning_rate=1.0,
                      value=-1.0, status="failed", reason=formula)  # type: ignore[dict-item]  # fmt: skip
    tried = trials_csv([outcome], {}, formula)
    texts = [(run / "leaderboard.csv").read_text(), (tmp_path / "run.csv").read_text(), tried, trials([tried])]
    texts.append(trials([tried.replace("'", "")]))  # of somebody who wrote the file by hand
    for text in texts:
        cells = [cell for line in csv.reader(io.StringIO(text)) for cell in line]
        assert "'" + formula.replace("\r", "\n") in cells
        assert [cell for cell in cells if cell.startswith(tuple("=+-@\t\r\n")) and not _number(cell)] == []


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    "text", ["model,loss\na,b\n", "model,loss,trial\na,b,c\n", "model,loss,trial\na,b\n", "model,loss,trial\na,b,1,2\n"]
)
def test_a_list_of_trials_that_is_none_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(HarnessError, match=r"trials\.csv: got .*, expected a trial per line") as caught:
        trials([text])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("hostile", ["\x1b[2J", "\x1b]0;title\x07", "a\rb", "\u202e", "\x9b31m", "\x08"])
def test_nothing_that_is_printed_steers_the_terminal(hostile: str) -> None:
    assert hostile not in for_the_terminal(f"before {hostile} behind")


def test_a_hostile_run_is_printed_by_every_verb_without_steering_the_terminal(harness: Any, tmp_path: Path) -> None:
    hostile, run = "\x1b[2Jevil\x9b31m", tmp_path / "run"
    outside(run, label=hostile, model=hostile, dataset=hostile, reason=hostile)
    verbs = (("leaderboard", "--no-pictures"), ("verify",), ("compare", str(run)),
             ("export", "--format", "csv", "--output", str(tmp_path / "x.csv")))  # fmt: skip
    for verb, *more in verbs:
        done = harness(verb, str(run), *more)
        said = done.stdout + done.stderr
        assert "evil" in said or verb == "export", said
        assert not {"\x1b", "\x9b"} & set(said), verb


def test_a_hostile_name_runs_nothing_in_a_notebook(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    outside(tmp_path, label=hostile, model=hostile, dataset=hostile, reason=hostile)
    shown = notebook.render(table_of(tmp_path)[0])
    assert "&lt;script&gt;" in shown
    assert not re.search("<(script|img)", shown)
