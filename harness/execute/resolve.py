"""What a run asks for, checked: plugins, models, budget and data. Nothing is started, tried or written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from harness.api import Dataset, DatasetSource, HarnessError, LoadOptions, OpenPrompts, Pair, Selector
from harness.data.evaluation import with_test_data
from harness.data.noise import with_noise
from harness.data.open_prompts import open_prompts
from harness.data.sources import brought_by, load, load_test
from harness.data.splits import told_of_each
from harness.data.template_file import read_template, template_key
from harness.execute.default_preset import default_preset, within_windows
from harness.execute.executors import Executor, executor_of
from harness.execute.judge_choice import require_judges
from harness.execute.own_losses import OwnLoss, resolver_with, with_own, with_source
from harness.execute.preflight import check_cache, check_model, local_names
from harness.execute.selector_choice import choose_selector
from harness.execute.trackers import require_trackers
from harness.manager import Manager, datasets, losses, plugin_manager
from harness.planning.axes import expanded
from harness.planning.budget import Budget
from harness.planning.estimates import estimates, visits
from harness.planning.grid import Cell, cells, select
from harness.planning.run_file import Run, make_run
from harness.planning.run_toml import read_run
from harness.planning.share import WHOLE, Share
from harness.run_folder.board_key import BoardKey, content_key
from harness.run_folder.facts import NoiseFacts
from harness.run_folder.manifest import known_manifest
from harness.run_folder.paths import MANIFEST
from harness.statistics.metrics import METRICS

AnyRun = TypeVar("AnyRun", bound=Run)
RUNS = Path("runs")
"""Where runs go without --output-dir."""


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """What a run asks for, checked. Nothing is started or written yet."""

    run: Run
    folder: Path
    grid: tuple[Cell, ...]
    dataset: Dataset
    manager: Manager
    keep_checkpoints: bool
    chat_template: str = ""
    """The text of `--chat-template`; empty where the tokenizers' own are used."""
    selector: Selector | None = None
    """What chooses the training pairs; None: all are kept."""
    noise: NoiseFacts | None = None
    """What noise will change in the labels; None where there is none."""
    report_to: tuple[str, ...] = ()
    """Where else steps and metrics are logged; see `execute/trackers.py`."""
    share: Share = WHOLE
    """Which of the cells are computed here; all of them without `--cells`."""
    executor: Executor = field(default_factory=executor_of)
    """What computes them."""


def run_values(path: Path | None, flags: Mapping[str, Any]) -> Run:
    """Return the run of a file and flags, as `runs_of` does. Raises `HarnessError` where an axis makes several."""
    run, *others = runs_of(path, flags)
    if others:
        raise HarnessError(
            f"got several values of a setting, which make {len(others) + 1} runs, expected one; give one value"
        )
    return run


def runs_of(path: Path | None, flags: Mapping[str, Any]) -> list[Run]:
    """Return the runs of a file and flags, one per combination of the values of its axes. Flags win over the file.

    Without a preset they have the one that suits their models.
    """
    values = read_run(path) if path else {}
    values |= {name: value for name, value in flags.items() if value is not None}
    return [_run_of(each) for each in expanded(values)]


def _run_of(values: dict[str, Any]) -> Run:
    models = values.get("models", ("qwen",))
    if "preset" not in values and isinstance(models, list | tuple) and all(isinstance(m, str) for m in models):
        values["preset"] = default_preset(models, values.get("start"))
    return within_windows(make_run(values))


def resolve(
    run: Run,
    output: Path | None,
    keep_checkpoints: bool,
    *,
    own: Sequence[OwnLoss] = (),
    report_to: tuple[str, ...] = (),
    data: Dataset | None = None,
) -> Resolved:
    """Return the run, checked: plugins, models, budget, cache and data. Nothing is started, tried or kept.

    `own`: losses of its selection that are not installed; `data`: its data, where they have been read already.
    Raises `HarnessError`, one line, for the first thing that is wrong.
    """
    manager = plugin_manager()
    require_trackers(report_to)
    known = list(losses(manager))
    manager = with_own(manager, own)
    systems = [with_source(each, own) for each in select(run.plugins, known, resolver_with(manager, own))]
    names = local_names(run)
    for model in run.also:
        check_model(model, "--also")
    Budget.parse(run.settings.budget)
    if run.ranked_by not in METRICS or METRICS[run.ranked_by].direction != "higher":
        ranking = [name for name, metric in METRICS.items() if metric.direction == "higher"]
        raise HarnessError(f"--ranked-by got '{run.ranked_by}', expected one of {', '.join(ranking)}")
    check_cache()
    named = datasets(manager)
    data = data or load_data(run, named)
    require_judges(run, data, manager)
    selector = choose_selector(run, data, manager)
    run = run.model_copy(update={"select": str(selector)}) if selector else run
    template = read_template(run.chat_template) if run.chat_template else ""
    run = run.on(chat_template=template_key(template) if template else "")
    run, folder = located(run, data, output, named, names)
    grid = cells([run.called(model) for model in run.models], systems, run.seeds)
    # raises where the budget or the data cannot make one step; in tokens and FLOPs this is an estimate
    estimates(run, visits(data, run).of(selector), ((cell, 1_000_000) for cell in grid))
    return Resolved(
        run=run,
        folder=folder,
        grid=tuple(grid),
        dataset=data,
        manager=manager,
        keep_checkpoints=keep_checkpoints,
        chat_template=template,
        selector=selector,
        noise=with_noise(data, run.noise, run.data_seed).facts,
        report_to=report_to,
    )


