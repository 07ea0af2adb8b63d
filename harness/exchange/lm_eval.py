"""A scored cell -> results as lm-evaluation-harness writes them, one file per cell. Imports no torch.

The shape is `EvalResults` of lm_eval/result_schema.py and the file's place that of
lm_eval/loggers/evaluation_tracker.py (`save_results_aggregated`), both as of lm-evaluation-harness 0.4.13:
<folder>/<model>/results_<date>.json with "<metric>,<filter>" and "<metric>_stderr,<filter>" for each task. Here the
date is the seed, because a record has no date and a second export must give the same bytes.

A task is a set of examples: pairs, pairs of a score-gap quartile, length-balanced pairs, responses, listwise prompts.
A filter is how the reward is read: `none` by the loss's own rule, else by the yardstick `sum`, `mean` or `ratio`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.leaderboard.formatting import rounded
from harness.run_folder.paths import TUNED, axis_of
from harness.run_folder.record import Record
from harness.statistics.intervals import cluster_sums
from harness.statistics.metrics import LISTWISE, METRICS, POOLED, Examples, examples

RENAMED = {"pairwise_accuracy": "acc", "pairwise_accuracy_true": "acc_true"}
LENBALANCED, QUARTILE = "pairwise_accuracy_lenbalanced", "pairwise_accuracy_gap_q"
STDERR = "clustered by prompt: sqrt(P / (P - 1) * sum over prompts (sum over its examples (x - mean))^2) / n"


def file_name(record: Record) -> str:
    """Return the path of a cell's results in the exported folder."""
    seed = record.seed
    folder = (re.sub(r"--seed-?\d+$", "", record.key) or record.key) + _tuned(record, "--")
    place = f"{axis}/" if (axis := axis_of(record.folder)) else ""
    return f"{place}{folder}/results_{'noseed' if seed is None else f'seed{seed}'}.json"


