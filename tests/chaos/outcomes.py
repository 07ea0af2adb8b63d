"""What becomes of a run that was disturbed: the undisturbed board, one clear error, or one of two faults; counted."""

from __future__ import annotations

import csv
import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from harness.run_folder.hashes import file_hash
from harness.run_folder.paths import JUDGEMENTS

EQUAL, CLEAR, SILENT, TRACEBACK = "equal", "clear error", "silent difference", "traceback"
OUTCOMES = (EQUAL, CLEAR, SILENT, TRACEBACK)
OF_THE_CLOCK = ("spend", "environment", "seconds", "sha256")
"""Keys whose values a clock decides, or what else the machine does; the last is of a text that has such values."""
Done = subprocess.CompletedProcess[str]


def content(run: Path) -> dict[str, str]:
    """Return all that a run found, by file: the bytes of its tables as hashes; records and boards without the clock.

    Of judges' tables, whose bytes no record knows, it is what they say.
    """
    tables = {
        str(path.relative_to(run)): _said(path) if path.parent.name == JUDGEMENTS else file_hash(path)
        for path in run.glob("cells/**/*.parquet")
    }
    facts = [*run.glob("cells/*/record.json"), run / "leaderboard.json"]
    return tables | {
        str(path.relative_to(run)): json.dumps(_still(json.loads(path.read_text())), sort_keys=True) for path in facts
    }


def _said(path: Path) -> str:
    try:
        table = pd.read_parquet(path, page_checksum_verification=True)
    except Exception as error:  # of pyarrow's and of pandas' many kinds: a difference, whatever it is
        return repr(error)
    return json.dumps([table.to_csv(), table.dtypes.astype(str).to_dict(), table.attrs])


def _still(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _still(inner) for key, inner in value.items() if key not in OF_THE_CLOCK}
    return [_still(inner) for inner in value] if isinstance(value, list) else value


def differing(ours: dict[str, str], theirs: dict[str, str]) -> list[str]:
    """Return the files that differ, or are in one of two runs alone."""
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))


@dataclass(kw_only=True)
class Tally:
    """What became of each disturbance, by kind."""

    undisturbed: dict[str, str]
    """The content of the run that nobody disturbed."""
    rows: list[dict[str, str]] = field(default_factory=list)

    def add(self, kind: str, what: str, done: Done, run: Path, expected: dict[str, str] | None = None) -> str:
        """Judge the last command of a disturbed run; note and return the outcome."""
        printed = done.stdout + done.stderr
        detail = next((line for line in _lines(done.stderr) if line.startswith("Error: ")), "")
        if "Traceback (most recent call last)" in printed:
            outcome, detail = TRACEBACK, (_lines(printed) or [""])[-1]
        elif done.returncode:
            failed = detail or next((line for line in _lines(done.stdout) if "FAILED" in line), "")
            outcome, detail = (
                (CLEAR, failed) if failed else (TRACEBACK, f"exit code {done.returncode} without a message")
            )
        else:
            different = differing(content(run), self.undisturbed if expected is None else expected)
            outcome, detail = (SILENT, ", ".join(different[:4])) if different else (EQUAL, "")
        self.rows.append({"kind": kind, "what": what, "outcome": outcome, "detail": detail[:300]})
        print(f"{kind}: {what}: {outcome} {detail[:200]}", flush=True)
        return outcome

    def faults(self) -> list[dict[str, str]]:
        """Return the disturbances that ended in neither of the two ends that are allowed."""
        return [row for row in self.rows if row["outcome"] in (SILENT, TRACEBACK)]

    def table(self) -> Iterator[str]:
        """Yield the counts by kind, a line each."""
        counts = Counter((row["kind"], row["outcome"]) for row in self.rows)
        yield " | ".join(("kind", *OUTCOMES))
        for kind in dict.fromkeys(row["kind"] for row in self.rows):
            yield " | ".join((kind, *(str(counts[kind, outcome]) for outcome in OUTCOMES)))
        yield " | ".join(("all", *(str(sum(row["outcome"] == outcome for row in self.rows)) for outcome in OUTCOMES)))

    def write(self, path: Path) -> None:
        """Write every disturbance as a row of a CSV file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["kind", "what", "outcome", "detail"])
            writer.writeheader()
            writer.writerows(self.rows)


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]
