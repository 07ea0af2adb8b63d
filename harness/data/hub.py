"""Data sets on the Hugging Face hub: `org/name`, `org/name:config`, `org/name@revision`, `org/name:config@revision`.

`datasets` fetches them and keeps them in its cache; a commit that is there is read without the hub, of no other commit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from harness.api import HarnessError, LoadOptions
from harness.data.arrow_files import BATCH_ROWS, rows_of_batches
from harness.data.assemble import Parts
from harness.data.files import is_data
from harness.data.raw import Choose, Table, printable, some
from harness.data.splits import SPLITS, STEMS, chooser, promoted, split_names, split_of

HUB_ID = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(:(?P<config>[^:@/]+))?(@(?P<revision>[^:@\s]+))?", re.ASCII)
COMMIT = re.compile("[0-9a-f]{40}")
SECONDS = 10
"""How long the hub may take to say that it is there."""
UNKNOWN = "unknown revision"


@dataclass(frozen=True, kw_only=True)
class HubId:
    """What `--dataset` names on the hub."""

    repo: str
    config: str = ""
    """One of the data set's configurations; "" for its default."""
    revision: str = ""
    """A branch, a tag or a commit; "" for the newest state of the main branch."""

    @classmethod
    def of(cls, text: str) -> HubId | None:
        """Return the id that `text` is; None for what cannot be one."""
        found = HUB_ID.fullmatch(text)
        return cls(**found.groupdict(default="")) if found else None

    def __str__(self) -> str:
        config, revision = (
            f"{mark}{part}" if part else "" for mark, part in ((":", self.config), ("@", self.revision))
        )
        return f"{self.repo}{config}{revision}"


@dataclass(frozen=True, kw_only=True)
class _Found:
    """The splits of a data set, and where they are from."""

    splits: Mapping[str, Any]
    source: HubId
    """Its revision is the commit."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """What the hub says of a revision."""

    commit: str = ""
    stems: frozenset[str] = frozenset()
    """Splits that its files are named after, where its README declares none."""
    unreachable: str = ""
    """Why the hub cannot be reached; "" where it can."""


def find_on_hub(hub: HubId, name: str, options: LoadOptions, alone: str = "train") -> Parts:
    """Return the splits of the data set, called `name`; `source` has the commit that was read.

    Raises `HarnessError`, one line, where it is not there, not open to this user, or neither the hub nor a copy of it
    can be reached.
    """
    asked = _Answer(unreachable="HF_HUB_OFFLINE is set") if _offline() else _asked(hub)
    found = _cached(hub, asked.unreachable) if asked.unreachable else _fetched(hub, asked)
    parts = from_dataset_dict(found.splits, name, found.source.revision, options, alone)
    return replace(parts, source=printable(str(found.source)), notes=(*found.notes, *parts.notes))


def from_dataset_dict(
    dataset_dict: Mapping[str, Any], name: str, revision: str, options: LoadOptions, alone: str = "train"
) -> Parts:
    """Return the splits in a `datasets.DatasetDict`, which have the names that files in a folder have."""
    tables: dict[str, Callable[[], Table]] = {}
    names: dict[str, str] = {}
    for role, stems in split_names(options.splits, dataset_dict, f"data set '{name}'").items():
        stem = next((stem for stem in stems if stem in dataset_dict), None)
        if stem is not None:
            names[role] = stem
    if not names and alone == "test" and len(dataset_dict) == 1:
        names = {"test": next(iter(dataset_dict))}
    for role, stem in names.items():
        choose = chooser(role, options.columns)
        tables[role] = partial(_hub_table, dataset_dict[stem], f"{name} {stem}", choose)
    if not tables:
        raise HarnessError(
            f"data set '{name}' at revision {revision}: got splits {some(dataset_dict)}, expected "
            f"{' or '.join(SPLITS[alone])}; check the revision, or name the split by --splits {alone}=..."
        )
    tables, moved = promoted(tables, names) if options.needs_test else (tables, [])
    return Parts(name=name, source=f"{name}@{revision}", tables=tables, names=tuple(names.values()), notes=tuple(moved))


def _hub_table(split: Any, where: str, choose: Choose) -> Table:
    wanted = [column for column in split.column_names if column in choose(split.column_names)]
    batches = split.select_columns(wanted).with_format("arrow").iter(batch_size=BATCH_ROWS)
    return Table(where=printable(where), columns=frozenset(split.column_names), rows=rows_of_batches(batches, ""))


def _offline() -> bool:
    import datasets

    return bool(datasets.config.HF_HUB_OFFLINE)


def _asked(hub: HubId) -> _Answer:
    """Return what the hub has under the revision, or why it cannot be reached."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    revision = hub.revision or None
    try:
        info = HfApi().dataset_info(hub.repo, revision=revision, timeout=SECONDS)
    except Exception as error:  # the HTTP library's exceptions are its own, and differ between versions
        if isinstance(error, RevisionNotFoundError):
            raise _no_revision(hub) from None
        if _is_closed(error):
            raise _closed(hub) from None
        if isinstance(error, RepositoryNotFoundError):
            raise HarnessError(
                f"got '{hub.repo}', expected a file, a folder or a data set on the hub: none is there, or it "
                "is private; check the name or the path, or log in (hf auth login)"
            ) from None
        return _Answer(unreachable=_reason(error))
    if not COMMIT.fullmatch(hub.revision):
        try:  # so that the cache knows which commit the revision is when the hub is out of reach
            HfApi().hf_hub_download(hub.repo, "README.md", repo_type="dataset", revision=revision)
        except EntryNotFoundError:
            pass
        except Exception as error:  # what else is wrong, reading the files meets too
            if _is_closed(error):
                raise _closed(hub) from None
    files = [Path(each.rfilename) for each in info.siblings or []]
    declared = info.card_data and any(info.card_data.get(key) for key in ("configs", "dataset_info"))
    stems = {split_of(file) for file in files if is_data(file) and str(file.parent) in (".", "data")} & STEMS
    return _Answer(commit=str(info.sha), stems=frozenset() if declared else frozenset(stems))


