"""The key of a board, the settings that its records share, as a frozen type. Imports no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from harness.run_folder.json_types import Count, Facts, Number

CONTENT = "content:"
"""How a board's key begins to name data that have no name, by their fingerprint: a path says where they lie only."""


def content_key(fingerprint: str) -> str:
    """Return what a board's key calls data without a name of their own: local ones, and those on the hub."""
    return f"{CONTENT}{fingerprint}"


LOCAL_MODEL = re.compile(r"[A-Za-z0-9.-]+@[0-9a-f]{8}")
"""What a local model is called: its architecture and 8 hex digits over its content, wherever it lies."""


class BoardKey(Facts):
    """The settings that two records must share to stand in one table; compared as a whole, unknown keys included."""

    protocol: int | None = None
    """The rules under which numbers may stand in one table."""
    dataset: str | None = None
    """The name of data that a plugin brings, else `content:` and their fingerprint; before that was so, the path."""
    preset: str | None = None
    budget: str | None = None
    adapter: str | None = None
    """`full`, or the adapter that was trained, as `lora` or `lora:r=8,targets=q_proj+v_proj`."""
    optimizer: str | None = None
    """`adamw-8bit` or `adamw-bf16-sr`, `--optimizer`; absent where it is AdamW in fp32."""
    start: str | None = None
    """The checkpoint named by `--start`; a local one as `<architecture>@<content>`, before that was so by its path."""
    learning_rate: Number = None
    """Shared by every loss; absent from boards of tuned losses."""
    batch_pairs: Count = None
    max_length: Count = None
    max_prompt: Count = None
    dtype: str | None = None
    scorer: str | None = None
    evaluated_on: str | None = None
    """`test` or `dev`."""
    control: str | None = None
    noise: str | None = None
    """Noise in the labels of training and dev pairs, `--noise`; absent where there is none."""
    select: str | None = None
    """Which training pairs are trained on, `--select` with all its options; absent where all are."""
    reference_path: bool = False
    """Whether training ran on the plain path, `--plain-path`."""
    lenient: bool = False
    chat_template: str | None = None
    """Hash of the chat template given by `--chat-template`; absent where the tokenizer's own is used."""
    test: str | None = None
    """`content:` and the fingerprint of the data set that was tested on; absent where it is the training data's own."""
    columns: str | None = None
    """Which columns of the data are what, `--columns`; absent where their names say it."""
    splits: str | None = None
    """Which splits of the data are what, `--splits`; absent where their names say it."""
    test_columns: str | None = None
    """Which columns of the data that were tested on are what, `--test-columns`; absent where their names say it."""
    pairs_from_labels: bool = False
    """Whether labelled completions were paired, `--pairs-from-labels`."""
    limit: Count = None
    data_seed: Count = None
    trial_learning_rates: tuple[float, float] | None = None
    """Of tuned boards and their trials: the range of learning rates, in place of the shared one."""
    tuning_seed: Count = None
    """Of tuned boards and their trials: the seed that sampled and trained the trials."""
    trials: int | None = None
    """Of tuned boards: how many trials each loss had."""
    tuned_by: str | None = None
    """Of tuned boards: the metric that chose."""
    chosen_from: tuple[float, ...] | None = None
    """Of boards of cells at their best point on dev: the fractions of the budget that was chosen from."""

    @property
    def canonical(self) -> str:
        """The settings as text: equal where they are, and what boards are sorted by."""
        return json.dumps(self.as_json(), sort_keys=True)

    def __repr__(self) -> str:
        return self.canonical

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BoardKey) and self.canonical == other.canonical

    def __hash__(self) -> int:
        return hash(self.canonical)

    @property
    def knows_content(self) -> bool:
        """Whether it knows the data by their content: name and place of equal data may then differ."""
        return (self.dataset or "").startswith(CONTENT)

    def differing(self, other: BoardKey) -> dict[str, tuple[Any, Any]]:
        """Return the settings that differ, each with both values; a missing one counts as None."""
        return differing(self.as_json(), other.as_json())


def differing(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the names under which two mappings differ, each with both values; a missing one counts as None."""
    pairs = {name: (left.get(name), right.get(name)) for name in {**left, **right}}
    return {name: values for name, values in pairs.items() if values[0] != values[1]}
