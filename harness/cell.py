"""The pipeline on one page: for a model, train its cells, then score them with one engine, then metrics and records.

    start checkpoint -> tokens -> (train a cell)* -> free memory -> engine -> (swap weights, score, metrics, record)*

Each training cell leaves its weights until they are scored; a cell is done when its record.json is there.
"""

from __future__ import annotations

import gc
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from harness.api import HarnessError, Loss, Pair, ScorerOptions
from harness.data.collate import collate
from harness.logps.packed_attention import use_packed_attention
from harness.logps.response_logps import response_logps
from harness.models.load import load_model, save_merged
from harness.planning.budget import Budget, Cost, Plan, plan
from harness.planning.grid import Cell
from harness.planning.job import Job, Tell, cell_folder, learning_rate, record_failure
from harness.run_folder.store import write_atomically
from harness.run_folder.trained import (
    WEIGHTS,
    TrainedCell,
    read_trained,
    remove_trained,
    waits_to_be_scored,
    write_trained,
)
from harness.training.loss_columns import prepare_columns
from harness.training.loss_inputs import TrainingData
from harness.training.prepared import Prepared, mismatched_tokens, pair_tokens, prepare, reference_logps, visit_flops
from harness.training.record_fields import (
    column_summaries,
    finish,
    own_rewards,
    record_fields,
    shared_work,
    spend,
    write_reference_rows,
)
from harness.training.trainer import Recipe, train

CANARY_PAIRS = 4
"""Held-out pairs on which every record compares its scorer with the transformers scorer."""
CANARY_ABSOLUTE, CANARY_RELATIVE = 1e-3, 1e-6
"""In fp32 the two must agree within 1e-3 + 1e-6 |sum| nats; in bf16 the difference is reported."""


def run_model(job: Job, tell: Tell) -> None:
    """Train and score the cells of a model that have no record yet, and its reference rows."""
    tell("phase", text="start checkpoint")
    prepared = prepare(job, tell)
    for cell in job.cells:
        if not waits_to_be_scored(cell_folder(job, cell.key), prepared.start.fingerprint):
            tell("training", key=cell.key)
            attempt(job, cell, tell, partial(train_cell, prepared, cell, tell))
            free_memory()  # Trainer and its callbacks hold each other, and with them the model and its optimiser
    tell("phase", text=f"scoring with {job.scorer.name}")
    score_cells(prepared, tell)


