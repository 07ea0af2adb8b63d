"""Preference data as the harness knows it, before tokenisation. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

NAN = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation."""

    role: str
    """`system`, `user`, `assistant`, or `tool` for what a tool gave back."""
    content: str
    tools: str = ""
    """JSON of the other keys of a turn that calls a tool or answers for one (`tool_calls`, `tool_call_id`, `name`)."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Role and content, and `tools` where the turn has any: what hashes are made of."""
        return (self.role, self.content, self.tools) if self.tools else (self.role, self.content)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A prompt with a chosen and a rejected response; the unit of training and of pairwise accuracy."""

    pair_id: str
    """Unique within its split, stable between loads of the same file."""
    prompt_id: str
    """Shared by all pairs of one prompt; the bootstrap resamples prompts."""
    context: tuple[Message, ...]
    """Every turn before the response, system turn included; the last one is the user's or a tool's."""
    chosen: str
    rejected: str
    score_chosen: float = NAN
    """Annotation score of the chosen response; NaN where the data has none."""
    score_rejected: float = NAN
    true_chosen: float = NAN
    """TRUE quality, known on embedded data only, because the text is made from it; NaN elsewhere."""
    true_rejected: float = NAN
    subset: str = ""
    """The part of the data that it belongs to, by which accuracy is told too; "" where the data have no parts."""

    @property
    def prompt(self) -> str:
        """The user's last turn as text."""
        return next(turn.content for turn in reversed(self.context) if turn.role == "user")


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One response of a listwise prompt."""

    response_id: str
    text: str
    score: float = NAN
    true_quality: float = NAN


@dataclass(frozen=True, slots=True, kw_only=True)
class Listwise:
    """A prompt with several scored responses; the unit of within-prompt rank correlations."""

    prompt_id: str
    context: tuple[Message, ...]
    responses: tuple[Response, ...]
    subset: str = ""
    """As `Pair.subset`, of the pairs that are made of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeTask:
    """What a prompt of made data asks for, from which the true quality of any answer to it follows."""

    family: str
    """Which kind of task it is."""
    style: str
    """The style that the prompt asks for."""
    right: str
    """The answer proper that is right."""
    near: str
    """A wrong one that looks like it."""
    slots: tuple[tuple[str, str], ...]
    """What the phrasings of the family are filled with, but for the answer."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Which data they are: their name, where they came from and what is in them."""

    name: str
    source: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPrompt:
    """A prompt that models are asked to answer, outside of the preference data."""

    prompt_id: str
    context: tuple[Message, ...]
    rival: str = ""
    """An answer to compare theirs with; "" where there is none."""
    second: str = ""
    """What is asked once the first answer stands in the conversation; "" where nothing is."""

    @property
    def second_id(self) -> str:
        """What stands for the second turn where prompts have ids."""
        return f"{self.prompt_id}/2"


@dataclass(frozen=True, kw_only=True)
class OpenPrompts:
    """Prompts that models are asked to answer in the place of held-out ones."""

    name: str
    """What results may be called by."""
    source: str
    """What `--prompts` takes to read them again."""
    licence: str
    """Empty where it is not known."""
    prompts: tuple[OpenPrompt, ...]

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over all prompts and rivals."""
        content = [
            (each.prompt_id, [turn.parts for turn in each.context], each.rival, each.second) for each in self.prompts
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Preference data split by prompt, with a count of the rows left out and why.

    An evaluation set is one without training pairs: what of it may be scored is `test`.
    """

    name: str
    train: tuple[Pair, ...]
    dev: tuple[Pair, ...]
    test: tuple[Pair, ...]
    test_lenbalanced: tuple[Pair, ...] = ()
    """Test pairs whose two responses have about the same length; empty where the data bring none."""
    listwise_train: tuple[Listwise, ...] = ()
    """Of training prompts, for selectors that pair anew. No part of the fingerprint: pairs made of them are in that of
    the tokens."""
    listwise_dev: tuple[Listwise, ...] = ()
    listwise_test: tuple[Listwise, ...] = ()
    sft: tuple[tuple[tuple[Message, ...], str], ...] = ()
    """(context, response) of the data's own SFT split; if empty, SFT uses the responses of the training pairs."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Rows left out, counted by reason."""
    notes: tuple[str, ...] = ()
    """One line each for the screen and the record: ties, copies, splits carved from train."""
    source: str = ""
    """Where the data came from: a path, a hub id with its revision, or the simulator's settings."""
    tested_on: Origin | None = None
    """The evaluation set whose test data these are, where they are not the data set's own."""
    tasks: Mapping[str, MadeTask] = field(default_factory=dict)
    """By prompt id, what the prompts of made data ask for; empty elsewhere. No part of the fingerprint."""
    to_answer: OpenPrompts | None = None
    """What models answer in the place of held-out prompts, `--prompts`; None: those. No part of the fingerprint."""

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over every text, id, score and subset of every split."""
        digest = hashlib.sha256()
        for split in (self.train, self.dev, self.test, self.test_lenbalanced):
            digest.update(b"|split|")
            for pair in split:
                turns = [turn.parts for turn in pair.context]
                row = [
                    pair.pair_id,
                    pair.prompt_id,
                    turns,
                    pair.chosen,
                    pair.rejected,
                    pair.score_chosen,
                    pair.score_rejected,
                    *([pair.subset] if pair.subset else []),
                ]
                digest.update(json.dumps(row, ensure_ascii=True).encode())
        for listwise in (self.listwise_dev, self.listwise_test):
            digest.update(b"|listwise|")
            for prompt in listwise:
                turns = [turn.parts for turn in prompt.context]
                responses = [(response.response_id, response.text, response.score) for response in prompt.responses]
                digest.update(json.dumps([prompt.prompt_id, turns, responses], ensure_ascii=True).encode())
        for context, text in self.sft:
            digest.update(json.dumps([[turn.parts for turn in context], text]).encode())
        return digest.hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How a data set is loaded."""

    lenient: bool = False
    """Skip defective rows and count them by reason; otherwise the first one is an error."""
    seed: int = 0
    """Seed of carved splits and of the simulator; not the training seed: all training seeds see the same data."""
    columns: str = ""
    """`prompt=question,chosen=best`: the columns of files whose names say too little; "" for their own names."""
    splits: str = ""
    """`train=train_sft,test=heldout`: the splits whose names are not the usual ones; "" for the usual names."""
    pairs_from_labels: bool = False
    """Pair the good and the bad completions of a prompt, in files with one labelled completion a row."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Of a data set that a plugin brings: its own settings as text, as in `embedded:annotator_noise=0.6`."""
    needs_test: bool = True
    """Whether data without a test split get one: the validation split, or one carved from train. False where the test
    data of another set are scored."""


@dataclass(frozen=True, kw_only=True)
class DatasetSource:
    """A named data set that a plugin brings."""

    name: str
    load: Callable[[LoadOptions], Dataset]
    summary: str = ""
    """One line for listings."""
    settings: tuple[str, ...] = ()
    """The names of settings that it takes, `--dataset NAME:setting=value`; others are refused before `load`."""
