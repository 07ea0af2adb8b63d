"""Texts -> token ids, made once: the trainer and every scorer read these ids. Imports no torch.

They are those of the model's own chat template, applied to the whole conversation; `joint.py` says where in them the
response begins. Both sides of a pair have the same prompt ids, and every system is trained and scored on these.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from harness.api import HarnessError, Message, Pair
from harness.data.joint import joint_ids
from harness.data.raw import printable
from harness.data.template import RefusedError, Shield, Template, Turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REFUSED = "refused by the chat template"
OTHER_PROMPT = "it renders another prompt, from its first token on, once a response follows, so that none is left"
SAME_TOKENS = "the same tokens on both sides, so that no model can tell them apart"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long a sequence may be, in tokens."""

    max_length: int = 1024
    """Of prompt and response together."""
    max_prompt: int = 512
    """Of the prompt alone; the response may have the rest of `max_length`."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_prompt < self.max_length:
            raise HarnessError(
                f"got max_prompt {self.max_prompt} and max_length {self.max_length} tokens, expected "
                "1 <= max_prompt < max_length; leave room for a response"
            )


class Encoded(NamedTuple):
    """One prompt with one response as ids."""

    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    """At least one id; the last is the end-of-turn token, unless the response was cut."""
    truncated: bool
    seam_moved: bool = False
    """Whether the response has tokens of the generation prompt, since the whole conversation has others there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPair:
    """A preference pair as ids."""

    pair_id: str
    prompt_ids: tuple[int, ...]
    chosen_ids: tuple[int, ...]
    rejected_ids: tuple[int, ...]
    truncated: bool
    """Whether the prompt or either response was cut to the limits."""
    seam_moved: bool = False
    """Whether both responses have tokens of the generation prompt, since the whole conversations have others there."""


@dataclass(frozen=True, kw_only=True)
class TokenisedPairs:
    """Pairs as ids, in the order given."""

    pairs: tuple[TokenPair, ...]
    kept: tuple[int, ...] = ()
    """Where each was among the pairs given."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Pairs left out, by split and reason."""

    @cached_property
    def truncated(self) -> int:
        """Number of pairs that were cut to the limits."""
        return sum(pair.truncated for pair in self.pairs)

    @cached_property
    def seams_moved(self) -> int:
        """Number of pairs whose responses have tokens of the generation prompt."""
        return sum(pair.seam_moved for pair in self.pairs)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over all ids."""
        return _fingerprint(ids for pair in self.pairs for ids in (pair.prompt_ids, pair.chosen_ids, pair.rejected_ids))


def encode_each(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[tuple[Sequence[Message], str]], limits: Limits
) -> list[Encoded | RefusedError]:
    """Return, for each (context, response) in order, the ids of the prompt and of the response with its end of turn.

    All responses to a context have the same prompt ids, the generation prompt as far as the whole conversations begin
    with it. A prompt longer than `limits.max_prompt` is cut on the left, its BOS kept; a response is cut on the right.
    A conversation that the chat template refuses gives the refusal.
    """
    specials = {id: token.content for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    shield = Shield(sorted(specials.values(), key=len, reverse=True))
    template = Template(tokenizer, shield)
    prompts = _Prompts(template)
    rows: list[int | RefusedError] = []
    wholes: list[str] = []
    for context, response in conversations:
        try:
            row = prompts.row_of(tuple(context))
            wholes.append(template.whole(prompts.turns[row], response))
            rows.append(row)
        except RefusedError as refusal:
            rows.append(refusal.with_traceback(None))
    places = [row for row in rows if isinstance(row, int)]
    joints = iter(joint_ids(tokenizer, shield, prompts.texts, list(zip(places, wholes, strict=True))))
    encoded: list[Encoded | RefusedError] = []
    for each in rows:
        if isinstance(each, RefusedError):
            encoded.append(each)
            continue
        joint = next(joints)
        if not joint.prompt_ids:
            encoded.append(RefusedError(OTHER_PROMPT))
            continue
        prompt, cut = _cut_prompt(tokenizer, joint.prompt_ids, limits)
        ended = _end(tokenizer, joint.response_ids, specials.keys(), template.name)
        room = limits.max_length - len(prompt)
        encoded.append(Encoded(prompt, ended[:room], cut or len(ended) > room, joint.seam_moved))
    return encoded


class _Prompts:
    """Each context rendered once: its turns as the template takes them, and their text."""

    def __init__(self, template: Template) -> None:
        self._template = template
        self._rows: dict[tuple[Message, ...], int | RefusedError] = {}
        self.turns: list[list[Turn]] = []
        self.texts: list[str] = []

    def row_of(self, context: tuple[Message, ...]) -> int:
        """Return the place of the context; raise `RefusedError` where the template refuses it."""
        if context not in self._rows:
            try:
                turns = self._template.turns(context)
                text = self._template.render(turns, generation_prompt=True)
            except RefusedError as refusal:
                self._rows[context] = refusal.with_traceback(None)
            else:
                self._rows[context] = len(self.texts)
                self.turns.append(turns)
                self.texts.append(text)
        row = self._rows[context]
        if isinstance(row, RefusedError):
            raise row
        return row


def encode_many(
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[tuple[Sequence[Message], str]],
    limits: Limits,
    *,
    what: str = "every conversation",
) -> list[Encoded]:
    """Return what `encode_each` returns, without the conversations that the chat template refuses.

    Raises `HarnessError` if it refuses all of them; `what` names them.
    """
    each = encode_each(tokenizer, conversations, limits)
    encoded = [row for row in each if isinstance(row, Encoded)]
    if conversations and not encoded:
        raise HarnessError(
            f"{what}: {_refusal(tokenizer, conversations[0][0], each[0])}; name a checkpoint whose template takes such "
            "rows, or give other data"
        )
    return encoded


def refused_error(
    tokenizer: PreTrainedTokenizerBase, what: str, context: Sequence[Message], refusal: Encoded | RefusedError
) -> HarnessError:
    """Return the error for a row that the chat template refuses, with the template's words."""
    return HarnessError(
        f"{what}: {_refusal(tokenizer, context, refusal)}; correct or leave out such rows, pass --lenient to skip "
        "them, or name a checkpoint that takes them"
    )


