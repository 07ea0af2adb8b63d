"""Data sets by name: from a plugin, a folder or a file; `ultrafeedback` from the hub is one of the plugins."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from harness.api import Dataset, DatasetSource, HarnessError, LoadOptions, hookimpl
from harness.data.arrow_files import BATCH_ROWS, rows_of_batches
from harness.data.assemble import assemble
from harness.data.files import FORMATS, read_table, stem_of
from harness.data.raw import Choose, Table, printable, some
from harness.data.splits import (
    SPLITS,
    chooser,
    chosen_splits,
    files_of,
    is_held_out,
    no_training_data,
    promoted,
    saved_shards,
)

ULTRAFEEDBACK = "HuggingFaceH4/ultrafeedback_binarized"
LONGEST_NAME = 200


def load(name_or_path: str, options: LoadOptions, sources: Mapping[str, DatasetSource]) -> Dataset:
    """Return the data set that a plugin brings under this name, or that of a local folder or file.

    The name of a plugin's data set wins over a path; write `./name` for a folder of the same name. Raises
    `HarnessError` for an unknown name or path, and for data that cannot be used.
    """
    if name_or_path in sources:
        if options.columns or options.pairs_from_labels:
            asked = "--columns" if options.columns else "--pairs-from-labels"
            raise HarnessError(
                f"{asked} is for files; got the data set '{name_or_path}', which needs none; leave it out"
            )
        return sources[name_or_path].load(options)
    if name_or_path and os.path.isdir(name_or_path):
        return _from_folder(Path(name_or_path), options)
    if name_or_path and os.path.isfile(name_or_path):
        return _from_files([Path(name_or_path)], Path(name_or_path), stem_of(Path(name_or_path)), options)
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
    names: dict[str, str] = {}
    for role, stems in SPLITS.items():
        stem = next((stem for stem in stems if stem in dataset_dict), None)
        if stem is not None:
            choose = chooser(role, options.columns)
            tables[role], names[role] = partial(_hub_table, dataset_dict[stem], f"{name} {stem}", choose), stem
    if "train" not in tables:
        raise HarnessError(
            f"data set '{name}' at revision {revision}: got splits {', '.join(dataset_dict) or 'none'}, "
            f"expected {' or '.join(SPLITS['train'])}; check the revision"
        )
    tables, notes = promoted(tables, names)
    return assemble(name, f"{name}@{revision}", tables, options, notes)


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


def _hub_table(split: Any, where: str, choose: Choose) -> Table:
    wanted = [column for column in split.column_names if column in choose(split.column_names)]
    batches = split.select_columns(wanted).with_format("arrow").iter(batch_size=BATCH_ROWS)
    return Table(where=printable(where), columns=frozenset(split.column_names), rows=rows_of_batches(batches, ""))


def _from_files(paths: list[Path], source: Path, name: str, options: LoadOptions) -> Dataset:
    """Return the data set of one table, its test and dev split carved from it."""
    if is_held_out(name):
        raise no_training_data(printable(str(source)), [name])
    table = partial(read_table, paths, chooser("train", options.columns))
    return assemble(name, str(source), {"train": table}, options)


def _from_folder(folder: Path, options: LoadOptions) -> Dataset:
    where, name = printable(str(folder)), folder.resolve().name
    try:
        if saved := saved_shards(folder):
            return _from_files(saved, folder, name, options)
        files = files_of(folder)
    except OSError as error:
        raise HarnessError(f"{where}: cannot be read ({error.strerror}); check the folder's permissions") from error
    splits, names = chosen_splits(files, where)
    roles, notes = promoted(splits, names)
    tables = {role: partial(read_table, paths, chooser(role, options.columns)) for role, paths in roles.items()}
    dataset = assemble(name, str(folder), tables, options, notes)
    used = {path for paths in roles.values() for path in paths}
    unread = [path.name for path in files.everything if path not in used]
    return replace(dataset, notes=(*dataset.notes, f"data files not read: {some(unread)}")) if unread else dataset
