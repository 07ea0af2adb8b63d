"""What a run does beside its cells: its judges, told of at most before anything is trained, and asked at its end."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.api import Dataset, HarnessError, JudgeCost, JudgeOptions
from harness.execute.campaign import Campaign
from harness.execute.elsewhere import also, carry_out_scoring
from harness.execute.judge_choice import answered_prompts, choose_judge
from harness.execute.judging import ASKS, carry_out_judging, cost_in_words, judging, options_of
from harness.execute.tuning import Tuning, Unfinished
from harness.judge import judgements
from harness.judge.judgements import CellAnswers, Prompts, Rivals
from harness.planning.run_file import Run
from harness.run_folder.paths import has_records

CHARACTERS = 4
"""Characters that an answer is taken to have for each token that it may have."""


@dataclass(frozen=True, kw_only=True)
class AtMost:
    """What a judge will be asked at most, all cells and points of a run together."""

    judge: str
    """As `--judge` has it."""
    kind: str
    """`comparisons` or `ratings`."""
    questions: int
    cost: JudgeCost
    """As if no answer were known yet."""

    @property
    def text(self) -> str:
        """What the plan says of it."""
        known = "; what has an answer by now is not sent" if self.cost.requests else ""
        return f"{self.judge}: up to {self.questions:,} {self.kind}; {cost_in_words(self.cost)}{known}"


def judged_at_most(campaign: Campaign, tuning: Tuning | None, unfinished: Unfinished) -> list[AtMost]:
    """Return what each judge of a run will be asked at most.

    Raises `HarnessError` where that is more than `--max-requests` and cells are to be computed; where all are there, it
    counts when they are judged, without what was answered before.
    """
    run, stages = campaign.run, 2 if tuning else 1  # the run, and what is chosen from its trials
    cells = (len(campaign.own) + (len(tuning.run.cells) if tuning else 0)) * max(1, len(run.evaluate_at))
    found = [_at_most(judge, campaign, cells, stages * len(run.models)) for judge in run.judge]
    for each in found if unfinished.all else ():
        if run.max_requests is not None and each.cost.requests > run.max_requests:
            raise HarnessError(
                f"judge '{each.judge}': got up to {each.cost.requests:,} requests to send, expected at most "
                f"{run.max_requests:,}; raise --max-requests, or give fewer prompts to --generate"
            )
    return found


def _at_most(judge: str, campaign: Campaign, cells: int, bases: int) -> AtMost:
    """Return what a judge is asked of so many cells, points counted as cells, and so many bases: all answer alike."""
    run, data = campaign.run, campaign.dataset
    source, what = choose_judge(judge, campaign.resolved.manager)
    prompts, base = Prompts.of(data), _longest_answers(run, data, judgements.BASE)
    asked = [
        judgements.askings(cell, Rivals(base=base), prompts, source.asks, run.judge_repeats)
        for cell in (_longest_answers(run, data, "cell"), base)
    ]
    costs = [source.cost(what, [each.request for each in of_one], JudgeOptions()) for of_one in asked]
    times = (cells, bases)
    return AtMost(
        judge=judge,
        kind=ASKS[source.asks],
        questions=sum(count * len(of_one) for count, of_one in zip(times, asked, strict=True)),
        cost=JudgeCost(
            requests=sum(count * cost.requests for count, cost in zip(times, costs, strict=True)),
            tokens_in=sum(count * cost.tokens_in for count, cost in zip(times, costs, strict=True)),
            tokens_out=sum(count * cost.tokens_out for count, cost in zip(times, costs, strict=True)),
        ),
    )


def _longest_answers(run: Run, data: Dataset, key: str) -> CellAnswers:
    """Return answers as long as any may be, each another."""
    places = [(prompt, sample) for prompt in answered_prompts(run, data) for sample in range(run.samples)]
    length = CHARACTERS * run.max_new_tokens
    texts = {place: f"{key} {number}".ljust(length, ".") for number, place in enumerate(places)}
    return CellAnswers(key=key, folder=Path(), texts=texts)


def carry_out_beside(campaign: Campaign, tuning: Tuning | None, say: Callable[[str], object]) -> list[str]:
    """Do what is left when the cells of a run are there: score checkpoints from elsewhere, and ask the judges.

    Return what went wrong, one line per checkpoint and per judge.
    """
    trouble = carry_out_scoring(also(campaign), say) if campaign.run.also else []
    return trouble + _carry_out_judges(campaign, tuning, say)


def _carry_out_judges(campaign: Campaign, tuning: Tuning | None, say: Callable[[str], object]) -> list[str]:
    """Ask every judge of a run about its answers; a judge that fails costs nothing that is done."""
    run, trouble = campaign.run, []
    tuned = [tuning.tuned_from_records().folder] if tuning and run.judge else []
    for folder in (each for each in (campaign.folder, *tuned) if has_records(each)):
        for judge in run.judge:
            try:
                options = options_of(run.max_requests, trust_remote_code=run.trust_remote_code)
                asked = judging(folder, judge, run.judge_repeats, campaign.dataset, options)
                say(asked.plan if folder == campaign.folder else f"{folder.name}: {asked.plan}")
                carry_out_judging(asked, say)
            except Exception as error:  # a judge may be anybody's
                reason = str(error) if isinstance(error, HarnessError) else f"{type(error).__name__}: {error}"
                again = shlex.join(["harness", "judge", str(folder), "--judge", judge])
                repeats = f" --repeats {run.judge_repeats}" if run.judge_repeats > 1 else ""
                trouble.append(f"{reason}; to go on: {again}{repeats}")
    return trouble