def _fetched(hub: HubId, asked: _Answer) -> _Found:
    """Return the data set at this commit, from the cache of `datasets` as far as it is there."""
    import datasets

    commit = asked.commit
    try:
        splits = datasets.load_dataset(hub.repo, hub.config or None, revision=commit)
    except Exception as error:  # datasets, the hub's client and its HTTP library each raise exceptions of their own
        if _is_closed(error):
            raise _closed(hub) from error
        if isinstance(error, ValueError) and "onfig" in str(error):
            raise _no_config(hub, commit, error) from error
        raise HarnessError(
            f"data set '{hub}': got {type(error).__name__} ({_reason(error)}), expected data files that `datasets` "
            "reads; run the command again if the connection broke (what was fetched is kept), or download the files "
            "and give their folder"
        ) from error
    if (read := commit_of(splits)) not in (commit, UNKNOWN):  # datasets falls back to any commit that it has
        raise HarnessError(
            f"data set '{hub}': got commit {read} from the cache, expected {commit}, which could not be fetched; run "
            "the command again, or ask for the commit that is there"
        )
    if len(asked.stems) > len(splits):
        raise HarnessError(
            f"data set '{hub}': got splits {some(splits)} from files of {some(sorted(asked.stems))}, expected each "
            "of them apart, but `datasets` joins files that its README does not tell apart; declare them in its README "
            "(`configs`), or download the files and give their folder"
        )
    config = next(iter(splits.values())).config_name or ""
    return _Found(splits=splits, source=_source(hub, config, commit))


