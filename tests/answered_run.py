"""The committed run as if it had generated: answers of two cells to five prompts of the embedded data."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd

from harness.api import Dataset
from harness.run_folder.paths import GENERATIONS

NANO = Path(__file__).parents[1] / "leaderboards" / "nano"
BASE, DPO = "qwen--base--5ac4d2", "qwen--dpo--84beea--seed0"
ANSWERED = {BASE: 0, DPO: 1}
"""Which of each prompt's responses the cells answer."""


def answered_run(folder: Path, data: Dataset, prompts: int = 5) -> Path:
    """Return a copy of the committed run in `folder`, with answers."""
    shutil.copytree(NANO, folder, ignore=shutil.ignore_patterns("gemma-*", "mistral-*", "*.html"))
    for cell, which in ANSWERED.items():
        asked = data.listwise_test[:prompts]
        pd.DataFrame(
            {
                "prompt_id": [prompt.prompt_id for prompt in asked],
                "sample": 0,
                "seed": 0,
                "text": [prompt.responses[which].text for prompt in asked],
                "tokens": [[1, 2]] * prompts,
                "finish": "stop",
                "sum_logp": -1.0,
                "ref_sum_logp": -1.0,
                **dict.fromkeys(("kl_log_ratio", "kl_low_variance", "cut", "distinct_2", "longest_loop"), 0.0),
                "length": 2,
                "rouge_l": 1.0,
            }
        ).to_parquet(folder / "cells" / cell / GENERATIONS)
    return folder
