"""What both scorers share: a checkpoint's names, shapes and tensors, and the checks of requests and of sums."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.api import HarnessError, ScoreRequest

if TYPE_CHECKING:
    from torch import Tensor

HEAD = "lm_head.weight"
EMBEDDING = "model.embed_tokens.weight"
# Keys of config.json that may differ between two checkpoints that compute the same function of the same weights.
_FREE = frozenset(
    {"transformers_version", "_name_or_path", "dtype", "torch_dtype", "use_cache"}
    | {f"{token}_token_id" for token in ("bos", "eos", "pad", "sep", "unk")}
)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A folder in the layout of `save_pretrained`, as far as its headers tell."""

    folder: Path
    config: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    """By weight name; the output head is listed also where it is tied and so not stored."""
    files: Mapping[str, Path]
    """The file each stored weight is in."""

    @property
    def tied(self) -> bool:
        """Whether the output head is the embedding and is not stored."""
        return HEAD in self.shapes and HEAD not in self.files

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every weight by name, one at a time; the output head always, a tied one from the embedding."""
        from safetensors import safe_open

        for file in sorted(set(self.files.values())):
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118  # safe_open is no mapping
                    tensor = opened.get_tensor(name)
                    yield name, tensor
                    if name == EMBEDDING and self.tied:
                        yield HEAD, tensor


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read the headers of the checkpoint in `folder`. Raises `HarnessError` where there is none in safetensors."""
    from safetensors import SafetensorError, safe_open

    config_file = folder / "config.json"
    weight_files = sorted(folder.glob("*.safetensors"))
    if not config_file.is_file() or not weight_files:
        raise HarnessError(
            f"got checkpoint folder {folder}, expected a config.json and *.safetensors in it; "
            "write it with model.save_pretrained(folder)"
        )
    shapes: dict[str, tuple[int, ...]] = {}
    files: dict[str, Path] = {}
    for file in weight_files:
        try:
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118  # safe_open is no mapping
                    shapes[name] = tuple(opened.get_slice(name).get_shape())
                    files[name] = file
        except SafetensorError as error:
            raise HarnessError(f"got an unreadable {file}: {error}; write the checkpoint again") from None
    if HEAD not in shapes and EMBEDDING in shapes:
        shapes[HEAD] = shapes[EMBEDDING]
    return Checkpoint(folder=folder, config=json.loads(config_file.read_text()), shapes=shapes, files=files)


def require_same_architecture(opened: Checkpoint, new: Checkpoint) -> None:
    """Raise `HarnessError` unless `new` has the weight names, shapes and configuration the scorer was opened with.

    A partial or foreign set of weights would otherwise leave a mixed model that scores without complaint.
    """
    advice = f"open another scorer for {new.folder}"
    for name in sorted(opened.shapes.keys() | new.shapes.keys()):
        if opened.shapes.get(name) != new.shapes.get(name):
            got, expected = (_shape(checkpoint.shapes.get(name)) for checkpoint in (new, opened))
            raise HarnessError(f"got weight '{name}' {got}, expected {expected} as in {opened.folder}; {advice}")
    for key in sorted((opened.config.keys() | new.config.keys()) - _FREE):
        if opened.config.get(key) != new.config.get(key):
            raise HarnessError(
                f"got {key} = {new.config.get(key)!r} in config.json, expected {opened.config.get(key)!r} "
                f"as in {opened.folder}; {advice}"
            )


def require_scorable(requests: Sequence[ScoreRequest], max_length: int, checkpoint: Checkpoint) -> None:
    """Raise `HarnessError` where a request is empty, too long or has ids outside the vocabulary; none is dropped."""
    empty = sum(not request.prompt or not request.response for request in requests)
    if empty:
        raise HarnessError(
            f"got {empty} of {len(requests)} requests with an empty prompt or response, expected at least one token "
            "of each; leave such pairs out of the data"
        )
    lengths = [len(request.prompt) + len(request.response) for request in requests]
    too_long = sum(length > max_length for length in lengths)
    if too_long:
        raise HarnessError(
            f"got {too_long} of {len(requests)} requests longer than {max_length} tokens (the longest has "
            f"{max(lengths)}), expected prompt + response within the scorer's max_length; raise it or truncate the data"
        )
    vocabulary = checkpoint.shapes[HEAD][0] if HEAD in checkpoint.shapes else None
    if vocabulary is not None:
        for request in requests:
            low, high = min(request.prompt + request.response), max(request.prompt + request.response)
            if low < 0 or high >= vocabulary:
                raise HarnessError(
                    f"got token id {low if low < 0 else high}, expected ids from 0 to {vocabulary - 1}; "
                    "tokenise with this model's own tokenizer"
                )


def require_log_probs(sums: np.ndarray, checkpoint: Path) -> np.ndarray:
    """Return `sums`, or raise `HarnessError` where they are no log-probs."""
    wrong = ~(np.isfinite(sums) & (sums <= 1e-3))  # rounding may leave the log of a sure token just above 0
    if wrong.any():
        raise HarnessError(
            f"got {int(wrong.sum())} of {len(sums)} summed log-probs that are not finite or above 0 from {checkpoint}, "
            "expected finite nats at most 0; the training may have diverged"
        )
    return sums


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else f"of shape {list(shape)}"
