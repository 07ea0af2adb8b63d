"""The vLLM scorer against a plain forward and the transformers scorer, engine after engine in one process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.api import HarnessError, ScoreRequest, ScorerOptions
from harness.score import transformers as other
from harness.score import vllm as scorer

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.usefixtures("_vllm"),
    # vLLM's model modules define a torch.jit.ScriptModule when they are imported
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
]
Make = Callable[..., Path]
Plain = Callable[..., np.ndarray]
Same = Callable[[np.ndarray, np.ndarray], None]


@pytest.fixture(scope="module", params=["qwen", "gemma", "mistral"])
def engine(request: pytest.FixtureRequest, make_checkpoint: Make, _vllm: None) -> Iterator[tuple[str, Any]]:
    """The family and a live engine of it, opened with the checkpoint of seed 0; the one before is closed."""
    live = scorer.open_vllm(make_checkpoint(request.param), ScorerOptions(max_length=120))
    yield request.param, live
    live.close()


def test_the_first_try_of_vllm_imports_nothing_of_the_current_folder(tmp_path: Path) -> None:
    script, here = tmp_path / "script.py", tmp_path / "here"
    script.write_text("from harness.score.vllm import why_not\nprint(why_not())\n", encoding="utf-8")
    (here / "harness").mkdir(parents=True)
    (here / "harness" / "__init__.py").write_text("raise RuntimeError('another harness')", encoding="utf-8")
    said = subprocess.run(
        [sys.executable, str(script)],
        cwd=here,
        env=os.environ | {"HARNESS_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "None\n"


def test_sums_equal_a_plain_forward_and_the_other_scorer(
    engine: tuple[str, Any],
    make_checkpoint: Make,
    requests: list[ScoreRequest],
    plain_log_probs: Plain,
    assert_same_nats: Same,
) -> None:
    family, live = engine
    checkpoint = make_checkpoint(family)
    sums = live.score(requests)
    assert_same_nats(sums, plain_log_probs(checkpoint, requests))
    assert_same_nats(sums, other.open_transformers(checkpoint, ScorerOptions()).score(requests))


def test_swapped_weights_score_as_a_plain_forward_of_them(
    engine: tuple[str, Any],
    make_checkpoint: Make,
    requests: list[ScoreRequest],
    plain_log_probs: Plain,
    assert_same_nats: Same,
) -> None:
    family, live = engine
    before = live.score(requests)
    for seed in (1, 0, 1):
        live.load(make_checkpoint(family, seed=seed))
        assert_same_nats(live.score(requests), plain_log_probs(make_checkpoint(family, seed=seed), requests))
    live.load(make_checkpoint(family))
    np.testing.assert_allclose(live.score(requests), before, rtol=0, atol=1e-4)


def test_another_architecture_is_refused_and_the_old_weights_stay(
    engine: tuple[str, Any], make_checkpoint: Make, requests: list[ScoreRequest], assert_same_nats: Same
) -> None:
    family, live = engine
    before = live.score(requests)
    for foreign in (make_checkpoint(family, num_hidden_layers=3), make_checkpoint(family, rms_norm_eps=1e-3)):
        with pytest.raises(HarnessError, match="open another scorer"):
            live.load(foreign)
    assert_same_nats(live.score(requests), before)


def test_duplicates_are_scored_once_in_the_order_asked(
    engine: tuple[str, Any], requests: list[ScoreRequest], assert_same_nats: Same, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, live = engine
    expected = live.score(requests)
    asked: list[int] = []
    generate = live.engine.generate
    monkeypatch.setattr(
        live.engine, "generate", lambda prompts, *a, **k: asked.append(len(prompts)) or generate(prompts, *a, **k)
    )
    assert_same_nats(live.score([requests[3], *requests, requests[3]]), np.array([expected[3], *expected, expected[3]]))
    assert asked == [len(requests)]


def test_too_long_requests_are_counted_and_the_longest_allowed_is_scored(
    engine: tuple[str, Any], plain_log_probs: Plain, make_checkpoint: Make, assert_same_nats: Same
) -> None:
    family, live = engine
    fits = ScoreRequest(prompt=(5, 6) * 30, response=(7, 8) * 30)
    long = ScoreRequest(prompt=(5, 6) * 30, response=(7, 8) * 30 + (9,))
    assert_same_nats(live.score([fits]), plain_log_probs(make_checkpoint(family), [fits]))
    with pytest.raises(HarnessError, match="got 2 of 3 requests longer than 120 tokens"):
        live.score([fits, long, long])


def test_no_requests_give_no_sums(engine: tuple[str, Any]) -> None:
    assert engine[1].score([]).shape == (0,)


def test_a_shared_prompt_is_computed_once_and_responses_that_begin_alike_are_scored_again(
    engine: tuple[str, Any],
    make_checkpoint: Make,
    plain_log_probs: Plain,
    assert_same_nats: Same,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Blocks of 32 tokens: of a prompt of 70 two are shared, of responses alike in 52 tokens the third too."""
    family, live = engine
    prompt, other = tuple(range(3, 73)), tuple(range(80, 150))
    alike = [ScoreRequest(prompt=prompt, response=(*range(63, 100), last)) for last in (7, 8, 9)]
    apart = [ScoreRequest(prompt=other, response=(first, *range(63, 100))) for first in (7, 8, 9)]
    expected = plain_log_probs(make_checkpoint(family), [*alike, *apart])
    found: list[list[int]] = []
    generate = live.engine.generate

    def watched(*args: Any, **options: Any) -> Any:
        outputs = generate(*args, **options)
        found.append([output.num_cached_tokens for output in outputs])
        return outputs

    monkeypatch.setattr(live.engine, "generate", watched)
    for _ in range(2):  # the second time nothing is left of the first
        found.clear()
        assert_same_nats(live.score([*alike, *apart]), expected)
        (first, again), shared = found, 64 if family == "qwen" else 0  # a window has left the blocks that end early
        assert first[:4] == [0, 96, 96, 0]
        assert all(shared <= hit <= 64 for hit in first[4:])
        assert again == [0, 0]


