"""The runs inside a run with `--trials`: its trials, and what was chosen from them. Each has a board key of its own."""

from __future__ import annotations

from harness.planning.run_file import Run
from harness.run_folder.board_key import BoardKey

_OF_TRIALS = {"evaluate_on": "dev", "evaluate_at": (), "report": "end", "generate": 0, "judge": (), "trials": 0}


class TrialRun(Run):
    """The trials of a run: every configuration on the dev split, with one seed."""

    @classmethod
    def of(cls, run: Run) -> TrialRun:
        """Return the run of the trials of `run`."""
        return cls(**run.model_dump() | _OF_TRIALS | {"seeds": run.seeds[:1]}).known_as(run)

    def decisive(self) -> BoardKey:
        """Return the settings of the run, with the range of learning rates and the seed in place of the shared rate."""
        return _searched(super().decisive(), self)


class TunedRun(Run):
    """What was chosen from the trials of a run, trained for all its seeds and scored on its test split."""

    @classmethod
    def of(cls, run: Run) -> TunedRun:
        """Return the run of what is chosen from the trials of `run`."""
        return cls(**run.model_dump()).known_as(run)

    def decisive(self) -> BoardKey:
        """Return the settings of the run, with the trials and what chose among them in place of the shared rate."""
        chosen = {"trials": self.trials, "tuned_by": self.ranked_by}
        return _searched(super().decisive(), self).model_copy(update=chosen)


def _searched(settings: BoardKey, run: Run) -> BoardKey:
    shared = {name: value for name, value in settings.as_json().items() if name != "learning_rate"}
    return BoardKey.of(shared | {"trial_learning_rates": run.trial_learning_rates, "tuning_seed": run.seeds[0]})
