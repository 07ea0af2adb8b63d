"""The memory of training, against the bytes that torch keeps for the backward pass of models of other sizes."""

from __future__ import annotations

import pytest

from harness.planning.memory import (
    FULL_BYTES,
    activation_bytes,
    kept_bytes,
    needed_memory,
    scoring_bytes,
    training_bytes,
)
from harness.planning.model_shape import ModelShape
from harness.planning.run_file import make_run

SHAPE = ModelShape(
    parameters=1000, layers=2, width=64, inner=512, heads=4, query_width=64, key_width=32, vocabulary=500
)
PROMPT, ANSWER, PAIRS = 20, 200, 2


def kept_by_torch(dtype: str) -> int:
    """Return the bytes that torch keeps of a micro-batch in the layers of a Llama of `SHAPE`, weights not counted."""
    from harness.torchvision_guard import hide_broken_torchvision

    hide_broken_torchvision()
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from harness.data.collate import collate
    from harness.logps.packed_attention import use_packed_attention
    from harness.logps.response_logps import response_logps

    batch = collate([(range(PROMPT), (range(ANSWER), range(ANSWER)))] * PAIRS)

    def kept(layers: int) -> int:
        config = LlamaConfig(
            hidden_size=SHAPE.width, intermediate_size=SHAPE.inner, num_attention_heads=SHAPE.heads,
            num_key_value_heads=2, num_hidden_layers=layers, vocab_size=SHAPE.vocabulary,
        )  # fmt: skip
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
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
        with saving, torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            response_logps(model, batch)
        return sum(sizes.values())

    return kept(1 + SHAPE.layers) - kept(1)  # without embedding and head


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_activations_are_estimated_within_15_percent_of_what_torch_keeps(dtype: str) -> None:
    tokens = PAIRS * (PROMPT + 2 * ANSWER)
    estimated = activation_bytes(SHAPE, tokens, 2 * PAIRS, PROMPT + ANSWER, dtype)
    assert estimated == pytest.approx(kept_by_torch(dtype), rel=0.15)


def test_full_training_has_16_bytes_a_parameter_and_bf16_a_copy_of_2() -> None:
    assert training_bytes(make_run({}), SHAPE, [], 0) == FULL_BYTES * SHAPE.parameters == 16_000
    assert training_bytes(make_run({"dtype": "bfloat16"}), SHAPE, [], 0) == 18_000
    assert training_bytes(make_run({"adapter": "lora"}), SHAPE, [], 0) == 4_000


def test_the_longest_pairs_of_a_micro_batch_count() -> None:
    run = make_run({"micro_pairs": 2})
    two, three = (training_bytes(run, SHAPE, packed, 10) for packed in ([100, 90], [100, 7, 90]))
    assert two == three > training_bytes(run, SHAPE, [100, 80], 10)


def test_a_model_with_more_weights_needs_more_memory_and_disk() -> None:
    run, larger = make_run({}), ModelShape.of_parameters(7_000_000_000)
    assert needed_memory(run, larger, [100], 50) > 16 * 7e9
    assert kept_bytes(run, larger) == 4 * 7e9
    assert kept_bytes(make_run({"preset": "paper", "adapter": "lora"}), larger) == 2 * 7e9


@pytest.mark.parametrize(
    ("asked", "bytes_each"),
    [({}, 4), ({"dtype": "bfloat16"}, 4), ({"adapter": "lora"}, 4), ({"adapter": "lora", "dtype": "bfloat16"}, 2)],
)
def test_a_reference_that_runs_beside_the_policy_is_a_copy_of_the_weights_that_it_is_loaded_with(
    asked: dict[str, str], bytes_each: int
) -> None:
    run, large = make_run(asked), ModelShape.of_parameters(1_000_000_000)
    alone, beside = (needed_memory(run, large, [99_999], 50, reference_beside=copy) for copy in (False, True))
    assert beside - alone == pytest.approx(bytes_each * 1e9)


def test_answers_need_the_keys_and_values_of_64_of_the_longest_of_them_and_two_gigabytes_at_most() -> None:
    plain = make_run({"max_length": 100, "max_prompt": 60})
    asked = make_run({"max_length": 100, "max_prompt": 60, "generate": 5, "max_new_tokens": 140})
    # 64 x (60 + 140) tokens x keys and values x 2 layers x 32 wide x 4 bytes
    assert scoring_bytes(asked, SHAPE) - scoring_bytes(plain, SHAPE) == 64 * 200 * 2 * 2 * 32 * 4
    large = ModelShape.of_parameters(7_000_000_000)
    assert scoring_bytes(asked, large) - scoring_bytes(plain, large) == 2**31
