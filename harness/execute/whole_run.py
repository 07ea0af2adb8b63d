"""A run from its plan to its last record, for the command line and for Python alike; boards are made afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.execute.campaign import Campaign, assemble
from harness.execute.plan_text import plan_text, warnings
from harness.execute.progress import RunProgress
from harness.execute.resolve import Resolved
from harness.execute.run_judges import AtMost, carry_out_beside, judged_at_most
from harness.execute.scorer_choice import start_and_choose_scorer
from harness.execute.tuning import Tuning, Unfinished, carry_out_all, read_all_unfinished, tuning_of

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, kw_only=True)
class WholeRun:
    """A run that has been checked, with its trials and judges, and what is left to compute of it."""

    campaign: Campaign
    tuning: Tuning | None
    unfinished: Unfinished
    judges: Sequence[AtMost]

    @classmethod
    def of(cls, resolved: Resolved, *, dry: bool = False) -> WholeRun:
        """Return the run. `dry`: it is only planned. Raises `HarnessError` for what cannot start."""
        campaign = assemble(resolved, start_and_choose_scorer(resolved, dry=dry))
        tuning = tuning_of(campaign)
        unfinished = read_all_unfinished(campaign, tuning)
        judges = judged_at_most(campaign, tuning, unfinished)
        return cls(campaign=campaign, tuning=tuning, unfinished=unfinished, judges=judges)

    def warnings(self) -> list[str]:
        """Return what a person should know before it starts, one line each."""
        return list(warnings(self.campaign))

    def plan(self) -> str:
        """Return what will be computed, and what it is estimated to take."""
        return plan_text(self.campaign, self.tuning, self.unfinished, self.judges)

    def carry_out(self, console: Console, *, quiet: bool) -> tuple[list[str], bool]:
        """Compute what is missing; return what went wrong with whole models, and whether every cell has its result."""
        with RunProgress(self.campaign, self.unfinished, console, quiet) as progress:
            trouble, complete = carry_out_all(self.campaign, self.tuning, progress, progress.stage)
            trouble += carry_out_beside(self.campaign, self.tuning, progress.say)
        return trouble, complete
