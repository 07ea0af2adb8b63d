"""Records of several machines or contributors -> one run folder, each verified first. Imports no torch."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.api.errors import HarnessError
from harness.exchange import merged_manifest
from harness.exchange.merge_conflicts import check_alike, check_same_result
from harness.exchange.merge_judgements import Judged, judged_of
from harness.exchange.run_checks import check_pairs
from harness.exchange.untrusted import find_cells
from harness.exchange.verify import FAILED, PASSED, Verdict, verify
from harness.leaderboard import write
from harness.planning.run_file import make_run
from harness.run_folder.manifest import Manifest, read_manifest, write_manifest
from harness.run_folder.paths import (
    CELL_FILES,
    CELLS,
    DEV,
    RUN_FILE,
    TRIALS,
    TUNED,
    check_new,
    new_folder,
    point_folder,
    runs_inside,
)
from harness.run_folder.record import Record
from harness.run_folder.store import read_records, write_atomically


class UnverifiedError(HarnessError):
    """A run with problems, which is not merged; `verdicts` has one per run."""

    def __init__(self, verdicts: Sequence[Verdict]) -> None:
        self.verdicts = tuple(verdicts)
        bad = [verdict for verdict in verdicts if verdict.problems]
        got = f"{len(bad[0].problems)} problems ({bad[0].problems[0]})"
        super().__init__(f"{bad[0].run}: got {got}, expected none; see harness verify")


@dataclass(frozen=True, kw_only=True)
class Merged:
    """What became of the cells of each run."""

    into: Path
    taken: Mapping[str, tuple[str, ...]]
    """The keys of the cells that each run brought, by the run's name."""
    doubled: Mapping[str, tuple[str, ...]]
    """The keys of the cells that each run had too, where those of an earlier run were kept."""
    apart: float
    """Largest difference in nats between two runs' scores of the same start checkpoint."""
    left_out: int = 0
    """Tables of judges about answers of a doubled cell that are not the kept ones."""
    missing: int = 0
    """Cells that were asked for and that no run has."""
    inner: tuple[Merged, ...] = ()
    """The runs inside the run: its trials, and what was chosen from them."""

    def text(self) -> str:
        """Return what was done, for people."""
        lines = [f"{self.into}: {self._cells()} of {len(self.taken)} runs, all verified; leaderboards are rebuilt"]
        for name, keys in self.taken.items():
            also = len(self.doubled[name])
            lines.append(f"  {name}: {len(keys)} cells" + (f", and {also} that an earlier run has too" if also else ""))
        for part in self.inner:
            lines.append(f"  {part.into.relative_to(self.into)}: {part._cells()} from {', '.join(part.taken)}")
        apart = max(self.apart, *(part.apart for part in self.inner), 0.0)
        if apart:
            lines.append(f"  the runs' scores of the start checkpoint lie up to {apart:.2g} nats apart")
        missing = self.missing + sum(part.missing for part in self.inner)
        if missing:
            lines.append(
                f"  missing: {missing} cells that were asked for; compute them, or merge the runs that have them"
            )
        left_out = self.left_out + sum(part.left_out for part in self.inner)
        if left_out:
            lines.append(f"  left out: {left_out} tables of judges about other answers than those that are kept")
        return "\n".join(lines)

    def _cells(self) -> str:
        return f"{sum(map(len, self.taken.values()))} cells"


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One folder of the merged run, in memory."""

    merged: Merged
    kept: Mapping[str, Record]
    judged: Mapping[str, Judged]
    """What judges said of the cells, by their keys."""
    manifest: Manifest
    trials: str
    """The text of trials.csv; empty where there is none."""


def merge(runs: Sequence[Path], into: Path) -> Merged:
    """Write the cells of all `runs` into the new run folder `into`, with its manifest and its leaderboards.

    Tuned boards and their trials, runs inside the run, are merged each for itself. A cell that two runs have is kept
    once, the first given, where its results are the same; what the machine decides (seconds, memory, versions) may
    differ. Scores of the baseline rows, which every run brings, may differ by `merge_conflicts.NEARLY`. What judges
    said of the kept answers is kept, whichever run has it. Nothing is written unless all is well.

    Raises `UnverifiedError`, and `HarnessError` for runs that cannot stand in one folder and for results that disagree.
    """
    if len(runs) < 2:
        raise HarnessError(f"got {len(runs)} runs, expected two or more to merge; name them all")
    check_new(into)
    folders = dict(zip(_names(runs), runs, strict=True))
    inner = {name: [folder.relative_to(run).as_posix() for folder in runs_inside(run)] for name, run in folders.items()}
    verdicts = [verify(folder) for run in runs for folder in (run, *runs_inside(run))]
    if any(verdict.problems for verdict in verdicts):
        raise UnverifiedError(verdicts)
    _check_trials(inner)
    main = _joined(folders, into)
    parts = [
        _joined({name: folders[name] / place for name in folders if place in inner[name]}, into / place)
        for place in dict.fromkeys(place for places in inner.values() for place in places)
    ]
    with new_folder(into) as run:
        _write(run, main)
        for part in parts:
            _write(run / part.merged.into.relative_to(into), part)
        write(run)
    return replace(main.merged, inner=tuple(part.merged for part in parts))


def _check_trials(inner: Mapping[str, Sequence[str]]) -> None:
    """Raise `HarnessError` where runs were tuned with other numbers of trials; runs without any may join."""
    names = {name: dict.fromkeys(Path(place).name for place in places) for name, places in inner.items()}
    tuned = {name: [place for place in places if place.startswith(TUNED)] for name, places in names.items()}
    known = {name: places for name, places in tuned.items() if places}
    first = next(iter(known), "")
    for name, places in known.items():
        if places != known[first]:
            numbers = [", ".join(place.removeprefix(TUNED) for place in of_run) for of_run in (places, known[first])]
            raise HarnessError(
                f"the runs cannot be merged: got {numbers[0]} trials per loss in {name} and {numbers[1]} in {first}; "
                f"expected the same, because tuning must be equal; run {name} again with --trials {numbers[1]}"
            )


def _joined(folders: Mapping[str, Path], into: Path) -> _Part:
    """Return the cells of all folders as one, each kept once."""
    records = {name: read_records(folder) for name, folder in folders.items()}
    check_alike(records)
    kept: dict[str, Record] = {}
    copies: dict[str, list[Path]] = {}
    taken: dict[str, list[str]] = {name: [] for name in folders}
    doubled: dict[str, list[str]] = {name: [] for name in folders}
    apart = 0.0
    for name, of_run in records.items():
        for record in of_run:
            key = record.key
            copies.setdefault(key, []).append(record.folder)
            if key in kept:
                apart = max(apart, check_same_result(kept[key], record))
                doubled[name].append(key)
            else:
                kept[key] = record
                taken[name].append(key)
    judged = {key: judged_of(folders_of_cell) for key, folders_of_cell in copies.items()}
    lists = [path for folder in folders.values() if (path := folder / TRIALS).is_file()]
    manifest = merged_manifest.manifest(
        {name: read_manifest(folder) for name, folder in folders.items()}, taken, doubled
    )
    there = {(record.label, record.model.name, record.seed) for record in kept.values()}
    return _Part(
        merged=Merged(
            into=into,
            taken={name: tuple(keys) for name, keys in taken.items()},
            doubled={name: tuple(keys) for name, keys in doubled.items()},
            apart=apart,
            left_out=sum(each.left_out for each in judged.values()),
            missing=sum(cell not in there for cell in manifest.cells),
        ),
        kept=kept,
        judged=judged,
        manifest=manifest,
        trials=merged_manifest.trials([path.read_text("utf-8") for path in lists]) if lists else "",
    )


def run_merge(runs: Sequence[Path], into: Path) -> tuple[str, int]:
    """Return what `harness merge RUN... --into FOLDER` says, and its exit code: 0, or 3 where a run is not verified."""
    try:
        return merge(runs, into).text(), PASSED
    except UnverifiedError as error:
        bad = [verdict.text() for verdict in error.verdicts if verdict.problems]
        return "\n\n".join([*bad, "nothing was merged: every run must be verified"]), FAILED


def _names(runs: Sequence[Path]) -> list[str]:
    """Return a name for each run: its folder's, numbered where two are alike."""
    names: list[str] = []
    for run in runs:
        name, number = run.resolve().name, 2
        while name in names:
            name, number = f"{run.resolve().name}-{number}", number + 1
        names.append(name)
    return names


def _write(folder: Path, part: _Part) -> None:
    """Write one folder of the merged run. Raises `HarnessError` where its cells are not of the same pairs."""
    for key, record in part.kept.items():
        (folder / CELLS / key).mkdir(parents=True)
        for name in (name for name in CELL_FILES if (record.folder / name).is_file()):
            shutil.copyfile(record.folder / name, folder / CELLS / key / name)
        for point in record.points:
            own, copy = (point_folder(place, point.fraction) for place in (record.folder, folder / CELLS / key))
            copy.mkdir(parents=True)
            for name in (*point.files, *(f"{DEV}/{name}" for name in (point.dev.files if point.dev else ()))):
                (copy / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(own / name, copy / name)
        part.judged[key].write(folder / CELLS / key)
    check = check_pairs(find_cells(folder).whole)
    if check.problems:
        raise HarnessError(f"the runs cannot be merged: {check.problems[0]}")
    write_manifest(folder, part.manifest)
    if part.manifest.run and part.manifest.cells:
        write_atomically(folder / RUN_FILE, make_run(part.manifest.run).as_toml())
    if part.trials:
        write_atomically(folder / TRIALS, part.trials)
