"""Data sets by name: from a plugin, a folder, a file, or the hub by id; `ultrafeedback` is one of the plugins."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from harness.api import Dataset, DatasetSource, HarnessError, LoadOptions, hookimpl
from harness.data.assemble import Parts, assemble, assemble_test
from harness.data.evaluation import only_test_data
from harness.data.files import FORMATS, is_data, read_table, stem_of
from harness.data.hub import HubId, find_on_hub
from harness.data.raw import printable, some
from harness.data.splits import (
    chooser,
    chosen_splits,
    files_of,
    is_held_out,
    is_training,
    promoted,
    saved_shards,
    told_splits,
)

ULTRAFEEDBACK = "HuggingFaceH4/ultrafeedback_binarized"
LONGEST_NAME = 200


def load(name_or_path: str, options: LoadOptions, sources: Mapping[str, DatasetSource]) -> Dataset:
    """Return the data set that a plugin brings under this name, that of a local folder or file, or that on the hub.

    The name of a plugin's data set wins over a path, a path over a hub id; write `./name` for a folder of the same
    name. Raises `HarnessError` for an unknown name or path, for an evaluation set, and for data that cannot be used.
    """
    if brought_by(name_or_path, sources):
        return _from_plugin(name_or_path, options, sources)
    return assemble(_find(name_or_path, options, sources), options)


def load_test(name_or_path: str, options: LoadOptions, sources: Mapping[str, DatasetSource]) -> Dataset:
    """Return the test data alone of what `load` takes, or of an evaluation set, without training data.

    A file whose name says neither train nor test is test data here. Raises `HarnessError` as `load` does, and where
    there is no test split.
    """
    if brought_by(name_or_path, sources):
        return only_test_data(_from_plugin(name_or_path, options, sources))
    return assemble_test(_find(name_or_path, options, sources, alone="test"), options)


def load_any(name_or_path: str, options: LoadOptions, sources: Mapping[str, DatasetSource]) -> Dataset:
    """Return what `load` does, or of an evaluation set what `load_test` does."""
    if brought_by(name_or_path, sources):
        return _from_plugin(name_or_path, options, sources)
    parts = _find(name_or_path, options, sources)
    return assemble(parts, options) if "train" in parts.tables else assemble_test(parts, options)


def brought_by(name: str, sources: Mapping[str, DatasetSource]) -> str:
    """Return which data set of a plugin this names, alone or as `NAME:setting=value,...`; "" for none."""
    plain, _, settings = name.partition(":")
    return name if name in sources else plain if plain in sources and "=" in settings else ""


def _settings(name: str, source: DatasetSource) -> dict[str, str]:
    """Return the settings behind the colon of a name. Raises `HarnessError` for those that the data set has not."""
    given = dict(item.partition("=")[::2] for item in name.removeprefix(source.name)[1:].split(",") if item)
    for setting in given:
        if setting not in source.settings:
            known = ", ".join(source.settings) or "none: it has no settings"
            raise HarnessError(f"got data set '{name}' with the setting '{setting}', expected one of {known}")
    return given


def _from_plugin(name: str, options: LoadOptions, sources: Mapping[str, DatasetSource]) -> Dataset:
    given = {
        "--columns": options.columns,
        "--splits": options.splits,
        "--pairs-from-labels": options.pairs_from_labels,
    }
    if asked := next((option for option, value in given.items() if value), ""):
        raise HarnessError(f"{asked} is for files; got the data set '{name}', which needs none; leave it out")
    source = sources[brought_by(name, sources)]
    data = source.load(replace(options, settings=_settings(name, source)))
    return replace(data, name=name) if name != source.name else data


def _find(name_or_path: str, options: LoadOptions, sources: Mapping[str, DatasetSource], alone: str = "train") -> Parts:
    """Return the splits of a folder, a file or a data set on the hub; `alone`: what data without a split's name are."""
    if name_or_path and os.path.isdir(name_or_path):
        return _in_folder(Path(name_or_path), options, alone)
    if name_or_path and os.path.isfile(name_or_path):
        return _in_files([Path(name_or_path)], Path(name_or_path), options, alone)
    hub = HubId.of(name_or_path)
    if hub is not None and not is_data(Path(name_or_path)):
        return find_on_hub(hub, hub.repo.partition("/")[2], options, alone)
    close = difflib.get_close_matches(name_or_path, sources, n=1)
    raise HarnessError(
        f"got data set {name_or_path[:LONGEST_NAME]!r}"
        + (", and there is no such file or folder" if os.sep in name_or_path or is_data(Path(name_or_path)) else "")
        + f", expected one of {', '.join(sorted(sources)) or 'no names'}, "
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
    lenient = replace(options, lenient=True)
    dataset = assemble(find_on_hub(HubId(repo=ULTRAFEEDBACK), "ultrafeedback", lenient), lenient)
    note = f"ultrafeedback: its known defective rows are skipped and counted: {sum(dataset.skipped.values())} rows"
    return replace(dataset, notes=(note, *dataset.notes))


def _in_files(paths: list[Path], source: Path, options: LoadOptions, alone: str) -> Parts:
    """Return the one split of one table: held out where its name says so."""
    if options.splits:
        raise HarnessError(
            f"{printable(str(source))}: got --splits {options.splits}, expected none for a single file, which is one "
            "split; leave it out, or give the folder that the files of the splits are in"
        )
    name = source.resolve().name if source.is_dir() else stem_of(source)
    role = "test" if is_held_out(name) else "train" if is_training(name) else alone
    table = partial(read_table, paths, chooser(role, options.columns))
    return Parts(name=name, source=str(source), tables={role: table}, names=(name,))


def _in_folder(folder: Path, options: LoadOptions, alone: str) -> Parts:
    where = printable(str(folder))
    try:
        if saved := saved_shards(folder):
            return _in_files(saved, folder, options, alone)
        files = files_of(folder, told_splits(options.splits).values())
    except OSError as error:
        raise HarnessError(f"{where}: cannot be read ({error.strerror}); check the folder's permissions") from error
    splits, names = chosen_splits(files, where, options.splits, alone)
    roles, moved = promoted(splits, names) if options.needs_test else (splits, [])
    used = {path for paths in roles.values() for path in paths}
    unread = [path.name for path in files.everything if path not in used]
    return Parts(
        name=folder.resolve().name,
        source=str(folder),
        tables={role: partial(read_table, paths, chooser(role, options.columns)) for role, paths in roles.items()},
        names=tuple(path.name for paths in roles.values() for path in paths),
        notes=(*moved, *([f"data files not read: {some(unread)}"] if unread else [])),
    )
