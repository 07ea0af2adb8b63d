"""What a finished cell leaves: what it spent, its rows, its metrics, and its record, written last."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import harness
from harness.api import HarnessError, Loss
from harness.data.heldout import HeldOut
from harness.logps import cpu_matmul
from harness.planning.budget import Plan
from harness.planning.events import SharedWork
from harness.planning.grid import Cell, cell_key
from harness.planning.job import Job, board_key, cell_folder, facts_of_test, learning_rate, loss_facts
from harness.planning.processors import processor_name
from harness.planning.run_file import PROTOCOL
from harness.run_folder.board_key import differing
from harness.run_folder.facts import DataFacts, EnvironmentFacts, LossFacts, ModelFacts, ScorerFacts, Spend, TuningFacts
from harness.run_folder.generation_facts import GenerationFacts
from harness.run_folder.json_types import Number
from harness.run_folder.paths import record_files
from harness.run_folder.point_facts import PointFacts
from harness.run_folder.record import Record
from harness.run_folder.store import read_record, write_record
from harness.run_folder.trained import TrainedCell, read_trained
from harness.statistics.summary import summarise
from harness.training.failed_rules import failed_rules
from harness.training.prepared import Prepared, visit_flops
from harness.training.reference_cache import Reference
from harness.training.step_end import Reached
from harness.training.trainer import Trained

UNTOLD = ("name", "source", "notes")
"""What a record says of its data that changes no token."""


def spend(prepared: Prepared, loss: Loss, trained: Trained, reference: Reference | None, plan: Plan) -> Spend:
    """Return what the cell spent in all five currencies, the reference pass charged to it even where it was cached."""
    charged, before = reference.seconds if reference else 0.0, prepared.before
    choosing = {"selection_flops": before.flops, "selection_seconds": before.seconds} if prepared.selection else {}
    fewer = {} if trained.micro_pairs is None else {"micro_pairs": trained.micro_pairs}
    spent = Spend(
        pairs=trained.pairs,
        tokens=trained.tokens,
        steps=trained.steps,
        flops=flops_of(prepared, loss, trained),
        seconds=trained.seconds + charged + before.seconds,
        peak_memory_bytes=trained.peak_memory_bytes,
        epochs=trained.pairs / plan.n_pairs,
        reference_seconds=charged,
        reference_cached=bool(reference and reference.cached),
    )
    return spent.model_copy(update=choosing | fewer)


def spent_by_points(
    prepared: Prepared, loss: Loss, trained: Trained, reference: Reference | None
) -> dict[str, tuple[PointFacts, ...]]:
    """Return what was spent by each point along the run, as `spend` has it of all; nothing where none is asked for."""
    if not prepared.job.run.evaluate_at or trained.status != "ok":
        return {}
    charged = (reference.seconds if reference else 0.0) + prepared.before.seconds
    facts = [
        PointFacts(
            fraction=reached.fraction,
            step=reached.steps,
            pairs=reached.pairs,
            tokens=reached.tokens,
            flops=flops_of(prepared, loss, reached),
            seconds=reached.seconds + charged,
        )
        for reached in trained.points
    ]
    return {"points": tuple(facts)}


def flops_of(prepared: Prepared, loss: Loss, done: Trained | Reached) -> float:
    """Return the floating-point operations of a training so far, and of choosing its pairs."""
    return visit_flops(prepared, loss, [done.tokens], [done.mismatched_tokens])[0] + prepared.before.flops


def shared_work(prepared: Prepared, engine_seconds: float) -> SharedWork:
    """Return what the cells of a model had once for all of them, and what it would have cost each alone."""
    spends = [
        trained.spend
        for cell in prepared.job.cells
        if (trained := read_trained(cell_folder(prepared.job, cell.key))) is not None
    ]
    reference = [(float(spend.reference_seconds or 0.0), bool(spend.reference_cached)) for spend in spends]
    once = prepared.start_seconds + prepared.token_seconds + engine_seconds
    return SharedWork(
        cells=len(spends),
        start_seconds=prepared.start_seconds,
        token_seconds=prepared.token_seconds,
        engine_seconds=engine_seconds,
        reference_cells=sum(seconds > 0 for seconds, _ in reference),
        reference_seconds=sum(seconds for seconds, cached in reference if not cached),
        saved_seconds=once * max(0, len(spends) - 1) + sum(seconds for seconds, cached in reference if cached),
    )


def column_summaries(columns: Mapping[str, np.ndarray], visited: np.ndarray) -> dict[str, dict[str, Number]]:
    """Return mean and effective number of pairs, (sum w)^2 / sum w^2, of each column over the pairs visited."""
    return {name: _summary(values[visited]) for name, values in columns.items()}


def finish(
    held: HeldOut, folder: Path, record: Record, sums: np.ndarray, base: np.ndarray, reward: np.ndarray
) -> Record:
    """Write the rows, the metrics and the record of one scored system; return that."""
    rows, responses = scored_tables(held, sums, base, reward)
    metrics, reasons = summarise(rows, responses, record.averaged)
    facts = {"metrics": numbers(metrics), "metric_reasons": reasons}
    return write_record(folder, record.model_copy(update=facts), rows, responses)


def scored_tables(
    held: HeldOut, sums: np.ndarray, base: np.ndarray, reward: np.ndarray
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows and the responses of one scored system."""
    tokens = np.array([len(request.response) for request in held.requests])
    rows = held.pairs.drop(columns=["chosen", "rejected"])
    for side in ("chosen", "rejected"):
        index = held.pairs[side].to_numpy()
        rows[f"{side}_sum_logp"], rows[f"{side}_tokens"] = sums[index], tokens[index]
        rows[f"ref_{side}_sum_logp"], rows[f"reward_{side}"] = base[index], reward[index]
    responses = held.responses.assign(sum_logp=sums, tokens=tokens, ref_sum_logp=base, reward=reward)
    return rows, responses


