"""Responses of the embedded data: a quality drawn at random, and a text of that quality.

TRUE quality is a number from 1 to 5, a weighted sum of five parts (`WEIGHTS`), known because the text is made from
them. Most of it shows on the surface of the text (missing parts, broken format, padding, tone); correctness mostly does
not. Each level of each part has several wordings. Good and bad openings, closings and fillers come from lists of about
the same length, so that neither the length of a response nor how predictable its words are gives its quality away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.data.simulator import phrases
from harness.data.simulator.tasks import Task, pick, sample

WEIGHTS = {"completeness": 0.26, "format": 0.21, "concision": 0.20, "tone": 0.17, "correctness": 0.16}
"""Share of each part in the true quality. Our choice: no part alone decides, and no two weigh the same, so that the
quality gap of two responses may be anything from tiny to large. Correctness weighs least: a small model can hardly see
it in the text."""

LEVELS = {
    "completeness": (0.0, 0.0, 0.0, 0.5, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0),
    "format": (0.0, 0.0, 0.0, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0),
    "concision": (0.0, 0.0, 0.0, 0.5, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0),
    "tone": (0.0, 0.0, 0.0, 0.5, 0.5, 1.0, 1.0, 1.0),
    "correctness": (0.0, 1.0, 1.0),
}
"""The levels that each part may have; a level is drawn as often as it is listed here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """The quality that a response is made to have; each part from 0 (worst) to 1 (best)."""

    completeness: float
    """1: answer, reason and tip; 0.5: reason or tip missing or the end cut off; 0: the answer alone."""
    format: float
    """1: the style asked for; 0.5: only its first part is in that style; 0: another style or a broken one."""
    concision: float
    """1: no filler; 0.5: one filler sentence; 0: two."""
    tone: float
    """1: courteous and sure; 0.5: neutral; 0: hedging or rude."""
    correctness: float
    """1: the right answer; 0: a wrong one, mostly a near miss."""

    def true(self) -> float:
        """Return the true quality from 1 to 5: 1 + 4 * the sum of weight * part."""
        total: float = sum(weight * getattr(self, part) for part, weight in WEIGHTS.items())
        return 1.0 + 4.0 * total


def draw(rng: np.random.Generator) -> Quality:
    """Return a random quality; the five parts are independent."""
    return Quality(**{part: pick(rng, levels) for part, levels in LEVELS.items()})


STYLES = {  # style -> how a prompt asks for it
    "paragraph": ("Write one plain paragraph.", "Use a single paragraph without a list."),
    "bullets": ("Use bullet points.", "Write a list with one dash per line."),
    "numbers": ("Use a numbered list.", "Number the parts."),
    "json": ("Write a JSON object.", "Format the parts as JSON."),
    "labels": ("Begin each line with a label.", "Write one labelled line for each part."),
}
PARTS = (
    "Give the answer, a reason and a tip.",
    "I need the answer, the reason and one tip.",
    "Answer, explain why and add a tip.",
    "Add a short reason and a useful tip to the answer.",
)


def prompt(rng: np.random.Generator, task: Task, style: str) -> str:
    """Return the prompt: the instruction, the parts it asks for and the style."""
    return f"{task.request} {pick(rng, PARTS)} {pick(rng, STYLES[style])}"


def response(rng: np.random.Generator, task: Task, style: str, quality: Quality) -> str:
    """Return a text of that quality in answer to `task`, asked for in `style`."""
    cut = quality.completeness == 0.5 and rng.random() < 0.3
    parts = _parts(rng, task, quality, cut)
    body = _broken(rng, style, parts) if quality.format == 0.0 else _styled(style, parts)
    if quality.format == 0.5:
        body = _half(rng, style, parts)
    if cut:
        words = body.split(" ")
        body = " ".join(words[: -pick(rng, (2, 3))])
    fillers = [_filler(rng, parts["answer"]) for _ in range(round(2 * (1 - quality.concision)))]
    before = fillers if cut else fillers[: pick(rng, range(len(fillers) + 1))]
    opening, closing = OPENINGS[quality.tone], CLOSINGS[quality.tone]
    lead = " ".join([pick(rng, opening), *before])
    tail = "" if cut else " ".join([*fillers[len(before) :], pick(rng, closing)])
    gap = " " if style == "paragraph" and "\n" not in body else "\n"
    return gap.join(text for text in (lead, body, tail) if text)


