"""Records of several machines or contributors -> one run folder, each verified first. Imports no torch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.api.errors import HarnessError
from harness.config import make_run
from harness.exchange.across import check_pairs
from harness.exchange.cells import find_cells, look_up
from harness.exchange.checks import RESPONSE_KEYS
from harness.exchange.place import check_new, new_folder
from harness.exchange.verify import FAILED, PASSED, Verdict, verify
from harness.leaderboard import write
from harness.store import (
    CELLS,
    RECORD,
    RESPONSES,
    ROWS,
    Record,
    read_manifest,
    read_records,
    write_atomically,
    write_manifest,
)

FILES = (ROWS, RESPONSES, "train.parquet", RECORD)
"""What is copied of a cell."""
OF_THE_MACHINE: Mapping[str, tuple[str, ...]] = {
    "spend": ("seconds", "peak_memory_bytes", "reference_seconds", "reference_cached"),
    "scorer": ("version", "seconds", "parity_max_abs_nats", "note"),
}
"""Parts of a record in which two machines may differ; also `environment`, and what follows from the tables."""
FOLLOWS = ("environment", "files", "metrics", "metric_reasons")
NEARLY = {"float32": (1e-3, 1e-6)}
"""How far two machines' scores of the same start checkpoint may lie apart, in nats and in parts of the sum: in float32
what the canary allows two scorers, else half a percent."""
NEARLY_OTHERWISE = (0.1, 5e-3)
MACHINE_FACTS = ("harness", "versions", "python", "platform", "cpus", "environment", "broken_plugins")


class UnverifiedError(HarnessError):
    """A run that does not hold what it says; `verdicts` has one a run."""

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
    """The keys of the cells that each run had too, and of which an earlier run's were kept."""
    apart: float
    """Largest difference in nats between two runs' scores of the same start checkpoint."""

    def text(self) -> str:
        """Return what was done, for people."""
        total = sum(map(len, self.taken.values()))
        lines = [f"{self.into}: {total} cells of {len(self.taken)} runs, all verified; leaderboards are rebuilt"]
        for name, keys in self.taken.items():
            also = len(self.doubled[name])
            lines.append(f"  {name}: {len(keys)} cells" + (f", and {also} that an earlier run has too" if also else ""))
        if self.apart:
            lines.append(f"  the runs' scores of the start checkpoint lie up to {self.apart:.2g} nats apart")
        return "\n".join(lines)


def merge(runs: Sequence[Path], into: Path) -> Merged:
    """Write the cells of all `runs` into the new run folder `into`, with its manifest and its leaderboards.

    A cell that two runs have is kept once, the first given, where its results are the same; what the machine decides
    (seconds, memory, versions) may differ. Scores of the reference rows, which every run brings, may differ by
    `NEARLY`. Nothing is written unless all is well.
    Raises `UnverifiedError`, and `HarnessError` for runs that cannot stand in one folder and for results that disagree.
    """
    if len(runs) < 2:
        raise HarnessError(f"got {len(runs)} runs, expected two or more to merge; name them all")
    check_new(into)
    verdicts = [verify(run) for run in runs]
    if any(verdict.problems for verdict in verdicts):
        raise UnverifiedError(verdicts)
    names = _names(runs)
    records = {name: read_records(run) for name, run in zip(names, runs, strict=True)}
    manifests = {name: read_manifest(run) for name, run in zip(names, runs, strict=True)}
    _check_alike(records)
    kept: dict[str, Record] = {}
    taken: dict[str, list[str]] = {name: [] for name in names}
    doubled: dict[str, list[str]] = {name: [] for name in names}
    apart = 0.0
    for name, found in records.items():
        for record in found:
            key = str(record.fields["key"])
            if key in kept:
                apart = max(apart, _check_same_result(kept[key], record))
                doubled[name].append(key)
            else:
                kept[key] = record
                taken[name].append(key)
    merged = Merged(
        into=into,
        taken={name: tuple(keys) for name, keys in taken.items()},
        doubled={name: tuple(keys) for name, keys in doubled.items()},
        apart=apart,
    )
    _write(merged, kept, manifests)
    return merged


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


def _check_alike(records: Mapping[str, Sequence[Record]]) -> None:
    """Raise `HarnessError` where runs differ in settings, data, tokens or start checkpoints."""
    boards = {name: {_board(record) for record in found} for name, found in records.items()}
    fullest = max(boards, key=lambda name: len(boards[name]))
    for name, keys in boards.items():
        for key in sorted(keys - boards[fullest]):
            raise HarnessError(
                f"the runs cannot be merged: got other settings in {name} than in {fullest}: "
                f"{_settings_apart(json.loads(key), json.loads(min(boards[fullest])))}; expected one board; merge runs "
                "of the same settings"
            )
    first: dict[tuple[str, ...], tuple[Any, str]] = {}
    for name, found in records.items():
        for record in found:
            model = str(record.fields["model"]["name"])
            places = [
                ("dataset.fingerprint",),
                ("tokens_fingerprint", _board(record), model),
                ("model.fingerprint", model),
            ]
            for place in places if record.fields["status"] == "ok" else places[:1]:
                got = look_up(record.fields, place[0])
                wanted, where = first.setdefault(place, (got, name))
                if got != wanted:
                    of = f" of {model}" if len(place) > 1 else ""
                    raise HarnessError(
                        f"the runs cannot be merged: got {place[0]}{of} {got!r} in {name} and {wanted!r} in {where}; "
                        "expected the same; merge runs of the same data and start checkpoint"
                    )


