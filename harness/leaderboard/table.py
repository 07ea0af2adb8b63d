"""Records -> Table: the only place that decides what a leaderboard says. Renderers only write it down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.api.errors import HarnessError
from harness.leaderboard.decide.comparable import Group, group_of
from harness.leaderboard.decide.estimates import (
    NAN,
    Estimate,
    Resampling,
    Sample,
    comparison,
    differences,
    estimates,
    only_systems,
    reliability_of,
    samples,
    yardstick,
)
from harness.leaderboard.decide.row_facts import RowFacts, row_facts
from harness.leaderboard.decide.wording import borderline, disclaimers, title
from harness.run_folder.facts import BoardKey
from harness.run_folder.record import BASELINES, Record, only
from harness.statistics.calibration import Bin
from harness.statistics.metrics import METRICS
from harness.statistics.pairwise_tests import PairwiseTests, rank_ranges, tiers
from harness.statistics.yardsticks import YARDSTICKS

BASE = BASELINES[0]
VS_BASE = ("pairwise_accuracy@mean", "pairwise_accuracy@sum")


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The place of a system; baseline rows have none."""

    rank: int | None = None
    """1 + systems with a higher value; failed ones come last on a model's board and have none over all models."""
    rank_low: int | None = None
    rank_high: int | None = None
    """The ranks that the comparisons leave open, low being best."""
    tier: int | None = None
    borderline: bool = False
    """The range depends on a comparison that lies within resampling error of 5 %; it is wide enough either way."""


@dataclass(frozen=True, kw_only=True)
class Row(Standing, RowFacts):
    """One system on one board."""

    status: str
    """`ok`, `diverged`, `failed`, or `missing`: cells of it are not done."""
    reason: str = ""
    metrics: Mapping[str, Estimate] = field(default_factory=dict)
    """Every metric of `METRICS`; NaN with n = 0 where it is missing."""
    metric_reasons: Mapping[str, str] = field(default_factory=dict)
    """Why a metric is missing."""
    yardstick_ranks: Mapping[str, int | None] = field(default_factory=dict)
    vs_base: Mapping[str, Estimate] = field(default_factory=dict)
    """Paired differences to the untrained base."""
    reliability: tuple[Bin, ...] = ()
    """Bins of sigmoid(margin) over all seeds and models; none where the reward is not known."""
    vs_leader: Estimate = field(default_factory=Estimate)
    """Paired difference to the first of the board in the ranked metric; its interval is not adjusted for the choice."""


@dataclass(frozen=True, kw_only=True)
class Board:
    """The rows of one model, or of all."""

    model: str
    """`all` over models."""
    models: tuple[str, ...]
    preset: str
    dataset: str
    title: str
    disclaimers: tuple[str, ...]
    settings: BoardKey
    """The board's key: what all its cells share."""
    seeds: tuple[int, ...]
    n_pairs: int
    n_prompts: int
    minimum_detectable_difference: float
    """In the ranked metric, with 80 % power, for the median of all comparisons, each at the bar that holds the
    family-wise error at 5 %; NaN for fewer than two systems."""
    minimum_detectable_planned: float
    """The same for one comparison planned in advance, 5 % two-sided."""
    gap_edges: tuple[float, ...]
    """The three score gaps that part the quartiles of the gap metrics; empty where no gap is known."""
    rows: tuple[Row, ...]
    p_values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """For each pair of ranked losses, adjusted for all pairs; from the tests behind ranks and tiers."""
    borderline: tuple[tuple[str, str], ...] = ()
    """Pairs of ranked losses whose p-value lies within resampling error of 5 %; they count as not significant."""

    @property
    def comparisons(self) -> int:
        """Pairs of ranked losses."""
        return len(self.p_values) * (len(self.p_values) - 1) // 2


@dataclass(frozen=True, kw_only=True)
class Table:
    """Everything that the leaderboards of a run say."""

    protocol: int
    ranked_by: str
    boards: tuple[Board, ...]


def build(
    records: Sequence[Record],
    ranked_by: str = "pairwise_accuracy",
    resamples: int = 10_000,
    seed: int = 0,
    models: Sequence[str] = (),
    asked: Sequence[tuple[str, int]] = (),
) -> Table:
    """Return the table of a run's records: one board per model, in the order of `models`, and one over all of them.

    `asked`: (label, seed) of every system the run was started with; one without a record is shown as missing.
    Raises `HarnessError` for a metric that does not rank, for no records, and for records that may not stand together.
    """
    rankable = [name for name, metric in METRICS.items() if metric.direction == "higher"]
    if ranked_by not in rankable:
        raise HarnessError(f"got --ranked-by {ranked_by}, expected one of {', '.join(rankable)}; name one of them")
    if not records:
        raise HarnessError("got a run without a finished cell, expected at least one record.json; finish the run first")
    protocol = only(records, "protocol", lambda record: record.protocol)
    assert protocol is not None, "there are records"
    boards: list[Board] = []
    for key in sorted({record.board for record in records}, key=lambda board: board.canonical):
        together = [record for record in records if record.board == key]
        group = group_of(together, ranked_by, Resampling(resamples=resamples, seed=seed), models, asked)
        boards += [_board(group, (model,)) for model in group.models]
        boards += [_board(group, group.models)] if len(group.models) > 1 else []
    return Table(protocol=protocol, ranked_by=ranked_by, boards=tuple(boards))


