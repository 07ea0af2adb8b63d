"""The cells of a run folder that somebody else made, read with nothing taken for granted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api.errors import HarnessError
from harness.planning.run_file import PROTOCOL
from harness.run_folder.paths import CELLS, RECORD, RESPONSES, ROWS
from harness.run_folder.store import RESPONSE_COLUMNS, ROW_COLUMNS, Record, read_record

if TYPE_CHECKING:
    import pandas as pd

STATUSES, KINDS = ("ok", "diverged", "failed"), ("loss", "reference")
SHAPE: Mapping[str, type] = {
    **dict.fromkeys(("status", "kind", "label", "key", "loss.name", "model.name", "dataset.fingerprint"), str),
    **dict.fromkeys(("loss.options", "board", "spend", "scorer", "metrics"), dict),
}
"""What every record has, by dotted name."""
SCORED: Mapping[str, type] = {"tokens_fingerprint": str, "dataset.test_pairs": int}
"""What the record of a scored cell has besides."""
WORDS = ("pair_id", "prompt_id", "split", "response_id", "chosen_response_id", "rejected_response_id")
"""Columns of text; `listwise` is true or false, all others are numbers."""
NUMBERS = {*ROW_COLUMNS, *RESPONSE_COLUMNS} - {*WORDS, "listwise"}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One finished cell."""

    record: Record

    @property
    def name(self) -> str:
        """The cell's folder, as problems name it."""
        return self.record.folder.name

    @property
    def scored(self) -> bool:
        """Whether the cell has results."""
        return bool(self.record.fields["status"] == "ok")

    def file(self, name: str) -> str:
        """Return a file of the cell, as problems name it."""
        return f"{CELLS}/{self.name}/{name}"


@dataclass(frozen=True, kw_only=True)
class Whole(Cell):
    """A scored cell whose two tables can be read."""

    rows: pd.DataFrame
    responses: pd.DataFrame


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a run folder holds."""

    cells: tuple[Cell, ...]
    """Sound records, in the order of their folders."""
    unfinished: int
    """Cell folders without a record."""
    problems: tuple[str, ...]
    """Records that are not sound."""
    table_problems: tuple[str, ...]
    """Tables that are not there, or lack a column, or have one of another type."""

    @property
    def whole(self) -> tuple[Whole, ...]:
        """The scored cells whose two tables can be read."""
        return tuple(cell for cell in self.cells if isinstance(cell, Whole))


def find_cells(run: Path) -> Found:
    """Return the cells of a run folder. Raises `HarnessError` for a folder that is none."""
    if not (run / CELLS).is_dir():
        raise HarnessError(f"got {run}, expected a run folder (one with cells/ in it); name the output folder of a run")
    folders = sorted(path for path in (run / CELLS).iterdir() if path.is_dir())
    done = [path for path in folders if (path / RECORD).exists()]
    cells, problems, table_problems = [], [], []
    for folder in done:
        linked = [path.name for path in (folder, *folder.iterdir()) if path.is_symlink()]
        if linked:
            problems.append(f"{CELLS}/{folder.name}: got a link ({linked[0]}), expected files; copy what it points to")
            continue
        try:
            record = read_record(folder)
        except HarnessError as error:
            problems.append(str(error))
            continue
        found = record_problems(record)
        problems += [f"{CELLS}/{folder.name}/{RECORD}: {problem}" for problem in found]
        if not found:
            cell, found = _with_tables(record)
            cells.append(cell)
            table_problems += found
    return Found(
        cells=tuple(cells),
        unfinished=len(folders) - len(done),
        problems=tuple(problems),
        table_problems=tuple(table_problems),
    )


def record_problems(record: Record) -> list[str]:
    """Return what is wrong with the fields of a record, without looking at its tables."""
    fields, found = record.fields, []
    if fields.get("protocol") != PROTOCOL:
        return [f"got protocol {fields.get('protocol')!r}, expected {PROTOCOL}; run it again with this harness"]
    expected = dict(SHAPE) | (dict(SCORED) if fields.get("status") == "ok" else {})
    for path, kind in expected.items():
        value = look_up(fields, path)
        if not isinstance(value, kind) or isinstance(value, bool):
            found.append(f"got {path} = {value!r:.60}, expected a {kind.__name__}; run the cell again")
    if found:
        return found
    for name, known in (("status", STATUSES), ("kind", KINDS)):
        if fields[name] not in known:
            found.append(f"got {name} = {fields[name]!r}, expected one of {', '.join(known)}; run the cell again")
    seed = fields.get("seed")
    if fields["kind"] == "loss" and (not isinstance(seed, int) or isinstance(seed, bool)):
        found.append(f"got seed = {seed!r}, expected a whole number; run the cell again")
    if fields["key"] != record.folder.name:
        found.append(f"got key = {fields['key']!r}, expected the folder's name {record.folder.name!r}; rename neither")
    for name, value in fields["metrics"].items():
        if value is not None and (not isinstance(value, int | float) or isinstance(value, bool)):
            found.append(f"got metric {name} = {value!r:.60}, expected a number or null; run the cell again")
    return found


def look_up(fields: Mapping[str, Any], path: str) -> Any:
    """Return the value under a dotted name; None where there is none."""
    value: Any = fields
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _with_tables(record: Record) -> tuple[Cell, list[str]]:
    """Return the cell and what is wrong with its tables."""
    cell = Cell(record=record)
    if not cell.scored:
        left = [name for name in (ROWS, RESPONSES) if (record.folder / name).exists()]
        status = record.fields["status"]
        return cell, [
            f"{cell.file(name)}: got a table of a cell that {status}, expected none; delete it" for name in left
        ]
    try:
        rows, responses = record.rows(), record.responses()
    except HarnessError as error:
        return cell, [str(error)]
    found = [
        f"{cell.file(name)}: got column {column} of type {table[column].dtype}, expected {wanted}; run the cell again"
        for name, table in ((ROWS, rows), (RESPONSES, responses))
        for column, wanted in _wrong_types(table)
    ]
    return (cell if found else Whole(record=record, rows=rows, responses=responses)), found


def _wrong_types(table: pd.DataFrame) -> Sequence[tuple[str, str]]:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype, is_object_dtype, is_string_dtype

    wrong = []
    for column in table.columns:
        kind = table[column].dtype
        if column in WORDS:
            if not (is_string_dtype(kind) or is_object_dtype(kind)) or table[column].isna().any():
                wrong.append((column, "words, none missing"))
        elif column == "listwise":
            if not is_bool_dtype(kind):
                wrong.append((column, "true or false"))
        elif column in NUMBERS and (not is_numeric_dtype(kind) or is_bool_dtype(kind)):
            wrong.append((column, "numbers"))
    return wrong