def test_a_prefix_cache_that_cannot_be_emptied_is_an_error(
    engine: tuple[str, Any], requests: list[ScoreRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, live = engine
    monkeypatch.setattr(live.engine, "reset_prefix_cache", lambda: False)
    with pytest.raises(HarnessError, match="kept its prefix cache"):
        live.score(requests)


def test_untied_weights_swap_and_a_model_can_be_scored_to_its_last_position(
    make_checkpoint: Make, plain_log_probs: Plain, assert_same_nats: Same
) -> None:
    first, second = (make_checkpoint("qwen", seed=seed, tie_word_embeddings=False) for seed in (0, 1))
    last = ScoreRequest(prompt=(5, 6) * 100, response=(7, 8) * 28)  # 256 tokens, max_position_embeddings
    live = scorer.open_vllm(first, ScorerOptions(max_length=2048))
    try:
        assert_same_nats(live.score([last]), plain_log_probs(first, [last]))
        live.load(second)
        assert_same_nats(live.score([last]), plain_log_probs(second, [last]))
        with pytest.raises(HarnessError, match="longer than 256 tokens"):
            live.score([ScoreRequest(prompt=last.prompt, response=(*last.response, 9))])
        with pytest.raises(HarnessError, match="got tie_word_embeddings = True"):
            live.load(make_checkpoint("qwen"))
    finally:
        live.close()


def test_a_model_vllm_does_not_know_is_an_error_that_names_the_other_scorer(
    make_checkpoint: Make, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(make_checkpoint("qwen"), tmp_path, dirs_exist_ok=True)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace("Qwen2ForCausalLM", "NoSuchForCausalLM"))
    with pytest.raises(HarnessError, match=r"could not open .*NoSuchForCausalLM.*--scorer transformers"):
        scorer.open_vllm(tmp_path, ScorerOptions(max_length=64))
