"""manifest.json -> what the page shows of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.leaderboard.formatting import MISSING
from harness.run_folder.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class FactList:
    """Names and values under one heading, by name."""

    title: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class ManifestFacts:
    """What the page shows of a run's manifest; nothing where the run has none."""

    harness: str = ""
    """Version of the harness; empty where it is not known."""
    owners: Mapping[str, str] = field(default_factory=dict)
    """Package and version that brought a loss, by the loss's name."""
    lists: tuple[FactList, ...] = ()


def manifest_facts(manifest: Manifest) -> ManifestFacts:
    """Return the facts of a manifest; the cells are counted, the files hold them."""
    content = manifest.as_json()
    if not content:
        return ManifestFacts()
    plain = {name: value for name, value in content.items() if not isinstance(value, Mapping) and name != "cells"}
    if "cells" in content:
        plain["cells"] = f"{len(manifest.cells)} asked for"
    nested = {name: value for name, value in sorted(content.items()) if isinstance(value, Mapping) and value}
    return ManifestFacts(
        harness=manifest.harness or "",
        owners={loss: " ".join(map(str, owner)) for loss, owner in manifest.plugins.items() if owner},
        lists=(_list("run", plain), *(_list(name.replace("_", " "), values) for name, values in nested.items())),
    )


def _list(title: str, values: Mapping[str, Any]) -> FactList:
    return FactList(title=title, facts=tuple((str(name), _text(value)) for name, value in sorted(values.items())))


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {_text(inner)}" for name, inner in sorted(value.items())) or MISSING
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_text, value)) or MISSING
    return MISSING if value is None else str(value)
