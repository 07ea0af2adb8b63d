"""How a worker talks: a line of JSON in, a line of JSON out. Standard library only: both environments import it."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

WARMUP = 0.1
"""Share of the steps over which the learning rate rises, before its cosine: the harness's schedule, for both sides."""


def serve(commands: Mapping[str, Callable[..., Mapping[str, Any]]]) -> None:
    """Answer requests until standard input ends. What a library prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = commands[request.pop("do")](**request)
        except Exception:  # the driver raises it
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


def digest(rows: list[list[int]]) -> str:
    """Return 16 hex digits over lists of token ids."""
    return sha256(json.dumps(rows).encode()).hexdigest()[:16]


def resident() -> dict[str, int]:
    """Return what the operating system says this process holds, and has held at most since `forget_peak`, in bytes."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {"now": int(lines["VmRSS"].split()[0]) * 1024, "peak": int(lines["VmHWM"].split()[0]) * 1024}


def forget_peak() -> None:
    """Start a new high-water mark."""
    Path("/proc/self/clear_refs").write_text("5")
