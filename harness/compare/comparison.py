"""Two run folders -> the cells that can be paired, their differences, and all that cannot be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.api.errors import HarnessError
from harness.compare.paired import Difference, Paired, differences, pair
from harness.compare.sides import Side, Trouble, check_pairable, read_side, read_values
from harness.run_folder.noise_floor import LossOnModel, NoiseFloor, read_noise
from harness.statistics.estimate_interval import difference_of
from harness.statistics.metrics import METRICS, kind_of


@dataclass(frozen=True, kw_only=True)
class Unmatched:
    """A cell that cannot be paired: one side lacks it, or it has other options or seeds there."""

    cell: LossOnModel
    reason: str
    changed: bool = False
    """Whether both sides have it, with other options."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything that two runs, side by side, tell about one metric."""

    base: str
    new: str
    """The folders, as they were named."""
    metric: str
    direction: Literal["higher", "lower", "none"]
    protocol: int
    dataset_fingerprint: str
    cells: tuple[Difference, ...]
    overall: Difference | None
    """Every model weighs the same, and within a model every loss. None without a compared cell or with unlike seeds."""
    unmatched: tuple[Unmatched, ...]
    troubles: tuple[Trouble, ...]
    """The cells of NEW that failed, diverged or are missing."""
    settings: Mapping[str, tuple[Any, Any]]
    """The settings that differ, with the values of BASE and NEW."""
    noise: NoiseFloor | None
    """What repeated runs of the same code differ by, where that was measured for runs like these."""
    notes: tuple[str, ...]

    @property
    def covers(self) -> Literal["prompts", "prompts and reruns", "prompts and seeds"] | None:
        """What the intervals cover of what could have been otherwise, in every cell; None without a cell."""
        if not self.cells:
            return None
        if all(len(difference.seeds) > 1 for difference in self.cells):
            return "prompts and seeds"
        return "prompts and reruns" if self.noise else "prompts"

    @property
    def of_these_models_only(self) -> bool:
        """Whether another training run may differ by what no interval covers; not so where all is the same bits."""
        one_seed = any(len(difference.seeds) == 1 and not difference.identical for difference in self.cells)
        return one_seed and self.noise is None


