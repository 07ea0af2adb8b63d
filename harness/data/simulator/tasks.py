"""The task families of the embedded data: each draws a prompt with its right answer and a nearly right one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from harness.data.simulator import phrases

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One instruction, and the parts of answers to it. Every prompt asks for the answer, a reason and a tip."""

    family: str
    request: str
    """The instruction; which parts and which format are asked for is added later."""
    frame: str
    """The answer as a sentence; `{answer}` stands for the answer proper."""
    right: str
    near: str
    """A wrong answer that looks like the right one: an item moved, a number off by a little, the wrong field."""
    reason: str
    tip: str
    slots: tuple[tuple[str, str], ...] = ()
    """What the phrasings of the family are filled with, but for the answer."""


def pick(rng: np.random.Generator, items: Sequence[Item]) -> Item:
    """Return one of `items`, all equally likely."""
    return items[int(rng.random() * len(items))]  # many times faster than rng.integers or rng.choice


def sample(rng: np.random.Generator, items: Sequence[Item], count: int) -> list[Item]:
    """Return `count` different items, in random order."""
    keys = rng.random(len(items)).tolist()
    return [items[index] for index in sorted(range(len(items)), key=keys.__getitem__)[:count]]


def task(rng: np.random.Generator) -> Task:
    """Return a task of a random family."""
    return pick(rng, FAMILIES)(rng)


def _task(rng: np.random.Generator, family: str, right: str, near: str, **slots: object) -> Task:
    phrasing = phrases.PHRASINGS[family]
    request, reason, tip = (pick(rng, texts).format(**slots) for texts in (phrasing.ask, phrasing.reason, phrasing.tip))
    frame = pick(rng, phrasing.frame).format(answer="{answer}", **slots)
    return Task(
        family=family,
        request=request,
        frame=frame,
        right=right,
        near=near,
        reason=reason,
        tip=tip,
        slots=tuple((name, str(value)) for name, value in slots.items()),
    )


def _swapped(rng: np.random.Generator, items: Sequence[Item]) -> list[Item]:
    first = pick(rng, range(len(items) - 1))
    moved = list(items)
    moved[first], moved[first + 1] = moved[first + 1], moved[first]
    return moved


def _join(items: Sequence[object]) -> str:
    return ", ".join(str(item) for item in items)


def _off_by(rng: np.random.Generator, value: int) -> str:
    step = pick(rng, (1, 2, 10)) * pick(rng, (-1, 1))
    return str(value + step if value + step > 0 else value + abs(step))


def _sort_words(rng: np.random.Generator) -> Task:
    words = sample(rng, phrases.THINGS + phrases.FRUITS + phrases.ANIMALS, pick(rng, range(4, 6)))
    back = pick(rng, (False, True))
    right = sorted(words, reverse=back)
    order = "from Z to A" if back else "from A to Z"
    near = _swapped(rng, right)
    return _task(rng, "sort words", _join(right), _join(near), given=_join(words), order=order)


def _sort_numbers(rng: np.random.Generator) -> Task:
    numbers = sample(rng, range(2, 100), pick(rng, range(4, 6)))
    down = pick(rng, (False, True))
    right = sorted(numbers, reverse=down)
    order = "from large to small" if down else "from small to large"
    near = _swapped(rng, right)
    return _task(rng, "sort numbers", _join(right), _join(near), given=_join(numbers), order=order)


def _arithmetic(rng: np.random.Generator) -> Task:
    rows, each, gone = pick(rng, range(3, 10)), pick(rng, range(4, 13)), pick(rng, range(2, 10))
    left = rows * each - gone
    name, thing = pick(rng, phrases.NAMES), pick(rng, phrases.THINGS)
    near = _off_by(rng, left)
    return _task(rng, "arithmetic", str(left), near, name=name, thing=thing, rows=rows, each=each, gone=gone)


def _extract(rng: np.random.Generator) -> Task:
    name, job, city, day, thing = (
        pick(rng, words) for words in (phrases.NAMES, phrases.JOBS, phrases.CITIES, phrases.DAYS, phrases.THINGS)
    )
    fields = {"name": name, "job": job, "city": city, "day": day, "object": thing}
    field, other = sample(rng, list(fields), 2)
    return _task(
        rng, "extract", fields[field], fields[other], field=field, name=name, job=job, city=city, day=day, thing=thing
    )


