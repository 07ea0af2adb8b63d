"""Records and boards -> tidy tables of pandas: one line per observation, all that it depends on in columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from harness.leaderboard import csv
from harness.leaderboard.row_settings import options_in_words
from harness.leaderboard.table import Table
from harness.planning.trials import OPTION
from harness.run_folder.board_key import BoardKey
from harness.run_folder.paths import GENERATIONS, RESPONSES, ROWS, TRAIN_LOG
from harness.run_folder.record import Record
from harness.run_folder.tables import read_frame

FRAMES: Mapping[str, str] = {"rows": ROWS, "responses": RESPONSES, "steps": TRAIN_LOG, "answers": GENERATIONS}
"""Name of a table of all cells -> the file that each cell has it in."""
WHOLE = ("rank", "rank_low", "rank_high", "tier", "n", "trials", "seed")
"""Columns of whole numbers, some of which may be missing."""
SEVERAL = "seed"
"""Of a board the seeds of a row: text where there are several."""


def board_frame(table: Table) -> pd.DataFrame:
    """Return the lines of leaderboard.csv, its title before them; behind them noise, selection, a column per option."""
    lines = [
        {
            "board": board.title,
            **dict(zip(csv.COLUMNS, line, strict=True)),
            **_training(board.settings),
            **_options(row.options),
        }
        for board, row, line in csv.lines(table)
    ]
    frame = pd.DataFrame(lines)
    numbers = [name for name in (*WHOLE, "value", "low", "high", "learning_rate") if name != SEVERAL]
    frame[numbers] = frame[numbers].apply(pd.to_numeric)
    whole = [name for name in WHOLE if name != SEVERAL]
    return frame.astype(dict.fromkeys(whole, "Int64"))


def cell_frame(records: Sequence[Record], name: str) -> pd.DataFrame:
    """Return one of the tables of all cells under each other, what each cell is before its columns.

    A column of the table that is called as one of those gets the table's name before its own: `step_loss`.
    """
    having = [record for record in records if (record.folder / FRAMES[name]).is_file()]
    frames = []
    for record in having:
        table, facts = read_frame(record.folder / FRAMES[name], ()), _facts(record)
        table = table.rename(columns={column: f"{name.removesuffix('s')}_{column}" for column in facts})
        frames.append(pd.concat([pd.DataFrame(facts, index=table.index), table], axis=1))
    if not frames:
        return pd.DataFrame(columns=[*_facts(records[0])] if records else [])
    frame = pd.concat(frames, ignore_index=True)
    options = [column for column in frame if str(column).startswith(OPTION)]
    return frame[[column for column in frame if column not in options] + options]


def _facts(record: Record) -> dict[str, object]:
    """Return the columns that say which cell a line is of."""
    return {
        "model": record.model.name,
        "label": record.label,
        "loss": record.loss.name,
        "kind": record.kind,
        "options": options_in_words(record.loss.options) if record.kind == "loss" else "",
        "learning_rate": float("nan") if record.learning_rate is None else float(record.learning_rate),
        "budget": record.board.budget,
        "seed": pd.array([record.seed], dtype="Int64")[0],
        "trials": record.board.trials or 0,
        **_training(record.board),
        **_options(record.loss.options if record.kind == "loss" else {}),
    }


def _training(settings: BoardKey) -> dict[str, object]:
    """Return what `--noise` and `--select` made of the training data, empty where nothing, and the optimiser."""
    return {"noise": settings.noise or "", "select": settings.select or "", "optimizer": settings.optimizer or "adamw"}


def _options(options: Mapping[str, object]) -> dict[str, object]:
    """Return a column per option; what is no number, text, yes or no, as text."""
    return {
        f"{OPTION}{name}": value if value is None or isinstance(value, bool | int | float | str) else str(value)
        for name, value in options.items()
    }
