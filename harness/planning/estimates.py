"""What a run is estimated to take, before anything is tokenised. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from harness.api import Dataset, Message, Pair, Selector
from harness.planning.budget import FLOPS_PER_TOKEN, Before, Budget, Cost, Plan, loss_flops, plan
from harness.planning.grid import Cell
from harness.planning.run_file import Run

CHARACTERS_PER_TOKEN = 3.5


@dataclass(frozen=True, kw_only=True)
class Visits:
    """The estimated tokens of one visit of each training pair, and of the held-out responses."""

    pairs: list[int]
    """Prompt + chosen and prompt + rejected: what a pair is said to cost."""
    mismatched: list[int]
    """Prompt + a response to another prompt, of mean length."""
    packed: list[int]
    """Prompt, chosen and rejected: what is computed, since a prompt goes through the model once for both."""
    longest: int
    """Of the longest prompt + response."""
    held_out: int
    """Every prompt and every response that is scored, once."""
    listed: int = 0
    """Every response of the training lists, with its prompt."""

    def of(self, selector: Selector | None) -> Visits:
        """Return the visits of as many training pairs as a selector keeps: of the first ones, in the place of its."""
        if selector is None:
            return self
        count = selector.count(len(self.pairs))
        kept = {name: getattr(self, name)[:count] for name in ("pairs", "mismatched", "packed")}
        return replace(self, **kept)

    def choosing(self, selector: Selector | None) -> float:
        """Return the FLOPs per parameter that a selector takes, charged to every cell; of all pairs, before `of`.

        The start checkpoint reads all candidates, and so does a probe after its training.
        """
        if selector is None or not selector.needs_logps:
            return 0.0
        read = 2.0 * (self.listed if selector.needs_lists else sum(self.pairs))
        probe = FLOPS_PER_TOKEN * selector.probe_pairs * sum(self.pairs) / len(self.pairs) + read
        return read + probe if selector.probe_pairs else read


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What one cell is estimated to take."""

    plan: Plan
    tokens: int
    flops: float
    choosing: float = 0.0
    """FLOPs that choosing the training pairs took, charged to the cell beside those of its training."""


def visits(data: Dataset, run: Run) -> Visits:
    """Return the estimated tokens: by characters, cut to the longest length, and a few for the chat template."""
    longest, longest_prompt = run.settings.max_length, run.settings.max_prompt

    def prompt_of(context: Sequence[Message]) -> float:
        return min(sum(len(turn.content) for turn in context) / CHARACTERS_PER_TOKEN, longest_prompt)

    def answer(prompt: float, characters: float) -> float:
        return min(characters / CHARACTERS_PER_TOKEN, longest - prompt)

    prompts = [prompt_of(pair.context) for pair in data.train]
    sides = [
        (answer(prompt, len(pair.chosen)), answer(prompt, len(pair.rejected)))
        for prompt, pair in zip(prompts, data.train, strict=True)
    ]
    mean = sum(map(sum, sides)) / max(2 * len(sides), 1)
    held = {pair.context: set[str]() for pair in _held_out(data, run)}
    for pair in _held_out(data, run):
        held[pair.context] |= {pair.chosen, pair.rejected}
    lists = [(prompt_of(each.context), each.responses) for each in data.listwise_train]
    asked = [(prompt_of(context), responses) for context, responses in held.items()]
    return Visits(
        pairs=[int(2 * prompt + sum(both)) + 8 for prompt, both in zip(prompts, sides, strict=True)],
        mismatched=[int(prompt + mean) + 4 for prompt in prompts],
        packed=[int(prompt + sum(both)) + 8 for prompt, both in zip(prompts, sides, strict=True)],
        longest=int(max((prompt + max(both) for prompt, both in zip(prompts, sides, strict=True)), default=0)) + 4,
        held_out=int(sum(prompt + sum(answer(prompt, len(text)) for text in texts) for prompt, texts in asked)),
        listed=int(sum(prompt + answer(prompt, len(each.text)) for prompt, several in lists for each in several)),
    )


def _held_out(data: Dataset, run: Run) -> Sequence[Pair]:
    chosen_on = data.dev if run.report == "best-on-dev" else ()
    return (*data.test, *data.test_lenbalanced, *chosen_on) if run.evaluate_on == "test" else data.dev


def estimates(run: Run, tokens: Visits, cells: Iterable[tuple[Cell, int]], *, choosing: float = 0.0) -> list[Estimate]:
    """Return the estimate of each cell; cells are given with the number of parameters of their model.

    `choosing`: FLOPs per parameter that are spent before the first step.

    Raises `HarnessError` where the budget or a fraction cannot pay one optimiser step, or the data cannot fill it.
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
            before = Before(flops=choosing * parameters)
            cost = Cost(tokens=tokens.pairs, flops=flops, before=before)
            spending = plan(
                budget,
                batch_pairs=settings.batch_pairs,
                seed=cell.seed,
                cost=cost,
                evaluate_at=run.evaluate_at,
            )
            visited = (spending.steps or 0) * settings.batch_pairs
            known[key] = Estimate(
                plan=spending,
                tokens=int(visited * sum(cost.tokens) / len(cost.tokens)),
                flops=visited * sum(flops) / len(flops),
                choosing=before.flops,
            )
        costs.append(known[key])
    return costs
