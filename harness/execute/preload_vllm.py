"""Imports vLLM as well, in the process that workers are forked from: once, not once a model when it is scored.

That process must not end with it: where vLLM brings the interpreter down, `workers.ask` starts another without.
"""

import gc
import os

from harness.score.vllm_installed import import_trouble

_before = dict(os.environ)
import_trouble()  # a worker asks again, and says what there is to say
environment = {name: value for name, value in os.environ.items() if _before.get(name) != value}
"""What the import has set, which a worker needs too."""

gc.freeze()  # as in `imported`
