"""KL and entropy over the whole vocabulary against torch's own, from full logits of each sequence alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.distributions import Categorical
from torch.nn.functional import kl_div
from transformers import AutoModelForCausalLM

from harness.data.collate import Group, collate
from harness.logps.packed_attention import use_packed_attention
from harness.logps.response_logps import plain_logps, response_entropies, response_logps
from harness.models.families import FAMILIES

GROUPS: list[Group] = [
    ((3, 4, 5), ((6, 7, 1), (9, 1))),
    ((3, 9), ((8, 7, 6, 5, 1), (1,))),
    ((11,), ((1,), (12, 13, 1))),
]
ROWS = [(prompt, responses[k]) for k in (0, 1) for prompt, responses in GROUPS]
WAYS = ("packed", "padded", "plain")


def tiny(family: str, seed: int, *, packed: bool = False) -> Any:
    torch.manual_seed(seed)
    config = FAMILIES[family].nano_config(64)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager" if family == "gemma" else "sdpa")
    with torch.no_grad():  # the one model is sharp, so that a soft cap shows, the other is not
        model.get_output_embeddings().weight.mul_(0.5 if seed else 3.0)
    if packed:
        use_packed_attention(model)
    return model


def predictions(model: Any, prompt: Any, response: Any) -> Categorical:
    logits = model(torch.tensor([[*prompt, *response]])).logits.float()[0]
    return Categorical(logits=logits[len(prompt) - 1 : len(prompt) - 1 + len(response)])


@pytest.fixture(params=[None, 100], ids=["one part", "in parts"])
def parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param is not None:
        monkeypatch.setattr("harness.logps.distributions.KEPT", request.param)


def divergences(way: str, family: str, reference: Any) -> tuple[Any, torch.Tensor]:
    model = tiny(family, 0, packed=way == "packed")
    path = plain_logps if way == "plain" else response_logps
    logps = path(model, collate(GROUPS), reference=reference)
    assert logps.token_kl is not None
    return model, logps.token_kl


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("family", list(FAMILIES))
def test_the_token_kl_and_its_gradient_are_those_of_full_logits_reference_first(family: str, way: str) -> None:
    model, got = divergences(way, family, tiny(family, 1, packed=way == "packed"))
    oracle, reference = tiny(family, 0), tiny(family, 1)
    weights, expected = torch.linspace(0.5, 2.0, got.numel()).view(got.shape), []
    for row, (prompt, response) in enumerate(ROWS):
        policy, target = (predictions(each, prompt, response).logits for each in (oracle, reference))
        kl = kl_div(policy, target.detach(), log_target=True, reduction="none").sum(-1)
        torch.testing.assert_close(got[row, : len(response)], kl, rtol=1e-3, atol=1e-5)
        assert (got[row, len(response) :] == 0).all()
        expected.append((kl * weights[row, : len(response)]).sum())
    assert float(got.detach().max()) > 0.1
    (got * weights).sum().backward()
    torch.stack(expected).sum().backward()
    for (name, ours), theirs in zip(model.named_parameters(), oracle.parameters(), strict=True):
        assert float((ours.grad - theirs.grad).abs().max() / theirs.grad.abs().max()) < 1e-4, name


@pytest.mark.parametrize("way", WAYS)
def test_a_model_has_no_kl_from_itself_and_the_reference_gets_no_gradient(way: str) -> None:
    reference = tiny("qwen", 0, packed=way == "packed")
    _, got = divergences(way, "qwen", reference)
    assert float(got.detach().abs().max()) < 1e-6
    got.sum().backward()
    assert all(parameter.grad is None for parameter in reference.parameters())


@pytest.mark.parametrize("way", WAYS)
def test_log_probs_and_their_gradients_are_the_same_with_a_kl_beside_them(way: str) -> None:
    path = plain_logps if way == "plain" else response_logps
    alone, beside = tiny("qwen", 0, packed=way == "packed"), tiny("qwen", 0, packed=way == "packed")
    first = path(alone, collate(GROUPS))
    second = path(beside, collate(GROUPS), reference=tiny("qwen", 1, packed=way == "packed"))
    assert first.token_kl is None
    assert torch.equal(first.token, second.token)
    first.token.sum().backward()
    second.token.sum().backward()
    for ours, theirs in zip(alone.parameters(), beside.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("family", list(FAMILIES))
def test_the_entropy_is_that_of_full_logits_over_the_log_of_the_vocabulary(family: str, way: str) -> None:
    with torch.no_grad():
        got = response_entropies(tiny(family, 0, packed=way == "packed"), collate(GROUPS), plain=way == "plain")
        oracle = tiny(family, 0)
        for row, (prompt, response) in enumerate(ROWS):
            found = predictions(oracle, prompt, response)
            largest = torch.tensor(float(found.logits.shape[-1])).log()
            torch.testing.assert_close(got[row, : len(response)], found.entropy() / largest, rtol=1e-4, atol=1e-5)
            assert (got[row, len(response) :] == 0).all()
    assert float(got.max()) <= 1


@pytest.mark.parametrize("way", ["packed", "plain"])
def test_under_bf16_autocast_the_kl_is_that_of_fp32_up_to_the_dtype(way: str) -> None:
    reference = tiny("qwen", 1, packed=way == "packed")
    _, exact = divergences(way, "qwen", reference)
    with torch.autocast("cpu", torch.bfloat16):
        _, got = divergences(way, "qwen", reference)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, exact, rtol=0.1, atol=0.05)
    got.sum().backward()
