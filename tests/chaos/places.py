"""Disks, clocks and file systems that do not do what a run expects of them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chaos.outcomes import Tally
from chaos.runs import World
from waiting import until

CLOCK = """
import random, time
_rng, _time, _time_ns = random.Random(SEED), time.time, time.time_ns
time.time = lambda: _time() + _rng.uniform(-1e7, 1e7)
time.time_ns = lambda: _time_ns() + _rng.randrange(-10**16, 10**16)
"""
"""A wall clock that jumps by up to four months, back and forth, whenever it is read; the monotonic one goes on."""
NO_LOCKS = """
import errno, fcntl
def _refuse(*arguments):
    raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = fcntl.lockf = _refuse
"""
"""A network file system whose server has no locks."""


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """Mount a disk of so many bytes. Raises `PermissionError` where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PermissionError(f"mounting a tmpfs is not allowed here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill_disks(world: World, tally: Tally, place: Path, sizes: tuple[int, ...]) -> None:
    """Run on disks that are full at some point; then with room, which must give the undisturbed board."""
    for size in sizes:
        with small_disk(place, size):
            tally.add("full disk", f"{size:,} bytes", world.run(place / "run"), place / "run")
            subprocess.run(["mount", "-o", "remount,size=1g", str(place)], check=True)
            tally.add("full disk", f"{size:,} bytes, then room", world.run(place / "run"), place / "run")


def patched(world: World, tally: Tally, place: Path, kind: str, code: str) -> None:
    """Run in Pythons, workers included, that execute this code when they start."""
    site = place / "site"
    site.mkdir(parents=True)
    (site / "sitecustomize.py").write_text(code)
    tally.add(kind, "a whole run", world.fresh(place / "run", PYTHONPATH=str(site)), place / "run")


def run_twice_at_once(world: World, tally: Tally, place: Path) -> None:
    """Start the command a second time while it runs: one is refused, the other ends undisturbed."""
    folder = place / "run"
    process = world.start(folder)
    until(lambda: list(folder.glob("cells/*/scratch")) or process.poll() is not None, "a training")
    second = world.run(folder)
    out, err = process.communicate()
    assert second.returncode != 0, "the second run was not refused"
    tally.add("a second run at once", "the second", second, folder)
    tally.add(
        "a second run at once", "the first", subprocess.CompletedProcess([], process.returncode, out, err), folder
    )
