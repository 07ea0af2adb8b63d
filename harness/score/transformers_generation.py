"""Answers sampled with transformers: each row by its own seed, so that no answer depends on those beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.api import Generated, GenerateRequest, Sampling

if TYPE_CHECKING:
    from torch import Tensor

TOKENS_PER_BATCH = 8192
"""Tokens of prompts and answers at once: bounds the memory of their keys and values."""


def generate(model: Any, requests: Sequence[GenerateRequest], sampling: Sampling) -> list[Generated]:
    """Return an answer per request, in their order; `model` is a causal language model of transformers."""
    answers: dict[int, Generated] = {}
    for rows in _batches(requests, sampling.max_new_tokens):
        together = _together(model, [requests[row] for row in rows], sampling)
        answers.update(zip(rows, together, strict=True))
    return [answers[row] for row in range(len(requests))]


def _batches(requests: Sequence[GenerateRequest], new: int) -> Iterator[list[int]]:
    """Yield rows of requests, prompts of like length side by side."""
    rows = sorted(range(len(requests)), key=lambda row: -len(requests[row].prompt))
    while rows:
        size = max(1, TOKENS_PER_BATCH // (len(requests[rows[0]].prompt) + new))
        yield rows[:size]
        rows = rows[size:]


def _together(model: Any, requests: Sequence[GenerateRequest], sampling: Sampling) -> list[Generated]:
    import torch
    from transformers import LogitsProcessorList

    from harness.logps.packed_attention import padded_rows

    width = max(len(request.prompt) for request in requests)
    ids, seen = torch.zeros((2, len(requests), width), dtype=torch.long, device=model.device)
    for row, request in enumerate(requests):
        ids[row, width - len(request.prompt) :] = torch.tensor(request.prompt)
        seen[row, width - len(request.prompt) :] = 1
    choose = _Choose([request.seed for request in requests], sampling)
    with torch.inference_mode(), padded_rows(model):
        out = model.generate(
            input_ids=ids,
            attention_mask=seen,
            logits_processor=LogitsProcessorList([choose]),
            do_sample=False,
            max_new_tokens=sampling.max_new_tokens,
            eos_token_id=list(sampling.stop),
            pad_token_id=0,
            use_cache=True,
        )
    log_probs = torch.stack(choose.log_probs, dim=1).cpu().numpy()
    return [_cut(answer, row, sampling) for answer, row in zip(out[:, width:].tolist(), log_probs, strict=True)]


def _cut(answer: Sequence[int], log_probs: np.ndarray, sampling: Sampling) -> Generated:
    """Return an answer up to its stop token; what follows is padding."""
    ends = [place for place, token in enumerate(answer) if token in sampling.stop]
    count = ends[0] + 1 if ends else len(answer)
    return Generated(
        tokens=tuple(answer[:count]),
        finish="stop" if ends else "length",
        log_probs=log_probs[:count].astype(np.float64),
    )


class _Choose:
    """Chooses the next token of each row and keeps its log-prob under the model; greedy search then takes it.

    A sample is the largest of log-prob plus Gumbel noise (Gumbel 1954; Maddison et al. 2014, arXiv:1411.0030), each
    row's noise from its own generator.
    """

    def __init__(self, seeds: Sequence[int], sampling: Sampling) -> None:
        import torch
        from transformers import TemperatureLogitsWarper, TopPLogitsWarper

        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.greedy = sampling.temperature == 0
        self.warpers: list[Any] = []
        if not self.greedy and sampling.temperature != 1:
            self.warpers.append(TemperatureLogitsWarper(float(sampling.temperature)))
        if not self.greedy and sampling.top_p < 1:
            self.warpers.append(TopPLogitsWarper(sampling.top_p))
        self.log_probs: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return scores of 0 for the token chosen in each row and minus infinity for all others."""
        import torch

        log_probs = scores.float().log_softmax(-1)
        warped = log_probs
        for warp in self.warpers:
            warped = warp(input_ids, warped)
        if not self.greedy:
            warped = warped + torch.stack([_gumbel(each, warped.shape[-1]) for each in self.generators]).to(warped)
        chosen = warped.argmax(-1, keepdim=True)
        self.log_probs.append(log_probs.gather(-1, chosen)[:, 0])
        return torch.full_like(scores, float("-inf")).scatter(-1, chosen, 0.0)


def _gumbel(generator: Any, count: int) -> Tensor:
    import torch

    exponential = torch.empty(count, dtype=torch.float64).exponential_(generator=generator)
    return -exponential.log()
