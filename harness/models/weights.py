"""The weights of a checkpoint under the names that its architecture has for them, as transformers loads them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from harness.api import HarnessError
from harness.import_guard import guard_imports


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What a checkpoint's files hold of the weights of its architecture; their values are not read."""

    config: Mapping[str, Any]
    """All options of the model with the defaults of transformers, common names beside those of its own."""
    shapes: Mapping[str, tuple[int, ...]]
    """By the name that the live model has for it; the output head also where it is tied."""
    parameters: int
    """How many; tied weights count once."""
    prefix: str
    """What the names in the files may lack: `transformer.` of GPT-2's."""
    embedding: str
    """The name of the input embedding."""
    head: str
    """The name of the output head."""
    linear: tuple[str, ...]
    """The names of the linear layers other than the head, without `.weight`."""
    missing: tuple[str, ...]
    """Weights that the files lack: transformers would draw them at random."""
    unknown: tuple[str, ...]
    """Names in the files for which the architecture has no weight, but for buffers that old versions wrote."""
    misshapen: tuple[str, ...]
    """Weights whose shape in the files is another than the config's."""

    def name_of(self, stored: str) -> str:
        """Return the live model's name of a weight that the files call `stored`; the same where it has none."""
        whole = f"{self.prefix}{stored}"
        return whole if stored not in self.shapes and whole in self.shapes else stored


def read_weights(folder: Path, trust_remote_code: bool = False) -> Weights:
    """Return what the checkpoint in `folder` holds. Raises `HarnessError` where transformers cannot read it."""
    guard_imports()
    from transformers import AutoModelForCausalLM

    try:
        with quiet():
            model, told = AutoModelForCausalLM.from_pretrained(
                folder,
                device_map="meta",  # names and shapes without the values
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                trust_remote_code=trust_remote_code,
            )
    except Exception as error:  # it raises whatever a foreign file or config makes it stumble over
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise HarnessError(
            f"the checkpoint in {folder} cannot be read ({reason}), expected one that "
            "AutoModelForCausalLM.from_pretrained takes; write it anew with model.save_pretrained(folder)"
        ) from error
    head = model.get_output_embeddings()
    names = {id(module): name for name, module in model.named_modules(remove_duplicate=False)}
    if head is None:
        raise HarnessError(
            f"the checkpoint in {folder}, a {type(model).__name__}, has no output head that transformers finds, "
            "expected one; name another model"
        )
    given = json.loads(model.config.to_json_string(use_diff=False))
    return Weights(
        # `n_head` of GPT-2 also under its common name
        config=given | {common: given[own] for common, own in model.config.attribute_map.items() if own in given},
        shapes={name: tuple(tensor.shape) for name, tensor in model.state_dict().items()},
        parameters=model.num_parameters(),
        prefix=f"{model.base_model_prefix}.",
        embedding=f"{names[id(model.get_input_embeddings())]}.weight",
        head=f"{names[id(head)]}.weight",
        linear=tuple(name for name, module in model.named_modules() if module is not head and _is_linear(module)),
        missing=tuple(sorted(told["missing_keys"])),
        unknown=tuple(sorted(told["unexpected_keys"])),
        misshapen=tuple(sorted(str(each[0]) for each in told["mismatched_keys"])),
    )


def _is_linear(module: Any) -> bool:
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D  # the linear layers of GPT-2, their weights transposed

    return isinstance(module, Linear | Conv1D)


def require_whole(weights: Weights, name: str) -> None:
    """Raise `HarnessError` where the files lack weights of the architecture, or have them in other shapes."""
    for names, what in ((weights.missing, "lacks"), (weights.misshapen, "has in other shapes than its config says")):
        if names:
            raise HarnessError(
                f"model '{name}' {what} {len(names)} of {len(weights.shapes)} weights ({_some(names)}), expected all "
                "of its architecture: they would be drawn at random; write it whole with model.save_pretrained(folder)"
            )


def require_room_for_ids(weights: Weights, largest_id: int, name: str) -> None:
    """Raise `HarnessError` where the tokenizer has ids for which the embedding has no row."""
    rows = weights.shapes[weights.embedding][0]
    if largest_id >= rows:
        raise HarnessError(
            f"model '{name}': got a tokenizer with ids up to {largest_id} beside an embedding of {rows} rows, expected "
            f"ids below {rows}; take the tokenizer that belongs to the model, or call "
            f"model.resize_token_embeddings({largest_id + 1}) and save both"
        )


def left_out(weights: Weights) -> str:
    """Return what of the files the model does not use, in words; empty where it uses all."""
    names = weights.unknown
    return f"{len(names)} tensors that its architecture does not have ({_some(names)})" if names else ""


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:2]) + (", ..." if len(names) > 2 else "")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' bars and reports off the screen: what matters of them is told in one line."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stderr(StringIO()):
            yield
    finally:
        logger.setLevel(level)