def render(record: Record) -> str:
    """Return the results of a scored cell as JSON, recomputed from its rows; metrics it lacks are left out."""
    rows, responses = record.rows(), record.responses()
    prefix = re.sub(r"\W", "_", f"preference_{record.dataset.name}")
    tasks: dict[str, dict[str, tuple[str, Examples]]] = {}
    for name, per_example in examples(rows, responses, record.averaged).items():
        task, metric = _place(name)
        if np.isfinite(per_example.value).any():
            tasks.setdefault(prefix + task, {})[metric] = (name, per_example)
    content: dict[str, Any] = {
        "results": {task: _results(task, metrics) for task, metrics in tasks.items()},
        "group_subtasks": {task: [] for task in tasks},
        "configs": {task: _config(record, task, metrics) for task, metrics in sorted(tasks.items())},
        "versions": dict.fromkeys(sorted(tasks), record.protocol),
        "n-shot": dict.fromkeys(sorted(tasks), 0),
        "higher_is_better": {task: _directions(metrics) for task, metrics in sorted(tasks.items())},
        "n-samples": {task: _counts(metrics) for task, metrics in tasks.items()},
        **_run(record),
        "task_hashes": {task: _hash(metrics) for task, metrics in tasks.items()},
    }
    return json.dumps(rounded(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def standard_error(per_example: Examples) -> float | None:
    """Return the standard error of the mean of the finite values, clustered by prompt; None below two prompts.

    The linearised variance of a ratio of cluster totals (Cochran 1977, sec. 11.9 without the finite population factor).
    With one example per prompt it is the sample standard deviation over sqrt(n).
    """
    kept = np.isfinite(per_example.value)
    names, prompt = np.unique(per_example.prompt[kept].astype(str), return_inverse=True)
    if len(names) < 2:
        return None
    value = per_example.value[kept]
    sums, _ = cluster_sums(prompt.astype(np.int64), value - value.mean(), len(names))
    return float(np.sqrt(len(names) / (len(names) - 1) * (sums**2).sum()) / len(value))


def _place(name: str) -> tuple[str, str]:
    """Return the end of the task's name and "<metric>,<filter>" of a metric."""
    stem, _, yardstick = name.partition("@")
    how = yardstick or "none"
    if stem.startswith(QUARTILE):
        return f"_gap_q{stem.removeprefix(QUARTILE)}", f"acc,{how}"
    if stem == LENBALANCED:
        return "_lenbalanced", f"acc,{how}"
    task = "_listwise" if stem in LISTWISE else "_responses" if stem in POOLED else ""
    return task, f"{RENAMED.get(stem, stem)},{how}"


def _results(task: str, metrics: Mapping[str, tuple[str, Examples]]) -> dict[str, Any]:
    values: dict[str, Any] = {"name": task, "alias": task, "sample_len": _counts(metrics)["effective"]}
    for key, (_, per_example) in metrics.items():
        metric, _, how = key.partition(",")
        error = standard_error(per_example)
        values[key] = float(per_example.value[np.isfinite(per_example.value)].mean())
        values[f"{metric}_stderr,{how}"] = "N/A" if error is None else error
    return values


def _counts(metrics: Mapping[str, tuple[str, Examples]]) -> dict[str, int]:
    return {
        "original": max(len(per_example.value) for _, per_example in metrics.values()),
        "effective": max(int(np.isfinite(per_example.value).sum()) for _, per_example in metrics.values()),
    }


def _directions(metrics: Mapping[str, tuple[str, Examples]]) -> dict[str, bool | None]:
    known = {"higher": True, "lower": False, "none": None}
    return {key.partition(",")[0]: known[METRICS[name].direction] for key, (name, _) in metrics.items()}


def _config(record: Record, task: str, metrics: Mapping[str, tuple[str, Examples]]) -> dict[str, Any]:
    return {
        "task": task,
        "dataset_path": record.dataset.name,
        "test_split": record.board.evaluated_on,
        "output_type": "loglikelihood",
        "num_fewshot": 0,
        "metric_list": [
            {"metric": key.partition(",")[0], "filter": key.partition(",")[2], "is": METRICS[name].summary}
            for key, (name, _) in metrics.items()
        ],
        "metadata": {
            "version": record.protocol,
            "dataset_fingerprint": record.dataset.fingerprint,
            "tokens_fingerprint": record.tokens_fingerprint,
            "stderr": STDERR,
        },
    }


def _run(record: Record) -> dict[str, Any]:
    """Return what the file says besides the tasks. `model_args` is all that tells this cell from others."""
    model, settings, environment, scorer = record.model, record.board, record.environment, record.scorer
    axis = f"+{at}" if (at := axis_of(record.folder)) else ""
    name = f"{model.id or model.name}+{record.label}{_tuned(record, '+')}{axis}"
    return {
        "config": {
            "model": scorer.name,
            "model_args": {
                "pretrained": model.id or model.name,
                "loss": record.loss.name,
                "loss_options": record.loss.options,
                "learning_rate": record.learning_rate,
                "tuning": record.tuning.as_json() if record.tuning else None,
                "settings": settings.as_json(),
            },
            "model_num_parameters": model.parameters,
            "model_dtype": settings.dtype,
            "model_revision": model.revision,
            "model_sha": model.fingerprint,
            "batch_size": None,
            "batch_sizes": [],
            "device": environment.device,
            "limit": settings.limit,
            "bootstrap_iters": 0,
            "gen_kwargs": None,
            "random_seed": record.seed,
        },
        "transformers_version": environment.transformers,
        "preference_harness_version": environment.harness,
        "model_source": "preference-harness",
        "model_name": name,
        "model_name_sanitized": re.sub(r'["<>:/|\\?*\[\]]+', "__", name),
        "system_instruction": None,
        "chat_template": None,
        **({} if scorer.seconds is None else {"total_evaluation_time_seconds": str(scorer.seconds)}),
    }


def _tuned(record: Record, before: str) -> str:
    """Return the mark of a cell of a tuned run, such as `--tuned-4`; empty for others."""
    trials = record.board.trials
    return f"{before}{TUNED}{trials}" if trials else ""


def _hash(metrics: Mapping[str, tuple[str, Examples]]) -> str:
    """Return the sha256 of the prompts of a task's examples, in order: equal where two cells answer the same."""
    prompts = next(per_example.prompt.astype(str).tolist() for _, per_example in metrics.values())
    return hashlib.sha256(json.dumps(prompts).encode()).hexdigest()
