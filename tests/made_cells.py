"""Synthetic cells of run folders, written through the store as the harness writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from made_records import made_record

from harness.run_folder.store import write_record
from harness.statistics.summary import summarise

BOARD = {
    "protocol": 1,
    "dataset": "embedded",
    "preset": "nano",
    "budget": "pairs=512",
    "adapter": "full",
    "batch_pairs": 16,
    "learning_rate": 1e-3,
    "evaluated_on": "test",
    "control": "none",
}


def tables(
    margins: np.ndarray, *, prompts: int, sums: bool = True, own: bool = True, truth: np.ndarray | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return rows and responses of pairs with these reward margins; pair i belongs to prompt i % prompts.

    `truth`: by how much the chosen response of each pair is truly better; None: it is not known.

    Every response has 10 tokens; the chosen one has reward and log-prob margin - 20, the rejected one -20.
    """
    n = len(margins)
    nothing = np.full(n, np.nan)
    prompt = np.array([f"prompt{i % prompts:03d}" for i in range(n)], dtype=object)
    score_chosen, score_rejected = np.linspace(0.5, 1, n), np.linspace(0, 0.4, n)
    characters = np.arange(n) % 7
    rows = pd.DataFrame(
        {
            "pair_id": [f"pair{i:04d}" for i in range(n)],
            "prompt_id": prompt,
            "split": "test",
            "score_chosen": score_chosen,
            "score_rejected": score_rejected,
            "gap": score_chosen - score_rejected,
            "chosen_sum_logp": margins - 20 if sums else nothing,
            "chosen_tokens": 10,
            "rejected_sum_logp": np.full(n, -20.0) if sums else nothing,
            "rejected_tokens": 10,
            "ref_chosen_sum_logp": -20.0 if sums else nothing,
            "ref_rejected_sum_logp": -20.0 if sums else nothing,
            "reward_chosen": margins - 20 if own else nothing,
            "reward_rejected": np.full(n, -20.0) if own else nothing,
            "chosen_characters": 50 + characters,
            "rejected_characters": 50,
            "true_chosen": np.nan if truth is None else truth,
            "true_rejected": np.nan if truth is None else 0.0,
            "chosen_response_id": [f"c{i:04d}" for i in range(n)],
            "rejected_response_id": [f"r{i:04d}" for i in range(n)],
        }
    )
    sides = [
        pd.DataFrame(
            {
                "prompt_id": prompt,
                "response_id": rows[f"{side}_response_id"],
                "split": "test",
                "sum_logp": rows[f"{side}_sum_logp"],
                "tokens": 10,
                "ref_sum_logp": rows[f"ref_{side}_sum_logp"],
                "reward": rows[f"reward_{side}"],
                "score": rows[f"score_{side}"],
                "true_quality": np.nan,
                "characters": rows[f"{side}_characters"],
                "listwise": np.arange(n) < 3 * prompts,
            }
        )
        for side in ("chosen", "rejected")
    ]
    return rows, pd.concat(sides, ignore_index=True)


def add_cell(
    run: Path,
    label: str,
    margins: Any = None,
    *,
    model: str = "qwen",
    seed: int | None = 0,
    prompts: int = 40,
    truth: np.ndarray | None = None,
    **changed: Any,
) -> None:
    """Write one cell; without margins it is one that failed or diverged. `changed` overrides fields of the record."""
    reference = label in ("base", "longer-wins")
    key = f"{model}--{label}" + ("" if reference else f"--seed{seed}")
    fields = {
        "protocol": 1,
        "status": "ok",
        "reason": "",
        "kind": "reference" if reference else "loss",
        "label": label,
        "key": key,
        "loss": {"name": label.partition("(")[0], "options": {}, "tags": ["pairwise", "summed"], "plugin": "test"},
        "model": {"name": model, "preset": "nano", "id": model, "revision": "0", "parameters": 1},
        "dataset": {"name": "embedded", "fingerprint": "f", "train_pairs": 9, "test_pairs": 9, "truncated_pairs": 0},
        "tokens_fingerprint": f"tokens-{model}",
        "seed": None if reference else seed,
        "board": BOARD,
        "spend": {} if reference else {"pairs": 512, "seconds": 2.0 + (seed or 0), "peak_memory_bytes": 2**21},
        "scorer": {"name": "vllm", "version": "0.29", "parity_max_abs_nats": 1e-4},
        "environment": {},
    }
    if margins is None:
        write_record(run / "cells" / key, made_record(fields | {"metrics": {}} | changed))
        return
    rows, responses = tables(
        np.asarray(margins, float),
        prompts=prompts,
        sums=label != "longer-wins",
        own=label != "base",
        truth=truth,
    )
    metrics, reasons = summarise(rows, responses, False)
    write_record(
        run / "cells" / key,
        made_record(fields | {"metrics": metrics, "metric_reasons": reasons} | changed),
        rows,
        responses,
    )
