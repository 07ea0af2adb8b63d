"""harness verify --rerun: cells computed anew; what was made up is found, which no check of a folder alone can do."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.api import HarnessError, ResponseLogps
from harness.cli import cli
from harness.exchange.verify import verify
from harness.execute.rerun import cell_of, compare, require_computable, seed_of
from harness.leaderboard import write
from harness.manager import losses, plugin_manager
from harness.run_folder.facts import LossFacts
from harness.run_folder.manifest import read_manifest
from harness.run_folder.record import Record
from harness.run_folder.store import read_record, read_records, write_record
from harness.statistics.summary import summarise


def cell(run: Path, loss: str) -> Path:
    (folder,) = run.glob(f"cells/qwen--{loss}--*--seed0")
    return folder


def make_up(folder: Path, nats: float) -> Record:
    """Raise the log-prob of every response that a chosen side has, and make all that follows from it anew."""
    record = read_record(folder)
    rows, responses = record.rows(), record.responses()
    better = set(rows["chosen_response_id"]) - set(rows["rejected_response_id"])
    responses["sum_logp"] += np.where(responses["response_id"].isin(better), nats, 0.0)
    columns = [torch.tensor(responses[name].to_numpy()) for name in ("sum_logp", "tokens", "ref_sum_logp")]
    loss = losses(plugin_manager())[record.loss.name].from_options(record.loss.options)
    responses["reward"] = loss.reward(ResponseLogps(sum=columns[0], length=columns[1], ref_sum=columns[2])).numpy()
    by_response = responses.set_index("response_id")
    for side in ("chosen", "rejected"):
        of_side = by_response.loc[rows[f"{side}_response_id"]]
        rows[f"{side}_sum_logp"], rows[f"reward_{side}"] = of_side["sum_logp"].array, of_side["reward"].array
    metrics, reasons = summarise(rows, responses, record.averaged)
    facts = {"metrics": metrics, "metric_reasons": reasons}
    return write_record(folder, record.model_copy(update=facts), rows, responses)


@pytest.fixture
def run(small_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_run, tmp_path / "run"))


@pytest.mark.slow
def test_a_made_up_cell_is_found_and_the_others_are_equal_to_the_bit(run: Path, harness: Any) -> None:
    make_up(cell(run, "dpo"), 0.01)
    write(run, draw=False)
    assert verify(run).problems == ()  # everything in the folder agrees
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    done = harness("verify", str(run), "--rerun", "3")
    assert done.returncode == 3, done.stdout + done.stderr
    said = {line.split(": ")[0].split()[-1]: line for line in done.stdout.splitlines() if "--seed0: " in line}
    said = {key: line for key, line in said.items() if line.startswith(("  ok", "  FAILED"))}
    assert len(said) == 3
    for key, line in said.items():
        if "--dpo--" in key:
            assert line.startswith("  FAILED")
            assert "off by up to 0.01 nats, expected at most 1e-06 nats on a processor of the same kind" in line
        else:
            assert line == f"  ok      {key}: log-probs equal to the bit"
    assert f"drawn by seed {seed_of([each for each in read_records(run) if each.seed is not None])}" in done.stdout
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_the_draw_changes_with_any_record_and_only_with_them(run: Path) -> None:
    records = [each for each in read_records(run) if each.seed is not None]
    seed = seed_of(records)
    (run / "leaderboard.json").write_text("{}")
    assert seed_of(records) == seed
    make_up(cell(run, "simpo"), 1e-9)
    assert seed_of(records) != seed


@pytest.mark.parametrize(
    ("nats", "same", "tolerance", "wrong"),
    [
        (1e-7, True, None, False),
        (1e-5, True, None, True),
        (1e-5, False, None, False),
        (5.0, False, None, True),
        (1e-5, True, 1e-4, False),
        (1e-5, False, 1e-6, True),
    ],
)
def test_how_far_a_log_prob_may_lie_off_depends_on_the_processor_or_is_given(
    run: Path, small_run: Path, nats: float, same: bool, tolerance: float | None, wrong: bool
) -> None:
    made_up, anew = make_up(cell(run, "simpo"), nats), read_record(cell(small_run, "simpo"))
    if not same:
        there = anew.environment.model_copy(update={"processor": "another"})
        anew = anew.model_copy(update={"environment": there})
    found = compare(made_up, anew, tolerance)
    assert bool(found.problem) == wrong, found
    assert ("another machine (processor" in found.line) == (not same)


def test_a_record_that_does_not_say_its_processor_is_taken_for_another_machine_s(small_run: Path) -> None:
    record = read_record(cell(small_run, "simpo"))
    old = record.model_copy(update={"environment": record.environment.model_copy(update={"processor": None})})
    assert compare(old, record, None).line.endswith("log-probs equal to the bit")
    made = record.environment
    assert made.processor is not None
    assert made.processor.endswith(torch.backends.cpu.get_cpu_capability())


def test_pairs_on_the_other_side_are_counted_by_hand(run: Path, small_run: Path) -> None:
    anew = read_record(cell(small_run, "simpo"))
    made_up = make_up(cell(run, "simpo"), 1e6)  # their pairs are right now
    rows = {side: each.rows().query("split == 'test'") for side, each in (("made", made_up), ("anew", anew))}
    right = {side: (each["reward_chosen"] > each["reward_rejected"]).sum() for side, each in rows.items()}
    changed = int(right["made"] - right["anew"])
    assert changed > 0
    assert f"{changed} of 48 pairs on the other side" in compare(made_up, anew, None).problem


def test_what_cannot_be_computed_is_said_before_anything_is(small_run: Path) -> None:
    record = read_record(cell(small_run, "simpo"))
    facts = LossFacts(name="their-loss", options={}, plugin="their-losses", version="1.2")
    with pytest.raises(HarnessError, match=r"their-loss.*not installed here.*pip install their-losses==1\.2"):
        cell_of(record.model_copy(update={"loss": facts}), plugin_manager())
    own = record.loss.model_copy(update={"source": "ab" * 32})
    with pytest.raises(HarnessError, match="which a script or notebook defined"):
        cell_of(record.model_copy(update={"loss": own}), plugin_manager())
    manifest = read_manifest(small_run)
    theirs = manifest.model_copy(update={"run": {**manifest.run, "trust_remote_code": True}})
    with pytest.raises(HarnessError, match="a model's own code is not run for somebody else's run"):
        require_computable(small_run, theirs)


def test_options_of_a_rerun_need_one(small_run: Path) -> None:
    for option in (["--tolerance", "1"], ["--dataset", "embedded"]):
        with pytest.raises(HarnessError, match="without --rerun"):
            cli.main(["verify", str(small_run), *option], standalone_mode=False)
