"""Imports vLLM as well, in the process that workers are forked from: once, and not once per model that is scored.

vLLM may bring the interpreter down; `workers.ask` then starts another process to fork from, without vLLM.
"""

import gc
import os

from harness.score.vllm_installed import import_trouble

_before = dict(os.environ)
import_trouble()  # the answer is not used: a worker asks again and reports it
environment = {name: value for name, value in os.environ.items() if _before.get(name) != value}
"""The variables that the import has set, which a worker needs too."""

gc.freeze()  # as in `preload`