def _cached(hub: HubId, unreachable: str) -> _Found:
    """Return the data set as `datasets` has prepared it before, of the revision that is asked for."""
    import datasets
    from datasets.packaged_modules.cache.cache import Cache

    commit = _commit_in_cache(hub)
    folders = list(_prepared(hub, commit)) if commit or not hub.revision else []
    if not folders:
        raise HarnessError(
            f"got '{hub}', expected a file, a folder, or a data set on the hub, which cannot be reached "
            f"({unreachable}) and of which the cache has no copy; check the name or the path, connect, or set HF_HOME "
            "to a filled cache, or give a local folder"
        )
    folder = max(folders, key=lambda folder: folder.stat().st_mtime)
    configs = sorted({each.parts[-3] for each in folders if each.name == folder.name})
    if len(configs) > 1:
        raise HarnessError(
            f"data set '{hub}': got configurations {some(configs)} in the cache, expected one, because the hub cannot "
            f"be reached ({unreachable}); name it: {replace(hub, config=configs[0])}"
        )
    config, version, digest = folder.parts[-3:]
    name = datasets.naming.camelcase_to_snakecase(hub.repo.partition("/")[2])
    builder = Cache(dataset_name=name, repo_id=hub.repo, config_name=config, version=version, hash=digest)
    note = f"read from the cache: the hub was not reached ({unreachable})"
    return _Found(splits=builder.as_dataset(), source=_source(hub, config, digest), notes=(note,))


def _source(hub: HubId, config: str, commit: str) -> HubId:
    return replace(hub, config="" if config == "default" else config, revision=commit)


def _commit_in_cache(hub: HubId) -> str:
    """Return which commit the cache of the hub's client has for the revision; "" where it does not know."""
    from huggingface_hub.constants import HF_HUB_CACHE

    if COMMIT.fullmatch(hub.revision):
        return hub.revision
    file = Path(HF_HUB_CACHE) / f"datasets--{hub.repo.replace('/', '--')}" / "refs" / (hub.revision or "main")
    return file.read_text(encoding="utf-8").strip() if file.is_file() else ""


def _prepared(hub: HubId, commit: str) -> Iterator[Path]:
    """Yield the folders of `datasets`' cache that hold it: `org___name/config/version/commit`."""
    import datasets

    owner, _, name = hub.repo.partition("/")
    folder = Path(datasets.config.HF_DATASETS_CACHE) / f"{owner}___{datasets.naming.camelcase_to_snakecase(name)}"
    for info in folder.glob("*/*/*/dataset_info.json"):
        config, _, digest = info.parent.parts[-3:]
        if config == (hub.config or config) and digest == (commit or digest):
            yield info.parent


def commit_of(splits: Mapping[str, Any]) -> str:
    """Return the commit of the data set on the hub, after which `datasets` names the cache folder of a download."""
    for split in splits.values():
        for file in split.cache_files:
            for folder in Path(file["filename"]).parts[:-1]:
                if COMMIT.fullmatch(folder):
                    return folder
    return UNKNOWN


def _is_closed(error: BaseException | None) -> bool:
    """Return whether the hub refused this user: the data set is gated, or the token is not good."""
    from huggingface_hub.errors import GatedRepoError

    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        missing = getattr(getattr(error, "response", None), "headers", {}).get("X-Error-Code") == "RepoNotFound"
        if isinstance(error, GatedRepoError) or status == 403 or (status == 401 and not missing):
            return True
        if "is a gated dataset" in str(error) or "Cannot access gated repo" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _closed(hub: HubId) -> HarnessError:
    return HarnessError(
        f"data set '{hub.repo}': got no access, expected a user who has it: it is gated, or the token is not valid; "
        "ask for access on its page, log in (hf auth login, or HF_TOKEN) and run again"
    )


def _no_revision(hub: HubId) -> HarnessError:
    return HarnessError(
        f"data set '{hub.repo}': got revision '{hub.revision}', expected a branch, a tag or a commit of it; check the "
        "name on its page"
    )


def _no_config(hub: HubId, commit: str, error: Exception) -> HarnessError:
    """Return the error for a configuration that is not there, or that must be named."""
    import datasets

    try:
        known = some(datasets.get_dataset_config_names(hub.repo, revision=commit))
    except Exception:  # what load_dataset said has to do
        known = _reason(error)
    got = f"configuration '{hub.config}'" if hub.config else "no configuration"
    return HarnessError(f"data set '{hub}': got {got}, expected one of {known}; give it as {hub.repo}:CONFIG")


def _reason(error: BaseException) -> str:
    """Return the innermost cause in a few words."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return printable(said)[:200]
