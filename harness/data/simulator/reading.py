"""A text -> the quality that the simulator would have made it with: any answer to a made task can be read.

The rules are those of `harness.data.simulator.responses`, applied the other way round. Where a text is what the
simulator never writes, as models do, they go on like this. A part counts as there in the wording of any task, and as
correct in this task's own only. A sentence that is not known, or says a part again, is filler. Tone is the mean of the
tones found, neutral where there is none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from harness.api import MadeTask
from harness.data.simulator import phrases
from harness.data.simulator.patterns import PARTS, Sentence, sentences
from harness.data.simulator.responses import Quality

_GLUE = re.compile(r'"?\b(?:answer|reason|tip|note)"?:|<(?:answer|reason|tip)>|\band also\b|\d+\.(?=\s|$)', re.I)
_MARKS = re.compile(r"(?:^|(?<=[.!?\n]) ?)(?:- |\*-\* |\d+\. |(?:Answer|Reason|Tip): )|[{}<>]| and also ", re.M)


def read(text: str, task: MadeTask) -> Quality | None:
    """Return the quality of an answer to the task; None where no answer to any task can be found in the text."""
    known = sentences(text, task)
    parts = _first_of_each(known)
    if "answer" not in parts:
        return None
    unknown = _unknown(text, known)
    cut = "tip" not in parts and bool(unknown) and _begins_a_tip(unknown[-1], task)
    if cut:
        unknown = unknown[:-1]
    given = [each for each in known if each.kind in PARTS]
    fillers = sum(each.kind == "filler" for each in known) + len(given) - len(parts) + len(unknown)
    tones = [float(each.kind.split()[1]) for each in known if each.kind.startswith(("opening", "closing"))]
    fillers += max(0, sum(each.kind.startswith("opening") for each in known) - 1)
    correct = _is_right(parts["answer"], task) and all(each.own for each in parts.values())
    return Quality(
        completeness=0.5 * (len(parts) - 1),
        format=_format(text, task.style, known, cut),
        concision=1 - min(fillers, 2) / 2,
        tone=sum(tones) / len(tones) if tones else 0.5,
        correctness=float(correct),
    )


def _first_of_each(known: Sequence[Sentence]) -> dict[str, Sentence]:
    """Return the first answer, reason and tip."""
    return {each.kind: each for each in reversed(known) if each.kind in PARTS}


def _is_right(answer: Sentence, task: MadeTask) -> bool:
    """Return whether an answer is the right one, or one of the right ones where the task has many."""
    if not answer.own:
        return False
    if task.family != "list items":
        return answer.answer.lower().rstrip(".?!") == task.right.lower().rstrip(".?!")
    slots, items = dict(task.slots), answer.answer.lower().split(", ")
    fitting = [word for word in phrases.CATEGORIES[slots["kind"]] if word[0] != slots["letter"].lower()]
    return len(set(items)) == len(items) == int(slots["count"]) and set(items) <= set(fitting)


def _unknown(text: str, known: Sequence[Sentence]) -> list[str]:
    """Return the stretches of a text, sentence by sentence, that are neither a known sentence nor marks of a format."""
    ends = [0, *(each.end for each in known)]
    starts = [*(each.start for each in known), len(text)]
    between = [text[end:start] for end, start in zip(ends, starts, strict=True)]
    stretches = [part for stretch in between for part in re.split(r"(?<=[.?!])\s|\n", _GLUE.sub(" ", stretch))]
    return [stretch.strip(' \n{}"<>=*-,') for stretch in stretches if re.search(r"\w", stretch)]


def _begins_a_tip(text: str, task: MadeTask) -> bool:
    slots = dict(task.slots)
    tips = [tip.format(**slots).lower() for tip in phrases.PHRASINGS[task.family].tip]
    return " " in text and any(tip.startswith(text.lower()) for tip in tips)


def _format(text: str, style: str, known: Sequence[Sentence], cut: bool) -> float:
    """Return 1 where the parts are in the style, 0.5 where only the first of them is, else 0."""
    lines, start = [], 0
    said = [each for each in known if each.kind in PARTS or each.kind.endswith("left out")]
    for line in text.split("\n"):
        has_part = any(start <= each.start < start + len(line) for each in said)
        lines.append((line, has_part))
        start += len(line) + 1
    body = [line for line, _ in lines]
    if len(lines) > 1 and not lines[0][1]:
        body = body[1:]
    if len(body) > 1 and not lines[-1][1] and not cut and not _has_mark(body[-1]):
        body = body[:-1]
    if any(_is_broken(each.text) for each in said):
        return 0.0
    if style == "paragraph" and len(lines) == 1:
        return float(not _MARKS.search(text))
    right = [_in_style(line, style, place, cut and line is body[-1]) for place, line in enumerate(body, 1)]
    if style == "json":
        return float(right[0]) if len(body) == 1 else 0.5 * right[0]
    if not right[0]:
        return 0.0
    return 1.0 if all(right) and style != "paragraph" and len(lines) > 1 else 0.5


def _has_mark(line: str) -> bool:
    """Return whether a line belongs to a list or an object, if only as an empty item."""
    return bool(_MARKS.match(line)) or line.strip() in ("-", "2.", "{}", "Note:")


def _is_broken(part: str) -> bool:
    return not (part[0].isupper() or (part[0].isdigit() and part[-1] in ".?!"))


def _in_style(line: str, style: str, place: int, cut: bool) -> bool:
    """Return whether a line is in the style; `place`: which line of the parts it is, from 1."""
    if style == "bullets":
        return re.match(r"- \w", line) is not None
    if style == "numbers":
        return re.match(rf"{place}\. \w", line) is not None
    if style == "labels":
        return re.match(r"(Answer|Reason|Tip): \w", line) is not None
    if style == "json":
        return line.startswith('{"') if cut else _is_object(line)
    return not _MARKS.search(line)


def _is_object(line: str) -> bool:
    try:
        made = json.loads(line)
    except ValueError:
        return False
    return isinstance(made, dict) and bool(made) and set(made) <= set(PARTS)
