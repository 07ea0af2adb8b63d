"""The hot path against a plain forward pass with full logits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM

from harness.data.collate import Group, collate
from harness.logps import cpu_matmul, output_head, packed_attention
from harness.logps.packed_attention import use_packed_attention
from harness.logps.response_logps import plain_logps, recompute_activations, response_logps
from harness.models.families import FAMILIES

pytestmark = [  # what FlexAttention says of itself where it is not compiled, and torch where it is traced
    pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
]
LONG = tuple(range(2, 60))
GROUPS: list[Group] = [
    ((3, 4, 5), ((6, 7, 1), (9, 1))),
    ((3, 9), ((8, 7, 6, 5, 1), (1,))),
    ((11,), ((1,), (12, 13, 1))),
    (LONG[:40], (LONG[:30], LONG[10:58])),  # prompt + response outgrow the sliding windows
]
ROWS = [(prompt, responses[k]) for k in (0, 1) for prompt, responses in GROUPS]
PATHS = {
    "in place": {},
    "in place, in blocks of 8 queries": {"harness.logps.cpu_attention.BLOCK": 8},
    "by FlexAttention": {
        "harness.logps.packed_attention.FLEX_ON": frozenset({"cpu"}),
        # on a CPU it refuses gradients, which its plain implementation has: those a GPU's kernel is compared with
        "torch.nn.attention.flex_attention._validate_device": lambda query, key, value: None,
    },
    "as rows": {"harness.logps.packed_attention.LONGEST": 0},
    "through oneDNN": {"harness.logps.cpu_matmul.by_onednn": lambda: True},
    "head in blocks": {
        "harness.logps.output_head.KEPT": 0,
        "harness.logps.output_head.BLOCK": 1024,
        "harness.logps.output_head.NARROWEST": 16,
    },
    "sparse look-up": {"harness.logps.response_logps.LARGE": 0},
    "padded": None,
}
"""Every way from hidden states to log-probs, and what makes the code take it."""


@pytest.fixture(params=PATHS)
def packed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Take one of the ways; False where the model is to run padded rows."""
    for name, value in (PATHS[request.param] or {}).items():
        monkeypatch.setattr(name, value)
    return PATHS[request.param] is not None


def tiny(family: str, *, packed: bool) -> Any:
    torch.manual_seed(0)
    config = FAMILIES[family].nano_config(64)
    config.sliding_window = 32
    attention = "eager" if family == "gemma" else "sdpa"
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    if family == "gemma":  # so that its soft-capping shows; in the others it would only amplify rounding
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(2.0)
    if packed:
        use_packed_attention(model)
    return model


def plain(model: Any, prompt: Any, response: Any) -> torch.Tensor:
    ids = torch.tensor([[*prompt, *response]])
    logp = model(ids).logits.float().log_softmax(-1)[0]
    return torch.stack([logp[len(prompt) - 1 + i, token] for i, token in enumerate(response)])


@pytest.mark.parametrize("family", list(FAMILIES))
def test_token_log_probs_equal_a_plain_forward_with_full_logits(family: str, packed: bool) -> None:
    logps = response_logps(tiny(family, packed=packed), collate(GROUPS))
    oracle = tiny(family, packed=False)
    for row, (prompt, response) in enumerate(ROWS):
        torch.testing.assert_close(
            logps.token[row, : len(response)], plain(oracle, prompt, response), rtol=1e-4, atol=1e-4
        )
        assert (logps.token[row, len(response) :] == 0).all()
        assert logps.mask[row].sum() == len(response)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_gradients_equal_those_of_a_plain_forward(family: str, packed: bool) -> None:
    model, oracle = tiny(family, packed=packed), tiny(family, packed=False)
    response_logps(model, collate(GROUPS)).token.sum().backward()
    torch.stack([plain(oracle, prompt, response).sum() for prompt, response in ROWS]).sum().backward()
    for (name, ours), theirs in zip(model.named_parameters(), oracle.parameters(), strict=True):
        largest = float((ours.grad - theirs.grad).abs().max() / theirs.grad.abs().max())
        assert largest < 1e-5, name