def _refusal(tokenizer: PreTrainedTokenizerBase, context: Sequence[Message], refusal: Encoded | RefusedError) -> str:
    roles = ", ".join(turn.role for turn in context)
    name = Template(tokenizer, Shield(())).name
    return f"the chat template of {name} refuses it ({roles}, assistant): {printable(str(refusal))}"


def tokenise(
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    limits: Limits,
    *,
    lenient: bool = False,
    split: str = "train",
) -> TokenisedPairs:
    """Return the pairs as ids, in order, without those that no model can tell apart and, if lenient, refused ones.

    Raises `HarnessError` for the first pair that the chat template refuses, unless lenient, and where no pair is left.
    """
    sides = [(pair.context, response) for pair in pairs for response in (pair.chosen, pair.rejected)]
    encoded = iter(encode_each(tokenizer, sides, limits))
    done: list[TokenPair] = []
    kept: list[int] = []
    left_out: Counter[str] = Counter()
    for index, pair in enumerate(pairs):
        chosen, rejected = next(encoded), next(encoded)
        if isinstance(chosen, RefusedError) or isinstance(rejected, RefusedError):
            if not lenient:
                refusal = chosen if isinstance(chosen, RefusedError) else rejected
                raise refused_error(tokenizer, f"pair '{pair.pair_id}' of {split}", pair.context, refusal)
            left_out[f"{split}: {REFUSED}"] += 1
        elif chosen.response_ids == rejected.response_ids:
            left_out[f"{split}: {SAME_TOKENS}"] += 1
        else:
            kept.append(index)
            done.append(
                TokenPair(
                    pair_id=pair.pair_id,
                    prompt_ids=chosen.prompt_ids,
                    chosen_ids=chosen.response_ids,
                    rejected_ids=rejected.response_ids,
                    truncated=chosen.truncated or rejected.truncated,
                    seam_moved=chosen.seam_moved,
                )
            )
    if pairs and not done:
        raise nothing_left(split, left_out)
    return TokenisedPairs(pairs=tuple(done), kept=tuple(kept), left_out=dict(left_out))


def nothing_left(split: str, left_out: Mapping[str, int]) -> HarnessError:
    """Return the error for a split of which no pair is left."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
    return HarnessError(
        f"got no usable pair of the {split} split ({reasons}), expected at least one; give other data, a checkpoint "
        "whose template takes it, or a larger --max-length"
    )


def _cut_prompt(
    tokenizer: PreTrainedTokenizerBase, ids: tuple[int, ...], limits: Limits
) -> tuple[tuple[int, ...], bool]:
    if len(ids) <= limits.max_prompt:
        return ids, False
    # Gemma's log-probs are worthless without its BOS, so the cut comes after it
    bos = ids[:1] if ids[0] == tokenizer.bos_token_id and limits.max_prompt > 1 else ()
    return (*bos, *ids[len(ids) - limits.max_prompt + len(bos) :]), True


def _end(tokenizer: PreTrainedTokenizerBase, ids: tuple[int, ...], specials: Set[int], name: str) -> tuple[int, ...]:
    """Return the response up to its last special token; with EOS added if text follows that token or there is none."""
    last = next((index for index in range(len(ids) - 1, -1, -1) if ids[index] in specials), -1)
    if last >= 0 and not tokenizer.decode(ids[last + 1 :]).strip():
        return ids[: last + 1]
    if tokenizer.eos_token_id is None:
        raise HarnessError(
            f"the chat template of {name} ends a response with no special token, and the tokenizer has no "
            "eos_token; expected one of the two; name an eos_token in tokenizer_config.json"
        )
    return (*ids, tokenizer.eos_token_id)


def _fingerprint(rows: Iterable[Sequence[int]]) -> str:
    digest = hashlib.sha256()
    for ids in rows:
        digest.update(np.array([len(ids), *ids], dtype="<i4").tobytes())
    return digest.hexdigest()[:16]
