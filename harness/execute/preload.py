"""Imports what every worker needs, in the process that workers are forked from (see `workers`). Prints nothing.

Its output is discarded: the process outlives the command that started it by a moment, and whoever reads the output of
that command to its end would wait for it.
"""

import gc
import importlib
import os
import signal
import traceback

signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the command's to answer
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # so is this: workers are lost to the command once this process is gone
_nowhere = os.open(os.devnull, os.O_RDWR)
os.dup2(_nowhere, 1)
os.dup2(_nowhere, 2)

trouble = ""
"""The traceback of an import that failed: workers write it to their logs, as their own try may fail differently."""
try:
    from harness.import_guard import guard_imports

    guard_imports()

    importlib.import_module("harness.cell")  # with it come torch and transformers
except Exception:
    trouble = traceback.format_exc()

gc.freeze()  # modules stay: collecting garbage among them would cost each worker time, and memory it now shares
