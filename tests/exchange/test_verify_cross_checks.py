"""harness verify: each change of one thing, followed by a rebuild of the boards, contradicts something else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.exchange.verify import run_verify, verify
from harness.leaderboard import write
from harness.planning.run_file import Run
from harness.planning.run_file import make_run as run_of
from harness.run_folder.hashes import file_hash
from harness.run_folder.store import read_record
from harness.statistics.summary import summarise

SIMPO, DPO = "qwen--simpo--5ca962--seed0", "qwen--dpo_beta=0.2--dfd14f--seed0"
BASE, LONGER = "qwen--base--5ac4d2", "qwen--longer-wins--a8d386"
CELLS = (SIMPO, DPO, BASE, LONGER)
Tables = Callable[[str], tuple[pd.DataFrame, pd.DataFrame]]


def found(run: Path) -> list[str]:
    """Return the problems of a run whose boards are built again, each as file, got, expected, do."""
    write(run)
    problems = list(verify(run).problems)
    for problem in problems:
        assert "got " in problem, problem
        assert "expected " in problem, problem
        assert ";" in problem.partition("expected ")[2], problem  # what to do
    return problems


def said(problems: list[str], *words: str) -> bool:
    """Return whether one problem has all these words."""
    return any(all(word in problem for word in words) for problem in problems)


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def patch(path: Path, change: Mapping[str, Any]) -> None:
    """Change values of a JSON file, by the path of their names joined with dots."""
    content = read(path)
    for name, value in change.items():
        *outer, last = name.split(".")
        place = content
        for part in outer:
            place = place[part]
        place[last] = value
    path.write_text(json.dumps(content))


def edit_record(run: Path, cell: str, **change: Any) -> None:
    patch(run / "cells" / cell / "record.json", {name.replace("__", "."): value for name, value in change.items()})


def put(run: Path, cell: str, rows: pd.DataFrame, responses: pd.DataFrame) -> None:
    """Replace both tables of a cell, and let its record say their hashes and metrics."""
    folder = run / "cells" / cell
    rows.to_parquet(folder / "rows.parquet", index=False)
    responses.to_parquet(folder / "responses.parquet", index=False)
    metrics, reasons = summarise(rows, responses, read_record(folder).averaged)
    numbers = {name: value if np.isfinite(value) else None for name, value in metrics.items()}
    files = {name: file_hash(folder / name) for name in ("rows.parquet", "responses.parquet")}
    edit_record(run, cell, metrics=numbers, metric_reasons=reasons, files=files)


def rename(run: Path, old: str, new: str) -> None:
    (run / "cells" / old).rename(run / "cells" / new)
    edit_record(run, new, key=new)


# -- spend --
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"spend.pairs": 9384}, ("got spend.pairs 9384, expected 64: 4 steps of 16 pairs",)),
        ({"spend.pairs": 9376, "spend.steps": 586}, ("got spend.steps 586, expected 4 as the budget pairs=64",)),
        ({"spend.epochs": 3.0}, ("got spend.epochs 3, expected 1: 64 pairs of 64",)),
        ({"spend.flops": 10.0}, ("got spend.flops 10, expected at least 3e+07",)),
        ({"spend.flops": 6e7}, ("got spend.flops 6e+07, expected 3e+07",)),
        ({"spend.tokens": 4000}, ("got spend.tokens", "every loss visits the same pairs")),
        ({"spend": {}}, ("got spend.pairs None, spend.steps None",)),
    ],
)
def test_a_spend_that_is_not_its_budget_is_named(run: Path, change: dict[str, Any], words: tuple[str, ...]) -> None:
    patch(run / "cells" / SIMPO / "record.json", change)
    problems = found(run)
    assert any(said(problems, f"cells/{cell}/record.json", *words) for cell in (SIMPO, DPO)), problems


@pytest.mark.parametrize(
    ("budget", "change", "words"),
    [
        ("steps=4", {}, ""),
        ("steps=5", {}, "got spend.steps 4, expected 5 as the budget steps=5"),
        ("tokens=5000", {}, ""),
        ("tokens=4999", {}, "got spend.tokens 5000, expected at most 4999, the budget"),
        ("tokens=50000", {}, "expected nearly 50000, the budget: it pays for 16 pairs more"),
        ("flops=41e6", {}, ""),
        ("flops=2e7", {}, "expected at most 20000000, the budget"),
        ("flops=1e9", {}, "expected nearly 1000000000, the budget"),
        ("seconds=2", {}, ""),
        ("seconds=3", {}, "got spend.seconds 2, expected at least the 3 of the budget"),
        ("seconds=2", {"pairs": 65}, "got spend.pairs 65, expected 64: 4 steps of 16 pairs"),
        ("gold=2", {}, "got 'gold=2'"),
    ],
)
def test_a_budget_in_any_currency_bounds_what_is_spent(
    run: Path, budget: str, change: dict[str, Any], words: str
) -> None:
    for cell in CELLS:
        edit_record(run, cell, board__budget=budget)
    patch(run / "manifest.json", {"decisive.budget": budget, "run.budget": budget})
    file = run / "run.toml"
    file.write_text(file.read_text().replace("pairs=64", budget))
    patch(run / "cells" / SIMPO / "record.json", {f"spend.{name}": value for name, value in change.items()})
    write(run)
    problems = [problem for problem in verify(run).problems if "run.toml" not in problem]
    assert said(problems, f"cells/{SIMPO}/record.json", words) if words else not problems, problems


@pytest.mark.parametrize(
    ("steps", "pairs", "words"),
    [
        (2, 40, ""),
        (2, 32, ""),
        (2, 49, "got spend.pairs 49, expected 32 to 48: 2 steps of 16"),
        (5, 80, "got 5 steps and 80 pairs, expected at most the 4 steps"),
    ],
)
def test_a_cell_that_diverged_spent_at_most_its_budget(
    run: Path, add_cell: Callable[..., None], complete: Callable[..., None], steps: int, pairs: int, words: str
) -> None:
    spend = {"pairs": pairs, "steps": steps, "tokens": 3000, "flops": 2.4e7, "seconds": 1.0, "epochs": pairs / 64}
    start = read(run / "cells" / SIMPO / "record.json")["model"]
    add_cell(run, "ipo", None, status="diverged", reason="the loss is nan", spend=spend, model=start)
    complete(run, ("simpo", "dpo(beta=0.2)", "ipo"))
    problems = list(verify(run).problems)
    assert said(problems, "cells/qwen--ipo", words) if words else not problems, problems


def test_what_was_not_trained_spent_nothing(run: Path) -> None:
    edit_record(run, BASE, spend={"pairs": 64})
    assert said(found(run), f"cells/{BASE}/record.json", "got a spend of 1 numbers, expected none")


# -- what a cell is --
def test_a_seed_that_is_not_the_folders_is_named(run: Path) -> None:
    edit_record(run, SIMPO, seed=1)
    problems = found(run)
    assert said(problems, f"{SIMPO}/record.json", "got key", "expected 'qwen--simpo--5ca962--seed1'", "seed 1")
    assert said(problems, "got simpo on qwen, seed 1, expected one of the 2 cells that manifest.json lists")


def test_other_options_are_named_by_the_key_and_with_another_key_by_the_label(run: Path) -> None:
    edit_record(run, DPO, loss__options__beta=0.5)
    problems = found(run)
    assert said(problems, f"{DPO}/record.json", "got key", "'beta': 0.5")
    assert said(problems, f"{DPO}/record.json", "got option beta 0.5, expected 0.2 as the label 'dpo(beta=0.2)'")
    wanted = next(problem for problem in problems if "got key" in problem).partition("expected '")[2].partition("'")[0]
    rename(run, DPO, wanted)
    problems = found(run)
    assert not said(problems, "got key")
    assert said(problems, f"{wanted}/record.json", "got option beta 0.5, expected 0.2")


def test_a_default_that_was_changed_is_named_though_no_label_gives_it(run: Path) -> None:
    edit_record(run, SIMPO, loss__options__gamma=1.0)
    assert said(found(run), "got option gamma 1.0, expected 0.5 as the label 'simpo' and the loss's defaults say")


def test_a_model_a_label_and_a_learning_rate_that_are_not_the_cells_are_named(run: Path) -> None:
    edit_record(run, SIMPO, learning_rate=0.1)
    assert said(found(run), "got learning_rate 0.1, expected 0.001 as its board says")
    edit_record(run, SIMPO, learning_rate=0.001, loss__name="ipo")
    assert said(found(run), "got label 'simpo' of the loss 'ipo'")
    edit_record(run, SIMPO, loss__name="simpo", label="simpo(beta=2)")
    assert said(found(run), "got key", "label simpo(beta=2)")
    edit_record(run, SIMPO, label="simpo", model__name="gemma")
    assert said(found(run), "got key", "model gemma")
    edit_record(run, BASE, label="start")
    assert said(found(run), "got label 'start' of 'base'")


def test_options_of_a_loss_that_is_not_installed_are_checked_as_far_as_its_label_goes(
    run: Path, add_cell: Callable[..., None], complete: Callable[..., None], tables: Tables
) -> None:
    def add(beta: float) -> None:
        from harness.planning.grid import cell_key, identity

        options = {"beta": beta, "depth": 3}
        key = cell_key("qwen", "mine(beta=0.5)", identity("mine", options), 0)
        fields = {"label": "mine(beta=0.5)", "key": key, "loss": {"name": "mine", "options": options}}
        add_cell(run, "dpo(beta=0.2)", tables("dpo(beta=0.2)"), **fields)
        complete(run, ("simpo", "dpo(beta=0.2)", "mine(beta=0.5)"))

    add(0.5)
    text, code = run_verify(run)
    assert code == 0, text
    assert "note: not checked: rewards of mine(beta=0.5): got loss 'mine', expected one of" in text
    assert "note: not checked: options of mine(beta=0.5) that its label does not give" in text
    shutil.rmtree(next((run / "cells").glob("*mine*")))
    add(0.4)
    assert said(list(verify(run).problems), "got option beta 0.4, expected '0.5'")


def test_tuned_cells_and_trials_say_what_their_label_and_board_say(
    make_run: Callable[..., Path], add_tuned: Callable[..., Path], tmp_path: Path
) -> None:
    run = add_tuned(make_run(tmp_path / "run", "base", "longer-wins", "simpo", board=False), "simpo")
    tuned, tuning = run / "tuned-2", run / "tuning"
    for folder in (run, tuned, tuning):
        assert verify(folder).problems == ()
    (cell,) = (path.name for path in (tuned / "cells").glob("*simpo*"))
    edit_record(tuned, cell, tuning__options={"beta": 4.0})
    assert said(list(verify(tuned).problems), "got option beta 3.0, expected 4.0 as its tuning sampled")
    edit_record(tuned, cell, tuning__options={"beta": 3.0}, tuning__trials=4, learning_rate=0.5)
    problems = list(verify(tuned).problems)
    assert said(problems, "got tuning.trials 4, expected 2")
    assert said(problems, "got learning_rate 0.5, expected 0.00025 to 0.004")
    (trial,) = (path.name for path in (tuning / "cells").glob("*trial_1*"))
    edit_record(tuning, trial, label="simpo trial 0")
    assert said(list(verify(tuning).problems), "got label 'simpo trial 0', expected 'simpo trial 1'")
    shutil.rmtree(tuning / "cells" / trial)
    listed = read(tuning / "manifest.json")["cells"]
    patch(tuning / "manifest.json", {"cells": [each for each in listed if each[0] != "simpo trial 1"]})
    assert said(list(verify(tuning).problems), "got no cell simpo trial 1 on qwen, seed 0 in cells")


# -- settings, data, start checkpoint --
@pytest.mark.parametrize(
    ("setting", "value"),
    [("budget", "pairs=65"), ("dataset", "other"), ("batch_pairs", 32), ("preset", "paper"), ("limit", 10)],
)
def test_a_board_that_is_not_the_manifests_is_named(run: Path, setting: str, value: Any) -> None:
    edit_record(run, SIMPO, **{f"board__{setting}": value})
    assert said(found(run), f"cells/{SIMPO}/record.json", f"got board.{setting} {value!r}", "as in manifest.json")
    for cell in CELLS:
        edit_record(run, cell, **{f"board__{setting}": value})
    assert said(found(run), f"cells/{BASE}/record.json", f"got board.{setting} {value!r}", "as in manifest.json")
    patch(run / "manifest.json", {f"decisive.{setting}": value})
    assert said(found(run), f"manifest.json: got decisive.{setting} {value!r}", "as its run gives")


def test_a_protocol_on_a_board_that_is_not_the_records_is_named(run: Path) -> None:
    edit_record(run, SIMPO, board__protocol=2)
    assert said(found(run), f"cells/{SIMPO}/record.json", "got board.protocol 2, expected 1")


def relabel(run: Path, preset: str) -> None:
    """Give a run another preset wherever the preset stands, but for run.toml and the start checkpoint itself."""
    settings = run_of({**read(run / "manifest.json")["run"], "preset": preset})
    board = settings.decisive().as_json()
    for cell in CELLS:
        edit_record(run, cell, board=board, model__preset=preset)
        if "learning_rate" in (record := read(run / "cells" / cell / "record.json")) and record["seed"] is not None:
            edit_record(run, cell, learning_rate=board["learning_rate"])
    patch(run / "manifest.json", {"decisive": board, "run": settings.as_json()})


def test_a_preset_that_was_relabelled_everywhere_is_not_that_of_the_start_checkpoint(run: Path) -> None:
    for cell in CELLS:
        edit_record(run, cell, model__preset="paper")
    assert said(found(run), "got model.preset 'paper', expected 'nano' of qwen under the preset nano")
    relabel(run, "paper")
    problems = found(run)
    assert said(problems, "run.toml: got preset 'nano', expected 'paper' as in manifest.json")
    assert said(problems, f"cells/{SIMPO}/record.json", "got model.revision", "under the preset paper")
    manifest = read(run / "manifest.json")
    (run / "run.toml").write_text(Run(**manifest["run"]).as_toml())
    assert said(found(run), f"cells/{BASE}/record.json", "got model.revision '0123456789abcdef'")


def test_a_manifest_whose_seeds_or_models_are_others_is_named(run: Path) -> None:
    patch(run / "manifest.json", {"run.seeds": [0, 1, 2]})
    problems = found(run)
    assert said(problems, "manifest.json: got no cell simpo on qwen, seed 2 in cells", "plugins dpo:beta=0.2,simpo")
    assert said(problems, "run.toml: got seeds [0], expected [0, 1, 2] as in manifest.json")
    patch(run / "manifest.json", {"run.seeds": [0], "run.models": ["gemma"], "models": ["gemma"]})
    problems = found(run)
    assert said(problems, "manifest.json: got no 'qwen' in models")
    assert said(problems, "run.toml: got models ['qwen'], expected ['gemma']")


def test_tokens_that_were_changed_for_a_whole_model_are_not_the_manifests(run: Path) -> None:
    for cell in CELLS:
        edit_record(run, cell, tokens_fingerprint="others")
    problems = found(run)
    assert said(problems, f"cells/{SIMPO}/record.json", "got tokens_fingerprint 'others', expected 'tokens' as in mani")
    patch(run / "manifest.json", {"start_checkpoints": {}})
    write(run)
    text, code = run_verify(run)
    assert code == 0, text
    assert "note: not checked: whether the tokens of all cells of qwen were changed alike" in text


def test_a_start_checkpoint_that_one_record_tells_otherwise_is_named(run: Path) -> None:
    edit_record(run, SIMPO, model__parameters=7_000_000, model__id="Qwen/Qwen2.5-7B")
    problems = found(run)
    assert said(problems, "got model.parameters 7000000, expected 1000 as in")
    assert said(problems, "got model.id 'Qwen/Qwen2.5-7B', expected 'nano-qwen'")
    edit_record(run, DPO, start_fingerprint="another")
    assert said(found(run), f"{DPO}/record.json", "got start_fingerprint 'another', expected 'start'")


def test_notes_of_the_data_that_were_taken_out_are_missed(run: Path) -> None:
    patch(run / "manifest.json", {"dataset.notes": ["a trial, not a result"]})
    assert said(found(run), f"{SIMPO}/record.json", "got dataset.notes ()", "('a trial, not a result',)")


def test_settings_that_another_version_may_have_set_are_said_and_no_problem(run: Path) -> None:
    board = read(run / "manifest.json")["decisive"] | {"max_length": 200}
    for cell in CELLS:
        edit_record(run, cell, board=board)
    patch(run / "manifest.json", {"decisive": board})
    assert said(found(run), "manifest.json: got decisive.max_length 200, expected 384 as its run gives")
    patch(run / "manifest.json", {"harness": "0.0.9"})
    write(run)
    text, code = run_verify(run)
    assert code == 0, text
    assert "not checked: got decisive.max_length 200" in text


# -- the grid --
def test_a_cell_that_was_deleted_with_its_line_in_the_manifest_is_missed(run: Path) -> None:
    shutil.rmtree(run / "cells" / DPO)
    write(run)
    text, code = run_verify(run)
    assert code == 0, text  # the board says so too
    assert "note: 1 of 2 cells that were asked for have no record: dpo(beta=0.2) on qwen, seed 0" in text
    patch(run / "manifest.json", {"cells": [["simpo", "qwen", 0]]})
    assert said(found(run), "manifest.json: got no cell dpo(beta=0.2) on qwen, seed 0 in cells", "copy the run anew")


@pytest.mark.parametrize("cell", [BASE, LONGER])
def test_a_baseline_row_that_was_deleted_is_missed(run: Path, cell: str) -> None:
    shutil.rmtree(run / "cells" / cell)
    assert said(found(run), f"cells: got no row {cell.split('--')[1]} of qwen")


def test_a_cell_of_merged_runs_that_was_deleted_with_its_line_is_missed(
    whole_run: Path, other_run: Path, tmp_path: Path
) -> None:
    from harness.exchange.merge import merge

    into = tmp_path / "into"
    merge([whole_run, other_run], into)
    assert verify(into).problems == ()
    assert set(read(into / "manifest.json")["start_checkpoints"]) == {"qwen"}
    shutil.rmtree(into / "cells" / DPO)
    manifest = read(into / "manifest.json")
    patch(into / "manifest.json", {"cells": [cell for cell in manifest["cells"] if cell[0] != "dpo(beta=0.2)"]})
    assert said(found(into), f"cells: got no {DPO}, expected it as manifest.json has it of run")


# -- log-probs and rewards --
def test_log_probs_of_base_that_were_lowered_are_not_the_references(run: Path, tables: Tables) -> None:
    rows, responses = tables("base")
    lower = {name: rows[name] - 1e-12 for name in rows.columns if name.endswith("sum_logp")}
    low = responses.assign(sum_logp=responses["sum_logp"] - 1e-12, ref_sum_logp=responses["ref_sum_logp"] - 1e-12)
    put(run, BASE, rows.assign(**lower), low)
    problems = found(run)
    for cell in (SIMPO, DPO):
        assert said(problems, f"cells/{cell}/responses.parquet", f"than sum_logp in {BASE} for 48", "bit for bit")
    put(run, BASE, rows, responses.assign(ref_sum_logp=responses["ref_sum_logp"] - 1e-12))
    assert said(found(run), f"cells/{BASE}/responses.parquet", "another sum_logp than ref_sum_logp for 48 responses")


@pytest.mark.parametrize(("apart", "fits"), [(5e-4, True), (5e-3, False)])  # in fp32 the canary allows 1e-3 nats
def test_log_probs_of_base_may_be_those_of_another_machine_as_nearly_as_merged_ones(
    run: Path, tables: Tables, apart: float, fits: bool
) -> None:
    rows, responses = tables("base")
    near = {name: rows[name] - apart for name in rows.columns if name.endswith("sum_logp")}
    put(run, BASE, rows.assign(**near), responses.assign(
        sum_logp=responses["sum_logp"] - apart, ref_sum_logp=responses["ref_sum_logp"] - apart))  # fmt: skip
    for cell in CELLS:
        edit_record(run, cell, environment={"device": "another" if cell in (BASE, LONGER) else "cpu"})
    write(run)
    problems = list(verify(run).problems)
    assert said(problems, f"{DPO}/responses.parquet", "the same within 0.001 nats") if not fits else not problems


def test_tables_that_were_swapped_between_two_cells_are_named_by_their_rewards(run: Path, tables: Tables) -> None:
    put(run, SIMPO, *tables("dpo(beta=0.2)"))
    put(run, DPO, *tables("simpo"))
    problems = found(run)
    assert said(problems, f"cells/{SIMPO}/responses.parquet", "another reward than simpo gives", "for 48 responses")
    assert said(problems, f"cells/{DPO}/responses.parquet", "another reward than dpo(beta=0.2) gives")


def test_tables_that_were_swapped_between_two_seeds_of_one_loss_are_named_by_the_cell_they_are_of(
    run: Path, add_cell: Callable[..., None], tables: Tables
) -> None:
    add_cell(run, "simpo", tables("simpo"), seed=1)
    cells = [run / "cells" / SIMPO, run / "cells" / SIMPO.replace("seed0", "seed1")]
    for name in ("rows.parquet", "responses.parquet"):
        mine, its = ((cell / name).read_bytes() for cell in cells)
        (cells[0] / name).write_bytes(its)
        (cells[1] / name).write_bytes(mine)
    for cell in cells:
        edit_record(run, cell.name, files={path.name: file_hash(path) for path in cell.glob("*.parquet")})
    problems = found(run)
    assert said(problems, f"cells/{SIMPO}/rows.parquet: got a table of {cells[1].name}, expected one of {SIMPO}")
    assert said(problems, f"cells/{cells[1].name}/responses.parquet: got a table of {SIMPO}")


def test_tables_that_do_not_name_their_cell_are_said_and_no_problem(run: Path, tables: Tables) -> None:
    put(run, SIMPO, *tables("simpo"))
    text, code = run_verify(run)
    assert code == 0, text
    assert f"note: not checked: tables of 1 cells do not name theirs (earlier version): {SIMPO}" in text


def test_rewards_that_are_not_the_losses_own_are_named(run: Path, tables: Tables) -> None:
    rows, responses = tables("simpo")
    reward = responses["reward"].where(responses.index != 3, 99.0)
    put(run, SIMPO, rows.assign(reward_rejected=rows["reward_rejected"].where(rows.index != 1, 99.0)),
        responses.assign(reward=reward))  # fmt: skip
    assert said(found(run), f"cells/{SIMPO}/responses.parquet", "for 1 responses (response03)")


def test_rewards_that_another_version_gave_are_said_and_no_problem(run: Path, tables: Tables) -> None:
    rows, responses = tables("simpo")
    doubled = {name: 2 * rows[name] for name in ("reward_chosen", "reward_rejected")}
    put(run, SIMPO, rows.assign(**doubled), responses.assign(reward=2 * responses["reward"]))
    edit_record(run, SIMPO, loss__plugin="preference-harness", loss__version="0.0.1")
    write(run)
    text, code = run_verify(run)
    assert code == 0, text
    assert "not checked: rewards of simpo: it gives others, made by preference-harness 0.0.1, here is" in text


@pytest.mark.parametrize("cell", [BASE, LONGER])
def test_rewards_of_baseline_rows_are_what_their_names_say(run: Path, tables: Tables, cell: str) -> None:
    rows, responses = tables(cell.split("--")[1])
    put(run, cell, rows.assign(reward_chosen=1.0, reward_rejected=1.0), responses.assign(reward=1.0))
    assert said(found(run), f"cells/{cell}/responses.parquet", "got another reward than")


def test_losing_pairs_that_were_made_missing_in_both_tables_are_named(run: Path, tables: Tables) -> None:
    rows, responses = tables("simpo")
    lost = rows["reward_chosen"] < rows["reward_rejected"]
    assert lost.any()
    gone = responses["response_id"].isin(rows.loc[lost, "rejected_response_id"])
    names = ("rejected_sum_logp", "reward_rejected")
    put(run, SIMPO, rows.assign(**{name: rows[name].mask(lost) for name in names}),
        responses.assign(sum_logp=responses["sum_logp"].mask(gone), reward=responses["reward"].mask(gone)))  # fmt: skip
    problems = found(run)
    assert said(problems, f"{SIMPO}/responses.parquet", f"got no sum_logp of {gone.sum()} responses", "every system of")
    put(run, SIMPO, rows.assign(reward_rejected=rows["reward_rejected"].mask(lost)),
        responses.assign(reward=responses["reward"].mask(gone)))  # fmt: skip
    assert said(found(run), f"{SIMPO}/responses.parquet", f"got no reward of {gone.sum()} responses that have a log")


def test_a_hole_that_every_system_has_is_no_problem(run: Path, tables: Tables) -> None:
    for cell, label in ((SIMPO, "simpo"), (DPO, "dpo(beta=0.2)"), (BASE, "base")):
        rows, responses = tables(label)
        names = [f"{side}chosen_sum_logp" for side in ("", "ref_")] + ["reward_chosen"]
        own = ["sum_logp", "ref_sum_logp", "reward"]
        put(run, cell, rows.assign(**{name: rows[name].mask(rows.index == 0) for name in names}),
            responses.assign(**{name: responses[name].mask(responses.index == 0) for name in own}))  # fmt: skip
    write(run)
    text, code = run_verify(run)
    assert code == 0, text
    assert "3 log-probs are missing, each from every system of its model" in text


# -- the page --
def test_a_page_that_was_edited_is_named_by_the_line(run: Path) -> None:
    page = run / "leaderboard.html"
    text = page.read_text()
    page.write_text(text.replace("<td", '<td style="color:red"', 1))
    (problem,) = verify(run).problems
    assert problem.startswith("leaderboard.html: got another page than the records give (line ")
    assert 'style="color:red"' in problem
    assert f"rebuild it: harness leaderboard {run}" in problem
    page.write_text(text.replace("No pictures: this page was made without them.", "No pictures: DPO won."))
    assert said(list(verify(run).problems), "leaderboard.html: got another page")
    page.unlink()
    assert "note: the folder has no leaderboard.html to compare" in run_verify(run)[0]
    write(run)
    assert verify(run).problems == ()


def test_a_page_that_says_why_it_has_no_pictures_is_compared(run: Path) -> None:
    page = run / "leaderboard.html"
    text, left_out = page.read_text(), "No pictures: this page was made without them."
    lacking = "altair and vl-convert-python are not installed; pip install &#x27;preference-harness[plots]&#x27; and "
    page.write_text(text.replace(left_out, f"No pictures: {lacking}rebuild the leaderboard."))
    assert "leaderboard.html as the records give it, byte for byte" in run_verify(run)[0]
    page.write_text(text.replace(left_out, "No pictures: drawing them failed, ValueError: no colour"))
    verdict, code = run_verify(run)
    assert code == 0, verdict
    assert "note: not checked: its line on why it has no pictures" in verdict


def test_a_page_of_another_version_is_said_to_be_not_checked(run: Path) -> None:
    page = run / "leaderboard.html"
    page.write_text(page.read_text().replace("<style>\n", "<style>\n.of-another-version { color: red }\n"))
    text, code = run_verify(run)
    assert code == 0, text
    assert "note: not checked: another version of the harness wrote it" in text


def test_a_page_with_pictures_is_compared_and_its_pictures_where_what_draws_them_is_here(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("altair", reason="the extra plots is not installed")
    pytest.importorskip("vl_convert", reason="the extra plots is not installed")
    assert write(run, draw=True)
    page, plots = run / "leaderboard.html", run / "plots"
    assert verify(run).problems == ()
    assert "not checked: it" not in run_verify(run)[0]
    whole, specs = page.read_text(), (plots / "pictures.json").read_text()
    assert "Pairwise accuracy" in specs
    (plots / "pictures.json").write_text(specs.replace("Pairwise accuracy", "Accuracy of the best"))
    page.write_text(whole.replace("Pairwise accuracy", "Accuracy of the best"))
    assert said(list(verify(run).problems), "leaderboard.html: got another page than the records give")
    page.write_text(whole)
    monkeypatch.setattr("harness.exchange.page_check._drawn", lambda table, records: None)
    (plots / "pictures.json").write_text(specs)
    text, code = run_verify(run)
    assert code == 0, text
    assert "note: not checked: its pictures and what is said of them: what draws them is not installed here" in text
    page.write_text(whole.replace("<td", '<td style="color:red"', 1))
    assert said(list(verify(run).problems), "leaderboard.html: got another page than the records give", "color:red")
    page.write_text(whole)
    shutil.rmtree(plots)
    assert "not checked: it has pictures, and neither plots/pictures.json nor the extra" in run_verify(run)[0]
    monkeypatch.undo()
    assert "leaderboard.html as the records give it, byte for byte" in run_verify(run)[0]
    page.write_text(whole.replace("<td", '<td style="color:red"', 1))
    assert "note: not checked: without plots/pictures.json nobody can tell" in run_verify(run)[0]
