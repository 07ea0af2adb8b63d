"""What a run prints before it starts: its cells, its budget, and what it is estimated to take."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from harness.execute import workers
from harness.execute.campaign import Campaign
from harness.execute.time_left import clock
from harness.execute.tuning import Tuning, Unfinished
from harness.planning.estimates import CHARACTERS_PER_TOKEN, estimates, visits
from harness.planning.grid import Cell
from harness.planning.presets import PRESETS
from harness.planning.rates import read_rate
from harness.run_folder.paths import cache_folder

NANO_PARAMETERS = 1_000_000
NAMED_PARAMETERS = {"qwen": 494_000_000, "gemma": 2_614_000_000, "mistral": 7_242_000_000}
"""Parameters of the checkpoints of the preset `paper`, from their model cards."""
RUNTIME_BYTES = 1.2e9
"""Memory of one worker before any weights: torch, transformers and the engine."""
BYTES_PER_PARAMETER = {"full": 16, "lora": 4}
"""Memory of training by adapter: fp32 weights, gradients and AdamW's two moments; with LoRA little but the weights."""


def plan_text(campaign: Campaign, tuning: Tuning | None, unfinished: Unfinished) -> str:
    """Return the plan as text: what will be computed, and what it is estimated to take."""
    run, settings = campaign.run, campaign.run.settings
    labels = list(dict.fromkeys(cell.system.label for cell in campaign.cells))
    lines = [
        f"Run       {campaign.folder}",
        f"Losses    {len(labels)}: {', '.join(labels)}",
        f"Models    {', '.join(run.models)} ({settings.name} preset: {settings.note})",
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
    sizes = {model: parameters_of(model, campaign.run.preset) for model in campaign.run.models}
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
    rate = read_rate(cache_folder(), campaign.run.preset)
    lines.append(
        f"Estimate  about {tokens / 1e6:.2f} M tokens, {flops:.2g} FLOPs, "
        f"{clock(flops / rate.flops_per_second / min(side_by_side, os.cpu_count() or 1))} of training ({rate.source}), "
        f"{memory / 1e9:.1f} GB of memory plus activations; "
        f"estimates, from {CHARACTERS_PER_TOKEN} characters per token"
    )
    return lines


def parameters_of(model: str, preset: str) -> int | None:
    """Return how many parameters a model has, going by its name alone; None where the name does not tell."""
    if model in NAMED_PARAMETERS:
        return NANO_PARAMETERS if preset == PRESETS["nano"].name else NAMED_PARAMETERS[model]
    size = re.search(r"(\d+(?:\.\d+)?)\s*([bBmM])(?![a-zA-Z])", model)
    return int(float(size[1]) * {"b": 1e9, "m": 1e6}[size[2].lower()]) if size else None
