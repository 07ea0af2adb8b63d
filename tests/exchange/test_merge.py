"""harness merge: what joins, what is kept once, what is refused, and where each cell comes from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.api import HarnessError
from harness.exchange import merged_manifest
from harness.exchange.merge import merge, run_merge
from harness.exchange.verify import Verdict, verify
from harness.planning.run_toml import read_run
from harness.planning.trials import chosen, outcomes, trials_csv
from harness.run_folder.manifest import Manifest, read_manifest
from harness.run_folder.store import read_records

Make = Callable[..., Path]
Add = Callable[..., None]
Tables = Callable[[str], tuple[pd.DataFrame, pd.DataFrame]]
BASE, LONGER, IPO = "qwen--base--5ac4d2", "qwen--longer-wins--a8d386", "qwen--ipo--65c851--seed0"
DPO, SIMPO = "qwen--dpo_beta=0.2--dfd14f--seed0", "qwen--simpo--5ca962--seed0"
BASELINES = ("base", "longer-wins")


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave verification and leaderboards out, the slow parts, where the test is about something else."""
    monkeypatch.setattr("harness.exchange.merge.verify", lambda run: Verdict(run=run, checks=()))
    monkeypatch.setattr("harness.exchange.merge.write", lambda run: None)


def test_runs_of_two_machines_become_one_run_that_is_verified_and_says_what_came_from_where(
    whole_run: Path, other_run: Path, tmp_path: Path
) -> None:
    into = tmp_path / "new" / "merged"
    text, code = run_merge([whole_run, other_run], into)
    assert code == 0, text
    assert text.splitlines()[1:] == ["  run: 4 cells", "  run-2: 1 cells, and 2 that an earlier run has too"]
    keys = [record.key for record in read_records(into)]
    assert keys == [BASE, DPO, IPO, LONGER, SIMPO]
    environments = {record.label: record.environment for record in read_records(into)}
    assert environments["ipo"].as_json() == {"device": "another"}  # each record keeps its own
    assert environments["base"].as_json() == {"harness": "0.1.0"}  # of the first run given
    assert verify(into).problems == ()
    manifest = read_manifest(into)
    assert manifest.cells == (("dpo(beta=0.2)", "qwen", 0), ("ipo", "qwen", 0), ("simpo", "qwen", 0))
    assert manifest.sources is not None
    assert {name: one["cpus"] for name, one in manifest.sources.items()} == {"run": 2, "run-2": 64}
    assert "cpus" not in manifest.as_json()  # the machines differ
    assert (manifest.sources["run-2"]["cells"], manifest.sources["run-2"]["cells_of_an_earlier_source"]) == (
        [IPO],
        [BASE, LONGER],
    )
    assert read_run(into / "run.toml")["plugins"] == "dpo:beta=0.2,ipo,simpo"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["merged"]  # nothing is left beside it


@pytest.mark.usefixtures("trusting")
def test_the_same_runs_merge_to_the_same_bytes(whole_run: Path, other_run: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        merge([whole_run, other_run], tmp_path / name)
    first, second = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("a", "b")
    )
    assert first == second
    assert len(first) == 5 * 3 + 2  # a record and two tables per cell, manifest and run file


@pytest.mark.usefixtures("trusting")
def test_results_that_differ_are_refused_with_both_named_and_nothing_is_written(
    make_run: Make, add_cell: Add, tables: Tables, tmp_path: Path
) -> None:
    runs = [make_run(tmp_path / name, "ipo", board=False) for name in ("a", "b")]
    rows, responses = tables("ipo")
    add_cell(runs[1], "ipo", (rows, responses.assign(reward=responses["reward"] + 1e-9)))
    with pytest.raises(HarnessError) as caught:
        merge(runs, tmp_path / "into")
    assert str(caught.value).startswith(
        f"got two results of one cell that differ: {runs[0]}/cells/{IPO} / {runs[1]}/cells/{IPO}: reward of 48 of 48"
    )
    assert "expected the same; delete the folder of the one that should not count" in str(caught.value)
    assert not (tmp_path / "into").exists()
    add_cell(runs[1], "ipo", (rows, responses), loss={"name": "ipo", "options": {"tau": 0.3}})
    with pytest.raises(HarnessError, match=r"loss .*0\.1.* / .*0\.3"):
        merge(runs, tmp_path / "into")
    add_cell(runs[1], "ipo", None)
    with pytest.raises(HarnessError, match="status 'ok' / 'failed'"):
        merge(runs, tmp_path / "into")


