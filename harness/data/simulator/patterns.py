"""The wordings of the simulator as patterns: what a sentence of an answer is, in this task or in another."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from typing import NamedTuple

from harness.api import MadeTask
from harness.data.simulator import phrases, responses

PARTS = ("answer", "reason", "tip")

_NAME = "|".join(phrases.NAMES)
_KNOWN: Mapping[str, str] = {
    **dict.fromkeys(("name", "friend"), _NAME),
    **dict.fromkeys(("rows", "each", "gone", "p", "q", "low", "high", "amount", "factor", "ahead", "count"), r"\d+"),
    "word": "cheaper|more expensive|" + "|".join(word for pair in phrases.OPPOSITES for word in pair),
    "field": "name|job|city|day|object",
}
"""What may stand in a slot of another task; any words where nothing is said. It keeps frames of slots apart."""
_ANY = r'[^.?!\n{}"<>=]+?'
_END = r'(?:[.?!](?!\w)|(?= and also |\n|$|" |"[,}]| = ))'
_OWN_END = _END[:-1] + r"|(?= (?-i:[A-Z])))"
"""How a sentence ends: some broken formats leave its full stop out, and so do absurd answers."""


class Pattern(NamedTuple):
    """A sentence that is known."""

    kind: str
    """One of `PARTS`, `reason left out`, `tip left out`, `filler`, or `opening` or `closing` with its tone."""
    regex: str
    own: bool = False
    """Whether it says what is true in this task, but for the answer proper."""


class Sentence(NamedTuple):
    """A sentence that was recognised."""

    kind: str
    own: bool
    answer: str
    """The answer proper, where it is the answer to this task in a frame of its own."""
    start: int
    end: int
    text: str


class Patterns(NamedTuple):
    """Patterns as one expression, the first of which that fits is taken."""

    each: tuple[Pattern, ...]
    whole: re.Pattern[str]

    @classmethod
    def of(cls, *each: Pattern) -> Patterns:
        """Compile the patterns."""
        whole = "|".join(f"(?P<k{place}>{pattern.regex})" for place, pattern in enumerate(each))
        return cls(each, re.compile(whole, re.I))

    def next(self, text: str, start: int) -> Sentence | None:
        """Return the first sentence from `start` on."""
        match = self.whole.search(text, start)
        if match is None:
            return None
        pattern = self.each[int(str(match.lastgroup)[1:])]
        answer = next((value for name, value in match.groupdict().items() if name[0] == "v" and value), "")
        return Sentence(pattern.kind, pattern.own, answer, *match.span(), match[0])


def sentences(text: str, task: MadeTask) -> list[Sentence]:
    """Return the known sentences of a text, in order and without overlap."""
    sets, found, at = (_fixed(), _of_task(task), _of_any()), [], 0
    ahead = [patterns.next(text, 0) for patterns in sets]
    while known := [each for each in ahead if each is not None]:
        first = min(known, key=lambda sentence: sentence.start)  # of several the one of the earlier set
        found.append(first)
        at = first.end
        ahead = [
            patterns.next(text, at) if each is not None and each.start < at else each
            for patterns, each in zip(sets, ahead, strict=True)
        ]
    return found


@cache
def _fixed() -> Patterns:
    """Return openings, closings, fillers, and what is said in place of a part; the same in every task."""
    said = [
        Pattern(f"{kind} {tone}", rf"\b{re.escape(text)}")
        for kind, by_tone in (("opening", responses.OPENINGS), ("closing", responses.CLOSINGS))
        for tone, texts in by_tone.items()
        for text in texts
    ]
    padding = [Pattern("filler", rf"\b{re.escape(text)}") for text in responses.PADDING]
    chatter = [Pattern("filler", _filled(text, {}, _END)) for text in responses.CHATTER]
    left_out = [
        Pattern(f"{part} left out", _filled(text.format(part), {}, _OWN_END))
        for part in PARTS[1:]
        for text in responses.LEFT_OUT
    ]
    return Patterns.of(*said, *padding, *chatter, *left_out)


@lru_cache(maxsize=4096)
def _of_task(task: MadeTask) -> Patterns:
    """Return the parts of an answer to this task, and the repeated answer among the fillers."""
    phrasing, slots = phrases.PHRASINGS[task.family], dict(task.slots)
    exact = "|".join(map(re.escape, (task.right.rstrip("."), task.near.rstrip("."), *phrases.ABSURD)))
    closed = [_filled(frame, slots, _OWN_END, answer=exact) for frame in phrasing.frame]
    open_ = [_filled(frame, slots, _END, answer=_ANY) for frame in phrasing.frame]
    parts = [(kind, text) for kind in PARTS[1:] for text in getattr(phrasing, kind)]
    answers = [regex.replace("(?P<v>", f"(?P<v{place}>") for place, regex in enumerate((*closed, *open_))]
    unnamed = [regex.replace("(?P<v>", "(?:") for regex in (*closed, *open_)]
    return Patterns.of(
        *(Pattern("filler", rf"\bAgain: {regex}") for regex in unnamed),
        *(Pattern("answer", regex, own=True) for regex in answers),
        *(Pattern(kind, _filled(text, slots, _OWN_END), own=True) for kind, text in parts),
    )


@cache
def _of_any() -> Patterns:
    """Return the parts of an answer to any task, the wordings with most letters of their own first."""
    texts = [
        (kind, text)
        for phrasing in phrases.PHRASINGS.values()
        for kind, wordings in (("answer", phrasing.frame), ("reason", phrasing.reason), ("tip", phrasing.tip))
        for text in wordings
    ]
    texts.sort(key=lambda item: -len(re.sub(r"\{\w+\}", "", item[1])))
    again = Pattern("filler", rf"\bAgain: {_ANY}{_END}")
    return Patterns.of(again, *(Pattern(kind, _filled(text, {}, _END)) for kind, text in texts))


def _filled(text: str, slots: Mapping[str, str], end: str, answer: str = _ANY) -> str:
    """Return the pattern of a wording, slots that are given filled, others open; `answer`: that of `{answer}`."""

    def slot(name: str) -> str:
        if name == "answer" and slots:
            return f"(?P<v>{answer})"
        return re.escape(slots[name]) if name in slots else f"(?:{_KNOWN.get(name, _ANY)})"

    pieces: Iterable[str] = re.split(r"\{(\w+)\}", text.rstrip("."))
    inside = "".join(slot(piece) if odd % 2 else re.escape(piece) for odd, piece in enumerate(pieces))
    return rf"\b{inside}{end}"
