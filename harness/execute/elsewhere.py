"""Checkpoints that were trained elsewhere, scored beside a finished run or on a data set alone: `harness score`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.api import Dataset, DatasetSource, HarnessError
from harness.data.sources import load_test
from harness.data.template_file import read_template, template_key
from harness.execute import workers
from harness.execute.campaign import Campaign, canary_of, data_facts, locked, made_here
from harness.execute.local import Start, execute_scoring
from harness.execute.preflight import check_data, check_folder, check_model
from harness.execute.resolve import limited, load_data, load_options, located
from harness.execute.scorer_choice import ChosenScorer, choose_scorer
from harness.execute.stop import Stop
from harness.execute.worker_process import WorkerProcess
from harness.manager import Manager, datasets, plugin_manager, resolver, scorers
from harness.planning.elsewhere import Brought, ScoreRun, brought
from harness.planning.events import Phase, RunEvent
from harness.planning.job import Job
from harness.planning.processors import threads_each
from harness.planning.run_file import PROTOCOL, Run, make_run
from harness.run_folder.manifest import Manifest, read_manifest, with_start_checkpoints, write_manifest
from harness.run_folder.paths import ELSEWHERE_BOARDS, MANIFEST, cache_folder, check_run, has_records
from harness.run_folder.store import read_records

Say = Callable[[str], object]
OF_SCORED = (
    *("dataset", "scorer", "preset", "max_length", "max_prompt", "dtype", "evaluate_on", "trust_remote_code"),
    *("chat_template", "lenient", "test", "test_columns", "columns", "splits", "pairs_from_labels", "limit"),
    *("data_seed", "noise"),
)
"""The options that a manifest of scored checkpoints keeps; those of training have no meaning there."""


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """Checkpoints to score that have been checked as far as that is cheap."""

    run: Run
    folder: Path
    dataset: Dataset
    scorer: ChosenScorer
    manager: Manager
    brought: tuple[Brought, ...]
    chat_template: str = ""
    """The text of the template that the run was given; empty where the tokenizers' own are used."""
    start: Start | None = None
    """What starts a worker; None: a process here, as this machine is."""


def beside(run: Path, checkpoint: Brought, dataset: str | None, trust_remote_code: bool) -> Scoring:
    """Return the scoring of a checkpoint on the held-out pairs of a finished run.

    `dataset`: where its data lie now, where that is not where they lay. Raises `HarnessError`, one line, where they
    are other data or cannot be found, and for runs that cannot take a row.
    """
    check_run(run)
    manifest = read_manifest(run)
    if manifest.protocol != PROTOCOL:
        raise HarnessError(
            f"{run}: got protocol {manifest.protocol}, expected {PROTOCOL}, by which this version measures; make the "
            "run again"
        )
    if not has_records(run):
        raise HarnessError(
            f"got {run} without a finished cell, expected at least its baseline rows; finish the run first"
        )
    manager = plugin_manager()
    settings, data = data_of(run, manifest, dataset, manager)
    if trust_remote_code:
        settings = settings.model_copy(update={"trust_remote_code": True})
    return Scoring(
        run=settings,
        folder=run,
        dataset=data,
        scorer=_scorer(str(manifest.scorer), manager),
        manager=manager,
        brought=(checkpoint,),
        chat_template=template_of(run, settings),
    )


def template_of(run: Path, settings: Run) -> str:
    """Return the text of the chat template that a run was given, read again; empty where it was given none."""
    if settings.chat_template is None:
        return ""
    text = read_template(settings.chat_template)
    if settings.on(chat_template=template_key(text)).decisive() != settings.decisive():
        raise HarnessError(
            f"{run}: got another chat template in {settings.chat_template}, expected that of the run; put it back"
        )
    return text


def data_of(run: Path, manifest: Manifest, dataset: str | None, manager: Manager) -> tuple[Run, Dataset]:
    """Return a run with its data, read again."""
    asked = make_run(dict(manifest.run) | ({"dataset": dataset} if dataset else {}))
    key, known = manifest.decisive, manifest.dataset
    if key is None or known is None:
        raise HarnessError(f"{run}: got a manifest without its settings or its data; make the run again")
    settings = asked.on(
        data=key.dataset or "", test=key.test or "", chat_template=key.chat_template or "", names=manifest.local_models
    )
    if key.budget is None:
        settings = ScoreRun.of(settings)
    named = datasets(manager)
    try:
        data = _test_data(settings, named) if isinstance(settings, ScoreRun) else load_data(asked, named)
    except HarnessError as error:
        raise HarnessError(f"{run}: its data cannot be read: {error}; say where they lie now by --dataset") from None
    if data.fingerprint != known.fingerprint:
        raise HarnessError(
            f"{run}: got other data in {asked.dataset} (fingerprint {data.fingerprint}), expected those of the run "
            f"({known.fingerprint}); say where these lie now by --dataset, or make a new run"
        )
    return settings, data


