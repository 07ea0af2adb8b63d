"""The cells of a run folder that somebody else made, read without taking anything for granted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api.errors import HarnessError
from harness.planning.run_file import PROTOCOL
from harness.run_folder.limits import read_json
from harness.run_folder.paths import CELLS, DEV, POINTS, RECORD, RESPONSES, ROWS, check_run
from harness.run_folder.record import Record, RecordError
from harness.run_folder.store import read_record
from harness.run_folder.tables import RESPONSE_COLUMNS, ROW_COLUMNS, SUBSET

if TYPE_CHECKING:
    import pandas as pd

WORDS = ("pair_id", "prompt_id", "split", "response_id", "chosen_response_id", "rejected_response_id", SUBSET)
"""Columns of text; `listwise` is true or false, all others are numbers."""
NUMBERS = {*ROW_COLUMNS, *RESPONSE_COLUMNS} - {*WORDS, "listwise"}


@dataclass(frozen=True, kw_only=True)
class UntrustedCell:
    """One finished cell."""

    record: Record

    @property
    def name(self) -> str:
        """The cell's folder, as problems name it."""
        return self.record.folder.name

    def file(self, name: str) -> str:
        """Return a file of the cell, as problems name it."""
        return f"{CELLS}/{self.name}/{name}"


@dataclass(frozen=True, kw_only=True)
class WholeCell(UntrustedCell):
    """A scored cell whose two tables can be read."""

    rows: pd.DataFrame
    responses: pd.DataFrame


@dataclass(frozen=True, kw_only=True)
class WholePoint(WholeCell):
    """A point along the run of a scored cell whose two tables can be read; its record is the cell's at that point."""

    @property
    def name(self) -> str:
        """The point's folder, as problems name it."""
        folder = self.record.folder
        return f"{folder.parent.parent.name}/{POINTS}/{folder.name}"

    def file(self, name: str) -> str:
        """Return a file of the point, as problems name it; what is said of it stands in the cell's record."""
        return f"{CELLS}/{self.name.partition('/')[0] if name == RECORD else self.name}/{name}"


@dataclass(frozen=True, kw_only=True)
class WholeDev(WholePoint):
    """The tables of a point on the development split, by which it may be chosen."""

    @property
    def name(self) -> str:
        """The folder of the tables, as problems name it."""
        folder = self.record.folder.parent
        return f"{folder.parent.parent.name}/{POINTS}/{folder.name}/{DEV}"


@dataclass(frozen=True, kw_only=True)
class RunContents:
    """What a run folder holds."""

    cells: tuple[UntrustedCell, ...]
    """Sound records, in the order of their folders."""
    points: tuple[WholePoint, ...]
    """The points along the runs of scored cells whose two tables can be read."""
    dev: tuple[WholeDev, ...]
    """What points along the runs have on the development split, where the two tables can be read."""
    unfinished: int
    """Cell folders without a record."""
    problems: tuple[str, ...]
    """Records that are not sound."""
    table_problems: tuple[str, ...]
    """Tables that are not there, or lack a column, or have one of another type."""

    @property
    def whole(self) -> tuple[WholeCell, ...]:
        """The scored cells whose two tables can be read, and their points along the run."""
        return (*(cell for cell in self.cells if isinstance(cell, WholeCell)), *self.points)


def find_cells(run: Path) -> RunContents:
    """Return the cells of a run folder. Raises `HarnessError` for a folder that is no run."""
    check_run(run)
    folders = sorted(path for path in (run / CELLS).iterdir() if path.is_dir())
    done = [path for path in folders if (path / RECORD).exists()]
    cells, points, dev, problems, table_problems = [], list[WholePoint](), list[WholeDev](), [], []
    for folder in done:
        linked = [path.name for path in (folder, *folder.rglob("*")) if path.is_symlink()]
        if linked:
            problems.append(f"{CELLS}/{folder.name}: got a link ({linked[0]}), expected files; copy what it points to")
            continue
        record, record_problems = _read(folder)
        problems += [f"{CELLS}/{folder.name}/{RECORD}: {problem}" for problem in record_problems]
        if record is not None:
            cell, cell_problems = _with_tables(record)
            cells.append(cell)
            table_problems += cell_problems
            for point in record.points if record.scored else ():
                whole, point_problems = _with_tables(record.at(point), WholePoint)
                points += [whole] if isinstance(whole, WholePoint) else []
                table_problems += point_problems
                if point.dev is not None:
                    on_dev, dev_problems = _with_tables(record.on_dev(point), WholeDev)
                    dev += [on_dev] if isinstance(on_dev, WholeDev) else []
                    table_problems += dev_problems
    return RunContents(
        cells=tuple(cells),
        points=tuple(points),
        dev=tuple(dev),
        unfinished=len(folders) - len(done),
        problems=tuple(problems),
        table_problems=tuple(table_problems),
    )


def _read(folder: Path) -> tuple[Record | None, Sequence[str]]:
    """Return the record of a cell and what is wrong with it, without looking at its tables."""
    try:
        protocol = _protocol(folder)
        if protocol not in (None, PROTOCOL):  # its other fields may have another meaning
            return None, [f"got protocol {protocol!r}, expected {PROTOCOL}; run it again with this harness"]
        record = read_record(folder)
    except RecordError as error:
        return None, error.problems
    if record.key != folder.name:
        return None, [f"got key = {record.key!r}, expected the folder's name {folder.name!r}; rename neither"]
    return record, ()


def _protocol(folder: Path) -> object:
    """Return the protocol that record.json names; None where the file is no record."""
    try:
        content = read_json(folder / RECORD)
    except (OSError, ValueError):  # reading it as a record says what is wrong
        return None
    return content.get("protocol") if isinstance(content, dict) else None


def _with_tables(record: Record, kind: type[WholeCell] = WholeCell) -> tuple[UntrustedCell, list[str]]:
    """Return the cell, or a point of it, and what is wrong with its tables."""
    cell = UntrustedCell(record=record)
    if not record.scored:
        left = [name for name in (ROWS, RESPONSES) if (record.folder / name).exists()]
        return cell, [
            f"{cell.file(name)}: got a table of a cell that {record.status}, expected none; delete it" for name in left
        ]
    try:
        unchecked = record.model_copy(update={"files": None})  # their hashes are a check of their own
        rows, responses = unchecked.rows(), unchecked.responses()
    except HarnessError as error:
        return cell, [str(error)]
    whole = kind(record=record, rows=rows, responses=responses)
    problems = [
        f"{whole.file(name)}: got column {column} of type {table[column].dtype}, expected {wanted}; run the cell again"
        for name, table in ((ROWS, rows), (RESPONSES, responses))
        for column, wanted in _wrong_types(table)
    ]
    return (cell if problems else whole), problems


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