def test_a_large_tied_embedding_has_one_gradient_of_its_size_not_two(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made.append(str(func))
            return func(*args, **(kwargs or {}))

    def look_ups(large: int) -> int:
        monkeypatch.setattr("harness.logps.response_logps.LARGE", large)
        made.clear()
        with Watch():
            response_logps(tiny("qwen", packed=True), collate(GROUPS)).token.sum().backward()
        return sum("embedding_dense_backward" in name for name in made)

    assert (look_ups(10**9), look_ups(0)) == (1, 0)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_under_bf16_autocast_log_probs_and_gradients_are_those_of_fp32_up_to_the_dtype(
    family: str, packed: bool
) -> None:
    model, oracle = tiny(family, packed=packed), tiny(family, packed=False)
    with torch.autocast("cpu", torch.bfloat16):
        logps = response_logps(model, collate(GROUPS))
    assert logps.token.dtype == torch.float32
    logps.token.sum().backward()
    expected = torch.stack([plain(oracle, prompt, response).sum() for prompt, response in ROWS])
    torch.testing.assert_close(logps.sum(), expected.double(), rtol=1e-2, atol=0.1, check_dtype=False)
    expected.sum().backward()
    for (name, ours), theirs in zip(model.named_parameters(), oracle.parameters(), strict=True):
        assert ours.grad.dtype == torch.float32, name
        assert float((ours.grad - theirs.grad).norm() / theirs.grad.norm()) < 0.05, name


@pytest.mark.parametrize("family", list(FAMILIES))
def test_the_plain_path_gives_the_same_as_full_logits_of_each_sequence_alone(family: str) -> None:
    logps = plain_logps(tiny(family, packed=False), collate(GROUPS), log_sum_sq=True)
    fast = response_logps(tiny(family, packed=True), collate(GROUPS), log_sum_sq=True)
    oracle = tiny(family, packed=False)
    for row, (prompt, response) in enumerate(ROWS):
        expected = plain(oracle, prompt, response)
        torch.testing.assert_close(logps.token[row, : len(response)], expected, rtol=1e-4, atol=1e-4)
    assert (logps.token[~logps.mask] == 0).all()
    assert logps.log_sum_sq is not None
    assert fast.log_sum_sq is not None
    torch.testing.assert_close(logps.log_sum_sq, fast.log_sum_sq, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["gemma", "mistral"])
def test_the_sliding_window_bites_in_these_sequences(family: str) -> None:
    narrow, wide = tiny(family, packed=True), tiny(family, packed=True)
    for layer in wide.model.layers:
        layer.self_attn.sliding_window = None
    for module in wide.modules():
        if hasattr(module, "config") and getattr(module.config, "sliding_window", None):
            module.config.sliding_window = 4096
    batch = collate(GROUPS)
    assert (response_logps(narrow, batch).sum() - response_logps(wide, batch).sum()).abs().max() > 0.01


def test_the_soft_cap_on_attention_bites_in_these_sequences() -> None:
    capped, free = tiny("gemma", packed=True), tiny("gemma", packed=True)
    for layer in free.model.layers:
        layer.self_attn.attn_logit_softcapping = None
    batch = collate(GROUPS)
    assert (response_logps(capped, batch).sum() - response_logps(free, batch).sum()).abs().max() > 1e-3


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable`:FutureWarning")  # transformers 5.0 has no other
@pytest.mark.parametrize("onednn", [False, True])
def test_checkpointed_layers_have_the_same_gradients_and_keep_no_attention_weights(
    onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.logps.cpu_matmul.by_onednn", lambda: onednn)
    plain_model, model = tiny("qwen", packed=True), tiny("qwen", packed=True)
    recompute_activations(model)
    model.train()
    kept: dict[str, int] = {}
    for name, one in (("plain", plain_model), ("checkpointed", model)):
        saved: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, saved=saved: saved.append(t.numel()) or t, lambda t: t):
            value = response_logps(one, collate(GROUPS)).token.sum()
        kept[name] = sum(saved)
        value.backward()
    assert kept["checkpointed"] < 0.5 * kept["plain"]
    for (name, ours), theirs in zip(model.named_parameters(), plain_model.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad), name  # the same products in the same order


def test_a_second_derivative_is_refused_not_wrong() -> None:
    model = tiny("qwen", packed=True)
    value = response_logps(model, collate(GROUPS)).token.sum()
    gradients = torch.autograd.grad(value, list(model.parameters()), create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        sum(gradient.square().sum() for gradient in gradients).backward()


def test_rows_whose_weights_would_not_fit_take_the_attention_that_keeps_none(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[int] = []
    real = packed_attention.attend
    monkeypatch.setattr(packed_attention, "attend", lambda *args: called.append(1) or real(*args))
    monkeypatch.setattr(packed_attention, "KEPT", 0)
    model = tiny("qwen", packed=True)
    few = response_logps(model, collate(GROUPS)).token
    assert not called
    monkeypatch.setattr(packed_attention, "KEPT", 2**27)
    torch.testing.assert_close(few, response_logps(model, collate(GROUPS)).token, rtol=1e-4, atol=1e-5)
    assert called


def test_a_response_does_not_see_the_other_one() -> None:
    model = tiny("qwen", packed=True)
    one = response_logps(model, collate([((3, 4), ((5, 6, 1), (7, 8, 1)))]))
    other = response_logps(model, collate([((3, 4), ((5, 6, 1), (20, 30, 40, 1)))]))
    torch.testing.assert_close(one.token[0, :3], other.token[0, :3])


def test_the_log_of_the_sum_of_squares_is_that_of_the_full_softmax() -> None:
    model = tiny("qwen", packed=True)
    logps = response_logps(model, collate(GROUPS), log_sum_sq=True)
    probabilities = tiny("qwen", packed=False)(torch.tensor([[3, 4, 5, 6, 7, 1]])).logits.softmax(-1)[0]
    expected = (probabilities[2:5] ** 2).sum(-1).log().float()
    assert logps.log_sum_sq is not None
    torch.testing.assert_close(logps.log_sum_sq[0, :3], expected, rtol=1e-4, atol=1e-4)
    assert not logps.log_sum_sq.requires_grad


def test_an_architecture_that_scales_its_logits_is_refused_before_it_is_trained() -> None:
    from transformers import GraniteConfig, GraniteForCausalLM

    from harness.api import HarnessError
    from harness.data.tokens import TokenPair
    from harness.logps.check_hot_path import check_hot_path

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = GraniteForCausalLM(GraniteConfig(vocab_size=64, logits_scaling=8.0, **sizes))
    pair = TokenPair(pair_id="0", prompt_ids=(3, 4), chosen_ids=(5, 6, 1), rejected_ids=(7, 1), truncated=False)
    with pytest.raises(HarnessError, match=r"granite.*not supported"):
        check_hot_path(model, pair, dtype="float32", name="granite")
    check_hot_path(tiny("gemma", packed=False), pair, dtype="float32", name="gemma")


@pytest.mark.parametrize(("vendor", "expected"), [("AuthenticAMD", True), ("GenuineIntel", False)])
def test_fp32_products_go_through_onednn_on_chips_that_mkl_is_slow_on(
    vendor: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.logps.cpu_matmul._maker", lambda: vendor)
    assert cpu_matmul.by_onednn.__wrapped__() is expected


def test_many_numbers_of_rows_do_not_fill_the_memory_with_onednn_kernels() -> None:
    code = """
import torch
from pathlib import Path
from harness.logps import cpu_matmul

def resident():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line)

torch.set_num_threads(1)
cpu_matmul.by_onednn = lambda: True
weight = torch.randn(256, 128)
cpu_matmul.linear(torch.randn(600, 128), weight)
before = resident()
for rows in range(300, 600):
    cpu_matmul.linear(torch.randn(rows, 128), weight)
    cpu_matmul.mm_over_rows(torch.randn(rows, 256), torch.randn(rows, 128))
print((resident() - before) // 1024)
"""
    if not Path("/proc/self/status").exists():
        pytest.skip("resident memory is read from Linux's /proc")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 64, "MiB of 600 products; a kernel for each of them would take 400"


@pytest.mark.parametrize(("onednn", "widths"), [(False, {160, 128}), (True, {128})])
def test_blocks_of_the_vocabulary_are_narrowed_where_products_are_padded_and_nowhere_else(
    onednn: bool, widths: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.logps.cpu_matmul.by_onednn", lambda: onednn)
    monkeypatch.setattr("harness.logps.output_head.BLOCK", 2**13)
    monkeypatch.setattr("harness.logps.output_head.KEPT", 0)
    monkeypatch.setattr("harness.logps.output_head.NARROWEST", 16)
    found = set()
    for rows in (51, 64):  # two micro-batches, of which one is no multiple of 64
        blocks = list(output_head._blocks(160 * 4, torch.zeros(rows, 8)))
        found.add(blocks[0][1].stop)
        covered = [column for _, columns in blocks for column in range(columns.start, min(columns.stop, 640))]
        assert covered == list(range(640))  # each part of the vocabulary once
    assert found == widths


def test_a_model_whose_logits_are_not_finite_is_no_unsupported_architecture() -> None:
    from harness.api import HarnessError
    from harness.data.tokens import TokenPair
    from harness.logps.check_hot_path import check_hot_path

    model = tiny("gemma", packed=False)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    pair = TokenPair(pair_id="0", prompt_ids=(3, 4), chosen_ids=(5, 6, 1), rejected_ids=(7, 1), truncated=False)
    with pytest.raises(HarnessError, match="gives nan nats for a response in float32, expected a finite number"):
        check_hot_path(model, pair, dtype="float32", name="damaged")
