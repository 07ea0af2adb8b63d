"""The hot path: hidden states -> log-probs of the response tokens.

A prompt goes through the model once for all its responses, in one packed row without padding (models in
`harness.attention.FAMILIES`; others run padded rows, which are also the oracle of the tests). Only positions that
predict a response token reach the output head, and in chunks whose logits are recomputed in the backward pass, so that
no tensor of tokens x vocabulary outlives its chunk.

Legend of shapes: L packed tokens, N responses, S row length (padded), D hidden width, V vocabulary, T response tokens
(padded), R response tokens of all rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from harness.api import Logps
from harness.attention import is_packed, layout_of
from harness.data.collate import Batch

CHUNK_ELEMENTS = 2**24
"""Logits held at a time: 64 MiB in fp32."""


def response_logps(model: Any, batch: Batch, *, log_sum_sq: bool = False) -> Logps:
    """Return log p of every response token under `model`, (N, T) in fp32, 0 outside the mask.

    `log_sum_sq` adds log sum_v p(v)^2 a token, detached (WPO).
    """
    hidden_RD = _packed_hidden(model, batch) if is_packed(model) else _padded_hidden(model, batch)
    head = model.get_output_embeddings()
    softcap = model.config.to_dict().get("final_logit_softcapping")
    rows = max(1, CHUNK_ELEMENTS // head.weight.shape[0])
    parts = [
        _chunk(hidden, label, head, softcap, log_sum_sq)
        for hidden, label in zip(torch.split(hidden_RD, rows), torch.split(batch.label_R, rows), strict=True)
    ]
    token = torch.zeros(batch.mask_NT.shape, dtype=torch.float32, device=hidden_RD.device)
    token = token.masked_scatter(batch.mask_NT, torch.cat([part[0] for part in parts]))
    if not log_sum_sq:
        return Logps(token=token, mask=batch.mask_NT)
    square = torch.zeros_like(token).masked_scatter(batch.mask_NT, torch.cat([part[1] for part in parts]).detach())
    return Logps(token=token, mask=batch.mask_NT, log_sum_sq=square)


def _packed_hidden(model: Any, batch: Batch) -> Tensor:
    hidden_LD = backbone(model)(
        input_ids=batch.ids_L[None], position_ids=batch.position_L[None], use_cache=False, layout=layout_of(batch)
    ).last_hidden_state[0]
    # the last token of a prompt predicts the first one of every response: an index met more than once
    return hidden_LD.index_select(0, batch.predictor_R)  # type: ignore[no-any-return]


def _padded_hidden(model: Any, batch: Batch) -> Tensor:
    attention_NS = (batch.row_NS >= 0).long()
    ids_NS = batch.ids_L[batch.row_NS.clamp(min=0)] * attention_NS
    hidden_NSD = backbone(model)(input_ids=ids_NS, attention_mask=attention_NS, use_cache=False).last_hidden_state
    column_NT = batch.start_N[:, None] - 1 + torch.arange(batch.mask_NT.shape[1], device=ids_NS.device)
    row_NT = torch.arange(len(ids_NS), device=ids_NS.device)[:, None].expand_as(column_NT)
    return hidden_NSD[row_NT[batch.mask_NT], column_NT[batch.mask_NT]]  # type: ignore[no-any-return]


def backbone(model: Any) -> Any:
    """Return the decoder without its output head; LoRA layers, which sit inside it, stay in force."""
    inner = model.get_base_model() if model.__class__.__module__.startswith("peft") else model
    return inner.get_decoder()


def _chunk(
    hidden_RD: Tensor, label_R: Tensor, head: Any, softcap: float | None, log_sum_sq: bool
) -> tuple[Tensor, Tensor]:
    def log_probs(hidden_RD: Tensor, weight_VD: Tensor) -> tuple[Tensor, Tensor]:
        logits_RV = torch.nn.functional.linear(hidden_RD, weight_VD, head.bias).float()
        if softcap is not None:
            logits_RV = softcap * torch.tanh(logits_RV / softcap)
        total_R = logits_RV.logsumexp(-1)
        token_R = logits_RV.gather(-1, label_R[:, None]).squeeze(-1) - total_R
        with torch.no_grad():
            square_R = (2 * logits_RV).logsumexp(-1) - 2 * total_R if log_sum_sq else token_R.detach()
        return token_R, square_R

    if torch.is_grad_enabled() and hidden_RD.shape[0] * head.weight.shape[0] >= CHUNK_ELEMENTS // 2:
        return checkpoint(log_probs, hidden_RD, head.weight, use_reentrant=False)  # type: ignore[no-any-return]
    return log_probs(hidden_RD, head.weight)
