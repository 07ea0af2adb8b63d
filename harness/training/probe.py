"""A probe: a moment of DPO on random training pairs, whose log-probs a selector asks for."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from harness.api import HarnessError, Loss
from harness.models.load import load_model
from harness.planning.budget import Budget, Cost, pair_flops, plan
from harness.training.prepared import Prepared, cached_pass, pair_tokens
from harness.training.recipe import Recipe
from harness.training.trainer import train
from harness.training.training_data import training_data


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What a probe says of every training pair, and what it cost."""

    chosen: np.ndarray
    """(pairs,) float64, nats, summed over tokens."""
    rejected: np.ndarray
    flops: float
    """Of training and of the pass over all pairs; the start checkpoint's own pass is not among them."""
    seconds: float


def probe(prepared: Prepared, loss: Loss, pairs: int) -> Probe:
    """Train the start checkpoint with `loss` on so many pairs, as the cells are trained, and return its log-probs.

    The pairs are drawn by --data-seed. Raises `HarnessError` where the training diverges.
    """
    run, tokens = prepared.job.run, pair_tokens(prepared)
    dtype = "float32" if run.lora is None else run.settings.dtype  # as for cells
    model = load_model(prepared.start.folder, dtype, run.adapter, run.trust_remote_code, run.data_seed)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    spending = plan(
        Budget(currency="pairs", amount=pairs),
        batch_pairs=run.settings.batch_pairs,
        seed=run.data_seed,
        cost=Cost(tokens=tokens, flops=tokens),
    )
    recipe = Recipe(
        learning_rate=run.settings.learning_rate,
        micro_pairs=run.settings.micro_pairs,
        seed=run.data_seed,
        dtype=run.settings.dtype,
        plain=run.plain_path,
    )
    data = training_data(prepared, loss, model, spending.visited(), run.data_seed)
    with tempfile.TemporaryDirectory() as scratch:
        trained = train(model, loss, data, spending, recipe, Path(scratch) / "probe", lambda step, value: None)
        if trained.status != "ok":
            raise HarnessError(
                f"the probe of --select {prepared.job.selector} diverged: {trained.reason}; lower --learning-rate"
            )
        # a cache of its own: what a probe says is not what the start checkpoint says
        apart = replace(prepared, job=replace(prepared.job, cache=Path(scratch)))
        groups = [(pair.prompt_ids, (pair.chosen_ids, pair.rejected_ids)) for pair in prepared.tokens.pairs]
        model.eval()
        found = cached_pass(apart, model, groups, np.arange(len(groups)))
    parameters = prepared.start.parameters
    trained_flops = pair_flops([trained.tokens], parameters, reference=0, coupled=False)[0]
    return Probe(
        chosen=found.sums[0],
        rejected=found.sums[1],
        flops=trained_flops + 2.0 * parameters * sum(tokens),
        seconds=trained.seconds + found.seconds,
    )
