"""Two runs side by side: paired differences with intervals, and the gate that turns them into an exit code.

Records and rows in, numbers out; imports no torch. `runs` reads a folder and refuses what cannot be paired, `paired`
has the statistics, `noise` measures what two runs of the same code differ by, `verdict` judges, the rest writes down.
"""

from __future__ import annotations

from harness.compare.comparison import Comparison, compare
from harness.compare.noise import NoiseFloor, read_noise, render_noise
from harness.compare.paired import Difference
from harness.compare.repeats import calibrate
from harness.compare.verbs import run_calibrate, run_compare, run_gate
from harness.compare.verdict import Status, Verdict, gate

__all__ = [
    "Comparison",
    "Difference",
    "NoiseFloor",
    "Status",
    "Verdict",
    "calibrate",
    "compare",
    "gate",
    "read_noise",
    "render_noise",
    "run_calibrate",
    "run_compare",
    "run_gate",
]
