"""The ratios that were measured and are promised: kept in ratios.json, compared by every run of the benchmarks.

A run fails where the whole interval of a ratio lies below 0.9 of the one stored on the same processor.
`HARNESS_BENCH_STORE=1` stores what the run measures instead; the promise beside it (`at_least`) is written by hand.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.corpus import source
from benchmarks.driver import THREADS, Ratio

STORED = Path(__file__).resolve().parent / "ratios.json"
ALLOWED = 0.9
"""Share of a stored ratio that a run may fall to."""
PROMISED = {
    "training/simpo/float32/V=4096/time": 1.1,
    "training/simpo/bfloat16/V=4096/time": 1.3,
    "training/dpo/float32/V=4096/time": 1.4,
    "training/dpo/bfloat16/V=4096/time": 1.5,
    "training/dpo/float32/V=4096/precomputed/time": 1.5,
    "training/dpo/bfloat16/V=4096/precomputed/time": 1.5,
    "training/simpo/float32/V=65536/time": 1.6,
    "training/dpo/float32/V=65536/time": 2.5,
    "training/simpo/float32/V=65536/whole batch/memory": 2.4,
    **{f"training/simpo/{dtype}/smollm2/time": 1.3 for dtype in ("float32", "bfloat16")},
    **{f"training/dpo/{dtype}/smollm2/time": 1.4 for dtype in ("float32", "bfloat16")},
    **{f"training/{loss}/float32/smollm2/whole batch/memory": 1.0 for loss in ("simpo", "dpo")},
    **{f"training/{loss}/bfloat16/smollm2/whole batch/memory": 1.0 for loss in ("simpo", "dpo")},
    "floor/float32/share": 0.25,
    "floor/bfloat16/share": 0.2,
    "sweep/seven losses/time": 1.1,
    "scoring/vllm/time": 1.9,
}
"""What a ratio must be when it is first stored on a processor; lower it there, by hand, where a processor cannot."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A ratio as it was measured, and what is promised of it. All are 'the peer's figure / ours': more is better."""

    value: float
    low: float
    high: float
    at_least: float
    """What we claim in public; 0: nothing."""


def read(path: Path = STORED, machine: str | None = None) -> dict[str, Stored]:
    """Return the ratios stored on this machine's processor, or on `machine`, by name; none where it has none."""
    entry = machines(path).get(machine or this_machine(), {"ratios": {}})
    return {name: Stored(**fields) for name, fields in entry["ratios"].items()}


def machines(path: Path = STORED) -> dict[str, Any]:
    """Return everything stored, by processor: a ratio on one says little about another."""
    content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return content


def this_machine() -> str:
    """Return the processor's name as the operating system gives it, and the threads used."""
    facts = processor()
    name = facts.get("model name", platform.processor() or platform.machine())
    return f"{name}, model {facts.get('model', '?')}, {THREADS} threads"


def processor() -> dict[str, str]:
    """Return what Linux says of the processor; nothing elsewhere."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return {"flags": facts.get("Features", "")} | facts  # as Arm calls them


def multiplies_bfloat16() -> bool:
    """Return whether the processor multiplies in bf16; elsewhere torch emulates it, several times slower than fp32."""
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(processor().get("flags", "").split()))


def complaint(name: str, found: Ratio, stored: Mapping[str, Stored]) -> str | None:
    """Return what is wrong with a measured ratio, or None."""
    if name not in stored:
        return f"{name}: got {found}, expected a stored ratio of this name; run with HARNESS_BENCH_STORE=1"
    least = ALLOWED * stored[name].value
    if found.high < least:
        return (
            f"{name}: got {found}, expected its interval to reach {least:.2f}, {ALLOWED} of the stored "
            f"x{stored[name].value:.2f}; find what became slower, or store again with HARNESS_BENCH_STORE=1"
        )
    return None


def check(found: Mapping[str, Ratio], path: Path = STORED) -> None:
    """Print the ratios; raise `AssertionError` where one has fallen, or store them where that was asked for.

    On a processor that nothing was stored on they are printed alone.
    """
    for name, ratio in found.items():
        print(f"\n{name}: {ratio}", end="")
    if os.environ.get("HARNESS_BENCH_STORE"):
        _store(found, path)
        return
    stored = read(path)
    if not stored:
        print(f"\nnothing is stored for {this_machine()}: not compared", end="")
        return
    wrong = [said for name, ratio in found.items() if (said := complaint(name, ratio, stored))]
    assert not wrong, "\n".join(wrong)


def table(path: Path = STORED) -> str:
    """Return everything stored as Markdown, a table a processor."""
    lines: list[str] = []
    for machine, entry in machines(path).items():
        lines += [
            f"{machine}; torch {entry['torch']}, transformers {entry['transformers']}, pairs of {entry['pairs']}:",
            "",
            "| ratio: the peer's figure / ours | median | of single turns | we claim |",
            "| --- | --- | --- | --- |",
        ]
        for name, ratio in read(path, machine).items():
            claim = f"{ratio.at_least:g}" if ratio.at_least else ""
            lines.append(f"| {name} | {ratio.value:.2f} | {ratio.low:.2f} to {ratio.high:.2f} | {claim} |")
        lines.append("")
    return "\n".join(lines)


def _store(found: Mapping[str, Ratio], path: Path) -> None:
    before = read(path)
    now = {
        name: Stored(**{part: round(number, 3) for part, number in asdict(ratio).items()}, at_least=promise)
        for name, ratio in found.items()
        for promise in [before[name].at_least if name in before else PROMISED.get(name, 0.0)]
    }
    both = before | now
    conditions = {"pairs": source(), **{name: version(name) for name in ("torch", "transformers")}}
    entry = {**conditions, "ratios": {name: asdict(both[name]) for name in sorted(both)}}
    path.write_text(json.dumps(machines(path) | {this_machine(): entry}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    print(table())
