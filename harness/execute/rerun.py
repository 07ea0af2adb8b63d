"""`harness verify RUN --rerun N`: cells of a run computed anew in a scratch folder, and held against what RUN has.

A folder by itself cannot show that its log-probs come from the training that it describes; this does. Which cells
they are follows from the content of the run, before anybody asks.
"""

from __future__ import annotations

import hashlib
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.api import HarnessError
from harness.execute.campaign import assemble, carry_out
from harness.execute.elsewhere import data_of, template_of
from harness.execute.resolve import Resolved
from harness.execute.scorer_choice import choose_scorer
from harness.execute.selector_choice import choose_selector
from harness.execute.status import FINISHED
from harness.manager import Manager, plugin_manager, resolver, scorers
from harness.planning.events import CellTrained, Phase, RunEvent
from harness.planning.grid import Cell, System, Trial
from harness.planning.run_file import PROTOCOL, Run
from harness.run_folder.facts import EnvironmentFacts
from harness.run_folder.hashes import file_hash
from harness.run_folder.manifest import Manifest, read_manifest
from harness.run_folder.paths import RECORD
from harness.run_folder.record import Record
from harness.run_folder.store import read_records
from harness.run_folder.tables import RESPONSE_KEYS

if TYPE_CHECKING:
    import pandas as pd

AS_COMPUTED, OTHERWISE = 0, 3
"""Exit codes, as those of `harness verify`."""
SAME_KIND = 1e-6
"""Nats that a response's summed log-prob may lie off on a processor of the same kind, where runs agree to the bit."""
OTHER_KIND = 0.25
"""The same on any other machine; measured, see docs/submit.md."""
SIDES = 0.01
"""The share of pairs that may change sides on any other machine; measured too."""
BITS = ("processor", "device", "torch", "transformers", "threads", "gemm", "path", "models_side_by_side", "processes")
"""What decides the bits of a log-prob, besides the scorer and its version."""
END_ALONE = {"evaluate_at": (), "report": "end", "generate": 0, "prompts": None, "judge": (), "also": (), "trials": 0}
"""What adds to a run and leaves the end of its cells as it is."""

