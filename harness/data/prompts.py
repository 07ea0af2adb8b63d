"""Which pairs share a prompt: the clusters of the bootstrap, splits by prompt, and ids of pairs.

Two pairs share a prompt if their first user turns are equal or if they have the same prompt id: in neither form may a
held-out prompt occur in training.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from harness.api import Message, Pair
from harness.data.files import counted


class Prompted(Protocol):
    """A row that belongs to a prompt."""

    @property
    def prompt_id(self) -> str: ...
    @property
    def context(self) -> tuple[Message, ...]: ...


Row = TypeVar("Row", bound=Prompted)


@dataclass(frozen=True, kw_only=True)
class PromptSet:
    """A set of prompts; a row is in it if its prompt id or its first user turn is."""

    ids: frozenset[str]
    texts: frozenset[str]

    @classmethod
    def of(cls, rows: Iterable[Prompted]) -> PromptSet:
        """Return the prompts of `rows`."""
        known = [(row.prompt_id, opening(row.context)) for row in rows]
        return cls(ids=frozenset(prompt_id for prompt_id, _ in known), texts=frozenset(text for _, text in known))

    def __contains__(self, row: Prompted) -> bool:
        return row.prompt_id in self.ids or opening(row.context) in self.texts


def opening(context: Sequence[Message]) -> str:
    """Return the first user turn: prompts with the same one are the same."""
    return next(turn.content for turn in context if turn.role == "user")


def without(rows: tuple[Row, ...], prompts: PromptSet) -> tuple[Row, ...]:
    """Return the rows whose prompt is not one of `prompts`."""
    return tuple(row for row in rows if row not in prompts)


def carve(
    pairs: tuple[Pair, ...], *, prompts: int, purpose: str, seed: int
) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    """Return (the rest, the pairs of `prompts` prompts), both in order.

    Prompts are chosen by the sha256 of purpose, seed and prompt id, so that the order of the rows does not matter.
    """
    drawn = sorted(
        {pair.prompt_id for pair in pairs},
        key=lambda prompt_id: hashlib.sha256(f"{purpose}:{seed}:{prompt_id}".encode()).digest(),
    )
    chosen = frozenset(drawn[:prompts])
    rest = tuple(pair for pair in pairs if pair.prompt_id not in chosen)
    return rest, tuple(pair for pair in pairs if pair.prompt_id in chosen)


def clustered(pairs: tuple[Pair, ...]) -> tuple[tuple[Pair, ...], list[str]]:
    """Return the pairs with one `prompt_id` for each prompt text, so that the bootstrap resamples prompts, and notes.

    If an id comes with a second text, the pairs of that text get an id of their own. If a text comes with a second id,
    its pairs keep the first id.
    """
    text_of: dict[str, str] = {}
    cluster_of: dict[str, str] = {}
    reused = merged = 0
    renamed = []
    for pair in pairs:
        text = opening(pair.context)
        suspect = text_of.setdefault(pair.prompt_id, text) != text
        fresh = f"{pair.prompt_id}~{hashlib.sha256(text.encode()).hexdigest()[:8]}" if suspect else pair.prompt_id
        cluster = cluster_of.setdefault(text, fresh)
        reused += suspect
        merged += not suspect and cluster != pair.prompt_id
        renamed.append(pair if cluster == pair.prompt_id else replace(pair, prompt_id=cluster))
    notes = []
    if reused:
        notes.append(
            f"reused prompt_id (suspect): {counted(reused, 'row')} under another prompt than the id's first row, "
            "kept in a cluster of their own"
        )
    if merged:
        notes.append(f"second prompt_id for one prompt: {counted(merged, 'row')}, kept in the cluster of its first id")
    return tuple(renamed), notes


def pair_id_of(prompt_id: str, context: Sequence[Message], chosen: str, rejected: str) -> str:
    """Return an id made from the pair's content, so that a pair has the same id in every file."""
    turns = [part for turn in context for part in (turn.role, turn.content)]
    content = "\0".join((prompt_id, *turns, chosen, "\0", rejected))
    return f"{prompt_id[:12]}-{hashlib.sha256(content.encode()).hexdigest()[:10]}"


def numbered(pairs: tuple[Pair, ...]) -> tuple[tuple[Pair, ...], list[str]]:
    """Return the pairs with `-2`, `-3`... appended to the ids of copies, so that ids are unique, and notes."""
    seen: Counter[str] = Counter()
    renamed = []
    for pair in pairs:
        seen[pair.pair_id] += 1
        copy = seen[pair.pair_id]
        renamed.append(pair if copy == 1 else replace(pair, pair_id=f"{pair.pair_id}-{copy}"))
    copies = len(pairs) - len(seen)
    return tuple(renamed), [f"exact copies of an earlier pair: {counted(copies, 'row')}, kept"] if copies else []
