"""Start checkpoints by name, hub id or folder; models ready for training; trained weights back on disk."""

from __future__ import annotations

import copy
import json
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api import HarnessError
from harness.import_guard import guard_imports
from harness.models.adapters import read_setting, with_adapter
from harness.models.families import FAMILIES, family_of
from harness.models.find import find
from harness.models.hub import Found, check_finite, needs_code, require_causal
from harness.models.nano import make_nano
from harness.models.nf4 import in_four_bits, in_full_precision, nf4_start
from harness.models.sft import fine_tune
from harness.models.start import (
    StartCheckpoint,
    StartRequest,
    cached,
    content_key,
    encoded_examples,
    fingerprint,
    sft_examples,
)
from harness.models.weights import Weights, left_out, read_weights, require_room_for_ids, require_whole
from harness.planning.presets import start_preset

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CHECKPOINTING_FROM = 300_000_000
"""Parameters from which fine-tuning recomputes activations instead of keeping them."""


def start_checkpoint(request: StartRequest) -> StartCheckpoint:
    """Return the checkpoint that every loss starts from.

    A family under `nano` is made here; under other presets it is the hub's base checkpoint fine-tuned on the data.
    Anything else is used as it is, unless fine-tuning is asked for.
    With `nf4` its weights are those that 4 bits leave of them.
    Raises `HarnessError` for unknown names, what cannot be fetched, what is no causal language model, and weights that
    are not finite.
    """
    full = _full_start(request)
    return nf4_start(full, request) if request.nf4 else full


def _full_start(request: StartRequest) -> StartCheckpoint:
    family = FAMILIES.get(request.model)
    if family and request.start is None and request.preset == "nano":
        return make_nano(family, request)
    name = request.start or (family.hub_id if family else request.model)
    found = find(name, request.cache, request.progress, trust_remote_code=request.trust_remote_code)
    folder = found.folder
    model_type = require_causal(folder, name, request.trust_remote_code)
    if family and request.start and not model_type.startswith(family.name):
        raise HarnessError(
            f"got --start {name}, a '{model_type}' model, expected a {family.name} checkpoint for the model "
            f"'{request.model}'; name it as the model itself: --models {name}"
        )
    weights = require_usable(found, request.trust_remote_code, request.chat_template)
    known = family_of(model_type)
    checkpoint = StartCheckpoint(
        folder=folder,
        family=known.name if known else model_type,
        preset=start_preset(request.model, request.preset, request.start),
        id=found.id,
        revision=found.revision,
        parameters=weights.parameters,
        fingerprint=fingerprint(folder),
        note="" if request.start is None else f"starts from {name}",
        quantised=found.quantised,
        base=found.base,
    )
    if unused := left_out(weights):
        request.progress(f"{found.id}: leaves out {unused}")
    fine_tuned = request.sft if request.sft is not None else family is not None and request.start is None
    if fine_tuned:
        return _tuned(checkpoint, load_tokenizer(folder, request.trust_remote_code, request.chat_template), request)
    quantised = f", its weights quantised to {found.quantised}" if found.quantised else ""
    request.progress(f"{found.id}: used as it is{quantised}")
    return checkpoint


def require_usable(found: Found, trust_remote_code: bool = False, chat_template: str = "") -> Weights:
    """Return the weights of a checkpoint, or raise `HarnessError`, one line, where it cannot be trained and scored.

    It must be a causal language model, whole, its weights finite, with a tokenizer whose ids the embedding has.
    """
    require_causal(found.folder, found.id, trust_remote_code)
    weights = read_weights(found.folder, trust_remote_code)
    require_whole(weights, found.id)
    tokenizer = load_tokenizer(found.folder, trust_remote_code, chat_template)
    require_room_for_ids(weights, max(tokenizer.get_vocab().values()), found.id)
    check_finite(found.folder, found.id)
    return weights


