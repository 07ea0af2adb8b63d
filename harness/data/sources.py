"""Data sets by name: from a plugin, a folder or a file; `ultrafeedback` from the hub is one of the plugins.

The tables of every source go through `_assemble`: it keeps every prompt of the test split out of training, and carves a
missing split from train by prompt.
"""

from __future__ import annotations

import difflib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from harness.api import Dataset, DatasetSource, HarnessError, Listwise, LoadOptions, Pair, hookimpl
from harness.data.files import BATCH_ROWS, FORMATS, Table, counted, printable, read_table, rows_of_batches
from harness.data.prompts import PromptSet, Row, carve, without
from harness.data.rows import LISTWISE_COLUMNS, PAIR_COLUMNS, SFT_COLUMNS, Kind, Loaded, listwise_of, pairs_of, sft_of

ULTRAFEEDBACK = "HuggingFaceH4/ultrafeedback_binarized"
HELD_OUT_SHARE = 10
"""A split without a file of its own gets one training prompt in this many."""
LISTED_FILES = 20
LONGEST_NAME = 200


@dataclass(frozen=True, kw_only=True)
class Split:
    """Where to look for a split: the names that its file, or its split on the hub, may have, and its columns."""

    stems: tuple[str, ...]
    columns: tuple[str, ...] = PAIR_COLUMNS


SPLITS = {
    "train": Split(stems=("train_prefs", "train")),
    "dev": Split(stems=("dev_prefs", "dev")),
    "test": Split(stems=("test_prefs", "test")),
    "test_lenbalanced": Split(stems=("test_prefs_lenbalanced",)),
    "listwise_dev": Split(stems=("listwise_dev",), columns=LISTWISE_COLUMNS),
    "listwise_test": Split(stems=("listwise_test",), columns=LISTWISE_COLUMNS),
    "sft": Split(stems=("train_sft",), columns=SFT_COLUMNS),
}

Tables = Mapping[str, Callable[[], Table]]
"""By name of the split, a function that reads it: so only one table is in memory at a time."""


def load(name_or_path: str, options: LoadOptions, sources: Mapping[str, DatasetSource]) -> Dataset:
    """Return the data set that a plugin brings under this name, or that of a local folder or file.

    The name of a plugin's data set wins over a path; write `./name` for a folder of the same name. Raises
    `HarnessError` for an unknown name or path, and for data that cannot be used.
    """
    if name_or_path in sources:
        return sources[name_or_path].load(options)
    if name_or_path and os.path.isdir(name_or_path):
        return _from_folder(Path(name_or_path), options)
    if name_or_path and os.path.isfile(name_or_path):
        path = Path(name_or_path)
        return _assemble(path.stem, str(path), {"train": partial(read_table, path, PAIR_COLUMNS)}, options)
    close = difflib.get_close_matches(name_or_path, sources, n=1)
    raise HarnessError(
        f"got data set {name_or_path[:LONGEST_NAME]!r}, expected one of {', '.join(sorted(sources)) or 'no names'}, "
        f"a folder with train_prefs and test_prefs, or a file ({', '.join(FORMATS)})"
        + (f" (did you mean '{close[0]}'?)" if close else "")
        + "; check the name or the path"
    )


def from_dataset_dict(dataset_dict: Mapping[str, Any], name: str, revision: str, options: LoadOptions) -> Dataset:
    """Return the data set in a `datasets.DatasetDict`; its splits have the names that files in a folder have."""
    tables: dict[str, Callable[[], Table]] = {}
    for role, split in SPLITS.items():
        stem = next((stem for stem in split.stems if stem in dataset_dict), None)
        if stem is not None:
            tables[role] = partial(_hub_table, dataset_dict[stem], f"{name} {stem}", split.columns)
    if "train" not in tables:
        raise HarnessError(
            f"data set '{name}' at revision {revision}: got splits {', '.join(dataset_dict) or 'none'}, "
            f"expected {' or '.join(SPLITS['train'].stems)}; check the revision"
        )
    return _assemble(name, f"{name}@{revision}", tables, options)


@hookimpl
def harness_datasets() -> list[DatasetSource]:
    """Return UltraFeedback, the data set of most papers on preference losses."""
    summary = f"{ULTRAFEEDBACK} from the Hugging Face hub (61k training pairs, 2k test pairs; 650 MB)"
    return [DatasetSource(name="ultrafeedback", load=_ultrafeedback, summary=summary)]


def _ultrafeedback(options: LoadOptions) -> Dataset:
    """Return UltraFeedback; its known defective rows are skipped and counted even if loading is strict."""
    import datasets

    try:
        loaded = datasets.load_dataset(ULTRAFEEDBACK)
    except Exception as error:  # datasets, the hub's client and its HTTP library each raise exceptions of their own
        reason = printable(str(error).splitlines()[0] if str(error) else "")[:200]
        raise HarnessError(
            f"data set 'ultrafeedback': got {type(error).__name__} ({reason}), expected {ULTRAFEEDBACK} from the "
            "Hugging Face hub; connect to it, or set HF_HOME to a filled cache (and HF_HUB_OFFLINE=1), or give a "
            "local folder with train_prefs.parquet and test_prefs.parquet"
        ) from error
    revision = _revision(loaded)
    dataset = from_dataset_dict(loaded, "ultrafeedback", revision, replace(options, lenient=True))
    note = f"ultrafeedback: its known defective rows are skipped and counted: {sum(dataset.skipped.values())} rows"
    return replace(dataset, source=f"{ULTRAFEEDBACK}@{revision}", notes=(note, *dataset.notes))


