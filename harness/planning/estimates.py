"""What a run is estimated to take, before anything is tokenised. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.api import Dataset
from harness.planning.budget import Budget, Cost, Plan, loss_flops, plan
from harness.planning.grid import Cell
from harness.planning.run_file import Run

CHARACTERS_PER_TOKEN = 3.5


@dataclass(frozen=True, kw_only=True)
class Visits:
    """The estimated tokens of one visit of each training pair."""

    pairs: list[int]
    """Prompt + chosen and prompt + rejected."""
    mismatched: list[int]
    """Prompt + a response to another prompt, of mean length."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What one cell is estimated to take."""

    plan: Plan
    tokens: int
    flops: float


def visits(data: Dataset) -> Visits:
    """Return the estimated tokens of the training pairs: by their characters, and a few for the chat template."""
    prompts = [sum(len(turn.content) for turn in pair.context) for pair in data.train]
    answers = [len(pair.chosen) + len(pair.rejected) for pair in data.train]
    mean = sum(answers) / max(2 * len(answers), 1)
    return Visits(
        pairs=[
            int((2 * prompt + both) / CHARACTERS_PER_TOKEN) + 8 for prompt, both in zip(prompts, answers, strict=True)
        ],
        mismatched=[int((prompt + mean) / CHARACTERS_PER_TOKEN) + 4 for prompt in prompts],
    )


def estimates(run: Run, tokens: Visits, cells: Iterable[tuple[Cell, int]]) -> list[Estimate]:
    """Return the estimate of each cell; cells are given with the number of parameters of their model.

    Raises `HarnessError` where the budget cannot pay one optimiser step, or the data cannot fill it.
    """
    budget, settings = Budget.parse(run.settings.budget), run.settings
    known: dict[tuple[str, int, int], Estimate] = {}  # models of one size cost the same
    costs = []
    for cell, parameters in cells:
        key = (cell.system.label, parameters, cell.seed)
        if key not in known:
            flops = loss_flops(
                cell.system.loss,
                tokens.pairs,
                parameters,
                in_parts=settings.micro_pairs < settings.batch_pairs,
                mismatched=tokens.mismatched,
            )
            cost = Cost(tokens=tokens.pairs, flops=flops)
            spending = plan(budget, batch_pairs=settings.batch_pairs, seed=cell.seed, cost=cost)
            visited = (spending.steps or 0) * settings.batch_pairs
            known[key] = Estimate(
                plan=spending,
                tokens=int(visited * sum(cost.tokens) / len(cost.tokens)),
                flops=visited * sum(flops) / len(flops),
            )
        costs.append(known[key])
    return costs
