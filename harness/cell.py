"""The pipeline on one page: for a model, train its cells, then score them with one engine, then metrics and records.

    start checkpoint -> tokens -> (train a cell)* -> free memory -> engine -> (swap weights, score, metrics, record)*

Each training cell leaves its weights until they are scored; a cell is done when its record.json is there.
"""

from __future__ import annotations

import contextlib
import gc
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from harness.api import HarnessError, OpenScorer, ScorerOptions
from harness.logps.check_hot_path import check_hot_path
from harness.models.load import load_model, save_merged
from harness.planning.events import (
    CellFailed,
    CellTrained,
    Phase,
    ScoringBegins,
    StepTaken,
    Tell,
    TrainingBegins,
)
from harness.planning.grid import Cell
from harness.planning.job import Job, cell_folder, learning_rate, record_failure
from harness.planning.rates import remember_rate
from harness.run_folder.full_disk import require_room, told
from harness.run_folder.paths import SCRATCH, TRAIN_LOG, WEIGHTS, point_folder
from harness.run_folder.shown import reason_of, without_secrets
from harness.run_folder.trained import (
    TrainedCell,
    remove_points,
    remove_trained,
    waits_to_be_scored,
    write_trained,
)
from harness.score.tried import require_scorer
from harness.training.asked import asked_of, longest_answer, require_answers_fit
from harness.training.cell_record import (
    column_summaries,
    require_same_tokens,
    shared_work,
    spend,
    spent_by_points,
    write_baseline_rows,
)
from harness.training.elsewhere import score_brought
from harness.training.generations import base_answers
from harness.training.live_engine import LiveEngine
from harness.training.peak_memory import leave_out_what_is_held
from harness.training.prepared import Prepared, cell_plan, prepare, scored_requests
from harness.training.recipe import Recipe
from harness.training.score_cell import Scoring, score_cell
from harness.training.selecting import with_selection
from harness.training.trackers import Tracked, tracking
from harness.training.trainer import Trained, train
from harness.training.training_data import training_data

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def try_model(job: Job, tell: Tell) -> None:
    """Prepare a model and try whether the scorer takes it: what is refused costs no training. Writes no result.

    Raises `HarnessError` for what `run_model` could not train or score.
    """
    tell(Phase(text="start checkpoint"))
    prepared = selected(job, tell)
    require_same_tokens(prepared)
    require_answers_fit(prepared)
    tell(Phase(text=f"trying whether {job.scorer.name} takes the model"))
    require_scorer(job.scorer, job.canary, prepared.start.folder, scorer_options(prepared))


def run_model(job: Job, tell: Tell) -> None:
    """Train and score the cells of a model that have no record yet, and its baseline rows."""
    tell(Phase(text="start checkpoint"))
    prepared = selected(job, tell)
    require_same_tokens(prepared)
    require_answers_fit(prepared)
    for cell in job.cells:
        folder = cell_folder(job, cell.key)
        start, evaluate_at = prepared.start.fingerprint, job.run.evaluate_at
        if not waits_to_be_scored(folder, start, prepared.tokens_fingerprint, evaluate_at):
            tell(TrainingBegins(key=cell.key))
            attempt(job, cell, tell, partial(train_cell, prepared, cell, tell))
            free_memory()  # Trainer and its callbacks hold each other, and with them the model and its optimiser
    tell(Phase(text=f"scoring with {job.scorer.name}"))
    score_cells(prepared, tell)


def selected(job: Job, tell: Tell) -> Prepared:
    """Return what the cells of a model share, with the training pairs that are trained on."""
    prepared = with_selection(prepare(job, tell), tell)
    free_memory()  # of the model that the selector read, and of its probe
    return prepared


