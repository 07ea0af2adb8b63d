"""Tiny models of real layouts in the forms they have on disk: adapters, pickled weights, GGUF files."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from models_as_gguf import write_gguf
from real_layouts import make


def adapter(base: Path, folder: Path, seed: int = 0, names_base: str | None = None, **options: Any) -> Path:
    """Write a LoRA adapter as peft saves it, of the model in `base`, with weights that count; no tokenizer."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # peft asks transformers for an attribute under its old name
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        torch.manual_seed(seed)
        wrapped = get_peft_model(
            AutoModelForCausalLM.from_pretrained(base),
            LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"} | options),
        )
        with torch.no_grad():
            for name, parameter in wrapped.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.1)
        wrapped.save_pretrained(folder)
    if names_base is not None:
        config = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": names_base}))
    return folder


def any_layout(layout: str, folder: Path) -> Path:
    """Write a model of `LAYOUTS`, an `adapter` with its base beside it, a `gguf` file or `pickled` weights."""
    folder.mkdir(parents=True, exist_ok=True)
    if layout == "adapter":
        return adapter(make("llama-2", folder / "base"), folder / "adapter")
    if layout == "gguf":
        return write_gguf(folder / "model.gguf", kind="Q4_1")[0]
    return pickled(make("llama-2", folder)) if layout == "pickled" else make(layout, folder)


def pickled(folder: Path) -> Path:
    """Turn the safetensors of a model into `pytorch_model.bin`, as checkpoints of some years ago have it."""
    import torch
    from safetensors.torch import load_file

    file = folder / "model.safetensors"
    torch.save(load_file(file), folder / "pytorch_model.bin")
    file.unlink()
    return folder
