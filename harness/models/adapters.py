"""LoRA adapters: put onto a model to be trained, written alone, merged onto their start checkpoint to be scored.

They are merged for scoring and not served by request: vLLM's LoRA layers gave the same log-probs within 2e-5 nats, and
took 4 to 5 times as long as merging and a reload on a CPU, where they gather the adapter anew for every token (a Llama
of 135M parameters, 80 responses, one core: 33 to 65 s an adapter against 11 s).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api import HarnessError
from harness.models.folders import ADAPTER
from harness.models.size import NAMED_SHAPES
from harness.models.weights import Weights
from harness.run_folder.adapter_setting import ALL_LINEAR, AdapterSetting

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WEIGHTS_FILE = "adapter_model.safetensors"
MODEL_CARD = "README.md"
SHOWN = 12
"""Names of layers that a message lists."""


def read_setting(text: str) -> AdapterSetting | None:
    """Return the adapter that `text` asks for, None for `full`; raise `HarnessError` where it asks for neither."""
    try:
        return AdapterSetting.parse(text)
    except ValueError as error:
        raise HarnessError(f"adapter got '{text}': {error}") from None


def require_targets(setting: AdapterSetting, weights: Weights, model: str) -> None:
    """Raise `HarnessError` where a target is the name of no linear layer below the head.

    The head is left out in training, and an embedding may be tied to it: an adapter there would be trained by nothing.
    """
    _require(setting, weights.linear, model)


def _require(setting: AdapterSetting, layers: Sequence[str], model: str) -> None:
    ends = sorted({name.rpartition(".")[2] for name in layers})
    for target in setting.targets:
        if not any(AdapterSetting(targets=(target,)).matches(name) for name in layers):
            known = ", ".join(ends[:SHOWN]) + (", ..." if len(ends) > SHOWN else "")
            raise HarnessError(
                f"--adapter got targets={target}, expected linear layers of model '{model}' other than its head: "
                f"{known}; name these, or {ALL_LINEAR}"
            )


def require_known_targets(setting: AdapterSetting, models: Sequence[str]) -> None:
    """Raise `HarnessError` where a target is no linear layer of a model that has a name; others are tried later."""
    for model in models:
        if model in NAMED_SHAPES:
            ends = tuple(target.rpartition(".")[2] for target in setting.targets)
            _require(replace(setting, targets=ends), tuple(NAMED_SHAPES[model].linear), model)


def with_adapter(model: PreTrainedModel, setting: AdapterSetting, seed: int) -> PreTrainedModel:
    """Return the model with an adapter initialised from `seed`, the one thing in it that is trained.

    Raises `HarnessError` where peft is missing.
    """
    import torch

    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise HarnessError(
            f"adapter '{setting}' needs peft, which is not installed; run: pip install 'preference-harness[peft]'"
        ) from None
    config = LoraConfig(
        r=setting.r,
        lora_alpha=setting.alpha,
        lora_dropout=0.0,
        target_modules=list(setting.targets) or ALL_LINEAR,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]), _peft_warnings():
        torch.manual_seed(seed)
        wrapped: PreTrainedModel = get_peft_model(model, config)
    return wrapped


def has_adapter(model: Any) -> bool:
    """Return whether the model has an adapter."""
    try:
        from peft import PeftModel
    except ImportError:
        return False
    return isinstance(model, PeftModel)


def save_adapter(model: Any, folder: Path) -> None:
    """Write the adapter of `model` alone, as peft does, without the card that peft has for it."""
    model.save_pretrained(folder)
    (folder / MODEL_CARD).unlink(missing_ok=True)


def is_adapter(folder: Path) -> bool:
    """Return whether `folder` holds an adapter, which is to be merged onto what it was trained on."""
    return (folder / ADAPTER).is_file()


def is_zero(folder: Path) -> bool:
    """Return whether the adapter in `folder` adds nothing, as at its start: then its second matrices are all zero."""
    from safetensors.torch import load_file

    return not any(tensor.any() for name, tensor in load_file(folder / WEIGHTS_FILE).items() if ".lora_B." in name)


def merged_model(base: Any, adapter: Path) -> Any:
    """Return the model `base` with what peft merges of the adapter in the folder `adapter`."""
    from peft import PeftModel

    with _peft_warnings():
        whole: Any = PeftModel.from_pretrained(base, str(adapter))
        return whole.merge_and_unload(safe_merge=True)


def merged_in_fp32(base: Any, adapter: Path) -> Any:
    """Return the model `base` with the products of one of our adapters added to its weights: in fp32, then rounded.

    In bf16 peft would round the products first, and then the sums.
    """
    import torch
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer

    with _peft_warnings():
        whole: Any = PeftModel.from_pretrained(base, str(adapter))
    with torch.no_grad():
        for layer in whole.modules():
            if isinstance(layer, LoraLayer):
                lora: Any = layer  # its base class does not declare get_delta_weight
                weight = lora.get_base_layer().weight
                weight.copy_(weight.float() + lora.get_delta_weight(lora.active_adapters[0]).float())
    return whole.unload()


@contextmanager
def _peft_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        # peft asks transformers for an attribute under its old name
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        yield
