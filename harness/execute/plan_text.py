"""What a run prints before it starts: its cells, its budget, and what it is estimated to take."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from harness.execute import workers
from harness.execute.campaign import Campaign
from harness.execute.model_facts import models_in_words, parameters_of
from harness.execute.time_left import clock
from harness.execute.tuning import Tuning, Unfinished
from harness.planning.estimates import CHARACTERS_PER_TOKEN, estimates, visits
from harness.planning.grid import Cell
from harness.planning.rates import NANO_PARAMETERS, Rate, read_rate
from harness.run_folder.paths import cache_folder

RUNTIME_BYTES = 1.2e9
"""Memory of one worker before any weights: torch, transformers and the engine."""
STEADY = 2.0
"""How many times as long as the least time the most may be for one number to be said of both."""
BYTES_PER_PARAMETER = {"full": 16, "lora": 4}
"""Memory of training by adapter: fp32 weights, gradients and AdamW's two moments; with LoRA little but the weights."""


def plan_text(campaign: Campaign, tuning: Tuning | None, unfinished: Unfinished) -> str:
    """Return the plan as text: what will be computed, and what it is estimated to take."""
    run, settings = campaign.run, campaign.run.settings
    labels = list(dict.fromkeys(cell.system.label for cell in campaign.cells))
    lines = [
        f"Run       {campaign.folder}",
        f"Losses    {len(labels)}: {', '.join(labels)}",
        *_headed("Models", models_in_words(run)),
        f"Data      {campaign.dataset.name}: {len(campaign.dataset.train)} training pairs, "
        f"{len(campaign.dataset.test if run.evaluate_on == 'test' else campaign.dataset.dev)} {run.evaluate_on} pairs",
        *(f"          {note}" for note in campaign.dataset.notes),
        f"Budget    {settings.budget} per cell, {settings.batch_pairs} pairs per step, "
        f"learning rate {settings.learning_rate:g} for every loss, {run.adapter} fine-tuning, {settings.dtype}",
        f"Scorer    {campaign.scorer.source.name}"
        + (" (installed; tried when the run starts)" if campaign.scorer.source.untried() else ""),
        f"Cells     {len(campaign.cells)} = {len(labels)} losses x {len(run.models)} models x {len(run.seeds)} seeds; "
        f"{len(campaign.cells) - len(unfinished.run)} have their result, {len(unfinished.run)} to compute",
    ]
    if run.control != "none":
        lines.append(f"Control   {run.control}: this run is a control, its board ranks nothing")
    if tuning is not None:
        lines += _tuning(tuning, unfinished)
    return "\n".join([*lines, *_estimates(campaign, unfinished.all)])


def _tuning(tuning: Tuning, unfinished: Unfinished) -> list[str]:
    """Return what tuning adds: so many trials, chosen so, and the cells of what is chosen."""
    run, asked = tuning.run.run, tuning.trials
    losses, models = len({cell.system.label for cell in tuning.run.cells}), len(run.models)
    low, high = run.trial_learning_rates
    left = len(unfinished.trials)
    return [
        f"Trials    {len(asked.cells)} = {losses} losses x {models} models x {run.trials} trials, each with the budget "
        f"of a cell; {len(asked.cells) - left} have their result, {left} to compute",
        f"          learning rate {low:g} to {high:g} and each loss's own space; chosen by {run.ranked_by} on "
        f"{len(asked.dataset.dev)} dev pairs, seed {run.seeds[0]}",
        f"Tuned     {len(tuning.run.cells)} = {losses} losses x {models} models x {len(run.seeds)} seeds with what is "
        f"chosen, on a board of their own; {len(unfinished.tuned)} to compute",
    ]


def warnings(campaign: Campaign) -> list[str]:
    """Return what a user must know before the run starts."""
    data, lines = campaign.dataset, []
    lines += [f"Warning: {reason}" for reason in campaign.resolved.manager.broken.values()]
    if data.skipped:
        counted = ", ".join(f"{count} {reason}" for reason, count in sorted(data.skipped.items()))
        lines.append(f"Warning: rows left out of data set '{data.name}': {counted}")
    if campaign.scorer.note and campaign.run.scorer == "auto":
        lines.append(f"Warning: {campaign.scorer.note}")
    return lines


def _estimates(campaign: Campaign, todo: Sequence[Cell]) -> list[str]:
    """Return the lines on what the unfinished cells will take; none where there is nothing to compute."""
    settings = campaign.run.settings
    if not todo:
        return []
    sizes = {campaign.run.called(model): parameters_of(model, campaign.run) for model in campaign.run.models}
    known = [cell for cell in todo if sizes[cell.model]]
    tokens_of = visits(campaign.dataset)
    costs = estimates(campaign.run, tokens_of, ((cell, sizes[cell.model] or NANO_PARAMETERS) for cell in known))
    if not costs:
        return ["Estimate  none: the size of these models is not known before they are loaded"]
    epochs = costs[0].plan.epochs
    repeats = epochs is not None and epochs > 1
    lines = (
        [f"Epochs    {epochs:.2f}: the budget is larger than the data, so pairs are seen more than once"]
        if repeats
        else []
    )
    tokens, flops = sum(cost.tokens for cost in costs), sum(cost.flops for cost in costs)
    largest = max(sizes[cell.model] or 0 for cell in known)
    side_by_side = workers.count(campaign.run)
    memory = side_by_side * (RUNTIME_BYTES + largest * BYTES_PER_PARAMETER[campaign.run.adapter])
    if settings.budget.startswith("seconds"):
        seconds, basis = float(settings.budget.partition("=")[2]) * len(todo), "of training alone, by the budget"
        lines.append(
            f"Estimate  about {clock(seconds / side_by_side)} ({basis}); about {memory / 1e9:.1f} GB of memory"
        )
        return lines
    lines.append(
        f"Estimate  about {tokens / 1e6:.2f} M tokens, {flops:.2g} FLOPs, "
        f"{_time(campaign, [(sizes[cell.model] or 0, cost.flops) for cell, cost in zip(known, costs, strict=True)])}, "
        f"{memory / 1e9:.1f} GB of memory plus activations; "
        f"estimates, from {CHARACTERS_PER_TOKEN} characters per token"
    )
    if len(known) < len(todo):
        lines.append(f"          without {len(todo) - len(known)} cells of models whose size is not known")
    return lines


def _time(campaign: Campaign, cells: Sequence[tuple[int, float]]) -> str:
    """Return what is said of the time that cells of these parameters and FLOPs take."""
    rates = {size: read_rate(cache_folder(), campaign.run, size) for size, _ in cells}
    measured: list[Rate] = [rate for rate in rates.values() if rate is not None]
    if len(measured) < len(rates):
        sizes = ", ".join(f"{size / 1e6:.3g}M" for size, rate in rates.items() if rate is None)
        return f"time not known: no earlier run on this machine trained models of about {sizes} parameters so"
    known = [(flops, rate) for size, flops in cells if (rate := rates[size]) is not None]
    at_once = min(workers.count(campaign.run), os.cpu_count() or 1)
    source = "; ".join(dict.fromkeys(rate.source for rate in measured))
    least = sum(flops / rate.fastest for flops, rate in known) / at_once
    most = sum(flops / rate.slowest for flops, rate in known) / at_once
    if most > STEADY * least:
        return f"{clock(least)} to {clock(most)} of training ({source}, which varied)"
    return f"{clock(math.sqrt(least * most))} of training ({source})"


def _headed(title: str, lines: Sequence[str]) -> list[str]:
    """Return lines of the plan, the first under its title."""
    return [f"{title if number == 0 else '':<10}{line}" for number, line in enumerate(lines)]
