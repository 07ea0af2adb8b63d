"""What a finished cell says of itself: `record.json` as a frozen type, with the cell's tables. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from pydantic import Field, ValidationError, model_validator

from harness.api.errors import HarnessError
from harness.run_folder.board_key import LOCAL_MODEL, BoardKey
from harness.run_folder.facts import (
    DataFacts,
    ElsewhereFacts,
    EnvironmentFacts,
    LossFacts,
    ModelFacts,
    ScorerFacts,
    Spend,
    TuningFacts,
)
from harness.run_folder.generation_facts import GenerationFacts
from harness.run_folder.hashes import require_whole, unsealed
from harness.run_folder.json_types import Facts, Number
from harness.run_folder.limits import json_of
from harness.run_folder.paths import DEV, RECORD, RESPONSES, ROWS, point_folder
from harness.run_folder.point_facts import PointFacts
from harness.run_folder.tables import RESPONSE_COLUMNS, ROW_COLUMNS, Columns, read_columns, read_frame

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")

BASELINES = ("base", "longer-wins")
"""Baseline rows, in the order of the board."""
ELSEWHERE = "trained elsewhere"
"""What stands for the loss of a checkpoint that was trained elsewhere."""


class Record(Facts):
    """One finished cell."""

    folder: Path = Field(default=Path(), exclude=True)
    """Where it lies; not a key of the file."""
    reported_at: float | None = Field(default=None, exclude=True)
    """The fraction of its budget that it is read at, where a board reports a point; not a key of the file."""
    protocol: int
    """The rules under which numbers may stand in one table."""
    status: Literal["ok", "diverged", "failed"]
    """`ok`, `diverged` or `failed`."""
    reason: str = ""
    """Why it diverged or failed; empty otherwise."""
    kind: Literal["loss", "reference", "elsewhere"]
    """`loss`, `reference` for the baseline rows `base` and `longer-wins`, `elsewhere` for checkpoints trained there."""
    key: str
    """Name of the cell's folder."""
    label: str
    """The loss with the options that were given, such as `simpo(beta=2.5)`."""
    loss: LossFacts
    learning_rate: Number = None
    """Of the training; absent from baseline rows."""
    tuning: TuningFacts | None = None
    elsewhere: ElsewhereFacts | None = None
    model: ModelFacts
    dataset: DataFacts
    tokens_fingerprint: str | None = None
    """Hash of the training pairs and of the held-out responses as token ids."""
    seed: int | None = None
    """The order of the pairs; null for rows that the run did not train, which stand for every seed."""
    board: BoardKey
    spend: Spend
    scorer: ScorerFacts
    environment: EnvironmentFacts = EnvironmentFacts()
    start_fingerprint: str | None = None
    """Hash of the weights that training started from."""
    prepared: dict[str, dict[str, Number]] = Field(default_factory=dict)
    """Mean and effective number of pairs (`n_eff`) of each column that the loss prepared."""
    metrics: dict[str, Number]
    """Every metric by name; null where it is missing."""
    metric_reasons: dict[str, str] = Field(default_factory=dict)
    """Why a metric is missing."""
    files: dict[str, str] | None = None
    """sha256 of each of the cell's tables."""
    points: tuple[PointFacts, ...] = ()
    """Along the run, in order, 1 last; absent without `--evaluate-at`, and where the training diverged or failed."""
    generation: GenerationFacts | None = None
    """The answers that the model sampled; absent without `--generate`."""

    @model_validator(mode="after")
    def _complete(self) -> Record:
        if self.kind == "loss" and self.seed is None:
            raise ValueError("got seed = None, expected a whole number")
        if (self.kind == "elsewhere") != (self.elsewhere is not None):
            raise ValueError(f"got kind {self.kind!r} {'with' if self.elsewhere else 'without'} the key elsewhere")
        if self.status == "ok" and None in (self.tokens_fingerprint, self.dataset.test_pairs):
            raise ValueError("got a scored cell without tokens_fingerprint or dataset.test_pairs, expected both")
        return self

    @property
    def scored(self) -> bool:
        """Whether it has results."""
        return self.status == "ok"

    @property
    def local_model(self) -> str:
        """What the start checkpoint is called where it is known by its content, wherever it lay; "" for any other."""
        name = self.board.start or self.model.name
        return name if LOCAL_MODEL.fullmatch(name) else ""

    @property
    def averaged(self) -> bool | None:
        """Whether the loss averages log-probs over tokens; a baseline row sums them: it has no kind of its own."""
        return False if self.kind == "reference" else self.loss.averaged

    def at(self, point: PointFacts) -> Record:
        """Return the record as it is at one of its points: with that one's tables, metrics and hashes."""
        facts = {"folder": point_folder(self.folder, point.fraction), "metrics": point.metrics, "files": point.files}
        return self.model_copy(update=facts | ({"generation": point.generation} if self.generation else {}))

    def on_dev(self, point: PointFacts) -> Record:
        """Return the record as it is at one of its points on the development split, which must be known."""
        assert point.dev is not None, "a point that was scored on dev"
        folder = point_folder(self.folder, point.fraction) / DEV
        return self.model_copy(update={"folder": folder, "metrics": point.dev.metrics, "files": point.dev.files})

    def require_whole(self) -> None:
        """Raise `HarnessError` where a table of the cell, or of one of its points, is not the one that was written."""
        for place in (self, *map(self.at, self.points)):
            for name, known in (place.files or {}).items():
                require_whole(place.folder / name, known)

    def rows(self) -> pd.DataFrame:
        """Return one row per held-out pair, with `ROW_COLUMNS`."""
        return self._whole(ROWS, read_frame(self.folder / ROWS, ROW_COLUMNS))

    def responses(self) -> pd.DataFrame:
        """Return one row per unique held-out response, with `RESPONSE_COLUMNS`."""
        return self._whole(RESPONSES, read_frame(self.folder / RESPONSES, RESPONSE_COLUMNS))

    def columns(self, file: str, names: Iterable[str]) -> Columns:
        """Return columns of one of the cell's tables as arrays; see `read_columns`."""
        return self._whole(file, read_columns(self.folder / file, names))

    def _whole(self, file: str, table: T) -> T:
        """Return one of the cell's tables if it is what was written."""
        require_whole(self.folder / file, (self.files or {}).get(file))
        return table


