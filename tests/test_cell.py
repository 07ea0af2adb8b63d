"""The pipeline, run for real on a nano model and very little data: the records and the events that it leaves."""

from __future__ import annotations

import hashlib
import inspect
import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
import torch
from torch import Tensor

from harness.api import LoadOptions, Loss, PairLogps, ResponseLogps, Terms
from harness.cell import run_model
from harness.data.simulator.synthetic import harness_datasets
from harness.manager import Owner, plugin_manager, resolver
from harness.planning.events import (
    CellEvent,
    CellFailed,
    CellScored,
    CellTrained,
    MemoryOut,
    Phase,
    ScoringBegins,
    SharedWork,
    StepTaken,
    TrainingBegins,
)
from harness.planning.grid import System, cells
from harness.planning.job import Job
from harness.planning.run_file import make_run
from harness.run_folder.trained import read_trained
from harness.score.transformers import harness_scorers

PAIRS = 16


@dataclass(frozen=True, kw_only=True)
class Broken(Loss):
    """Raises, or is NaN."""

    name: ClassVar[str] = "broken"
    raises: bool = False

    def terms(self, pairs: PairLogps) -> Terms:
        if self.raises:
            raise RuntimeError("on purpose")
        return Terms.of(pairs.chosen.mean() * float("nan"))

    def reward(self, response: ResponseLogps) -> Tensor:
        return response.sum


SIMPO = System(loss=resolver(plugin_manager())("simpo", {}), label="simpo")
RAISES = System(loss=Broken(raises=True), label="raises")
DIVERGES = System(loss=Broken(), label="diverges")
OWNER = Owner(entry_point="tests", distribution="tests", version="1")


@dataclass(frozen=True, kw_only=True)
class Late(Loss):
    """Sound for two steps of 8 pairs; then it raises, or is NaN."""

    name: ClassVar[str] = "late"
    raises: bool = False
    seen: list[int] = field(default_factory=list)

    def terms(self, pairs: PairLogps) -> Terms:
        self.seen.append(len(pairs.chosen.length()))
        if sum(self.seen) <= 16:
            return Terms.of(-pairs.chosen.mean())
        if self.raises:
            raise RuntimeError("too late")
        return Terms.of(pairs.chosen.mean() * float("nan"))

    def reward(self, response: ResponseLogps) -> Tensor:
        return response.sum


def job(folder: Path, *systems: System, **settings: Any) -> Job:
    data = harness_datasets()[0].load(LoadOptions())
    cut = replace(data, train=data.train[:PAIRS], test=data.test[:PAIRS], test_lenbalanced=(), listwise_test=())
    (scorer,) = harness_scorers()
    run = make_run({"budget": f"pairs={2 * PAIRS}", "scorer": "transformers"} | settings)
    return Job(
        run=run,
        model="qwen",
        cells=tuple(cells(["qwen"], systems, [0])),
        owners={system.loss.name: OWNER for system in systems},
        dataset=cut,
        scorer=scorer,
        canary=scorer,
        scorer_note="",
        folder=folder / "run",
        cache=folder / "cache",
        keep_checkpoints=True,
        side_by_side=1,
        threads=torch.get_num_threads(),
    )


def records(folder: Path) -> dict[str, dict[str, Any]]:
    read = [json.loads(path.read_text()) for path in (folder / "run").glob("cells/*/record.json")]
    return {record["label"]: record for record in read}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[CellEvent]]:
    """The folder of a run of a sound, a raising and a diverging loss, and its events."""
    folder, events = tmp_path_factory.mktemp("cell"), list[CellEvent]()
    run_model(job(folder, SIMPO, RAISES, DIVERGES), events.append)
    return folder, events


def test_every_cell_and_every_reference_row_has_its_record(ran: tuple[Path, list[CellEvent]]) -> None:
    found = records(ran[0])
    assert {label: record["status"] for label, record in found.items()} == {
        "simpo": "ok", "raises": "failed", "diverges": "diverged", "base": "ok", "longer-wins": "ok",
    }  # fmt: skip
    line = inspect.getsourcelines(Broken.terms)[1] + 2
    assert found["raises"]["reason"] == f"loss 'broken' raised RuntimeError: on purpose (test_cell.py:{line})"
    assert found["diverges"]["reason"] == "the loss is nan at step 1"
    assert (found["simpo"]["spend"]["pairs"], found["simpo"]["spend"]["steps"]) == (2 * PAIRS, 2)
    assert found["simpo"]["scorer"]["parity_max_abs_nats"] == 0.0  # its canary is the scorer itself
    assert found["simpo"]["environment"]["path"] == "fast"


