"""Prompts to answer: a file of one's own, or those of AlpacaEval, Arena-Hard and MT-Bench, which are never shipped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.api import HarnessError, Message, OpenPrompt, OpenPrompts
from harness.data.files import read_table, stem_of
from harness.data.layouts.raw_pair import ABSENT, Column
from harness.data.layouts.values import as_turns
from harness.data.prompts import id_of_context
from harness.data.raw import RawRow, RowError, printable, quoted
from harness.data.turns import check_context, conversation, given_id, messages_of, text

ASKED = ("messages", "turns", "prompt", "instruction", "question")
"""Columns that a prompt may stand in, the first of which counts: a text, turns, or the texts of the user's turns."""
RIVALS = ("output", "chosen")
"""Columns that a rival's answer may stand in: a text, or turns that end with it."""
IDS = ("prompt_id", "question_id", "uid", "id")


@dataclass(frozen=True, kw_only=True)
class Official:
    """A set of prompts on the hub that people know by its name."""

    style: str
    """What results are called: prompts alone make no official result, which takes the baseline and the judge too."""
    repo: str
    file: str
    licence: str


OFFICIAL: Mapping[str, Official] = {
    "alpaca_eval": Official(
        style="AlpacaEval style",
        repo="tatsu-lab/alpaca_eval",
        file="alpaca_eval_gpt4_baseline.json",  # with the answers of the baseline
        licence="CC BY-NC 4.0: not for commercial use",
    ),
    "arena_hard": Official(
        style="Arena-Hard style",
        repo="lmarena-ai/arena-hard-auto",
        file="data/arena-hard-v0.1/question.jsonl",
        licence="Apache-2.0",
    ),
    "mt_bench": Official(
        style="MT-Bench style",
        repo="HuggingFaceH4/mt_bench_prompts",
        file="raw/question.jsonl",
        licence="Apache-2.0",
    ),
}


def open_prompts(name_or_path: str) -> OpenPrompts:
    """Return the prompts of a file, or those of an official set from the hub or its cache.

    Raises `HarnessError` for a file that is not there, the first row that is no prompt, and ids that occur twice.
    """
    official = OFFICIAL.get(name_or_path)
    path = _fetched(official) if official else Path(name_or_path)
    if not path.is_file():
        raise HarnessError(
            f"got --prompts {name_or_path}, expected a file (.jsonl, .json, .parquet) or one of {', '.join(OFFICIAL)}; "
            "name one"
        )
    where = printable(str(path))
    prompts = tuple(_prompt(row, where) for row in read_table(path, lambda columns: columns).rows)
    ids = {prompt.prompt_id for prompt in prompts}
    if len(ids) < len(prompts):
        raise HarnessError(f"{where}: got {len(prompts)} prompts with {len(ids)} ids, expected one each; correct them")
    return OpenPrompts(
        name=official.style if official else stem_of(path),
        source=name_or_path,
        licence=official.licence if official else "",
        prompts=prompts,
    )


def _fetched(official: Official) -> Path:
    """Return the file of an official set, from the hub or its cache."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(official.repo, official.file, repo_type="dataset"))
    except Exception as error:  # the hub's client and its HTTP library each raise exceptions of their own
        raise HarnessError(
            f"{official.style} prompts: got {type(error).__name__} from the hub, expected {official.file} of the data "
            f"set {official.repo} ({official.licence}); download it and give its path to --prompts"
        ) from error


def _prompt(row: RawRow, where: str) -> OpenPrompt:
    try:
        if isinstance(row.values, RowError):
            raise row.values
        return _read(row.values)
    except RowError as error:
        place = f"line {row.line}" if row.line is not None else f"row {row.number}"
        raise HarnessError(f"{where}: {place}: {error}; correct the row") from None


def _read(values: Mapping[str, Any]) -> OpenPrompt:
    name = next((name for name in ASKED if values.get(name) is not None), None)
    if name is None:
        raise RowError("no prompt", ASKED, f"got no prompt, expected one of the columns {', '.join(ASKED)}")
    turns = _turns(values[name], name)
    rival = next((_answer(values[column], column) for column in RIVALS if values.get(column) is not None), "")
    if turns[-1].role == "assistant":
        rival = rival or turns[-1].content
        turns = turns[:-1]
    context, second = (turns[:1], turns[1].content) if [turn.role for turn in turns] == ["user"] * 2 else (turns, "")
    check_context(name, context)
    prompt_id = next((given_id(Column(name=key, value=values.get(key, ABSENT))) for key in IDS if key in values), None)
    return OpenPrompt(prompt_id=prompt_id or id_of_context(context), context=context, rival=rival, second=second)


def _turns(value: object, name: str) -> tuple[Message, ...]:
    """Return the turns of a text, of a list of turns, or of a list of the user's turns, two at most."""
    if isinstance(value, str):
        value = [{"role": "user", "content": text(value, "prompt", name)}]
    if not isinstance(value, list) or not value:
        raise RowError("no prompt", (name,), f"{name} is {quoted(value)}, expected a text or a list of turns")
    if all(isinstance(said, str) or (isinstance(said, dict) and "role" not in said) for said in value):
        said = [turn if isinstance(turn, str) else turn.get("content") for turn in value]
        if len(said) > 2:
            raise RowError("too many turns", (name,), f"{name} has {len(said)} turns of a user, expected one or two")
        value = [{"role": "user", "content": content} for content in said]
    return messages_of(Column(name=name, value=as_turns(value)))


def _answer(value: object, name: str) -> str:
    """Return an answer: a text, or the last of a list of turns."""
    if isinstance(value, str):
        return text(value, name, name)
    return conversation(Column(name=name, value=as_turns(value)))[1]
