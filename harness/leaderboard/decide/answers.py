"""What a board says of generated answers: their numbers, what judges say, and how far judges can be relied on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np

from harness.judge.judgements import BASE, CHOSEN
from harness.leaderboard.decide.answer_tables import AnswerEvidence, Verdicts, verdicts_of
from harness.leaderboard.decide.estimates import (
    NAN,
    Estimate,
    Resampling,
    Sample,
    differences,
    estimates,
    only_systems,
    samples,
)
from harness.leaderboard.decide.standings import Standing, family
from harness.run_folder.generation_facts import GenerationFacts
from harness.statistics.answer_metrics import (
    EQUAL_LENGTH,
    EQUAL_STYLE,
    NUMBERS,
    VS_CHOSEN,
    WIN_RATE,
    answer_kind,
)
from harness.statistics.bradley_terry import against_base, bradley_terry
from harness.statistics.judge_agreement import (
    Agreement,
    first_place,
    judges_agreement,
    rankings_agreement,
    self_agreement,
)
from harness.statistics.length_control import length_controlled_win_rate
from harness.statistics.verdicts import JudgedSample, mean_of_known, win_rate

FITTED = 2_000
"""Resamples of the two models that are fitted anew on each."""


@dataclass(frozen=True, kw_only=True)
class AnswerRow:
    """What is known of a system's answers."""

    values: Mapping[str, Estimate]
    """Numbers of `answer_metrics`, those of a judge as `METRIC@JUDGE`."""
    over_base: Mapping[str, Estimate] = field(default_factory=dict)
    """Paired differences to the base, of the numbers that both have one by one."""
    places: Mapping[str, Standing] = field(default_factory=dict)
    """Rank, rank range and tier by each of a judge's numbers; each is a family of comparisons of its own."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why it lacks a number that others have."""


@dataclass(frozen=True, kw_only=True)
class JudgeSummary:
    """A judge on one board: what it was asked and how far it can be relied on."""

    name: str
    rates: bool
    """Whether it rated the answers one by one; else it compared two."""
    asked: int
    unread: int
    """Questions without an answer that could be read."""
    reasons: Mapping[str, int]
    """How often each fault was given as a reason, also beside a lowest rating; most frequent first."""
    itself: Agreement | None = None
    """Of its repeats; None where it was asked once."""
    first: Estimate = field(default_factory=Estimate)
    """Its preference for the answer shown first, 0.5 being none; of a judge that compares."""
    chosen: float = NAN
    """Of a judge that rates: its mean rating of the data's chosen responses, where it was asked for them."""


@dataclass(frozen=True, kw_only=True)
class TwoJudges:
    """The agreement of two judges."""

    one: str
    other: str
    verdicts: Agreement
    """On the same comparisons with the base."""
    tau: float
    """Kendall's tau-b of the losses' win rates."""


