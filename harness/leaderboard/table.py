"""Records -> Table: the only place that decides what a leaderboard says. Renderers only write it down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.api.errors import HarnessError
from harness.leaderboard.decide.answers import AnswerRow, BoardAnswers
from harness.leaderboard.decide.answers_in_words import of_answers
from harness.leaderboard.decide.best_on_dev import taken_at
from harness.leaderboard.decide.comparable import Group, group_of
from harness.leaderboard.decide.estimates import (
    BASE,
    NAN,
    OWN,
    Estimate,
    Resampling,
    differences,
    read_by,
    reliability_of,
)
from harness.leaderboard.decide.findings import findings
from harness.leaderboard.decide.frontier import Frontier
from harness.leaderboard.decide.learned import LEARNED
from harness.leaderboard.decide.points import RowPoint, row_points
from harness.leaderboard.decide.results import Results, results_of, with_elsewhere
from harness.leaderboard.decide.robustness import Robustness
from harness.leaderboard.decide.row_facts import RowFacts, row_facts
from harness.leaderboard.decide.sensitivity import Sensitivity
from harness.leaderboard.decide.standings import Standing, each_pair_once, last, p_values
from harness.leaderboard.decide.subsets import BySubset, by_subset, subset_pairs, too_many
from harness.leaderboard.decide.training_noise import typical_sd
from harness.leaderboard.decide.wording import (
    borderline,
    disclaimers,
    places,
    title,
    trained_elsewhere,
    training_noise,
    weightiest,
)
from harness.run_folder.board_key import BoardKey
from harness.run_folder.noise_floor import NoiseFloor
from harness.run_folder.record import Record, only
from harness.statistics.calibration import Bin
from harness.statistics.metrics import METRICS
from harness.statistics.yardsticks import READINGS

VS_BASE = ("pairwise_accuracy@mean", "pairwise_accuracy@sum")
BESIDE = ("pairwise_accuracy@learned", "pairwise_accuracy")
"""Shown on every board, whatever it is ranked by: what was learned, and the loss's own reward."""
BY = (OWN, *READINGS)
"""Every reading that losses have a place under, in the order of the board."""


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
    readings: Mapping[str, Standing] = field(default_factory=dict)
    """Its place under each reading: `own`, then `READINGS`; each is a family of comparisons of its own."""
    vs_base: Mapping[str, Estimate] = field(default_factory=dict)
    """Paired differences to the untrained base."""
    reliability: tuple[Bin, ...] = ()
    """Bins of sigmoid(margin) over all seeds and models; none where the reward is not known."""
    vs_leader: Estimate = field(default_factory=Estimate)
    """Paired difference to the first of the board in the ranked metric; its interval is not adjusted for the choice."""
    subsets: BySubset = field(default_factory=dict)
    """Accuracies by subset, where the data have subsets."""
    points: tuple[RowPoint, ...] = ()
    """Along the run, in order, the end last; none where none was asked for."""
    answers: AnswerRow | None = None
    """What is known of its generated answers; None where it has none."""


