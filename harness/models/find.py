"""A model by the name that it is asked for with, as files that hold a plain checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from harness.models.convert import from_adapter, from_pickled
from harness.models.folders import is_gguf, kind_of, local
from harness.models.gguf import from_gguf_file
from harness.models.hub import Found, fetch, require_causal
from harness.models.smollm2 import smollm2
from harness.planning.presets import SMOLLM2


def find(name: str, cache: Path, progress: Callable[[str], None], *, trust_remote_code: bool = False) -> Found:
    """Return the files of a model by its name: `smollm2`, a GGUF file, a local folder or a hub id.

    What holds no plain weights, a LoRA adapter or pickled ones, is made into a plain checkpoint in the cache.
    """
    if name == SMOLLM2:
        return smollm2(cache, progress)
    if is_gguf(name):
        return from_gguf_file(name, cache, progress)
    folder = local(name)
    found = Found(folder=folder.resolve(), id=name) if folder else fetch(name, trust_remote_code, progress)
    kind = kind_of(found.folder)
    if kind == "adapter":
        find_base = partial(find, cache=cache, progress=progress, trust_remote_code=trust_remote_code)
        return from_adapter(found, find_base, cache, progress, trust_remote_code=trust_remote_code)
    require_causal(found.folder, name, trust_remote_code)
    if kind == "pickled":
        return from_pickled(found, cache, progress, trust_remote_code=trust_remote_code)
    return found
