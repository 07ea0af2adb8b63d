"""Tiny random models, saved as checkpoints, and a plain forward as the outside truth."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.api import ScoreRequest
from harness.import_guard import guard_imports
from harness.score.vllm import why_not

VOCABULARY = 300


@pytest.fixture(scope="session")
def _vllm() -> None:
    """Skip where vLLM cannot run, and fail there where HARNESS_REQUIRE_VLLM asks for it."""
    reason = why_not()
    if reason is not None:
        if os.environ.get("HARNESS_REQUIRE_VLLM") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


def _config(family: str, **changes: Any) -> Any:
    """Return a tiny configuration; sliding windows are shorter than the sequences, as are real ones in long chats."""
    guard_imports()
    import transformers

    size: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,  # the smallest that vLLM's CPU attention takes
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    if family == "gemma":
        caps = {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 4.0}
        return transformers.Gemma2Config(**size | caps | {"sliding_window": 32, "query_pre_attn_scalar": 32} | changes)
    if family == "mistral":
        return transformers.MistralConfig(**size | {"sliding_window": 32, "tie_word_embeddings": False} | changes)
    assert family == "qwen"
    return transformers.Qwen2Config(**size | changes)


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return `make(family, seed, **config_changes)`: the folder of a random model, made once."""
    made: dict[str, Path] = {}

    def make(family: str, seed: int = 0, **changes: Any) -> Path:
        key = f"{family}-{seed}-{changes}"
        if key not in made:
            guard_imports()
            import torch
            from transformers import AutoModelForCausalLM

            torch.manual_seed(seed)
            model = AutoModelForCausalLM.from_config(_config(family, **changes))
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.normal_(std=0.3 if parameter.ndim == 2 else 0.2)  # large: logits must reach the caps
            made[key] = tmp_path_factory.mktemp("checkpoint")
            model.save_pretrained(made[key])
        return made[key]

    return make


@pytest.fixture(scope="session")
def requests() -> list[ScoreRequest]:
    """Return 12 requests of 2 to 120 tokens."""
    rng = np.random.default_rng(0)

    def ids(low: int, high: int) -> tuple[int, ...]:
        return tuple(int(token) for token in rng.integers(3, VOCABULARY, rng.integers(low, high)))

    made = [ScoreRequest(prompt=ids(1, 60), response=ids(1, 60)) for _ in range(10)]
    return [*made, ScoreRequest(prompt=(5,), response=(6,)), ScoreRequest(prompt=ids(60, 61), response=ids(60, 61))]


@pytest.fixture(scope="session")
def plain_log_probs() -> Callable[..., np.ndarray]:
    """Return `plain(checkpoint, requests, **config_changes)`, the outside truth."""
    return _plain_log_probs


@pytest.fixture(scope="session")
def assert_same_nats() -> Callable[[np.ndarray, np.ndarray], None]:
    """Return the assertion that each sum agrees within 0.001 nats, plus a millionth of its size."""
    return _assert_same_nats


def _plain_log_probs(checkpoint: Path, requests: Sequence[ScoreRequest], **changes: Any) -> np.ndarray:
    """Return summed log-probs from transformers' own forward in fp64: full logits, each sequence alone, no padding."""
    guard_imports()
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.float64, attn_implementation="eager", **changes
    ).eval()
    sums = []
    for request in requests:
        ids = torch.tensor([*request.prompt, *request.response])
        with torch.no_grad():
            table = model(input_ids=ids[None]).logits[0].log_softmax(-1)
        sums.append(sum(table[at - 1, ids[at]].item() for at in range(len(request.prompt), len(ids))))
    return np.array(sums)


def _assert_same_nats(got: np.ndarray, expected: np.ndarray) -> None:
    error = np.abs(got - expected)
    assert (error <= 1e-3 + 1e-6 * np.abs(expected)).all(), f"off by {error.max()} nats: {got} against {expected}"
