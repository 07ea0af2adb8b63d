"""Equal tuning: the same number of trials for every loss, chosen from on dev, the chosen trained anew for test.

<run>/               the default board's run: what `--trials` is given to
<run>/tuning/        a run of its own: every trial on the dev split with the run's first seed; trials.csv
<run>/tuned-<N>/     a run of its own: what was chosen from N trials, with every seed of the run, on the test split

Each is computed by the machinery of any run, so finished cells are skipped and nothing of test is read before the
choice; and each is a run folder for every other command.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace

from harness.execute.campaign import Campaign, assemble, carry_out
from harness.execute.local import Report
from harness.manager import resolver
from harness.planning.grid import Cell, System, cells
from harness.planning.run_file import TrialRun, TunedRun
from harness.planning.trials import Outcome, chosen, described, outcomes, trials_csv, trials_of
from harness.run_folder.paths import TUNED, TUNING
from harness.run_folder.store import read_records, write_atomically

TRIALS = "trials.csv"


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """The trials of a run, and what is to be done with the best of them."""

    run: Campaign
    """The run that asked for them."""
    trials: Campaign

    @property
    def tuned(self) -> Campaign:
        """The run of the systems chosen from the trials that have a record; of those without any, the first trial."""
        asked, folder = self.run.run, self.trials.folder
        best = chosen(self._outcomes(), asked.trials) if any(folder.glob("cells/*/record.json")) else {}
        grid = [cell for model in asked.models for cell in cells([model], self._chosen(model, best), asked.seeds)]
        job = self.run.jobs[0]
        tuned = assemble(
            TunedRun.of(asked),
            self.run.folder / f"{TUNED}{asked.trials}",
            grid,
            job.dataset,
            self.run.manager,
            job.keep_checkpoints,
            (job.scorer, job.scorer_note),
        )
        return replace(tuned, search=self.run.search)

    @property
    def left(self) -> tuple[list[Cell], list[Cell]]:
        """The trials, and the cells of what is chosen from them, that have no result yet: all of them until then."""
        trials, tuned = self.trials.todo, self.tuned
        return trials, tuned.cells if trials else tuned.todo

    def write_trials(self) -> None:
        """Write trials.csv from the records."""
        asked, found = self.run.run, self._outcomes()
        text = trials_csv(found, chosen(found, asked.trials), asked.ranked_by)
        write_atomically(self.trials.folder / TRIALS, text)

    def _outcomes(self) -> list[Outcome]:
        return outcomes(read_records(self.trials.folder), self.run.run.ranked_by)

    def _chosen(self, model: str, best: dict[tuple[str, str], Outcome]) -> list[System]:
        """Return the system chosen for each of the run's on this model, under the label that it has untuned."""
        found: dict[str, System] = {}
        for cell in self.trials.cells:
            trial = cell.system.trial
            assert trial is not None, "a cell of the trials is a trial"
            one = best.get((model, trial.system))
            if cell.model == model and trial.number == (one.number if one else 0):
                facts = replace(trial, trials=self.run.run.trials, dev=one.value if one else None)
                found[trial.system] = replace(cell.system, label=trial.system, trial=facts)
        return list(found.values())


def tuning_of(campaign: Campaign) -> Tuning | None:
    """Return the tuning that a run asks for, None without trials. Nothing is written.

    Raises `HarnessError` where Optuna is missing, the data have no dev split, or a folder holds other trials.
    """
    run = campaign.run
    if not run.trials:
        return None
    systems = list({cell.system.label: cell.system for cell in campaign.cells}.values())
    search = described(run, systems)
    resolve = resolver(campaign.manager)
    sampled = [trial for system in systems for trial in trials_of(system, run, resolve)]
    nested = TrialRun.of(run)
    grid = cells(nested.models, sampled, nested.seeds)
    scorer = (campaign.jobs[0].scorer, campaign.jobs[0].scorer_note)
    trials = assemble(nested, campaign.folder / TUNING, grid, campaign.dataset, campaign.manager, False, scorer)
    tuning = Tuning(run=replace(campaign, search=search), trials=replace(trials, search=search))
    _ = tuning.tuned  # its folder is checked now, not after the trials
    return tuning


def carry_out_all(
    campaign: Campaign, tuning: Tuning | None, report: Report, say: Callable[[Campaign, str], None]
) -> tuple[list[str], bool]:
    """Compute a run, then its trials, then what is chosen from them.

    `say` is told of each of the three before it begins. Return what went wrong with whole models, a line each, and
    whether every cell now has its result.
    """
    stages = [tuning.run if tuning else campaign]
    trouble = carry_out(stages[0], report)
    if tuning:
        say(tuning.trials, f"tuning: {len(tuning.trials.cells)} trials on the development split")
        drop_superseded(tuning.trials)
        trouble += carry_out(tuning.trials, report)
        tuning.write_trials()
        tuned = tuning.tuned
        say(tuned, f"tuned: {len(tuned.cells)} cells with what was chosen")
        drop_superseded(tuned)
        trouble += carry_out(tuned, report)
        stages += [tuning.trials, tuned]
    return list(dict.fromkeys(trouble)), not any(stage.todo for stage in stages)


def drop_superseded(campaign: Campaign) -> None:
    """Remove results of cells asked for that have other options than now.

    A trial that failed is tried again, and may then be the best; another version of the sampler may draw other points.
    """
    asked: dict[tuple[str, str, int | None], str] = {
        (cell.model, cell.system.label, cell.seed): cell.key for cell in campaign.cells
    }
    folder = campaign.folder
    for record in read_records(folder) if (folder / "cells").is_dir() else []:
        key = asked.get((record.model.name, record.label, record.seed))
        if key is not None and key != record.key:
            shutil.rmtree(record.folder)
