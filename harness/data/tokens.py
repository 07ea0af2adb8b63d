"""Texts -> token ids, made once: the trainer and every scorer read these ids. Imports no torch.

Prompt and response are tokenised separately, so that both sides of a pair have the same prompt ids and the response
starts at a known place. The trap is the boundary: if they were tokenised as one text, the last token of the prompt and
the first of the response could merge. Chat templates end the prompt with a special token or a line break, where merges
are rare; and every system is trained and scored on these same ids, so that none has an advantage.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from harness.api import HarnessError, Message, Pair

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BATCH = 1000
"""Texts per call of the tokenizer: enough to occupy its threads, few enough for memory."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPair:
    """A preference pair as ids."""

    pair_id: str
    prompt_ids: tuple[int, ...]
    chosen_ids: tuple[int, ...]
    rejected_ids: tuple[int, ...]
    truncated: bool
    """Whether the prompt or either response was cut to the limits."""


@dataclass(frozen=True, kw_only=True)
class TokenisedPairs:
    """Pairs as ids, in the order given."""

    pairs: tuple[TokenPair, ...]

    @cached_property
    def truncated(self) -> int:
        """Number of pairs that were cut to the limits."""
        return sum(pair.truncated for pair in self.pairs)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over all ids."""
        return _fingerprint(ids for pair in self.pairs for ids in (pair.prompt_ids, pair.chosen_ids, pair.rejected_ids))


def encode_many(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[tuple[Sequence[Message], str]], limits: Limits
) -> list[Encoded]:
    """Return, for each (context, response) in order, the ids of the prompt and of the response with its end of turn.

    The prompt includes the generation prompt. A prompt longer than `limits.max_prompt` is cut on the left, its BOS
    kept; a response is cut on the right. Raises `HarnessError` if the chat template cannot render a conversation, or
    renders the prompt differently once a response follows.
    """
    specials = {id: token.content for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    shield = _Shield(sorted(specials.values(), key=len, reverse=True))
    fold = not _takes_system(tokenizer)
    seen: dict[tuple[Message, ...], tuple[list[dict[str, str]], str, int]] = {}
    rows, texts = [], []
    for context, response in conversations:
        if (key := tuple(context)) not in seen:
            turns = [
                {"role": turn.role, "content": shield.up(turn.content)}
                for turn in (_fold(context) if fold else context)
            ]
            seen[key] = turns, _render(tokenizer, turns, generation_prompt=True), len(seen)
        turns, prompt, row = seen[key]
        whole = _render(tokenizer, [*turns, {"role": "assistant", "content": shield.up(response)}])
        if not whole.startswith(prompt):
            got, expected = whole[: len(prompt)][-40:], prompt[-40:]
            raise HarnessError(
                f"the chat template of {_name(tokenizer)} renders the prompt differently once a response follows: "
                f"got ...{got!r}, expected ...{expected!r}; give a template whose generation "
                "prompt begins the assistant's turn"
            )
        rows.append(row)
        texts.append(whole[len(prompt) :])
    prompt_ids = [
        _cut_prompt(tokenizer, ids, limits)
        for ids in _ids(tokenizer, [prompt for _, prompt, _ in seen.values()], shield)
    ]
    encoded = []
    for row, ids in zip(rows, _ids(tokenizer, texts, shield), strict=True):
        prompt_tokens, cut = prompt_ids[row]
        ended = _end(tokenizer, ids, specials.keys())
        room = limits.max_length - len(prompt_tokens)
        encoded.append(Encoded(prompt_tokens, tuple(ended[:room]), cut or len(ended) > room))
    return encoded


def tokenise(tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Pair], limits: Limits) -> TokenisedPairs:
    """Return the pairs as ids, in order. Raises what `encode_many` raises."""
    sides = [(pair.context, response) for pair in pairs for response in (pair.chosen, pair.rejected)]
    encoded = iter(encode_many(tokenizer, sides, limits))
    done = []
    for pair in pairs:
        chosen, rejected = next(encoded), next(encoded)
        assert chosen.prompt_ids == rejected.prompt_ids, "the two sides of a pair share the prompt's ids"
        done.append(
            TokenPair(
                pair_id=pair.pair_id,
                prompt_ids=chosen.prompt_ids,
                chosen_ids=chosen.response_ids,
                rejected_ids=rejected.response_ids,
                truncated=chosen.truncated or rejected.truncated,
            )
        )
    return TokenisedPairs(pairs=tuple(done))


class _Shield:
    """Keeps the strings of special tokens in a user's text from becoming special tokens.

    Each is replaced by a marker of Unicode noncharacters before the template is rendered, and is put back afterwards to
    be tokenised as plain text: a response that quotes `<|im_end|>` does not end there.
    """

    def __init__(self, specials: Sequence[str]) -> None:
        self._markers = {special: f"\ufdd0{index}\ufdd1" for index, special in enumerate(specials)}
        self._specials = {marker: special for special, marker in self._markers.items()}
        self._up = re.compile("|".join(map(re.escape, specials)) or r"(?!)")
        self._down = re.compile("(" + ("|".join(self._specials) or r"(?!)") + ")")

    def up(self, text: str) -> str:
        """Return `text` with markers in place of the strings of special tokens."""
        return self._up.sub(lambda match: self._markers[match[0]], text)

    def pieces(self, text: str) -> list[tuple[str, bool]]:
        """Return (piece, whether it stood behind a marker and so is plain text), in order."""
        return [
            (self._specials.get(piece, piece), piece in self._specials) for piece in self._down.split(text) if piece
        ]


def _ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], shield: _Shield) -> Iterator[list[int]]:
    """Yield the ids of each rendered text: special tokens where the template put them, plain text elsewhere."""
    for start in range(0, len(texts), BATCH):
        batch = [shield.pieces(text) for text in texts[start : start + BATCH]]
        flat = [[piece for text in batch for piece, plain in text if plain is wanted] for wanted in (False, True)]
        ids = [iter(_call(tokenizer, pieces, plain=plain)) for plain, pieces in enumerate(flat)]
        for text in batch:
            yield [id for _, plain in text for id in next(ids[plain])]


def _call(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, plain: int) -> list[list[int]]:
    # the template has put BOS and EOS where they belong: add_special_tokens would add them a second time
    if not texts:
        return []
    options: dict[str, Any] = {"add_special_tokens": False, "return_attention_mask": False, "verbose": False}
    ids: list[list[int]] = tokenizer(list(texts), split_special_tokens=bool(plain), **options)["input_ids"]
    return ids


def _cut_prompt(tokenizer: PreTrainedTokenizerBase, ids: list[int], limits: Limits) -> tuple[tuple[int, ...], bool]:
    if len(ids) <= limits.max_prompt:
        return tuple(ids), False
    # Gemma's log-probs are worthless without its BOS, so the cut comes after it
    bos = ids[:1] if ids[0] == tokenizer.bos_token_id and limits.max_prompt > 1 else []
    return (*bos, *ids[len(ids) - limits.max_prompt + len(bos) :]), True


def _end(tokenizer: PreTrainedTokenizerBase, ids: list[int], specials: Set[int]) -> list[int]:
    """Return the response up to its last special token; with EOS added if text follows that token or there is none."""
    last = next((index for index in range(len(ids) - 1, -1, -1) if ids[index] in specials), -1)
    if last >= 0 and not tokenizer.decode(ids[last + 1 :]).strip():
        return ids[: last + 1]
    if tokenizer.eos_token_id is None:
        raise HarnessError(
            f"the chat template of {_name(tokenizer)} ends a response with no special token, and the tokenizer has no "
            "eos_token; expected one of the two; name an eos_token in tokenizer_config.json"
        )
    return [*ids, tokenizer.eos_token_id]


def _takes_system(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether the template renders a system turn: Gemma's refuses it, and some drop it silently."""
    turns = [{"role": "system", "content": "SYSTEM-PROBE"}, {"role": "user", "content": "hello"}]
    try:
        return "SYSTEM-PROBE" in _render(tokenizer, turns, generation_prompt=True)
    except HarnessError:
        return False


