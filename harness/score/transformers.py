"""The transformers scorer: a plain forward, the cross-check of the vLLM scorer and the fallback where it cannot run.

Legend of shapes: B sequences, L tokens (padded), D hidden size, N response tokens of a batch, V vocabulary.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.api import HarnessError, OpenScorer, ScoreRequest, ScorerOptions, ScorerSource, hookimpl
from harness.score.checkpoint import (
    Checkpoint,
    read_checkpoint,
    require_log_probs,
    require_same_architecture,
    require_scorable,
)
from harness.torchvision_guard import hide_broken_torchvision

if TYPE_CHECKING:
    from torch import Tensor

TOKENS_PER_BATCH = 4096
"""Padded tokens a forward, which bounds its memory."""
LOGITS_PER_CHUNK = 2**24
"""Logits held at a time, 64 MiB in fp32."""


def sequence_log_probs(model: Any, requests: Sequence[ScoreRequest]) -> np.ndarray:
    """Return the summed log-prob of each response in nats, (len(requests),) float64, in the order asked.

    `model` is a causal language model of transformers. Only response positions reach the output head; the log-softmax
    is taken in fp32 and sums in fp64, whatever the dtype of the model.
    """
    import torch

    sums = np.empty(len(requests), dtype=np.float64)
    with torch.inference_mode():
        for indices in _batches(requests):
            sums[indices] = _batch_log_probs(model, [requests[index] for index in indices])
    return sums


def _batches(requests: Sequence[ScoreRequest]) -> Iterator[list[int]]:
    """Yield indices into `requests`, longest first, as many at a time as the token budget allows."""
    lengths = [len(request.prompt) + len(request.response) for request in requests]
    order = sorted(range(len(requests)), key=lambda index: -lengths[index])
    while order:
        size = max(1, TOKENS_PER_BATCH // lengths[order[0]])
        yield order[:size]
        order = order[size:]


def _batch_log_probs(model: Any, requests: Sequence[ScoreRequest]) -> np.ndarray:
    """Return the summed log-prob of each response, (B,) float64, from one forward."""
    import torch

    sequences = [torch.tensor(request.prompt + request.response) for request in requests]
    ids_BL = torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True)
    position_L = torch.arange(ids_BL.shape[1])
    start_B1 = torch.tensor([[len(request.prompt)] for request in requests])
    end_B1 = torch.tensor([[len(sequence)] for sequence in sequences])
    ids_BL = ids_BL.to(model.device)
    # No attention mask: padding is on the right, where a causal model never looks; a mask would leave padded rows of
    # a sliding window with nothing to attend to, which is NaN in some attention implementations.
    hidden_BLD = model.base_model(input_ids=ids_BL, use_cache=False).last_hidden_state
    # the hidden state at position t predicts token t + 1
    predicts_BL = ((position_L >= start_B1) & (position_L < end_B1))[:, 1:].to(model.device)
    logp_N = _token_log_probs(model, hidden_BLD[:, :-1][predicts_BL], ids_BL[:, 1:][predicts_BL])
    row_N = predicts_BL.nonzero()[:, 0]
    sum_B = torch.zeros(len(requests), dtype=torch.float64).index_add_(0, row_N.cpu(), logp_N.double().cpu())
    result: np.ndarray = sum_B.numpy()
    return result


def _token_log_probs(model: Any, hidden_ND: Tensor, labels_N: Tensor) -> Tensor:
    """Return log p(label), (N,) fp32; logits are made for a bounded number of positions at a time."""
    import torch

    head = model.get_output_embeddings()
    cap = model.config.get_text_config().to_dict().get("final_logit_softcapping")
    rows = max(1, LOGITS_PER_CHUNK // head.weight.shape[0])
    parts = []
    for start in range(0, len(labels_N), rows):
        logits_NV = head(hidden_ND[start : start + rows]).float()
        if cap is not None:
            logits_NV = torch.tanh(logits_NV / cap) * cap
        parts.append(-torch.nn.functional.cross_entropy(logits_NV, labels_N[start : start + rows], reduction="none"))
    return torch.cat(parts)


@dataclass(kw_only=True)
class TransformersScorer:
    """A live model of transformers that scores and takes other weights of its architecture."""

    opened: Checkpoint
    """What the scorer was opened with: every later checkpoint must match it."""
    current: Path
    max_length: int
    model: Any

    def load(self, checkpoint: Path) -> None:
        """Swap in the weights of `checkpoint`; see `OpenScorer.load`."""
        import torch

        new = read_checkpoint(checkpoint)
        require_same_architecture(self.opened, new)
        parameters = self.model.state_dict()
        unknown = sorted(new.shapes.keys() - parameters.keys())
        if unknown:
            raise HarnessError(
                f"got weight '{unknown[0]}', expected the names the live {type(self.model).__name__} uses; "
                f"open another scorer for {checkpoint}"
            )
        with torch.no_grad():
            for name, tensor in new.tensors():
                parameters[name].copy_(tensor)
        self.current = checkpoint

    def score(self, requests: Sequence[ScoreRequest]) -> np.ndarray:
        """Return the summed log-prob of each response in nats, (len(requests),) float64, in the order asked."""
        require_scorable(requests, self.max_length, self.opened)
        place = {request: index for index, request in enumerate(dict.fromkeys(requests))}
        sums = require_log_probs(sequence_log_probs(self.model, list(place)), self.current)
        return sums[[place[request] for request in requests]]

    def close(self) -> None:
        """Free the memory."""
        self.model = None


def open_transformers(checkpoint: Path, options: ScorerOptions) -> OpenScorer:
    """Load the model of `checkpoint`, on the GPU where there is one."""
    hide_broken_torchvision()
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    opened = read_checkpoint(checkpoint)
    config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=options.trust_remote_code)
    # sdpa leaves Gemma-2's attention soft-capping out
    capped = config.get_text_config().to_dict().get("attn_logit_softcapping") is not None
    model = AutoModelForCausalLM.from_pretrained(
        checkpoint,
        config=config,
        dtype=getattr(torch, options.dtype),
        attn_implementation="eager" if capped else "sdpa",
        trust_remote_code=options.trust_remote_code,
    )
    model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    return TransformersScorer(opened=opened, current=checkpoint, max_length=options.max_length, model=model)


def version() -> str:
    """Return the version of transformers."""
    return importlib.metadata.version("transformers")


def why_not() -> str | None:
    """Return None: transformers is always installed with the harness."""
    return None


@hookimpl
def harness_scorers() -> list[ScorerSource]:
    """Return the transformers scorer."""
    return [ScorerSource(name="transformers", version=version, why_not=why_not, open=open_transformers)]
