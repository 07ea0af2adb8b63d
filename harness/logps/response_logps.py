"""The hot path: hidden states -> log-probs of the response tokens.

A prompt goes through the model once for all its responses, in one packed row without padding (model types in
`packed_attention.FAMILIES`; others run padded rows, with which the tests compare). Only positions that predict a
response token reach the output head, in blocks (`output_head`): no tensor of tokens x vocabulary outlives its block.

Legend of shapes: L packed tokens, N responses, S row length (padded), D hidden width, T response tokens
(padded), R response tokens of the whole batch.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from harness.api import Logps
from harness.data.collate import Batch
from harness.logps.cpu_matmul import FastLinear
from harness.logps.distributions import Hidden, divergence, entropy, entropy_over_vocabulary, kl_over_vocabulary
from harness.logps.output_head import label_logps
from harness.logps.packed_attention import is_packed, layout_of

LARGE = 2**22
"""Fewest weights of an embedding whose look-up gradient is worth keeping sparse: 16 MiB in fp32."""


def response_logps(model: Any, batch: Batch, *, log_sum_sq: bool = False, reference: Any = None) -> Logps:
    """Return log p of every response token under `model`, (N, T) in fp32, 0 outside the mask.

    `log_sum_sq` adds log sum_v p(v)^2 of each token, detached (WPO); a `reference` model adds the KL of `model` from it
    at each token (TDPO).
    """
    hidden = _hidden(model, batch)
    token_R, square_R = label_logps(hidden.state_RD, batch.label_R, hidden.head, hidden.softcap, log_sum_sq=log_sum_sq)
    return Logps(
        token=_placed(token_R, batch),
        mask=batch.mask_NT,
        log_sum_sq=_placed(square_R, batch) if log_sum_sq else None,
        token_kl=None if reference is None else _placed(divergence(hidden, _frozen(reference, batch)), batch),
    )


def response_entropies(model: Any, batch: Batch, *, plain: bool = False) -> Tensor:
    """Return the entropy of the next-token distribution at every response token, (N, T), over its largest value."""
    if plain:
        return entropy_over_vocabulary(_plain_logp(model, batch)) * batch.mask_NT
    return _placed(entropy(_hidden(model, batch)), batch)


def _frozen(model: Any, batch: Batch) -> Hidden:
    with torch.no_grad():
        return _hidden(model, batch)


def _hidden(model: Any, batch: Batch) -> Hidden:
    """Return the hidden states at the positions that predict a response token, and the head that reads them."""
    _sparse_look_up(model)
    with FastLinear():
        state_RD = _packed_hidden(model, batch) if is_packed(model) else _padded_hidden(model, batch)
    softcap = model.config.get_text_config().to_dict().get("final_logit_softcapping")
    return Hidden(state_RD, model.get_output_embeddings(), softcap)


def _placed(values_R: Tensor, batch: Batch) -> Tensor:
    """Return the values of the response tokens at their places, (N, T), 0 elsewhere."""
    empty_NT = torch.zeros(batch.mask_NT.shape, dtype=torch.float32, device=values_R.device)
    return empty_NT.masked_scatter(batch.mask_NT, values_R)


def recompute_activations(model: Any) -> None:
    """Let `model` recompute its layers in the backward pass instead of keeping their activations.

    The layers run again outside of `response_logps`, so `FastLinear` is entered there too: otherwise the recomputed
    products would come from another library than those of the forward pass and differ in the last digits.
    """
    again = {"use_reentrant": False, "context_fn": lambda: (nullcontext(), FastLinear())}
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=again)


def plain_logps(model: Any, batch: Batch, *, log_sum_sq: bool = False, reference: Any = None) -> Logps:
    """Return the same as `response_logps` by the plain path: padded rows, full logits, automatic differentiation.

    The fast path is checked against it (`--plain-path`); `model` has the attention of its own family.
    """
    logp_NTV = _plain_logp(model, batch)
    label_NT = torch.zeros(batch.mask_NT.shape, dtype=torch.long, device=logp_NTV.device).masked_scatter(
        batch.mask_NT, batch.label_R
    )
    token_NT = logp_NTV.gather(-1, label_NT[..., None]).squeeze(-1) * batch.mask_NT
    square_NT = (2 * logp_NTV.detach()).logsumexp(-1) * batch.mask_NT if log_sum_sq else None
    kl_NT = None
    if reference is not None:
        with torch.no_grad():
            target_NTV = _plain_logp(reference, batch)
        kl_NT = kl_over_vocabulary(target_NTV, logp_NTV) * batch.mask_NT
    return Logps(token=token_NT, mask=batch.mask_NT, log_sum_sq=square_NT, token_kl=kl_NT)


def _plain_logp(model: Any, batch: Batch) -> Tensor:
    """Return the log-probs of the vocabulary at every response token, (N, T, V); elsewhere those of some position."""
    attention_NS = (batch.row_NS >= 0).long()
    ids_NS = batch.ids_L[batch.row_NS.clamp(min=0)] * attention_NS
    logp_NSV = model(input_ids=ids_NS, attention_mask=attention_NS, use_cache=False).logits.float().log_softmax(-1)
    column_NT = batch.start_N[:, None] - 1 + torch.arange(batch.mask_NT.shape[1], device=ids_NS.device)
    logp_NTV: Tensor = logp_NSV.take_along_dim(column_NT.clamp(max=ids_NS.shape[1] - 1)[..., None], dim=1)
    return logp_NTV


def _sparse_look_up(model: Any) -> None:
    """Keep the look-up gradient of an embedding sparse if the embedding is also the output head.

    The two gradients are added. A dense look-up gradient would be a second tensor of the size of the head's, zero
    except in the rows looked up: it costs a tenth of a step with a vocabulary of 65,536 and width 256. Not on a GPU,
    where the sparse rows would be added in no fixed order.
    """
    lookup, head = model.get_input_embeddings(), model.get_output_embeddings()
    if isinstance(lookup, torch.nn.Embedding):
        weight = lookup.weight
        lookup.sparse = weight is head.weight and weight.numel() >= LARGE and weight.device.type == "cpu"


def _packed_hidden(model: Any, batch: Batch) -> Tensor:
    hidden_LD = backbone(model)(
        input_ids=batch.ids_L[None], position_ids=batch.position_L[None], use_cache=False, layout=layout_of(batch)
    ).last_hidden_state[0]
    # an index may occur more than once: the last token of a prompt predicts the first token of every response
    return hidden_LD.index_select(0, batch.predictor_R)  # type: ignore[no-any-return]


def _padded_hidden(model: Any, batch: Batch) -> Tensor:
    attention_NS = (batch.row_NS >= 0).long()
    ids_NS = batch.ids_L[batch.row_NS.clamp(min=0)] * attention_NS
    hidden_NSD = backbone(model)(input_ids=ids_NS, attention_mask=attention_NS, use_cache=False).last_hidden_state
    column_NT = batch.start_N[:, None] - 1 + torch.arange(batch.mask_NT.shape[1], device=ids_NS.device)
    row_NT = torch.arange(len(ids_NS), device=ids_NS.device)[:, None].expand_as(column_NT)
    return hidden_NSD[row_NT[batch.mask_NT], column_NT[batch.mask_NT]]  # type: ignore[no-any-return]


def backbone(model: Any) -> Any:
    """Return the decoder without its output head; LoRA layers, which are inside it, stay active."""
    inner = model.get_base_model() if model.__class__.__module__.startswith("peft") else model
    return inner.get_decoder()
