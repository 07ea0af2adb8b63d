"""What both sides are given: a folder with a checkpoint of random weights, its tokenizer, and pairs as text.

The pairs are real where HARNESS_TEST_DATA names a folder with `alpacaeval-graded`, else the embedded simulator's, glued
together to like lengths. Texts are cut to what a tokenizer of 4,096 entries makes about 80 prompt and 210 response
tokens of on average, with their own spread: padding costs the side that pads.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.api import LoadOptions, Pair
from harness.data.simulator.synthetic import Settings, make
from harness.data.sources import load
from harness.import_guard import guard_imports
from harness.models.families import QWEN
from harness.models.nano import train_tokenizer

PAIRS = 256
PROMPT_WORDS = 30, 120
RESPONSE_WORDS = 60, 110
"""Shorter responses are left out, longer ones cut."""
MOST_CHARACTERS = 1200
ENTRIES = 4096
"""Of the tokenizer; a larger vocabulary is rows of the model's table that no text reaches."""


def pairs() -> list[Pair]:
    """Return the pairs, cut, in a fixed order."""
    folder = os.environ.get("HARNESS_TEST_DATA")
    found = _real(Path(folder) / "alpacaeval-graded") if folder else _simulated()
    assert len(found) >= PAIRS, f"got {len(found)} pairs of a fitting length, expected {PAIRS}"
    return found[:PAIRS]


def source() -> str:
    """Return one word for where the pairs come from."""
    return "alpacaeval" if os.environ.get("HARNESS_TEST_DATA") else "embedded"


def _real(folder: Path) -> list[Pair]:
    fewest, most = PROMPT_WORDS
    kept = []
    for pair in load(str(folder), LoadOptions(), {}).train:
        both = _cut(pair.chosen), _cut(pair.rejected)
        long_enough = min(len(side.split()) for side in both) >= RESPONSE_WORDS[0]
        if len(pair.context) == 1 and fewest <= len(pair.prompt.split()) <= most and long_enough:
            kept.append(replace(pair, chosen=both[0], rejected=both[1]))
    return kept


def _simulated() -> list[Pair]:
    made = make(Settings(prompts_train=4 * PAIRS, prompts_dev=0, prompts_test=0), seed=0).train
    rng = np.random.default_rng(0)
    words = 2 * rng.integers(*RESPONSE_WORDS, size=(PAIRS, 2))  # its few words are few tokens each
    kept = []
    for index, pair in enumerate(made[:PAIRS]):
        others = made[index::PAIRS]
        sides = [
            " ".join(" ".join(other for one in others for other in (one.chosen, one.rejected)[::step]).split()[:count])
            for step, count in zip((1, -1), words[index], strict=True)
        ]
        prompt = " ".join(other.prompt for other in others[:2])
        kept.append(
            replace(pair, context=(replace(pair.context[0], content=prompt),), chosen=sides[0], rejected=sides[1])
        )
    return kept


def _cut(text: str) -> str:
    # no white space at the seam, where it could merge with the template's line break
    return " ".join(text[:MOST_CHARACTERS].split(" ")[: RESPONSE_WORDS[1]]).strip()


def small(vocabulary: int) -> Any:
    """Return the configuration of a small Qwen2."""
    guard_imports()
    from transformers import Qwen2Config

    return Qwen2Config(
        vocab_size=vocabulary, hidden_size=256, intermediate_size=1024, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True, max_position_embeddings=4096,
    )  # fmt: skip  # one option a line would hide the shape


def smollm2() -> Any:
    """Return a configuration of the shape of SmolLM2-135M."""
    guard_imports()
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, tie_word_embeddings=True, max_position_embeddings=4096,
    )  # fmt: skip  # as above


def write(folder: Path, config: Any, *, some: Sequence[Pair] | None = None) -> Path:
    """Write a checkpoint of random weights, its tokenizer and `pairs.json`; return the folder.

    A pair has its prompt rendered by the chat template beside its turns: what a trainer that takes plain text is given.
    """
    guard_imports()
    import torch
    from transformers import AutoModelForCausalLM

    some = pairs() if some is None else some
    texts = [text for pair in some for text in (pair.prompt, pair.chosen, pair.rejected)]
    # the turn's own end is what ends a text: a trainer that appends EOS then appends what the template does
    tokenizer = train_tokenizer(replace(QWEN, eos="<|im_end|>"), texts, ENTRIES)
    torch.manual_seed(0)
    config.pad_token_id, config.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id
    config.bos_token_id = None
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    rows = []
    for pair in some:
        turns = [asdict(turn) for turn in pair.context]
        rendered = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        rows.append({**asdict(pair), "prompt": rendered})
    (folder / "pairs.json").write_text(json.dumps(rows), encoding="utf-8")
    return folder
