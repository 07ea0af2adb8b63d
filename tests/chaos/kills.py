"""SIGKILL at random moments of a run, of everything that it has started; then the same command again, to the end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from chaos.outcomes import EQUAL, Tally
from chaos.runs import World

Moment = Callable[[], bool]
PHASES: dict[str, tuple[str, float]] = {
    "planning": ("", 1.0),
    "training": ("cells/*/scratch", 2.0),
    "scoring": ("cells/*/trained.json", 2.0),
    "generation": ("cells/*--base--*/generations.parquet", 1.0),
    "judging": ("cells/*/record.json", 2.0),
    "writing": ("cells/*/judgements/*", 0.6),
}
"""By phase: the file that tells of it, and the seconds within which the kill comes behind that. "" is the start."""


def moment(folder: Path, phase: str, rng: np.random.Generator) -> Moment:
    """Return what is true from a random moment of this phase on."""
    pattern, span = PHASES[phase]
    delay, seen = rng.uniform(0, span), list[float]()
    before = _written(folder, pattern)

    def due() -> bool:
        if not seen and (not pattern or _written(folder, pattern) - before):
            seen.append(time.monotonic())
        return bool(seen) and time.monotonic() - seen[0] >= delay

    return due


def _written(folder: Path, pattern: str) -> set[tuple[Path, int]]:
    """Return the files of a pattern with the times at which they were written: a run that goes on writes some anew."""
    found = set()
    for path in folder.glob(pattern) if pattern else ():
        with contextlib.suppress(FileNotFoundError):
            found.add((path, path.stat().st_mtime_ns))
    return found


def kill_at_random(
    world: World, tally: Tally, place: Path, kills: int, seed: int, scorer: str = "transformers", each: int = 5
) -> int:
    """Kill so many times, `each` of them in a run at most, and take each run to its end; return the kills made."""
    rng, made, number, what = np.random.default_rng(seed), 0, 0, f"{scorer}, seed {seed}"
    while made < kills:
        folder, phases = place / f"{scorer}-{number}", list[str]()
        number += 1
        for phase in sorted(rng.choice(list(PHASES), size=min(each, kills - made)), key=list(PHASES).index):
            done = world.killed(folder, moment(folder, phase, rng), scorer=scorer)
            if done.returncode == -9:
                made += 1
                phases.append(phase)
            else:
                outcome = tally.add("SIGKILL", f"{what}, run {number}, too late for {phase}", done, folder)
                assert outcome == EQUAL, "nothing was killed that it needs"
                break
        if phases:
            done = world.run(folder, scorer=scorer)
            outcome = tally.add("SIGKILL", f"{what}, run {number}, in {', '.join(phases)}", done, folder)
            assert outcome == EQUAL, "a killed run goes on"
    return made
