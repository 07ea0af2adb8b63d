"""The ids of a conversation, against `apply_chat_template` on the whole of it, in the layouts of real checkpoints."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import real_layouts
from real_templates import CHATML

from harness.api import Dataset, Message, Pair
from harness.data.heldout import held_out
from harness.data.template import template_day
from harness.data.tokens import Limits, TokenPair, encode_many, tokenise

LAYOUTS = ("llama-3", "llama-2", "qwen-3", "phi-3", "gpt-2", "mistral", "sharded")
WIDE = Limits(max_length=400, max_prompt=200)
USER = Message(role="user", content="Name three rivers.")
BEFORE = (USER, Message(role="assistant", content="The Rhine. "), Message(role="user", content="\nAnd two more?"))
THINKS = CHATML.replace("assistant\\n' }}{% endif %}", "assistant\\n<think>\\n' }}{% endif %}")
"""As templates of models that always think: the generation prompt opens a thought, the whole conversation has none."""
STRIPS = CHATML.replace("message['content']", "message['content'].strip()")
PLAIN = (
    "{% for message in messages %}{{ '### ' + message['role'] + ':\\n' + message['content'] + '\\n\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### assistant:\\n' }}{% endif %}"
)
LAST_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] + '\\n\\n' %}"
    "{% set messages = messages[1:] %}{% endif %}{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + (system if loop.last and system is defined else '') + message['content'] + ' [/INST]' }}"
    "{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
)
"""As that of Mistral-7B-Instruct-v0.3: the system turn stands in the last turn, so that an answer drops it."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("layouts")


@pytest.fixture
def tokenizer(request: pytest.FixtureRequest, folders: Path) -> Any:
    """The tokenizer of the layout, anew for each test."""
    from transformers import AutoTokenizer

    folder = folders / request.param
    return AutoTokenizer.from_pretrained(folder if folder.exists() else real_layouts.make(request.param, folder))


def on(day: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the clock that templates read."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return day

    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Clock)


def whole(tokenizer: Any, context: tuple[Message, ...], response: str) -> list[int]:
    """The ids that the template gives the whole conversation."""
    turns = [{"role": turn.role, "content": turn.content} for turn in context]
    ids: list[int] = tokenizer.apply_chat_template(
        [*turns, {"role": "assistant", "content": response}], tokenize=True, return_dict=True
    )["input_ids"]
    return ids


def a_pair(chosen: str, rejected: str, context: tuple[Message, ...] = (USER,)) -> Pair:
    return Pair(pair_id="p", prompt_id="q", context=context, chosen=chosen, rejected=rejected)


def pair_of(tokenizer: Any, pair: Pair) -> TokenPair:
    return tokenise(tokenizer, [pair], WIDE).pairs[0]


RESPONSES = (
    "The Rhine, the Elbe and the Danube.",
    " one space before",
    "  two spaces before, two after  ",
    "\nA line break before",
    "\n\n  Lines and spaces\n\n",
    "\tTab",
    ". A full stop first",
    "größer 東京 🙂",
    "<think>\nHm.\n</think>\n\nThe Rhine.",
    "x",
)


