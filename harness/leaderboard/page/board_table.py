"""Board -> the HTML of its section: title, disclaimers, table. Pure; every name is escaped."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from html import escape

from harness.leaderboard.decide.estimates import Estimate
from harness.leaderboard.decide.wording import choice
from harness.leaderboard.page import interval_strip
from harness.leaderboard.table import Board, Row
from harness.statistics.metrics import METRICS
from harness.statistics.yardsticks import YARDSTICKS

COMMON = "pairwise_accuracy@mean"
"""What the difference to the untrained base is measured in: the base has no reward of its own."""
ALSO = (
    ("spearman", "Spearman"),
    ("spearman_within_prompt", "within prompt"),
    ("pairwise_accuracy_lenbalanced", "length-balanced"),
)
"""Metrics beside the one that ranks."""
SPEND = (("seconds", "seconds"), ("flops", "FLOP"), ("tokens", "tokens"), ("peak_memory_bytes", "memory"))
MISSING = '<td data-v="">–</td>'


@dataclass(frozen=True, kw_only=True)
class Column:
    """A heading of the table."""

    title: str
    group: str = ""
    first: str = "ascending"
    """The order that the first click sorts by."""
    words: bool = False
    """Sorted as text rather than as numbers."""


def columns(ranked_by: str, tuned: bool = False) -> list[Column]:
    """Return the table's columns, in order; the one after the value is the forest plot.

    `tuned`: with what was chosen for each row, sorted by the learning rate.
    """
    return [
        Column(title="rank"),
        Column(title="loss", words=True),
        Column(title="tier"),
        Column(title="P(best)", first="descending"),
        Column(title=words(ranked_by), first="descending"),
        Column(title="95 % interval", first="descending"),
        Column(title="to the leader", group="difference", first="descending"),
        Column(title="to base, @mean", group="difference", first="descending"),
        *(Column(title=name, group="rank if read by") for name in YARDSTICKS),
        *(Column(title=title, group="spend of a cell") for _, title in SPEND),
        *(Column(title=title, group="also", first="descending") for _, title in ALSO),
        *([Column(title="chosen on dev")] if tuned else []),
    ]


def families(row: Row) -> list[str]:
    """Return what the table can be filtered by."""
    if row.kind == "reference":
        return []
    own = "reference-based" if row.reference_based else "reference-free"
    return list(dict.fromkeys([own, *row.tags]))


def table(board: Board, ranked_by: str, place: str) -> str:
    """Return the table of a board; `place` is the id of its section."""
    axis = interval_strip.scale([row.metrics[ranked_by] for row in board.rows if ranked_by in row.metrics], ranked_by)
    detectable = board.minimum_detectable_difference
    caption = (
        f"{board.n_pairs} pairs of {board.n_prompts} prompts, ranked by {words(ranked_by)}: "
        f"{METRICS[ranked_by].summary}. In brackets: ranks that the data leave open, and 95 % intervals."
        + (f" Smallest difference this run could have detected: {detectable:.3f}." if math.isfinite(detectable) else "")
    )
    tuned = any(row.tuned for row in board.rows)
    rows = "\n".join(_row(row, ranked_by, axis, tuned) for row in board.rows)
    return (
        f'<div class="scroll" role="region" aria-labelledby="{place}-caption" tabindex="0">\n<table>\n'
        f'<caption id="{place}-caption"><span>{escape(caption)}</span></caption>\n{_head(ranked_by, axis, tuned)}\n'
        f"<tbody>\n{rows}\n</tbody>\n</table>\n</div>"
    )


def _head(ranked_by: str, axis: interval_strip.Scale, tuned: bool) -> str:
    upper, lower = [], []
    shown = columns(ranked_by, tuned)
    for k, column in enumerate(shown):
        sort = f'<button type="button" data-column="{k}" data-first="{column.first}"{" data-words" * column.words}>'
        text = f"{sort}{escape(column.title)}</button>"
        if column.title == "95 % interval":
            text = f"{text}{interval_strip.heading(axis)}"
        kind = ' class="name"' if column.title == "loss" else ""
        order = ' aria-sort="ascending"' if k == 0 else ""
        if not column.group:
            upper.append(f'<th scope="col" rowspan="2"{kind}{order}>{text}</th>')
            continue
        if shown[k - 1].group != column.group:
            width = sum(other.group == column.group for other in shown)
            upper.append(f'<th scope="colgroup" class="group" colspan="{width}">{escape(column.group)}</th>')
        lower.append(f'<th scope="col">{text}</th>')
    return f"<thead>\n<tr>{''.join(upper)}</tr>\n<tr>{''.join(lower)}</tr>\n</thead>"


def _row(row: Row, ranked_by: str, axis: interval_strip.Scale, tuned: bool) -> str:
    one = row.metrics.get(ranked_by, Estimate())
    kind = "reference" if row.kind == "reference" else "lost" if row.status != "ok" else "sound"
    tags = escape(json.dumps(families(row), ensure_ascii=False), quote=True)
    base = Estimate() if row.loss == "base" else row.vs_base.get(COMMON, Estimate())
    cells = [
        _rank(row),
        f'<th scope="row" class="name" data-v="{escape(row.label)}">{_breakable(row.label)}{_tags(row)}</th>',
        MISSING if row.tier is None else f'<td data-v="{row.tier}">{row.tier}</td>',
        MISSING if row.p_best is None else f'<td data-v="{_sortable(row.p_best)}">{row.p_best:.0%}</td>',
        *_result(row, one, ranked_by, axis),
        _difference(base),
        *(_place(row.yardstick_ranks.get(name)) for name in YARDSTICKS),
        *(_spent(name, row.spend.get(name)) for name, _ in SPEND),
        *(
            _number(row.metrics.get(name, Estimate()), "†" * (name == "spearman" and row.reference_based))
            for name, _ in ALSO
        ),
        *([_chosen(row)] if tuned else []),
    ]
    attributes = f'class="{kind}" data-label="{escape(row.label)}" data-kind="{escape(row.kind)}" data-tags="{tags}"'
    return f"<tr {attributes}>{''.join(cells)}</tr>"


def _chosen(row: Row) -> str:
    """Return what tuning chose; by model where there are several."""
    if not row.tuned:
        return MISSING
    several = len(row.tuned) > 1
    said = [f"{model}: {choice(one)}" if several else choice(one) for model, one in row.tuned.items()]
    rate = max(one["learning_rate"] for one in row.tuned.values())
    return f'<td class="words" data-v="{_sortable(rate)}">{"<br>".join(map(escape, said))}</td>'


def _breakable(label: str) -> str:
    """Return a label, escaped, that may break between its options."""
    return escape(label).replace("(", "(<wbr>").replace(",", ",<wbr>")


def _rank(row: Row) -> str:
    if row.rank is None:
        return MISSING
    spread = "" if row.rank_low is None else f' <span class="range">[{row.rank_low}–{row.rank_high}]</span>'
    return f'<td data-v="{row.rank}">{row.rank}{spread}</td>'


def _tags(row: Row) -> str:
    found = [f'<span class="tag">{escape(tag)}</span>' for tag in families(row)]
    if row.kind == "reference":
        found.append('<span class="tag">reference row</span>')
    if row.status != "ok":
        found.append(f'<span class="tag bad">{escape(row.status)}</span>')
    return " " + " ".join(found)


def _result(row: Row, one: Estimate, ranked_by: str, axis: interval_strip.Scale) -> list[str]:
    """Return value, interval and difference to the leader; in their place why they are missing."""
    if row.status != "ok":
        return [f'<td class="words" colspan="3" data-v="">{escape(f"{row.status}: {row.reason}")}</td>']
    if math.isnan(one.value):
        return [f'<td class="words faint" colspan="3" data-v="">{escape(row.metric_reasons.get(ranked_by, "–"))}</td>']
    return [
        _number(one),
        f'<td data-v="{_sortable(one.low)}">{interval_strip.strip(one, axis)}</td>',
        _difference(row.vs_leader, leader=row.rank == 1),
    ]


def _number(one: Estimate, mark: str = "") -> str:
    if math.isnan(one.value):
        return MISSING
    return f'<td class="stack" data-v="{_sortable(one.value)}">{one.value:.3f}{mark}{_bracket(one, ".3f")}</td>'


def _difference(one: Estimate, leader: bool = False) -> str:
    if math.isnan(one.value):
        return MISSING
    if leader and one.value == 0:
        return '<td data-v="0">leader</td>'
    return f'<td class="stack" data-v="{_sortable(one.value)}">{one.value:+.3f}{_bracket(one, "+.3f")}</td>'


def _bracket(one: Estimate, form: str) -> str:
    if math.isnan(one.low) or math.isnan(one.high):
        return ""
    return f' <span class="range">[{one.low:{form}}, {one.high:{form}}]</span>'


def _place(rank: int | None) -> str:
    return MISSING if rank is None else f'<td data-v="{rank}">{rank}</td>'


def _spent(name: str, value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return MISSING
    text = {"seconds": f"{value:.1f}", "tokens": f"{value:,.0f}"}.get(name) or (
        f"{value / 2**20:,.0f} MiB" if name == "peak_memory_bytes" else prefixed(value)
    )
    return f'<td data-v="{_sortable(value)}">{text}</td>'


def prefixed(value: float) -> str:
    """Return a number at three digits with its prefix: 4.09e11 is 409 G."""
    for power, sign in ((18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if abs(value) >= 0.9995 * 10**power:
            return f"{value / 10**power:.3g} {sign}"
    return f"{value:.3g}"


def words(metric: str) -> str:
    """Return a metric's name as it is read."""
    return metric.replace("pairwise_accuracy", "accuracy").replace("_", " ")


def _sortable(value: float) -> str:
    return f"{value:.10g}" if math.isfinite(value) else ""
