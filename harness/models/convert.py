"""Folders that hold no plain weights, made into plain checkpoints in the cache: LoRA adapters and pickled weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.api import HarnessError
from harness.import_guard import guard_imports
from harness.models.adapters import merged_in_fp32, merged_model
from harness.models.families import family_of
from harness.models.folders import ADAPTER, ADAPTER_WEIGHTS, DECIDES, PICKLED, base_of, content_of, read_config
from harness.models.hub import Found
from harness.models.start import StartCheckpoint, cached, content_key, fingerprint
from harness.models.weights import quiet, read_weights

NO_PEFT = "needs peft, which is not installed; run: pip install 'preference-harness[peft]'"
BESIDE = (*DECIDES, "*.jinja")


def from_pickled(found: Found, cache: Path, progress: Callable[[str], None], *, trust_remote_code: bool) -> Found:
    """Return the checkpoint of a folder with `pytorch_model*.bin`, which is read as weights alone and runs no code."""
    files = sorted(found.folder.glob(PICKLED))

    def build(folder: Path) -> StartCheckpoint:
        with _told(f"model '{found.id}', whose weights are pickled ({files[0].name})"):
            model = load_plain(found.folder, "auto", trust_remote_code)
        write_plain(model, folder, found.folder, found.folder)
        return _account(folder, found, trust_remote_code)

    key = content_key("pickled", content_of([found.folder / "config.json", *files, *_files(found.folder)]))
    made = cached(cache, key, found.id, build, progress, how="read from pickled weights")
    return replace(found, folder=made.folder)


def from_adapter(
    found: Found,
    find_base: Callable[[str], Found],
    cache: Path,
    progress: Callable[[str], None],
    *,
    trust_remote_code: bool,
) -> Found:
    """Return the checkpoint of a LoRA adapter merged onto the base that it names, in fp32.

    Raises `HarnessError` where the base is not to be had, peft is missing, or the adapter cannot be merged.
    """
    named, revision = base_of(found.folder, found.id)
    try:
        base = find_base(f"{named}@{revision}" if revision and not Path(named).exists() else named)
    except HarnessError as error:
        raise HarnessError(
            f"model '{found.id}' is a LoRA adapter of '{named}', which it is merged onto and which could not be had "
            f"({error}); bring it there, or correct base_model_name_or_path in {found.folder / ADAPTER}"
        ) from None

    def build(folder: Path) -> StartCheckpoint:
        tokenizer = found.folder if _files(found.folder) else base.folder
        with _told(f"model '{found.id}', a LoRA adapter of '{named}'"):
            merged = _merged(base.folder, found.folder, trust_remote_code)
        write_plain(merged, folder, base.folder, tokenizer)
        return _account(folder, found, trust_remote_code)

    parts = [found.folder / name for name in (ADAPTER, *ADAPTER_WEIGHTS) if (found.folder / name).is_file()]
    of_base = (fingerprint(base.folder), content_of([base.folder / "config.json", *_files(base.folder)]))
    key = content_key("adapter", content_of([*parts, *_files(found.folder)]), *of_base)
    made = cached(cache, key, found.id, build, progress, how=f"merged onto {named}, its weights as fp32")
    of = f"{base.id}@{base.revision}" if base.revision else base.id
    return replace(found, folder=made.folder, base=of, quantised=base.quantised)


def _merged(base: Path, adapter: Path, trust_remote_code: bool) -> Any:
    """Return the base in fp32 with the adapter's products added to its weights."""
    guard_imports()
    if find_spec("peft") is None:
        raise HarnessError(NO_PEFT)
    return merged_model(load_plain(base, "float32", trust_remote_code), adapter)


def write_merged(start: Path, adapter: Path, folder: Path, dtype: str, trust_remote_code: bool = False) -> None:
    """Write the checkpoint `start`, as `dtype` has it, with the products of an adapter of it added in fp32.

    `dtype` is that of training, in which the adapter was added to these weights.
    """
    write_plain(merged_in_fp32(load_plain(start, dtype, trust_remote_code), adapter), folder, start, start)


def load_plain(folder: Path, dtype: str, trust_remote_code: bool) -> Any:
    """Return the model of the checkpoint in `folder`, on the CPU."""
    guard_imports()
    from transformers import AutoModelForCausalLM

    with quiet():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, trust_remote_code=trust_remote_code)


def write_plain(model: Any, folder: Path, code: Path, tokenizer: Path) -> None:
    """Write the weights as safetensors, and beside them code of the model's own and the tokenizer's files."""
    model.save_pretrained(folder)
    for file in (*code.glob("*.py"), *_files(tokenizer)):
        shutil.copyfile(file, folder / file.name)


def _account(folder: Path, found: Found, trust_remote_code: bool) -> StartCheckpoint:
    model_type = read_config(folder).model_type
    family = family_of(model_type)
    return StartCheckpoint(
        folder=folder,
        family=family.name if family else model_type,
        preset="custom",
        id=found.id,
        revision=found.revision,
        parameters=read_weights(folder, trust_remote_code).parameters,
        fingerprint=fingerprint(folder),
    )


def _files(folder: Path) -> list[Path]:
    """Return the files of the tokenizer and of its chat template."""
    files = [file for pattern in BESIDE for file in folder.glob(pattern)]
    return [file for file in files if file.is_file() and file.name != "config.json"]


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Say in one line what could not be read."""
    try:
        yield
    except HarnessError as error:
        raise HarnessError(f"{what}, {error}") from None
    except Exception as error:  # unpickling and peft raise whatever foreign bytes make them stumble over
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise HarnessError(
            f"{what}, cannot be read ({reason[:300]}), expected what save_pretrained writes; write or fetch it anew"
        ) from error
