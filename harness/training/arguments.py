"""What `transformers.Trainer` is told, the same for every loss, and the course of the learning rate."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from harness.import_guard import guard_imports
from harness.planning.budget import Plan
from harness.training.ranks import Ranks
from harness.training.recipe import Recipe

guard_imports()  # Trainer does not import beside a torchvision that does not load
from transformers import TrainingArguments  # noqa: E402  # see above

WARMUP = 0.1
"""Share of the budget over which the learning rate rises; then it falls along a cosine (SimPO's recipe)."""
MAX_GRAD_NORM = 1.0


def schedule(fraction: float) -> float:
    """Return the factor on the learning rate at this fraction of the budget: linear warm-up, then a cosine to 0."""
    if fraction < WARMUP:
        return fraction / WARMUP
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (fraction - WARMUP) / (1 - WARMUP))))


def training_arguments(plan: Plan, recipe: Recipe, scratch: Path, ranks: Ranks) -> TrainingArguments:
    """Return the arguments of `Trainer`; it writes its checkpoints into `scratch`."""
    at_once = recipe.micro_pairs * ranks.count
    assert plan.batch_pairs % at_once == 0, "`Run` and `fitted` refuse micro-batches that do not divide a step"
    arguments = TrainingArguments(
        output_dir=str(scratch),
        max_steps=plan.steps if plan.steps is not None else 10**9,
        per_device_train_batch_size=recipe.micro_pairs,
        gradient_accumulation_steps=plan.batch_pairs // at_once,
        learning_rate=recipe.learning_rate,
        weight_decay=0.0,
        max_grad_norm=MAX_GRAD_NORM,
        optim="adamw_torch_fused",
        seed=recipe.seed,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        ignore_data_skip=True,  # `Visits` goes on where it was
        report_to=list(recipe.tracked.trackers),
        run_name=recipe.tracked.name or None,
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=False,
    )
    # one device per worker: with more, Trainer would wrap the model in DataParallel
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments
