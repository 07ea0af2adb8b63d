"""Which files, or splits on the hub, are which split of a data set: by their names."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from harness.api import HarnessError
from harness.data.files import FORMATS, is_data, stem_of
from harness.data.layouts.table import columns_read
from harness.data.raw import Choose, counted, printable, some
from harness.data.rows import sft_columns

SPLITS: Mapping[str, tuple[str, ...]] = {
    "train": ("train_prefs", "train"),
    "dev": (
        *("dev_prefs", "dev", "validation_prefs", "validation", "valid", "val", "eval_prefs", "eval", "evaluation"),
    ),
    "test": ("test_prefs", "test"),
    "test_lenbalanced": ("test_prefs_lenbalanced",),
    "listwise_train": ("listwise_train",),
    "listwise_dev": ("listwise_dev",),
    "listwise_test": ("listwise_test",),
    "sft": ("train_sft",),
}
"""The names that a split may have, the first that is there counts."""
TEST_ROLES = ("test", "test_lenbalanced", "listwise_test")
"""What an evaluation set is made of."""
STEMS = frozenset(stem for stems in SPLITS.values() for stem in stems)
HELD_OUT_WORDS = frozenset({"test", "eval", "evaluation", "validation", "valid", "val", "dev"})
SHARD = re.compile(r"(?P<stem>.+?)[-_.](?P<index>\d{4,6})-of-(?P<count>\d{4,6})")
SAVED = "state.json"
"""`datasets` writes it beside the files of a split that it saves to disk."""
ABOUT = frozenset({"dataset_dict.json", "dataset_info.json", "dataset_infos.json", SAVED})
"""Files about a data set that hold no rows of it."""

Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class Files:
    """The files of a folder by the split's name, shards in order."""

    splits: Mapping[str, Sequence[Path]]
    everything: Sequence[Path]
    """Every data file that was seen, also those of no split."""
    names: Sequence[str]
    """Of all that lies in the folder."""


def told_splits(given: str) -> dict[str, str]:
    """Return the name of each split that `--splits` tells: `train=...,test=...`."""
    told: dict[str, str] = {}
    for item in filter(None, map(str.strip, given.split(","))):
        role, _, name = map(str.strip, item.partition("="))
        if role not in SPLITS or not name or role in told:
            raise HarnessError(
                f"--splits got '{printable(item)}', expected SPLIT=NAME, each split once, where SPLIT is one of "
                f"{', '.join(SPLITS)}; write it as --splits train=NAME,test=NAME"
            )
        told[role] = name
    return told


def split_names(given: str, there: Collection[str], where: str) -> dict[str, tuple[str, ...]]:
    """Return the names that each split may have: the one that is told, else the usual ones that no other split took."""
    told = told_splits(given)
    for role, name in told.items():
        if name not in there:
            raise HarnessError(
                f"{printable(where)}: got --splits {role}={printable(name)}, expected one of {some(there)}; correct "
                "the name"
            )
    if double := next((name for name in told.values() if list(told.values()).count(name) > 1), ""):
        raise HarnessError(f"--splits got '{printable(double)}' for two splits, expected one; give each its own data")
    free = {role: tuple(name for name in names if name not in told.values()) for role, names in SPLITS.items()}
    return free | {role: (name,) for role, name in told.items()}


def chooser(role: str, given: str) -> Choose:
    """Return which columns of a split are read; `given` is `prompt=question,...`."""
    return sft_columns if role == "sft" else partial(columns_read, given=given if is_pairs(role) else "")


def is_pairs(role: str) -> bool:
    """Return whether the split holds pairs."""
    return role in ("train", "dev", "test", "test_lenbalanced")


def is_held_out(name: str) -> bool:
    """Return whether a name says that it is an evaluation split: its first word is test, validation, eval..."""
    return re.split(r"[^a-z]+", name.lower())[0] in HELD_OUT_WORDS


def is_training(name: str) -> bool:
    """Return whether a name says that it is a training split."""
    return re.split(r"[^a-z]+", name.lower())[0] in ("train", "training")


def no_training_data(where: str, names: Iterable[str]) -> HarnessError:
    """Return the error for an evaluation set alone: nothing of it may go into training."""
    return HarnessError(
        f"{printable(where)}: got an evaluation set ({some(names)}) without training data, expected a train split "
        "beside it; a test split is never carved into a training set; train on other data and give this as --test "
        "beside --dataset, or score a checkpoint on it by harness score; or give the folder that has train too, or "
        "rename the file to train if it is no test split"
    )


def no_test_data(where: str, names: Iterable[str]) -> HarnessError:
    """Return the error for data that are to be tested on and have no test split."""
    return HarnessError(
        f"{printable(where)}: got {some(names)}, expected a test split ({', '.join(SPLITS['test'])}, validation, "
        "eval); of a folder or hub data set, name it by --splits test=NAME; rename a file that is test data to test"
    )


def told_of_each(given: str) -> tuple[str, str]:
    """Return what `--splits` tells of the training data, and of the test data that are another set's."""
    told = told_splits(given)
    parts = ([f"{role}={name}" for role, name in told.items() if (role in TEST_ROLES) == of_test] for of_test in (0, 1))
    training, test = map(",".join, parts)
    return training, test


def promoted(tables: dict[str, Found], names: Mapping[str, str]) -> tuple[dict[str, Found], list[str]]:
    """Return the splits, the only held-out one as the test split, and a note that says so."""
    if "dev" not in tables or "test" in tables:
        return tables, []
    moved = {"dev": "test", "listwise_dev": "listwise_test"}
    renamed = {moved.get(role, role): table for role, table in tables.items() if role != "listwise_test"}
    if "listwise_test" in tables:
        renamed["listwise_test"] = tables["listwise_test"]
    return renamed, [f"test: the split '{printable(names['dev'])}', the only held-out one; nothing carved for it"]


def split_of(path: Path) -> str:
    """Return the split that a file is named after, whatever its name is: `train` of `train-00000-of-00002.parquet`."""
    shard = SHARD.fullmatch(stem_of(path))
    return (shard["stem"] if shard else stem_of(path)).lower()


def files_of(folder: Path, more: Collection[str] = ()) -> Files:
    """Return the files of a folder: its own, those under a folder for each split, or those of its only data folder.

    Raises `HarnessError` where a shard is missing, or one name has files that are no shards of one split.
    """
    stems = STEMS | {name.lower() for name in more}
    files = _files_of(folder, stems)
    if files.splits:
        return files
    inner = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    for path in sorted(inner, key=lambda path: path.name != "data"):
        if path.name == "data" or len(inner) == 1:
            below = files_of(path, more)
            if below.splits:
                return below
    return files


def saved_shards(folder: Path) -> list[Path]:
    """Return the files of one split that `datasets` saved to this folder; empty for any other folder."""
    return _in_order("data", sorted(folder.glob("data-*.arrow"))) if (folder / SAVED).is_file() else []


def _files_of(folder: Path, stems: Collection[str]) -> Files:
    by_name: dict[str, list[Path]] = {}
    everything = []
    for path in sorted(folder.iterdir()):
        if path.is_file() and is_data(path) and path.name not in ABOUT:
            everything.append(path)
            name = split_of(path)
            if name in stems:
                by_name.setdefault(name, []).append(path)
        elif path.is_dir() and path.name.lower() in stems:
            inside = saved_shards(path) or [each for each in sorted(path.iterdir()) if each.is_file() and is_data(each)]
            by_name.setdefault(path.name.lower(), []).extend(inside)
    splits = {name: _in_order(name, paths) for name, paths in by_name.items() if paths}
    return Files(splits=splits, everything=everything, names=[path.name for path in sorted(folder.iterdir())])


def _in_order(name: str, paths: list[Path]) -> list[Path]:
    """Return the shards of a split in order, after checking that there is none missing."""
    shards = [SHARD.fullmatch(stem_of(path)) for path in paths]
    where = printable(str(paths[0].parent)) if paths else ""
    if len(paths) > 1 and not all(shards) and paths[0].parent.name.lower() != name:
        names = " and ".join(printable(path.name) for path in paths)
        raise HarnessError(f"{where}: got {names} for the split {name}, expected one file; move the others away")
    numbers = [(int(shard["index"]), int(shard["count"])) for shard in shards if shard]
    if numbers:
        count = max(count for _, count in numbers)
        missing = sorted(set(range(count)) - {index for index, _ in numbers})
        if missing or len(numbers) != count or len(numbers) != len(paths):
            expected = f"each of 0 to {count - 1} once"
            raise HarnessError(
                f"{where}: got {counted(len(paths), 'file')} for the split {name}, expected {expected}"
                f"{'; missing: ' + some(map(str, missing)) if missing else ''}; fetch the shards again"
            )
    return paths


def chosen_splits(
    files: Files, where: str, given: str = "", alone: str = "train"
) -> tuple[dict[str, Sequence[Path]], dict[str, str]]:
    """Return the files of each split of the data set, and the name each has; `alone`: what test data alone may be."""
    tables: dict[str, Sequence[Path]] = {}
    names: dict[str, str] = {}
    for role, stems in split_names(given.lower(), files.splits, where).items():
        there = [stem for stem in stems if stem in files.splits]
        if len(there) > 1:
            got = " and ".join(printable(files.splits[stem][0].name) for stem in sorted(there))
            raise HarnessError(f"{where}: got {got} for the {role} split, expected one file; move the others away")
        for stem in there:
            tables[role], names[role] = files.splits[stem], stem
    if not tables and alone == "test" and len(files.everything) == 1:
        return {"test": files.everything}, {"test": split_of(files.everything[0])}
    if not tables:
        raise HarnessError(
            f"{where}: got files {some(files.names)}, expected train_prefs or train with "
            f"one of {', '.join(FORMATS)} (and test_prefs, dev_prefs, train_sft where there are any), shards of them, "
            "or a folder for each; rename the file or give its path"
        )
    return tables, names
