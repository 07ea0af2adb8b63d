"""Results in Python: `run` starts a run, `load_run` reads one, and both give `Results`. Reading loads no torch."""

from harness.results.results import Results, load_run
from harness.results.start import run

__all__ = ["Results", "load_run", "run"]
