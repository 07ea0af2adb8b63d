"""Two runs side by side: paired differences with intervals, and the gate that turns them into an exit code.

Records and rows in, numbers out; imports no torch. `sides` reads a folder and refuses what cannot be paired, `paired`
has the statistics, `repeats` measures what runs of the same code differ by, `verdict` judges, and the rest writes
reports.
"""

from __future__ import annotations

from harness.compare.verbs import run_calibrate, run_compare, run_gate

__all__ = ["run_calibrate", "run_compare", "run_gate"]
