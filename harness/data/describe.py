"""A data set in numbers and as plain text: sizes, lengths, score gaps, length bias, rows left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.api import Dataset, Pair
from harness.data.raw import printable

HISTOGRAM_BINS = 10
BAR_WIDTH = 40
"""Characters of the longest bar of a histogram."""


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Lengths of responses in characters."""

    mean: float
    median: float
    max: int


@dataclass(frozen=True, kw_only=True)
class SplitDescription:
    """The numbers of one split of pairs, which is not empty."""

    pairs: int
    prompts: int
    chosen: Lengths
    rejected: Lengths
    scored: int
    """Number of pairs with two finite scores; the gaps are those of these pairs."""
    gap_edges: tuple[float, ...]
    """Edges of the histogram of score_chosen - score_rejected, one more than `gap_counts`; empty without scores."""
    gap_counts: tuple[int, ...]
    """Pairs in each bin."""
    gap_quartiles: tuple[float, ...]
    """25 %, 50 % and 75 % quantiles of the gap, interpolated linearly; empty without scores."""
    ties: int
    """Number of pairs with equal scores."""
    chosen_longer: float
    """Share of pairs whose chosen response has more characters: the accuracy of preferring the longer one."""
    same_length: float
    """Share of pairs whose two responses have the same number of characters."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """The numbers of a data set."""

    name: str
    source: str
    fingerprint: str
    splits: Mapping[str, SplitDescription]
    """By name, in the order train, dev, test, test_lenbalanced; without empty splits."""
    listwise: Mapping[str, tuple[int, int]]
    """(number of prompts, number of responses) by name of the split."""
    sft: int
    """Number of examples in the data's own SFT split."""
    skipped: Mapping[str, int]
    notes: tuple[str, ...]


def describe(dataset: Dataset) -> Description:
    """Return the numbers of every split of `dataset`, the rows skipped by reason, and its notes."""
    splits = {
        "train": dataset.train,
        "dev": dataset.dev,
        "test": dataset.test,
        "test_lenbalanced": dataset.test_lenbalanced,
    }
    listwise = {name: getattr(dataset, name) for name in ("listwise_train", "listwise_dev", "listwise_test")}
    return Description(
        name=dataset.name,
        source=dataset.source,
        fingerprint=dataset.fingerprint,
        splits={name: _split(pairs) for name, pairs in splits.items() if pairs},
        listwise={
            name: (len(prompts), sum(len(prompt.responses) for prompt in prompts))
            for name, prompts in listwise.items()
            if prompts
        },
        sft=len(dataset.sft),
        skipped=dict(dataset.skipped),
        notes=dataset.notes,
    )


def as_text(description: Description) -> str:
    """Return the description as plain text that is safe to print: control characters in it are escaped."""
    lines = [
        f"{printable(description.name)}  (fingerprint {description.fingerprint})",
        f"from {printable(description.source) or 'an unnamed source'}",
        *([] if "train" in description.splits else ["an evaluation set: no training data"]),
        "",
    ]
    lines += _table(description.splits)
    lines += [
        f"{name}: {prompts:,} prompts with {responses:,} responses"
        for name, (prompts, responses) in description.listwise.items()
    ]
    if description.sft:
        lines.append(f"sft: {description.sft:,} examples")
    for name, split in description.splits.items():
        lines += ["", *_gaps(name, split)]
    if description.skipped:
        lines += ["", f"rows left out: {sum(description.skipped.values()):,}"]
        lines += [f"  {count:>7,}  {printable(reason)}" for reason, count in description.skipped.items()]
    if description.notes:
        lines += ["", "notes:"]
        lines += [f"  - {printable(note)}" for note in description.notes]
    return "\n".join(lines) + "\n"


def _split(pairs: Sequence[Pair]) -> SplitDescription:
    chosen = np.array([len(pair.chosen) for pair in pairs])
    rejected = np.array([len(pair.rejected) for pair in pairs])
    gaps = np.array([pair.score_chosen - pair.score_rejected for pair in pairs])
    gaps = gaps[np.isfinite(gaps)]
    counts, edges = np.histogram(gaps, bins=HISTOGRAM_BINS) if gaps.size else (np.array([]), np.array([]))
    quartiles = np.percentile(gaps, (25, 50, 75)) if gaps.size else np.array([])
    return SplitDescription(
        pairs=len(pairs),
        prompts=len({pair.prompt_id for pair in pairs}),
        chosen=_lengths(chosen),
        rejected=_lengths(rejected),
        scored=int(gaps.size),
        gap_edges=tuple(edges.tolist()),
        gap_counts=tuple(counts.tolist()),
        gap_quartiles=tuple(quartiles.tolist()),
        ties=int((gaps == 0).sum()),
        chosen_longer=float((chosen > rejected).mean()),
        same_length=float((chosen == rejected).mean()),
    )


def _lengths(characters: np.ndarray) -> Lengths:
    return Lengths(mean=float(characters.mean()), median=float(np.median(characters)), max=int(characters.max()))


def _table(splits: Mapping[str, SplitDescription]) -> list[str]:
    head = ("split", "pairs", "prompts", "chosen: mean", "median", "max", "rejected: mean", "median", "max", "longer")
    rows = [
        (
            name,
            f"{split.pairs:,}",
            f"{split.prompts:,}",
            *_cells(split.chosen),
            *_cells(split.rejected),
            f"{split.chosen_longer:.1%}",
        )
        for name, split in splits.items()
    ]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in enumerate(row))
        for row in ([*zip(cells, widths, strict=True)] for cells in (head, *rows))
    ]
    return [*lines, "lengths in characters; longer: share of pairs whose chosen response is the longer one"]


def _cells(lengths: Lengths) -> tuple[str, str, str]:
    return f"{lengths.mean:,.0f}", f"{lengths.median:,.0f}", f"{lengths.max:,}"


def _gaps(name: str, split: SplitDescription) -> list[str]:
    if not split.gap_counts:
        return [f"{name}: no annotation scores, so no score gaps"]
    low, middle, high = split.gap_quartiles
    ties = f"{split.ties:,} {'tie' if split.ties == 1 else 'ties'}"
    lines = [f"{name}: score gap, chosen - rejected: quartiles {low:.3g}, {middle:.3g}, {high:.3g}; {ties}"]
    most = max(split.gap_counts)
    for index, count in enumerate(split.gap_counts):
        bar = "#" * round(BAR_WIDTH * count / most)
        left, right = split.gap_edges[index : index + 2]
        lines.append(f"  {left:>8.3g} to {right:<8.3g} {count:>7,}  {bar}".rstrip())
    return lines
