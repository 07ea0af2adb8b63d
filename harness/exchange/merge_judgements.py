"""What judges said of a cell that several runs have: all of it that is about the answers that are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api.errors import HarnessError
from harness.run_folder.full_disk import told
from harness.run_folder.hashes import file_hash
from harness.run_folder.paths import GENERATIONS, POINTS, judgements_files
from harness.run_folder.tables import JUDGED, QUESTION_KEYS, read_judgements, write_judgements

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The tables of judges about one cell."""

    tables: tuple[tuple[Path, pd.DataFrame], ...]
    """Each with its place in the cell's folder."""
    left_out: int
    """Tables about other answers than those that are kept."""

    def write(self, folder: Path) -> None:
        """Write the tables into a cell's folder."""
        for place, table in self.tables:
            with told(folder, str(place)):
                write_judgements(folder / place, table)


def judged_of(copies: Sequence[Path]) -> Judged:
    """Return the tables about a cell in all its copies, the first of which is kept; its points along the run included.

    Of one judge's tables every row is kept once. Raises `HarnessError` where they answer a question in two ways.
    """
    found: dict[Path, list[Path]] = {}
    left_out = 0
    for folder in copies:
        inside = [folder, *sorted(folder.glob(f"{POINTS}/*"))]
        for path in (path for place in inside for path in judgements_files(place)):
            place = path.relative_to(folder)
            answers = copies[0] / place.parent.parent / GENERATIONS
            if answers.is_file() and read_judgements(path).attrs.get(JUDGED) == file_hash(answers):
                found.setdefault(place, []).append(path)
            else:
                left_out += 1
    return Judged(tables=tuple((place, _joined(paths)) for place, paths in found.items()), left_out=left_out)


def _joined(paths: Sequence[Path]) -> pd.DataFrame:
    """Return one judge's tables as one."""
    import pandas as pd

    first, *others = (read_judgements(path) for path in paths)
    joined = first
    for path, other in zip(paths[1:], others, strict=True):
        joined = pd.concat([joined, other], ignore_index=True).drop_duplicates(ignore_index=True)
        twice = joined[joined.duplicated(list(QUESTION_KEYS))]
        if len(twice):
            raise HarnessError(
                f"got two answers of one judge to {len(twice)} questions, first {twice['prompt_id'].iloc[0]}: "
                f"{paths[0]} / {path}; expected the same; delete the file of the one that should not count"
            )
    joined.attrs = first.attrs
    return joined
