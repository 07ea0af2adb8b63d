"""Sampled answers: the tokens of a plain forward, distributed as it says, the same with either engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.stats

from harness.api import Generated, GenerateRequest, HarnessError, Sampling, ScoreRequest, ScorerOptions
from harness.score import transformers as by_transformers
from harness.score import vllm as by_vllm
from harness.score.vllm_engine import arguments

FAMILIES = ("qwen", "gemma", "mistral")
STOP = (2,)
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
Make = Callable[..., Path]
Live = tuple[Path, Any]
"""A checkpoint and an engine that holds it."""


@pytest.fixture(
    scope="module",
    params=[
        *(pytest.param((family, "transformers"), id=f"{family}-transformers") for family in FAMILIES),
        *(pytest.param((family, "vllm"), id=f"{family}-vllm", marks=pytest.mark.vllm) for family in FAMILIES),
    ],
)
def live(request: pytest.FixtureRequest, make_checkpoint: Make) -> Iterator[Live]:
    family, engine = request.param
    if engine == "vllm":
        request.getfixturevalue("_vllm")
    start = by_vllm.open_vllm if engine == "vllm" else by_transformers.open_transformers
    checkpoint = make_checkpoint(family)
    opened = start(checkpoint, ScorerOptions(max_length=120, max_new_tokens=50))
    yield checkpoint, opened
    opened.close()


def prompts(count: int) -> list[GenerateRequest]:
    rng = np.random.default_rng(4)
    return [
        GenerateRequest(prompt=tuple(int(token) for token in rng.integers(3, 300, rng.integers(1, 60))), seed=row)
        for row in range(count)
    ]


def plain_table(checkpoint: Path, ids: tuple[int, ...]) -> np.ndarray:
    """Return log-probs of every next token, (places, vocabulary), from transformers' own forward in fp64."""
    import torch

    with torch.no_grad():
        table: np.ndarray = plain_model(checkpoint)(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1).numpy()
    return table


@lru_cache(maxsize=1)
def plain_model(checkpoint: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float64, attn_implementation="eager").eval()


def test_greedy_answers_are_the_likeliest_tokens_of_a_plain_forward(live: Live) -> None:
    """32 tokens of 50 prompts; another token only where the two likeliest are tied within rounding."""
    checkpoint, engine = live
    asked = prompts(50)
    answers = engine.generate(asked, Sampling(stop=STOP, temperature=0, max_new_tokens=32))
    ties = 0
    for request, answer in zip(asked, answers, strict=True):
        table = plain_table(checkpoint, request.prompt + answer.tokens)[len(request.prompt) - 1 : -1]
        likeliest = table.argmax(-1)
        gaps = table.max(-1) - table[np.arange(len(table)), answer.tokens]
        assert (gaps < 1e-4).all()
        ties += int((likeliest != answer.tokens).sum())
    assert ties <= 2


def test_the_log_probs_of_a_sample_are_those_of_scoring_it_afterwards(live: Live, assert_same_nats: Any) -> None:
    (_, engine), asked = live, prompts(20)
    answers = engine.generate(asked, Sampling(stop=STOP, temperature=0.7, top_p=0.9, max_new_tokens=40))
    requests = [ScoreRequest(prompt=each.prompt, response=got.tokens) for each, got in zip(asked, answers, strict=True)]
    assert_same_nats(np.array([got.log_probs.sum() for got in answers]), engine.score(requests))
    for got, scored in zip(answers, engine.token_log_probs(requests), strict=True):
        assert got.log_probs == pytest.approx(scored, abs=1e-4)


def test_an_answer_depends_on_its_seed_alone_and_not_on_those_beside_it(live: Live) -> None:
    (_, engine), asked = live, prompts(12)
    sampling = Sampling(stop=STOP, max_new_tokens=24)
    together = tokens(engine.generate(asked, sampling))
    assert tokens(engine.generate(asked[::-1], sampling))[::-1] == together
    assert tokens(engine.generate(asked[3:5], sampling)) == together[3:5]
    others = [GenerateRequest(prompt=each.prompt, seed=each.seed + 100) for each in asked]
    assert tokens(engine.generate(others, sampling)) != together