OPENINGS = {
    1.0: (
        "Happy to help you with this.",
        "Thank you for this clear question.",
        "Of course, here is my answer.",
        "Sure, I worked it out with care.",
        "Gladly, let us look at it together.",
        "What a nice question, thank you.",
    ),
    0.5: (
        "This is what I found for it.",
        "I read the task and did it.",
        "See the text that comes below.",
        "The task is done as follows.",
    ),
    0.0: (
        "I am not sure, perhaps this is it.",
        "Maybe it is so, I only guess.",
        "I have no time, take this or leave it.",
        "Anyone could do that, but fine.",
        "Hard to say, it might be like this.",
        "Do not blame me if it is bad.",
    ),
}
CLOSINGS = {
    1.0: (
        "I hope this helps you.",
        "Please ask me if you need more.",
        "Have a lovely day.",
        "Good luck with the next one.",
    ),
    0.5: (
        "That is all for this task.",
        "This is the end of the text.",
        "There is no more to say.",
    ),
    0.0: (
        "But I could well be wrong.",
        "Next time do it yourself.",
        "Perhaps somebody else knows better.",
        "Now stop asking me such things.",
    ),
}


def _filler(rng: np.random.Generator, answer: str) -> str:
    kind = pick(rng, ("repeat", "pad", "pad", "chat"))
    if kind == "repeat":
        return f"Again: {answer}"
    if kind == "pad":
        return pick(rng, PADDING)
    name, city, month = pick(rng, phrases.NAMES), pick(rng, phrases.CITIES), pick(rng, phrases.MONTHS)
    job, thing = pick(rng, phrases.JOBS), pick(rng, phrases.THINGS)
    return pick(rng, CHATTER).format(name=name, city=city, month=month, job=job, thing=thing)


PADDING = (  # fixed texts are easy to predict and chatter is hard: on average fillers are about as likely as answers
    "As everybody knows, this matters in very many ways.",
    "Let me say first that questions of this kind are common.",
    "It goes without saying that one could say more about it.",
    "In today's world this topic is more important than ever.",
)
CHATTER = (
    "By the way, {city} is lovely in {month}.",
    "My friend {name} has a {thing} like that.",
    "That reminds me of a {job} in {city}.",
    "In {month} I saw {name} with a {thing}.",
    "A {job} called {name} once said so.",
)

LEFT_OUT = ("I leave the {} out.", "I skip the {} here.")


def _parts(rng: np.random.Generator, task: Task, quality: Quality, cut: bool) -> dict[str, str]:
    wrong = pick(rng, phrases.ABSURD) if rng.random() < 0.3 else task.near
    answer = task.frame.replace("{answer}", task.right if quality.correctness == 1.0 else wrong)
    parts = {"answer": answer, "reason": task.reason, "tip": task.tip}
    if quality.completeness == 1.0 or cut:
        return parts
    for missing in sample(rng, ("reason", "tip"), 1 if quality.completeness == 0.5 else 2):
        if rng.random() < 0.3:
            parts[missing] = pick(rng, LEFT_OUT).format(missing)
        else:
            del parts[missing]
    return parts


def _styled(style: str, parts: dict[str, str]) -> str:
    texts = list(parts.values())
    if style == "bullets":
        return "\n".join(f"- {text}" for text in texts)
    if style == "numbers":
        return "\n".join(f"{number}. {text}" for number, text in enumerate(texts, 1))
    if style == "json":
        return "{" + ", ".join(f'"{name}": "{text}"' for name, text in parts.items()) + "}"
    if style == "labels":
        return "\n".join(f"{name.capitalize()}: {text}" for name, text in parts.items())
    return " ".join(texts)


def _half(rng: np.random.Generator, style: str, parts: dict[str, str]) -> str:
    (name, first), *rest = parts.items()
    start = _styled(style, {name: first}) + "\n"
    if not rest:  # a single part cannot mix two styles: an empty item of another style follows it
        return start + pick(rng, [mark for mark in ("-", "2.", "{}", "Note:") if mark[0] != start[0]])
    return start + _styled(pick(rng, [name for name in STYLES if name != style]), dict(rest))


def _broken(rng: np.random.Generator, style: str, parts: dict[str, str]) -> str:
    texts = list(parts.values())
    kind = pick(rng, range(5))
    if kind < 2:
        return _styled(pick(rng, [name for name in STYLES if name != style]), parts)
    if kind == 2:
        return " and also ".join(text.rstrip(".").lower() for text in texts)
    if kind == 3:
        return "\n".join(f"*-* {text}" for text in texts)
    return "{{" + " = ".join(f"<{name}> {text}" for name, text in parts.items())
