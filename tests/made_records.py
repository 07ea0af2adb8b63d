"""Records and manifests for tests, from the few fields that a test is about."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.run_folder.manifest import Manifest
from harness.run_folder.record import Record, parse_record
from harness.run_folder.store import as_text

PLAIN: Mapping[str, Any] = {
    "protocol": 1,
    "status": "ok",
    "kind": "loss",
    "key": "a",
    "label": "simpo",
    "loss": {"name": "simpo", "options": {}},
    "model": {"name": "qwen"},
    "dataset": {"fingerprint": "data", "test_pairs": 1},
    "tokens_fingerprint": "tokens",
    "seed": 0,
    "board": {},
    "spend": {},
    "scorer": {},
    "metrics": {},
}
"""The least that the record of a scored cell has."""


def made_record(fields: Mapping[str, Any]) -> Record:
    """Return a record with these fields, as record.json has them; what is not given is as in `PLAIN`."""
    return parse_record(Path(), as_text({**PLAIN, **fields}))


def made_manifest(content: Mapping[str, Any]) -> Manifest:
    """Return a manifest with this content, as manifest.json has it."""
    return Manifest.of(content)