def _board(group: Group, models: tuple[str, ...]) -> Board:
    """Return the board of these models: one, or all."""
    trouble = {label: lost for label in group.labels if (lost := group.trouble(label, models))}
    sound = [label for label in group.labels if label not in trouble]
    drawn = samples(group.evidence.values, [*sound, *group.baselines], models, group.seeds or (0,), group.resampling)
    measured = {name: estimates(sample) for name, sample in drawn.items()}
    against = {name: differences(drawn[name], BASE) for name in VS_BASE if name in drawn}
    values = {label: estimate.value for label, estimate in measured.get(group.ranked_by, {}).items() if label in sound}
    order = sorted(values, key=lambda label: (-values[label], label))
    leader = differences(drawn[group.ranked_by], order[0]) if order else {}
    standings, compared = _standings(group, order, values, drawn)
    if len(models) == 1:
        standings |= _last(list(trouble), len(order))
    yardsticks = _yardstick_ranks(group, sound, measured)
    rows = [
        Row(
            **vars(row_facts(group, label, models)),
            **vars(standings.get(label, Standing())),
            status=trouble[label][0] if label in trouble else "ok",
            reason=trouble[label][1] if label in trouble else "",
            metrics={name: measured.get(name, {}).get(label, Estimate()) for name in METRICS},
            metric_reasons={} if label in trouble else _missing(group, label, models, measured),
            yardstick_ranks=yardsticks.get(label, dict.fromkeys(YARDSTICKS)),
            vs_base={name: against.get(name, {}).get(label, Estimate()) for name in VS_BASE},
            vs_leader=leader.get(label, Estimate()),
            reliability=() if label in trouble else _reliability(group, label, models),
        )
        for label in [*order, *(label for label in sound if label not in values), *group.baselines, *trouble]
    ]
    mine = [record for unit, record in group.records.items() if unit.model in models]
    first, open_pairs = mine[0], _borderline(order, compared)
    unranked = [label for label in sound if label not in values]
    return Board(
        model=models[0] if len(models) == 1 else "all",
        models=models,
        preset=first.board.preset or first.model.preset,
        dataset=first.dataset.name,
        title=title(first, models, group.seeds),
        disclaimers=disclaimers(mine, group.seeds, group.evidence, unranked) + borderline(open_pairs),
        settings=first.board,
        seeds=group.seeds,
        n_pairs=group.evidence.n_pairs,
        n_prompts=group.evidence.n_prompts,
        minimum_detectable_difference=compared.detectable if compared else NAN,
        minimum_detectable_planned=compared.detectable_planned if compared else NAN,
        gap_edges=group.evidence.gap_edges,
        rows=tuple(rows),
        p_values=_p_values(order, compared),
        borderline=open_pairs,
    )


def _p_values(order: Sequence[str], compared: PairwiseTests | None) -> dict[str, dict[str, float]]:
    if compared is None:
        return {}
    return {a: dict(zip(order, map(float, compared.p[i]), strict=True)) for i, a in enumerate(order)}


def _borderline(order: Sequence[str], compared: PairwiseTests | None) -> tuple[tuple[str, str], ...]:
    if compared is None:
        return ()
    return tuple(
        (a, b) for i, a in enumerate(order) for j, b in enumerate(order) if i < j and compared.borderline[i, j]
    )


def _standings(
    group: Group, order: Sequence[str], values: Mapping[str, float], drawn: Mapping[str, Sample]
) -> tuple[dict[str, Standing], PairwiseTests | None]:
    """Return rank, range and tier of the systems that have a value, best first, and the tests they come from."""
    if not order:
        return {}, None
    ranked = only_systems(drawn[group.ranked_by], order)
    compared = comparison(ranked, group.resampling)
    low, high = rank_ranges(compared.better)
    tier = tiers(list(range(len(order))), compared.better)
    standings = {
        label: Standing(
            rank=_place(values, label),
            rank_low=low[k],
            rank_high=high[k],
            tier=tier[k],
            borderline=bool(compared.borderline[k].any()),
        )
        for k, label in enumerate(order)
    }
    return standings, compared


def _last(labels: Sequence[str], ranked: int) -> dict[str, Standing]:
    """Return the places of systems without a result: behind all others, in no order among themselves."""
    return {
        label: Standing(rank=ranked + place, rank_low=ranked + 1, rank_high=ranked + len(labels))
        for place, label in enumerate(labels, start=1)
    }


def _yardstick_ranks(
    group: Group, sound: Sequence[str], measured: Mapping[str, Mapping[str, Estimate]]
) -> dict[str, dict[str, int | None]]:
    """Return the rank of each loss under each yardstick, among those that have it."""
    ranks: dict[str, dict[str, int | None]] = {label: {} for label in group.labels}
    for name in YARDSTICKS:
        common = measured.get(yardstick(group.ranked_by, name), {})
        values = {label: common[label].value for label in sound if label in common}
        for label in group.labels:
            ranks[label][name] = _place(values, label)
    return ranks


def _place(values: Mapping[str, float], label: str) -> int | None:
    """Return 1 + the number of higher values; equal ones share a rank."""
    if label not in values:
        return None
    return 1 + sum(value > values[label] + 1e-12 for value in values.values())


def _reliability(group: Group, label: str, models: Sequence[str]) -> tuple[Bin, ...]:
    margins = group.evidence.values.get("margin")
    return reliability_of(margins, label, models, group.seeds or (0,)) if margins else ()


def _missing(
    group: Group, label: str, models: Sequence[str], measured: Mapping[str, Mapping[str, Estimate]]
) -> dict[str, str]:
    """Return why metrics of the system are missing, as its records say."""
    reasons: dict[str, str] = {}
    for unit, record in group.records.items():
        if unit.label == label and unit.model in models:
            reasons = record.metric_reasons | reasons
    none = "no example of it has a score in every cell"
    return {name: reasons.get(name, none) for name in METRICS if label not in measured.get(name, {})}
