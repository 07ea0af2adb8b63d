"""The context window of a checkpoint, as its config states it. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path

NAMES = ("max_position_embeddings", "n_positions", "max_seq_len")
"""What configs call it; GPT-2's has the second name, MPT's the third."""


def window_of(folder: Path) -> int | None:
    """Return the most tokens that the checkpoint in `folder` takes; None where its config does not say.

    A window that attention slides over the text limits nothing, and does not count.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text = config.get("text_config") or config
    return next((int(text[name]) for name in NAMES if text.get(name)), None)
