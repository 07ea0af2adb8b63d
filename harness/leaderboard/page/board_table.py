"""Board -> its table as HTML; `columns` holds every column, heading and cells. Pure; every name is escaped."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape

from harness.leaderboard.board_grids import COMMON
from harness.leaderboard.decide.estimates import Estimate
from harness.leaderboard.decide.standings import Standing
from harness.leaderboard.decide.wording import choice
from harness.leaderboard.formatting import (
    FEW,
    MISSING,
    heading,
    interval,
    number,
    rank_range,
    short_name,
    smallest_difference,
    spent,
    spoken_name,
)
from harness.leaderboard.table import BESIDE, BY, Board, Row

SPEND = (("flops", "FLOP"), ("tokens", "tokens"), ("peak_memory_bytes", "memory"))
"""What is shown of the spend, with its heading; seconds tell of the machine too and stand with the commands."""
ACCURACIES = (*BESIDE, COMMON, "pairwise_accuracy@sum")
"""Accuracies that stand on every board, whatever it is ranked by: `base` has the common ones alone."""
ALSO = (
    ("spearman", "Spearman"),
    ("spearman_within_prompt", "within prompt"),
    ("pairwise_accuracy_lenbalanced", "length-balanced"),
)
"""Metrics beside the one that ranks, with their headings."""
NO_VALUE = f'<td data-v="">{MISSING}</td>'
"""`data-v` of a cell is what page.js sorts by; empty ones stay last."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of the table."""

    title: str
    cell: Callable[[Row], str]
    """Its cell of a row, <td> or <th>; empty where the cell before it reaches over."""
    group: str = ""
    """The heading over this column and its neighbours of the same group."""
    first: str = "ascending"
    """The order that the first click sorts by."""
    names: bool = False
    """Holds the names: always in sight."""
    text: bool = False
    """Sorted as text."""


def columns(ranked_by: str, tuned: bool = False) -> list[Column]:
    """Return the table's columns, in order; what a narrow window must show comes first.

    `tuned`: with what was chosen for each row, sorted by the learning rate.
    """
    best = "descending"
    return [
        Column(title="rank", cell=_place),
        Column(title="loss", cell=_name, names=True, text=True),
        Column(title=heading(ranked_by), cell=partial(_value_or_reason, ranked_by), first=best),
        Column(title="tier", cell=partial(_tier, ranked_by)),
        *(
            Column(title=heading(name), cell=partial(_also, name), group="by other readings", first=best)
            for name in ACCURACIES
            if name != ranked_by
        ),
        Column(title="to the leader", cell=partial(_to_leader, ranked_by), group="difference, unadjusted", first=best),
        Column(title="over base, @mean", cell=_to_base, group="difference, unadjusted", first=best),
        *(Column(title=name, cell=partial(_rank_by, name), group="rank if read by") for name in BY),
        *(Column(title=title, cell=partial(_spent, name), group="spend of a cell") for name, title in SPEND),
        *(Column(title=title, cell=partial(_also, name), group="also", first=best) for name, title in ALSO),
        Column(title="family", cell=_families, text=True),
        *([Column(title="chosen on dev", cell=_chosen)] if tuned else []),
    ]


def families(row: Row) -> list[str]:
    """Return what the table can be filtered by."""
    if row.kind != "loss":
        return []
    own = "reference-based" if row.reference_based else "reference-free"
    return list(dict.fromkeys([own, *row.tags]))


def table(board: Board, ranked_by: str, section_id: str) -> str:
    """Return the table of a board; `section_id` is the id of the section that it stands in."""
    detectable = smallest_difference(
        board.minimum_detectable_difference, board.minimum_detectable_planned, board.pairs_compared
    )
    caption = (
        f"{board.n_pairs} pairs of {board.n_prompts} prompts, ranked by {spoken_name(short_name(ranked_by))}. In "
        "brackets: ranks that the data leave open, and 95 % intervals." + (f" {detectable}." if detectable else "")
    )
    shown = columns(ranked_by, tuned=any(row.tuned for row in board.rows))
    rows = "\n".join(_row(row, shown) for row in board.rows)
    return (
        '<div class="frame">'
        f'<div class="scroll" role="region" aria-labelledby="{section_id}-caption" tabindex="0">\n<table>\n'
        f'<caption id="{section_id}-caption"><span>{escape(caption)}</span></caption>\n{_head(shown)}\n'
        f"<tbody>\n{rows}\n</tbody>\n</table>\n</div></div>"
    )


def _head(shown: Sequence[Column]) -> str:
    upper, lower = [], []
    for k, column in enumerate(shown):
        sort = f'<button type="button" data-column="{k}" data-first="{column.first}"{" data-text" * column.text}>'
        text = f"{sort}{escape(column.title)}</button>"
        if not column.group:
            name = ' class="name"' if column.names else ""
            order = ' aria-sort="ascending"' if k == 0 else ""
            upper.append(f'<th scope="col" rowspan="2"{name}{order}>{text}</th>')
            continue
        if shown[k - 1].group != column.group:
            width = sum(other.group == column.group for other in shown)
            upper.append(f'<th scope="colgroup" class="group" colspan="{width}">{escape(column.group)}</th>')
        lower.append(f'<th scope="col">{text}</th>')
    return f"<thead>\n<tr>{''.join(upper)}</tr>\n<tr>{''.join(lower)}</tr>\n</thead>"


def _row(row: Row, shown: Sequence[Column]) -> str:
    return f"<tr {attributes(row)}>{''.join(column.cell(row) for column in shown)}</tr>"


def attributes(row: Row, *classes: str) -> str:
    """Return the attributes of a row's element: its classes, and what page.js filters by."""
    kind = "reference" if row.kind != "loss" else "lost" if row.status != "ok" else "sound"
    tags = escape(json.dumps(families(row), ensure_ascii=False), quote=True)
    of = "loss" if row.kind == "loss" else "reference"  # shown whatever the table is filtered by
    names = " ".join((*classes, kind))
    return f'class="{names}" data-label="{escape(row.label)}" data-kind="{of}" data-tags="{tags}"'


def _place(of: Standing) -> str:
    if of.rank is None:
        return NO_VALUE
    places = rank_range(of.rank_low, of.rank_high, of.borderline)
    return f'<td class="stack" data-v="{of.rank}">{of.rank}{_in_brackets(places)}</td>'


def _name(row: Row) -> str:
    tags = []
    if row.kind == "reference":
        tags.append('<span class="tag">reference row</span>')
    if row.status != "ok":
        tags.append(f'<span class="tag bad">{escape(row.status)}</span>')
    breakable = escape(row.label).replace("(", "(<wbr>").replace(",", ",<wbr>")
    return f'<th scope="row" class="name" data-v="{escape(row.label)}">{breakable} {" ".join(tags)}</th>'


def _families(row: Row) -> str:
    tags = escape(", ".join(families(row)))
    return f'<td class="family faint" data-v="{tags}">{tags}</td>' if tags else NO_VALUE


def _has_value(row: Row, ranked_by: str) -> bool:
    return row.status == "ok" and not math.isnan(_estimate(row, ranked_by).value)


def _value_or_reason(ranked_by: str, row: Row) -> str:
    """Return the ranked metric, without it the reason; that of a lost row reaches over the tier beside it."""
    if _has_value(row, ranked_by):
        return cell_of(_estimate(row, ranked_by))
    if row.status != "ok":
        return f'<td class="words" colspan="2" data-v="">{escape(f"{row.status}: {row.reason}")}</td>'
    reason = row.metric_reasons.get(ranked_by, MISSING)
    return f'<td class="words faint" colspan="2" data-v="">{escape(reason)}</td>'


def _tier(ranked_by: str, row: Row) -> str:
    """Return the tier; nothing where the reason before it reaches over."""
    return _whole(row.tier) if _has_value(row, ranked_by) else ""


def _to_leader(ranked_by: str, row: Row) -> str:
    if not _has_value(row, ranked_by):
        return NO_VALUE
    if row.rank == 1 and row.vs_leader.value == 0:
        return '<td data-v="0">leader</td>'
    return cell_of(row.vs_leader, "+.3f")


def _to_base(row: Row) -> str:
    return NO_VALUE if row.loss == "base" else cell_of(row.vs_base.get(COMMON, Estimate()), "+.3f")


def _rank_by(reading: str, row: Row) -> str:
    return _place(row.readings.get(reading, Standing()))


def _spent(name: str, row: Row) -> str:
    value = row.spend.get(name)
    if value is None or not math.isfinite(value):
        return NO_VALUE
    return f'<td data-v="{_sortable(value)}">{spent(name, value)}</td>'


def _also(metric: str, row: Row) -> str:
    return cell_of(_estimate(row, metric), mark="†" if metric == "spearman" and row.reference_based else "")


def _chosen(row: Row) -> str:
    """Return what tuning chose; by model where there are several."""
    if not row.tuned:
        return NO_VALUE
    several = len(row.tuned) > 1
    choices = [f"{model}: {choice(tuned)}" if several else choice(tuned) for model, tuned in row.tuned.items()]
    rate = max(tuned.learning_rate for tuned in row.tuned.values())
    return f'<td class="words" data-v="{_sortable(rate)}">{"<br>".join(map(escape, choices))}</td>'


def _estimate(row: Row, metric: str) -> Estimate:
    return row.metrics.get(metric, Estimate())


def cell_of(estimate: Estimate, form: str = ".3f", mark: str = "") -> str:
    """Return the cell of an estimate, its interval under it."""
    if math.isnan(estimate.value):
        return NO_VALUE
    ends = _in_brackets(interval(estimate.low, estimate.high, form) + FEW * estimate.few)
    return f'<td class="stack" data-v="{_sortable(estimate.value)}">{number(estimate.value, form)}{mark}{ends}</td>'


def _whole(value: int | None) -> str:
    return NO_VALUE if value is None else f'<td data-v="{value}">{value}</td>'


def _in_brackets(ends: str) -> str:
    return f' <span class="range">{ends}</span>' if ends else ""


def _sortable(value: float) -> str:
    return number(value, ".10g", missing="")