# -- training ----------------------------------------------------------------------------------------------------------
def train_cell(prepared: Prepared, cell: Cell, tell: Tell) -> None:
    """Train one cell and leave its weights, its step log and `trained.json`, written last."""
    job, loss, settings = prepared.job, cell.system.loss, prepared.job.run.settings
    folder, weights = cell_folder(job, cell.key), prepared.start.folder
    # as much as training leaves, at its end and at each earlier point
    bytes_left = max(1, len(job.run.evaluate_at)) * sum(file.stat().st_size for file in weights.glob("*.safetensors"))
    require_room(folder, bytes_left, f"the trained weights of {cell.system.label}")
    folder.mkdir(parents=True, exist_ok=True)
    remove_trained(folder)
    leave_out_what_is_held()
    plan = cell_plan(prepared, cell)
    visited = plan.visited()
    # full training keeps fp32 weights under bf16 autocast: at the field's learning rates bf16 updates round to nothing
    dtype = "float32" if job.run.adapter == "full" else settings.dtype
    model = load_model(weights, dtype, job.run.adapter, job.run.trust_remote_code, cell.seed)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    if not job.run.plain_path:
        check_hot_path(model, prepared.tokens.pairs[0], dtype=settings.dtype, name=job.model)
    data = training_data(prepared, loss, model, visited, cell.seed)
    recipe = recipe_of(job, cell)

    def on_step(step: int, step_loss: float) -> None:
        tell(StepTaken(key=cell.key, step=step, steps=plan.steps, loss=step_loss))

    def keep(fraction: float) -> None:
        with told(folder, f"the weights of {cell.system.label} at {fraction:.10g} of its budget", bytes_left):
            save_merged(model, point_folder(folder, fraction) / WEIGHTS)

    with tracking(recipe.tracked):
        trained = train(model, loss, data, plan, recipe, folder / SCRATCH, on_step, keep)
    shutil.rmtree(folder / SCRATCH, ignore_errors=True)
    with told(folder, f"the step log and the trained weights of {cell.system.label}", bytes_left):
        leave(trained, model, folder)
    left = TrainedCell(
        status=trained.status,
        reason=trained.reason,
        start_fingerprint=prepared.start.fingerprint,
        tokens_fingerprint=prepared.tokens_fingerprint,
        spend=spend(prepared, loss, trained, data.reference, plan),
        prepared=column_summaries(data.columns, visited),
        **spent_by_points(prepared, loss, trained, data.reference),
    )
    write_trained(folder, left)
    remember_rate(job.cache, job.run, prepared.start.parameters, left.spend)
    last = float(trained.log["loss"].iloc[-1]) if len(trained.log) else float("nan")
    tell(CellTrained(key=cell.key, status=trained.status, reason=trained.reason, seconds=trained.seconds, loss=last))


def recipe_of(job: Job, cell: Cell) -> Recipe:
    """Return how a cell is trained."""
    settings = job.run.settings
    return Recipe(
        learning_rate=learning_rate(job, cell.system),
        micro_pairs=settings.micro_pairs,
        seed=cell.seed,
        dtype=settings.dtype,
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
        save_merged(model, folder / WEIGHTS)
    except BaseException:  # half of them would only fill the disk
        shutil.rmtree(folder / WEIGHTS, ignore_errors=True)
        raise


def free_memory() -> None:
    """Give back what the last cell held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


# -- scoring -----------------------------------------------------------------------------------------------------------
def score_cells(prepared: Prepared, tell: Tell) -> None:
    """Score the start checkpoint and every trained cell with one live engine, swapping weights; write the records."""
    job, requests, options = prepared.job, prepared.held_out.requests, scorer_options(prepared)
    # the canary first: vLLM takes most of the accelerator's free memory
    canary = job.canary.open(prepared.start.folder, options) if job.canary else None
    began = time.perf_counter()
    engine = job.scorer.open(prepared.start.folder, options)
    shared = shared_work(prepared, time.perf_counter() - began)
    tell(shared)
    try:
        tell(ScoringBegins(key=None))
        base, asked = engine.score(requests), asked_of(prepared)
        dev = engine.score(prepared.dev.requests) if prepared.dev else None
        scoring = Scoring(prepared=prepared, engine=engine, canary=canary, base=base, dev=dev, asked=asked, tell=tell)
        answers = partial(base_answers, asked, engine, tell) if asked else None
        write_baseline_rows(prepared, base, scoring.parity(base), shared, answers)
        for cell in job.cells:
            attempt(job, cell, tell, partial(score_cell, scoring, cell))
        score_beside(job, engine, canary, tell)
    finally:
        engine.close()
        if canary:
            canary.close()


def scorer_options(prepared: Prepared) -> ScorerOptions:
    """Return how the scorers of a model are opened."""
    run, requests = prepared.job.run, scored_requests(prepared)
    return ScorerOptions(
        dtype=run.settings.dtype,
        max_length=max(longest_answer(prepared), *(len(each.prompt) + len(each.response) for each in requests)),
        max_new_tokens=run.max_new_tokens if run.generate else 0,
        seed=0,
        trust_remote_code=run.trust_remote_code,
    )


def score_beside(job: Job, engine: OpenScorer, canary: OpenScorer | None, tell: Tell) -> None:
    """Score with this engine the checkpoints from elsewhere that it takes and that stand beside this model.

    The others need an engine, or a board, of their own: they are left to the command, which says what fails.
    """
    for brought in job.brought:
        lent = LiveEngine(job=job, engine=engine, canary=canary, lent=True)
        with contextlib.suppress(Exception):
            score_brought(job, brought, tell, lent)


def attempt(job: Job, cell: Cell, tell: Tell, work: Callable[[], None]) -> None:
    """Do the work of one cell; whatever it raises costs this cell alone and stands in its record."""
    try:
        work()
    except Exception as error:
        reason = reason_of(error)
        tell(CellFailed(key=cell.key, reason=reason))
        record_failure(job, cell, reason)
        if not isinstance(error, HarnessError):
            import traceback

            print(without_secrets(traceback.format_exc()), file=sys.stderr)
