"""What is checked of each cell of a run folder: each function returns what it checked, how much, and what is wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.exchange.untrusted import NUMBERS, RunContents, UntrustedCell, WholeCell
from harness.run_folder.hashes import file_hash
from harness.run_folder.paths import RECORD, RESPONSES, ROWS
from harness.run_folder.tables import OWNER, PAIR_KEYS, RESPONSE_KEYS
from harness.statistics.metrics import LENBALANCED, METRICS
from harness.statistics.summary import summarise

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 1e-9
"""How far a recomputed metric may be off, absolute and relative: other versions of numpy sum in another order."""
SHOWN = 60
"""Characters of a line that a message shows."""
SCORES = ("sum_logp", "tokens", "ref_sum_logp", "reward", "characters")
"""Columns of responses.parquet that rows.parquet has too, once per side."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was checked."""

    summary: str
    """What was checked, and how much of it."""
    problems: tuple[str, ...] = ()
    """What is wrong, each as file, got, expected, do."""
    notes: tuple[str, ...] = ()
    """What could not be checked, and why that is no problem."""


def check_records(contents: RunContents) -> Check:
    """Every record.json is JSON, of this protocol, complete, and in the folder of its name."""
    number = len(contents.cells)
    notes = [f"{contents.unfinished} cell folders without {RECORD} are not done and do not count"]
    scored = sum(cell.record.scored for cell in contents.cells)
    return Check(
        summary=f"{number} records are of this protocol and complete, {scored} of them of scored cells",
        problems=contents.problems
        or (() if number else ("cells: got no finished cell, expected one; finish the run",)),
        notes=tuple(notes if contents.unfinished else ()),
    )


def check_hashes(contents: RunContents) -> Check:
    """Every table has the sha256 that its record has. Finds damage, not deceit: a new hash is soon written."""
    problems, without, checked = [], [], 0
    points = (*contents.points, *contents.dev)
    cells = [*contents.cells, *points]
    for cell in cells:
        files, folder = cell.record.files, cell.record.folder
        if files is None:
            without.append(cell.name)
            continue
        there = {path.name for path in folder.glob("*.parquet")}
        for name in sorted({*files, *there}):
            wanted = files.get(name)
            got = file_hash(folder / name) if name in there else "no such file"
            checked += name in there
            if got != wanted:
                problems.append(
                    f"{cell.file(name)}: got {got}, expected {wanted or 'no such file'} as {RECORD} says; copy the "
                    "cell's folder anew"
                )
    hashed = len(cells) - len(without)
    of = f"{hashed - len(points)} cells and {len(points)} points" if points else f"{hashed} cells"
    summary = f"{checked} files of {of} have the sha256 that their record has"
    if len(without) == len(cells):
        summary = "no hashes to compare"
    unhashed = f"{len(without)} records have no hashes (written before they had any): {some(without)}"
    return Check(summary=summary, problems=tuple(problems), notes=(unhashed,) if without else ())


def check_tables(contents: RunContents) -> Check:
    """Both tables have their columns and agree on every response."""
    problems = list(contents.table_problems)
    for cell in contents.whole:
        problems += [f"{cell.file(ROWS)}: {problem}" for problem in _row_problems(cell, cell.rows)]
        problems += [f"{cell.file(RESPONSES)}: {problem}" for problem in _response_problems(cell.rows, cell.responses)]
    pairs = sum(len(cell.rows) for cell in contents.whole)
    responses = sum(len(cell.responses) for cell in contents.whole)
    summary = f"{ROWS} ({pairs:,} rows) and {RESPONSES} ({responses:,} rows) of {len(contents.whole)} cells agree"
    return Check(summary=summary, problems=tuple(problems))


def _row_problems(cell: UntrustedCell, rows: pd.DataFrame) -> list[str]:
    problems = _sane(rows, PAIR_KEYS)
    main = rows[rows["split"] != LENBALANCED]
    splits, evaluated = sorted(set(main["split"])), cell.record.board.evaluated_on
    if evaluated is not None and splits != [evaluated]:
        problems.append(f"got pairs of {', '.join(splits) or 'no split'}, expected {evaluated}; run the cell again")
    pairs = cell.record.dataset.test_pairs
    if len(main) != pairs:
        problems.append(f"got {len(main)} pairs, expected {pairs} as {RECORD} says; copy the cell's folder anew")
    gap = rows["score_chosen"].to_numpy(np.float64) - rows["score_rejected"].to_numpy(np.float64)
    off = differing(rows["gap"], gap)
    if off.any():
        problems.append(f"got {off.sum()} gaps that are not score_chosen - score_rejected; run the cell again")
    return problems


def _response_problems(rows: pd.DataFrame, responses: pd.DataFrame) -> list[str]:
    import pandas as pd

    problems = _sane(responses, RESPONSE_KEYS)
    if problems:
        return problems
    known = responses.set_index(list(RESPONSE_KEYS))
    for side in ("chosen", "rejected"):
        places = known.index.get_indexer(pd.MultiIndex.from_frame(rows[["prompt_id", f"{side}_response_id"]]))
        if (places < 0).any():
            lost = rows["pair_id"][places < 0]
            problems.append(
                f"got no {side} response of {len(lost)} pairs ({some(lost)}), expected all; run the cell again"
            )
            continue
        for name in SCORES:
            own = _of_side(side, name)
            off = differing(rows[own], known[name].to_numpy(np.float64, na_value=np.nan)[places])
            if off.any():
                problems.append(
                    f"got another {name} than {own} in {ROWS} for {off.sum()} pairs ({some(rows['pair_id'][off])}), "
                    "expected the same; copy the cell's folder anew"
                )
    return problems