def _revision(loaded: Mapping[str, Any]) -> str:
    """Return the commit of the data set on the hub, after which `datasets` names the cache folder of a download."""
    for split in loaded.values():
        for file in split.cache_files:
            for folder in Path(file["filename"]).parts[:-1]:
                if re.fullmatch("[0-9a-f]{40}", folder):
                    return folder
    return "unknown revision"


def _hub_table(split: Any, where: str, columns: Sequence[str]) -> Table:
    wanted = [column for column in columns if column in split.column_names]
    batches = split.select_columns(wanted).with_format("arrow").iter(batch_size=BATCH_ROWS)
    return Table(where=printable(where), columns=frozenset(split.column_names), rows=rows_of_batches(batches))


def _from_folder(folder: Path, options: LoadOptions) -> Dataset:
    where = printable(str(folder))
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise HarnessError(f"{where}: cannot be read ({error.strerror}); check the folder's permissions") from error
    tables: dict[str, Callable[[], Table]] = {}
    used = set()
    for role, split in SPLITS.items():
        candidates = [path for path in files if path.stem in split.stems and path.suffix.lower() in FORMATS]
        if len(candidates) > 1:
            names = " and ".join(path.name for path in candidates)
            raise HarnessError(f"{where}: got {names} for the {role} split, expected one file; move the others away")
        for path in candidates:
            tables[role] = partial(read_table, path, split.columns)
            used.add(path)
    if "train" not in tables:
        names = ", ".join(printable(path.name) for path in files[:LISTED_FILES])
        raise HarnessError(
            f"{where}: got files {names or 'none'}{', ...' if len(files) > LISTED_FILES else ''}, expected "
            f"train_prefs or train with one of {', '.join(FORMATS)} (and test_prefs, dev_prefs, train_sft where "
            "there are any); rename the file or give its path"
        )
    dataset = _assemble(folder.resolve().name, str(folder), tables, options)
    unread = [printable(path.name) for path in files if path not in used and path.suffix.lower() in FORMATS]
    note = f"data files not read: {', '.join(unread[:LISTED_FILES])}"
    return replace(dataset, notes=(*dataset.notes, note)) if unread else dataset


@dataclass(kw_only=True)
class _Account:
    """Rows skipped and notes so far; filled while a data set is assembled."""

    skipped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def take(self, loaded: Loaded[Kind]) -> tuple[Kind, ...]:
        """Return the rows, after adding their counts and notes to the account."""
        self.skipped.update(loaded.skipped)
        self.notes += loaded.notes
        return loaded.rows

    def carve(
        self, pairs: tuple[Pair, ...], split: str, prompts: int, seed: int
    ) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
        """Return (the rest, the pairs of `prompts` prompts), after noting that the split is carved from train."""
        rest, carved = carve(pairs, prompts=prompts, purpose=split, seed=seed)
        got = f"{counted(_prompt_count(carved), 'prompt')}, {counted(len(carved), 'pair')}"
        self.notes.append(f"{split}: no such data, so carved from train by prompt with seed {seed} ({got})")
        return rest, carved

    def drop(self, rows: tuple[Row, ...], split: str, prompts: PromptSet, held_out: str) -> tuple[Row, ...]:
        """Return the rows that share no prompt with a held-out split, after counting the others."""
        kept = without(rows, prompts)
        if dropped := len(rows) - len(kept):
            self.skipped[f"{split} prompt also in {held_out}"] += dropped
            self.notes.append(
                f"{split}: {counted(dropped, 'row')} dropped, their prompt is also in the {held_out} split"
            )
        return kept


def _assemble(name: str, source: str, tables: Tables, options: LoadOptions) -> Dataset:
    """Return the data set of these tables, missing splits carved from train, held-out prompts kept out of training."""
    account = _Account()

    def pairs(role: str) -> tuple[Pair, ...]:
        return account.take(pairs_of(tables[role](), options)) if role in tables else ()

    def listwise(role: str) -> tuple[Listwise, ...]:
        return account.take(listwise_of(tables[role](), options)) if role in tables else ()

    train, dev, test, lenbalanced = pairs("train"), pairs("dev"), pairs("test"), pairs("test_lenbalanced")
    listwise_dev, listwise_test = listwise("listwise_dev"), listwise("listwise_test")
    sft = account.take(sft_of(tables["sft"](), options)) if "sft" in tables else ()

    prompts = _prompt_count(train)
    if "test" not in tables:
        at_least = min(1, prompts - 1)  # a single prompt stays in train
        train, test = account.carve(train, "test", max(at_least, prompts // HELD_OUT_SHARE), options.seed)
    held_out = PromptSet.of([*test, *lenbalanced, *listwise_test])
    train = account.drop(train, "train", held_out, "test")
    dev = account.drop(dev, "dev", held_out, "test")
    listwise_dev = account.drop(listwise_dev, "listwise dev", held_out, "test")
    if "dev" not in tables:
        prompts = _prompt_count(train) if "test" in tables else prompts
        train, dev = account.carve(train, "dev", prompts // HELD_OUT_SHARE, options.seed)
    selection = PromptSet.of([*dev, *listwise_dev])
    train = account.drop(train, "train", selection, "dev")
    sft = account.drop(account.drop(sft, "sft", held_out, "test"), "sft", selection, "dev")
    if not train:
        raise HarnessError(
            f"{printable(source)}: got no training pair whose prompt is not also held out, expected at least one; "
            "give other test or dev data"
        )
    return Dataset(
        name=name,
        train=train,
        dev=dev,
        test=test,
        test_lenbalanced=lenbalanced,
        listwise_dev=listwise_dev,
        listwise_test=listwise_test,
        sft=tuple((row.context, row.response) for row in sft),
        skipped=dict(account.skipped),
        notes=tuple(account.notes),
        source=source,
    )


def _prompt_count(pairs: Iterable[Pair]) -> int:
    return len({pair.prompt_id for pair in pairs})
