"""Nano models: a start checkpoint of about 1M parameters, made on the spot from the training split alone.

They test the harness end to end in minutes on a laptop; they rank no method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.import_guard import guard_imports
from harness.models.families import Family
from harness.models.sft import Recipe, fine_tune
from harness.models.start import (
    StartCheckpoint,
    StartRequest,
    cached,
    content_key,
    encoded_examples,
    fingerprint,
    sft_examples,
)

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

TOKENIZER_EXAMPLES = 20_000
"""Examples that the tokenizer is trained on, drawn from those of larger data."""
SFT_SEQUENCES = 2000
SFT_LEARNING_RATE = 4e-3
SFT_BATCH_SIZE = 16
MOST_EPOCHS = 4
VOCABULARY = 2048


@dataclass(frozen=True, kw_only=True)
class NanoRecipe:
    """How a nano model is made."""

    vocabulary: int = VOCABULARY
    """Rows of the embedding; little text fills fewer of them."""
    sft: Recipe = field(
        default_factory=lambda: Recipe(
            sequences=SFT_SEQUENCES, learning_rate=SFT_LEARNING_RATE, batch_size=SFT_BATCH_SIZE, weight_decay=0.01
        )
    )


def make_nano(family: Family, request: StartRequest, recipe: NanoRecipe | None = None) -> StartCheckpoint:
    """Return a fine-tuned model of about 1M parameters of `family`, made from the training split or found in the cache.

    The examples to fine-tune on are drawn before they are tokenised: large data cost no more than small. The same
    inputs and versions give the same weights, bit for bit, on the same machine.
    """
    recipe, dataset, limits, seed = recipe or NanoRecipe(), request.dataset, request.limits, request.seed
    config = family.nano_config(recipe.vocabulary)
    key = content_key(
        family.name,
        family.chat_template,
        config.to_json_string(),
        asdict(recipe),
        dataset.fingerprint,
        asdict(limits),
        seed,
        *request.own_template,
    )

    def build(folder: Path) -> StartCheckpoint:
        examples = sft_examples(dataset)
        order = np.random.default_rng([seed, 1]).permutation(len(examples))  # not the order that sft.py draws
        examples = [examples[index] for index in order[:TOKENIZER_EXAMPLES]]
        texts = [turn.content for context, _ in examples for turn in context] + [response for _, response in examples]
        tokenizer = train_tokenizer(family, texts, recipe.vocabulary)
        tokenizer.chat_template = request.chat_template or family.chat_template
        model = _untrained(config, seed)
        examples = examples[: recipe.sft.sequences or None]
        sequences = encoded_examples(tokenizer, examples, request)
        visited = min(recipe.sft.sequences, MOST_EPOCHS * len(sequences))  # on few pairs, stop early
        report = fine_tune(model, sequences, replace(recipe.sft, sequences=visited), seed, request.progress)
        request.progress(
            f"nano {family.name}: {report.sequences} sequences, {report.tokens} tokens in {report.seconds:.1f} s, "
            f"loss {report.first_loss:.2f} -> {report.last_loss:.2f} nats per response token"
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

    return cached(request.cache, key, f"nano {family.name}", build, request.progress)


def _untrained(config: PreTrainedConfig, seed: int) -> PreTrainedModel:
    """Return the model with its first weights drawn from `seed`; the global generator stays as it is."""
    guard_imports()
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        attention = "eager" if config.model_type == "gemma2" else "sdpa"  # sdpa drops soft-capping
        return AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=torch.float32)


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
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),  # so that any text can be written
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