def _of_side(side: str, name: str) -> str:
    """Return the column of rows.parquet that has a response's score."""
    return {"reward": f"reward_{side}", "ref_sum_logp": f"ref_{side}_sum_logp"}.get(name, f"{side}_{name}")


def _sane(table: pd.DataFrame, keys: tuple[str, ...]) -> list[str]:
    """Return what is wrong with a table by itself."""
    twice = table[keys[-1]][table.duplicated(list(keys))]
    problems = (
        [f"got {len(twice)} rows twice ({some(twice)}), expected each once; run the cell again"] if len(twice) else []
    )
    for name in (column for column in table.columns if column in NUMBERS):
        values = table[name].to_numpy(np.float64, na_value=np.nan)
        if np.isinf(values).any():
            problems.append(f"got an infinite {name}, expected a number or NaN; run the cell again")
        if name.endswith("sum_logp") and (values > 0).any():
            problems.append(f"got {name} = {np.nanmax(values):.6g}, expected a log-prob, at most 0; run the cell again")
        if name.endswith("tokens") and not (values >= 1).all():
            problems.append(f"got a {name} that is not 1 or more, expected a count; run the cell again")
    return problems


def check_owners(cells: Sequence[WholeCell]) -> Check:
    """Both tables are of this cell, as their metadata say: two cells of one reward could be swapped."""
    problems, unnamed, checked = [], [], 0
    for cell in cells:
        owners = {ROWS: cell.rows.attrs.get(OWNER), RESPONSES: cell.responses.attrs.get(OWNER)}
        unnamed += [cell.name] if None in owners.values() else []
        checked += None not in owners.values()
        problems += [
            f"{cell.file(name)}: got a table of {owner}, expected one of {cell.record.key}; copy both cells anew"
            for name, owner in owners.items()
            if owner not in (None, cell.record.key)
        ]
    note = f"not checked: tables of {len(unnamed)} cells do not name theirs (earlier version): {some(unnamed)}"
    return Check(
        summary=f"tables of {checked} cells are their own",
        problems=tuple(problems),
        notes=(note,) if unnamed else (),
    )


def check_metrics(cells: Sequence[WholeCell]) -> Check:
    """Every metric that a record has is what its rows give."""
    problems, unknown, new, compared = [], set(), set(), 0
    for cell in cells:
        recorded = cell.record.metrics
        recomputed, _ = summarise(cell.rows, cell.responses, cell.record.averaged)
        unknown |= recorded.keys() - METRICS.keys()
        new |= METRICS.keys() - recorded.keys()
        for name in (name for name in METRICS if name in recorded):
            value = recorded[name]
            got = math.nan if value is None else float(value)
            wanted = recomputed[name]
            compared += 1
            if not near(got, wanted):
                problems.append(
                    f"{cell.file(RECORD)}: got {name} = {got:.12g}, expected {wanted:.12g} as its rows give; run the "
                    "cell again"
                )
    notes = [f"records have metrics this harness does not know: {some(sorted(unknown))}"] if unknown else []
    notes += [f"records lack metrics this harness has, of which the board is made: {some(sorted(new))}"] if new else []
    return Check(
        summary=f"{compared:,} metrics of {len(cells)} cells are what their rows give (tolerance {TOLERANCE:g}, "
        "absolute or relative)",
        problems=tuple(problems),
        notes=tuple(notes),
    )


def near(got: Any, wanted: Any) -> Any:
    """Return whether numbers are those, within `TOLERANCE`; NaN equals NaN. Elementwise where they are arrays."""
    both_missing = np.isnan(got) & np.isnan(wanted)
    return both_missing | (np.abs(got - wanted) <= TOLERANCE * np.maximum(1, np.abs(wanted)))


def differing(column: Any, wanted: Any) -> NDArray[np.bool_]:
    """Return where two columns differ, (n,) bool; NaN equals NaN."""
    left, right = np.asarray(column), np.asarray(wanted)
    if left.dtype.kind in "biuf" and right.dtype.kind in "biuf":
        both_missing = np.isnan(left.astype(np.float64)) & np.isnan(right.astype(np.float64))
        return np.asarray(~((left == right) | both_missing), dtype=np.bool_)
    return np.asarray(left.astype(str) != right.astype(str), dtype=np.bool_)


def some(names: Any) -> str:
    """Return the first three names, for a message."""
    names = list(map(str, names))
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def first_difference(got: str, wanted: str) -> str:
    """Return where two texts differ first, for a message: the line, with what it has from there on."""
    lines, expected = got.splitlines(), wanted.splitlines()
    for number, (line, wanted_line) in enumerate(zip(lines, expected, strict=False), start=1):
        if line != wanted_line:
            line, wanted_line = line.strip(), wanted_line.strip()
            pairs = enumerate(zip(line, wanted_line, strict=False))
            apart = next((place for place, (left, right) in pairs if left != right), 0)
            start = max(0, apart - SHOWN // 2)
            return f"line {number}: {line[start : start + SHOWN]} instead of {wanted_line[start : start + SHOWN]}"
    return f"{len(lines)} lines instead of {len(expected)}"
