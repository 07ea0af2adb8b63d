"""What trials are: configurations sampled alike for every loss, and the choice among their values on the dev split.

Pure; the sampler is Optuna's quasi-random one (scrambled Sobol points), which looks at no value, so the trials of a
loss can be computed in any order and on any machine. The published defaults are no trial: they have a board of their
own, and as a trial they would favour the losses whose authors tuned on similar data.
"""

from __future__ import annotations

import csv
import importlib.metadata
import io
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.api import HarnessError, Loss, Range
from harness.planning.grid import System, Trial
from harness.planning.run_file import Run
from harness.run_folder.record import Record
from harness.run_folder.shown import csv_cells

RATE = "learning_rate"
OPTION = "option."
"""Before the name of an option: in the sampler, and in the columns of trials.csv."""
DIGITS = 6
"""Significant digits of a sampled value, so that it can be typed again exactly."""

Resolve = Callable[[str, Mapping[str, Any]], Loss]


def space(system: System, rates: tuple[float, float]) -> dict[str, Range]:
    """Return what the trials of a system vary: the learning rate and its loss's space, less the options given."""
    low, high = rates
    spreads = {RATE: Range(low=low, high=high, log=True)}
    for option, spread in system.loss.tuning_space().items():
        if option not in system.given:
            spreads[f"{OPTION}{option}"] = spread
    return spreads


def sampled(spreads: Mapping[str, Range], number: int, seed: int) -> list[dict[str, float]]:
    """Return `number` configurations from a scrambled Sobol sequence; a longer list begins with a shorter one.

    Sobol (1967); scrambling: Matousek (1998), as in scipy. Every range is covered evenly on its own scale, best where
    `number` is a power of 2. Raises `HarnessError` where Optuna is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise HarnessError(
            f"--trials got {number}, which needs optuna, and it is not installed; "
            "pip install 'preference-harness[tune]', or leave --trials out"
        ) from None
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        distributions: dict[str, optuna.distributions.BaseDistribution] = {
            name: optuna.distributions.FloatDistribution(spread.low, spread.high, log=spread.log)
            for name, spread in spreads.items()
        }

        class Known(optuna.samplers.QMCSampler):
            """Knows the space before the first trial, which would otherwise be drawn independently."""

            def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
                return dict(distributions)

        with warnings.catch_warnings():  # the sampler warns that its interface may change
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study = optuna.create_study(sampler=Known(scramble=True, seed=seed))
        trials = [study.ask(distributions).params for _ in range(number)]
    finally:
        optuna.logging.set_verbosity(before)
    return [{name: _typed(float(trial[name]), spread) for name, spread in spreads.items()} for trial in trials]


def _typed(value: float, spread: Range) -> float:
    return min(max(float(f"{value:.{DIGITS}g}"), spread.low), spread.high)


def trials_of(system: System, run: Run, resolve: Resolve) -> list[System]:
    """Return the trials of a system: as many for every loss, seeded by the run's first seed."""
    trials = []
    for number, values in enumerate(sampled(space(system, run.trial_learning_rates), run.trials, run.seeds[0])):
        options = {name.removeprefix(OPTION): value for name, value in values.items() if name.startswith(OPTION)}
        trials.append(
            replace(
                system,
                loss=resolve(system.loss.name, {**system.loss.options(), **options}),
                label=f"{system.label} trial {number}",
                learning_rate=values[RATE],
                trial=Trial(system=system.label, number=number, options=options),
            )
        )
    return trials


def described(run: Run, systems: Sequence[System]) -> dict[str, Any]:
    """Return what is searched, and how it is chosen, JSON-ready: for the manifest."""
    spaces = {system.label: space(system, run.trial_learning_rates) for system in systems}
    return {
        "trials": run.trials,
        "sampler": f"optuna {_optuna()} QMCSampler, scrambled Sobol, seed {run.seeds[0]}",
        "chosen_by": f"{run.ranked_by} on dev, seed {run.seeds[0]}; ties: the lower trial",
        "budget": run.settings.budget,
        "space": {
            label: {
                name.removeprefix(OPTION): [spread.low, spread.high, "log" if spread.log else "linear"]
                for name, spread in spreads.items()
            }
            for label, spreads in sorted(spaces.items())
        },
    }


def _optuna() -> str:
    try:
        return importlib.metadata.version("optuna")
    except importlib.metadata.PackageNotFoundError:
        return "missing"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of one trial on one model."""

    model: str
    system: str
    """Label of the system whose options were sampled."""
    number: int
    options: Mapping[str, Any]
    """All options of the loss, the sampled ones among them."""
    learning_rate: float
    value: float | None
    """On the dev split; None for a trial that diverged or failed."""
    status: str
    reason: str


def outcomes(records: Sequence[Record], metric: str) -> list[Outcome]:
    """Return the outcomes that records of trials hold, by model, system and number."""
    tried = []
    for record in records:
        if record.tuning is None:  # a baseline row
            continue
        assert record.learning_rate is not None, "a trial has the learning rate it was trained with"
        tried.append(
            Outcome(
                model=record.model.name,
                system=record.tuning.system,
                number=record.tuning.number,
                options=record.loss.options,
                learning_rate=float(record.learning_rate),
                value=record.metrics.get(metric) if record.scored else None,
                status=record.status,
                reason=record.reason,
            )
        )
    return sorted(tried, key=lambda outcome: (outcome.model, outcome.system, outcome.number))


def chosen(tried: Sequence[Outcome], trials: int) -> dict[tuple[str, str], Outcome]:
    """Return the best of the first `trials` of each (model, system): the highest value, of equal ones the lower number.

    A trial without a value loses to every other. Where none has one it is the first: its row then says what went wrong.
    """
    best: dict[tuple[str, str], Outcome] = {}
    for outcome in tried:
        if outcome.number >= trials:
            continue
        place = (outcome.model, outcome.system)
        if place not in best or _order(outcome) > _order(best[place]):
            best[place] = outcome
    return best


def _order(outcome: Outcome) -> tuple[float, int]:
    return (-math.inf if outcome.value is None else outcome.value), -outcome.number


def trials_csv(tried: Sequence[Outcome], best: Mapping[tuple[str, str], Outcome], metric: str) -> str:
    """Return one line per trial with a heading: its options, its value on the dev split, whether it was chosen."""
    options = sorted({option for outcome in tried for option in outcome.options})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heading = [*(f"{OPTION}{name}" for name in options), RATE, f"dev_{metric}", "status", "reason", "chosen"]
    writer.writerow(csv_cells(["model", "loss", "trial", *heading]))
    for outcome in tried:
        picked = best.get((outcome.model, outcome.system)) == outcome
        line = [outcome.model, outcome.system, outcome.number]
        line += ["none" if (value := outcome.options.get(name, "")) is None else value for name in options]
        line += [outcome.learning_rate, outcome.value, outcome.status, outcome.reason, "yes" if picked else "no"]
        writer.writerow(csv_cells(line))
    return text.getvalue()
