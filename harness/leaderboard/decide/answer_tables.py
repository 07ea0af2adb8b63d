"""generations.parquet and judgements/ of scored cells -> values per prompt, and verdicts as arrays.

Legend of shapes: S training seeds, K systems, P prompts, M answers of a prompt (its samples, of each model), O = 2
orders, T repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import product

import numpy as np

from harness.judge.judgements import BASE
from harness.leaderboard.decide.align_examples import shared
from harness.leaderboard.decide.estimates import Unit, Values
from harness.run_folder.paths import GENERATIONS, JUDGEMENTS
from harness.run_folder.record import Record
from harness.run_folder.tables import Columns, judgement_columns
from harness.statistics.answer_metrics import NUMBERS, RATING, WIN_RATE, answer_kind
from harness.statistics.intervals import Floats
from harness.statistics.metrics import Examples
from harness.statistics.style import Style, style_of
from harness.statistics.verdicts import mean_of_known

Place = tuple[str, int]
"""An answer of a model: prompt id and number of the sample."""


@dataclass(frozen=True, kw_only=True)
class UnitAnswers:
    """What one cell answered, and what each judge said of it."""

    table: Columns
    judged: Mapping[str, Columns]
    """By judge, the table of its judgements."""

    @classmethod
    def read(cls, record: Record) -> UnitAnswers | None:
        """Read the answers of a cell, or of a point of it; None where there are none."""
        if not (record.folder / GENERATIONS).is_file():
            return None
        files = sorted((record.folder / JUDGEMENTS).glob("*.parquet"))
        return cls(
            table=record.columns(GENERATIONS, ("prompt_id", "sample", "text", *NUMBERS)),
            judged={file.stem: judgement_columns(file) for file in files},
        )

    @cached_property
    def places(self) -> list[Place]:
        """The prompt and sample of each answer."""
        return places(self.table)

    @cached_property
    def styles(self) -> dict[Place, Style]:
        """How each answer looks."""
        lengths = self.table["length"].astype(int).tolist()
        return {
            place: style_of(text, tokens)
            for place, text, tokens in zip(self.places, self.table["text"], lengths, strict=True)
        }

    def rates(self, judge: str) -> bool:
        """Return whether a judge rated the answers one by one; else it compared them."""
        return judge in self.judged and bool(np.isfinite(self.judged[judge]["rating"]).any())

    def ratings(self, judge: str, against: str = "") -> dict[Place, float]:
        """Return what a judge rated each answer, mean over its repeats; NaN where none could be read."""
        if judge not in self.judged:
            return {}
        table = self.judged[judge]
        rated = table["against"] == against
        found: dict[Place, list[float]] = {}
        for place, value, counts in zip(places(table), table["rating"].tolist(), rated.tolist(), strict=True):
            if counts:
                found.setdefault(place, []).append(value)
        return {place: float(mean_of_known(np.array(values), 0)) for place, values in found.items()}

    def preferences(self, judge: str, rival: str, base: UnitAnswers) -> dict[Place, Floats]:
        """Return what a judge prefers of each answer and its rival's, (O, T), for the answer; NaN: not readable.

        A judge that rates prefers the answer that it rates higher, whatever the order, and ties equal ones.
        """
        if judge not in self.judged:
            return {}
        if self.rates(judge):
            own = self.ratings(judge)
            others = base.ratings(judge) if rival == BASE else base.ratings(judge, rival)
            pairs = {place: (value, others.get(_rival(place, rival))) for place, value in own.items()}
            return {
                place: np.full((2, 1), np.nan if np.isnan(value - other) else 0.5 + 0.5 * np.sign(value - other))
                for place, (value, other) in pairs.items()
                if other is not None
            }
        table = self.judged[judge]
        rows = np.flatnonzero(table["against"] == rival)
        at = places(table)
        times = int(table["repeat"].max(initial=0)) + 1
        found: dict[Place, Floats] = {}
        for place, order, repeat, said in zip(
            [at[row] for row in rows],
            table["order"][rows].astype(int).tolist(),
            table["repeat"][rows].astype(int).tolist(),
            table["preference"][rows].tolist(),
            strict=True,
        ):
            found.setdefault(place, np.full((2, times), np.nan))[order, repeat] = said
        return found


def places(table: Columns) -> list[Place]:
    """Return the prompt and sample of each row."""
    return list(zip(table["prompt_id"].tolist(), table["sample"].astype(int).tolist(), strict=True))


def _rival(place: Place, rival: str) -> Place:
    """Return where the rival of an answer stands: the base's answer of the same number, the one chosen response."""
    return place if rival == BASE else (place[0], 0)


@dataclass(frozen=True, kw_only=True)
class AnswerEvidence:
    """The answers of a board's cells, at the end of their runs or at one point along them."""

    units: Mapping[Unit, UnitAnswers]
    values: Mapping[str, Values]
    """Numbers of the answers and ratings, one value per prompt that all cells have."""
    scores: Mapping[str, Values]
    """By judge, what it prefers of each loss's answers and the base's, in both orders; prompts as in `values`."""

    @property
    def judges(self) -> tuple[str, ...]:
        """Every judge of any cell, in alphabetical order."""
        return tuple(sorted({judge for unit in self.units.values() for judge in unit.judged}))


