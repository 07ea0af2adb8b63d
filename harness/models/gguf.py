"""GGUF files as models: their weights dequantised and written as plain safetensors, once, in the cache."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api import HarnessError
from harness.import_guard import guard_imports
from harness.models.families import family_of
from harness.models.hub import Found, count_parameters
from harness.models.start import StartCheckpoint, cached, content_key, fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NOT_QUANTISED = ("F64", "F32", "F16", "BF16")
"""Types of tensors that hold every weight as a floating-point number of its own."""


def require_reader(name: str) -> None:
    """Raise `HarnessError` where the package that reads GGUF files is not installed."""
    if find_spec("gguf") is None:
        raise HarnessError(
            f"model '{name}' is read from a GGUF file, which needs gguf, which is not installed; "
            "run: pip install 'preference-harness[gguf]'"
        )


def from_gguf_file(name: str, cache: Path, progress: Callable[[str], None]) -> Found:
    """Return the checkpoint of a GGUF file. Raises `HarnessError` where it is missing or cannot be read."""
    file = Path(name).expanduser()
    if not file.is_file():
        raise HarnessError(f"got model '{name}', expected a GGUF file there; check the path")
    with file.open("rb") as opened:
        content = hashlib.file_digest(opened, "sha256").hexdigest()
    return plain_checkpoint(name, content, lambda scratch: file, cache, progress)


def plain_checkpoint(
    name: str, content: str, provide: Callable[[Path], Path], cache: Path, progress: Callable[[str], None]
) -> Found:
    """Return the GGUF file of this content (SHA-256) as a folder of safetensors and tokenizer, fp32, from the cache.

    `provide` is called where the cache does not have it: it returns the file, and may fill the folder that it is given.
    """

    def build(folder: Path) -> StartCheckpoint:
        require_reader(name)
        scratch = folder.parent / "scratch"
        scratch.mkdir()
        file = provide(scratch)
        quantised = _quantised(file, name)
        model_type = _convert(file, name, folder)
        family = family_of(model_type)
        return StartCheckpoint(
            folder=folder,
            family=family.name if family else model_type,
            preset="custom",
            id=name,
            revision=content,
            parameters=count_parameters(folder),
            fingerprint=fingerprint(folder),
            quantised=quantised,
        )

    key = content_key("gguf", content)
    made = cached(cache, key, name, build, progress, how="read from a GGUF file, its weights as fp32")
    return Found(folder=made.folder, id=name, revision=content, quantised=made.quantised)


def _quantised(file: Path, name: str) -> str:
    """Return the type that most quantised weights of the file have, as `Q4_1`; empty where none is quantised."""
    from gguf import GGUFReader

    try:
        tensors: list[Any] = GGUFReader(file).tensors
    except Exception as error:  # it raises whatever the bytes make it stumble over
        raise _unreadable(name, error) from error
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        sizes[tensor.tensor_type.name] += int(tensor.n_elements)
    quantised = [kind for kind, _ in sizes.most_common() if kind not in NOT_QUANTISED]
    return quantised[0] if quantised else ""


def _convert(file: Path, name: str, folder: Path) -> str:
    """Write config, fp32 safetensors and tokenizer of a GGUF file into `folder`; return the config's model_type."""
    guard_imports()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where: dict[str, Any] = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    try:
        with redirect_stderr(StringIO()):  # a bar of its own, below ours
            tokenizer = AutoTokenizer.from_pretrained(**where)
            model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    except Exception as error:  # an architecture that is not known, a tensor that is missing: each has its own type
        raise _unreadable(name, error) from error
    if hasattr(model.config, "quantization_config"):  # the weights are plain now
        del model.config.quantization_config
    model.hf_quantizer = None  # which would refuse to have them saved
    model.config.name_or_path = ""
    model.save_pretrained(folder)
    _split_as_trained(tokenizer, file)
    tokenizer.save_pretrained(folder)
    return str(model.config.model_type)


def _split_as_trained(tokenizer: PreTrainedTokenizerBase, file: Path) -> None:
    """Let a tokenizer split text as the GGUF file says, where transformers splits every byte-level text like GPT-2."""
    from gguf import GGUFReader
    from tokenizers import pre_tokenizers

    field = GGUFReader(file).get_field("tokenizer.ggml.pre")
    if field is None or field.contents() != "smollm":
        return
    backend: Any = tokenizer.backend_tokenizer  # of fast tokenizers, as all from GGUF are
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )


def _unreadable(name: str, error: Exception) -> HarnessError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return HarnessError(
        f"got model '{name}', whose GGUF file cannot be read ({reason}), expected one of a causal language model whose "
        "architecture transformers reads from GGUF; fetch it anew, or name a folder with *.safetensors"
    )
