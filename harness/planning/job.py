"""What a worker process is given, and the record of a cell that failed. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.api import Dataset, Loss, ScorerSource, Selector
from harness.manager import Owner
from harness.planning.elsewhere import Brought
from harness.planning.grid import Cell, System
from harness.planning.launch import Launch
from harness.planning.presets import start_preset
from harness.planning.run_file import PROTOCOL, Run
from harness.run_folder.board_key import BoardKey
from harness.run_folder.checkpoints import find_checkpoint, remove_checkpoints
from harness.run_folder.facts import DataFacts, LossFacts, ModelFacts, ScorerFacts, Spend, TuningFacts
from harness.run_folder.paths import CELLS, LOGS, TRAINED
from harness.run_folder.record import Record
from harness.run_folder.store import write_record
from harness.run_folder.trained import remove_points


@dataclass(frozen=True, kw_only=True)
class Job:
    """The cells of one model, with all that a worker process needs."""

    run: Run
    model: str
    """What boards call it."""
    cells: tuple[Cell, ...]
    owners: Mapping[str, Owner]
    """By the loss's name."""
    dataset: Dataset
    scorer: ScorerSource
    canary: ScorerSource | None
    """The transformers scorer, unless it is the scorer or cannot run."""
    scorer_note: str
    """Why this scorer, where it is not the product's first choice; empty otherwise."""
    folder: Path
    cache: Path
    keep_checkpoints: bool
    chat_template: str = ""
    """The text of `--chat-template`; empty where the tokenizer's own is used."""
    side_by_side: int
    """Models computed at the same time on this machine; wall-clock seconds are to be read with it."""
    threads: int
    """Threads of the worker on CPU; the same for every model of a run, so that the order of work changes no sum."""
    only_tried: bool = False
    """Whether the worker is to find out what it would refuse, and to train nothing."""
    brought: tuple[Brought, ...] = ()
    """Checkpoints trained elsewhere that are scored beside the cells."""
    report_to: tuple[str, ...] = ()
    """Where else steps and metrics are logged: tensorboard, wandb, trackio."""
    selector: Selector | None = None
    """What chooses the training pairs; None: all are kept."""
    probe: Loss | None = None
    """What the selector's probe is trained with; None: it has no probe."""
    device: str = ""
    """Which GPU or node computes it; empty: this machine as it is."""
    launch: Launch | None = None
    """The processes that train its cells together; None: each is trained in the worker alone."""
    source: str = ""
    """Where it is, as `--models` has it; empty: `model` says it."""


def log_path(job: Job) -> Path:
    """Return where the worker's own output goes."""
    device = f"-{job.device.replace(' ', '-')}" if job.device else ""
    return job.folder / LOGS / f"{job.model.strip('/').replace('/', '--')}{device}.log"


def cell_folder(job: Job, key: str) -> Path:
    """Return the folder of a cell."""
    return job.folder / CELLS / key


def loss_facts(job: Job, system: System) -> LossFacts:
    """Return who the loss of a system is and who brought it."""
    loss = system.loss
    owner = job.owners[loss.name]
    reads, reward = bool(loss.needs_reference), bool(loss.reward_needs_reference)
    facts = LossFacts(
        name=str(loss.name),
        options=loss.options(),
        needs_reference=reads,
        tags=(str(loss.comparison), "averaged" if loss.length_normalised else "summed"),
        plugin=owner.distribution,
        version=owner.version,
    )
    beside: dict[str, object] = {} if reward == reads else {"reward_needs_reference": reward}
    return facts.model_copy(update=beside | ({"source": system.source} if system.source else {}))


def learning_rate(job: Job, system: System) -> float:
    """Return the system's own learning rate, or the run's."""
    return job.run.settings.learning_rate if system.learning_rate is None else system.learning_rate


def facts_of_test(data: Dataset) -> dict[str, dict[str, str]]:
    """Return the fact on data that another set's test data are scored; none where the data's own are."""
    return {} if data.tested_on is None else {"tested_on": asdict(data.tested_on)}


def board_key(job: Job) -> BoardKey:
    """Return what must be the same for two records to stand in one table."""
    return job.run.decisive().model_copy(update={"scorer": job.scorer.name})


def failed_record(job: Job, cell: Cell, reason: str) -> Record:
    """Return the record of a cell without scores, as far as it is known before its model is loaded."""
    record = Record(
        protocol=PROTOCOL,
        status="failed",
        reason=reason,
        kind="loss",
        key=cell.key,
        label=cell.system.label,
        loss=loss_facts(job, cell.system),
        learning_rate=learning_rate(job, cell.system),
        model=ModelFacts(name=job.model, preset=start_preset(job.model, job.run.preset, job.run.start)),
        dataset=DataFacts.of(
            {"name": job.dataset.name, "fingerprint": job.dataset.fingerprint, **facts_of_test(job.dataset)}
        ),
        seed=cell.seed,
        board=board_key(job),
        spend=Spend(),
        scorer=ScorerFacts(name=job.scorer.name),
        metrics={},
    )
    trial = cell.system.trial
    return record if trial is None else record.model_copy(update={"tuning": TuningFacts(**asdict(trial))})


def record_failure(job: Job, cell: Cell, reason: str, *, resumable: bool = False) -> None:
    """Write the record of a cell that failed. Needs nothing but the job, so that the parent can write it too.

    `resumable`: its training may go on from its checkpoint, where it has one.
    """
    folder = cell_folder(job, cell.key)
    goes_on = resumable and find_checkpoint(folder) is not None
    if not ((folder / TRAINED).exists() or goes_on):  # it ended in training, of which nobody can use anything
        remove_points(folder)
        remove_checkpoints(folder)
    write_record(folder, failed_record(job, cell, reason))