def _board(record: Record) -> str:
    return json.dumps(record.fields["board"], sort_keys=True)


def _settings_apart(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    names = [*one, *(name for name in other if name not in one)]
    return ", ".join(
        f"{name} {one.get(name)!r} / {other.get(name)!r}" for name in names if one.get(name) != other.get(name)
    )


def _check_same_result(kept: Record, other: Record) -> float:
    """Raise `HarnessError` where two runs' results of a cell differ; return how far the start's scores lie apart."""
    differing = [f"{name} {one!r:.80} / {two!r:.80}" for name, one, two in _fields_apart(kept.fields, other.fields)]
    apart = 0.0
    if not differing and kept.fields["status"] == "ok":
        absolute, relative = (0.0, 0.0)
        if kept.fields["kind"] == "reference":
            absolute, relative = NEARLY.get(str(look_up(kept.fields, "board.dtype")), NEARLY_OTHERWISE)
        one, two = (each.responses().set_index(list(RESPONSE_KEYS)).sort_index() for each in (kept, other))
        if not one.index.equals(two.index):
            differing.append("other held-out responses")
        for column in () if differing else ("sum_logp", "ref_sum_logp", "reward"):
            left, right = one[column].to_numpy(np.float64), two[column].to_numpy(np.float64)
            gap = np.where(np.isnan(left) & np.isnan(right), 0.0, np.abs(left - right))
            apart = max(apart, float(gap.max(initial=0.0)))
            off = ~(gap <= absolute + relative * np.nan_to_num(np.abs(left)))
            if off.any():
                differing.append(f"{column} of {off.sum()} of {len(gap)} responses, by up to {np.max(gap):.3g}")
    if differing:
        raise HarnessError(
            f"got two results of one cell that differ: {kept.folder} / {other.folder}: {'; '.join(differing)}; "
            "expected the same; delete the folder of the one that shall not count"
        )
    return apart


def _fields_apart(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return the fields in which two records differ and that no machine decides."""

    def essential(fields: Mapping[str, Any], name: str) -> Any:
        value = fields.get(name)
        if isinstance(value, Mapping):
            return {key: inner for key, inner in value.items() if key not in OF_THE_MACHINE.get(name, ())}
        return value

    names = [name for name in {**one, **other} if name not in FOLLOWS]
    pairs = [(name, essential(one, name), essential(other, name)) for name in names]
    return [(name, left, right) for name, left, right in pairs if left != right]


def _write(merged: Merged, kept: Mapping[str, Record], manifests: Mapping[str, Mapping[str, Any]]) -> None:
    with new_folder(merged.into) as run:
        for key, record in kept.items():
            (run / CELLS / key).mkdir(parents=True)
            for name in (name for name in FILES if (record.folder / name).is_file()):
                shutil.copyfile(record.folder / name, run / CELLS / key / name)
        check = check_pairs(find_cells(run).whole)
        if check.problems:
            raise HarnessError(f"the runs cannot be merged: {check.problems[0]}")
        manifest = _manifest(merged, manifests)
        write_manifest(run, manifest)
        if manifest["run"]:
            write_atomically(run / "run.toml", make_run(manifest["run"]).as_toml())
        write(run)


def _manifest(merged: Merged, manifests: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the manifest: what all runs share, everything asked of any, and where each cell comes from."""
    first = next(iter(manifests.values()))
    asked = {tuple(cell) for manifest in manifests.values() for cell in manifest.get("cells") or []}
    alike = {
        name: value
        for name, value in first.items()
        if name not in MACHINE_FACTS or all(manifest.get(name) == value for manifest in manifests.values())
    }
    plugins: dict[str, Any] = {}
    for manifest in manifests.values():
        plugins = dict(manifest.get("plugins") or {}) | plugins
    run = dict(first.get("run") or {})
    if run:
        run |= {
            "plugins": ",".join(dict.fromkeys(_spec(str(cell[0])) for cell in sorted(asked))) or run.get("plugins"),
            "seeds": sorted({cell[2] for cell in asked}) or run.get("seeds"),
        }
    models = list(dict.fromkeys(model for manifest in manifests.values() for model in manifest.get("models") or []))
    return alike | {
        "run": run | ({"models": models} if run else {}),
        "models": models,
        "cells": sorted(list(cell) for cell in asked),
        "plugins": plugins,
        "sources": {
            name: {
                **{fact: manifest[fact] for fact in (*MACHINE_FACTS, "plugins", "sources") if fact in manifest},
                "cells": merged.taken[name],
                "cells_of_an_earlier_source": merged.doubled[name],
            }
            for name, manifest in manifests.items()
        },
    }


def _spec(label: str) -> str:
    """Return what --plugins calls the system of this label: simpo(beta=2.5) is simpo:beta=2.5."""
    name, _, options = label.partition("(")
    return f"{name}:{options.removesuffix(')')}" if options else name
