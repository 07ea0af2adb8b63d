"""Waiting for what another process does. A limit ends what hangs; no test is about how fast the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HANGS = 1800.0
"""Seconds after which whatever is waited for hangs."""


def until(holds: Callable[[], Any], what: str) -> Any:
    """Return the first true answer of `holds`; fail where it has none for `HANGS` seconds."""
    end = time.monotonic() + HANGS
    while time.monotonic() < end:
        if found := holds():
            return found
        time.sleep(0.02)
    return pytest.fail(f"waited {HANGS:g} s for {what}")


def has_no_writer(folder: Path) -> bool:
    """Return whether no process holds a file below `folder` open; without Linux's /proc after a second's wait."""
    if not Path("/proc").is_dir():
        time.sleep(1.0)
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if link.readlink().is_relative_to(folder):
                return False
        except OSError:  # it has ended meanwhile, or is somebody else's
            continue
    return True
