"""Bits flipped and files cut, in every kind of file of a run folder and of the cache; then the same command again."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
from chaos.kills import moment
from chaos.outcomes import Tally
from chaos.runs import World

LEFT_OUT = (".lock", ".log", ".html", ".csv", ".md")
"""What nothing is read from: the lock, logs, and renderings, which are written anew."""


def kinds(root: Path, files: Iterable[Path]) -> dict[str, list[Path]]:
    """Return files by kind: their path without the names of cells, steps and keys."""
    found: dict[str, list[Path]] = {}
    for path in sorted(files):
        if path.is_file() and path.stat().st_size and not path.name.endswith(LEFT_OUT):
            kind = re.sub(r"cells/[^/]+", "cells/*", str(path.relative_to(root)))
            kind = re.sub(r"checkpoint-\d+", "checkpoint-N", re.sub(r"[0-9a-f]{16}[^/]*?(?=/|\.npz|$)", "*", kind))
            found.setdefault(kind, []).append(path)
    return found


def damage(path: Path, way: str, rng: np.random.Generator) -> None:
    """Flip a bit of a file, cut it at a random place, or leave nothing in it."""
    whole = bytearray(path.read_bytes())
    if way == "flipped":
        whole[rng.integers(len(whole))] ^= 1 << rng.integers(8)
    else:
        del whole[0 if way == "emptied" else rng.integers(1, len(whole)) :]
    path.write_bytes(whole)


def damage_each(
    world: World,
    tally: Tally,
    place: Path,
    of: str,
    folder: Path,
    cache: Path,
    *,
    seed: int,
    ways: Sequence[str] = ("flipped", "cut"),
    but: Collection[str] = (),
) -> None:
    """Damage a file of each kind in copies of a run folder (`of` "run ...") or of a cache, and run the command on.

    `but`: the kinds that are left out.
    """
    rng = np.random.default_rng(seed)
    root = cache if of.startswith("cache") else folder
    for kind, files in kinds(root, root.rglob("*")).items():
        for way in () if kind in but else ways:
            chosen = files[rng.integers(len(files))].relative_to(root)
            ours, theirs = place / "run", place / "cache"
            for path in (ours, theirs):
                shutil.rmtree(path, ignore_errors=True)
            shutil.copytree(cache, theirs)
            if folder.is_dir():
                shutil.copytree(folder, ours)
            damage((theirs if root == cache else ours) / chosen, way, rng)
            tally.add(f"damage: {of}", f"{kind} {way}", world.run(ours, cache=theirs), ours)


def stopped_midway(world: World, folder: Path, seed: int) -> Path:
    """Return the folder of a run that was killed with a cell trained, and another within its training."""
    rng = np.random.default_rng(seed)
    first = moment(folder, "scoring", rng)
    world.killed(folder, lambda: first() and len(list(folder.glob("cells/*/checkpoint-*/checkpoint.json"))) > 0)
    assert list(folder.glob("cells/*/trained.json"))
    return folder
