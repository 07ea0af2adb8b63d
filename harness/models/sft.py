"""Supervised fine-tuning: the start checkpoint that every loss shares. A straight loop, the same for every family.

Only response positions go through the language-model head: prompts cost no logits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.api import HarnessError

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

Example = tuple[tuple[int, ...], tuple[int, ...]]
"""(prompt ids, response ids)."""
IGNORED = -100


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is fine-tuned. The defaults are those of SimPO's SFT stage (Meng et al. 2024, section 3)."""

    sequences: int = 0
    """Sequences visited; more than there are means further epochs, 0 means each once."""
    learning_rate: float = 2e-5
    """Peak of a cosine that ends at 0."""
    batch_size: int = 128
    """Sequences a step."""
    micro_tokens: int = 16_384
    """Padded tokens that go through the model at once; bounds memory, changes no result beyond rounding."""
    warmup: float = 0.1
    """Fraction of the steps with a rising learning rate."""
    weight_decay: float = 0.0
    clip: float = 1.0
    """Largest gradient norm."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a fine-tuning cost and reached."""

    sequences: int
    tokens: int
    """Prompt and response tokens seen."""
    first_loss: float
    """Mean negative log-prob of a response token over the first tenth of the steps, nats."""
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
    import torch

    if not sequences:
        raise HarnessError(
            "got no sequences to fine-tune on, expected at least one; give the data set a training split"
        )
    started = time.monotonic()
    rng = np.random.default_rng(seed)
    batches = _batches([len(prompt) + len(response) for prompt, response in sequences], recipe, rng)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=recipe.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _cosine(step, len(batches), recipe.warmup))
    losses: list[float] = []
    model.train()
    for step, batch in enumerate(batches):
        rows = [sequences[index] for index in batch]
        labels = sum(len(response) for _, response in rows)
        total = 0.0
        for micro in _micro_batches(rows, recipe.micro_tokens):
            loss = response_nll(model, micro) / labels
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own stub
            total += float(loss.detach())
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
            progress(f"fine-tuning: step {step + 1} of {len(batches)}, {total:.3f} nats a response token")
    model.eval()
    tenth = max(1, len(losses) // 10)
    return Report(
        sequences=sum(map(len, batches)),
        tokens=sum(len(sequences[index][0]) + len(sequences[index][1]) for batch in batches for index in batch),
        first_loss=float(np.mean(losses[:tenth])),
        last_loss=float(np.mean(losses[-tenth:])),
        seconds=time.monotonic() - started,
    )


def response_nll(model: PreTrainedModel, rows: Sequence[Example]) -> Tensor:
    """Return the summed negative log-prob of all response tokens of `rows`, a scalar in nats."""
    import torch
    from torch.nn import functional

    device = next(model.parameters()).device
    width = max(len(prompt) + len(response) for prompt, response in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    labels = torch.full((len(rows), width), IGNORED)
    for row, (prompt, response) in enumerate(rows):
        end = len(prompt) + len(response)
        ids[row, :end] = torch.tensor([*prompt, *response])
        labels[row, len(prompt) - 1 : end - 1] = torch.tensor(response)  # a position predicts the next token
    ids, labels = ids.to(device), labels.to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu"):
        # padding stands on the right and attention is causal, so no response position sees it: no mask is needed
        hidden = _body(model)(input_ids=ids, use_cache=False).last_hidden_state[labels != IGNORED]
        logits = model.get_output_embeddings()(hidden).float()
    cap = model.config.to_dict().get("final_logit_softcapping")
    if cap is not None:
        logits = cap * torch.tanh(logits / cap)
    return functional.cross_entropy(logits, labels[labels != IGNORED], reduction="sum")


def _body(model: PreTrainedModel) -> torch.nn.Module:
    body: Any = model.base_model
    assert body is not model, "a causal language model has a body below its head"
    return body  # type: ignore[no-any-return]  # transformers is not typed


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
