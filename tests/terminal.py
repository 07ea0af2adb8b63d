"""Programs on a pseudo-terminal of their own, for tests of what a person sees."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios


def on_a_terminal(*arguments: str, columns: int, **variables: str) -> tuple[int, str]:
    """Return the exit code of Python with these arguments on a terminal so many columns wide, and all that it wrote."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR", "CI")}
    started = subprocess.Popen(
        [sys.executable, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**kept, "TERM": "xterm-256color", **variables},
    )
    os.close(theirs)
    written = b""
    try:
        while piece := os.read(ours, 65536):
            written += piece
    except OSError:  # Linux says so where the other end is closed
        pass
    os.close(ours)
    return started.wait(), written.decode()


def without_control_sequences(text: str) -> str:
    """Return what is left of a terminal's output without control sequences and white space."""
    return "".join(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).split())