@pytest.mark.parametrize("context", [(USER,), BEFORE], ids=["one turn", "three turns"])
@pytest.mark.parametrize("tokenizer", LAYOUTS, indirect=True)
def test_ids_are_those_of_the_template_on_the_whole_conversation(
    tokenizer: Any, context: tuple[Message, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    on(datetime(2024, 7, 26), monkeypatch)
    for response in RESPONSES:
        (encoded,) = encode_many(tokenizer, [(context, response)], WIDE)
        ids, expected = [*encoded.prompt_ids, *encoded.response_ids], whole(tokenizer, context, response)
        assert ids == expected[: len(ids)]
        assert tokenizer.decode(expected[len(ids) :]).strip() == ""  # the line break after ChatML's end of turn
        assert ids[-1] in tokenizer.all_special_ids


@pytest.mark.parametrize("tokenizer", LAYOUTS, indirect=True)
def test_the_prompt_is_what_generation_prompt_and_whole_conversations_have_in_common(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(datetime(2024, 7, 26), monkeypatch)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": USER.content}], add_generation_prompt=True, return_dict=True
    )["input_ids"]
    for chosen, rejected in zip(RESPONSES, reversed(RESPONSES), strict=True):
        pair = pair_of(tokenizer, a_pair(chosen, rejected))
        sides = whole(tokenizer, (USER,), chosen), whole(tokenizer, (USER,), rejected)
        shared = 0
        while shared < len(asked) and sides[0][shared] == sides[1][shared] == asked[shared]:
            shared += 1
        assert list(pair.prompt_ids) == asked[:shared]
        assert pair.seam_moved == (shared < len(asked))
        for ids, side in zip((pair.chosen_ids, pair.rejected_ids), sides, strict=True):
            assert list(ids) == side[shared : shared + len(ids)]


@pytest.mark.parametrize("trait", ["normalized", "lstrip", "single_word"])
@pytest.mark.parametrize("tokenizer", ["llama-2", "phi-3", "qwen-3"], indirect=True)
def test_special_tokens_that_depend_on_what_is_around_them_are_tokenised_with_it(tokenizer: Any, trait: str) -> None:
    from tokenizers import Tokenizer

    made = json.loads(tokenizer.backend_tokenizer.to_str())
    for token in made["added_tokens"]:
        token[trait] = token["special"]
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(made))
    assert all(getattr(token, trait) for token in tokenizer.added_tokens_decoder.values() if token.special)
    pair = pair_of(tokenizer, a_pair("The Rhine.", " The Elbe. ", BEFORE))
    ids, expected = [*pair.prompt_ids, *pair.rejected_ids], whole(tokenizer, BEFORE, " The Elbe. ")
    assert ids[:-1] == expected[: len(ids) - 1]


@pytest.mark.parametrize("tokenizer", ["qwen-3"], indirect=True)
def test_a_thought_that_only_the_whole_conversation_has_belongs_to_the_response(tokenizer: Any) -> None:
    pair = pair_of(tokenizer, a_pair("The Rhine.", "The Elbe."))
    assert tokenizer.decode(pair.prompt_ids).endswith("<|im_start|>assistant\n")
    assert tokenizer.decode(pair.chosen_ids) == "<think>\n\n</think>\n\nThe Rhine.<|im_end|>"
    assert not pair.seam_moved


@pytest.mark.parametrize("tokenizer", ["qwen-3"], indirect=True)
def test_a_thought_that_only_the_generation_prompt_has_is_in_neither(tokenizer: Any) -> None:
    tokenizer.chat_template = THINKS
    pair = pair_of(tokenizer, a_pair("The Rhine.", "The Elbe."))
    assert tokenizer.decode(pair.prompt_ids).endswith("<|im_start|>assistant\n")
    assert tokenizer.decode(pair.chosen_ids) == "The Rhine.<|im_end|>"
    assert pair.seam_moved


@pytest.mark.parametrize("tokenizer", ["sharded"], indirect=True)
def test_a_token_over_the_boundary_belongs_to_both_responses(tokenizer: Any) -> None:
    tokenizer.chat_template = PLAIN
    merged = tokenizer.encode("\n\n")
    assert len(merged) == 1
    pair = pair_of(tokenizer, a_pair("\nThe Rhine.", "The Elbe."))
    assert tokenizer.decode(pair.prompt_ids).endswith("### assistant:")
    assert pair.chosen_ids[0] == merged[0]
    assert tokenizer.decode(pair.chosen_ids).startswith("\n\nThe Rhine.")
    assert tokenizer.decode(pair.rejected_ids).startswith("\nThe Elbe.")
    assert pair.seam_moved
    assert not pair_of(tokenizer, a_pair("The Rhine.", "The Elbe.")).seam_moved


@pytest.mark.parametrize("tokenizer", ["phi-3"], indirect=True)
def test_a_response_has_both_of_its_end_tokens(tokenizer: Any) -> None:
    pair = pair_of(tokenizer, a_pair("The Rhine.", "The Elbe."))
    ends = tokenizer.convert_tokens_to_ids(["<|end|>", "<|endoftext|>"])
    assert list(pair.chosen_ids[-2:]) == list(pair.rejected_ids[-2:]) == ends


@pytest.mark.parametrize("tokenizer", ["sharded"], indirect=True)
def test_responses_that_the_template_makes_equal_are_left_out_and_counted(tokenizer: Any) -> None:
    tokenizer.chat_template = STRIPS
    same, other = a_pair(" The Rhine.", "The Rhine.\n"), a_pair("The Rhine.", "The Elbe.")
    tokens = tokenise(tokenizer, [same, other], WIDE)
    assert tokens.kept == (1,)
    assert list(tokens.left_out.values()) == [1]
    held = held_out(tokenizer, Dataset(name="d", train=(), dev=(), test=(same, other)), "test", WIDE)
    assert list(held.left_out.values()) == [1]


@pytest.mark.parametrize("tokenizer", LAYOUTS, indirect=True)
def test_an_empty_system_turn_is_the_templates_own_or_none(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    on(datetime(2024, 7, 26), monkeypatch)
    empty = (Message(role="system", content=""), USER)
    (encoded,) = encode_many(tokenizer, [(empty, "The Rhine.")], WIDE)
    takes_it = tokenizer.chat_template and "Only user and assistant roles" not in tokenizer.chat_template
    expected = whole(tokenizer, empty if takes_it else (USER,), "The Rhine.")
    ids = [*encoded.prompt_ids, *encoded.response_ids]
    assert ids == expected[: len(ids)]


@pytest.mark.parametrize("tokenizer", ["mistral"], indirect=True)
def test_a_system_turn_is_kept_where_the_template_drops_it_once_an_answer_follows(tokenizer: Any) -> None:
    tokenizer.chat_template = LAST_SYSTEM
    brief = Message(role="system", content="Be brief.")
    assert "Be brief." not in tokenizer.decode(whole(tokenizer, (brief, USER), "The Rhine."))
    pair = pair_of(tokenizer, a_pair("The Rhine.", "The Elbe.", (brief, USER)))
    assert "Be brief.\n\nName three rivers." in tokenizer.decode(pair.prompt_ids)


@pytest.mark.parametrize("tokenizer", ["sharded", "gpt-2"], indirect=True)
def test_moved_seams_are_counted_by_pair(tokenizer: Any) -> None:
    tokenizer.chat_template = PLAIN.replace("'\\n\\n'", "eos_token")
    pairs = [
        a_pair("\nThe Rhine.", "The Elbe.", (Message(role="user", content="One?"),)),
        a_pair("The Rhine.", "The Elbe.", (Message(role="user", content="Two?"),)),
    ]
    asked = [tokenizer.encode("### assistant:\n" + text) for text in ("", "\nThe Rhine.", "The Elbe.")]
    moves = asked[1][: len(asked[0])] != asked[0]
    assert tokenise(tokenizer, pairs, WIDE).seams_moved == int(moves)
    held = held_out(tokenizer, Dataset(name="d", train=(), dev=(), test=tuple(pairs)), "test", WIDE)
    assert held.seams_moved == int(moves)


@pytest.mark.parametrize("tokenizer", LAYOUTS, indirect=True)
def test_ids_are_the_same_on_every_day(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = []
    for day in (datetime(2026, 1, 31), datetime(2026, 2, 1)):
        on(day, monkeypatch)
        ids.append(tokenise(tokenizer, [a_pair("The Rhine.", "The Elbe.")], WIDE).fingerprint)
    assert ids[0] == ids[1]
    assert template_day(tokenizer) == ("2024-07-26" if "date_string" in tokenizer.chat_template else "")


@pytest.mark.parametrize("call", ["'%d %b %Y'", "'%A, %B %-d, %Y %H:%M'", "format='%Y-%m-%d'"])
@pytest.mark.parametrize("tokenizer", ["sharded"], indirect=True)
def test_a_template_that_reads_the_clock_gets_the_pinned_day(
    tokenizer: Any, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer.chat_template = f"  {{% if true %}}{{{{ strftime_now({call}) }}}}\n{{% endif %}}{CHATML}"
    on(datetime(2024, 7, 26), monkeypatch)
    expected = whole(tokenizer, (USER,), "The Rhine.")
    on(datetime(2031, 12, 24, 18), monkeypatch)
    pair = pair_of(tokenizer, a_pair("The Rhine.", "The Elbe."))
    ids = [*pair.prompt_ids, *pair.chosen_ids]
    assert ids == expected[: len(ids)]
    assert template_day(tokenizer) == "2024-07-26"


@pytest.mark.parametrize("tokenizer", ["sharded"], indirect=True)
def test_a_template_that_takes_a_date_gets_the_pinned_day_as_llama_writes_it(tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ date_string | default('01 Jan 2000') }}\n" + CHATML
    assert tokenizer.decode(pair_of(tokenizer, a_pair("The Rhine.", "The Elbe.")).prompt_ids).startswith(
        "26 Jul 2024\n"
    )
