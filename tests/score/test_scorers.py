"""The transformers scorer against a plain forward, and what both scorers share."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import real_layouts

from harness.api import HarnessError, ScoreRequest, ScorerOptions
from harness.logps import output_head
from harness.score import transformers as scorer
from harness.score.checkpoint import read_checkpoint

FAMILIES = ("qwen", "gemma", "mistral")
Make = Callable[..., Path]
Plain = Callable[..., np.ndarray]
Same = Callable[[np.ndarray, np.ndarray], None]


def opened(checkpoint: Path, max_length: int = 120) -> Any:
    return scorer.open_transformers(checkpoint, ScorerOptions(max_length=max_length))


@pytest.mark.parametrize("family", FAMILIES)
def test_sums_equal_a_plain_forward(
    family: str, make_checkpoint: Make, requests: list[ScoreRequest], plain_log_probs: Plain, assert_same_nats: Same
) -> None:
    checkpoint = make_checkpoint(family)
    assert_same_nats(opened(checkpoint).score(requests), plain_log_probs(checkpoint, requests))


def test_sums_do_not_depend_on_how_requests_are_batched(
    make_checkpoint: Make, requests: list[ScoreRequest], assert_same_nats: Same, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = opened(make_checkpoint("gemma"))
    together = live.score(requests)
    monkeypatch.setattr(scorer, "TOKENS_PER_BATCH", 1)
    monkeypatch.setattr(output_head, "KEPT", 0)
    monkeypatch.setattr(output_head, "BLOCK", 7 * 300)
    monkeypatch.setattr(output_head, "NARROWEST", 100)
    assert_same_nats(live.score(requests), together)


def shared_prompts() -> list[ScoreRequest]:
    """Prompts with 1, 2, 3 and 3 responses, in no order; the longest outgrow the sliding windows."""
    rng = np.random.default_rng(1)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(int(token) for token in rng.integers(3, 300, count))

    prompts = ids(1), ids(60), ids(30), ids(7)
    shared = [ScoreRequest(prompt=prompts[k], response=ids(n)) for k, n in enumerate((5, 60, 33, 2))]
    shared += [ScoreRequest(prompt=prompts[k], response=ids(n)) for k, n in ((3, 50), (1, 1), (2, 8), (3, 1), (2, 40))]
    return shared


@pytest.mark.parametrize("budget", [4096, 200])  # one forward a number of responses; and responses of a prompt apart
@pytest.mark.parametrize("family", FAMILIES)
def test_responses_to_one_prompt_score_as_alone(
    family: str,
    budget: int,
    make_checkpoint: Make,
    plain_log_probs: Plain,
    assert_same_nats: Same,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scorer, "TOKENS_PER_BATCH", budget)
    checkpoint, asked = make_checkpoint(family), shared_prompts()
    assert_same_nats(opened(checkpoint).score(asked), plain_log_probs(checkpoint, asked))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_goes_through_the_model_once_and_nothing_is_padding(family: str, make_checkpoint: Make) -> None:
    live, asked = opened(make_checkpoint(family)), shared_prompts()
    seen: list[int] = []
    live.model.get_input_embeddings().register_forward_hook(lambda module, ids, out: seen.append(ids[0].numel()))
    live.score(asked)
    assert sum(seen) == (1 + 60 + 30 + 7) + (5 + 60 + 33 + 2 + 50 + 1 + 8 + 1 + 40)


def test_an_architecture_without_packed_rows_is_scored_on_padded_ones(
    tmp_path: Path, plain_log_probs: Plain, assert_same_nats: Same
) -> None:
    import torch
    from transformers import Starcoder2Config, Starcoder2ForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Starcoder2Config(
        vocab_size=300, num_key_value_heads=1, sliding_window=32, max_position_embeddings=256, **sizes
    )
    Starcoder2ForCausalLM(config).save_pretrained(tmp_path)
    asked = shared_prompts()
    assert_same_nats(opened(tmp_path).score(asked), plain_log_probs(tmp_path, asked))


@pytest.mark.parametrize(
    "missing", [{"attn_logit_softcapping": None}, {"final_logit_softcapping": None}, {"sliding_window": 4096}]
)
def test_the_caps_and_the_window_of_the_gemma_under_test_bite(
    missing: dict[str, Any], make_checkpoint: Make, requests: list[ScoreRequest], plain_log_probs: Plain
) -> None:
    checkpoint = make_checkpoint("gemma")
    difference = np.abs(plain_log_probs(checkpoint, requests, **missing) - plain_log_probs(checkpoint, requests))
    assert difference.max() > 1, "the parity tests would not notice that it is missing"


@pytest.mark.parametrize(("family", "tied"), [("qwen", True), ("qwen", False), ("gemma", True), ("mistral", False)])
def test_swapped_weights_score_as_if_opened_with_them(
    family: str, tied: bool, make_checkpoint: Make, requests: list[ScoreRequest], assert_same_nats: Same
) -> None:
    first, second = (make_checkpoint(family, seed=seed, tie_word_embeddings=tied) for seed in (0, 1))
    live = opened(first)
    before = live.score(requests)
    live.load(second)
    assert_same_nats(live.score(requests), opened(second).score(requests))
    live.load(first)
    np.testing.assert_array_equal(live.score(requests), before)


def test_duplicates_are_scored_once_and_given_back_in_the_order_asked(
    make_checkpoint: Make, requests: list[ScoreRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    live = opened(make_checkpoint("qwen"))
    expected = live.score(requests)
    asked: list[int] = []
    plain = scorer.sequence_log_probs
    monkeypatch.setattr(
        scorer, "sequence_log_probs", lambda model, unique: asked.append(len(unique)) or plain(model, unique)
    )
    got = live.score([requests[3], *requests, requests[3]])
    np.testing.assert_allclose(got, [expected[3], *expected, expected[3]], rtol=0, atol=1e-4)
    assert asked == [len(requests)]


def test_no_requests_give_no_sums(make_checkpoint: Make) -> None:
    sums = opened(make_checkpoint("qwen")).score([])
    assert sums.shape == (0,)
    assert sums.dtype == np.float64


def test_requests_that_are_too_long_are_counted_and_never_dropped(make_checkpoint: Make) -> None:
    fits, long = ScoreRequest(prompt=(5,) * 6, response=(6,) * 4), ScoreRequest(prompt=(5,) * 7, response=(6,) * 4)
    live = opened(make_checkpoint("qwen"), max_length=10)
    assert live.score([fits]).shape == (1,)
    with pytest.raises(HarnessError, match=r"got 2 of 3 requests longer than 10 tokens \(the longest has 11\)"):
        live.score([fits, long, long])


@pytest.mark.parametrize(
    ("prompt", "response", "message"),
    [((), (5,), "empty prompt or response"), ((5,), (), "empty prompt"), ((5,), (300,), "token id 300, expected")],
)
def test_what_has_no_log_prob_is_refused(
    prompt: tuple[int, ...], response: tuple[int, ...], message: str, make_checkpoint: Make
) -> None:
    with pytest.raises(HarnessError, match=message):
        opened(make_checkpoint("qwen")).score([ScoreRequest(prompt=prompt, response=response)])


def test_weights_of_another_architecture_are_refused_and_the_old_ones_stay(
    make_checkpoint: Make, requests: list[ScoreRequest]
) -> None:
    live = opened(make_checkpoint("qwen"))
    before = live.score(requests)
    with pytest.raises(HarnessError, match="open another scorer"):
        live.load(make_checkpoint("gemma"))
    with pytest.raises(HarnessError, match=r"layers\.2\..* of shape .*, expected missing"):
        live.load(make_checkpoint("qwen", num_hidden_layers=3))
    with pytest.raises(HarnessError, match=r"down_proj\.weight.* expected of shape \[64, 96\]"):
        live.load(make_checkpoint("qwen", intermediate_size=128))
    with pytest.raises(HarnessError, match="got tie_word_embeddings = False"):
        live.load(make_checkpoint("qwen", tie_word_embeddings=False))
    np.testing.assert_array_equal(live.score(requests), before)


def test_a_checkpoint_with_a_weight_missing_is_refused(make_checkpoint: Make, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    whole = make_checkpoint("qwen")
    shutil.copy(whole / "config.json", tmp_path)
    weights = load_file(whole / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(HarnessError, match=r"lacks 1 of 27 weights \(model\.norm\.weight\), expected all"):
        opened(whole).load(tmp_path)


def test_a_sharded_checkpoint_is_read_whole(
    make_checkpoint: Make, requests: list[ScoreRequest], assert_same_nats: Same, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    first, second = make_checkpoint("qwen", seed=0), make_checkpoint("qwen", seed=1)
    AutoModelForCausalLM.from_pretrained(second).save_pretrained(tmp_path, max_shard_size="50KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    live = opened(first)
    live.load(tmp_path)
    assert_same_nats(live.score(requests), opened(second).score(requests))


@pytest.mark.parametrize("layout", real_layouts.LAYOUTS)
def test_a_checkpoints_tensors_are_the_weights_of_the_live_model_by_its_names(layout: str, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    folder = real_layouts.make(layout, tmp_path / "model")
    live = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    tensors = dict(read_checkpoint(folder).tensors())
    assert tensors.keys() == live.keys()  # the tied head too, old buffers not
    assert all(torch.equal(tensors[name], live[name]) for name in live)


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"expected a config\.json"):
        opened(tmp_path)


def test_diverged_weights_are_an_error_and_no_score(make_checkpoint: Make, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    whole = make_checkpoint("qwen")
    shutil.copy(whole / "config.json", tmp_path)
    weights = load_file(whole / "model.safetensors")
    weights["model.norm.weight"][:] = float("nan")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(HarnessError, match="1 of 1 summed log-probs that are not finite"):
        opened(tmp_path).score([ScoreRequest(prompt=(5,), response=(6,))])


def test_both_scorers_are_found_without_importing_torch() -> None:
    code = (
        "import sys, json; from harness.score import transformers, vllm; "
        "sources = transformers.harness_scorers() + vllm.harness_scorers(); "
        "print(json.dumps([[s.name for s in sources], 'torch' in sys.modules, 'vllm' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [["transformers", "vllm"], False, False]
