"""What a local folder or file holds as a model, and what such a model is called: by its content. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.api import HarnessError

Kind = Literal["weights", "pickled", "adapter", "gguf"]
"""Plain safetensors, `pytorch_model*.bin`, a LoRA adapter of another model, or a GGUF file."""
PICKLED = "pytorch_model*.bin"
ADAPTER = "adapter_config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
DECIDES = ("config.json", "tokenizer*", "vocab.*", "merges.txt", "special_tokens_map.json", "added_tokens.json")
"""Files beside the weights that decide what a model computes, and of which text."""


def is_gguf(name: str) -> bool:
    """Return whether a model is named by the path of a GGUF file."""
    return name.lower().endswith(".gguf")


def local(name: str) -> Path | None:
    """Return the folder or GGUF file that a model is named by; None where none is there."""
    path = Path(name).expanduser()
    return path if path.is_dir() or (is_gguf(name) and path.is_file()) else None


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors of a model; an adapter's are not among them."""
    return sorted(file for file in folder.glob("*.safetensors") if file.name not in ADAPTER_WEIGHTS)


def kind_of(path: Path) -> Kind:
    """Return what a folder or file holds. Raises `HarnessError`, one line, where it is no model."""
    if path.is_file():
        return "gguf"
    config, adapter = (path / "config.json").is_file(), (path / ADAPTER).is_file()
    plain, pickled = weight_files(path), sorted(path.glob(PICKLED))
    if config and (plain or pickled):
        if adapter:
            raise HarnessError(
                f"got folder {path}, which holds a whole model and a LoRA adapter ({ADAPTER}), expected one of them; "
                "move the other away"
            )
        return "weights" if plain else "pickled"
    if adapter:
        if not any((path / name).is_file() for name in ADAPTER_WEIGHTS):
            raise HarnessError(
                f"got folder {path} with {ADAPTER} and without {' or '.join(ADAPTER_WEIGHTS)}, expected both; "
                "write it with model.save_pretrained(folder)"
            )
        return "adapter"
    raise HarnessError(f"got folder {path}, {_lacking(path, config)}")


