"""How long a run is estimated to take: starting, training and scoring. Imports no torch."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.execute import workers
from harness.execute.time_left import clock
from harness.planning.estimates import Estimate, Visits
from harness.planning.model_shape import ModelShape, count_in_words
from harness.planning.processors import processors
from harness.planning.rates import Rate, measured_rate, read_answer_rate, read_rate
from harness.planning.run_file import Run
from harness.run_folder.paths import cache_folder

START_SECONDS = 20.0
"""To import torch, transformers and the engine, and to write the boards; no download."""
CELL_SECONDS = 2.0
"""To load the model of a cell, to write and read its weights, and for its metrics."""
STEADY = 2.0
"""How many times as long as the least time the most may be for one number to be said of both."""
LORA_SAVES = 2
"""FLOPs per token and parameter that a budget counts and LoRA does not compute: the gradients of weights."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """A cell that is to be computed."""

    model: str
    shape: ModelShape
    cost: Estimate
    points: int = 1
    """How often it is scored: at the end, and at earlier points along the run."""
    moving: bool = False
    """Whether its reference moves."""


def time_in_words(run: Run, works: Sequence[Work], tokens: Visits, at_once: int = 1) -> str:
    """Return what is said of the time that cells take, so many at once, from the start of the run to its boards."""
    rates = {work.shape: _rate(run, work.shape) for work in works}
    if any(rate is None for rate in rates.values()):
        sizes = ", ".join(count_in_words(shape.parameters) for shape, rate in rates.items() if rate is None)
        return f"not known: no earlier run on this machine trained models of about {sizes} parameters so"
    known = [(work, rate) for work in works if (rate := rates[work.shape]) is not None]
    beside = START_SECONDS + CELL_SECONDS * len(works) / at_once
    bounds = []
    for fastest in (True, False):
        training = sum(_training_seconds(run, work, rate, tokens, fastest=fastest) for work, rate in known) / at_once
        training += sum(_choosing_seconds(work, rate, fastest=fastest) for work, rate in _once(known)) / at_once
        bounds.append((training, _scoring_seconds(known, tokens, fastest=fastest) / at_once))
    least, most = (sum(parts) + beside for parts in bounds)
    source = "; ".join(dict.fromkeys(rate.source for _, rate in known)) + _busy()
    if most > STEADY * least:
        return f"{clock(least)} to {clock(most)}, {source}, which varied"
    training, scoring = (math.sqrt(low * high) for low, high in zip(*bounds, strict=True))
    return f"{clock(training + scoring + beside)}: {clock(training)} of training, {clock(scoring)} of scoring, {source}"


def cell_seconds(run: Run, work: Work, tokens: Visits) -> float | None:
    """Return the seconds that a cell is estimated to take, its scoring among them; None where that is not known."""
    rate = _rate(run, work.shape)
    if rate is None:
        return None
    training, scoring = (
        math.sqrt(least * most)
        for least, most in (
            tuple(_training_seconds(run, work, rate, tokens, fastest=fastest) for fastest in (True, False)),
            tuple(_pass_seconds(work, rate, tokens, fastest=fastest) for fastest in (True, False)),
        )
    )
    return training + scoring + CELL_SECONDS


def may_take(run: Run, work: Work, tokens: Visits) -> float | None:
    """Return the most seconds that the training of a cell is estimated to take; None where that is not known."""
    rate = _rate(run, work.shape)
    return None if rate is None else _training_seconds(run, work, rate, tokens, fastest=False)


def answer_time_in_words(run: Run, scorer: str, answers: Sequence[tuple[ModelShape, int]], at_once: int = 1) -> str:
    """Return what is said of the time that answers take: so many of models of these sizes, all as long as they may."""
    rates = [(count, read_answer_rate(cache_folder(), run, scorer, shape.parameters)) for shape, count in answers]
    seconds = [count * run.max_new_tokens / rate for count, rate in rates if rate is not None]
    if len(seconds) < len(rates):
        return "and that of the answers, which is not known: none were sampled on this machine by models of this size"
    return f"and at most {clock(sum(seconds) / at_once)} of answers, at the rate of the last ones on this machine"


def _busy() -> str:
    """Return what is said where other work leaves less than half of the cores to a run."""
    load, cores = os.getloadavg()[0], processors()
    return f"; longer while other work wants the {cores} cores too (load {load:.1f})" if load > cores / 2 else ""


def _rate(run: Run, shape: ModelShape) -> Rate | None:
    """Return how fast such cells are: as earlier ones here, else by a measurement, which tells nothing of a GPU."""
    rate = read_rate(cache_folder(), run, shape.parameters)
    if rate is not None or workers.may_have_gpu():
        return rate
    return measured_rate(shape.width, shape.inner)


def _training_seconds(run: Run, work: Work, rate: Rate, tokens: Visits, *, fastest: bool) -> float:
    if run.settings.budget.startswith("seconds"):
        return float(run.settings.budget.partition("=")[2])
    flops = work.cost.flops
    if rate.computed:
        if run.lora:
            flops -= LORA_SAVES * work.shape.parameters * work.cost.tokens
        flops *= sum(tokens.packed) / sum(tokens.pairs)
    return flops / (rate.fastest if fastest else rate.slowest)


def _choosing_seconds(work: Work, rate: Rate, *, fastest: bool) -> float:
    """Return the time of choosing a model's training pairs, which all its cells share."""
    return work.cost.choosing / (rate.fastest if fastest else rate.slowest)


def _once(known: Sequence[tuple[Work, Rate]]) -> list[tuple[Work, Rate]]:
    """Return one of the cells of each model."""
    return list({work.model: (work, rate) for work, rate in known}.values())


def _scoring_seconds(known: Sequence[tuple[Work, Rate]], tokens: Visits, *, fastest: bool) -> float:
    """Return the time of a forward pass over the held-out responses for each cell, and for the start of each model."""
    passes = [*known, *((replace(work, points=1), rate) for work, rate in _once(known))]
    return sum(_pass_seconds(work, rate, tokens, fastest=fastest) for work, rate in passes)


def _pass_seconds(work: Work, rate: Rate, tokens: Visits, *, fastest: bool) -> float:
    flops = work.points * 2 * work.shape.parameters * tokens.held_out
    return flops / (rate.fastest if fastest else rate.slowest)
