"""The pipeline, run for real on a nano model and very little data: the records and the events that it leaves."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
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


def job(folder: Path, *systems: System) -> Job:
    data = harness_datasets()[0].load(LoadOptions())
    cut = replace(data, train=data.train[:PAIRS], test=data.test[:PAIRS], test_lenbalanced=(), listwise_test=())
    (scorer,) = harness_scorers()
    run = make_run({"budget": f"pairs={2 * PAIRS}", "scorer": "transformers"})
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
    assert found["raises"]["reason"] == "RuntimeError: on purpose"
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
        TrainingBegins(key=raises), CellFailed(key=raises, reason="RuntimeError: on purpose"),
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