@dataclass(frozen=True, kw_only=True)
class Board:
    """The rows of one model, or of all."""

    model: str
    """`all` over models."""
    models: tuple[str, ...]
    preset: str
    dataset: str
    title: str
    conclusions: tuple[str, ...]
    """What the board found, in words and headline first, and how sure it is: every rendering begins with it."""
    disclaimers: tuple[str, ...]
    weightiest: tuple[str, ...] = ()
    """What weighs most of findings and disclaimers, a few words each: it is seen where the disclaimers are folded."""
    settings: BoardKey
    """The board's key: what all its cells share."""
    data: str = ""
    """What `--dataset` takes to read the data again; "" where no cell says."""
    tested_on: str = ""
    """The name of the data set whose test split was scored, where it is not that of `dataset`."""
    test_data: str = ""
    """What `--test` takes to read it again."""
    places: Mapping[str, str] = field(default_factory=dict)
    """Where the first cell of each local model had it, by what the board calls the model; also of one by `--start`."""
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
    noise_floor: float | None = None
    """The losses' median standard deviation between reruns in the ranked metric, where intervals and tests have it."""
    subset_pairs: Mapping[str, int] = field(default_factory=dict)
    """Pairs of each subset, where the data have subsets."""
    rows: tuple[Row, ...]
    p_values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """For each pair of ranked losses, adjusted for all pairs; from the tests behind ranks and tiers."""
    comparisons: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    """For each reading the p-value of every pair of losses, the better one first, adjusted for all of the reading."""
    borderline: tuple[tuple[str, str], ...] = ()
    """Pairs of ranked losses whose p-value lies within resampling error of 5 %; they count as not significant."""
    answers: BoardAnswers | None = None
    """Generated answers and their judges; None where there are none."""
    frontiers: tuple[Frontier, ...] = ()
    """Quality against distance from the start checkpoint; of the board of one model, where KL is known."""

    @property
    def fractions(self) -> tuple[float, ...]:
        """The fractions of the budget at which any row has a point along the run, in order."""
        return tuple(sorted({point.fraction for row in self.rows for point in row.points}))

    @property
    def pairs_compared(self) -> int:
        """Pairs of ranked losses."""
        return len(self.p_values) * (len(self.p_values) - 1) // 2


@dataclass(frozen=True, kw_only=True)
class Table:
    """Everything that the leaderboards of a run say."""

    protocol: int
    ranked_by: str
    boards: tuple[Board, ...]
    robustness: tuple[Robustness, ...] = ()
    """The losses along axes of noise, where boards have several settings of it."""
    sensitivity: tuple[Sensitivity, ...] = ()
    """The losses over their settings, where a run has a grid of them."""


