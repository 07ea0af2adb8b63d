"""The memory of training, against the bytes that torch keeps for the backward pass of models of other sizes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.planning.memory import (
    COMPILER_BYTES,
    FIRST_STEP_BYTES,
    LORA_ACTIVATIONS,
    LORA_ACTIVATIONS_CPU,
    Batch,
    Device,
    Memory,
    activation_bytes,
    adapter_bytes,
    checkpoint_bytes,
    head_bytes,
    kept_bytes,
    needed_memory,
    recomputes,
    scoring_bytes,
)
from harness.planning.model_shape import ModelShape
from harness.planning.run_file import Run, make_run

SHAPE = ModelShape(
    parameters=1000, layers=2, width=64, inner=512, heads=4, query_width=64, key_width=32, vocabulary=500
)
PROMPT, ANSWER, PAIRS = 20, 200, 2
LARGE = Device(memory=1e15, gpu=False, name="this computer")
GPU = Device(memory=80e9, gpu=True, name="the GPU")
SETTINGS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "bf16": {"dtype": "bfloat16"},
    "weights in bf16": {"dtype": "bfloat16", "optimizer": "adamw-bf16-sr"},
    "lora": {"dtype": "bfloat16", "adapter": "lora"},
}


def kept_by_torch(run: Run, answer: int = ANSWER) -> int:
    """Return the bytes that torch keeps of a micro-batch in the layers of a Llama of `SHAPE`, weights not counted."""
    from harness.import_guard import guard_imports

    guard_imports()
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from harness.data.collate import collate
    from harness.logps.packed_attention import use_packed_attention
    from harness.logps.response_logps import response_logps
    from harness.models.adapters import with_adapter

    response = [token % 100 for token in range(answer)]
    batch = collate([(range(PROMPT), (response, response))] * PAIRS)

    def kept(layers: int) -> int:
        config = LlamaConfig(
            hidden_size=SHAPE.width, intermediate_size=SHAPE.inner, num_attention_heads=SHAPE.heads,
            num_key_value_heads=2, num_hidden_layers=layers, vocab_size=SHAPE.vocabulary,
        )  # fmt: skip
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
        model.to(getattr(torch, run.weights_dtype))
        model = with_adapter(model, run.lora, 0) if run.lora else model
        use_packed_attention(model)
        weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        sizes, alive = dict[int, int](), []

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                sizes[storage.data_ptr()] = storage.nbytes()
                alive.append(tensor)  # so that no other takes its place
            return tensor

        saving = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
        with saving, torch.autocast("cpu", torch.bfloat16, enabled=run.dtype == "bfloat16"):
            response_logps(model, batch)
        return sum(sizes.values())

    return kept(1 + SHAPE.layers) - kept(1)  # without embedding and head


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_activations_are_estimated_within_15_percent_of_what_torch_keeps(settings: dict[str, Any]) -> None:
    run, tokens = make_run(settings), PAIRS * (PROMPT + 2 * ANSWER)
    estimated = activation_bytes(run, SHAPE, tokens, 2 * PAIRS, PROMPT + ANSWER, gpu=False, recomputed=False)
    estimated *= LORA_ACTIVATIONS / LORA_ACTIVATIONS_CPU if run.adapter == "lora" else 1  # what is kept, and no more
    assert estimated == pytest.approx(kept_by_torch(run), rel=0.15)


def test_so_are_those_of_long_rows_whose_attention_is_torchs_own() -> None:
    run, answer = make_run({"dtype": "bfloat16"}), 1200
    tokens, longest = PAIRS * (PROMPT + 2 * answer), PROMPT + answer
    estimated = activation_bytes(run, SHAPE, tokens, 2 * PAIRS, longest, gpu=False, recomputed=False)
    assert estimated == pytest.approx(kept_by_torch(run, answer), rel=0.15)


def need(settings: dict[str, Any], shape: ModelShape = SHAPE, device: Device = LARGE, **others: Any) -> Memory:
    return needed_memory(make_run(settings), shape, Batch(packed=[100], longest=50), device, **others)


@pytest.mark.parametrize(
    ("settings", "bytes_each"),
    [
        ({}, (4, 4, 8, 0)),
        ({"dtype": "bfloat16"}, (4, 4, 8, 4)),  # and copies for products
        ({"optimizer": "adamw-8bit"}, (4, 4, 2 + 8 / 256, 0)),  # two moments, each with a scale of 4 bytes for 256
        ({"optimizer": "adamw-bf16-sr", "dtype": "bfloat16"}, (2, 2, 2 + 8 / 256, 0)),
    ],
)
def test_full_training_has_so_many_bytes_a_parameter(settings: dict[str, Any], bytes_each: tuple[float, ...]) -> None:
    found = need(settings)
    parts = (found.weights, found.gradients, found.moments, found.copies)
    assert parts == pytest.approx([1000 * each for each in bytes_each])


def test_adapters_alone_have_gradients_and_moments() -> None:
    # rank 16 x 2 layers x (inputs + outputs of q, k, v, o, gate, up, down)
    linear = [(64, 64), (64, 32), (64, 32), (64, 64), (64, 512), (64, 512), (512, 64)]
    extra = 16 * 2 * sum(inputs + outputs for inputs, outputs in linear)
    settings = {"adapter": "lora", "dtype": "bfloat16"}
    setting = make_run(settings).lora
    assert setting is not None
    assert adapter_bytes(setting, SHAPE) == 4 * extra
    found = need(settings)
    assert (found.weights, found.gradients, found.moments) == (2000 + 4 * extra, 4 * extra, 8 * extra)


def test_the_longest_pairs_of_a_micro_batch_count() -> None:
    run = make_run({"micro_pairs": 2})
    two, three, less = (
        needed_memory(run, SHAPE, Batch(packed=packed, longest=10), LARGE).total
        for packed in ([100, 90], [100, 7, 90], [100, 80])
    )
    assert two == three > less


def test_gradients_come_as_activations_go_where_a_step_is_one_micro_batch() -> None:
    shape = ModelShape.of_parameters(100_000_000)
    several, one = (need({"batch_pairs": 4, "micro_pairs": pairs}, shape) for pairs in (2, 4))
    kept = activation_bytes(make_run({}), shape, 100, 2, 50, gpu=False, recomputed=False)
    assert kept < several.gradients
    assert several.training - one.training == pytest.approx(kept)


def test_recomputed_activations_are_the_input_of_each_layer_and_all_of_one() -> None:
    run, sizes = make_run({}), (1000, 4, 100)
    kept, again = (activation_bytes(run, SHAPE, *sizes, gpu=False, recomputed=recomputed) for recomputed in (0, 1))
    assert again == kept / SHAPE.layers + SHAPE.layers * 1000 * SHAPE.width * 4


def test_activations_are_recomputed_where_they_do_not_fit_or_as_asked() -> None:
    shape, batch = ModelShape.of_parameters(100_000_000), Batch(packed=[4000] * 8, longest=2000)

    def on(device: Device, **settings: str) -> bool:
        return recomputes(make_run(settings), shape, batch, device)

    small = Device(memory=4e9, gpu=False, name="small")
    assert (on(LARGE), on(small)) == (False, True)
    assert on(LARGE, activation_checkpointing="on")
    assert not on(small, activation_checkpointing="off")


def test_an_engine_that_does_not_fit_is_no_reason_to_recompute() -> None:
    run, shape = make_run({"adapter": "lora", "dtype": "bfloat16"}), ModelShape.of_parameters(1_000_000_000)
    narrow = Device(memory=4.5e9, gpu=False, name="narrow")
    found = needed_memory(run, shape, Batch(packed=[100], longest=50), narrow)
    assert found.runtime + found.training < narrow.usable < found.total
    assert not found.recomputed


def test_the_head_has_a_block_of_logits_and_the_gradient_of_its_weight() -> None:
    assert head_bytes(make_run({}), SHAPE) == 4 * 2**23 + 500 * 64 * 4
    assert head_bytes(make_run({"adapter": "lora"}), SHAPE) == 4 * 2**23


def test_a_step_in_8_bits_unpacks_the_largest_matrix_and_less_of_it_where_it_is_compiled() -> None:
    wide = replace(SHAPE, vocabulary=1_000_000)
    found = [need({"optimizer": "adamw-8bit"}, wide, at).activations for at in (LARGE, GPU)]
    assert found == [56 * 64e6 + FIRST_STEP_BYTES + COMPILER_BYTES, 8 * 64e6 + FIRST_STEP_BYTES + COMPILER_BYTES]


def test_a_model_with_more_weights_needs_more_memory_and_disk() -> None:
    run, larger = make_run({}), ModelShape.of_parameters(7_000_000_000)
    assert need({}, larger).total > 16 * 7e9
    assert kept_bytes(run, larger) == 4 * 7e9
    assert kept_bytes(make_run({"preset": "paper", "adapter": "lora"}), larger) == 2 * 7e9


def test_a_checkpoint_has_the_weights_and_both_moments() -> None:
    assert checkpoint_bytes(make_run({}), SHAPE, moving=False) == 12_000
    assert checkpoint_bytes(make_run({}), SHAPE, moving=True) == 16_000
    small = make_run({"optimizer": "adamw-bf16-sr", "dtype": "bfloat16"})
    assert checkpoint_bytes(small, SHAPE, moving=False) == pytest.approx(4_031, abs=1)


@pytest.mark.parametrize(
    ("asked", "bytes_each"),
    [({}, 4), ({"dtype": "bfloat16"}, 4), ({"adapter": "lora"}, 4), ({"adapter": "lora", "dtype": "bfloat16"}, 2)],
)
def test_a_reference_that_runs_beside_the_policy_is_a_copy_of_the_weights_that_it_is_loaded_with(
    asked: dict[str, str], bytes_each: int
) -> None:
    large = ModelShape.of_parameters(1_000_000_000)
    alone, beside = (need(asked, large, reference_beside=copy).training for copy in (False, True))
    assert beside - alone == pytest.approx(bytes_each * 1e9)


def test_answers_need_the_keys_and_values_of_64_of_the_longest_of_them_and_two_gigabytes_at_most() -> None:
    plain = make_run({"max_length": 100, "max_prompt": 60})
    asked = make_run({"max_length": 100, "max_prompt": 60, "generate": 5, "max_new_tokens": 140})
    # 64 x (60 + 140) tokens x keys and values x 2 layers x 32 wide x 4 bytes
    assert scoring_bytes(asked, SHAPE) - scoring_bytes(plain, SHAPE) == 64 * 200 * 2 * 2 * 32 * 4
    large = ModelShape.of_parameters(7_000_000_000)
    assert scoring_bytes(asked, large) - scoring_bytes(plain, large) == 2**31
