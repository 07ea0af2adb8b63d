"""QLoRA's frozen weights: 4 bits each, NF4, by bitsandbytes (Dettmers et al. 2023, arXiv:2305.14314, sec. 3).

What 4 bits leave of a start checkpoint is written as a checkpoint of its own, and a run starts from that: it is scored,
it is the reference, and adapters are merged onto it. In 4 bits its weights are the same again, which is checked when it
is written: what is scored is what was trained.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api import HarnessError
from harness.models.convert import load_plain, write_plain
from harness.models.start import StartCheckpoint, StartRequest, cached, content_key, fingerprint
from harness.models.weights import quiet, read_weights

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import BitsAndBytesConfig, PreTrainedModel

NAME = "NF4"
BLOCK = 64
"""Weights that share a scale, as in the paper.

Layers whose inputs are no multiple stay as they are: bitsandbytes 0.50 reads some of them wrongly on a CPU (of 64 x 96
weights in [-4, 4] one comes back 2 off). Those of released models are multiples.
"""


def nf4_start(full: StartCheckpoint, request: StartRequest) -> StartCheckpoint:
    """Return what 4 bits leave of a start checkpoint, as a plain checkpoint, from the cache where it was made before.

    Raises `HarnessError` where bitsandbytes is missing or reads other weights from it.
    """
    require_bitsandbytes()
    dtype, trust_remote_code = request.nf4, request.trust_remote_code

    def build(folder: Path) -> StartCheckpoint:
        model = load_plain(full.folder, dtype, trust_remote_code)
        for name in _layers(full.folder, trust_remote_code):
            layer = model.get_submodule(name)
            layer.weight.data = _of_four_bits(layer.weight.data)
        write_plain(model, folder, full.folder, full.folder)
        _require_same(folder, dtype, trust_remote_code)
        return replace(full, folder=folder, fingerprint=fingerprint(folder))

    key = content_key("nf4", full.fingerprint, dtype, version("bitsandbytes"))
    made = cached(request.cache, key, full.id, build, request.progress, how="what 4 bits leave of its weights")
    kind = f"{full.quantised}, then {NAME}" if full.quantised else NAME
    return replace(full, folder=made.folder, fingerprint=made.fingerprint, quantised=kind)


def in_four_bits(folder: Path, dtype: str, trust_remote_code: bool = False) -> BitsAndBytesConfig:
    """Return the setting with which `from_pretrained` keeps the weights of a checkpoint in 4 bits."""
    require_bitsandbytes()
    import torch
    from transformers import BitsAndBytesConfig

    weights, layers = read_weights(folder, trust_remote_code), _layers(folder, trust_remote_code)
    others = [weights.head.removesuffix(".weight"), *(name for name in weights.linear if name not in layers)]
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=False,  # scales of scales would not come back the same
        bnb_4bit_compute_dtype=getattr(torch, dtype),
        llm_int8_skip_modules=others,  # of 4 bits too, in spite of its name
    )


def in_full_precision(model: PreTrainedModel) -> None:
    """Keep bitsandbytes from computing in bf16 whatever the dtype, which it does on some CPUs without gradients."""
    from bitsandbytes import nn

    for module in model.modules():
        if isinstance(module, nn.modules.Linear4bit):
            module.support_avx512bf16_for_cpu = False


def require_bitsandbytes() -> None:
    """Raise `HarnessError` where bitsandbytes is not installed."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise HarnessError(
            "--adapter qlora needs bitsandbytes, which is not installed; run: pip install 'preference-harness[qlora]'"
        )


def _layers(folder: Path, trust_remote_code: bool) -> list[str]:
    """Return the names of the linear layers that are kept in 4 bits. Raises `HarnessError` where there are none."""
    weights = read_weights(folder, trust_remote_code)
    found = [name for name in weights.linear if weights.shapes[f"{name}.weight"][-1] % BLOCK == 0]
    if not found:
        raise HarnessError(
            f"--adapter qlora got a model without a linear layer of a multiple of {BLOCK} inputs ({folder}), expected "
            "some to keep in 4 bits; pass --adapter lora"
        )
    return found


def _of_four_bits(weight: Tensor) -> Tensor:
    from bitsandbytes import functional

    return functional.dequantize_4bit(*functional.quantize_4bit(weight, blocksize=BLOCK, quant_type="nf4"))


def _require_same(folder: Path, dtype: str, trust_remote_code: bool) -> None:
    """Raise `HarnessError` where the weights in `folder` are other ones in 4 bits."""
    import torch
    from bitsandbytes import functional
    from transformers import AutoModelForCausalLM

    with quiet():
        kept = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            trust_remote_code=trust_remote_code,
            quantization_config=in_four_bits(folder, dtype, trust_remote_code),
        )
    plain = load_plain(folder, dtype, trust_remote_code)
    for name in _layers(folder, trust_remote_code):
        layer, written = kept.get_submodule(name), plain.get_submodule(name).weight
        state = getattr(layer.weight, "quant_state", None)
        if state is None or not torch.equal(functional.dequantize_4bit(layer.weight, state).cpu(), written):
            raise HarnessError(
                f"--adapter qlora: bitsandbytes {version('bitsandbytes')} reads other weights of {name} than it wrote, "
                "expected the same, which are scored; pass --adapter lora, or try another version of it"
            )
