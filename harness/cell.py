"""The pipeline on one page: for a model, train its cells, then score them with one engine, then metrics and records.

    start checkpoint -> tokens -> (train a cell)* -> free memory -> engine -> (swap weights, score, metrics, record)*

A worker may be given further cells while it trains: those of a model are shared out between devices. Each training cell
leaves its weights until they are scored; a cell is done when its record.json is there.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch

from harness.api import HarnessError, OpenScorer, ScorerOptions
from harness.models.adapters import require_targets
from harness.models.weights import read_weights
from harness.planning.ending import Ending
from harness.planning.events import CellFailed, Phase, ScorerRestarts, ScoringBegins, Tell, TrainingBegins
from harness.planning.grid import Cell
from harness.planning.job import Job, cell_folder, record_failure
from harness.run_folder.full_disk import print_trouble
from harness.run_folder.one_at_a_time import one_at_a_time
from harness.run_folder.shown import without_secrets
from harness.run_folder.trained import waits_to_be_scored
from harness.score.restarting import Restarting
from harness.score.tried import require_scorer
from harness.training.asked import asked_of, longest_answer, require_answers_fit
from harness.training.cell_record import require_same_tokens, shared_work, write_baseline_rows
from harness.training.elsewhere import score_brought
from harness.training.generations import base_answers
from harness.training.live_engine import LiveEngine
from harness.training.own_errors import reason_in
from harness.training.prepared import Prepared, prepare, scored_requests
from harness.training.score_cell import Scoring, score_cell
from harness.training.selecting import with_selection
from harness.training.train_cell import train_cell

More = Callable[[], Cell | None]
"""`more()`: how a worker asks for a further cell."""


def try_model(job: Job, tell: Tell) -> None:
    """Prepare a model and try whether the scorer takes it: what is refused costs no training. Writes no result.

    Raises `HarnessError` for what `run_model` could not train or score.
    """
    tell(Phase(text="start checkpoint"))
    prepared = selected(job, tell)
    require_same_tokens(prepared)
    require_answers_fit(prepared)
    if job.run.lora:
        weights = read_weights(prepared.start.folder, job.run.trust_remote_code)
        require_targets(job.run.lora, weights, job.model)
    tell(Phase(text=f"trying whether {job.scorer.name} takes the model"))
    require_scorer(job.scorer, job.canary, prepared.start.folder, scorer_options(prepared))


def run_model(job: Job, tell: Tell, ending: Ending | None = None, more: More | None = None) -> None:
    """Train and score the cells of a model that have no record yet, and its baseline rows.

    `more()` returns a further cell to train, None when there is none and these may be scored. Raises `EndedError` where
    `ending` is asked for while a cell is trained, and what it has is kept.
    """
    ending = ending or Ending()
    tell(Phase(text="start checkpoint"))
    prepared = selected(job, tell)
    require_same_tokens(prepared)
    require_answers_fit(prepared)
    given: list[Cell] = []
    for cell in _each(job, more):
        given.append(cell)
        folder = cell_folder(job, cell.key)
        start, evaluate_at = prepared.start.fingerprint, job.run.evaluate_at
        if not waits_to_be_scored(folder, start, prepared.tokens_fingerprint, evaluate_at):
            tell(TrainingBegins(key=cell.key))
            attempt(job, cell, tell, partial(train_cell, prepared, cell, tell, ending))
            free_memory()  # Trainer and its callbacks hold each other, and with them the model and its optimiser
    tell(Phase(text=f"scoring with {job.scorer.name}", scoring=True))
    score_cells(replace(prepared, job=replace(job, cells=tuple(given))), tell)


def _each(job: Job, more: More | None) -> Iterator[Cell]:
    """Yield the cells of a job, then those that there are more."""
    yield from job.cells
    while more is not None and (cell := more()) is not None:
        yield cell


def selected(job: Job, tell: Tell) -> Prepared:
    """Return what the cells of a model share, with the training pairs that are trained on."""
    prepared = with_selection(prepare(job, tell), tell)
    free_memory()  # of the model that the selector read, and of its probe
    return prepared


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
    start = partial(job.scorer.open, prepared.start.folder, options)
    engine = Restarting(job.scorer.name, start, lambda reason: tell(ScorerRestarts(reason=reason)))
    shared = shared_work(prepared, time.perf_counter() - began)
    tell(shared)
    try:
        tell(ScoringBegins(key=None))
        base, asked = engine.score(requests), asked_of(prepared)
        dev = engine.score(prepared.dev.requests) if prepared.dev else None
        scoring = Scoring(prepared=prepared, engine=engine, canary=canary, base=base, dev=dev, asked=asked, tell=tell)
        answers = partial(base_answers, asked, engine, tell) if asked else None
        parity = scoring.parity(base)
        with one_at_a_time(job.cache, f"baseline rows of {job.model} in {job.folder.resolve()}"):
            write_baseline_rows(prepared, base, parity, shared, answers)
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
        reason = reason_in(error, cell.system.loss)
        tell(CellFailed(key=cell.key, reason=reason))
        record_failure(job, cell, reason)
        if not isinstance(error, HarnessError):
            import traceback

            print_trouble(without_secrets(traceback.format_exc()))
