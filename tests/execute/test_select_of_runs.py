"""Selected training pairs in a whole run: plan, key, records and board, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from rewritten import edit

from harness.api import Dataset, HarnessError, Message, Pair
from harness.execute.selector_choice import choose_selector
from harness.manager import plugin_manager
from harness.planning.run_file import make_run

SMALL = ("--models", "qwen", "--limit", "48", "--budget", "pairs=32", "--scorer", "transformers")


@pytest.fixture(scope="module")
def selected(harness: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a run like `small_run` on selected pairs, and what it printed."""
    folder = tmp_path_factory.mktemp("selected") / "run"
    done = harness("run", "--plugins", "simpo,dpo", *SMALL, "--select", "dcrm:share=0.50", "--output-dir", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_the_plan_says_how_many_pairs_are_kept_and_what_it_costs(selected: tuple[Path, str]) -> None:
    assert (
        "Select    dcrm:share=0.5 keeps 24 of 48 training pairs; the start checkpoint reads all of them, charged to "
        "every cell"
    ) in selected[1]


def test_the_start_and_the_test_split_are_those_of_a_run_on_all_pairs(
    selected: tuple[Path, str], small_run: Path
) -> None:
    def read(folder: Path) -> dict[str, Any]:
        found = [json.loads(path.read_text()) for path in folder.glob("cells/*/record.json")]
        return {record["label"]: record for record in found}

    every, some = read(small_run), read(selected[0])
    for label in ("simpo", "dpo", "base"):
        assert some[label]["model"] == every[label]["model"]
        before, after = (record[label]["tokens_fingerprint"].split("-") for record in (every, some))
        assert before[1] == after[1]
        assert before[0] != after[0]
        assert some[label]["board"] == every[label]["board"] | {"select": "dcrm:share=0.5"}
    assert some["base"]["metrics"] == every["base"]["metrics"]
    assert some["simpo"]["metrics"] != every["simpo"]["metrics"]


def test_the_board_has_the_card_of_the_selection_and_the_run_verifies(selected: tuple[Path, str], harness: Any) -> None:
    folder, _ = selected
    board = (folder / "leaderboard.md").read_text()
    assert " · pairs by dcrm:share=0.5" in board
    assert "For qwen, dcrm:share=0.5 keeps 24 of 48 training pairs: mean score gap 0.88 to " in board
    assert ", wrong labels 20.8% to " in board  # 10 of 48
    assert "--select dcrm:share=0.5" in (folder / "leaderboard.html").read_text()
    checked = harness("verify", str(folder))
    assert checked.returncode == 0, checked.stdout


def test_a_record_that_tells_of_another_selection_does_not_verify(
    selected: tuple[Path, str], harness: Any, tmp_path: Path
) -> None:
    copy = shutil.copytree(selected[0], tmp_path / "copy")
    (path,) = copy.glob("cells/qwen--dpo-*/record.json")
    edit(path, '"setting": "dcrm:share=0.5"', '"setting": "random:share=0.5"')
    checked = harness("verify", str(copy))
    assert checked.returncode == 3
    assert "got dataset.selection of ('random:share=0.5', 24), expected ('dcrm:share=0.5', 24)" in checked.stdout


def test_a_budget_in_flops_that_the_choice_is_charged_to_verifies(harness: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    budget = (*SMALL, "--budget", "flops=1e11", "--select", "easiest:share=0.5", "--evaluate-at", "0.7")
    done = harness("run", "--plugins", "dpo", *budget, "--output-dir", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    checked = harness("verify", str(folder))
    assert checked.returncode == 0, checked.stdout


def test_trials_with_lora_train_on_the_same_new_pairs_and_choosing_is_charged(harness: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    asked = ("--trials", "2", "--adapter", "lora", "--select", "dcrm-pairing:share=0.5")
    done = harness("run", "--plugins", "dpo", *SMALL, *asked, "--output-dir", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Select    dcrm-pairing:share=0.5 makes 24 pairs out of the training lists of 24 prompts" in done.stdout
    records = [json.loads(path.read_text()) for path in folder.rglob("cells/*dpo*/record.json")]
    assert sorted(record["label"] for record in records) == ["dpo", "dpo", "dpo trial 0", "dpo trial 1"]
    assert {record["board"]["select"] for record in records} == {"dcrm-pairing:share=0.5"}
    assert len({record["tokens_fingerprint"].split("-")[0] for record in records}) == 1
    assert len({record["spend"]["selection_flops"] for record in records}) == 1
    chosen = {json.dumps(record["dataset"]["selection"]) for record in records}
    assert len(chosen) == 1
    assert json.loads(chosen.pop())["candidates"] > 100  # six pairs of each of 24 prompts, but for ties
    assert "learned over trials, on the development split" in (folder / "leaderboard.md").read_text()
    checked = harness("verify", str(folder / "tuning"))
    assert checked.returncode == 0, checked.stdout


def test_a_run_on_all_pairs_has_no_key_for_it_and_the_hash_that_it_had() -> None:
    assert "select" not in make_run({}).decisive().as_json()
    assert make_run({}).short_hash() == make_run({"select": "none"}).short_hash()
    assert make_run({}).short_hash() != make_run({"select": "random:share=0.5"}).short_hash()


def test_what_cannot_be_selected_is_refused_before_anything_is_trained(harness: Any, tmp_path: Path) -> None:
    for select, said in (
        ("dcmr", "--select got 'dcmr', expected one of alignment-potential, dcrm, "),
        ("dcrm:0.4", "selector 'dcrm': got '0.4', expected option=value; for example dcrm:share=0.4"),
        ("dcrm:share=2", "selector 'dcrm': share got 2.0, expected above 0 and up to 1"),
        ("random:share=0.1", "got 5 training pairs, expected at least 16"),
    ):
        done = harness("run", *SMALL, "--select", select, "--output-dir", str(tmp_path / "run"))
        assert done.returncode == 2
        assert said in done.stderr
        assert not (tmp_path / "run").exists()


def test_data_without_scores_are_refused_by_a_selector_that_reads_them() -> None:
    turn = (Message(role="user", content="question"),)
    pair = Pair(pair_id="1", prompt_id="1", context=turn, chosen="good", rejected="bad")
    data, manager = Dataset(name="few", train=(pair,), dev=(), test=()), plugin_manager()
    with pytest.raises(HarnessError, match="--select got 'dcrm', which reads scores, and 1 of 1 training pairs have"):
        choose_selector(make_run({"select": "dcrm"}), data, manager)
    assert str(choose_selector(make_run({"select": "easiest"}), data, manager)) == "easiest:share=0.5"
    assert choose_selector(make_run({}), data, manager) is None