def _rewrite(rng: np.random.Generator) -> Task:
    name, thing, (verb, past, participle) = (
        pick(rng, phrases.NAMES),
        pick(rng, phrases.THINGS),
        pick(rng, phrases.VERBS),
    )
    forms = {
        "in the passive voice": f"The {thing} was {participle} by {name}.",
        "as a question": f"Did {name} {verb} the {thing}?",
        "in the future tense": f"{name} will {verb} the {thing}.",
        "as a polite request": f"{name}, could you please {verb} the {thing}?",
        "in the negative": f"{name} did not {verb} the {thing}.",
    }
    form, other = sample(rng, list(forms), 2)
    given = f"{name} {past} the {thing}."
    return _task(rng, "rewrite", forms[form], forms[other], form=form, given=given, verb=verb, thing=thing)


def _count(rng: np.random.Generator) -> Task:
    kind, other = sample(rng, list(phrases.CATEGORIES), 2)
    wanted, rest = pick(rng, range(2, 5)), pick(rng, range(1, 4))
    words = sample(rng, phrases.CATEGORIES[kind], wanted) + sample(rng, phrases.CATEGORIES[other], rest)
    near = wanted + pick(rng, (-1, 1))
    given = _join(sample(rng, words, len(words)))
    return _task(rng, "count", str(wanted), str(near), kind=kind, other=other, given=given)


def _compare(rng: np.random.Generator) -> Task:
    first, second = sample(rng, phrases.THINGS, 2)
    p, q = sample(rng, range(5, 100), 2)
    cheap, dear = (first, second) if p < q else (second, first)
    word, right, near = pick(rng, (("cheaper", cheap, dear), ("more expensive", dear, cheap)))
    return _task(
        rng, "compare", right, near, first=first, second=second, p=p, q=q, low=min(p, q), high=max(p, q), word=word
    )


def _list_items(rng: np.random.Generator) -> Task:
    kind, other = sample(rng, list(phrases.CATEGORIES), 2)
    letter, count, name = pick(rng, "bcglmprs"), pick(rng, range(3, 5)), pick(rng, phrases.NAMES)
    right = sample(rng, [word for word in phrases.CATEGORIES[kind] if word[0] != letter], count)
    near = _swapped(rng, [*right[:-1], pick(rng, phrases.CATEGORIES[other])])
    return _task(rng, "list items", _join(right), _join(near), name=name, kind=kind, count=count, letter=letter.upper())


def _summary(rng: np.random.Generator) -> Task:
    (name, friend), (city, home) = sample(rng, phrases.NAMES, 2), sample(rng, phrases.CITIES, 2)
    thing, day, (verb, past, _) = pick(rng, phrases.THINGS), pick(rng, phrases.DAYS), pick(rng, phrases.VERBS)
    right = f"{name} and {friend} {past} a {thing} in {city}"
    near = pick(rng, (f"{name} and {friend} {past} a {thing} in {home}", f"{friend} left a {thing} in {city}"))
    slots = {"name": name, "friend": friend, "city": city, "home": home, "thing": thing, "day": day}
    return _task(rng, "summary", right, near, verb=verb, past=past, **slots)


def _convert(rng: np.random.Generator) -> Task:
    large, small, factor = pick(rng, phrases.UNITS)
    amount, name = pick(rng, range(2, 30)), pick(rng, phrases.NAMES)
    right = amount * factor
    near = pick(rng, (str(right * 10), _off_by(rng, right), str(right + factor)))
    return _task(rng, "convert", str(right), near, name=name, amount=amount, large=large, small=small, factor=factor)


def _date(rng: np.random.Generator) -> Task:
    start, ahead = pick(rng, range(7)), pick(rng, range(2, 13))
    right, near = phrases.DAYS[(start + ahead) % 7], phrases.DAYS[(start + ahead + pick(rng, (-1, 1, 2))) % 7]
    name, job, city = pick(rng, phrases.NAMES), pick(rng, phrases.JOBS), pick(rng, phrases.CITIES)
    return _task(rng, "date", right, near, name=name, job=job, city=city, day=phrases.DAYS[start], ahead=ahead)


def _opposites(rng: np.random.Generator) -> Task:
    pairs = [sample(rng, pair, 2) for pair in sample(rng, phrases.OPPOSITES, 4)]
    given, right = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    place = pick(rng, range(4))
    near = [*right[:place], given[place], *right[place + 1 :]]
    return _task(rng, "opposites", _join(right), _join(near), given=_join(given), word=pick(rng, given))


FAMILIES: tuple[Callable[[np.random.Generator], Task], ...] = (
    _sort_words,
    _sort_numbers,
    _arithmetic,
    _extract,
    _rewrite,
    _count,
    _compare,
    _list_items,
    _summary,
    _convert,
    _date,
    _opposites,
)
