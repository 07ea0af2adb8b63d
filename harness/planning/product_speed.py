"""How fast one core multiplies matrices: `python -m harness.planning.product_speed WIDTH INNER` prints FLOP/s.

A process of its own, since a library of matrix products takes its number of threads when it is loaded. One thread, by
the time that the processor gives it: on a machine with other work the time on the clock says nothing.
"""

from __future__ import annotations

import sys
import time

import numpy as np

ROWS = 512
"""Tokens of the products."""
SECONDS = 0.2
"""Processor time after which no further product is begun."""


def product_speed(width: int, inner: int) -> float:
    """Return the FLOP/s of (ROWS, width) x (width, inner) x (inner, width) in fp32."""
    hidden = np.random.default_rng(0).standard_normal((ROWS, width), dtype=np.float32)
    up, down = np.ones((width, inner), dtype=np.float32), np.ones((inner, width), dtype=np.float32)
    hidden @ up @ down  # the first one reads the library
    passes, began = 0, time.process_time()
    while time.process_time() - began < SECONDS:
        hidden @ up @ down
        passes += 1
    return passes * 4 * ROWS * width * inner / (time.process_time() - began)


if __name__ == "__main__":
    print(product_speed(int(sys.argv[1]), int(sys.argv[2])))
