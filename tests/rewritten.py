"""Tables of a run folder that are written anew, as if the run had written them so: their record knows their hashes."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from harness.run_folder.hashes import file_hash, unsealed


def rewrite(path: Path, table: pd.DataFrame) -> None:
    """Write a table of a cell in the place of the one that is there."""
    table.to_parquet(path, index=False)
    record = path.parent / "record.json"
    content = json.loads(record.read_text(encoding="utf-8"))
    content["files"][path.name] = file_hash(path)
    record.write_text(json.dumps(content), encoding="utf-8")  # on one line: it has no seal


def edit(record: Path, old: str, new: str) -> None:
    """Change the text of a record as somebody would who leaves out the hash of it."""
    text = unsealed(record.read_text(encoding="utf-8"))
    assert old in text, record
    record.write_text(text.replace(old, new), encoding="utf-8")
