"""Small checkpoints that the harness did not train, small data to score them on, and their log-probs by hand.

What is computed here is computed without the harness: a model of transformers, ten lines of DPO, a forward pass per
response.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from harness.models.families import QWEN
from harness.models.nano import train_tokenizer

WORDS = ("red", "small", "old", "cat", "dog", "bird", "tree", "river", "sees", "eats", "likes", "a", "the", "day")


class Row(NamedTuple):
    """A preference pair as its file has it."""

    prompt: str
    chosen: str
    rejected: str


def rows(number: int, seed: int) -> list[Row]:
    """Return pairs of few words, each prompt once."""
    drawn = torch.Generator().manual_seed(seed)

    def text(fewest: int) -> str:
        count = fewest + int(torch.randint(0, 6, (1,), generator=drawn))
        return " ".join(WORDS[int(k)] for k in torch.randint(0, len(WORDS), (count,), generator=drawn))

    return [Row(f"{text(4)} {seed} {k}?", f"{text(3)}.", f"{text(5)}.") for k in range(number)]


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: on matrices as small as these, others would mostly wait."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def write_data(folder: Path, train: int = 24, test: int = 20) -> Path:
    """Write a folder with a train and a test file."""
    folder.mkdir(parents=True)
    for name, number, seed in (("train", train, 1), ("test", test, 2)):
        lines = [json.dumps(row._asdict()) for row in rows(number, seed)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def write_start(folder: Path, seed: int = 0, vocabulary: int = 400, window: int = 512) -> Path:
    """Write an untrained Llama of two layers with its own tokenizer."""
    texts = [text for row in rows(64, 3) for text in row]
    # the turn's own end is what ends a text, as trainers take it that append EOS
    tokenizer = train_tokenizer(replace(QWEN, eos="<|im_end|>"), texts, vocabulary)
    config = LlamaConfig(
        vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=window, tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
    )  # fmt: skip  # one option a line would hide the shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():  # log-probs of a fresh model are all alike
        for weight in model.parameters():
            weight.mul_(4.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def ids_of(tokenizer: Any, prompt: str, response: str) -> tuple[list[int], list[int]]:
    """Return the ids of prompt and response as the chat template has the conversation, up to its end-of-turn token."""
    turns = [{"role": "user", "content": prompt}]
    before = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    whole = tokenizer.apply_chat_template([*turns, {"role": "assistant", "content": response}], return_dict=False)
    end = len(whole) - whole[::-1].index(tokenizer.eos_token_id)
    assert whole[: len(before)] == before
    return before, whole[len(before) : end]


def log_probs(model: Any, prompt: Sequence[int], response: Sequence[int]) -> torch.Tensor:
    """Return log p of each token of the response, (T,)."""
    logits = model(torch.tensor([[*prompt, *response]])).logits[0]
    log_p = torch.log_softmax(logits.double(), dim=-1)[len(prompt) - 1 : -1]
    return log_p.gather(1, torch.tensor(response)[:, None])[:, 0]


@one_thread()
def train_dpo(start: Path, folder: Path, steps: int = 12, learning_rate: float = 3e-3) -> Path:
    """Train the checkpoint in `start` by DPO as its paper has it, beta 0.1, a pair a step, and write it to `folder`."""
    tokenizer = AutoTokenizer.from_pretrained(start)
    model, reference = (AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32) for _ in range(2))
    optimiser = torch.optim.SGD(model.parameters(), lr=learning_rate)
    for row in rows(steps, 1):
        sides = [ids_of(tokenizer, row.prompt, side) for side in (row.chosen, row.rejected)]
        gained = [log_probs(model, *ids).sum() - log_probs(reference, *ids).sum().detach() for ids in sides]
        optimiser.zero_grad()
        (-torch.nn.functional.logsigmoid(0.1 * (gained[0] - gained[1]))).backward()
        optimiser.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@one_thread()
def by_hand(folder: Path, pairs: Sequence[Row]) -> list[tuple[float, int]]:
    """Return summed log-prob and number of tokens of each response, chosen and rejected of the first pair first."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    with torch.no_grad():
        for row in pairs:
            for side in (row.chosen, row.rejected):
                prompt, response = ids_of(tokenizer, row.prompt, side)
                found.append((float(log_probs(model, prompt, response).sum()), len(response)))
    return found
