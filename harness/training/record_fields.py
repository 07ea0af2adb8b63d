"""What a finished cell leaves: what it spent, its rows, its metrics, and its record, written last."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

import harness
from harness.api import HarnessError, Loss, ResponseLogps
from harness.logps import cpu_matmul
from harness.planning.budget import Plan
from harness.planning.events import SharedWork
from harness.planning.grid import Cell, cell_key
from harness.planning.job import board, cell_folder, system_fields
from harness.planning.run_file import PROTOCOL
from harness.run_folder.store import write_record
from harness.run_folder.trained import read_trained
from harness.statistics.metrics import summarise
from harness.training.prepared import Prepared, visit_flops
from harness.training.reference_cache import Reference
from harness.training.trainer import Trained


def spend(bench: Prepared, loss: Loss, trained: Trained, reference: Reference | None, spending: Plan) -> dict[str, Any]:
    """Return what the cell spent in all five currencies, the reference pass charged to it even where it was cached."""
    flops = visit_flops(bench, loss, [trained.tokens], [trained.mismatched_tokens])[0]
    charged = reference.seconds if reference else 0.0
    return {
        "pairs": trained.pairs,
        "tokens": trained.tokens,
        "steps": trained.steps,
        "flops": flops,
        "seconds": trained.seconds + charged,
        "peak_memory_bytes": trained.peak_memory_bytes,
        "epochs": trained.pairs / spending.n_pairs,
        "reference_seconds": charged,
        "reference_cached": bool(reference and reference.cached),
    }


def shared_work(bench: Prepared, engine_seconds: float) -> SharedWork:
    """Return what the cells of a model had once for all of them, and what it would have cost each alone."""
    spends = [
        trained.spend
        for cell in bench.job.cells
        if (trained := read_trained(cell_folder(bench.job, cell.key))) is not None
    ]
    once = bench.start_seconds + bench.token_seconds + engine_seconds
    return SharedWork(
        cells=len(spends),
        start_seconds=bench.start_seconds,
        token_seconds=bench.token_seconds,
        engine_seconds=engine_seconds,
        reference_cells=sum(spend["reference_seconds"] > 0 for spend in spends),
        reference_seconds=sum(spend["reference_seconds"] for spend in spends if not spend["reference_cached"]),
        saved_seconds=once * max(0, len(spends) - 1)
        + sum(spend["reference_seconds"] for spend in spends if spend["reference_cached"]),
    )


def column_summaries(columns: Mapping[str, np.ndarray], visited: np.ndarray) -> dict[str, dict[str, float]]:
    """Return mean and effective number of pairs, (sum w)^2 / sum w^2, of each column over the pairs visited."""
    return {name: _summary(values[visited]) for name, values in columns.items()}


def own_rewards(loss: Loss, sums: np.ndarray, lengths: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Return the loss's own reward of each response, (responses,) float64.

    The loss gets copies: whatever it writes into them, the log-probs of this cell and of the base stay as they are.
    Raises `HarnessError` where the reward is not one finite number a response.
    """
    with torch.no_grad():
        reward = loss.reward(
            ResponseLogps(
                sum=torch.tensor(sums),
                length=torch.tensor(lengths),
                ref_sum=torch.tensor(base) if loss.needs_reference else None,
            )
        )
    if not isinstance(reward, torch.Tensor) or reward.shape != sums.shape:
        got = f"shape {tuple(reward.shape)}" if isinstance(reward, torch.Tensor) else f"a {type(reward).__name__}"
        raise HarnessError(f"loss '{loss.name}': reward gave {got}, expected one number a response {sums.shape}")
    values = reward.double().numpy()
    lost = int((np.isfinite(sums) & ~np.isfinite(values)).sum())
    if lost:
        raise HarnessError(
            f"loss '{loss.name}': reward is not finite for {lost} of {len(values)} responses, expected a number for "
            "each: a pair without one would be left out of the accuracy; mend reward"
        )
    return values