def compare(
    base: Path,
    new: Path,
    metric: str = "pairwise_accuracy",
    *,
    noise: NoiseFloor | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Return NEW - BASE of every cell that both run folders have, paired on the same held-out pairs.

    `noise`: by default the noise floor that lies beside BASE. With one seed its variance is part of the intervals;
    several seeds bring their own. Raises `HarnessError` where the runs cannot be paired: other protocol, data, tokens,
    preset, split or pairs, or no cell in common. Differing settings, such as the budget, are reported, not refused.
    """
    if metric not in METRICS:
        raise HarnessError(f"got --metric {metric}, expected one of {', '.join(METRICS)}; name one of them")
    sides = _read_sides(base, new)
    matched, unmatched = _match(*sides)
    pairs = {cell: _paired(*sides, cell, seeds, metric) for cell, seeds in matched.items()}
    known = noise or read_noise(base)
    counts = {len(seeds) for seeds in matched.values()}
    unfit = sides[0].misfit_of(known, metric, counts.pop() if len(counts) == 1 else None) if known else ""
    fit = known if not unfit else None
    cells, overall = differences(pairs, difference_of(kind_of(metric)), fit, resamples, seed)
    if cells and not any(difference.n or difference.lost for difference in cells):
        raise HarnessError(
            f"got --metric {metric}, which has no value in any cell of {base} and {new}; expected one that both runs "
            "have; name another"
        )
    return Comparison(
        base=str(base),
        new=str(new),
        metric=metric,
        direction=METRICS[metric].direction,
        protocol=int(sides[0].must_match["protocol"] or 0),
        dataset_fingerprint=str(sides[0].must_match["dataset fingerprint"]),
        cells=cells,
        overall=overall,
        unmatched=tuple(unmatched),
        troubles=sides[1].troubles,
        settings=sides[0].board.differing(sides[1].board),
        noise=fit,
        notes=tuple(_notes(*sides, matched, cells, overall, unfit)),
    )


def _read_sides(base: Path, new: Path) -> tuple[Side, Side]:
    """Return both sides. Raises `HarnessError` where one has no cell of a loss, or they cannot be paired."""
    sides = read_side(base), read_side(new)
    for side, name in zip(sides, ("BASE", "NEW"), strict=True):
        if not side.options and not side.troubles:
            raise HarnessError(
                f"got {name} {side.folder} without a cell of a loss, expected at least one; finish the run first"
            )
    check_pairable(*sides)
    return sides


def _match(base: Side, new: Side) -> tuple[dict[LossOnModel, tuple[int, ...]], list[Unmatched]]:
    """Return the cells scored on both sides with the seeds they share, and those that only one side has."""
    matched: dict[LossOnModel, tuple[int, ...]] = {}
    unmatched: list[Unmatched] = []
    for cell in sorted({*base.options, *new.options}):
        mine, theirs = base.options.get(cell), new.options.get(cell)
        if theirs is None and any(trouble.cell == cell for trouble in new.troubles):
            continue
        if mine is None or theirs is None:
            unmatched.append(Unmatched(cell=cell, reason="only in NEW" if mine is None else "only in BASE"))
            continue
        if mine != theirs:
            names = [name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name)]
            changes = ", ".join(f"{name} was {mine.get(name)!r}, is {theirs.get(name)!r}" for name in names)
            unmatched.append(Unmatched(cell=cell, reason=f"options differ: {changes}", changed=True))
            continue
        before, after = base.records.get(cell, {}), new.records.get(cell, {})
        seeds = tuple(seed for seed in before if seed in after)
        if seeds:
            matched[cell] = seeds
        elif not before:
            reasons = "; ".join(trouble.reason for trouble in base.troubles if trouble.cell == cell)
            unmatched.append(Unmatched(cell=cell, reason=f"failed or diverged in BASE: {reasons}"))
        elif after:
            unmatched.append(
                Unmatched(cell=cell, reason=f"no seed in common: {_listed(before)} in BASE, {_listed(after)} in NEW")
            )
    both = [cell for cell in base.options if cell in new.options]
    if not matched and not new.troubles and base.records and new.options:
        why = "; ".join(f"{entry.cell.label} on {entry.cell.model}: {entry.reason}" for entry in unmatched)
        what = "the same options and a seed in common" if both else "a loss and a model that both have"
        raise HarnessError(f"{base.folder} and {new.folder} have no cell in common: got {why}; expected {what}; run "
                           "NEW as BASE was run")  # fmt: skip
    return matched, unmatched


def _paired(base: Side, new: Side, cell: LossOnModel, seeds: tuple[int, ...], metric: str) -> Paired:
    base_values = read_values([base.records[cell][seed] for seed in seeds], metric)
    new_values = read_values([new.records[cell][seed] for seed in seeds], metric)
    return pair(base_values, new_values, seeds, f"{base.folder}, {cell.label}", f"{new.folder}, {cell.label}")


def _notes(
    base: Side,
    new: Side,
    matched: Mapping[LossOnModel, tuple[int, ...]],
    cells: Sequence[Difference],
    overall: Difference | None,
    unfit: str,
) -> list[str]:
    """Return what a reader must know, one sentence per item."""
    notes = [
        f"{model} starts from another checkpoint than in BASE: {base.checkpoints[model]}, now {now}."
        for model, now in sorted(new.checkpoints.items())
        if base.checkpoints.get(model, now) != now
    ]
    alone: dict[tuple[int, ...], list[LossOnModel]] = {}
    for cell, seeds in matched.items():
        if extra := sorted({*base.records[cell], *new.records[cell]} - set(seeds)):
            alone.setdefault(tuple(extra), []).append(cell)
    for extra_seeds, of in alone.items():
        which = f"{of[0].label} on {of[0].model}" if len(of) == 1 else f"{len(of)} of {len(matched)} cells"
        notes.append(f"{which}: seed {_listed(extra_seeds)} is on one side only and left out.")
    notes += [
        f"{difference.cell.label} on {difference.cell.model}: {difference.lost} examples have a value in BASE and "
        "none in NEW."
        for difference in cells
        if difference.lost
    ]
    if cells and overall is None:
        notes.append("Nothing is said over all cells: they have unlike seeds.")
    if unfit:
        notes.append(f"The noise floor beside BASE is not used: {unfit}.")
    return notes


def _listed(seeds: Any) -> str:
    return ", ".join(map(str, seeds))
