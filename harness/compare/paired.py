"""Both sides of cells, example by example -> differences NEW - BASE with intervals, per cell and over all cells.

Legend of shapes: C cells, K columns (the cells, then the overall), S seeds, R resamples, P prompts, n examples.

The same resampled prompts serve both sides, all seeds and all cells. Each column has two 95 % intervals: one of its
own, and one that holds for all columns together (single-step max-t over the same resamples, each tail 2.5 %), which a
search through many cells needs. The first is the interval that a leaderboard gives of a difference. A cell is a model
and a loss with its options; its seeds are matched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from harness.compare.sides import Values, check_same_keys
from harness.run_folder.noise_floor import LossOnModel, NoiseFloor, Spread
from harness.statistics.estimate_interval import Kind, estimate_interval
from harness.statistics.intervals import (
    Floats,
    cluster_sums,
    resample_counts,
    resampled_means,
    standard_errors,
    with_variance,
)

OVERALL = LossOnModel("all models", "overall")
TAIL = 0.025
"""Each end of an interval is missed this often."""
NAN = float("nan")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """NEW - BASE of one cell, or over all of them."""

    cell: LossOnModel
    seeds: tuple[int, ...]
    """Those of both sides."""
    base: float
    new: float
    value: float
    low: float
    high: float
    """The 95 % interval of this difference alone; NaN with fewer than 2 prompts."""
    family_low: float
    family_high: float
    """The interval that holds for all differences together with 95 %; never inside the one above."""
    n: int
    """Examples that count on both sides in every seed."""
    n_prompts: int
    identical: bool
    """Whether rewards and log-probs are the same to the last bit."""
    changed: int
    """Examples whose value differs between the sides, in any seed."""
    lost: int
    """Examples that have a value in BASE and none in NEW."""


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Both sides of a cell, example by example."""

    seeds: tuple[int, ...]
    prompt: NDArray[np.object_]
    """(n,)"""
    base: Floats
    """(S, n); NaN where an example does not count."""
    new: Floats
    """(S, n)"""
    identical: bool


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The differences of the cells, then the overall one where there is one."""

    per_seed: Sequence[Floats]
    """(S,) for each column."""
    sums: Floats
    """(K, P): of the differences of each prompt's examples, averaged over seeds."""
    sizes: Floats
    """(K, P)"""
    resampled: Floats
    """(R, K)"""
    spreads: Sequence[Spread | None]
    """How far repeated runs lie apart, where that was measured."""
    identical: NDArray[np.bool_]
    """(K,): whether both sides are the same to the last bit."""


