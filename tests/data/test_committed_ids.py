"""The ids that nano models read are those of the committed board: its records have their fingerprints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from harness.api import Dataset, LoadOptions
from harness.data.heldout import held_out
from harness.data.simulator.synthetic import harness_datasets
from harness.data.tokens import Limits, tokenise
from harness.models.families import FAMILIES
from harness.models.load import load_tokenizer
from harness.models.nano import TOKENIZER_EXAMPLES, VOCABULARY, train_tokenizer
from harness.models.start import sft_examples
from harness.planning.presets import PRESETS

BOARD = Path(__file__).parents[2] / "leaderboards" / "nano"


@pytest.fixture(scope="module")
def data() -> Dataset:
    return harness_datasets()[0].load(LoadOptions())


@pytest.mark.parametrize("family", ["qwen", "gemma", "mistral"])
def test_ids_are_those_of_the_committed_board(family: str, data: Dataset, tmp_path: Path) -> None:
    examples = sft_examples(data)
    drawn = [examples[index] for index in np.random.default_rng([0, 1]).permutation(len(examples))[:TOKENIZER_EXAMPLES]]
    texts = [turn.content for context, _ in drawn for turn in context] + [response for _, response in drawn]
    train_tokenizer(FAMILIES[family], texts, VOCABULARY).save_pretrained(tmp_path)
    FAMILIES[family].nano_config(VOCABULARY).save_pretrained(tmp_path)
    limits = Limits(max_length=PRESETS["nano"].max_length, max_prompt=PRESETS["nano"].max_prompt)

    tokenizer = load_tokenizer(tmp_path)
    tokens, held = tokenise(tokenizer, data.train, limits), held_out(tokenizer, data, "test", limits)

    records = [json.loads(path.read_text()) for path in BOARD.glob("cells/*/record.json")]
    committed = {record["tokens_fingerprint"] for record in records if record["model"]["name"] == family}
    assert committed == {f"{tokens.fingerprint}-{held.fingerprint}"}
    assert tokens.seams_moved == held.seams_moved == 0