def finish(
    bench: Prepared, folder: Path, fields: dict[str, Any], sums: np.ndarray, base: np.ndarray, reward: np.ndarray
) -> None:
    """Write the rows, the metrics and the record of one scored system."""
    held = bench.held_out
    tokens = np.array([len(request.response) for request in held.requests])
    rows = held.pairs.drop(columns=["chosen", "rejected"])
    for side in ("chosen", "rejected"):
        index = held.pairs[side].to_numpy()
        rows[f"{side}_sum_logp"], rows[f"{side}_tokens"] = sums[index], tokens[index]
        rows[f"ref_{side}_sum_logp"], rows[f"reward_{side}"] = base[index], reward[index]
    responses = held.responses.assign(sum_logp=sums, tokens=tokens, ref_sum_logp=base, reward=reward)
    metrics, reasons = summarise(rows, responses)
    write_record(folder, fields | {"metrics": metrics, "metric_reasons": reasons}, rows, responses)


def write_reference_rows(bench: Prepared, base: np.ndarray, parity: float | None, shared: SharedWork) -> None:
    """Write the records of `base`, the start checkpoint itself, and `longer-wins`, whose reward is characters."""
    characters = bench.held_out.responses["characters"].to_numpy(dtype=np.float64)
    nothing = np.full(len(base), np.nan)
    for name, sums, reward in (("base", base, nothing), ("longer-wins", nothing, characters)):
        fields = record_fields(bench, None) | {"label": name, "loss": {"name": name, "options": {}}}
        fields["scorer"] |= {"parity_max_abs_nats": parity if name == "base" else None}
        fields["environment"] |= {"shared": asdict(shared)} if name == "base" else {}
        key = cell_key(bench.job.model, name, name, None)
        finish(
            bench, cell_folder(bench.job, key), fields | {"key": key}, sums, base if name == "base" else nothing, reward
        )


def record_fields(bench: Prepared, cell: Cell | None) -> dict[str, Any]:
    """Return what a record says besides its numbers; without a cell, of a reference row, who it is is left to say."""
    job, start = bench.job, bench.start
    return {
        "protocol": PROTOCOL,
        "status": "ok",
        "reason": "",
        "kind": "loss" if cell else "reference",
        "key": cell.key if cell else "",
        **(system_fields(job, cell.system) if cell else {}),
        "model": {
            "name": job.model,
            "preset": start.preset,
            "id": start.id,
            "revision": start.revision,
            "parameters": start.parameters,
            "fingerprint": start.fingerprint,
        },
        "dataset": {
            "name": job.dataset.name,
            "source": job.dataset.source,
            "fingerprint": job.dataset.fingerprint,
            "train_pairs": len(bench.pairs),
            "test_pairs": int((bench.held_out.pairs["split"] == job.run.evaluate_on).sum()),
            "truncated_pairs": bench.tokens.truncated,
            "truncated_test_pairs": bench.held_out.truncated_pairs,
            "skipped": dict(job.dataset.skipped),
            "notes": list(job.dataset.notes),
        },
        "tokens_fingerprint": f"{bench.tokens.fingerprint}-{bench.held_out.fingerprint}",
        "seed": cell.seed if cell else None,
        "board": board(job),
        "spend": {},
        "scorer": {"name": job.scorer.name, "version": job.scorer.version(), "note": job.scorer_note},
        "environment": environment()
        | {"models_side_by_side": job.side_by_side, "path": "plain" if job.run.plain_path else "fast"},
    }


def environment() -> dict[str, Any]:
    """Return versions and hardware."""
    import transformers

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "harness": harness.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "platform": platform.platform(),
        "device": device,
        "threads": torch.get_num_threads(),
        "gemm": cpu_matmul.library(),
    }


def _summary(values: np.ndarray) -> dict[str, float]:
    square = float((values**2).sum())
    return {"mean": float(values.mean()), "n_eff": float(values.sum() ** 2 / square) if square else 0.0}