@pytest.mark.usefixtures("trusting")
def test_seconds_and_versions_are_the_machines_own(
    make_run: Make, add_cell: Add, tables: Tables, tmp_path: Path
) -> None:
    runs = [make_run(tmp_path / name, "ipo", board=False) for name in ("a", "b")]
    record = read_records(runs[0])[0]
    spend, scorer = record.spend.as_json() | {"seconds": 9.0}, {"name": "vllm", "version": "0.30"}
    add_cell(runs[1], "ipo", tables("ipo"), spend=spend, scorer=scorer, environment={"device": "another"})
    assert merge(runs, tmp_path / "into").doubled == {"a": (), "b": (IPO,)}
    add_cell(runs[1], "ipo", tables("ipo"), spend=spend | {"pairs": 65})
    with pytest.raises(HarnessError, match="spend"):
        merge(runs, tmp_path / "other")


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize(("apart", "fits"), [(5e-4, True), (5e-3, False)])  # in fp32 the canary allows 1e-3 nats
def test_the_base_may_be_scored_as_differently_as_two_scorers_may(
    make_run: Make, add_cell: Add, tables: Tables, tmp_path: Path, apart: float, fits: bool
) -> None:
    runs = [make_run(tmp_path / "a", "base", "ipo", board=False), make_run(tmp_path / "b", "base", board=False)]
    rows, responses = tables("base")
    add_cell(runs[1], "base", (rows, responses.assign(sum_logp=responses["sum_logp"] - apart)))
    if not fits:
        with pytest.raises(HarnessError, match=r"sum_logp of 48 of 48 responses, by up to 0\.005"):
            merge(runs, tmp_path / "into")
        return
    merged = merge(runs, tmp_path / "into")
    assert merged.apart == pytest.approx(apart)
    assert "lie up to 0.0005 nats apart" in merged.text()


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"board": {"budget": "pairs=128"}}, "budget 'pairs=128' / 'pairs=64'"),
        ({"dataset": {"name": "made-up", "fingerprint": "other", "test_pairs": 24}}, "dataset.fingerprint 'other'"),
        ({"tokens_fingerprint": "other"}, "tokens_fingerprint of qwen 'other' in b and 'tokens' in a"),
        ({"model": {"name": "qwen", "fingerprint": "other"}}, "model.fingerprint of qwen 'other'"),
    ],
)
def test_other_settings_data_tokens_or_checkpoints_are_refused(
    make_run: Make, tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    first = make_run(tmp_path / "a", "ipo", board=False)
    second = make_run(tmp_path / "b", "simpo", board=False, changed=changed)
    with pytest.raises(HarnessError, match="the runs cannot be merged") as caught:
        merge([first, second], tmp_path / "into")
    assert said in str(caught.value)


@pytest.mark.usefixtures("trusting")
def test_other_pairs_under_one_fingerprint_are_refused(
    make_run: Make, add_cell: Add, tables: Tables, tmp_path: Path
) -> None:
    runs = [make_run(tmp_path / "a", "ipo", board=False), make_run(tmp_path / "b", "simpo", board=False)]
    rows, responses = tables("simpo")
    add_cell(runs[1], "simpo", (rows.iloc[1:], responses))
    with pytest.raises(HarnessError, match=r"cannot be merged: .*got 0 rows more and 1 fewer"):
        merge(runs, tmp_path / "into")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_run_that_is_not_verified_may_not_join(
    make_run: Make, edit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [make_run(tmp_path / name, *BASELINES, label, board=False) for name, label in
            (("a", "ipo"), ("b", "simpo"))]  # fmt: skip
    edit(runs[1] / "cells" / SIMPO, metrics={"pairwise_accuracy": 1.0})
    text, code = run_merge(runs, tmp_path / "into")
    assert code == 3
    assert f"{runs[1]}: 1 problem" in text
    assert "got pairwise_accuracy = 1, expected" in text
    assert str(runs[0]) not in text
    assert not (tmp_path / "into").exists()


def test_the_place_must_be_new_and_the_runs_several(whole_run: Path, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="got 1 runs, expected two or more"):
        merge([whole_run], tmp_path / "into")
    with pytest.raises(HarnessError, match="which is there already, expected a new folder"):
        merge([whole_run, whole_run], whole_run)


def test_tuned_boards_and_their_trials_are_carried_each_verified(
    make_run: Make, add_tuned: Make, tmp_path: Path
) -> None:
    runs = [add_tuned(make_run(tmp_path / name, *BASELINES, label, board=False), label) for name, label in
            (("a", "ipo"), ("b", "simpo"))]  # fmt: skip
    into = tmp_path / "into"
    text, code = run_merge(runs, into)
    assert code == 0, text
    assert text.splitlines()[-2:] == ["  tuning: 6 cells from a, b", "  tuned-2: 4 cells from a, b"]
    for folder in (into, into / "tuning", into / "tuned-2"):
        assert verify(folder).problems == ()
    boards = json.loads((into / "leaderboard.json").read_text())["boards"]
    assert [board["settings"].get("trials", 0) for board in boards] == [0, 2]
    assert {row["label"] for row in boards[1]["rows"]} == {"base", "longer-wins", "ipo", "simpo"}
    records = read_records(into / "tuning")
    found = outcomes(records, "pairwise_accuracy")
    expected = trials_csv(found, chosen(found, 2), "pairwise_accuracy")
    assert (into / "tuning" / "trials.csv").read_text() == expected  # as the harness writes it of all records
    manifest = read_manifest(into / "tuning")
    assert manifest.run["plugins"] == "ipo,simpo"
    assert list(manifest.search["space"]) == ["ipo", "simpo"]
    assert read_run(into / "run.toml")["trials"] == 2


def test_a_run_without_trials_may_join_and_other_numbers_of_trials_may_not(
    make_run: Make, add_tuned: Make, tmp_path: Path
) -> None:
    plain = make_run(tmp_path / "plain", *BASELINES, "ipo", board=False)
    two = add_tuned(make_run(tmp_path / "two", *BASELINES, "simpo", board=False), "simpo")
    merged = merge([plain, two], tmp_path / "into")
    assert [one.into.name for one in merged.inner] == ["tuning", "tuned-2"]
    assert read_run(tmp_path / "into" / "run.toml")["trials"] == 2
    three = add_tuned(plain, "ipo", trials=3)
    with pytest.raises(HarnessError, match="got 2 trials per loss in two and 3 in plain; expected the same") as caught:
        merge([three, two], tmp_path / "other")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "other").exists()


def test_tuned_cells_that_are_not_sound_may_not_join(
    make_run: Make, add_tuned: Make, edit: Any, tmp_path: Path
) -> None:
    runs = [add_tuned(make_run(tmp_path / name, *BASELINES, label, board=False), label) for name, label in
            (("a", "ipo"), ("b", "simpo"))]  # fmt: skip
    (cell,) = (runs[1] / "tuned-2" / "cells").glob("*simpo*")
    edit(cell, metrics={"pairwise_accuracy": 1.0})
    text, code = run_merge(runs, tmp_path / "into")
    assert code == 3
    assert f"{runs[1] / 'tuned-2'}: 1 problem" in text
    assert not (tmp_path / "into").exists()


def test_merged_seeds_keep_the_order_of_the_first_run_whose_first_seed_tuned() -> None:
    def run(*seeds: int) -> Manifest:
        return Manifest(
            run={"plugins": "simpo", "seeds": list(seeds)},
            models=("qwen",),
            cells=tuple(("simpo", "qwen", seed) for seed in sorted(seeds)),
        )

    both = merged_manifest.manifest({"a": run(2, 0), "b": run(1, 0)}, {"a": [], "b": []}, {"a": [], "b": []})
    assert both.run["seeds"] == [2, 0, 1]