def load_data(run: Run, named: Mapping[str, DatasetSource]) -> Dataset:
    """Return the data of a run, cut to its limit. `named`: the data sets that plugins bring."""
    data = limited(_data_of(run, named), run.limit)
    return with_open_prompts(data, open_prompts(run.prompts)) if run.prompts else data


def with_open_prompts(data: Dataset, prompts: OpenPrompts) -> Dataset:
    """Return the data with what models answer in the place of held-out prompts, and a note of what that is."""
    licence = f", licence {prompts.licence}" if prompts.licence else ""
    trained = {pair.context for pair in data.train} & {prompt.context for prompt in prompts.prompts}
    note = f"answers are to {len(prompts.prompts)} prompts of {prompts.source} ({prompts.name}{licence})"
    known = f"; {len(trained)} of them are training prompts" if trained else ""
    return replace(data, to_answer=prompts, notes=(*data.notes, note + known))


def located(
    run: AnyRun, data: Dataset, output: Path | None, named: Mapping[str, DatasetSource], names: Mapping[str, str]
) -> tuple[AnyRun, Path]:
    """Return the run and its folder: local data and local models are known by their content, whatever their path.

    `names`: what local models are called. A folder of an earlier version, which knows the same data or a model by a
    path, goes on with that path.
    """
    run = run.on(test=content_key(data.tested_on.fingerprint) if data.tested_on else "")
    content = "" if brought_by(run.dataset, named) else content_key(data.fingerprint)
    now = run.on(data=content, names=names)
    folders = [RUNS / asked.short_hash() for asked in (now, run.on(data=content), run)]
    folder = output or next((folder for folder in folders if (folder / MANIFEST).exists()), folders[0])
    before = known_manifest(folder)
    key = before.decisive or BoardKey()
    paths = {key.start, *before.models}
    now = run.on(data=content, names={path: name for path, name in names.items() if path not in paths})
    if not content or key.dataset is None or key.knows_content or before.dataset is None:
        return now, folder
    if content_key(before.dataset.fingerprint) != content:
        return now, folder
    return now.model_copy(update={"dataset": key.dataset}).on(data=""), folder


def load_options(run: Run) -> LoadOptions:
    """Return how a run has its data set loaded."""
    return LoadOptions(
        lenient=run.lenient,
        seed=run.data_seed,
        columns=run.columns or "",
        splits=run.splits or "",
        pairs_from_labels=run.pairs_from_labels,
    )


def _data_of(run: Run, named: Mapping[str, DatasetSource]) -> Dataset:
    """Return the data set of a run, with the test data of another set where there is one."""
    options = load_options(run)
    if run.test is None:
        if run.test_columns is not None:
            raise HarnessError("got --test-columns without --test, expected both; columns of --dataset are --columns")
        return load(run.dataset, options, named)
    of_training, of_test = told_of_each(options.splits)
    data = load(run.dataset, replace(options, splits=of_training, needs_test=False), named)
    test_options = replace(options, splits=of_test, columns=run.test_columns or "")
    return with_test_data(data, load_test(run.test, test_options, named))


def limited(data: Dataset, limit: int | None) -> Dataset:
    """Return the data cut to `limit` training pairs and `limit` held-out pairs per split, evenly over subsets."""
    if limit is None:
        return data
    dev, test = _first(data.dev, limit), _first(data.test, limit)
    train, prompts = _first(data.train, limit), {pair.prompt_id for pair in (*dev, *test)}
    trained = {pair.prompt_id for pair in train}
    return replace(
        data,
        train=train,
        dev=dev,
        test=test,
        test_lenbalanced=_first(data.test_lenbalanced, limit),
        listwise_train=tuple(listwise for listwise in data.listwise_train if listwise.prompt_id in trained),
        listwise_dev=tuple(listwise for listwise in data.listwise_dev if listwise.prompt_id in prompts),
        listwise_test=tuple(listwise for listwise in data.listwise_test if listwise.prompt_id in prompts),
        sft=data.sft[: 4 * limit],
        notes=(*data.notes, f"limited to {limit} pairs a split: a trial, not a result"),
    )


def _first(pairs: tuple[Pair, ...], limit: int) -> tuple[Pair, ...]:
    """Return the first pairs, in order; of subsets the first of each in turn, since files list one after the other."""
    seen: Counter[str] = Counter()
    turns = []
    for place, pair in enumerate(pairs):
        seen[pair.subset] += 1
        turns.append((seen[pair.subset], place))
    return tuple(pairs[place] for place in sorted(place for _, place in sorted(turns)[:limit]))