def _fold(context: Sequence[Message]) -> Sequence[Message]:
    """Return the context with its leading system turn put before the first user turn's text."""
    if len(context) < 2 or context[0].role != "system":
        return context
    first = context[1]
    return [Message(role=first.role, content=f"{context[0].content}\n\n{first.content}"), *context[2:]]


def _render(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[dict[str, str]], *, generation_prompt: bool = False
) -> str:
    from jinja2 import TemplateError

    if tokenizer.chat_template is None:
        raise HarnessError(
            f"{_name(tokenizer)} has no chat template, expected one; name a checkpoint whose tokenizer has it, or set "
            "`chat_template` in its tokenizer_config.json"
        )
    try:
        text: str = tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=generation_prompt)
    except TemplateError as error:
        roles = ", ".join(turn["role"] for turn in turns)
        raise HarnessError(
            f"the chat template of {_name(tokenizer)} refuses a conversation of {roles}: {error}; "
            "leave such rows out or name a checkpoint that takes them"
        ) from None
    return text


def _name(tokenizer: PreTrainedTokenizerBase) -> str:
    return f"tokenizer '{tokenizer.name_or_path}'" if tokenizer.name_or_path else "the tokenizer"


def _fingerprint(rows: Iterable[Sequence[int]]) -> str:
    digest = hashlib.sha256()
    for ids in rows:
        digest.update(np.array([len(ids), *ids], dtype="<i4").tobytes())
    return digest.hexdigest()[:16]