def differences(
    pairs: Mapping[LossOnModel, Paired],
    kind: Kind,
    noise: NoiseFloor | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[tuple[Difference, ...], Difference | None]:
    """Return the difference of every cell, in order, and the overall one. `kind`: of the difference."""
    kept: dict[LossOnModel, NDArray[np.bool_]] = {
        cell: np.isfinite(np.concatenate([both.base, both.new])).all(0) for cell, both in pairs.items()
    }
    having = [cell for cell in pairs if kept[cell].any()]
    bare = {cell: _bare(cell, pairs[cell], kept[cell]) for cell in pairs}
    if not having:
        return tuple(bare.values()), None
    names, index = np.unique(np.concatenate([pairs[cell].prompt[kept[cell]] for cell in having]), return_inverse=True)
    starts = np.cumsum([0, *(int(kept[cell].sum()) for cell in having)])
    clusters, per_seed = [], []
    for k, cell in enumerate(having):
        apart = (pairs[cell].new - pairs[cell].base)[:, kept[cell]]
        clusters.append(cluster_sums(index[starts[k] : starts[k + 1]], apart.mean(0), len(names)))
        per_seed.append(apart.mean(1))
    sums, sizes = (np.array(each) for each in zip(*clusters, strict=True))
    resampled = resampled_means(resample_counts(len(names), resamples, seed), sums, sizes)
    columns = list(having)
    if len({pairs[cell].seeds for cell in having}) == 1:
        weight = cell_weights(having)
        columns.append(OVERALL)
        per_seed.append(weight @ np.array(per_seed))
        resampled = np.column_stack([resampled, resampled @ weight])
        share = weight / sizes.sum(1)
        sums, sizes = np.vstack([sums, share @ sums / share.sum()]), np.vstack([sizes, share @ sizes / share.sum()])
        bare[OVERALL] = _over_all([bare[cell] for cell in having], weight, len(names))
    identical = np.array([bare[cell].identical for cell in columns])
    spreads = [
        None if noise is None or same else _spread_of(noise, cell)
        for cell, same in zip(columns, identical, strict=True)
    ]
    table = Columns(
        per_seed=per_seed, sums=sums, sizes=sizes, resampled=resampled, spreads=spreads, identical=identical
    )
    ends = _intervals(table, kind, len(having), seed)
    low, high, family_low, family_high = ([float(end) for end in column_ends] for column_ends in ends)
    complete = {
        cell: replace(bare[cell], low=low[k], high=high[k], family_low=family_low[k], family_high=family_high[k])
        for k, cell in enumerate(columns)
    }
    return tuple(complete.get(cell, bare[cell]) for cell in pairs), complete.get(OVERALL)


def _spread_of(noise: NoiseFloor, cell: LossOnModel) -> Spread:
    return noise.overall if cell == OVERALL else noise.spread_of(cell)


def _intervals(columns: Columns, kind: Kind, cells: int, seed: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Return low, high, family low and family high of each column, (K,). The overall one is column `cells`."""
    value, n_prompts = np.array([column.mean() for column in columns.per_seed]), columns.sums.shape[1]
    if n_prompts < 2:
        nothing = np.full(value.shape, NAN)
        return nothing, nothing, nothing, nothing
    low, high = _own(columns, kind)
    resampled, variance = columns.resampled, np.nanvar(columns.resampled, axis=0)
    errors, freedom = _errors(columns, variance, n_prompts, cells)
    scale = n_prompts / (n_prompts - 1)
    apart = np.nan_to_num(resampled - value) * np.sqrt(scale)  # NaN: no example of the column was drawn
    added = np.sqrt(np.maximum(errors**2 - variance * scale, 0.0))
    if added.any():
        apart += np.random.default_rng(seed).standard_normal(apart.shape) * added
    apart = np.divide(apart, errors, out=np.zeros_like(apart), where=errors > 0)
    reach = [stdtrit(freedom, ndtr(np.quantile(side.max(1), 1 - TAIL))) * errors for side in (apart, -apart)]
    return low, high, np.minimum(low, value - reach[0]), np.maximum(high, value + reach[1])


def _own(columns: Columns, kind: Kind) -> tuple[Floats, Floats]:
    """Return low and high of each column alone, (K,): over prompts, and over seeds or, with one seed, over reruns.

    Of sides that are the same to the last bit nothing is estimated: the difference is 0.
    """
    counts = [len(column) for column in columns.per_seed]
    low, high = np.zeros(len(counts)), np.zeros(len(counts))
    sd, freedom = _reruns(columns)
    for seeds in sorted(set(counts)):
        group = [k for k, n in enumerate(counts) if n == seeds and not columns.identical[k]]
        low[group], high[group] = estimate_interval(
            kind,
            np.array([columns.per_seed[k] for k in group]).reshape(len(group), seeds).T,
            columns.sums[group],
            columns.sizes[group],
            columns.resampled[:, group],
            (sd[group], freedom[group]),
            1 - 2 * TAIL,
        )
    return low, high


def _errors(columns: Columns, variance: Floats, n_prompts: int, cells: int) -> tuple[Floats, Floats]:
    """Return the standard error and the degrees of freedom of each column, (K,) each, for the intervals of all.

    With one seed they count prompts, and reruns where their spread is known; with several, prompts and seeds. The
    variance between seeds is that of all cells together where a cell's own estimate is smaller: with few seeds some of
    many such estimates are tiny by chance. The overall column, from `cells` on, is not pooled with its parts.
    """
    per_seed = columns.per_seed
    errors, freedom = np.empty(len(per_seed)), np.empty(len(per_seed))
    kinds = [(len(column), k < cells) for k, column in enumerate(per_seed)]
    for kind in sorted(set(kinds)):
        group = [k for k, own_kind in enumerate(kinds) if own_kind == kind]
        errors[group], freedom[group] = standard_errors(
            np.array([per_seed[k] for k in group]).T, variance[group], n_prompts, len(group)
        )
    sd, of_reruns = _reruns(columns)
    return with_variance(errors, freedom, sd**2, of_reruns)


def _reruns(columns: Columns) -> tuple[Floats, Floats]:
    """Return the sd that reruns of both sides add to each column, 0 where none is known, and its freedom, (K,) each."""
    spreads = [
        spread if len(of_column) == 1 else None
        for spread, of_column in zip(columns.spreads, columns.per_seed, strict=True)
    ]
    sd = np.array([np.sqrt(2) * spread.sd if spread else 0.0 for spread in spreads])
    return sd, np.array([spread.freedom if spread else 1.0 for spread in spreads])


def pair(base: Values, new: Values, seeds: tuple[int, ...], base_name: str, new_name: str) -> Paired:
    """Return two sides of a cell as one. Raises `HarnessError` where they are not of the same pairs."""
    check_same_keys(base, new, base_name, new_name)
    return Paired(
        seeds=seeds,
        prompt=base.prompt,
        base=base.value,
        new=new.value,
        identical=np.array_equal(base.scores, new.scores, equal_nan=True),
    )


def _bare(cell: LossOnModel, both: Paired, kept: NDArray[np.bool_]) -> Difference:
    """Return the difference without its intervals."""
    base, new = (float(side[:, kept].mean()) if kept.any() else NAN for side in (both.base, both.new))
    return Difference(
        cell=cell,
        seeds=both.seeds,
        base=base,
        new=new,
        value=float((both.new - both.base)[:, kept].mean()) if kept.any() else NAN,
        low=NAN,
        high=NAN,
        family_low=NAN,
        family_high=NAN,
        n=int(kept.sum()),
        n_prompts=len(np.unique(both.prompt[kept])),
        identical=both.identical,
        changed=int((both.new != both.base)[:, kept].any(0).sum()),
        lost=int((np.isfinite(both.base).all(0) & ~np.isfinite(both.new).all(0)).sum()),
    )


def _over_all(cells: Sequence[Difference], weight: Floats, n_prompts: int) -> Difference:
    return Difference(
        cell=OVERALL,
        seeds=cells[0].seeds,
        base=float(weight @ [cell.base for cell in cells]),
        new=float(weight @ [cell.new for cell in cells]),
        value=float(weight @ [cell.value for cell in cells]),
        low=NAN,
        high=NAN,
        family_low=NAN,
        family_high=NAN,
        n=sum(cell.n for cell in cells),
        n_prompts=n_prompts,
        identical=all(cell.identical for cell in cells),
        changed=sum(cell.changed for cell in cells),
        lost=sum(cell.lost for cell in cells),
    )


def cell_weights(cells: Sequence[LossOnModel]) -> Floats:
    """Return the weight of each cell, (C,): every model the same, and within a model every loss."""
    losses = {model: sum(cell.model == model for cell in cells) for model in {cell.model for cell in cells}}
    return np.array([1 / len(losses) / losses[cell.model] for cell in cells])
