"""Imports what every worker needs, in the process that workers are forked from (see `workers`). Says nothing.

Its output goes nowhere: it outlives the command that started it by a moment, and who reads that command's output to
its end would wait. What fails here fails again in the worker, which reports it.
"""

import gc
import os
from contextlib import suppress

_nowhere = os.open(os.devnull, os.O_RDWR)
os.dup2(_nowhere, 1)
os.dup2(_nowhere, 2)

with suppress(Exception):
    from harness.torchvision_guard import hide_broken_torchvision

    hide_broken_torchvision()

    import harness.cell  # noqa: F401  # with it come torch and transformers

gc.freeze()  # what is imported stays: looking for garbage in it would take each worker's time, and its share of memory