def numbers(metrics: Mapping[str, float]) -> dict[str, Number]:
    """Return metrics as JSON has them."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def write_baseline_rows(
    prepared: Prepared,
    base: np.ndarray,
    parity: float | None,
    shared: SharedWork,
    answers: Callable[[Path], GenerationFacts] | None = None,
) -> None:
    """Write the records of `base`, the start checkpoint itself, and `longer-wins`, whose reward is characters.

    `answers` writes those of the start checkpoint into the folder of `base`, where a run generates.
    """
    characters = prepared.held_out.responses["characters"].to_numpy(dtype=np.float64)
    nothing = np.full(len(base), np.nan)
    for name, sums, reward in (("base", base, nothing), ("longer-wins", nothing, characters)):
        key = cell_key(prepared.job.model, name, name, None)
        record = _record(prepared, key, name, LossFacts(name=name, options={}), seed=None)
        scorer = record.scorer.model_copy(update={"parity_max_abs_nats": parity if name == "base" else None})
        facts: dict[str, object] = {"scorer": scorer}
        if name == "base":
            facts["environment"] = record.environment.model_copy(update={"shared": asdict(shared)})
        folder = cell_folder(prepared.job, record.key)
        if name == "base" and answers:
            facts["generation"] = answers(folder)
        reference = base if name == "base" else nothing
        finish(prepared.held_out, folder, record.model_copy(update=facts), sums, reference, reward)


def cell_record(prepared: Prepared, cell: Cell, trained: TrainedCell) -> Record:
    """Return what the record of a trained cell says before it is scored; that of a diverged one is complete."""
    job, trial = prepared.job, cell.system.trial
    facts: dict[str, object] = {"learning_rate": learning_rate(job, cell.system)}
    if trial is not None:
        facts["tuning"] = TuningFacts(**asdict(trial))
    loss = loss_facts(job, cell.system)
    if failed := failed_rules(job, cell.system.loss):
        loss = loss.model_copy(update={"fails": failed})
    record = _record(prepared, cell.key, cell.system.label, loss, cell.seed)
    facts |= {name: value for name, value in trained.given().items() if name != "weights"}  # which are removed
    return record.model_copy(update=facts)


def scored_record(record: Record, parity: float | None, seconds: float) -> Record:
    """Return the record with how its scorer did: parity with the transformers scorer in nats, and its seconds."""
    scorer = record.scorer.model_copy(update={"parity_max_abs_nats": parity, "seconds": seconds})
    return record.model_copy(update={"scorer": scorer})


def _record(prepared: Prepared, key: str, label: str, loss: LossFacts, seed: int | None) -> Record:
    """Return what every record of a model says; without a seed it is that of a baseline row."""
    job, start = prepared.job, prepared.start
    return Record(
        protocol=PROTOCOL,
        status="ok",
        reason="",
        kind="reference" if seed is None else "loss",
        key=key,
        label=label,
        loss=loss,
        model=ModelFacts(
            name=job.model,
            preset=start.preset,
            id=start.id,
            revision=start.revision,
            parameters=start.parameters,
            fingerprint=start.fingerprint,
            quantised=start.quantised,
            **({"base": start.base} if start.base else {}),
        ),
        dataset=DataFacts.of(
            {
                "name": job.dataset.name,
                "source": job.dataset.source,
                "fingerprint": job.dataset.fingerprint,
                "train_pairs": len(prepared.pairs),
                "test_pairs": int((prepared.held_out.pairs["split"] == job.run.evaluate_on).sum()),
                "truncated_pairs": prepared.tokens.truncated,
                "truncated_test_pairs": prepared.held_out.truncated_pairs,
                **prepared.template_facts,
                "skipped": dict(job.dataset.skipped),
                "left_out": {**prepared.tokens.left_out, **prepared.held_out.left_out},
                "notes": tuple(job.dataset.notes),
                **facts_of_test(job.dataset),
                **({"noise": prepared.noise} if prepared.noise else {}),
                **({"selection": prepared.selection} if prepared.selection else {}),
            }
        ),
        tokens_fingerprint=prepared.tokens_fingerprint,
        seed=seed,
        board=board_key(job),
        spend=Spend(),
        scorer=scorer_facts(job),
        environment=environment(job),
        metrics={},
    )


def require_same_tokens(prepared: Prepared) -> None:
    """Raise `HarnessError` where the folder holds results of this model on other tokens than this run's."""
    now = _record(prepared, "", "", LossFacts(name="", options={}), seed=None)
    for path in sorted(record_files(prepared.job.folder)):
        record = read_record(path.parent)
        before = record.tokens_fingerprint
        if record.model.name != now.model.name or before in (None, now.tokens_fingerprint):
            continue
        facts = differing(record.dataset.as_json(), now.dataset.as_json())
        facts |= differing(
            *({"harness": r.environment.harness, "transformers": r.environment.transformers} for r in (record, now))
        )
        changed = [f"{name} was {old!r}, now {new!r}" for name, (old, new) in facts.items() if name not in UNTOLD]
        raise HarnessError(
            f"{record.folder} was trained or scored on other tokens ({before}, now {now.tokens_fingerprint}: "
            f"{'; '.join(changed) or 'how text becomes tokens has changed'}); name another --output-dir"
        )


def scorer_facts(job: Job) -> ScorerFacts:
    """Return what is known of the scorer before it scores."""
    return ScorerFacts(name=job.scorer.name, version=job.scorer.version(), note=job.scorer_note)


def environment(job: Job) -> EnvironmentFacts:
    """Return versions, hardware, and what runs beside the cell."""
    import transformers

    return EnvironmentFacts(
        harness=harness.__version__,
        python=platform.python_version(),
        torch=torch.__version__,
        transformers=transformers.__version__,
        platform=platform.platform(),
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        processor=f"{processor_name()}, {torch.backends.cpu.get_cpu_capability()}",
        threads=torch.get_num_threads(),
        gemm=cpu_matmul.library(),
        models_side_by_side=job.side_by_side,
        path="plain" if job.run.plain_path else "fast",
    )


def _summary(values: np.ndarray) -> dict[str, Number]:
    square = float((values**2).sum())
    return {"mean": float(values.mean()), "n_eff": float(values.sum() ** 2 / square) if square else 0.0}
