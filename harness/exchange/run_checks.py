"""What is checked between the cells of a run folder, and of the leaderboards made from them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api.errors import HarnessError
from harness.exchange.cell_checks import Check, differing, first_difference
from harness.exchange.page_check import check_page
from harness.exchange.untrusted import UntrustedCell, WholeCell
from harness.leaderboard import renders, table_of
from harness.run_folder.limits import read_json
from harness.run_folder.manifest import Manifest
from harness.run_folder.paths import BOARD_JSON, BOARDS, MANIFEST, RECORD, RESPONSES, ROWS, TUNING, is_run
from harness.run_folder.record import shared_facts
from harness.run_folder.tables import PAIR_KEYS, RESPONSE_KEYS, SUBSET

if TYPE_CHECKING:
    import pandas as pd

OF_A_PAIR = (
    *("chosen_response_id", "rejected_response_id", "score_chosen", "score_rejected", "gap"),
    *("chosen_characters", "rejected_characters", "true_chosen", "true_rejected"),
)
"""Columns of rows.parquet that come from the data, the same in every cell."""
OF_A_RESPONSE = ("split", "score", "true_quality", "characters", "listwise")


def check_pairs(cells: Sequence[WholeCell]) -> Check:
    """Cells of the same data have the same held-out pairs and responses; those of one model the same token counts."""
    problems: list[str] = []
    first: dict[tuple[str, ...], WholeCell] = {}
    for cell in cells:
        record = cell.record
        of_data = (record.dataset.fingerprint, str(record.board.evaluated_on))
        of_model = (*of_data, record.model.name, str(record.tokens_fingerprint))
        for key, tokens in ((of_data, False), (of_model, True)):
            other = first.setdefault(key, cell)
            problems += _differences(cell, other, tokens) if other is not cell else []
    pairs = sorted({len(cell.rows) for cell in cells})
    summary = f"the held-out pairs ({', '.join(f'{n:,}' for n in pairs) or 'none'}) are the same in {len(cells)} cells"
    return Check(summary=summary, problems=tuple(dict.fromkeys(problems)))


def _differences(cell: WholeCell, other: WholeCell, tokens: bool) -> list[str]:
    """Return how the data of a cell, or its counts of `tokens`, differ from those of another."""
    problems = []
    for name, keys, columns in (
        (ROWS, PAIR_KEYS, ("chosen_tokens", "rejected_tokens") if tokens else (*OF_A_PAIR, SUBSET)),
        (RESPONSES, RESPONSE_KEYS, ("tokens",) if tokens else OF_A_RESPONSE),
    ):
        own, theirs = (_indexed(of_cell, name, keys) for of_cell in (cell, other))
        if not own.index.equals(theirs.index):
            more, less = len(own.index.difference(theirs.index)), len(theirs.index.difference(own.index))
            problems.append(
                f"{cell.file(name)}: got {more} rows more and {less} fewer than in {other.name}, expected the same "
                "ones; run the cell again on the same data"
            )
            continue
        for column in columns:
            off = differing(own[column], theirs[column])
            if off.any():
                problems.append(
                    f"{cell.file(name)}: got another {column} in {off.sum()} rows than in {other.name}, expected the "
                    "same; run the cell again on the same data"
                )
    return problems


def _indexed(cell: WholeCell, name: str, keys: tuple[str, ...]) -> pd.DataFrame:
    table = cell.rows.assign(**{SUBSET: cell.rows.get(SUBSET, "")}) if name == ROWS else cell.responses
    return table.set_index(list(keys)).sort_index()


def check_fingerprints(manifest: Manifest, cells: Sequence[UntrustedCell]) -> Check:
    """Cells of one board share data, and those of one model on it tokens and start checkpoint."""
    problems = []
    known: dict[tuple[Hashable, ...], tuple[str | None, str]] = {}
    if (data := manifest.dataset) is not None:
        known["dataset.fingerprint",] = (data.fingerprint, MANIFEST)
    for cell in cells:
        for name, scope, got in shared_facts(cell.record):
            wanted, where = known.setdefault((name, *scope), (got, cell.name))
            if got != wanted:
                problems.append(
                    f"{cell.file(RECORD)}: got {name} {got!r}, expected {wanted!r} as in {where}; keep cells of "
                    "other data, tokens or checkpoints in a folder of their own"
                )
    models, boards = {cell.record.model.name for cell in cells}, {cell.record.board for cell in cells}
    summary = f"data, tokens and start checkpoints are the same within {len(boards)} settings of {len(models)} models"
    return Check(summary=summary, problems=tuple(dict.fromkeys(problems)))


def check_boards(run: Path) -> list[Check]:
    """The leaderboards in the folder are, byte for byte, what its records give; the page too, as far as can be told."""
    there = [name for name in BOARDS if (run / name).is_file()]
    if not there and run.name == TUNING and is_run(run.parent):
        return [Check(summary="trials have no leaderboard: one is chosen for each loss, and ranked elsewhere")]
    try:
        main = run / BOARD_JSON
        ranked_by = read_json(main).get("ranked_by") if main.is_file() else None
        table, records = table_of(run, ranked_by)
        return [_check_files(run, there, renders(table)), check_page(run, table, records)]
    except HarnessError as error:
        return [Check(summary="no leaderboard can be made of the records", problems=(str(error),))]
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # records are somebody else's: any of these
        problem = f"leaderboard: got {type(error).__name__}: {error}, expected sound records; run the cells again"
        return [Check(summary="no leaderboard can be made of the records", problems=(problem,))]


def _check_files(run: Path, there: Sequence[str], made: Mapping[str, str]) -> Check:
    problems = [
        f"{name}: got other bytes than the records give ({first_difference(_read(run / name), made[name])}), expected "
        f"the same; rebuild it: harness leaderboard {run}"
        for name in there
        if (run / name).read_bytes() != made[name].encode()
    ]
    summary = f"{', '.join(there) or 'no leaderboard'} as the records give, byte for byte"
    return Check(
        summary=summary, problems=tuple(problems), notes=() if there else ("the folder has no leaderboard to compare",)
    )


def _read(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace")
