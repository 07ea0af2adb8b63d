"""The check that the hot path and a model itself agree on the log-prob of a response, before anything is trained."""

from __future__ import annotations

import math
from typing import Any

import torch

from harness.api import HarnessError
from harness.data.collate import collate
from harness.data.tokens import TokenPair
from harness.logps.packed_attention import use_packed_attention
from harness.logps.response_logps import response_logps


def check_hot_path(model: Any, pair: TokenPair, *, dtype: str, name: str) -> None:
    """Let `model` take packed rows, and compare the log-prob of one response with that from its own full logits.

    An architecture that scales its logits in a way the hot path does not know must not be trained at another
    temperature in silence. `dtype` is that of the forward pass, `name` what the user calls the model.
    Raises `HarnessError` where the two differ.
    """
    device = next(model.parameters()).device
    ids = torch.tensor([[*pair.prompt_ids, *pair.chosen_ids]], device=device)
    batch = collate([(pair.prompt_ids, (pair.chosen_ids,))]).to(device)
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
        logits = model(input_ids=ids, use_cache=False).logits[0, len(pair.prompt_ids) - 1 : -1].float()
        expected = float(logits.log_softmax(-1).gather(-1, batch.label_R[:, None]).double().sum())
        use_packed_attention(model)
        got = float(response_logps(model, batch).token.double().sum())
    if not math.isfinite(expected):
        raise HarnessError(
            f"model '{name}' ({model.config.model_type}) gives {expected} nats for a response in {dtype}, expected a "
            "finite number; its numbers overflow or its weights are damaged: try --dtype float32, or name another"
        )
    allowed = 1e-3 + 1e-5 * abs(expected) if dtype == "float32" else 0.5 + 0.02 * abs(expected)
    if not abs(got - expected) <= allowed:
        raise HarnessError(
            f"model '{name}' ({model.config.model_type}): the training path gives {got:.6g} nats for a "
            f"response to which the model itself gives {expected:.6g}; this architecture is not supported, name another"
        )