def build(
    records: Sequence[Record],
    ranked_by: str = "pairwise_accuracy",
    resamples: int = 10_000,
    seed: int = 0,
    models: Sequence[str] = (),
    asked: Sequence[tuple[str, int]] = (),
    noise: NoiseFloor | None = None,
) -> Table:
    """Return the table of a run's records: one board per model, in the order of `models`, and one over all of them.

    `asked`: (label, seed) of every system the run was started with; one without a record is shown as missing. `noise`:
    the run folder's noise floor, for those boards of one seed that it was measured for.
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
        group = group_of(together, ranked_by, Resampling(resamples=resamples, seed=seed), models, asked, noise)
        boards += [_board(group, (model,)) for model in group.models]
        over_models = len(group.models) > 1 and (group.labels or not group.elsewhere)  # of checkpoints there is no mean
        boards += [_board(group, group.models)] if over_models else []
    return Table(protocol=protocol, ranked_by=ranked_by, boards=tuple(boards))


def _board(group: Group, models: tuple[str, ...]) -> Board:
    """Return the board of these models: one, or all."""
    results = results_of(group, models)
    records = [record for unit, record in group.records.items() if unit.model in models]
    ranked, first = results.ranked, records[0]
    unranked = [label for label in group.labels if label not in results.trouble and label not in ranked.order]
    noise_floor = typical_sd(results.drawn.get(group.ranked_by), group.baselines)
    elsewhere = [record for record in group.elsewhere if models == (record.model.name,)]
    rows = (
        *_rows(results, [*ranked.order, *unranked, *group.baselines]),
        *(row for record in elsewhere for row in _rows(with_elsewhere(results, record), [record.label])),
        *_rows(results, list(results.trouble)),
    )
    noise, prompts = training_noise(group.noise, noise_floor), group.evidence.n_prompts
    lost = len(results.trouble) + len(unranked)
    return Board(
        model=models[0] if len(models) == 1 else "all",
        models=models,
        preset=first.board.preset or first.model.preset,
        dataset=first.dataset.name,
        title=title(first, models, group.seeds, group.ranked_by),
        conclusions=_found(results, rows, noise),
        disclaimers=disclaimers(records, group.seeds, group.evidence, unranked, group.noise_unfit)
        + taken_at(records, group.ranked_by)
        + too_many(group.evidence)
        + borderline(ranked.borderline)
        + tuple(map(trained_elsewhere, elsewhere)),
        weightiest=weightiest(records, group.seeds, prompts, bool(noise), lost, len(ranked.borderline)),
        settings=first.board,
        data=_data(records),
        tested_on=first.dataset.tested_on.name if first.dataset.tested_on else "",
        test_data=first.dataset.tested_on.source if first.dataset.tested_on else "",
        places=places(records),
        seeds=group.seeds,
        n_pairs=group.evidence.n_pairs,
        n_prompts=prompts,
        minimum_detectable_difference=ranked.tests.detectable if ranked.tests else NAN,
        minimum_detectable_planned=ranked.tests.detectable_planned if ranked.tests else NAN,
        gap_edges=group.evidence.gap_edges,
        noise_floor=noise_floor,
        subset_pairs=subset_pairs(group.evidence),
        rows=rows,
        p_values=p_values(ranked),
        borderline=ranked.borderline,
        answers=results.answers,
        frontiers=results.frontiers,
        comparisons={reading: each_pair_once(results.families[read_by(group.ranked_by, reading)]) for reading in BY},
    )


def _found(results: Results, rows: Iterable[Row], noise: str) -> tuple[str, ...]:
    """Return what the board of these rows found; `noise`: what a noise floor is in."""
    group = results.group
    learned = {row.label: of for row in rows if row.kind == "loss" and (of := row.metrics.get(LEARNED)) and of.n}
    prompts = group.evidence.n_prompts
    of_pairs = findings(results.families, group.ranked_by, group.seeds, prompts, learned, results.trouble, noise)
    return of_pairs[:1] + of_answers(results.answers) + of_pairs[1:]


def _data(records: Iterable[Record]) -> str:
    """Return the data's name, or where the first cell that says so read them."""
    read = (each.dataset.source if each.board.knows_content else each.board.dataset for each in records)
    return next(filter(None, read), "")


def _rows(results: Results, labels: Sequence[str]) -> tuple[Row, ...]:
    """Return the rows of these systems, in this order."""
    group, models, trouble, measured = results.group, results.models, results.trouble, results.measured
    against = {name: differences(results.drawn[name], BASE) for name in VS_BASE if name in results.drawn}
    order, standings = results.ranked.order, dict(results.ranked.standings)
    leader = differences(results.drawn[group.ranked_by], order[0]) if order else {}
    sound = [label for label in labels if label not in trouble]
    in_subsets = by_subset(group.evidence, sound, models, group.seeds or (0,), group.ranked_by)
    standings |= last(list(trouble), len(order)) if len(models) == 1 else {}
    by = {reading: results.families[read_by(group.ranked_by, reading)].standings for reading in BY}
    return tuple(
        Row(
            **vars(row_facts(group, label, models)),
            **vars(standings.get(label, Standing())),
            status=trouble[label][0] if label in trouble else "ok",
            reason=trouble[label][1] if label in trouble else "",
            metrics={name: measured.get(name, {}).get(label, Estimate()) for name in METRICS},
            metric_reasons={} if label in trouble else _missing(group, label, models, measured),
            readings={reading: places.get(label, Standing()) for reading, places in by.items()},
            vs_base={name: against.get(name, {}).get(label, Estimate()) for name in VS_BASE},
            vs_leader=leader.get(label, Estimate()),
            subsets=in_subsets.get(label, {}),
            points=() if label in trouble else row_points(results, label),
            answers=results.answers.rows.get(label) if results.answers else None,
            reliability=() if label in trouble else _reliability(group, label, models),
        )
        for label in labels
    )


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
