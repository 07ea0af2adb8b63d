"""What a run prints before it starts: its cells, its budget, and what it is estimated to take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from harness.api import Loss
from harness.data.list_pairs import pairable
from harness.execute.campaign import Campaign
from harness.execute.device_plan import devices_in_words
from harness.execute.judge_choice import answered_prompts
from harness.execute.model_facts import models_in_words, shape_in
from harness.execute.plan_memory import memory_lines
from harness.execute.plan_time import Work, answer_time_in_words, may_take, time_in_words
from harness.execute.run_judges import AtMost
from harness.execute.tuning import Tuning, Unfinished
from harness.planning.estimates import CHARACTERS_PER_TOKEN, Visits, estimates, visits
from harness.planning.grid import Cell
from harness.planning.memory import Batch, checkpoint_bytes, left_bytes, merged_bytes
from harness.planning.model_shape import ModelShape
from harness.planning.run_file import Run

BYTES_PER_TOKEN = 8
"""Of a table of answers, compressed: the text of a token, its id and its share of the other columns."""


def plan_text(campaign: Campaign, tuning: Tuning | None, unfinished: Unfinished, judges: Sequence[AtMost] = ()) -> str:
    """Return the plan as text: what will be computed, and what it is estimated to take."""
    run, settings = campaign.run, campaign.run.settings
    labels = list(dict.fromkeys(cell.system.label for cell in campaign.cells))
    lines = [
        f"Run       {campaign.folder}",
        f"Losses    {len(labels)}: {', '.join(labels)}",
        *_headed("Models", models_in_words(run)),
        f"Data      {campaign.dataset.name}: {len(campaign.dataset.train)} training pairs, "
        f"{len(campaign.dataset.test if run.evaluate_on == 'test' else campaign.dataset.dev)} {run.evaluate_on} pairs"
        + (f" of {tested.name}" if (tested := campaign.dataset.tested_on) and run.evaluate_on == "test" else ""),
        *(f"          {note}" for note in campaign.dataset.notes),
        f"Budget    {settings.budget} per cell, {settings.batch_pairs} pairs per step, "
        f"learning rate {settings.learning_rate:g} for every loss, {run.adapter} fine-tuning, {settings.dtype}"
        + (f", optimiser {run.optimizer}" if run.optimizer != "adamw" else ""),
        f"Lengths   up to {settings.max_length} tokens of prompt and response, {settings.max_prompt} of the prompt",
        f"Scorer    {campaign.scorer.source.name}"
        + (" (installed; tried when the run starts)" if campaign.scorer.source.untried() else ""),
        f"Cells     {len(campaign.cells)} = {len(labels)} losses x {len(run.models)} models x {len(run.seeds)} seeds; "
        f"{len(campaign.own) - len(unfinished.run)} have their result, {len(unfinished.run)} to compute",
        *_share(campaign),
        *_together(campaign),
    ]
    if run.evaluate_at:
        points = ", ".join(f"{fraction:.10g}" for fraction in run.evaluate_at)
        lines.append(
            f"Points    each cell is scored at {points} of its budget"
            + (f", on test and on {len(campaign.dataset.dev)} dev pairs" if run.report == "best-on-dev" else "")
        )
    if run.generate:
        lines.append(
            f"Answers   {run.samples} to each of the first {len(answered_prompts(run, campaign.dataset))} "
            f"{f'prompts of {run.prompts}' if run.prompts else 'held-out prompts'}, at temperature "
            f"{run.temperature:g}, top-p {run.top_p:g}, up to {run.max_new_tokens} tokens, by "
            f"the base and every cell{' at every point' if run.evaluate_at else ''}; "
            f"up to {sum(_answers(campaign, unfinished.all).values()):,} in all"
        )
    lines += _headed("Judges", [judge.text for judge in judges])
    if run.also:
        lines.append(f"Also      {', '.join(run.also)}: trained elsewhere, scored beside the losses and not ranked")
    if run.control != "none":
        lines.append(f"Control   {run.control}: this run is a control, its board ranks nothing")
    lines += _noise(campaign)
    lines += _selection(campaign)
    if tuning is not None:
        lines += _tuning(tuning, unfinished)
    return "\n".join([*lines, *_estimates(campaign, unfinished.all)])


def _share(campaign: Campaign) -> list[str]:
    """Return which cells are computed here, where that is not all of them."""
    share, own = campaign.resolved.share, campaign.own
    if share.of == 1:
        return []
    models = ", ".join(dict.fromkeys(cell.model for cell in own))
    return [f"Share     {share}: {len(own)} of the cells, of {models}; harness merge makes one board of all shares"]


def _together(campaign: Campaign) -> list[str]:
    """Return how many processes train each cell, where that is more than one."""
    launch = campaign.jobs[0].launch
    if launch is None:
        return []
    micro = campaign.run.settings.micro_pairs
    own = campaign.run.settings.batch_pairs // launch.count
    return [f"Together  {launch.count} processes train each cell: each takes {own} pairs of a step, {micro} at a time"]


def data_and_time(campaign: Campaign, unfinished: Unfinished) -> list[str]:
    """Return what the plan says of another run on an axis: its noise, its selection, its time and its memory."""
    return [
        *_noise(campaign),
        *_selection(campaign),
        *(line for line in _estimates(campaign, unfinished.all) if line.startswith(("Time", "Memory"))),
    ]


def _noise(campaign: Campaign) -> list[str]:
    return [f"Noise     {noise.in_words}"] if (noise := campaign.resolved.noise) else []


def _selection(campaign: Campaign) -> list[str]:
    """Return how many pairs `--select` keeps, and what it takes; nothing without it."""
    selector, count = campaign.resolved.selector, len(campaign.dataset.train)
    if selector is None:
        return []
    kept, pairs = selector.count(count), f"{count} training pairs"
    line = f"Select    {selector} keeps {kept} of {pairs}"
    if selector.needs_lists:
        lists = f"the training lists of {pairable(campaign.dataset.listwise_train)} prompts"
        line = f"Select    {selector} makes {kept} pairs out of {lists}, in the place of {pairs}"
    if selector.probe_pairs:
        line += f"; first a probe, DPO on {selector.probe_pairs} pairs, is trained, charged to every cell"
    elif selector.needs_logps:
        line += "; the start checkpoint reads all of them, charged to every cell"
    return [line]


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
    run = campaign.run
    if not todo:
        return []
    shapes = {run.called(model): shape for model in run.models if (shape := shape_in(run, model)) is not None}
    known = [cell for cell in todo if cell.model in shapes]
    selector, candidates = campaign.resolved.selector, visits(campaign.dataset, run)
    tokens, choosing = candidates.of(selector), candidates.choosing(selector)
    costs = estimates(run, tokens, ((cell, shapes[cell.model].parameters) for cell in known), choosing=choosing)
    if not costs:
        return ["Estimate  none: the size of these models is not known before they are loaded"]
    works = [
        Work(
            model=cell.model,
            shape=shapes[cell.model],
            cost=cost,
            points=_points(run, cell),
            moving=cell.system.loss.moving_reference is not None,
        )
        for cell, cost in zip(known, costs, strict=True)
    ]
    placing, epochs = campaign.placing, costs[0].plan.epochs
    lines = []
    if epochs is not None and epochs > 1:
        lines = [f"Epochs    {epochs:.2f}: the budget is larger than the data, so pairs are seen more than once"]
    of_choosing = sum(cost.choosing for cost in costs)
    flops = sum(cost.flops for cost in costs) + of_choosing
    counted = f"about {sum(cost.tokens for cost in costs) / 1e6:.2f} M tokens, {flops:.2g} FLOPs"
    counted += f" ({of_choosing:.2g} of them for choosing pairs, charged to every cell)" if of_choosing else ""
    lines += [
        f"Estimate  {counted}, from {CHARACTERS_PER_TOKEN} characters per token; estimates, as are these:",
        f"Time      {time_in_words(run, works, tokens, placing.at_full_speed)}",
        *([f"          {_answer_time(campaign, todo, shapes)}"] if run.generate else []),
        *_headed("Devices", devices_in_words(run, works, tokens, placing)),
        *_headed("Memory", _memory(campaign, works, tokens, [cell.system.loss for cell in known])),
        f"Disk      {_disk(campaign, works)}"
        + (f"; and up to {_answer_bytes(campaign, todo) / 1e6:.2g} MB of answers" if run.generate else ""),
        *_checkpoints(run, works, tokens, placing.workers),
    ]
    if len(known) < len(todo):
        lines.append(f"          without {len(todo) - len(known)} cells of models whose size is not known")
    return lines


def _points(run: Run, cell: Cell) -> int:
    """Return how often a cell is scored; a trial once."""
    return 1 if _is_trial(cell) else max(1, len(run.evaluate_at))


def _is_trial(cell: Cell) -> bool:
    trial = cell.system.trial
    return trial is not None and trial.trials is None


def _answers(campaign: Campaign, todo: Sequence[Cell]) -> Mapping[str, int]:
    """Return how many answers are to be sampled, by model: those of its unfinished cells, and once of its start.

    A trial answers nothing; what is chosen from the trials has a start of its own.
    """
    run = campaign.run
    cells = [cell for cell in todo if not _is_trial(cell)]
    times = Counter(model for model, _ in {(cell.model, cell.system.trial is None) for cell in cells})
    for cell in cells:
        times[cell.model] += _points(run, cell)
    each = len(answered_prompts(run, campaign.dataset)) * run.samples
    return {model: count * each for model, count in times.items()}


def _answer_time(campaign: Campaign, todo: Sequence[Cell], shapes: Mapping[str, ModelShape]) -> str:
    known = [(shapes[model], count) for model, count in _answers(campaign, todo).items() if model in shapes]
    at_once = campaign.placing.at_full_speed
    return answer_time_in_words(campaign.run, campaign.scorer.source.name, known, at_once)


def _answer_bytes(campaign: Campaign, todo: Sequence[Cell]) -> float:
    return float(sum(_answers(campaign, todo).values()) * campaign.run.max_new_tokens * BYTES_PER_TOKEN)


def _memory(campaign: Campaign, works: Sequence[Work], tokens: Visits, losses: Sequence[Loss]) -> list[str]:
    shapes = {work.model: work.shape for work in works}
    batch = Batch(packed=tokens.packed, longest=tokens.longest)
    placing = campaign.placing
    return memory_lines(campaign.run, shapes, batch, losses, placing.devices[0].planned, placing.on_cpu)


def _disk(campaign: Campaign, works: Sequence[Work]) -> str:
    """Return what is said of the disk: a model's weights at every point are there until all its cells are scored."""
    by_model: dict[str, float] = {}
    kept = campaign.resolved.keep_checkpoints
    for work in works:
        size, merged = left_bytes(campaign.run, work.shape), merged_bytes(campaign.run, work.shape)
        by_model[work.model] = by_model.get(work.model, merged) + size * (work.points - kept)
    at_once = sum(sorted(by_model.values())[-campaign.placing.workers :]) / 1e9
    if kept:
        for_good = sum(left_bytes(campaign.run, work.shape) for work in works) / 1e9
        more = f", and up to {at_once:.2g} GB of those at earlier points, deleted when scored" if at_once else ""
        return f"{for_good:.2g} GB for good, the trained weights of {len(works)} cells{more}"
    at = f" at {len(campaign.run.evaluate_at)} points" if campaign.run.evaluate_at else ""
    return f"up to {at_once:.2g} GB, of trained weights{at} that are deleted when scored; what stays is some MB"


def _checkpoints(run: Run, works: Sequence[Work], tokens: Visits, at_once: int) -> list[str]:
    """Return what checkpoints inside cells take of the disk; nothing where each cell is trained before the first one.

    As many models as are computed side by side have one, and a second one while it takes the place of the first.
    """
    longest = [may_take(run, work, tokens) for work in {(work.shape, work.cost): work for work in works}.values()]
    if run.lora or all(seconds is not None and seconds < run.checkpoint_seconds for seconds in longest):
        return []
    sizes = {work.model: checkpoint_bytes(run, work.shape, moving=work.moving) for work in sorted(works, key=_moves)}
    size = 2 * sum(sorted(sizes.values())[-at_once:]) / 1e9
    every = f"{run.checkpoint_seconds / 60:.10g} min"
    return [f"          and up to {size:.2g} GB to go on with a training that is stopped, written every {every} of it"]


def _moves(work: Work) -> bool:
    return work.moving


def _headed(title: str, lines: Sequence[str]) -> list[str]:
    """Return lines of the plan, the first under its title."""
    return [f"{title if number == 0 else '':<10}{line}" for number, line in enumerate(lines)]