@dataclass(frozen=True, kw_only=True)
class BoardAnswers:
    """What a board says of generated answers."""

    facts: GenerationFacts
    """How they were sampled."""
    rows: Mapping[str, AnswerRow]
    """By label."""
    judges: tuple[JudgeSummary, ...] = ()
    agreement: tuple[TwoJudges, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Asking:
    """Of what systems, models and seeds the answers are asked for."""

    labels: Sequence[str]
    """Sound losses and baseline rows."""
    losses: Sequence[str]
    """The sound losses, which are compared."""
    models: Sequence[str]
    seeds: Sequence[int]
    resampling: Resampling


def board_answers(evidence: AnswerEvidence, facts: GenerationFacts, asking: Asking) -> BoardAnswers:
    """Return what a board says of the answers at the end of its runs."""
    drawn = drawn_numbers(evidence, asking)
    measured = {name: _measured(name, sample) for name, sample in drawn.items()}
    over_base = {name: differences(sample, BASE) for name, sample in drawn.items() if not name.startswith("kl_")}
    reasons: dict[str, dict[str, str]] = {}
    summaries: list[JudgeSummary] = []
    said: dict[str, Verdicts] = {}
    for judge in evidence.judges:
        verdicts = _verdicts(evidence, judge, BASE, asking)
        summaries.append(_summary(evidence, judge, verdicts))
        said |= {judge: verdicts} if verdicts else {}
        for name, (sample, found, why) in _of_judge(judge, verdicts, evidence, asking).items():
            drawn[name], measured[name] = sample, found
            reasons |= {name: why} if why else {}
    judged = [name for name in drawn if name.partition("@")[0] not in NUMBERS]
    families = {name: family(name, asking.losses, drawn, measured, asking.resampling) for name in judged}
    rows = {
        label: AnswerRow(
            values={name: of[label] for name, of in measured.items() if label in of},
            over_base={name: of[label] for name, of in over_base.items() if label in of and label != BASE},
            places={name: of.standings[label] for name, of in families.items() if label in of.standings},
            reasons={name: of[label] for name, of in reasons.items() if label in of},
        )
        for label in asking.labels
        if any(label in of for of in measured.values())
    }
    return BoardAnswers(facts=facts, rows=rows, judges=tuple(summaries), agreement=_agreement(said, measured))


def drawn_numbers(evidence: AnswerEvidence, asking: Asking) -> dict[str, Sample]:
    """Return the numbers of the answers and their ratings, of the systems that have them, by name."""
    found = samples(evidence.values, asking.labels, asking.models, asking.seeds, asking.resampling)
    return {name: sample for name, sample in found.items() if sample.labels}


def numbers_of(evidence: AnswerEvidence, asking: Asking) -> dict[str, dict[str, Estimate]]:
    """Return the estimates of the same, by name and label."""
    return {name: _measured(name, sample) for name, sample in drawn_numbers(evidence, asking).items()}


def _measured(name: str, sample: Sample) -> dict[str, Estimate]:
    """Return the estimate of each system; the base is 0 nats from itself by definition and has no interval."""
    found = estimates(sample)
    if BASE in found and name.startswith("kl_"):
        found[BASE] = Estimate(value=0.0, n=found[BASE].n)
    return found


def _verdicts(evidence: AnswerEvidence, judge: str, rival: str, asking: Asking) -> Verdicts | None:
    labels = asking.losses if rival == BASE else asking.labels
    return verdicts_of(evidence, judge, rival, labels, asking.models, asking.seeds)


_Found = tuple[Sample, dict[str, Estimate], dict[str, str]]
"""A number of a judge as it is compared, its estimates, and why systems lack it."""


def _of_judge(judge: str, verdicts: Verdicts | None, evidence: AnswerEvidence, asking: Asking) -> dict[str, _Found]:
    """Return the win rates of a judge by the names that they have on a board. `verdicts`: against the base."""
    found = _against_base(judge, verdicts, asking) if verdicts else {}
    chosen = _verdicts(evidence, judge, CHOSEN, asking)
    return found | ({f"{VS_CHOSEN}@{judge}": _win_rate(chosen, asking)} if chosen else {})


def _against_base(judge: str, verdicts: Verdicts, asking: Asking) -> dict[str, _Found]:
    resamples, seed = min(FITTED, asking.resampling.resamples), asking.resampling.seed
    preference, longer = verdicts.preference_SKPMOT, verdicts.longer_SKPM
    even = length_controlled_win_rate(preference, longer, resamples, seed)
    battles = against_base(preference, verdicts.style_SKPM4, verdicts.base_style_PM4)
    styled = bradley_terry(battles, len(verdicts.labels), preference.shape[2], resamples, seed)
    return {
        f"{WIN_RATE}@{judge}": _win_rate(verdicts, asking),
        f"{EQUAL_LENGTH}@{judge}": _named(EQUAL_LENGTH, verdicts, even.sample, even.reasons),
        f"{EQUAL_STYLE}@{judge}": _named(EQUAL_STYLE, verdicts, styled.sample, styled.reasons),
    }


def _win_rate(verdicts: Verdicts, asking: Asking) -> _Found:
    judged = win_rate(verdicts.preference_SKPMOT, asking.resampling.resamples, asking.resampling.seed)
    none = "no comparison of it has a verdict in both orders"
    return _named(WIN_RATE, verdicts, judged, [none if np.isnan(value) else "" for value in judged.value])


def _named(metric: str, verdicts: Verdicts, judged: JudgedSample, reasons: Sequence[str]) -> _Found:
    """Return the number of each system that has one."""
    whole = Sample(
        labels=verdicts.labels,
        per_seed=judged.per_seed,
        resampled=judged.resampled,
        sums=judged.sums,
        sizes=judged.sizes,
        n=judged.sums.shape[1],
        n_prompts=judged.sums.shape[1],
        kind=answer_kind(metric),
    )
    value, low, high = ([float(f"{x:.10g}") for x in of] for of in (judged.value, judged.low, judged.high))
    found = {
        label: Estimate(value=value[k], low=low[k], high=high[k], n=int(judged.sizes[k].sum()))
        for k, label in enumerate(verdicts.labels)
        if np.isfinite(value[k])
    }
    why = {label: reason for label, reason in zip(verdicts.labels, reasons, strict=True) if reason}
    return only_systems(whole, list(found)), found, why


def _summary(evidence: AnswerEvidence, judge: str, verdicts: Verdicts | None) -> JudgeSummary:
    tables = [unit.judged[judge] for unit in evidence.units.values() if judge in unit.judged]
    rates = any(unit.rates(judge) for unit in evidence.units.values())
    faults = [reason for table in tables for reason in table["reason"].tolist() if reason]
    counts = {reason: faults.count(reason) for reason in set(faults)}
    summary = JudgeSummary(
        name=judge,
        rates=rates,
        asked=sum(len(table["rating"]) for table in tables),
        unread=sum(int((np.isnan(table["rating"]) & np.isnan(table["preference"])).sum()) for table in tables),
        reasons=dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
    )
    if rates:
        of_chosen = [value for unit in evidence.units.values() for value in unit.ratings(judge, CHOSEN).values()]
        return replace(summary, chosen=float(f"{mean_of_known(np.array(of_chosen or [NAN]), 0):.10g}"))
    if verdicts is None:
        return summary
    said = verdicts.preference_SKPMOT
    value, low, high = (float(f"{x:.10g}") for x in first_place(said))
    first = Estimate(value=value, low=low, high=high, n=said.shape[2])
    return replace(summary, first=first, itself=self_agreement(said) if said.shape[-1] > 1 else None)


def _agreement(said: Mapping[str, Verdicts], measured: Mapping[str, Mapping[str, Estimate]]) -> tuple[TwoJudges, ...]:
    """Return the agreement of every two judges on what both said of the same losses and prompts."""
    found = []
    for one, other in combinations(said, 2):
        asked = [
            (said[judge].labels, said[judge].prompts, said[judge].preference_SKPMOT.shape[3]) for judge in (one, other)
        ]
        if asked[0] != asked[1]:
            continue  # they were asked about different answers
        by = [measured[f"{WIN_RATE}@{judge}"] for judge in (one, other)]
        both = [label for label in said[one].labels if all(label in of for of in by)]
        ranks = [np.array([of[label].value for label in both]) for of in by]
        verdicts = judges_agreement(said[one].preference_SKPMOT, said[other].preference_SKPMOT)
        found.append(TwoJudges(one=one, other=other, verdicts=verdicts, tau=rankings_agreement(*ranks)))
    return tuple(found)