def test_the_accuracy_of_a_record_is_that_of_its_rows_and_training_moved_it(ran: tuple[Path, list[CellEvent]]) -> None:
    folder, found = ran[0] / "run" / "cells", records(ran[0])
    trained, base = (pd.read_parquet(folder / found[label]["key"] / "rows.parquet") for label in ("simpo", "base"))
    wins = (trained.reward_chosen > trained.reward_rejected) + 0.5 * (trained.reward_chosen == trained.reward_rejected)
    assert len(trained) == PAIRS
    assert found["simpo"]["metrics"]["pairwise_accuracy"] == wins.mean()
    assert (trained.ref_chosen_sum_logp == base.chosen_sum_logp).all()
    assert (trained.chosen_sum_logp != base.chosen_sum_logp).all()


def test_events_tell_what_happened_to_each_cell_in_order(ran: tuple[Path, list[CellEvent]]) -> None:
    simpo, raises, diverges = (cell.key for cell in job(ran[0], SIMPO, RAISES, DIVERGES).cells)
    told = [event for event in ran[1] if not isinstance(event, Phase)]
    losses = pd.read_parquet(ran[0] / "run" / "cells" / simpo / "train.parquet")["loss"]
    steps = [StepTaken(key=simpo, step=step, steps=2, loss=loss) for step, loss in enumerate(losses, start=1)]
    trained = [event for event in told if isinstance(event, CellTrained)]
    assert [(event.key, event.status) for event in trained] == [(simpo, "ok"), (diverges, "diverged")]
    assert told[-5:] == [
        ScoringBegins(key=None),
        ScoringBegins(key=simpo), CellScored(key=simpo),
        ScoringBegins(key=diverges), CellScored(key=diverges),
    ]  # fmt: skip
    (shared,) = (event for event in told if isinstance(event, SharedWork))
    assert (shared.cells, shared.reference_cells) == (2, 0)
    assert told[:-6] == [
        TrainingBegins(key=simpo), *steps, trained[0],
        TrainingBegins(key=raises), CellFailed(key=raises, reason=records(ran[0])["raises"]["reason"]),
        TrainingBegins(key=diverges), trained[1],
    ]  # fmt: skip
    phases = [event.text for event in ran[1] if isinstance(event, Phase)]
    assert (phases[0], phases[-1]) == ("start checkpoint", "scoring with transformers")


def test_a_cell_that_is_trained_is_scored_without_being_trained_again(ran: tuple[Path, list[CellEvent]]) -> None:
    folder, again = ran[0], job(ran[0], SIMPO)
    cell = folder / "run" / "cells" / again.cells[0].key
    before, trained = records(folder)["simpo"], read_trained(cell)
    (cell / "record.json").unlink()
    events: list[CellEvent] = []
    run_model(again, events.append)
    assert not any(isinstance(event, TrainingBegins) for event in events)
    assert read_trained(cell) == trained
    assert records(folder)["simpo"]["metrics"] == before["metrics"]


class Large(Late):
    """Needs more memory than there is for more than two pairs."""

    name = "large"

    def terms(self, pairs: PairLogps) -> Terms:
        if len(pairs.chosen.length()) > 2:
            torch.empty(2**52, dtype=torch.uint8)
        return Terms.of(-pairs.chosen.mean())


def test_a_cell_that_is_out_of_memory_goes_on_with_fewer_pairs_at_once_and_its_record_alone_says_so(
    ran: tuple[Path, list[CellEvent]], tmp_path: Path
) -> None:
    asked = replace(job(tmp_path, System(loss=Large(), label="large"), SIMPO, micro_pairs=8), cache=ran[0] / "cache")
    events: list[CellEvent] = []
    run_model(asked, events.append)
    found = records(tmp_path)
    assert [event for event in events if isinstance(event, MemoryOut)] == [
        MemoryOut(key=asked.cells[0].key, step=1, pairs=2)
    ]
    assert (found["large"]["status"], found["large"]["spend"]["micro_pairs"]) == ("ok", 2)
    assert "micro_pairs" not in found["simpo"]["spend"]
    assert found["simpo"]["board"] == found["large"]["board"]  # it stands in the same table


