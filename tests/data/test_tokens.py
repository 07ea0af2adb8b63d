"""Ids of prompts and responses, against compositions by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.api import Dataset, HarnessError, Listwise, LoadOptions, Message, Pair, Response
from harness.data.heldout import held_out
from harness.data.sources import load
from harness.data.tokens import Encoded, Limits, encode_many, tokenise
from harness.models.families import FAMILIES
from harness.models.nano import train_tokenizer

TEXTS = [f"user model assistant The {word} is {word}. Hello there, how are you?" for word in ("red", "green", "blue")]
WIDE = Limits(max_length=512, max_prompt=256)
END = {"qwen": "<|im_end|>", "gemma": "<end_of_turn>", "mistral": "</s>", "llama": "<|eot_id|>"}
HELLO = (Message(role="user", content="Hello there"),)


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Any]:
    return {name: train_tokenizer(family, TEXTS, 400) for name, family in FAMILIES.items()}


def by_hand(tokenizer: Any, *parts: str) -> tuple[int, ...]:
    """The ids of parts that are each one special token or plain text."""
    special = set(tokenizer.all_special_tokens)
    ids = []
    for part in parts:
        ids += (
            [tokenizer.convert_tokens_to_ids(part)] if part in special else tokenizer.backend_tokenizer.encode(part).ids
        )
    return tuple(ids)


def encode(tokenizer: Any, context: tuple[Message, ...], response: str, limits: Limits) -> Encoded:
    return encode_many(tokenizer, [(context, response)], limits)[0]


def a_pair(context: tuple[Message, ...] = HELLO, chosen: str = "The red one.", rejected: str = "Blue?") -> Pair:
    return Pair(pair_id="p", prompt_id="q", context=context, chosen=chosen, rejected=rejected)


EXACT = {
    "qwen": (
        ("<|im_start|>", "user\nHello there", "<|im_end|>", "\n", "<|im_start|>", "assistant\n"),
        ("The red one.", "<|im_end|>"),
    ),
    "gemma": (
        ("<bos>", "<start_of_turn>", "user\nHello there", "<end_of_turn>", "\n", "<start_of_turn>", "model\n"),
        ("The red one.", "<end_of_turn>"),
    ),
    "mistral": (("<s>", "[INST]", " Hello there ", "[/INST]"), (" The red one.", "</s>")),
    "llama": (
        (
            *("<|begin_of_text|>", "<|start_header_id|>", "user", "<|end_header_id|>", "\n\nHello there", "<|eot_id|>"),
            *("<|start_header_id|>", "assistant", "<|end_header_id|>", "\n\n"),
        ),
        ("The red one.", "<|eot_id|>"),
    ),
}


@pytest.mark.parametrize("family", list(FAMILIES))
def test_ids_are_those_composed_by_hand(tokenizers: dict[str, Any], family: str) -> None:
    encoded = encode(tokenizers[family], HELLO, "The red one.", WIDE)
    prompt, response = EXACT[family]
    assert encoded[:2] == (by_hand(tokenizers[family], *prompt), by_hand(tokenizers[family], *response))
    assert not encoded.truncated
    assert not encoded.seam_moved


@pytest.mark.parametrize("family", ["gemma", "mistral"])
def test_a_tokenizer_that_adds_bos_itself_gives_one_bos(family: str) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = train_tokenizer(FAMILIES[family], TEXTS, 400)
    bos = tokenizer.bos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, tokenizer.bos_token_id)]
    )
    assert tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id
    encoded = encode(tokenizer, HELLO, "The red one.", WIDE)
    assert (encoded.prompt_ids + encoded.response_ids).count(tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("family", list(FAMILIES))
def test_each_response_ends_with_its_only_end_of_turn(tokenizers: dict[str, Any], family: str) -> None:
    tokenizer = tokenizers[family]
    context = (*HELLO, Message(role="assistant", content="Hi."), Message(role="user", content="And now?"))
    pair = tokenise(tokenizer, [a_pair(context)], WIDE).pairs[0]
    end = tokenizer.convert_tokens_to_ids(END[family])
    for ids in (pair.chosen_ids, pair.rejected_ids):
        assert ids[-1] == end
        assert ids.count(end) == 1
    assert tokenizer.decode(pair.chosen_ids[:-1]).strip() == "The red one."


@pytest.mark.parametrize("family", list(FAMILIES))
def test_both_sides_and_a_lone_response_share_the_ids_of_the_prompt(tokenizers: dict[str, Any], family: str) -> None:
    pair = a_pair()
    tokens = tokenise(tokenizers[family], [pair], WIDE).pairs[0]
    for text, ids in ((pair.chosen, tokens.chosen_ids), (pair.rejected, tokens.rejected_ids)):
        assert encode(tokenizers[family], pair.context, text, WIDE)[:2] == (tokens.prompt_ids, ids)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_special_token_strings_in_a_text_stay_text(tokenizers: dict[str, Any], family: str) -> None:
    tokenizer, end = tokenizers[family], END[family]
    context = (Message(role="user", content=f"Say {end} twice{end}"),)
    encoded = encode(tokenizer, context, f"Here: {end} and {end}", WIDE)
    id = tokenizer.convert_tokens_to_ids(end)
    clean = encode(tokenizer, (Message(role="user", content="Say twice"),), "Here: and", WIDE)
    assert encoded.prompt_ids.count(id) == clean.prompt_ids.count(id)
    assert encoded.response_ids.count(id) == 1
    assert tokenizer.decode(encoded.response_ids[:-1]).strip() == f"Here: {end} and {end}"
    assert f"Say {end} twice{end}" in tokenizer.decode(encoded.prompt_ids)


def test_the_real_templates_line_break_after_the_end_of_turn_is_dropped(tokenizers: dict[str, Any]) -> None:
    rendered = tokenizers["qwen"].apply_chat_template(
        [{"role": "user", "content": "Hello there"}, {"role": "assistant", "content": "Hi."}], tokenize=False
    )
    assert rendered.endswith("<|im_end|>\n")
    assert encode(tokenizers["qwen"], HELLO, "Hi.", WIDE).response_ids[-1] == tokenizers["qwen"].convert_tokens_to_ids(
        "<|im_end|>"
    )


def test_a_template_without_an_end_token_gets_eos(tokenizers: dict[str, Any]) -> None:
    tokenizer = train_tokenizer(FAMILIES["qwen"], TEXTS, 400)
    tokenizer.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant: {% endif %}"
    )
    encoded = encode(tokenizer, HELLO, "Hi.", WIDE)
    assert tokenizer.decode(encoded.response_ids) == "Hi.\n<|endoftext|>"


REFUSES = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    + FAMILIES["gemma"].chat_template
)
DROPS = (
    "{% set messages = messages | rejectattr('role', 'equalto', 'system') | list %}" + FAMILIES["gemma"].chat_template
)


@pytest.mark.parametrize("template", [REFUSES, DROPS, FAMILIES["gemma"].chat_template])
def test_a_system_turn_is_folded_where_the_template_has_none(template: str) -> None:
    tokenizer = train_tokenizer(FAMILIES["gemma"], TEXTS, 400)
    tokenizer.chat_template = template
    context = (Message(role="system", content="Be brief."), *HELLO)
    folded = (Message(role="user", content="Be brief.\n\nHello there"),)
    assert encode(tokenizer, context, "Hi.", WIDE) == encode(tokenizer, folded, "Hi.", WIDE)


def test_a_template_that_keeps_the_system_turn_renders_it(tokenizers: dict[str, Any]) -> None:
    context = (Message(role="system", content="Be brief."), *HELLO)
    text = tokenizers["qwen"].decode(encode(tokenizers["qwen"], context, "Hi.", WIDE).prompt_ids)
    assert text.startswith("<|im_start|>system\nBe brief.<|im_end|>")


def test_a_template_that_changes_the_prompt_is_refused() -> None:
    tokenizer = train_tokenizer(FAMILIES["qwen"], TEXTS, 400)
    tokenizer.chat_template = "{{ messages | length }}{% for message in messages %}{{ message['content'] }}{% endfor %}"
    with pytest.raises(HarnessError, match=r"chat template .* renders another prompt"):
        encode(tokenizer, HELLO, "Hi.", WIDE)


def test_a_tokenizer_without_a_template_is_refused() -> None:
    tokenizer = train_tokenizer(FAMILIES["qwen"], TEXTS, 400)
    tokenizer.chat_template = None
    with pytest.raises(HarnessError, match="has no chat template, expected one"):
        encode(tokenizer, HELLO, "Hi.", WIDE)


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize(("max_length", "max_prompt"), [(2, 1), (9, 4), (30, 29), (40, 5), (60, 50)])
def test_cuts_keep_the_prompts_end_and_the_responses_start(
    tokenizers: dict[str, Any], family: str, max_length: int, max_prompt: int
) -> None:
    tokenizer = tokenizers[family]
    context = (Message(role="user", content="Hello there, " * 10),)
    whole = encode(tokenizer, context, "The green one. " * 10, WIDE)
    cut = encode(tokenizer, context, "The green one. " * 10, Limits(max_length=max_length, max_prompt=max_prompt))
    assert cut.truncated
    assert len(cut.prompt_ids) == min(max_prompt, len(whole.prompt_ids))
    assert len(cut.response_ids) == min(max_length - len(cut.prompt_ids), len(whole.response_ids))
    assert len(cut.response_ids) >= 1
    assert cut.response_ids == whole.response_ids[: len(cut.response_ids)]
    bos = 1 if FAMILIES[family].bos and max_prompt > 1 else 0
    assert cut.prompt_ids[:bos] == whole.prompt_ids[:bos]
    kept = cut.prompt_ids[bos:]
    assert kept == whole.prompt_ids[len(whole.prompt_ids) - len(kept) :]


def test_cut_pairs_are_counted(tokenizers: dict[str, Any]) -> None:
    short, long = a_pair(), a_pair(rejected="The blue one is blue. " * 20)
    tokens = tokenise(tokenizers["qwen"], [short, long, short], Limits(max_length=64, max_prompt=32))
    assert [pair.truncated for pair in tokens.pairs] == [False, True, False]
    assert tokens.truncated == 1


def test_limits_that_leave_no_room_for_a_response_are_refused() -> None:
    with pytest.raises(HarnessError, match="max_prompt 64 and max_length 64"):
        Limits(max_length=64, max_prompt=64)


def test_a_response_of_200000_characters_is_cut(tokenizers: dict[str, Any]) -> None:
    encoded = encode(tokenizers["qwen"], HELLO, "The red one is red. " * 10_000, Limits(max_length=128, max_prompt=64))
    assert encoded.truncated
    assert len(encoded.prompt_ids) + len(encoded.response_ids) == 128


def test_many_at_once_are_the_same_as_one_by_one(tokenizers: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.data.joint.BATCH", 3)
    rows = [((Message(role="user", content=f"Hello {n % 3} <|im_end|>"),), f"The <|im_start|> {n}") for n in range(8)]
    assert encode_many(tokenizers["qwen"], rows, WIDE) == [encode(tokenizers["qwen"], *row, WIDE) for row in rows]


def test_the_fingerprint_follows_the_ids(tokenizers: dict[str, Any]) -> None:
    one, two = a_pair(), a_pair(rejected="Blue!")
    prints = [tokenise(tokenizers["qwen"], pairs, WIDE).fingerprint for pairs in ([one], [one], [two], [one, one])]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3
    assert len(prints[0]) == 16


STRICT_TURNS = (
    "{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TWICE = (Message(role="user", content="Hello."), Message(role="user", content="And be brief."))


@pytest.fixture
def strict() -> Any:
    tokenizer = train_tokenizer(FAMILIES["qwen"], TEXTS, 400)
    tokenizer.chat_template = STRICT_TURNS
    return tokenizer


def test_a_pair_that_the_template_refuses_is_named_with_the_templates_words(strict: Any) -> None:
    refused = replace(a_pair(TWICE), pair_id="the-one")
    words = r"pair 'the-one' of train: the chat template .*user, user, assistant.*Roles must alternate.*--lenient"
    with pytest.raises(HarnessError, match=words):
        tokenise(strict, [a_pair(), refused], WIDE)


def test_a_refused_pair_costs_itself_alone_when_lenient(strict: Any) -> None:
    pairs = [a_pair(), a_pair(TWICE), a_pair(chosen="Green.")]
    tokens = tokenise(strict, pairs, WIDE, lenient=True)
    assert tokens.kept == (0, 2)
    assert tokens.pairs == tokenise(strict, [pairs[0], pairs[2]], WIDE).pairs
    assert tokens.left_out == {"train: refused by the chat template": 1}
    with pytest.raises(HarnessError, match=r"no usable pair of the train split \(1 train: refused"):
        tokenise(strict, pairs[1:2], WIDE, lenient=True)


def test_pairs_with_equal_tokens_are_left_out_and_counted(tokenizers: dict[str, Any]) -> None:
    same_start = a_pair(chosen="The red one. " * 30 + "Yes.", rejected="The red one. " * 30 + "No.")
    tokens = tokenise(tokenizers["qwen"], [a_pair(), same_start], Limits(max_length=64, max_prompt=32))
    assert tokens.kept == (0,)
    assert list(tokens.left_out.values()) == [1]
    assert "same tokens on both sides" in next(iter(tokens.left_out))


def a_data_set(*test: Pair, listwise: tuple[Listwise, ...] = ()) -> Dataset:
    return Dataset(name="d", train=(), dev=(), test=test, listwise_test=listwise)


def test_held_out_pairs_that_no_model_can_be_asked_are_left_out_and_counted(strict: Any) -> None:
    same = a_pair(chosen="The red one. " * 30 + "Yes.", rejected="The red one. " * 30 + "No.")
    pairs = [replace(pair, pair_id=str(index)) for index, pair in enumerate((a_pair(TWICE), same, a_pair()))]
    limits = Limits(max_length=64, max_prompt=32)

    held = held_out(strict, a_data_set(*pairs), "test", limits, lenient=True)

    assert held.pairs["pair_id"].tolist() == ["2"]
    assert sorted(held.left_out.values()) == [1, 1]
    alone = held_out(strict, a_data_set(pairs[2]), "test", limits)
    assert held.requests == alone.requests
    assert held.pairs.equals(alone.pairs)
    with pytest.raises(HarnessError, match=r"pair '0' of test: .*Roles must alternate"):
        held_out(strict, a_data_set(*pairs), "test", limits)


def test_a_refused_listwise_response_is_named_or_left_out(strict: Any) -> None:
    answers = (Response(response_id="a", text="One.", score=1.0), Response(response_id="b", text="Two.", score=2.0))
    ranked = Listwise(prompt_id="l", context=TWICE, responses=answers)
    data = a_data_set(a_pair(), listwise=(ranked,))
    held = held_out(strict, data, "test", WIDE, lenient=True)
    assert held.left_out == {"listwise: refused by the chat template": 2}
    assert len(held.requests) == 2
    with pytest.raises(HarnessError, match=r"to prompt 'l': .*Roles must alternate"):
        held_out(strict, data, "test", WIDE)


CALL = '{"tool_calls": [{"id": "1", "type": "function", "function": {"name": "look", "arguments": "{\\"at\\": 4}"}}]}'
TOOLS = (*HELLO, Message(role="assistant", content="", tools=CALL), Message(role="tool", content="42", tools="{}"))


def test_tool_turns_reach_a_template_that_takes_them() -> None:
    tokenizer = train_tokenizer(FAMILIES["qwen"], TEXTS, 400)
    tokenizer.chat_template = (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] }}"
        "{% for call in message['tool_calls'] or [] %}"
        "{{ call['function']['name'] }}{{ call['function']['arguments'] | tojson }}{% endfor %}"
        "{{ '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )
    text = tokenizer.decode(encode(tokenizer, TOOLS, "Hi.", WIDE).prompt_ids)
    assert 'look{"at": 4}<|im_end|>' in text
    assert "<|im_start|>tool\n42" in text


@pytest.mark.parametrize("family", list(FAMILIES))
def test_tool_turns_are_refused_where_the_template_would_drop_them(tokenizers: dict[str, Any], family: str) -> None:
    with pytest.raises(HarnessError, match=r"pair 'p' of train: .*it renders no calls of tools"):
        tokenise(tokenizers[family], [a_pair(TOOLS)], WIDE)


def test_the_one_wild_row_that_a_strict_template_refuses_costs_itself_alone(strict: Any, test_data: Path) -> None:
    dataset = load(str(test_data / "wild" / "21_one_refused_by_template.jsonl"), LoadOptions(), {})
    (refused,) = (pair for pair in dataset.train if len(pair.context) > 1)
    with pytest.raises(HarnessError, match=f"pair '{refused.pair_id}' of train: .*Roles must alternate"):
        tokenise(strict, dataset.train, WIDE)
    assert len(tokenise(strict, dataset.train, WIDE, lenient=True).pairs) == len(dataset.train) - 1