class RecordError(HarnessError):
    """A record.json that is no record; `problems` says what is wrong, each as got, expected, do."""

    def __init__(self, path: Path, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(f"{path}: {problems[0]}")


def parse_record(folder: Path, text: str) -> Record:
    """Return the record that record.json of `folder` holds. Raises `RecordError` for what is no record."""
    path = folder / RECORD
    try:
        content = json_of(unsealed(text))
    except ValueError as error:
        raise RecordError(path, [f"got {error}, expected JSON; delete the file and run again"]) from None
    if not isinstance(content, dict):
        got = type(content).__name__
        raise RecordError(path, [f"got a {got}, expected a JSON object; delete the file and run again"])
    try:
        record = Record.of(content)
    except ValidationError as error:
        raise RecordError(path, [_problem(detail) for detail in error.errors()]) from None
    if record.key in ("", ".", "..") or re.search(r"[/\\\x00]", record.key):
        raise RecordError(path, [f"got key = {record.key!r:.60}, expected the name of a folder; run the cell again"])
    return record.model_copy(update={"folder": folder})


EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "number": "a number or null",
    "bool_type": "true or false",
    "dict_type": "an object",
    "model_type": "an object",
    "tuple_type": "a list",
}
"""What to call what a field wants, by pydantic's name for the error."""


def _problem(detail: Any) -> str:
    """Return one error of pydantic's as got, expected, do."""
    name, kind = ".".join(str(part) for part in detail["loc"]), detail["type"]
    if kind == "missing":
        return f"got no {name}, expected one; run the cell again"
    if kind == "value_error":
        return f"{detail['msg'].removeprefix('Value error, ')}; run the cell again"
    if kind == "literal_error":
        known = detail["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
        return f"got {name} = {detail['input']!r:.60}, expected one of {known}; run the cell again"
    return f"got {name} = {detail['input']!r:.60}, expected {EXPECTED.get(kind, detail['msg'])}; run the cell again"


def only(records: Sequence[Record], name: str, read: Callable[[Record], T]) -> T | None:
    """Return the one value that all records have, None without records. Raises `HarnessError` naming what differs."""
    first: dict[T, Record] = {}
    for record in records:
        first.setdefault(read(record), record)
    if len(first) > 1:
        values = "; ".join(f"{value!r} in {record.folder}" for value, record in first.items())
        raise HarnessError(
            f"got records whose {name} differs ({values}), expected one value; do not mix runs in a folder"
        )
    return next(iter(first), None)


class SharedFact(NamedTuple):
    """Something that must be the same in all records of a scope."""

    name: str
    scope: tuple[Hashable, ...]
    """Within what: everywhere, a model, or a model on a board."""
    value: str | None


def shared_facts(record: Record) -> list[SharedFact]:
    """Return what a record must share with those it stands beside: data, and once scored tokens, start and points."""
    facts = [SharedFact("dataset.fingerprint", (), record.dataset.fingerprint)]
    if record.scored:
        facts += [
            SharedFact("tokens_fingerprint", (record.board, record.model.name), record.tokens_fingerprint),
            SharedFact("model.fingerprint", (record.model.name,), record.model.fingerprint),
        ]
    if record.scored and record.kind == "loss":
        points = ", ".join(f"{point.fraction:.10g}" for point in record.points)
        facts.append(SharedFact("points", (record.board,), points or "none"))
    return facts
