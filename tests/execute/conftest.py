"""A whole run on very little data, in a process of its own, as a user starts it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

SMALL = ("--models", "qwen", "--limit", "48", "--budget", "pairs=32", "--scorer", "transformers")
"""A run of seconds: two steps per cell."""


@pytest.fixture(scope="session")
def small_run(harness: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished small run of simpo, dpo and gappo, started afresh: forked ones are compared with it."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    words = ("run", "--plugins", "simpo,dpo,gappo", *SMALL, "--output-dir", str(folder))
    done = harness(*words, pictures=True, afresh=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder
