"""What a run folder says of the whole run: `manifest.json` as a frozen type. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from harness.api.errors import HarnessError
from harness.run_folder.board_key import BoardKey
from harness.run_folder.facts import DataFacts
from harness.run_folder.json_types import Facts
from harness.run_folder.limits import read_json
from harness.run_folder.paths import MANIFEST
from harness.run_folder.record import Record
from harness.run_folder.store import as_text, write_atomically

DEFAULT_METRIC = "pairwise_accuracy"


class StartFacts(Facts):
    """The checkpoint and the token ids that all cells of a model have."""

    fingerprint: str | None = None
    """Hash of the weights, as records have it under `model`."""
    tokens_fingerprint: str | None = None
    """Hash of the training pairs and of the held-out responses as token ids."""


class Manifest(Facts):
    """The run as it was asked for, what it ran on, and every cell ever asked of the folder; all may be missing."""

    protocol: int | None = None
    harness: str | None = None
    """Version of the harness."""
    run: dict[str, Any] = Field(default_factory=dict)
    """The options of the run, as a run file has them."""
    decisive: BoardKey | None = None
    """What decides a result: the board's key, with the scorer as it was asked for."""
    scorer: str | None = None
    """The scorer that was chosen."""
    search: dict[str, Any] = Field(default_factory=dict)
    """What the trials search; empty without trials."""
    sources: dict[str, Any] | None = None
    """Of a merged folder: where its cells are from."""
    models: tuple[str, ...] = ()
    """What boards call them, in the order asked for."""
    local_models: dict[str, str] = Field(default_factory=dict)
    """What local models are called, by the paths that they were asked for with; missing where there are none."""
    cells: tuple[tuple[str, str, int], ...] = ()
    """(label, model, seed) of every cell asked for."""
    dataset: DataFacts | None = None
    start_checkpoints: dict[str, StartFacts] = Field(default_factory=dict)
    """By model, of those that have a scored cell; empty in runs made before it was written."""
    plugins: dict[str, Any] = Field(default_factory=dict)
    """Distribution and version that brought each loss."""
    broken_plugins: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, Any] = Field(default_factory=dict)
    python: Any = None
    platform: Any = None
    cpus: Any = None
    devices: dict[str, str] = Field(default_factory=dict)
    """The GPUs that computed last, by their numbers; missing where there were none."""
    environment: dict[str, Any] = Field(default_factory=dict)
    """The environment variables that change a run."""

    @property
    def ranked_by(self) -> str:
        """The metric that the run is ranked by."""
        return str(self.run.get("ranked_by") or DEFAULT_METRIC)

    @property
    def asked(self) -> tuple[tuple[str, int], ...]:
        """Label and seed of every system that the run was started with."""
        return tuple((label, seed) for label, _, seed in self.cells)


def with_start_checkpoints(manifest: Manifest, records: Iterable[Record], earlier: Manifest | None = None) -> Manifest:
    """Return the manifest with start checkpoint and tokens of each model that has a scored cell.

    What is known of such a model already, in `earlier` or by default in the manifest itself, stays.
    """
    known = (earlier or manifest).start_checkpoints
    starts = {
        record.model.name: known.get(record.model.name)
        or StartFacts(fingerprint=record.model.fingerprint, tokens_fingerprint=record.tokens_fingerprint)
        for record in records
        if record.scored
    }
    return manifest.model_copy(update={"start_checkpoints": starts}) if starts else manifest


def write_manifest(run: Path, manifest: Manifest) -> None:
    """Write `manifest.json`."""
    write_atomically(run / MANIFEST, as_text(manifest.as_json()))


def read_manifest(run: Path) -> Manifest:
    """Return the manifest of a run folder. Raises `HarnessError` where there is none, or the file is no manifest."""
    path = run / MANIFEST
    if not path.is_file():
        raise HarnessError(f"got {run}, expected a run folder (one with {MANIFEST}); name the output folder of a run")
    try:
        content = read_json(path)
        if not isinstance(content, dict):
            raise ValueError(f"a {type(content).__name__}")
        return Manifest.of(content)
    except ValidationError as error:
        first = error.errors()[0]
        got = f"{'.'.join(map(str, first['loc']))} = {first['input']!r:.60} ({first['msg']})"
    except (OSError, ValueError) as error:
        got = str(error)
    raise HarnessError(f"{path}: got {got}, expected the manifest of a run; correct it, or run into another folder")


def known_manifest(run: Path) -> Manifest:
    """Return the manifest of a run folder; an empty one where it has none, as folders of single cells may."""
    return read_manifest(run) if (run / MANIFEST).is_file() else Manifest()