# -- points along the run ----------------------------------------------------------------------------------------------

AT = {"evaluate_at": (0.5, 1.0), "batch_pairs": 8, "micro_pairs": 8}
"""Four steps, scored after the second and the fourth."""
OF_THE_CLOCK = ("spend", "scorer", "environment", "points", "sha256")


@pytest.fixture(scope="module")
def ran_twice(
    ran: tuple[Path, list[CellEvent]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, list[CellEvent]]:
    """The folder of a cell without points, and that of the same cell with them and its events."""
    plain, pointed = (tmp_path_factory.mktemp(name) for name in ("plain", "pointed"))
    events: list[CellEvent] = []
    run_model(replace(job(plain, SIMPO, batch_pairs=8, micro_pairs=8), cache=ran[0] / "cache"), lambda event: None)
    run_model(replace(job(pointed, SIMPO, **AT), cache=ran[0] / "cache"), events.append)
    return plain, pointed, events


def cell_of(folder: Path, label: str = "simpo") -> Path:
    return folder / "run" / "cells" / str(records(folder)[label]["key"])


def test_the_end_of_a_run_with_points_is_in_every_bit_that_of_one_without(
    ran_twice: tuple[Path, Path, list[CellEvent]],
) -> None:
    plain, pointed, _ = ran_twice
    for name in ("rows.parquet", "responses.parquet", "train.parquet"):
        assert (cell_of(plain) / name).read_bytes() == (cell_of(pointed) / name).read_bytes()
    one, other = (records(folder)["simpo"] for folder in (plain, pointed))
    assert "points" not in one
    assert {key: one[key] for key in one if key not in OF_THE_CLOCK} == {
        key: other[key] for key in other if key not in OF_THE_CLOCK
    }


def test_each_point_has_its_tables_and_the_last_is_the_cell_itself(
    ran_twice: tuple[Path, Path, list[CellEvent]],
) -> None:
    record, cell = records(ran_twice[1])["simpo"], cell_of(ran_twice[1])
    half, end = record["points"]
    assert [(point["fraction"], point["step"], point["pairs"]) for point in (half, end)] == [(0.5, 2, 16), (1, 4, 32)]
    assert 0 < half["tokens"] < end["tokens"] == record["spend"]["tokens"]
    assert half["flops"] == pytest.approx(6 * record["model"]["parameters"] * half["tokens"])
    for point, name in ((half, "0.5"), (end, "1")):
        for table, known in point["files"].items():
            digest = hashlib.sha256((cell / "points" / name / table).read_bytes()).hexdigest()
            assert known == f"sha256:{digest}"
        rows = pd.read_parquet(cell / "points" / name / "rows.parquet")
        wins = (rows.reward_chosen > rows.reward_rejected) + 0.5 * (rows.reward_chosen == rows.reward_rejected)
        assert point["metrics"]["pairwise_accuracy"] == wins.mean()
    own, at_end, at_half = (pd.read_parquet(cell / place / "rows.parquet") for place in (".", "points/1", "points/0.5"))
    assert own.equals(at_end)
    assert (at_half.ref_chosen_sum_logp == own.ref_chosen_sum_logp).all()
    assert (at_half.chosen_sum_logp != own.chosen_sum_logp).all()
    assert (at_half.chosen_sum_logp != own.ref_chosen_sum_logp).all()


def test_weights_at_points_are_gone_when_they_are_scored_and_those_at_the_end_are_kept_where_asked(
    ran_twice: tuple[Path, Path, list[CellEvent]],
) -> None:
    cell = cell_of(ran_twice[1])
    left = sorted(str(path.relative_to(cell / "points")) for path in cell.glob("points/*/*"))
    assert left == ["0.5/responses.parquet", "0.5/rows.parquet", "1/responses.parquet", "1/rows.parquet"]
    assert (cell / "weights").is_dir()


def test_points_of_a_run_killed_before_it_scored_are_found_again_and_trained_again_where_lost(
    ran: tuple[Path, list[CellEvent]],
    ran_twice: tuple[Path, Path, list[CellEvent]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = replace(job(tmp_path, SIMPO, **AT), cache=ran[0] / "cache")
    monkeypatch.setattr("harness.cell.score_cells", lambda prepared, tell: None)  # as if it was killed there
    run_model(asked, lambda event: None)
    monkeypatch.undo()
    cell = tmp_path / "run" / "cells" / asked.cells[0].key
    assert (cell / "points" / "0.5" / "weights").is_dir()
    found: list[CellEvent] = []
    run_model(asked, found.append)
    assert not any(isinstance(event, TrainingBegins) for event in found)
    assert cell_of(tmp_path) == cell
    tables = [point["files"] for point in records(tmp_path)["simpo"]["points"]]
    assert tables == [point["files"] for point in records(ran_twice[1])["simpo"]["points"]]
    (cell / "record.json").unlink()  # and now without the weights at the point, which are gone
    again: list[CellEvent] = []
    run_model(asked, again.append)
    assert any(isinstance(event, TrainingBegins) for event in again)
    assert [point["files"] for point in records(tmp_path)["simpo"]["points"]] == tables


def test_points_of_adapters_are_scored_merged_and_leave_the_end_as_it_is(
    ran: tuple[Path, list[CellEvent]], tmp_path: Path
) -> None:
    lora = {"adapter": "lora", "batch_pairs": 8, "micro_pairs": 8}
    run_model(replace(job(tmp_path / "plain", SIMPO, **lora), cache=ran[0] / "cache"), lambda event: None)
    run_model(replace(job(tmp_path / "pointed", SIMPO, **AT | lora), cache=ran[0] / "cache"), lambda event: None)
    plain, pointed = (cell_of(tmp_path / name) for name in ("plain", "pointed"))
    assert (plain / "rows.parquet").read_bytes() == (pointed / "rows.parquet").read_bytes()
    at_half, own = (pd.read_parquet(pointed / place / "rows.parquet") for place in ("points/0.5", "."))
    assert (at_half.chosen_sum_logp != own.chosen_sum_logp).all()
    assert (at_half.chosen_sum_logp != own.ref_chosen_sum_logp).all()
    left = {path.name for path in pointed.rglob("*.safetensors")} | {path.name for path in pointed.rglob("config.json")}
    assert left == {"adapter_model.safetensors"}  # with --keep-checkpoints; what was merged is gone
    assert (pointed / "weights" / "tokenizer.json").is_file()


def test_an_adapter_that_changes_no_score_costs_its_cell_and_one_that_learned_nothing_does_not(
    ran: tuple[Path, list[CellEvent]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_merged(start: Path, adapter: Path, folder: Path, *others: Any) -> None:
        shutil.copytree(start, folder)

    monkeypatch.setattr("harness.training.score_cell.write_merged", not_merged)
    lora = {"adapter": "lora:r=2", "batch_pairs": 8, "micro_pairs": 8}
    for name, rate, status in (("learned", 1e-3, "failed"), ("nothing", 1e-60, "ok")):
        asked = job(tmp_path / name, SIMPO, **lora, learning_rate=rate)
        run_model(replace(asked, cache=ran[0] / "cache"), lambda event: None)
        record = records(tmp_path / name)["simpo"]
        assert record["status"] == status
        if status == "failed":
            assert "changed none of 32 log-probs of the start checkpoint, expected some" in record["reason"]


@pytest.mark.parametrize(("raises", "status"), [(True, "failed"), (False, "diverged")])
def test_a_cell_that_fails_or_diverges_after_a_point_leaves_nothing_of_it(
    raises: bool, status: str, ran: tuple[Path, list[CellEvent]], tmp_path: Path
) -> None:
    asked = job(tmp_path, System(loss=Late(raises=raises), label="late"), **AT)
    run_model(replace(asked, cache=ran[0] / "cache"), lambda event: None)
    record = records(tmp_path)["late"]
    assert (record["status"], "points" in record) == (status, False)
    assert not (cell_of(tmp_path, "late") / "points").exists()
    assert not list(cell_of(tmp_path, "late").rglob("*.safetensors"))


def test_a_cell_is_not_trained_where_the_disk_has_no_room_for_its_weights_at_every_point(
    ran: tuple[Path, list[CellEvent]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum(path.stat().st_size for path in cell_of(ran[0]).glob("weights/*.safetensors"))
    monkeypatch.setattr("harness.run_folder.full_disk._free", lambda folder: 2 * size - 1)  # for one, not for two
    run_model(replace(job(tmp_path, SIMPO, **AT), cache=ran[0] / "cache"), lambda event: None)
    record = records(tmp_path)["simpo"]
    assert record["status"] == "failed"
    assert "for the trained weights of simpo" in record["reason"]
