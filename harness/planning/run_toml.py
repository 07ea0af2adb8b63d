"""Run files: TOML whose keys are the fields of a `Run`, with dashes."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.api import HarnessError

PLAIN_PATH_KEY = "reference_path"
"""The first name of `plain_path`: its key in run files, manifests, records and hashes."""


def read_run(path: Path) -> dict[str, Any]:
    """Return the values of a TOML run file, ready for `make_run`."""
    where = f"run file {path}"
    return run_values(read_toml(path, where), where)


def read_toml(path: Path, where: str) -> dict[str, Any]:
    """Return what a TOML file holds. Raises `HarnessError`, one line that begins with `where`, for what is none."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise HarnessError(f"{where}: cannot be read ({error}); give the path of a TOML file") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise HarnessError(f"{where}: not valid TOML ({error})") from None


def run_values(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the values of a run by their keys in files, ready for `make_run`."""
    fields = {name.replace("-", "_"): value for name, value in values.items()}
    if PLAIN_PATH_KEY in fields:
        if "plain_path" in fields:
            raise HarnessError(
                f"{where}: got plain-path and reference-path, which are the same setting; expected one of them"
            )
        fields["plain_path"] = fields.pop(PLAIN_PATH_KEY)  # so that a flag can win over it
    return fields


def toml_text(values: Mapping[str, Any]) -> str:
    """Return a run file of these values, without those that are None."""
    lines = [f"{name.replace('_', '-')} = {toml(value)}" for name, value in values.items() if value is not None]
    return "\n".join(lines) + "\n"


def toml(value: Any) -> str:
    """Return a JSON value as TOML has it."""
    return "[" + ", ".join(toml(item) for item in value) + "]" if isinstance(value, list) else json.dumps(value)
