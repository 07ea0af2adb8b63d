"""What both scorers share: a checkpoint's names, shapes and tensors, and the checks of requests and of sums."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.api import GenerateRequest, HarnessError, Sampling, ScoreRequest
from harness.models.weights import Weights, read_weights, require_whole

if TYPE_CHECKING:
    from torch import Tensor

# Options of a config that may differ between two checkpoints that compute the same function of the same weights.
_FREE = re.compile(
    r"transformers_version|_name_or_path|name_or_path|architectures|(torch_)?dtype|use_cache|output_\w+|return_dict"
    r"|id2label|label2id|initializer_range|\w*(dropout|pdrop)\w*|(bos|eos|pad|sep|unk|decoder_start)_token_id"
)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A folder in the layout of `save_pretrained`, as far as its headers tell."""

    folder: Path
    weights: Weights
    """What its architecture has, and what of it the files hold."""
    files: Mapping[str, tuple[Path, str]]
    """By the live model's name: the file that a stored weight is in, and its name there."""

    @property
    def tied(self) -> bool:
        """Whether the output head is the embedding and is not stored."""
        return self.weights.head in self.weights.shapes and self.weights.head not in self.files

    @property
    def vocabulary(self) -> int:
        """How many ids there are."""
        return self.weights.shapes[self.weights.embedding][0]

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every weight by name, one at a time; the output head always, a tied one from the embedding."""
        from safetensors import safe_open

        for file in sorted({file for file, _ in self.files.values()}):
            with safe_open(file, framework="pt") as opened:
                for name, (place, stored) in self.files.items():
                    if place != file:
                        continue
                    tensor = opened.get_tensor(stored)
                    yield name, tensor
                    if name == self.weights.embedding and self.tied:
                        yield self.weights.head, tensor


def read_checkpoint(folder: Path, trust_remote_code: bool = False) -> Checkpoint:
    """Read the headers of the checkpoint in `folder`. Raises `HarnessError` where there is none in safetensors.

    Names are those of the live model: what older versions wrote beside the weights, or left out of their names, makes
    no difference.
    """
    from safetensors import SafetensorError, safe_open

    weight_files = sorted(folder.glob("*.safetensors"))
    if not (folder / "config.json").is_file() or not weight_files:
        raise HarnessError(
            f"got checkpoint folder {folder}, expected a config.json and *.safetensors in it; "
            "write it with model.save_pretrained(folder)"
        )
    stored: dict[str, Path] = {}
    for file in weight_files:
        try:
            with safe_open(file, framework="pt") as opened:
                stored.update(dict.fromkeys(opened.keys(), file))
        except SafetensorError as error:
            raise HarnessError(f"got an unreadable {file}: {error}; write the checkpoint again") from None
    weights = read_weights(folder, trust_remote_code)
    require_whole(weights, str(folder))
    named = {weights.name_of(name): (file, name) for name, file in stored.items()}
    known = {name: place for name, place in named.items() if name in weights.shapes}
    whole = known.keys() | {weights.head} >= weights.shapes.keys()
    # where names of the files are none of the live model's, transformers converts them when it loads
    return Checkpoint(folder=folder, weights=weights, files=known if whole else named)


def require_same_architecture(opened: Checkpoint, new: Checkpoint) -> None:
    """Raise `HarnessError` unless `new` has the weight names, shapes and configuration the scorer was opened with.

    A partial or foreign set of weights would otherwise leave a mixed model that scores without complaint.
    """
    advice = f"open another scorer for {new.folder}"
    mine, its = new.weights, opened.weights
    for name in sorted(its.shapes.keys() | mine.shapes.keys()):
        if its.shapes.get(name) != mine.shapes.get(name):
            got, expected = (_shape(weights.shapes.get(name)) for weights in (mine, its))
            raise HarnessError(f"got weight '{name}' {got}, expected {expected} as in {opened.folder}; {advice}")
    for key in sorted(its.config.keys() | mine.config.keys()):
        if its.config.get(key) != mine.config.get(key) and not _FREE.fullmatch(key):
            raise HarnessError(
                f"got {key} = {mine.config.get(key)!r} in config.json, expected {its.config.get(key)!r} "
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
    for request in requests:
        low, high = min(request.prompt + request.response), max(request.prompt + request.response)
        if low < 0 or high >= checkpoint.vocabulary:
            raise HarnessError(
                f"got token id {low if low < 0 else high}, expected ids from 0 to {checkpoint.vocabulary - 1}; "
                "tokenise with this model's own tokenizer"
            )


def require_window(requests: Sequence[GenerateRequest], sampling: Sampling, max_length: int) -> None:
    """Raise `HarnessError` where a prompt with its longest answer does not fit what the scorer was opened for."""
    longest = max((len(request.prompt) for request in requests), default=0) + sampling.max_new_tokens
    if longest > max_length:
        raise HarnessError(
            f"got a prompt and an answer of up to {longest} tokens, expected at most {max_length} together; allow "
            "fewer new tokens or shorter prompts"
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
