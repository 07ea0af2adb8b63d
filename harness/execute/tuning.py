"""Equal tuning: every loss gets the same number of trials; its best one on dev is trained anew and scored on test.

<run>/               the run itself: its default board, untuned
<run>/tuning/        a run of its own: every trial on the dev split with the run's first seed; trials.csv
<run>/tuned-<N>/     a run of its own: what was chosen from N trials, with every seed of the run, on the test split

Each is computed as any run is: finished cells are skipped, and every other command takes it as a run folder. Nothing
of the test split is read before the choice is made.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace

from harness.execute.campaign import Campaign, assemble, carry_out, try_models
from harness.execute.status import read_unfinished
from harness.manager import resolver
from harness.planning.events import Phase, Report, RunEvent
from harness.planning.grid import Cell, System, cells
from harness.planning.trials import Outcome, chosen, described, outcomes, trials_csv, trials_of
from harness.planning.tuned_run import TrialRun, TunedRun
from harness.run_folder.paths import TRIALS, TUNED, TUNING, cache_folder, has_records, is_run
from harness.run_folder.store import read_records, write_atomically


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """The trials of a run, and what is to be done with the best of them."""

    run: Campaign
    """The run that asked for them."""
    trials: Campaign

    def tuned_from_records(self) -> Campaign:
        """Return the run of the systems chosen from the trials' records as they are now; without any, the first trials.

        A system none of whose trials has a value is represented by its first one.
        """
        asked, folder = self.run.run, self.trials.folder
        best = chosen(self._read_outcomes(), asked.trials) if has_records(folder) else {}
        names = [asked.called(model) for model in asked.models]
        grid = [cell for model in names for cell in cells([model], self._chosen(model, best), asked.seeds)]
        resolved = replace(
            self.run.resolved,
            run=TunedRun.of(asked),
            folder=self.run.folder / f"{TUNED}{asked.trials}",
            grid=tuple(grid),
        )
        return replace(assemble(resolved, self.run.scorer), search=self.run.search)

    def write_trials(self) -> None:
        """Write trials.csv from the records."""
        asked, tried = self.run.run, self._read_outcomes()
        text = trials_csv(tried, chosen(tried, asked.trials), asked.ranked_by)
        write_atomically(self.trials.folder / TRIALS, text)

    def _read_outcomes(self) -> list[Outcome]:
        return outcomes(read_records(self.trials.folder), self.run.run.ranked_by)

    def _chosen(self, model: str, best: dict[tuple[str, str], Outcome]) -> list[System]:
        """Return the system chosen for each of the run's on this model, under the label that it has untuned."""
        systems: dict[str, System] = {}
        for cell in self.trials.cells:
            trial = cell.system.trial
            assert trial is not None, "a cell of the trials is a trial"
            outcome = best.get((model, trial.system))
            if cell.model == model and trial.number == (outcome.number if outcome else 0):
                choice = replace(trial, trials=self.run.run.trials, dev=outcome.value if outcome else None)
                systems[trial.system] = replace(cell.system, label=trial.system, trial=choice)
        return list(systems.values())


@dataclass(frozen=True, kw_only=True)
class Unfinished:
    """The cells of a run, of its trials and of what is chosen from them that had no result when they were read."""

    run: tuple[Cell, ...]
    trials: tuple[Cell, ...] = ()
    tuned: tuple[Cell, ...] = ()
    """All of them while a trial is missing: the choice may change."""

    @property
    def all(self) -> tuple[Cell, ...]:
        """In the order in which they are computed."""
        return (*self.run, *self.trials, *self.tuned)


def read_all_unfinished(campaign: Campaign, tuning: Tuning | None) -> Unfinished:
    """Return what is left to compute now, read once for the plan and the progress bar."""
    run = tuple(read_unfinished(campaign.folder, campaign.own))
    if tuning is None:
        return Unfinished(run=run)
    trials = tuple(read_unfinished(tuning.trials.folder, tuning.trials.cells))
    tuned = tuning.tuned_from_records()
    left = tuned.cells if trials else tuple(read_unfinished(tuned.folder, tuned.cells))
    return Unfinished(run=run, trials=trials, tuned=left)


def tuning_of(campaign: Campaign) -> Tuning | None:
    """Return the tuning that a run asks for, None without trials. Nothing is written.

    Raises `HarnessError` where Optuna is missing, the data have no dev split, or a folder holds other trials.
    """
    run, resolved = campaign.run, campaign.resolved
    if not run.trials:
        return None
    systems = list({cell.system.label: cell.system for cell in campaign.cells}.values())
    search = described(run, systems)
    resolve = resolver(resolved.manager)
    sampled = [trial for system in systems for trial in trials_of(system, run, resolve)]
    nested = TrialRun.of(run)
    trials = assemble(
        replace(
            resolved,
            run=nested,
            folder=campaign.folder / TUNING,
            grid=tuple(cells([nested.called(model) for model in nested.models], sampled, nested.seeds)),
            keep_checkpoints=False,
        ),
        campaign.scorer,
    )
    tuning = Tuning(run=replace(campaign, search=search), trials=replace(trials, search=search))
    tuning.tuned_from_records()  # its folder is checked now, not after the trials
    return tuning


def carry_out_all(
    campaign: Campaign, tuning: Tuning | None, report: Report, begin: Callable[[Campaign, str], None]
) -> tuple[list[str], bool]:
    """Compute a run, then its trials, then what is chosen from them.

    `begin(campaign, text)` is called before the trials and before the tuned run. Return what went wrong with whole
    models, one line per model, and whether every cell has its result now.
    """
    stages = [tuning.run if tuning else campaign]
    campaign.resolved.executor.require(campaign.folder, cache_folder())
    said = set[tuple[str, str]]()

    def tried(model: str, event: RunEvent) -> None:
        if isinstance(event, Phase):
            said.add((model, event.text))
        report(model, event)

    def computed(model: str, event: RunEvent) -> None:
        if not (isinstance(event, Phase) and (model, event.text) in said):
            report(model, event)

    try_models(stages[0], tried)
    trouble = carry_out(stages[0], computed)
    if tuning:
        begin(tuning.trials, f"tuning: {len(tuning.trials.cells)} trials on the development split")
        drop_superseded(tuning.trials)
        trouble += carry_out(tuning.trials, report)
        tuning.write_trials()
        tuned = tuning.tuned_from_records()
        begin(tuned, f"tuned: {len(tuned.cells)} cells with what was chosen")
        drop_superseded(tuned)
        trouble += carry_out(tuned, report)
        stages += [tuning.trials, tuned]
    complete = not any(read_unfinished(stage.folder, stage.own) for stage in stages)
    return list(dict.fromkeys(trouble)), complete


def drop_superseded(campaign: Campaign) -> None:
    """Remove results of cells asked for that have other options than now.

    A trial that failed is tried again, and may then be the best; another version of the sampler may draw other points.
    """
    asked: dict[tuple[str, str, int | None], str] = {
        (cell.model, cell.system.label, cell.seed): cell.key for cell in campaign.cells
    }
    folder = campaign.folder
    for record in read_records(folder) if is_run(folder) else []:
        key = asked.get((record.model.name, record.label, record.seed))
        if key is not None and key != record.key:
            shutil.rmtree(record.folder)
