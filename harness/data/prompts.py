"""Which pairs share a prompt: the clusters of the bootstrap, splits by prompt, and ids of pairs.

A prompt is its whole context, system turn and documents included. Two pairs share a prompt if their contexts are equal
or if they have the same prompt id: in neither form may a held-out prompt occur in training.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from harness.api import Listwise, Message, Pair
from harness.data.raw import counted


class Prompted(Protocol):
    """A row that belongs to a prompt."""

    @property
    def prompt_id(self) -> str: ...
    @property
    def context(self) -> tuple[Message, ...]: ...


Row = TypeVar("Row", bound=Prompted)
Clustered = TypeVar("Clustered", Pair, Listwise)


@dataclass(frozen=True, kw_only=True)
class PromptSet:
    """A set of prompts; a row is in it if its prompt id or its context is."""

    ids: frozenset[str]
    contexts: frozenset[tuple[Message, ...]]

    @classmethod
    def of(cls, rows: Iterable[Prompted]) -> PromptSet:
        """Return the prompts of `rows`."""
        known = [(row.prompt_id, row.context) for row in rows]
        return cls(ids=frozenset(prompt_id for prompt_id, _ in known), contexts=frozenset(turns for _, turns in known))

    def __contains__(self, row: Prompted) -> bool:
        return row.prompt_id in self.ids or row.context in self.contexts


def opening(context: Sequence[Message]) -> str:
    """Return the first user turn: rows under one id are expected to share it."""
    return next(turn.content for turn in context if turn.role == "user")


def id_of_context(context: Sequence[Message]) -> str:
    """Return the id of a prompt that the data gives none: the sha256 of its text, or of all its turns."""
    only = len(context) == 1 and not context[0].tools
    content = context[0].content if only else json.dumps([turn.parts for turn in context])
    return hashlib.sha256(content.encode()).hexdigest()


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


def clustered(rows: tuple[Clustered, ...]) -> tuple[tuple[Clustered, ...], list[str]]:
    """Return the rows with one `prompt_id` for each prompt, so that the bootstrap resamples prompts, and notes.

    Rows with one id share a prompt, unless their first user turns differ: then the id is suspect, and the rows of the
    second text get an id of their own. Rows with one context share a prompt under the first of their ids.
    """
    text_of: dict[str, str] = {}
    first_of: dict[tuple[Message, ...], str] = {}
    parent: dict[str, str] = {}
    order: dict[str, int] = {}
    reused = 0
    names = []
    for row in rows:
        text = opening(row.context)
        suspect = text_of.setdefault(row.prompt_id, text) != text
        name = f"{row.prompt_id}~{hashlib.sha256(text.encode()).hexdigest()[:8]}" if suspect else row.prompt_id
        reused += suspect
        names.append(name)
        parent.setdefault(name, name)
        order.setdefault(name, len(order))
        roots = _root(parent, first_of.setdefault(row.context, name)), _root(parent, name)
        parent[max(roots, key=order.__getitem__)] = min(roots, key=order.__getitem__)
    clusters = [_root(parent, name) for name in names]
    renamed = tuple(
        row if row.prompt_id == cluster else replace(row, prompt_id=cluster)
        for row, cluster in zip(rows, clusters, strict=True)
    )
    merged = sum(row.prompt_id == name != cluster for row, name, cluster in zip(rows, names, clusters, strict=True))
    notes = []
    if reused:
        notes.append(
            f"reused prompt_id (suspect): {counted(reused, 'row')} under another prompt than the id's first row, "
            "kept in a cluster of their own"
        )
    if merged:
        notes.append(f"second prompt_id for one prompt: {counted(merged, 'row')}, kept in the cluster of its first id")
    return renamed, notes


def _root(parent: dict[str, str], name: str) -> str:
    while parent[name] != name:
        parent[name] = name = parent[parent[name]]
    return name


def contradictory(pairs: Iterable[Pair]) -> list[str]:
    """Return a note where two responses to a prompt are there in both orders: one of the two labels is wrong."""
    seen = {(pair.context, pair.chosen, pair.rejected) for pair in pairs}
    both = sum((context, rejected, chosen) in seen for context, chosen, rejected in seen) // 2
    if not both:
        return []
    return [f"contradictory labels: {counted(both, 'pair')} also there with chosen and rejected exchanged, kept"]


def pair_id_of(prompt_id: str, context: Sequence[Message], chosen: str, rejected: str) -> str:
    """Return an id made from the pair's content, so that a pair has the same id in every file."""
    turns = [part for turn in context for part in turn.parts]
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
