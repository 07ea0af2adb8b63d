"""Imports what every worker needs, in the process that workers are forked from (see `workers`). Says nothing.

Its output goes nowhere: it outlives the command that started it by a moment, and who reads that command's output to
its end would wait.
"""

import gc
import importlib
import os
import signal
import traceback

signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the command's to answer
_nowhere = os.open(os.devnull, os.O_RDWR)
os.dup2(_nowhere, 1)
os.dup2(_nowhere, 2)

trouble = ""
"""What an import raised: a worker writes it to its log, since its own try may fail otherwise."""
try:
    from harness.torchvision_guard import hide_broken_torchvision

    hide_broken_torchvision()

    importlib.import_module("harness.cell")  # with it come torch and transformers
except Exception:
    trouble = traceback.format_exc()

gc.freeze()  # what is imported stays: looking for garbage in it would take each worker's time, and its share of memory
