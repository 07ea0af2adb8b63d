"""Run folders that travel: checked, merged, handed to other tools. Records in, files out; imports no torch.

`cells` reads what somebody else wrote, `checks` (a cell by itself) and `across` (between cells) look at it, `verify`
gives the verdict, `merge` makes one folder of several, `export` writes what other tools read.
"""

from __future__ import annotations

from harness.exchange.export import FORMATS, run_export
from harness.exchange.merge import Merged, UnverifiedError, merge, run_merge
from harness.exchange.verify import Verdict, run_verify, verify

__all__ = [
    "FORMATS",
    "Merged",
    "UnverifiedError",
    "Verdict",
    "merge",
    "run_export",
    "run_merge",
    "run_verify",
    "verify",
]
