"""The transformers scorer: the cross-check of the vLLM scorer and the fallback where it cannot run.

A prompt goes through the model once for all its responses, and only response positions reach the output head: see
`harness.logps.response_logps`.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.api import (
    Generated,
    GenerateRequest,
    OpenScorer,
    Sampling,
    ScoreRequest,
    ScorerOptions,
    ScorerSource,
    hookimpl,
)
from harness.import_guard import guard_imports
from harness.models.weights import quiet
from harness.score.checkpoint import (
    Checkpoint,
    read_checkpoint,
    require_log_probs,
    require_same_architecture,
    require_scorable,
    require_window,
)
from harness.score.transformers_generation import generate

if TYPE_CHECKING:
    from torch import Tensor

TOKENS_PER_BATCH = 4096
"""Tokens per forward, every response counted with its prompt and as long as the longest: bounds the memory."""


def sequence_log_probs(model: Any, requests: Sequence[ScoreRequest]) -> np.ndarray:
    """Return the summed log-prob of each response in nats, (len(requests),) float64, in the order asked.

    `model` is a causal language model of transformers. The log-softmax is taken in fp32 and sums in fp64, whatever the
    dtype of the model.
    """
    sums = np.empty(len(requests), dtype=np.float64)
    for indices, logps in _forwards(model, requests):
        sums[indices] = logps.sum(-1).cpu().numpy()
    return sums


def token_log_probs(model: Any, requests: Sequence[ScoreRequest]) -> list[np.ndarray]:
    """Return the log-probs of each response's tokens in nats, (tokens,) float64 each, in the order asked."""
    found: dict[int, np.ndarray] = {}
    for indices, logps in _forwards(model, requests):
        found.update(zip(indices.tolist(), logps.cpu().numpy(), strict=True))
    return [found[index][: len(request.response)] for index, request in enumerate(requests)]


def _forwards(model: Any, requests: Sequence[ScoreRequest]) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Yield the indices of the responses of one forward and their log-probs, (responses, longest) float64, 0 beyond."""
    import torch

    from harness.data.collate import collate
    from harness.logps.response_logps import response_logps

    with torch.inference_mode():
        for rows in _batches(requests):
            groups = [(requests[row[0]].prompt, [requests[index].response for index in row]) for row in rows]
            logps = response_logps(model, collate(groups).to(model.device))
            yield np.array(rows).T.ravel(), logps.token.double()  # first responses first


def _batches(requests: Sequence[ScoreRequest]) -> Iterator[list[list[int]]]:
    """Yield one forward at a time: per prompt a row of indices into `requests`; all rows of a batch equally long.

    Longest first, as many at a time as the token budget allows, which may split the responses to a prompt.
    """

    def length(row: Sequence[int]) -> int:
        return max(len(requests[index].prompt) + len(requests[index].response) for index in row)

    by_prompt: dict[tuple[int, ...], list[int]] = {}
    for index in sorted(range(len(requests)), key=lambda index: -length([index])):
        by_prompt.setdefault(requests[index].prompt, []).append(index)
    by_count: dict[int, list[list[int]]] = {}
    for indices in by_prompt.values():
        most = max(1, TOKENS_PER_BATCH // length(indices))
        for start in range(0, len(indices), most):
            row = indices[start : start + most]
            by_count.setdefault(len(row), []).append(row)
    for count, rows in by_count.items():
        rows.sort(key=length, reverse=True)
        while rows:
            size = max(1, TOKENS_PER_BATCH // (count * length(rows[0])))
            yield rows[:size]
            rows = rows[size:]


@dataclass(kw_only=True)
class TransformersScorer:
    """A live model of transformers that scores and takes other weights of its architecture."""

    opened: Checkpoint
    """What the scorer was opened with: every later checkpoint must match it."""
    current: Path
    options: ScorerOptions
    model: Any

    def load(self, checkpoint: Path) -> None:
        """Swap in the weights of `checkpoint`; see `OpenScorer.load`."""
        require_same_architecture(self.opened, read_checkpoint(checkpoint, self.options.trust_remote_code))
        self.model = None  # one at a time in memory
        self.model = _live(checkpoint, self.options)
        self.current = checkpoint

    def score(self, requests: Sequence[ScoreRequest]) -> np.ndarray:
        """Return the summed log-prob of each response in nats, (len(requests),) float64, in the order asked."""
        require_scorable(requests, self.options.max_length, self.opened)
        place = {request: index for index, request in enumerate(dict.fromkeys(requests))}
        sums = require_log_probs(sequence_log_probs(self.model, list(place)), self.current)
        return sums[[place[request] for request in requests]]

    def token_log_probs(self, requests: Sequence[ScoreRequest]) -> list[np.ndarray]:
        """Return the log-probs of each response's tokens in nats, (tokens,) float64 each, in the order asked."""
        require_scorable(requests, self.options.max_length, self.opened)
        return token_log_probs(self.model, requests)

    def generate(self, requests: Sequence[GenerateRequest], sampling: Sampling) -> list[Generated]:
        """Return an answer per request, in the order asked; see `OpenGenerator.generate`."""
        require_window(requests, sampling, self.options.max_length)
        return generate(self.model, requests, sampling)

    def close(self) -> None:
        """Free the memory."""
        self.model = None


def open_transformers(checkpoint: Path, options: ScorerOptions) -> OpenScorer:
    """Load the model of `checkpoint`, on the GPU where there is one."""
    opened = read_checkpoint(checkpoint, options.trust_remote_code)
    return TransformersScorer(opened=opened, current=checkpoint, options=options, model=_live(checkpoint, options))


def _live(checkpoint: Path, options: ScorerOptions) -> Any:
    """Return the model of `checkpoint`, ready to score."""
    guard_imports()
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from harness.logps.packed_attention import padded_attention, use_packed_attention

    config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=options.trust_remote_code)
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(
            checkpoint,
            config=config,
            dtype=getattr(torch, options.dtype),
            attn_implementation=padded_attention(config),
            trust_remote_code=options.trust_remote_code,
        )
    model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    use_packed_attention(model)
    return model


def version() -> str:
    """Return the version of transformers."""
    return importlib.metadata.version("transformers")


def why_not() -> str | None:
    """Return None: transformers is always installed with the harness."""
    return None


@hookimpl
def harness_scorers() -> list[ScorerSource]:
    """Return the transformers scorer."""
    return [ScorerSource(name="transformers", version=version, why_not=why_not, generates=True, open=open_transformers)]
