"""Nano models: a start checkpoint of about 1M parameters, made on the spot from the training split alone.

They test the harness end to end in minutes on a laptop; they rank no method.
"""

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

import numpy as np

from harness.api import Dataset, Message
from harness.data.tokens import Limits, encode_many
from harness.models.families import Family
from harness.models.sft import Example, Recipe, fine_tune
from harness.torchvision_guard import hide_broken_torchvision

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

FORMAT = 3
"""Raise it when a change here, to sft.py or to the path of training (logps.py) makes other weights of the same."""
TOKENIZER_EXAMPLES = 20_000
"""Examples that the tokenizer is trained on, drawn from those of larger data."""
SFT_SEQUENCES = 2000
SFT_LEARNING_RATE = 4e-3
SFT_BATCH_SIZE = 16
MOST_EPOCHS = 4
VOCABULARY = 2048
ACCOUNT = "start.json"
"""Name of the file beside the weights that says what the checkpoint is."""


@dataclass(frozen=True, kw_only=True)
class NanoRecipe:
    """How a nano model is made."""

    vocabulary: int = VOCABULARY
    """Rows of the embedding; a small text fills fewer of them."""
    sft: Recipe = field(
        default_factory=lambda: Recipe(
            sequences=SFT_SEQUENCES, learning_rate=SFT_LEARNING_RATE, batch_size=SFT_BATCH_SIZE, weight_decay=0.01
        )
    )


@dataclass(frozen=True, kw_only=True)
class StartCheckpoint:
    """The checkpoint that every loss starts from, and that is the reference of those that need one."""

    folder: Path
    """In the layout of `save_pretrained`: config, safetensors, tokenizer."""
    family: str
    """`qwen`, `gemma`, `mistral`, or the config's model_type for another architecture."""
    preset: str
    """`nano`, `paper` or `custom`."""
    id: str
    """What was asked for: a hub id, a path, or `nano-<family>`."""
    revision: str
    """Commit of the hub repository, the content key of a made checkpoint, or empty for a local folder."""
    parameters: int
    fingerprint: str
    """16 hex digits over the weights and the tokenizer."""
    note: str = ""
    """What a board's title must say of it."""


def make_nano(
    family: Family,
    dataset: Dataset,
    limits: Limits,
    cache: Path,
    seed: int = 0,
    progress: Callable[[str], None] = lambda line: None,
    recipe: NanoRecipe | None = None,
) -> StartCheckpoint:
    """Return a fine-tuned model of about 1M parameters of `family`, made from the training split or found in `cache`.

    What is fine-tuned on is drawn before it is tokenised: large data cost no more than small. The same inputs and
    versions give the same weights, bit for bit, on the same machine.
    """
    recipe = recipe or NanoRecipe()
    config = family.nano_config(recipe.vocabulary)
    key = content_key(
        family.name,
        family.chat_template,
        config.to_json_string(),
        asdict(recipe),
        dataset.fingerprint,
        asdict(limits),
        seed,
    )

    def build(folder: Path) -> StartCheckpoint:
        examples = sft_examples(dataset)
        order = np.random.default_rng([seed, 1]).permutation(len(examples))  # not the order that sft.py draws
        examples = [examples[index] for index in order[:TOKENIZER_EXAMPLES]]
        texts = [turn.content for context, _ in examples for turn in context] + [response for _, response in examples]
        tokenizer = train_tokenizer(family, texts, recipe.vocabulary)
        model = _untrained(config, seed)
        sequences: list[Example] = [
            (row.prompt_ids, row.response_ids)
            for row in encode_many(tokenizer, examples[: recipe.sft.sequences or None], limits)
        ]
        visited = min(recipe.sft.sequences, MOST_EPOCHS * len(sequences))  # a trial on few pairs is a short one
        report = fine_tune(model, sequences, replace(recipe.sft, sequences=visited), seed, progress)
        progress(
            f"nano {family.name}: {report.sequences} sequences, {report.tokens} tokens in {report.seconds:.1f} s, "
            f"loss {report.first_loss:.2f} -> {report.last_loss:.2f} nats a response token"
        )
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return StartCheckpoint(
            folder=folder,
            family=family.name,
            preset="nano",
            id=f"nano-{family.name}",
            revision=key,
            parameters=model.num_parameters(),
            fingerprint=fingerprint(folder),
            note="a nano model tests the harness and ranks no method",
        )

    return cached(cache, key, f"nano {family.name}", build, progress)


def _untrained(config: PreTrainedConfig, seed: int) -> PreTrainedModel:
    """Return the model with its first weights drawn from `seed`; the global generator stays as it is."""
    hide_broken_torchvision()
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        attention = "eager" if config.model_type == "gemma2" else "sdpa"  # sdpa drops soft-capping
        return AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=torch.float32)


def cached(
    cache: Path,
    key: str,
    title: str,
    build: Callable[[Path], StartCheckpoint],
    progress: Callable[[str], None],
) -> StartCheckpoint:
    """Return the checkpoint in `cache`/`key`, made by `build` in a folder beside it that is renamed when complete."""
    folder = cache / key
    if (folder / ACCOUNT).is_file():
        progress(f"{title}: reused from {folder}")
        account = json.loads((folder / ACCOUNT).read_text(encoding="utf-8"))
        return StartCheckpoint(folder=folder, **account)
    progress(f"{title}: made and fine-tuned here, kept in {folder}")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=f".{key}-", ignore_cleanup_errors=True) as name:
        draft = Path(name) / key
        draft.mkdir()
        start = replace(build(draft), folder=folder)
        account = {name: value for name, value in asdict(start).items() if name != "folder"}
        (draft / ACCOUNT).write_text(json.dumps(account, indent=1) + "\n", encoding="utf-8")
        if folder.exists() and not (folder / ACCOUNT).is_file():
            shutil.rmtree(folder)  # left by something else: a complete one has its account
        try:
            os.replace(draft, folder)
        except OSError:
            if not (folder / ACCOUNT).is_file():
                raise
            # another process made the same content first: its folder stands
    return start


def train_tokenizer(family: Family, texts: Sequence[str], vocabulary: int) -> PreTrainedTokenizerBase:
    """Return a byte-level BPE tokenizer with the family's special tokens and chat template, trained on `texts`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(family.special_tokens),
        initial_alphabet=sorted(
            pre_tokenizers.ByteLevel.alphabet()
        ),  # any text can be written, whatever was trained on
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template=family.chat_template,
        pad_token=family.pad,
        eos_token=family.eos,
        **({"bos_token": family.bos} if family.bos else {}),
        additional_special_tokens=list(family.turn_tokens),
        clean_up_tokenization_spaces=False,
    )


def sft_examples(dataset: Dataset) -> list[tuple[tuple[Message, ...], str]]:
    """Return (context, response) to fine-tune on: the data's SFT split, or the training pairs' unique responses.

    Chosen and rejected responses count alike: the start must know both styles and prefer neither.
    """
    if dataset.sft:
        return list(dataset.sft)
    sides = ((pair.context, response) for pair in dataset.train for response in (pair.chosen, pair.rejected))
    return list(dict.fromkeys(sides))


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
