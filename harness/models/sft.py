"""Supervised fine-tuning: the start checkpoint that every loss shares. A straight loop, the same for every family.

Log-probs come from `harness.logps`, as in the training of a loss: packed rows, and only positions that predict a
response token reach the output head.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.api import HarnessError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

Example = tuple[tuple[int, ...], tuple[int, ...]]
"""(prompt ids, response ids)."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is fine-tuned. The defaults are those of SimPO's SFT stage (Meng et al. 2024, section 3)."""

    sequences: int = 0
    """Sequences to visit; more than there are means further epochs, 0 means every sequence once."""
    learning_rate: float = 2e-5
    """Peak of a cosine that ends at 0."""
    batch_size: int = 128
    """Sequences per step."""
    micro_tokens: int = 16_384
    """Padded tokens that go through the model at once; bounds memory, changes no result beyond rounding."""
    warmup: float = 0.1
    """Fraction of the steps with a rising learning rate."""
    weight_decay: float = 0.0
    clip: float = 1.0
    """Largest gradient norm."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What fine-tuning cost, and the loss it reached."""

    sequences: int
    tokens: int
    """Prompt and response tokens seen."""
    first_loss: float
    """Mean negative log-prob per response token over the first tenth of the steps, nats."""
    last_loss: float
    """The same over the last tenth."""
    seconds: float


def fine_tune(
    model: PreTrainedModel,
    sequences: Sequence[Example],
    recipe: Recipe,
    seed: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> Report:
    """Train `model` in place on the response tokens of (prompt ids, response ids); AdamW, cosine, fp32 weights.

    On an accelerator the forward runs in bf16. Raises `HarnessError` where there is nothing to train on or the loss
    is not finite.
    """
    if not sequences:
        raise HarnessError(
            "got no sequences to fine-tune on, expected at least one; give the data set a training split"
        )
    from harness.logps.packed_attention import use_packed_attention

    started = time.monotonic()
    rng = np.random.default_rng(seed)
    batches = _batches([len(prompt) + len(response) for prompt, response in sequences], recipe, rng)
    own_attention = model.config._attn_implementation
    use_packed_attention(model)
    try:
        losses = _train(model, [[sequences[index] for index in batch] for batch in batches], recipe, progress)
    finally:
        model.set_attn_implementation(own_attention)  # the model is saved with the attention it came with
    tenth = max(1, len(losses) // 10)
    return Report(
        sequences=sum(map(len, batches)),
        tokens=sum(len(sequences[index][0]) + len(sequences[index][1]) for batch in batches for index in batch),
        first_loss=float(np.mean(losses[:tenth])),
        last_loss=float(np.mean(losses[-tenth:])),
        seconds=time.monotonic() - started,
    )


def _train(
    model: PreTrainedModel, batches: Sequence[Sequence[Example]], recipe: Recipe, progress: Callable[[str], None]
) -> list[float]:
    """Return the loss of every step, nats per response token."""
    import torch

    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=recipe.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _cosine(step, len(batches), recipe.warmup))
    losses: list[float] = []
    model.train()
    for step, rows in enumerate(batches):
        labels = sum(len(response) for _, response in rows)
        total = 0.0
        for micro in _micro_batches(rows, recipe.micro_tokens):
            loss = _response_nll(model, micro) / labels
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own stub
            total += float(loss.detach())
            del loss  # frees what its graph holds before the next forward
        if not math.isfinite(total):
            raise HarnessError(
                f"fine-tuning: got loss {total} at step {step + 1} of {len(batches)}, expected a finite number; "
                "name a tuned checkpoint with --start"
            )
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(total)
        if (step + 1) % max(1, len(batches) // 10) == 0:
            progress(f"fine-tuning: step {step + 1} of {len(batches)}, {total:.3f} nats per response token")
    model.eval()
    return losses


def _response_nll(model: PreTrainedModel, rows: Sequence[Example]) -> Tensor:
    """Return the summed negative log-prob of all response tokens of `rows`, a scalar in nats, fp64."""
    import torch

    from harness.data.collate import collate
    from harness.logps.response_logps import response_logps

    device = next(model.parameters()).device
    batch = collate([(prompt, (response,)) for prompt, response in rows]).to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu"):
        return -response_logps(model, batch).sum().sum()


def _cosine(step: int, steps: int, warmup: float) -> float:
    """Return the fraction of the peak learning rate at `step` (from 0)."""
    rise = max(1, round(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def _batches(lengths: Sequence[int], recipe: Recipe, rng: np.random.Generator) -> list[np.ndarray]:
    """Return the sequences' indices by step: shuffled, then of like length within a step, so that padding is little."""
    wanted = recipe.sequences or len(lengths)
    order = np.concatenate([rng.permutation(len(lengths)) for _ in range(math.ceil(wanted / len(lengths)))])[:wanted]
    size = recipe.batch_size
    batches: list[np.ndarray] = []
    for start in range(0, wanted, 50 * size):  # sorting within a window keeps the order nearly random
        window = order[start : start + 50 * size]
        window = window[np.argsort(np.asarray(lengths)[window], kind="stable")]
        batches += [window[first : first + size] for first in range(0, len(window), size)]
    return [batches[index] for index in rng.permutation(len(batches))]


def _micro_batches(rows: Sequence[Example], tokens: int) -> list[list[Example]]:
    """Return the rows in groups of at most `tokens` padded tokens, at least one row each."""
    groups: list[list[Example]] = [[]]
    width = 0
    for row in sorted(rows, key=lambda row: len(row[0]) + len(row[1])):
        width = max(width, len(row[0]) + len(row[1]))
        if groups[-1] and width * (len(groups[-1]) + 1) > tokens:
            groups.append([])
        groups[-1].append(row)
    return groups
