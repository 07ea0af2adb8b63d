"""Data sets by name: from a plugin, a folder, a file, or the hub by id; `ultrafeedback` is one of the plugins."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from harness.api import Dataset, DatasetSource, HarnessError, LoadOptions, hookimpl
from harness.data.assemble import assemble
from harness.data.files import FORMATS, is_data, read_table, stem_of
from harness.data.hub import HubId, load_from_hub
from harness.data.raw import printable, some
from harness.data.splits import (
    chooser,
    chosen_splits,
    files_of,
    is_held_out,
    no_training_data,
    promoted,
    saved_shards,
    told_splits,
)

ULTRAFEEDBACK = "HuggingFaceH4/ultrafeedback_binarized"
LONGEST_NAME = 200


def load(name_or_path: str, options: LoadOptions, sources: Mapping[str, DatasetSource]) -> Dataset:
    """Return the data set that a plugin brings under this name, that of a local folder or file, or that on the hub.

    The name of a plugin's data set wins over a path, a path over a hub id; write `./name` for a folder of the same
    name. Raises `HarnessError` for an unknown name or path, and for data that cannot be used.
    """
    if name_or_path in sources:
        given = {
            "--columns": options.columns,
            "--splits": options.splits,
            "--pairs-from-labels": options.pairs_from_labels,
        }
        if asked := next((option for option, value in given.items() if value), ""):
            raise HarnessError(
                f"{asked} is for files; got the data set '{name_or_path}', which needs none; leave it out"
            )
        return sources[name_or_path].load(options)
    if name_or_path and os.path.isdir(name_or_path):
        return _from_folder(Path(name_or_path), options)
    if name_or_path and os.path.isfile(name_or_path):
        return _from_files([Path(name_or_path)], Path(name_or_path), stem_of(Path(name_or_path)), options)
    hub = HubId.of(name_or_path)
    if hub is not None and not is_data(Path(name_or_path)):
        return load_from_hub(hub, hub.repo.partition("/")[2], options)
    close = difflib.get_close_matches(name_or_path, sources, n=1)
    raise HarnessError(
        f"got data set {name_or_path[:LONGEST_NAME]!r}, expected one of {', '.join(sorted(sources)) or 'no names'}, "
        f"a folder with train_prefs and test_prefs, a file ({', '.join(FORMATS)}), or org/name on the hub"
        + (f" (did you mean '{close[0]}'?)" if close else "")
        + "; check the name or the path"
    )


@hookimpl
def harness_datasets() -> list[DatasetSource]:
    """Return UltraFeedback, the data set of most papers on preference losses."""
    summary = f"{ULTRAFEEDBACK} from the Hugging Face hub (61k training pairs, 2k test pairs; 650 MB)"
    return [DatasetSource(name="ultrafeedback", load=_ultrafeedback, summary=summary)]


def _ultrafeedback(options: LoadOptions) -> Dataset:
    """Return UltraFeedback; its known defective rows are skipped and counted even if loading is strict."""
    dataset = load_from_hub(HubId(repo=ULTRAFEEDBACK), "ultrafeedback", replace(options, lenient=True))
    note = f"ultrafeedback: its known defective rows are skipped and counted: {sum(dataset.skipped.values())} rows"
    return replace(dataset, notes=(note, *dataset.notes))


def _from_files(paths: list[Path], source: Path, name: str, options: LoadOptions) -> Dataset:
    """Return the data set of one table, its test and dev split carved from it."""
    if options.splits:
        raise HarnessError(
            f"{printable(str(source))}: got --splits {options.splits}, expected none for a single file, which is all "
            "training data; leave it out, or give the folder that the files of the splits are in"
        )
    if is_held_out(name):
        raise no_training_data(printable(str(source)), [name])
    table = partial(read_table, paths, chooser("train", options.columns))
    return assemble(name, str(source), {"train": table}, options)


def _from_folder(folder: Path, options: LoadOptions) -> Dataset:
    where, name = printable(str(folder)), folder.resolve().name
    try:
        if saved := saved_shards(folder):
            return _from_files(saved, folder, name, options)
        files = files_of(folder, told_splits(options.splits).values())
    except OSError as error:
        raise HarnessError(f"{where}: cannot be read ({error.strerror}); check the folder's permissions") from error
    splits, names = chosen_splits(files, where, options.splits)
    roles, notes = promoted(splits, names)
    tables = {role: partial(read_table, paths, chooser(role, options.columns)) for role, paths in roles.items()}
    dataset = assemble(name, str(folder), tables, options, notes)
    used = {path for paths in roles.values() for path in paths}
    unread = [path.name for path in files.everything if path not in used]
    return replace(dataset, notes=(*dataset.notes, f"data files not read: {some(unread)}")) if unread else dataset
