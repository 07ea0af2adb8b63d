"""Whether the points along the run that a record has are those asked for, in order, and end at the cell itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from harness.api.errors import HarnessError
from harness.exchange.cell_checks import TOLERANCE, Check, near
from harness.exchange.untrusted import UntrustedCell
from harness.planning.budget import Budget
from harness.run_folder.checkpoints import find_checkpoint
from harness.run_folder.generation_facts import GenerationFacts
from harness.run_folder.manifest import Manifest
from harness.run_folder.paths import (
    DEV,
    GENERATIONS,
    JUDGEMENTS,
    MANIFEST,
    POINTS,
    RECORD,
    RESPONSES,
    ROWS,
    point_folder,
)
from harness.run_folder.point_facts import PointFacts
from harness.run_folder.record import Record

SPENT = {"step": "steps", "pairs": "pairs", "tokens": "tokens", "flops": "flops", "seconds": "seconds"}
"""What a point says, and what `spend` calls it."""


def check_points(manifest: Manifest, cells: Sequence[UntrustedCell]) -> Check:
    """Scored cells have the points that the run asks for, each as far as its budget, and the last is the cell's own."""
    problems, checked = [], 0
    asked = manifest.run.get("evaluate_at") or []
    for cell in cells:
        record = cell.record
        checked += len(record.points)
        fractions = [point.fraction for point in record.points]
        if record.kind == "loss" and record.scored and manifest.run and fractions != asked:
            problems.append(
                f"{cell.file(RECORD)}: got points at {fractions}, expected {asked} as the run of {MANIFEST} asks for; "
                "run the cell again"
            )
        problems += [f"{cell.file(RECORD)}: {said}; run the cell again" for said in _wrong(record)]
        on_dev = {point.dev is not None for point in record.points}
        if manifest.run and on_dev - {manifest.run.get("report", "end") == "best-on-dev"}:
            problems.append(
                f"{cell.file(RECORD)}: got points {'with' if True in on_dev else 'without'} the key dev, expected them "
                f"as --report {manifest.run.get('report', 'end')} of {MANIFEST} asks for; run the cell again"
            )
        problems += [f"{cell.file(POINTS)}: {said}; copy the cell's folder anew" for said in _other_files(record)]
    return Check(summary=f"{checked} points along the runs of cells are as far as they say", problems=tuple(problems))


def _wrong(record: Record) -> Iterator[str]:
    """Yield what is wrong with the points of a record by themselves, and against its end."""
    points = record.points
    if not points:
        return
    if not record.scored:
        yield f"got points of a cell that {record.status}, expected none"
        return
    for before, after in pairwise(points):
        if not before.fraction < after.fraction or before.step > after.step:
            yield f"got a point at {after.fraction:g}, step {after.step}, behind {before.fraction:g}, {before.step}"
    for point in points:
        yield from _beyond_its_part(record, point)
        if point.pairs != point.step * (record.board.batch_pairs or 0):
            yield f"got {point.pairs} pairs at step {point.step}, expected {record.board.batch_pairs} for each"
    end = points[-1]
    if end.fraction != 1:
        yield f"got a last point at {end.fraction:g}, expected 1, the end"
        return
    for name, of_spend in SPENT.items():
        got, wanted = getattr(end, name), getattr(record.spend, of_spend)
        if got is None or wanted is None or not near(got, wanted):
            yield f"got {name} {got} at the end, expected {wanted} as in spend"
    if end.generation != record.generation:
        yield "got another generation at the end than the record has, expected the same"
    for point in points:
        yield from _other_answers(record, point)
    for name in (ROWS, RESPONSES):
        if record.files is not None and end.files.get(name) != record.files.get(name):
            yield f"got another {name} at the end than the cell's own, expected the same"


def _other_answers(record: Record, point: PointFacts) -> Iterator[str]:
    """Yield where a point has other answers than the cell: none, or sampled in another way, or without their table."""
    own, there = (
        None if facts is None else facts.model_copy(update={"metrics": {}})
        for facts in (record.generation, point.generation)
    )
    if own != there:
        yield f"got {_sampled(there)} at {point.fraction:g}, expected {_sampled(own)} as at the end"
    if (GENERATIONS in point.files) != (there is not None and point.fraction < 1):
        wanted = "with" if there is not None and point.fraction < 1 else "without"
        yield f"got the files {', '.join(point.files)} at {point.fraction:g}, expected them {wanted} {GENERATIONS}"


def _sampled(facts: GenerationFacts | None) -> str:
    if facts is None:
        return "no answers"
    return "answers with " + ", ".join(f"{name} {value}" for name, value in facts.numbers().items())


def _beyond_its_part(record: Record, point: PointFacts) -> Iterator[str]:
    """Yield where a point is not as far as its part of the budget pays for; of seconds that cannot be told."""
    try:
        part = Budget.parse(record.board.budget or "").part(point.fraction)
    except HarnessError:  # the check of the spend says so
        return
    if part.currency in ("steps", "pairs"):
        steps = int(part.amount) // (1 if part.currency == "steps" else record.board.batch_pairs or 1)
        if point.step != steps:
            yield f"got step {point.step} at {point.fraction:g}, expected {steps}, which so much of the budget pays for"
    elif part.currency in ("tokens", "flops"):
        got = getattr(point, part.currency)
        if got is None or got > part.amount * (1 + TOLERANCE):
            yield f"got {part.currency} {got} at {point.fraction:g}, expected at most {part.amount:.10g} of the budget"


def _other_files(record: Record) -> Iterator[str]:
    """Yield which files lie with the points that the record does not have."""
    folder = record.folder / POINTS
    if find_checkpoint(record.folder) is not None:  # its training is to go on, from these points too
        return
    wanted = {
        point_folder(record.folder, point.fraction) / name
        for point in record.points
        for name in (
            *(ROWS, RESPONSES),
            *((f"{DEV}/{ROWS}", f"{DEV}/{RESPONSES}") if point.dev else ()),
            *((GENERATIONS,) if point.generation and point.fraction < 1 else ()),
        )
    }
    judged = {path.parent / JUDGEMENTS for path in wanted if path.name == GENERATIONS}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else ():
        if path not in wanted and path.parent not in judged:
            yield f"got {path.relative_to(folder)}, expected only the tables of the points that {RECORD} has"