def _lacking(folder: Path, config: bool) -> str:
    """Return what a folder has instead of a model, and what to do."""
    steps = [each for each in folder.glob("checkpoint-*") if each.is_dir()]
    if steps:
        steps.sort(key=lambda each: (len(each.name), each.name))
        names = ", ".join(each.name for each in steps)
        return f"which holds {names} and no model of its own, expected one checkpoint; name it, as {steps[-1]}"
    if sharded := [each.name for each in folder.glob("*") if re.match(r"global_step\d+|pytorch_model_fsdp", each.name)]:
        return (
            f"which holds the shards of a training on several devices ({sharded[0]}), expected a whole model; join "
            "them with zero_to_fp32.py or accelerate merge-weights"
        )
    missing = "*.safetensors" if config else "config.json and *.safetensors"
    return (
        f"expected a config.json and *.safetensors in it, or a LoRA adapter; it has no {missing}: write it with "
        "model.save_pretrained(folder)"
    )


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What config.json says of the kind of a model."""

    model_type: str
    """Empty where it says none."""
    architectures: tuple[str, ...]
    encoder_decoder: bool
    quantised: str
    """How its weights are quantised, as `gptq`; empty: they are plain."""
    own_code: bool
    """Whether it brings code of its own."""


def read_config(folder: Path) -> ModelConfig:
    """Return what config.json says. Raises `HarnessError` where it cannot be read."""
    file = folder / "config.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        quantised = content.get("quantization_config") or {}
        return ModelConfig(
            model_type=str(content.get("model_type") or ""),
            architectures=tuple(content.get("architectures") or ()),
            encoder_decoder=bool(content.get("is_encoder_decoder")),
            quantised=str(quantised.get("quant_method", "unknown")) if quantised else "",
            own_code="auto_map" in content,
        )
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise HarnessError(
            f"{file} cannot be read ({error}), expected the JSON of save_pretrained; fetch or write it anew"
        ) from None


def require_causal_config(config: ModelConfig, name: str) -> None:
    """Raise `HarnessError` where a config is of another kind of model than causal language models, or quantised."""
    causal = [each for each in config.architectures if re.search(r"ForCausalLM$|LMHeadModel$", each)]
    if config.encoder_decoder or (config.architectures and not causal):
        also = "an encoder-decoder, " if config.encoder_decoder else ""
        kind = ", ".join(config.architectures) or config.model_type or "no model_type"
        raise HarnessError(
            f"got model '{name}' ({also}{kind}), expected a causal language model, whose architecture ends in "
            "ForCausalLM; name one"
        )
    if config.quantised:
        raise HarnessError(
            f"got model '{name}', whose weights are quantised ({config.quantised}), expected plain ones, which can be "
            "trained; name the checkpoint that it was quantised from"
        )


def require_template(folder: Path, name: str) -> None:
    """Raise `HarnessError` where the tokenizer in a folder has no chat template; one without a config is not judged."""
    config = folder / "tokenizer_config.json"
    elsewhere = ("chat_template.jinja", "chat_template.json", "additional_chat_templates")
    if not config.is_file() or any((folder / other).exists() for other in elsewhere):
        return
    try:
        given = json.loads(config.read_text(encoding="utf-8")).get("chat_template")
    except (OSError, ValueError, AttributeError) as error:
        raise HarnessError(f"{config} cannot be read ({error}), expected JSON; write it anew") from None
    if not given:
        raise HarnessError(
            f"model '{name}' has no chat template, expected one; give one as --chat-template FILE, or set "
            f"`chat_template` in {config}"
        )


def base_of(folder: Path, name: str) -> tuple[str, str]:
    """Return the base that an adapter names, and its revision, often empty.

    Raises `HarnessError` where it is no LoRA adapter of a causal language model.
    """
    try:
        settings = json.loads((folder / ADAPTER).read_text(encoding="utf-8"))
        kind, task, base = (settings.get(key) for key in ("peft_type", "task_type", "base_model_name_or_path"))
    except (OSError, ValueError, AttributeError) as error:
        raise HarnessError(f"{folder / ADAPTER} cannot be read ({error}), expected JSON; write it anew") from None
    if kind != "LORA" or task not in (None, "CAUSAL_LM"):
        raise HarnessError(
            f"model '{name}': got an adapter of type {kind} for the task {task}, expected LORA for CAUSAL_LM; merge it "
            "yourself and save the whole model"
        )
    if not base:
        raise HarnessError(
            f"model '{name}': got an adapter that does not name its base, expected base_model_name_or_path in "
            f"{folder / ADAPTER}; write it there"
        )
    return str(base), str(settings.get("revision") or "")


def content_name(path: Path) -> str:
    """Return what a local model is called: its architecture and 8 hex digits over its content, wherever it lies.

    Reads every weight once. Raises `HarnessError` where it is no model.
    """
    kind = kind_of(path)
    if kind == "gguf":
        return f"gguf@{content_of([path])[:8]}"
    weights = [*weight_files(path), *path.glob(PICKLED)] if kind != "adapter" else []
    adapter = [path / name for name in (ADAPTER, *ADAPTER_WEIGHTS)] if kind == "adapter" else []
    beside = [file for pattern in (*DECIDES, "*.jinja", "*.py") for file in path.glob(pattern)]
    architecture = "adapter" if kind == "adapter" else read_config(path).model_type or "model"
    content = content_of([file for file in (*weights, *adapter, *beside) if file.is_file()])
    return f"{re.sub(r'[^A-Za-z0-9.-]', '-', architecture)}@{content[:8]}"


def content_of(files: Sequence[Path]) -> str:
    """Return 64 hex digits over the content of files and, of several, their names; reads them whole."""
    whole = hashlib.sha256()
    for file in sorted(set(files)):
        if len(files) > 1:
            whole.update(f"{file.name}\0".encode())
        with file.open("rb") as opened:
            whole.update(hashlib.file_digest(opened, "sha256").digest())
    return whole.hexdigest()