def shuffled(pairs: Sequence[Pair], visited: np.ndarray, control: str, seed: int) -> np.ndarray:
    """Return which training pairs have chosen and rejected swapped, (pairs,) bool: none but under `shuffled-labels`.

    Of every two visited pairs next to each other in score gap one is swapped, at random. So exactly half are, the large
    gaps as the small ones: independent swaps would leave a chance surplus of right labels, which a loss then learns.
    """
    swapped = np.zeros(len(pairs), dtype=bool)
    if control == "shuffled-labels":
        gaps = np.nan_to_num([pairs[i].score_chosen - pairs[i].score_rejected for i in visited])
        ordered = visited[np.argsort(gaps, kind="stable")]
        first = np.random.default_rng([seed, 17]).random(len(ordered) // 2) < 0.5
        swapped[ordered[0 : 2 * len(first) : 2]] = first
        swapped[ordered[1 : 2 * len(first) : 2]] = ~first
    return swapped


def training_data(prepared: Prepared, loss: Loss, model: Any, visited: np.ndarray, seed: int) -> TrainingData:
    """Return the training pairs, labelled as the run has it, with what the loss asks for beside them."""
    run = prepared.job.run
    reference = reference_logps(prepared, loss, model, visited)
    swapped = shuffled(prepared.pairs, visited, run.control, run.data_seed + seed)
    pairs = [
        replace(pair, chosen=pair.rejected, rejected=pair.chosen) if swap else pair
        for pair, swap in zip(prepared.pairs, swapped, strict=True)
    ]
    tokens = [
        replace(ids, chosen_ids=ids.rejected_ids, rejected_ids=ids.chosen_ids) if swap else ids
        for ids, swap in zip(prepared.tokens.pairs, swapped, strict=True)
    ]
    if reference is not None:
        reference = reference.swapped(swapped)
    return TrainingData(
        pairs=pairs,
        tokens=tokens,
        reference=reference,
        columns=prepare_columns(loss, pairs, tokens, visited, reference),
        mismatched=prepared.mismatched if loss.needs_kl else None,
    )


# -- training ----------------------------------------------------------------------------------------------------------
def train_cell(prepared: Prepared, cell: Cell, tell: Tell) -> None:
    """Train one cell and leave its weights, its step log and `trained.json`, written last."""
    job, loss, settings = prepared.job, cell.system.loss, prepared.job.run.settings
    folder = cell_folder(job, cell.key)
    folder.mkdir(parents=True, exist_ok=True)
    remove_trained(folder)
    spending = cell_plan(prepared, cell)
    visited = spending.visited()
    # full training keeps fp32 weights under bf16 autocast: at the field's learning rates bf16 updates round to nothing
    dtype = "float32" if job.run.adapter == "full" else settings.dtype
    model = load_model(prepared.start.folder, dtype, job.run.adapter, job.run.trust_remote_code, cell.seed)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    if not job.run.plain_path:
        check_hot_path(prepared, model)
    data = training_data(prepared, loss, model, visited, cell.seed)
    trained = train(
        model,
        loss,
        data,
        spending,
        Recipe(
            learning_rate=learning_rate(job, cell.system),
            micro_pairs=settings.micro_pairs,
            seed=cell.seed,
            dtype=settings.dtype,
            plain=job.run.plain_path,
        ),
        folder / "scratch",
        lambda step: tell("step", key=cell.key, step=step, steps=spending.steps),
    )
    shutil.rmtree(folder / "scratch", ignore_errors=True)
    trained.log.to_parquet(folder / "train.parquet", index=False, compression="zstd")
    if trained.status == "ok":
        save_merged(model, folder / WEIGHTS)
    spent = spend(prepared, loss, trained, data.reference, spending)
    write_trained(
        folder,
        TrainedCell(
            status=trained.status,
            reason=trained.reason,
            start_fingerprint=prepared.start.fingerprint,
            spend=spent,
            prepared=column_summaries(data.columns, visited),
        ),
    )
    if trained.steps:
        remember_rate(job, spent["flops"] / spent["seconds"])
    last = float(trained.log["loss"].iloc[-1]) if len(trained.log) else float("nan")
    tell("trained", key=cell.key, status=trained.status, reason=trained.reason, seconds=trained.seconds, loss=last)


def check_hot_path(prepared: Prepared, model: Any) -> None:
    """Let `model` take packed rows, and compare the log-probs of one pair with those of its own full logits.

    An architecture that scales its logits in a way the hot path does not know must not be trained at another
    temperature in silence. Raises `HarnessError` where the two differ.
    """
    pair, dtype = prepared.tokens.pairs[0], prepared.job.run.settings.dtype
    device = next(model.parameters()).device
    ids = torch.tensor([[*pair.prompt_ids, *pair.chosen_ids]], device=device)
    batch = collate([(pair.prompt_ids, (pair.chosen_ids,))]).to(device)
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
        logits = model(input_ids=ids, use_cache=False).logits[0, len(pair.prompt_ids) - 1 : -1].float()
        expected = float(logits.log_softmax(-1).gather(-1, batch.label_R[:, None]).double().sum())
        use_packed_attention(model)
        got = float(response_logps(model, batch).token.double().sum())
    allowed = 1e-3 + 1e-5 * abs(expected) if dtype == "float32" else 0.5 + 0.02 * abs(expected)
    if not abs(got - expected) <= allowed:
        raise HarnessError(
            f"model '{prepared.job.model}' ({model.config.model_type}): the training path gives {got:.6g} nats for a "
            f"response to which the model itself gives {expected:.6g}; this architecture is not supported, name another"
        )


def remember_rate(job: Job, rate: float) -> None:
    """Keep FLOP/s for the estimates of the next dry run; a cache that cannot be written costs only that."""
    path = job.cache / "rates.json"
    try:
        known = json.loads(path.read_text()) if path.exists() else {}
        write_atomically(path, json.dumps(known | {job.run.preset: rate}))
    except (OSError, ValueError) as error:
        print(f"rates.json was not written: {error}")


def free_memory() -> None:
    """Give back what the last cell held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def cell_plan(prepared: Prepared, cell: Cell) -> Plan:
    """Return which pairs each step of the cell visits."""
    loss, settings = cell.system.loss, prepared.job.run.settings
    tokens = pair_tokens(prepared)
    flops = visit_flops(prepared, loss, tokens, mismatched_tokens(prepared) if loss.needs_kl else None)
    return plan(
        Budget.parse(settings.budget),
        batch_pairs=settings.batch_pairs,
        seed=cell.seed,
        cost=Cost(tokens=tokens, flops=flops),
    )


# -- scoring -----------------------------------------------------------------------------------------------------------
def score_cells(prepared: Prepared, tell: Tell) -> None:
    """Score the base and every trained cell with one live engine, swapping weights, and write the records."""
    job, requests = prepared.job, prepared.held_out.requests
    options = ScorerOptions(
        dtype=job.run.settings.dtype,
        max_length=max(len(request.prompt) + len(request.response) for request in requests),
        seed=0,
        trust_remote_code=job.run.trust_remote_code,
    )
    # the canary first: vLLM takes most of the accelerator's free memory
    canary = job.canary.open(prepared.start.folder, options) if job.canary else None
    began = time.perf_counter()
    engine = job.scorer.open(prepared.start.folder, options)
    shared = shared_work(prepared, time.perf_counter() - began)
    tell("shared", **shared)
    try:
        tell("scoring", key="base")
        base = engine.score(requests)
        write_reference_rows(prepared, base, canary_parity(prepared, canary, base), shared)
        for cell in job.cells:
            attempt(job, cell, tell, partial(score_cell, prepared, cell, engine, canary, base, tell))
    finally:
        engine.close()
        if canary:
            canary.close()


def score_cell(prepared: Prepared, cell: Cell, engine: Any, canary: Any, base: np.ndarray, tell: Tell) -> None:
    """Score one trained cell and write its record; a diverged one is recorded without scores."""
    job, folder = prepared.job, cell_folder(prepared.job, cell.key)
    trained = read_trained(folder)
    if trained is None:  # failed in training: its record is there
        return
    tell("scoring", key=cell.key)
    fields = record_fields(prepared, cell) | trained.as_json()
    if trained.status != "ok":
        record_failure(job, cell, trained.status, trained.reason, fields)
    else:
        began = time.perf_counter()
        engine.load(folder / WEIGHTS)
        sums = engine.score(requests := prepared.held_out.requests)
        if canary:
            canary.load(folder / WEIGHTS)
        fields["scorer"] |= {
            "parity_max_abs_nats": canary_parity(prepared, canary, sums),
            "seconds": time.perf_counter() - began,
        }
        lengths = np.array([len(request.response) for request in requests], dtype=np.float64)
        reward = own_rewards(cell.system.loss, sums, lengths, base)
        finish(prepared, folder, fields, sums, base, reward)
    tell("scored", key=cell.key)
    if not job.keep_checkpoints:
        shutil.rmtree(folder / WEIGHTS, ignore_errors=True)


def canary_parity(prepared: Prepared, canary: Any, sums: np.ndarray) -> float | None:
    """Return the largest difference in nats between the scorer and the transformers scorer on a few pairs.

    None where there is no second scorer. Raises `HarnessError` where they disagree in fp32.
    """
    if canary is None:
        return None
    first = prepared.held_out.pairs.head(CANARY_PAIRS)
    indices = np.unique(np.concatenate([first["chosen"], first["rejected"]]))
    again = canary.score([prepared.held_out.requests[i] for i in indices])
    difference = np.abs(sums[indices] - again)
    if (
        prepared.job.run.settings.dtype == "float32"
        and (difference > CANARY_ABSOLUTE + CANARY_RELATIVE * np.abs(again)).any()
    ):
        raise HarnessError(
            f"{prepared.job.scorer.name} and transformers disagree by {difference.max():.4g} nats a sequence, expected "
            f"at most {CANARY_ABSOLUTE} + {CANARY_RELATIVE}*|sum|; do not trust it here, pass --scorer transformers"
        )
    return float(difference.max())


def attempt(job: Job, cell: Cell, tell: Tell, work: Callable[[], None]) -> None:
    """Do the work of one cell; whatever it raises costs this cell alone and stands in its record."""
    try:
        work()
    except Exception as error:
        reason = str(error) if isinstance(error, HarnessError) else f"{type(error).__name__}: {error}"
        tell("failed", key=cell.key, reason=reason)
        record_failure(job, cell, "failed", reason, {})
        if not isinstance(error, HarnessError):
            import traceback

            traceback.print_exc()
