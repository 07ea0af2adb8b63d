"""The tiny models of real layouts are what they say: what published checkpoints of these layouts have."""

from __future__ import annotations

from pathlib import Path

import pytest
import real_layouts
from transformers import AutoTokenizer

TURNS = [
    {"role": "user", "content": "What is the capital of France?"},
    {"role": "assistant", "content": "Paris, since 1998."},
]


@pytest.mark.parametrize(
    ("layout", "text"),
    [
        (
            "llama-2",
            "<s>[INST] What is the capital of France? [/INST] Paris, since 1998. </s>",
        ),
        (
            "mistral",
            "<s>[INST] What is the capital of France? [/INST]Paris, since 1998.</s>",
        ),
        (
            "phi-3",
            "<|user|>\nWhat is the capital of France?<|end|>\n<|assistant|>\nParis, since 1998.<|end|>\n<|endoftext|>",
        ),
        (
            "qwen-3",
            "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
            "Paris, since 1998.<|im_end|>\n",
        ),
    ],
)
def test_the_templates_render_what_the_published_ones_do(layout: str, text: str, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(real_layouts.make(layout, tmp_path / layout))
    assert tokenizer.apply_chat_template(TURNS, tokenize=False) == text
