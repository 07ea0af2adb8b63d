"""The hot path against a plain forward pass with full logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import harness.logps
from harness.data.collate import collate
from harness.logps import response_logps
from harness.models.families import FAMILIES

ROWS = [((3, 4, 5), (6, 7, 1)), ((3, 9), (8, 7, 6, 5, 1)), ((11,), (1,))]


def tiny(family: str) -> Any:
    torch.manual_seed(0)
    config = FAMILIES[family].nano_config(64)
    config.num_hidden_layers = 2
    attention = "eager" if family == "gemma" else "sdpa"
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0)  # so that Gemma's soft-capping shows
    return model.double() if family != "gemma" else model


def plain(model: Any, prompt: tuple[int, ...], response: tuple[int, ...]) -> torch.Tensor:
    ids = torch.tensor([[*prompt, *response]])
    logp = model(ids).logits.log_softmax(-1)[0]
    return torch.stack([logp[len(prompt) - 1 + i, token] for i, token in enumerate(response)])


@pytest.mark.parametrize("family", list(FAMILIES))
def test_token_log_probs_equal_a_plain_forward_with_full_logits(family: str) -> None:
    model = tiny(family)
    logps = response_logps(model, collate(ROWS))
    for row, (prompt, response) in enumerate(ROWS):
        torch.testing.assert_close(
            logps.token[row, : len(response)], plain(model, prompt, response).float(), rtol=1e-4, atol=1e-4
        )
        assert (logps.token[row, len(response) :] == 0).all()
        assert logps.mask[row].sum() == len(response)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_gradients_equal_those_of_a_plain_forward_also_in_recomputed_chunks(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness.logps, "CHUNK_ELEMENTS", 128)  # two rows of logits a chunk
    model = tiny(family)
    response_logps(model, collate(ROWS)).token.sum().backward()
    ours = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    torch.stack([plain(model, prompt, response).sum() for prompt, response in ROWS]).sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-3, atol=1e-4 * float(parameter.grad.abs().max()))


def test_the_log_of_the_sum_of_squares_is_that_of_the_full_softmax() -> None:
    model = tiny("qwen")
    logps = response_logps(model, collate(ROWS), log_sum_sq=True)
    probabilities = model(torch.tensor([[3, 4, 5, 6, 7, 1]])).logits.softmax(-1)[0]
    expected = (probabilities[2:5] ** 2).sum(-1).log().float()
    assert logps.log_sum_sq is not None
    torch.testing.assert_close(logps.log_sum_sq[0, :3], expected, rtol=1e-5, atol=1e-5)
    assert not logps.log_sum_sq.requires_grad
