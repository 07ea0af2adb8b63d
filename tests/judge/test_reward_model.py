"""A tiny random reward model, held against the product of its hidden state and its head, worked out here."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.api import HarnessError, JudgeOptions, JudgeRequest, Message, Rating
from harness.judge.reward_model import REFUSED, TOO_LONG, conversation_ids, harness_judges
from harness.models.families import FAMILIES
from harness.models.nano import train_tokenizer

(SOURCE,) = harness_judges()
CONTEXT = (
    Message(role="user", content="Name a fruit."),
    Message(role="assistant", content="A pear."),
    Message(role="user", content="Another one."),
)
ANSWERS = ("A plum.", "Why should I? Find one yourself, and a longer one at that.", "")


def asks(answer: str, context: tuple[Message, ...] = CONTEXT) -> JudgeRequest:
    return JudgeRequest(prompt_id="p", context=context, answers=(answer,))


def write(folder: Path, family: str, kind: str = "SequenceClassification", **changes: Any) -> Path:
    """Write a tiny random model of that kind with its tokenizer."""
    import torch
    import transformers

    tokenizer = train_tokenizer(FAMILIES[family], ["some text about fruits and answers"], 300)
    size: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 128,
        "pad_token_id": tokenizer.pad_token_id,
        "num_labels": 1,
    }
    config = {"qwen": transformers.Qwen2Config, "llama": transformers.LlamaConfig}[family](**size | changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, f"AutoModelFor{kind}").from_config(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("qwen"), "qwen")


def by_hand(folder: Path, answer: str) -> float:
    """Return head x the hidden state of the last id, in fp64; ids as the tokenizer's template gives them."""
    import torch
    from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

    turns = [
        *({"role": turn.role, "content": turn.content} for turn in CONTEXT),
        {"role": "assistant", "content": answer},
    ]
    ids = AutoTokenizer.from_pretrained(folder).apply_chat_template(turns, tokenize=True, return_dict=True)["input_ids"]
    body = AutoModel.from_pretrained(folder, dtype=torch.float64).eval()
    head = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float64).score.weight[0]
    with torch.no_grad():
        return float(body(input_ids=torch.tensor([ids])).last_hidden_state[0, -1] @ head)


@pytest.mark.parametrize("family", ["qwen", "llama"])
def test_a_rating_is_the_head_times_the_last_hidden_state_of_the_whole_conversation(
    family: str, tmp_path: Path
) -> None:
    folder = write(tmp_path, family)
    ratings = SOURCE.open(str(folder), JudgeOptions()).judge([asks(answer) for answer in ANSWERS])
    values = [rating.value for rating in ratings]  # type: ignore[union-attr]
    assert values == pytest.approx([by_hand(folder, answer) for answer in ANSWERS], abs=1e-4)
    assert len(set(values)) == len(ANSWERS)


def test_an_answer_is_rated_alike_whatever_stands_beside_it(qwen: Path) -> None:
    judge = SOURCE.open(str(qwen), JudgeOptions())
    alone = [judge.judge([asks(answer)])[0] for answer in ANSWERS]
    assert judge.judge([asks(answer) for answer in reversed(ANSWERS)]) == alone[::-1]


def test_a_quoted_end_of_turn_does_not_end_the_turn(qwen: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(qwen)
    end = tokenizer.eos_token
    plain, quoting = (conversation_ids(tokenizer, asks(answer)) for answer in ("A plum.", f"A plum.{end}"))
    assert plain is not None
    assert quoting is not None
    assert quoting.count(tokenizer.eos_token_id) == plain.count(tokenizer.eos_token_id)


def test_what_is_too_long_or_refused_by_the_template_has_a_reason_and_no_value(qwen: Path) -> None:
    judge = SOURCE.open(str(qwen), JudgeOptions())
    long = asks("fruit " * 200)
    assert judge.judge([long, asks("A plum.")])[0] == Rating(value=None, reason=TOO_LONG)
    judge.tokenizer.chat_template = "{{ raise_exception('no') }}"  # type: ignore[attr-defined]
    assert judge.judge([asks("A plum.")]) == [Rating(value=None, reason=REFUSED)]


@pytest.mark.parametrize(
    ("kind", "changes"),
    [("SequenceClassification", {"num_labels": 3}), ("CausalLM", {})],
    ids=["three labels", "causal"],
)
def test_a_model_that_gives_no_single_number_is_refused(kind: str, changes: dict[str, Any], tmp_path: Path) -> None:
    folder = write(tmp_path, "qwen", kind, **changes)
    with pytest.raises(HarnessError, match="expected a sequence classifier with one"):
        SOURCE.open(str(folder), JudgeOptions())


def test_copies_are_one_judge_and_other_weights_another(qwen: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(qwen, tmp_path / "copy")
    other = write(tmp_path / "other", "qwen", hidden_size=48)
    assert SOURCE.identity(str(copy)) == SOURCE.identity(str(qwen)) != SOURCE.identity(str(other))


def test_a_model_that_is_not_named_or_not_there_is_refused_before_a_run_trains(qwen: Path, tmp_path: Path) -> None:
    assert SOURCE.why_not(str(qwen)) is None
    assert SOURCE.why_not("org/name") is None
    assert "without a model" in str(SOURCE.why_not(""))
    for gone in (tmp_path, tmp_path / "gone"):
        assert f"got '{gone}', expected a hub id" in str(SOURCE.why_not(str(gone)))