Say = Callable[[str], object]


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One cell, as the run has it and as it was computed anew."""

    key: str
    problem: str
    """What is wrong; empty where nothing is."""
    text: str
    """How far both lie apart."""

    @property
    def line(self) -> str:
        """What is said of it."""
        return f"  {'FAILED' if self.problem else 'ok    '}  {self.key}: {self.problem or self.text}"


def rerun(run: Path, number: int, tolerance: float | None, dataset: str | None, say: Say) -> int:
    """Compute so many cells of a run anew and say, a line per cell, whether it has them so; return the exit code.

    `tolerance`: nats that a summed log-prob may lie off, in the place of that of the machine; `dataset`: where the data
    lie now. Raises `HarnessError` where nothing can be computed: without cells, the loss installed, or the same data.
    """
    records = [each for each in read_records(run) if each.kind == "loss" and each.status in FINISHED]
    if number < 1 or not records:
        raise HarnessError(f"{run}: got {number} of {len(records)} trained cells to compute, expected one at least")
    seed = seed_of(records)
    drawn = random.Random(seed).sample(records, min(number, len(records)))
    manager, manifest = plugin_manager(), read_manifest(run)
    require_computable(run, manifest)
    cells = [cell_of(record, manager) for record in drawn]
    say(f"{run}: {len(cells)} of {len(records)} cells are computed anew, drawn by seed {seed} of the run's content")
    with tempfile.TemporaryDirectory(prefix="harness-rerun-") as scratch:
        resolved = resolved_of(run, manifest, cells, manager, dataset, Path(scratch) / "rerun")
        trouble = compute(resolved, str(manifest.scorer), say)
        anew = {record.key: record for record in read_records(resolved.folder)}
        found = [compare(record, anew.get(record.key), tolerance) for record in drawn]
    for line in [*trouble, *(each.line for each in found)]:
        say(line)
    wrong = sum(bool(each.problem) for each in found)
    say(f"{run}: {wrong} of {len(found)} cells are not what was computed" if wrong else f"{run}: as computed anew")
    return OTHERWISE if wrong or trouble else AS_COMPUTED


def seed_of(records: Sequence[Record]) -> str:
    """Return 16 hex digits that follow from the trained cells of a run and that change with any of them."""
    contents = [f"{record.key} {file_hash(record.folder / RECORD)}" for record in records]
    return hashlib.sha256("\n".join(contents).encode()).hexdigest()[:16]


def require_computable(run: Path, manifest: Manifest) -> None:
    """Raise `HarnessError` where this version measures otherwise, or a model wants to run its own code."""
    if manifest.protocol != PROTOCOL:
        raise HarnessError(f"{run}: got protocol {manifest.protocol}, expected {PROTOCOL}, that of this version")
    if manifest.run.get("trust_remote_code"):
        raise HarnessError(
            f"{run}: got trust-remote-code, expected none: a model's own code is not run for somebody else's run; run "
            "its command yourself, where you trust it"
        )


def cell_of(record: Record, manager: Manager) -> Cell:
    """Return the cell that a record describes. Raises `HarnessError` where its loss is not installed."""
    facts, tuning = record.loss, record.tuning
    where = f"{record.folder / RECORD}: got loss '{facts.name}'"
    if facts.source:
        raise HarnessError(f"{where}, which a script or notebook defined; expected one that is installed as a plugin")
    try:
        loss = resolver(manager)(facts.name, facts.options)
    except HarnessError as error:
        pip = f"{facts.plugin}=={facts.version}" if facts.plugin and facts.version else "its plugin"
        raise HarnessError(f"{where} of {facts.plugin} {facts.version}, which is not installed here ({error}); "
                           f"install it: pip install {pip}") from None  # fmt: skip
    assert record.seed is not None, "a trained cell has its seed"
    trial = None if tuning is None else Trial(**tuning.model_dump())
    rate = None if tuning is None else record.learning_rate
    system = System(loss=loss, label=record.label, learning_rate=rate, trial=trial)
    return Cell(key=record.key, model=record.model.name, system=system, seed=record.seed)


def resolved_of(
    run: Path, manifest: Manifest, cells: Sequence[Cell], manager: Manager, dataset: str | None, folder: Path
) -> Resolved:
    """Return what computes these cells as the run did, without what only adds to it."""
    asked, data = data_of(run, manifest, dataset, manager)
    settings = asked.model_copy(update=END_ALONE)
    assert isinstance(settings, Run)
    return Resolved(
        run=settings,
        folder=folder,
        grid=tuple(cells),
        dataset=data,
        manager=manager,
        keep_checkpoints=False,
        chat_template=template_of(run, settings),
        selector=choose_selector(settings, data, manager),
    )


def compute(resolved: Resolved, scorer: str, say: Say) -> list[str]:
    """Compute the cells; return what went wrong with whole models, a line each."""

    def report(model: str, event: RunEvent) -> None:
        if isinstance(event, Phase):
            say(f"[{model}] {event.text}")
        elif isinstance(event, CellTrained):
            say(f"[{model}] trained {event.key}: {event.seconds:.1f} s")

    campaign = assemble(resolved, choose_scorer(scorer, scorers(resolved.manager)))
    return carry_out(campaign, report)


def compare(record: Record, anew: Record | None, tolerance: float | None) -> Compared:
    """Return how a cell compares with itself computed anew."""
    if anew is None:
        return Compared(key=record.key, problem="could not be computed", text="")
    if anew.status != record.status:
        problem = f"got status {record.status}, expected {anew.status} ({anew.reason or 'as computed'})"
        return Compared(key=record.key, problem=problem, text="")
    if not record.scored:
        return Compared(key=record.key, problem="", text=f"{record.status}, as computed")
    return _compared(record, anew, tolerance)


def _compared(record: Record, anew: Record, tolerance: float | None) -> Compared:
    """Return how the log-probs and the accuracy of two scored records compare."""
    same = same_kind(record, anew)
    allowed = tolerance if tolerance is not None else SAME_KIND if same else OTHER_KIND
    on = "a processor of the same kind" if same else _machines(record, anew)
    kept, made = (each.responses().set_index(list(RESPONSE_KEYS)).sort_index() for each in (record, anew))
    if not kept.index.equals(made.index) or not kept["tokens"].equals(made["tokens"]):
        return Compared(key=record.key, problem="got other responses or tokens than were computed", text="")
    apart, wrong = 0.0, []
    for name in ("sum_logp", "ref_sum_logp"):
        left, right = kept[name].to_numpy(np.float64), made[name].to_numpy(np.float64)
        gap = np.where(np.isnan(left) & np.isnan(right), 0.0, np.abs(left - right))
        apart = max(apart, float(gap.max(initial=0.0)))
        if off := int((~(gap <= allowed)).sum()):
            wrong.append(f"{name} of {off} of {len(gap)} responses off by up to {gap.max():.3g} nats")
    changed, pairs = _changed_sides(record, anew)
    if changed > (0 if same else SIDES * pairs):
        wrong.append(f"{changed} of {pairs} pairs on the other side")
    if wrong:
        most = "" if same else f" and {SIDES:.0%} of the pairs"
        problem = f"got {', '.join(wrong)}, expected at most {allowed:g} nats{most} on {on}"
        return Compared(key=record.key, problem=problem, text="")
    if not apart:
        return Compared(key=record.key, problem="", text="log-probs equal to the bit")
    far = f"log-probs up to {apart:.2g} nats apart (at most {allowed:g})"
    return Compared(key=record.key, problem="", text=f"{far}, {changed} of {pairs} pairs on the other side, on {on}")


def _changed_sides(record: Record, anew: Record) -> tuple[int, int]:
    """Return how many pairs have their rewards in another order, and how many there are."""
    kept, made = (_sides(each) for each in (record, anew))
    return int((kept != made.reindex(kept.index)).sum()), len(kept)


def _sides(record: Record) -> pd.Series[float]:
    """Return by pair 1 where the chosen response has the higher reward, -1 where the lower, 0 without one."""
    rows = record.rows()
    rows = rows[rows["split"] == record.board.evaluated_on].set_index("pair_id")
    gap = rows["reward_chosen"] - rows["reward_rejected"]
    return (gap > 0).astype(float) - (gap < 0).astype(float)


def same_kind(record: Record, anew: Record) -> bool:
    """Return whether both were computed by what gives the same bits; an accelerator need not."""
    bits = [(_bits(each.environment), each.scorer.name, each.scorer.version) for each in (record, anew)]
    return bits[0] == bits[1] and record.environment.device == "cpu" and record.environment.processor is not None


def _bits(environment: EnvironmentFacts) -> tuple[object, ...]:
    return tuple(getattr(environment, name) for name in BITS)


def _machines(record: Record, anew: Record) -> str:
    """Return in what the machines of two records differ."""
    mine, here = record.environment, anew.environment
    apart = [
        f"{name} {getattr(mine, name)} / {getattr(here, name)}"
        for name in BITS
        if getattr(mine, name) != getattr(here, name)
    ]
    scorers_apart = f"scorer {record.scorer.version} / {anew.scorer.version}"
    apart += [scorers_apart] if record.scorer.version != anew.scorer.version else []
    unknown = "its processor is not recorded" if mine.device == "cpu" else f"an accelerator, {mine.device}"
    return f"another machine ({', '.join(apart) or unknown})"