def load_model(
    folder: Path, dtype: str = "float32", adapter: str = "full", trust_remote_code: bool = False, seed: int = 0
) -> PreTrainedModel:
    """Return the model in `folder` ready for training: no dropout, no cache, attention that keeps soft-capping.

    `dtype` is `float32` or `bfloat16`. `adapter` is as in `--adapter`: `full`, or an adapter initialised from `seed`.
    Raises `HarnessError` where peft or bitsandbytes is missing or the model needs its own code.
    """
    guard_imports()
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    if dtype not in ("float32", "bfloat16"):
        raise HarnessError(f"got dtype '{dtype}', expected float32 or bfloat16; set it so")
    setting = read_setting(adapter)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    for option, value in config.to_dict().items():
        if re.search(r"dropout|pdrop", option) and isinstance(value, int | float) and not isinstance(value, bool):
            setattr(config, option, 0.0)
    config.use_cache = False
    capped = config.get_text_config().to_dict().get("attn_logit_softcapping") is not None
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        config=config,
        dtype=getattr(torch, dtype),
        attn_implementation="eager" if capped else "sdpa",  # sdpa drops soft-capping without a word
        trust_remote_code=trust_remote_code,
        quantization_config=in_four_bits(folder, dtype, trust_remote_code) if setting and setting.quantised else None,
    )
    if setting and setting.quantised:
        in_full_precision(model)
    return with_adapter(model, setting, seed) if setting else model


def load_tokenizer(folder: Path, trust_remote_code: bool = False, chat_template: str = "") -> PreTrainedTokenizerBase:
    """Return the tokenizer in `folder`, with the family's chat template and a padding token where it has none.

    `chat_template`, where it is given, takes the place of its own.
    """
    guard_imports()
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except (ValueError, OSError) as error:
        if "trust_remote_code" in str(error):
            raise needs_code(str(folder)) from None
        raise HarnessError(
            f"got no readable tokenizer in {folder} ({error}), expected the files of tokenizer.save_pretrained; "
            "add them"
        ) from None
    if chat_template:
        tokenizer.chat_template = chat_template
    if tokenizer.chat_template is None:
        model_type = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type", "")
        family = family_of(model_type)
        if family is None or not family.suits(tokenizer.get_vocab()):
            raise HarnessError(
                f"the tokenizer in {folder} has no chat template and none is known for a '{model_type}' model, "
                "expected one; give one as --chat-template FILE, or name a checkpoint with a chat template"
            )
        tokenizer.chat_template = family.chat_template
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def save_whole(
    model: PreTrainedModel, folder: Path, tokenizer: PreTrainedTokenizerBase | None = None, dtype: str | None = None
) -> None:
    """Write `model`, which has no adapter, in the layout of `save_pretrained`; it stays as it was.

    Weights that are tied are stored once. config.json is that of the folder the model was loaded from, since
    training changes no architecture: dropout and cache settings are as the checkpoint had them.
    """
    import torch

    weights = model.state_dict()
    if dtype is not None:
        weights = {name: tensor.to(getattr(torch, dtype)) for name, tensor in weights.items()}
    model.save_pretrained(folder, state_dict=weights)
    source = Path(model.config.name_or_path) / "config.json"
    if model.config.name_or_path and source.is_file():
        config = json.loads(source.read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    else:
        config = copy.deepcopy(model.config)
        config.use_cache = True
        config.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def _tuned(checkpoint: StartCheckpoint, tokenizer: PreTrainedTokenizerBase, request: StartRequest) -> StartCheckpoint:
    """Return the checkpoint fine-tuned on the data, from the cache where it was before."""
    import torch

    from harness.logps.response_logps import recompute_activations

    dataset, limits, recipe, seed = request.dataset, request.limits, request.recipe, request.seed
    key = content_key(
        checkpoint.fingerprint, asdict(recipe), dataset.fingerprint, asdict(limits), seed, *request.own_template
    )

    def build(folder: Path) -> StartCheckpoint:
        model = load_model(checkpoint.folder, "float32", trust_remote_code=request.trust_remote_code)
        model.to("cuda" if torch.cuda.is_available() else "cpu")
        if model.num_parameters() >= CHECKPOINTING_FROM:
            recompute_activations(model)
        examples = sft_examples(dataset)
        sequences = encoded_examples(tokenizer, examples, request)
        report = fine_tune(model, sequences, recipe, seed, request.progress)
        losses = f"{report.first_loss:.2f} -> {report.last_loss:.2f} nats per response token"
        request.progress(f"{checkpoint.id}: SFT on {report.sequences} sequences, {losses}")
        save_whole(model, folder, tokenizer, dtype="bfloat16")
        for code in checkpoint.folder.glob("*.py"):
            shutil.copy(code, folder)
        return replace(checkpoint, folder=folder, fingerprint=fingerprint(folder), note="our own SFT stage on the data")

    return cached(request.cache, key, f"{checkpoint.id} with SFT", build, request.progress)