def test_prompts_that_no_step_has_room_for_together_are_answered_as_they_are_alone(live: Live) -> None:
    """Two thousand tokens make a step of vLLM's: the last prompt of a step must not be cut in two."""
    long = [
        GenerateRequest(prompt=tuple(3 + (seed * 7 + place) % 290 for place in range(90)), seed=seed)
        for seed in range(40)
    ]
    sampling = Sampling(stop=STOP, max_new_tokens=30)
    together = tokens(live[1].generate(long, sampling))
    assert [tokens(live[1].generate([each], sampling))[0] for each in long[::8]] == together[::8]


def tokens(answers: list[Generated]) -> list[tuple[int, ...]]:
    return [answer.tokens for answer in answers]


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (2.0, 0.8)])
def test_the_first_tokens_are_drawn_as_the_model_says(temperature: float, top_p: float, live: Live) -> None:
    (checkpoint, engine), prompt = live, (7, 11, 13)
    logits = plain_table(checkpoint, prompt)[-1] / temperature
    expected = np.exp(logits - logits.max())
    expected /= expected.sum()
    order = np.argsort(-expected)
    before = np.cumsum(expected[order]) - expected[order]
    expected[order[before >= top_p]] = 0
    expected /= expected.sum()

    asked = [GenerateRequest(prompt=prompt, seed=seed) for seed in range(1500)]
    sampling = Sampling(stop=STOP, temperature=temperature, top_p=top_p, max_new_tokens=1)
    drawn = np.bincount([each.tokens[0] for each in engine.generate(asked, sampling)], minlength=300)
    assert drawn[expected == 0].sum() == 0
    often = expected * 1500 >= 5
    counts = [*drawn[often], drawn[~often].sum()]
    shares = [*expected[often], expected[~often].sum()]
    keep = np.array(shares) > 0
    test = scipy.stats.chisquare(np.array(counts)[keep], 1500 * np.array(shares)[keep])
    assert test.pvalue > 1e-3


def test_an_answer_ends_with_its_stop_token_or_is_said_to_be_cut(live: Live) -> None:
    stop = tuple(range(2, 60))
    answers = live[1].generate(prompts(30), Sampling(stop=stop, max_new_tokens=6))
    ended = [answer for answer in answers if answer.finish == "stop"]
    cut = [answer for answer in answers if answer.finish == "length"]
    assert ended
    assert cut
    assert len(ended) + len(cut) == 30
    for answer in ended:
        assert answer.tokens[-1] in stop
        assert not set(answer.tokens[:-1]) & set(stop)
    assert all(len(answer.tokens) == 6 and not set(answer.tokens) & set(stop) for answer in cut)
    assert all(len(answer.log_probs) == len(answer.tokens) for answer in answers)


def test_a_prompt_that_leaves_no_room_for_its_answer_is_refused(live: Live) -> None:
    long = [GenerateRequest(prompt=(5,) * 100, seed=0)]
    with pytest.raises(HarnessError, match="up to 150 tokens, expected at most 120"):
        live[1].generate(long, Sampling(stop=STOP, max_new_tokens=50))


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (2, 64 * (500 + 32) * 2 * 2 * 32 * 4),  # 64 answers to their end, whole blocks of 32 tokens
        (1000, 2**31),
    ],
)
def test_a_cpu_keeps_the_keys_and_values_of_64_answers_within_two_gigabytes(
    layers: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    config = {"num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 1, "hidden_size": 128}
    opened: Any = SimpleNamespace(weights=SimpleNamespace(config=config))
    made = arguments(opened, ScorerOptions(max_length=500, max_new_tokens=200), 500)
    assert made["kv_cache_memory_bytes"] == expected
    assert made["max_num_batched_tokens"] == 2048
    assert not made["enable_chunked_prefill"]
    long = arguments(opened, ScorerOptions(max_length=5000, max_new_tokens=200), 5000)
    assert long["max_num_batched_tokens"] == long["max_model_len"] == 5001
    plain = arguments(opened, ScorerOptions(max_length=500), 500)
    assert plain["kv_cache_memory_bytes"] == (2048 + 500 + 64 * 32) * 2 * layers * 32 * 4
    assert "enable_chunked_prefill" not in plain
