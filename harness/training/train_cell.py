"""A cell, trained or gone on with: its weights, its step log and what is said of them, for scoring."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

import harness
from harness.api import Loss
from harness.data.tokens import TokenPair
from harness.logps.check_hot_path import check_hot_path
from harness.logps.response_logps import recompute_activations
from harness.models.adapters import has_adapter, save_adapter
from harness.models.load import load_model, save_whole
from harness.planning.budget import Plan
from harness.planning.ending import Ending
from harness.planning.events import CellTrained, CheckpointWritten, MemoryOut, StepTaken, Tell, TrainingGoesOn
from harness.planning.grid import Cell
from harness.planning.job import Job, cell_folder, learning_rate, log_path
from harness.planning.rates import remember_rate
from harness.planning.run_file import Run
from harness.run_folder.checkpoints import (
    Origin,
    find_checkpoint,
    remove_behind,
    remove_checkpoints,
    step_of,
    why_unusable,
)
from harness.run_folder.full_disk import require_room, told
from harness.run_folder.hashes import file_hash, hashes_below
from harness.run_folder.paths import SCRATCH, TRAIN_LOG, WEIGHTS, point_folder
from harness.run_folder.trained import TrainedCell, remove_points, remove_trained, write_trained
from harness.training.cell_record import column_summaries, spend, spent_by_points
from harness.training.checkpoints import Checkpoints
from harness.training.loss_inputs import TrainingData
from harness.training.out_of_memory import out_of_memory_told
from harness.training.peak_memory import leave_out_what_is_held, libraries_of
from harness.training.prepared import Prepared, cell_plan
from harness.training.recipe import Recipe
from harness.training.recomputing import recomputes_here
from harness.training.together import Task, together
from harness.training.trackers import Tracked, tracking
from harness.training.trainer import Trained, train
from harness.training.training_data import training_data

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@out_of_memory_told()
def train_cell(prepared: Prepared, cell: Cell, tell: Tell, ending: Ending) -> None:
    """Train one cell, or go on with it, and leave its weights, its step log and `trained.json`, written last.

    Raises `EndedError` where `ending` is asked for in the meantime.
    """
    job, loss, label = prepared.job, cell.system.loss, cell.system.label
    folder, bytes_left = cell_folder(job, cell.key), _left_bytes(prepared)
    require_room(folder, bytes_left, f"the trained weights of {label}")
    folder.mkdir(parents=True, exist_ok=True)
    origin = origin_of(prepared, cell)
    found = begin_or_go_on(folder, origin, cell, tell)
    leave_out_what_is_held(libraries := libraries_of(job.run))
    plan, recipe = cell_plan(prepared, cell), recipe_of(job, cell)
    opened = start_of(prepared, cell)
    model = opened()
    data = training_data(prepared, loss, model, plan.visited(), cell.seed)
    every = job.run.checkpoint_seconds
    task = Task(
        open=opened, loss=loss, data=data, plan=plan, recipe=recipe, scratch=folder / SCRATCH, log=log_path(job),
        threads=job.threads, libraries=libraries, origin=origin, every=every, found=found,
    )  # fmt: skip

    def on_step(step: int, step_loss: float) -> None:
        tell(StepTaken(key=cell.key, step=step, steps=plan.steps, loss=step_loss))

    def smaller(step: int, pairs: int) -> None:
        tell(MemoryOut(key=cell.key, step=step, pairs=pairs))

    def keep(fraction: float) -> None:
        with told(folder, f"the weights of {label} at {fraction:.10g} of its budget", bytes_left):
            save(ranks.whole(model, opened), point_folder(folder, fraction) / WEIGHTS)

    def written(step: int, trouble: str) -> None:
        tell(CheckpointWritten(key=cell.key, step=step, trouble=trouble))

    asked = Checkpoints(cell=folder, origin=origin, every=every, ending=ending, written=written, found=found)
    with ending.held():  # until all that the training leaves is there
        with together(job.launch, task) as ranks:
            with tracking(recipe.tracked):
                trained = train(model, loss, data, plan, recipe, folder / SCRATCH, on_step, keep, asked, ranks, smaller)
            whole = ranks.whole(model, opened) if trained.status == "ok" else model
        with told(folder, f"the step log and the trained weights of {label}", bytes_left):
            leave(trained, whole, folder)
        left = facts_of(prepared, loss, trained, data, plan, folder)
        write_trained(folder, left)
        remove_checkpoints(folder)
        if job.launch is None:  # estimates are of one process
            remember_rate(job.cache, job.run, prepared.start.parameters, left.spend)
        tell(_end_of(trained, cell))


def _end_of(trained: Trained, cell: Cell) -> CellTrained:
    last = float(trained.log["loss"].iloc[-1]) if len(trained.log) else float("nan")
    status, reason, seconds = trained.status, trained.reason, trained.seconds
    return CellTrained(key=cell.key, status=status, reason=reason, seconds=seconds, loss=last)


def _left_bytes(prepared: Prepared) -> int:
    """Return as much as training leaves, at its end and at each earlier point.

    Adapters are small beside the whole weights that one at a time is merged into to be scored.
    """
    weights, run = prepared.start.folder.glob("*.safetensors"), prepared.job.run
    points = 1 if run.lora else max(1, len(run.evaluate_at))
    return points * sum(file.stat().st_size for file in weights)


def begin_or_go_on(folder: Path, origin: Origin, cell: Cell, tell: Tell) -> Path | None:
    """Return the checkpoint that a cell goes on from; what was done without it, or behind it, is removed."""
    found = find_checkpoint(folder)
    reason = why_unusable(found, origin) if found else ""
    if found and not reason:
        remove_behind(found)
        tell(TrainingGoesOn(key=cell.key, step=step_of(found)))
        return found
    remove_checkpoints(folder)
    remove_trained(folder)
    if found:
        tell(TrainingGoesOn(key=cell.key, step=0, reason=f"{found.name}: {reason}"))
    return None


def start_of(prepared: Prepared, cell: Cell) -> Callable[[], PreTrainedModel]:
    """Return what opens the start checkpoint of a cell, here or in another process."""
    job, again = prepared.job, recomputes_here(prepared, cell.system.loss)
    return partial(start_model, prepared.start.folder, job.run, cell.seed, prepared.tokens.pairs[0], job.model, again)


def start_model(
    folder: Path, run: Run, seed: int, pair: TokenPair, name: str, recomputes: bool = False
) -> PreTrainedModel:
    """Return a start checkpoint ready to be trained; `pair`: any of its pairs, to check the hot path with.

    `recomputes`: whether its activations are computed again in the backward pass.
    """
    settings = run.settings
    model = load_model(folder, run.weights_dtype, run.adapter, run.trust_remote_code, seed)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    if not run.plain_path:
        check_hot_path(model, pair, dtype=settings.dtype, name=name)
    if recomputes:
        recompute_activations(model)
    return model


def facts_of(
    prepared: Prepared, loss: Loss, trained: Trained, data: TrainingData, plan: Plan, folder: Path
) -> TrainedCell:
    """Return what is said of a training and of what it left in `folder`: the record has it all but the hashes."""
    return TrainedCell(
        status=trained.status,
        reason=trained.reason,
        start_fingerprint=prepared.start.fingerprint,
        tokens_fingerprint=prepared.tokens_fingerprint,
        spend=spend(prepared, loss, trained, data.reference, plan),
        prepared=column_summaries(data.columns, plan.visited()),
        weights=hashes_below(folder, [*folder.glob(f"**/{WEIGHTS}/*"), folder / TRAIN_LOG]),
        **spent_by_points(prepared, loss, trained, data.reference),
    )


def recipe_of(job: Job, cell: Cell) -> Recipe:
    """Return how a cell is trained."""
    settings = job.run.settings
    return Recipe(
        learning_rate=learning_rate(job, cell.system),
        micro_pairs=settings.micro_pairs,
        seed=cell.seed,
        dtype=settings.dtype,
        optimizer=job.run.optimizer,
        plain=job.run.plain_path,
        tracked=Tracked.of(job, cell),
    )


def leave(trained: Trained, model: PreTrainedModel, folder: Path) -> None:
    """Write the step log and, of a cell that did not diverge, the weights: all of them or none."""
    trained.log.to_parquet(folder / TRAIN_LOG, index=False, compression="zstd")
    if trained.status != "ok":
        remove_points(folder)
        return
    try:
        save(model, folder / WEIGHTS)
    except BaseException:  # half of them would only fill the disk
        shutil.rmtree(folder / WEIGHTS, ignore_errors=True)
        raise


def save(model: PreTrainedModel, folder: Path) -> None:
    """Write what was trained: the adapter alone where there is one, else all weights."""
    (save_adapter if has_adapter(model) else save_whole)(model, folder)


def origin_of(prepared: Prepared, cell: Cell) -> Origin:
    """Return what a checkpoint of this cell must have in common with its training now."""
    job, loss = prepared.job, cell.system.loss
    owner = job.owners[loss.name]
    used = ("torch", "transformers", *(("torchao",) if job.run.optimizer != "adamw" else ()))
    versions = {name: importlib.metadata.version(name) for name in used}
    return Origin(
        cell=cell.key,
        board=json.dumps(job.run.decisive().as_json(), sort_keys=True),
        start_fingerprint=prepared.start.fingerprint,
        tokens_fingerprint=prepared.tokens_fingerprint,
        evaluate_at=job.run.evaluate_at,
        code=_code(loss),
        versions={"preference-harness": harness.__version__, owner.distribution: owner.version, **versions},
    )


def _code(loss: Loss) -> str:
    """Return the hash of the file that defines a loss; "" where it is in none: then its key has one of its source."""
    file = getattr(sys.modules.get(type(loss).__module__), "__file__", None)
    return file_hash(Path(file)) if file and Path(file).is_file() else ""