def gather_answers(records: Mapping[Unit, Record]) -> AnswerEvidence:
    """Return the answers of scored cells, or of points of them; those without answers are left out."""
    units = {unit: found for unit, record in records.items() if (found := UnitAnswers.read(record)) is not None}
    prompts = sorted({place[0] for answers in units.values() for place in answers.places})
    judges = sorted({judge for answers in units.values() for judge in answers.judged})

    def values(name: str, of: Callable[[Unit, UnitAnswers], Iterable[tuple[Place, float]]]) -> Values:
        per_unit = [_per_prompt(prompts, of(unit, answers)) for unit, answers in units.items()]
        ids = np.array(prompts, dtype=object)
        found = shared(list(units), [Examples(prompt=ids, value=value) for value in per_unit])
        return replace(found, kind=answer_kind(name))

    def number(name: str, _: Unit, answers: UnitAnswers) -> Iterable[tuple[Place, float]]:
        return zip(answers.places, answers.table[name].tolist(), strict=True)

    def rating(judge: str, _: Unit, answers: UnitAnswers) -> Iterable[tuple[Place, float]]:
        return answers.ratings(judge).items()

    def score(judge: str, unit: Unit, answers: UnitAnswers) -> Iterable[tuple[Place, float]]:
        base = units.get(Unit(BASE, unit.model, None))
        if base is None or unit.label == BASE:
            return []
        said = answers.preferences(judge, BASE, base)
        return [(place, float(mean_of_known(of, -1).mean())) for place, of in said.items()]

    if not units:
        return AnswerEvidence(units={}, values={}, scores={})
    numbers = {name: values(name, partial(number, name)) for name in NUMBERS}
    ratings = {f"{RATING}@{judge}": values(RATING, partial(rating, judge)) for judge in judges}
    scores = {judge: values(WIN_RATE, partial(score, judge)) for judge in judges}
    return AnswerEvidence(units=units, values=numbers | ratings, scores=scores)


def _per_prompt(prompts: Sequence[str], values: Iterable[tuple[Place, float]]) -> Floats:
    """Return the mean of each prompt over its samples that have a value, (P,); NaN where none has."""
    found: dict[str, list[float]] = {}
    for (prompt, _), value in values:
        found.setdefault(prompt, []).append(value)
    return np.array([float(mean_of_known(np.array(found.get(prompt, [np.nan])), 0)) for prompt in prompts])


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """What a judge said of a board's systems against one rival, as arrays."""

    labels: tuple[str, ...]
    prompts: tuple[str, ...]
    """(P,) ids."""
    preference_SKPMOT: Floats
    longer_SKPM: Floats
    """By how many characters the system's answer is longer than the base's; NaN where there is none."""
    style_SKPM4: Floats
    """The counts of `style.FEATURES` of the system's answers."""
    base_style_PM4: Floats


_Cell = tuple[str, int, str]
"""A system's label, a seed and a model."""


def verdicts_of(
    evidence: AnswerEvidence,
    judge: str,
    rival: str,
    labels: Sequence[str],
    models: Sequence[str],
    seeds: Sequence[int],
) -> Verdicts | None:
    """Return a judge's verdicts of the systems that have some for every model and seed; None where none has.

    The answers of several models to a prompt stand side by side like samples, so that each model weighs the same.
    """
    bases = {model: evidence.units.get(Unit(BASE, model, None)) for model in models}
    said: dict[_Cell, dict[Place, Floats]] = {}
    answered: dict[_Cell, UnitAnswers] = {}
    for cell in product(labels, seeds, models):
        label, seed, model = cell
        own = evidence.units.get(Unit(label, model, seed), evidence.units.get(Unit(label, model, None)))
        base = bases[model]
        if own is not None and base is not None and (found := own.preferences(judge, rival, base)):
            said[cell], answered[cell] = found, own
    having = [label for label in labels if all((label, *of) in said for of in product(seeds, models))]
    return _arrays(said, answered, bases, having, models, seeds) if having else None


def _arrays(
    said: Mapping[_Cell, Mapping[Place, Floats]],
    answered: Mapping[_Cell, UnitAnswers],
    bases: Mapping[str, UnitAnswers | None],
    labels: Sequence[str],
    models: Sequence[str],
    seeds: Sequence[int],
) -> Verdicts:
    """Return the verdicts of these systems as arrays; NaN and zeros where there is none."""
    kept = {cell: of for cell, of in said.items() if cell[0] in labels}
    number = {prompt: p for p, prompt in enumerate(sorted({place[0] for of in kept.values() for place in of}))}
    samples = 1 + max(place[1] for of in kept.values() for place in of)
    times = max(values.shape[1] for of in kept.values() for values in of.values())
    shape = len(seeds), len(labels), len(number), len(models) * samples
    preference, longer = np.full((*shape, 2, times), np.nan), np.full(shape, np.nan)
    style, base_style = np.zeros((*shape, 4)), np.zeros((*shape[2:], 4))
    for (label, seed, model), of in kept.items():
        s, k, m = seeds.index(seed), labels.index(label), models.index(model)
        base = bases[model]
        others = base.styles if base else {}
        for (prompt, sample), values in of.items():
            at = number[prompt], m * samples + sample
            preference[s, k, *at, :, : values.shape[1]] = values
            own, other = answered[label, seed, model].styles[prompt, sample], others.get((prompt, sample))
            if other is not None:
                longer[s, k, *at] = own.characters - other.characters
                style[s, k, *at], base_style[at] = own.row, other.row
    return Verdicts(
        labels=tuple(labels),
        prompts=tuple(number),
        preference_SKPMOT=preference,
        longer_SKPM=longer,
        style_SKPM4=style,
        base_style_PM4=base_style,
    )