def _test_data(run: Run, named: Mapping[str, DatasetSource]) -> Dataset:
    """Return the held-out data of a data set or of an evaluation set, cut to the limit."""
    return limited(load_test(run.dataset, load_options(run), named), run.limit)


def scored_run(values: Mapping[str, Any]) -> Run:
    """Return the settings of scoring on a data set; what is not given is as `--help` says, whatever the machine."""
    return make_run({"preset": "paper", "dtype": "float32", **values})


def alone(options: Run, checkpoint: Brought, output: Path | None) -> Scoring:
    """Return the scoring of a checkpoint on the held-out pairs of a data set.

    Raises `HarnessError` where there are none, and where the folder holds other results.
    """
    manager = plugin_manager()
    named = datasets(manager)
    data = _test_data(options, named)
    run, folder = located(ScoreRun.of(options), data, output, named, {})
    check_data(data, run)
    scorer = _scorer(run.scorer, manager)
    check_folder(folder, run, data, scorer.source.name)
    return Scoring(run=run, folder=folder, dataset=data, scorer=scorer, manager=manager, brought=(checkpoint,))


def also(campaign: Campaign) -> Scoring:
    """Return the scoring of the checkpoints that a run names by `--also`, beside its finished cells."""
    return Scoring(
        run=campaign.run,
        folder=campaign.folder,
        dataset=campaign.dataset,
        scorer=campaign.scorer,
        manager=campaign.resolved.manager,
        brought=tuple(Brought(model=model) for model in campaign.run.also),
        chat_template=campaign.resolved.chat_template,
        start=campaign.start_on(campaign.placing.devices[0]),
    )


def request(model: str, reward: str | None, reference: str | None, *, in_run: bool) -> Brought:
    """Return what is asked for. Raises `HarnessError` for what is no checkpoint and for a reward that is none."""
    check_model(model, "--model")
    if reference is not None:
        check_model(reference, "--reference")
    return brought(model, reward, reference, resolver(plugin_manager()), in_run=in_run)


def carry_out_scoring(scoring: Scoring, say: Say) -> list[str]:
    """Score each checkpoint that has no row yet; return what went wrong, one line per checkpoint."""
    trouble: list[str] = []

    def report(_: str, event: RunEvent) -> None:
        if isinstance(event, Phase):
            say(event.text)

    with locked(scoring.folder):
        for checkpoint in scoring.brought:
            try:
                execute_scoring(_job(scoring, checkpoint), scoring.start or WorkerProcess.started, report, Stop())
            except HarnessError as error:
                trouble.append(f"{checkpoint.model}: {error}")
        _write_manifests(scoring)
    return trouble


def _job(scoring: Scoring, checkpoint: Brought) -> Job:
    return Job(
        run=scoring.run,
        model="score",
        cells=(),
        owners={},
        dataset=scoring.dataset,
        scorer=scoring.scorer.source,
        canary=canary_of(scoring.scorer, scoring.manager),
        scorer_note=scoring.scorer.note,
        folder=scoring.folder,
        cache=cache_folder(),
        keep_checkpoints=False,
        side_by_side=1,
        threads=threads_each(),
        brought=(checkpoint,),
        chat_template=scoring.chat_template,
    )


def _scorer(name: str, manager: Manager) -> ChosenScorer:
    """Return the scorer of this name; the imports of its worker begin."""
    workers.context(vllm=name != "transformers")
    return choose_scorer(name, scorers(manager))


def _write_manifests(scoring: Scoring) -> None:
    """Write the manifest of each folder that holds nothing but scored checkpoints; a run's own stays as it is."""
    run = ScoreRun.of(scoring.run)
    kept = {name: value for name, value in run.as_json().items() if name in OF_SCORED and value is not None}
    folders = [scoring.folder] if isinstance(scoring.run, ScoreRun) else []
    for folder in (*folders, scoring.folder / ELSEWHERE_BOARDS):
        if not has_records(folder):
            continue
        records = read_records(folder)
        manifest = (
            read_manifest(folder)
            if (folder / MANIFEST).exists()
            else made_here().model_copy(
                update={
                    "run": kept,
                    "decisive": run.decisive(),
                    "scorer": scoring.scorer.source.name,
                    "dataset": data_facts(scoring.dataset),
                }
            )
        )
        models = tuple(sorted({record.model.name for record in records}))
        write_manifest(folder, with_start_checkpoints(manifest.model_copy(update={"models": models}), records))
