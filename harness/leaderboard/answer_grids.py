"""What a board says of generated answers and of the frontier, as tables of text that every rendering writes down."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.leaderboard.decide.answers import AnswerRow, BoardAnswers, JudgeSummary, TwoJudges
from harness.leaderboard.decide.answers_in_words import said_by
from harness.leaderboard.decide.estimates import BASE
from harness.leaderboard.formatting import (
    number,
    number_with_interval,
)
from harness.leaderboard.frontier_grid import frontier_grid
from harness.leaderboard.grid import Grid, place_cell, value_cell
from harness.leaderboard.table import Board
from harness.statistics.answer_metrics import (
    EQUAL_LENGTH,
    EQUAL_STYLE,
    JUDGED,
    KL,
    NUMBERS,
    RATING,
    VS_CHOSEN,
    WIN_RATE,
)

SHORT = {
    KL: "KL, nats",
    "kl_log_ratio": "KL by log ratio",
    "length": "tokens",
    "cut": "cut off",
    "distinct_2": "distinct-2",
    "longest_loop": "longest loop",
    "rouge_l": "ROUGE-L with chosen",
    RATING: "rating",
    WIN_RATE: "win rate",
    EQUAL_LENGTH: "at equal length",
    EQUAL_STYLE: "at equal style",
    VS_CHOSEN: "against chosen",
}
"""What the columns are called."""
FORMS = {KL: ".2f", "kl_log_ratio": ".2f", "length": ".0f", "longest_loop": ".1f"}
"""How they are written where three decimals are not right."""


def answer_grids(board: Board) -> tuple[Grid, ...]:
    """Return the tables of a board on its answers, a judge at a time, and on the frontier; none without answers."""
    if board.answers is None:
        return ()
    judged = [_judge(board, board.answers, judge) for judge in board.answers.judges]
    reached = [frontier_grid(frontier) for frontier in board.frontiers]
    return (_numbers(board, board.answers), *judged, *reached)


def short_grid(board: Board) -> Grid | None:
    """Return what a terminal shows of a board's answers; None without any."""
    if board.answers is None:
        return None
    names = {judge.name: f"{RATING if judge.rates else WIN_RATE}@{judge.name}" for judge in board.answers.judges}
    heads = [
        f"rating over base, {judge.name}" if judge.rates else f"win rate, {judge.name}"
        for judge in board.answers.judges
    ]
    rows = [
        (
            label,
            value_cell(row.values.get(KL), FORMS[KL]),
            value_cell(row.values.get("length"), FORMS["length"]),
            *(
                value_cell(row.over_base.get(name), "+.3f")
                if name.startswith(RATING)
                else value_cell(row.values.get(name))
                for name in names.values()
            ),
        )
        for label, row in _in_order(board, board.answers)
    ]
    before = (f"{sampled(board.answers)}:",)
    return Grid(title="", before=before, head=("loss", "KL, nats", "tokens", *heads), rows=tuple(rows))


def _in_short(row: AnswerRow, name: str) -> str:
    """Return a judge's number in one cell: of a rating the difference to the base."""
    if name.startswith(RATING):
        return value_cell(row.over_base.get(name), "+.3f")
    return value_cell(row.values.get(name))


def sampled(answers: BoardAnswers) -> str:
    """Return how the answers were sampled."""
    facts = answers.facts
    each = "one answer" if facts.samples == 1 else f"{facts.samples} answers"
    asked = f"{facts.prompts} held-out prompts"
    if facts.asked:
        licence = facts.asked.licence or "licence not known"
        asked = f"{facts.prompts} prompts, {facts.asked.name} ({licence})"
    return (
        f"{each[0].upper()}{each[1:]} to each of {asked}, at temperature "
        f"{facts.temperature:g}, top-p {facts.top_p:g}, of up to {facts.max_new_tokens} tokens"
    )


def _numbers(board: Board, answers: BoardAnswers) -> Grid:
    names = [name for name in NUMBERS if any(name in row.values for row in answers.rows.values())]
    rows = [
        (label, *(value_cell(row.values.get(name), FORMS.get(name, ".3f")) for name in names))
        for label, row in _in_order(board, answers)
    ]
    meaning = "; ".join(f"{SHORT[name]}: {NUMBERS[name].summary}" for name in names)
    tempered = () if KL in names else ("KL is known of answers at temperature 1 and top-p 1 only.",)
    return Grid(
        title="Generated answers",
        before=(f"{sampled(answers)}. 95 % intervals over prompts{_and_seeds(board)}.",),
        head=("loss", *(SHORT[name] for name in names)),
        rows=tuple(rows),
        after=(f"{meaning[0].upper()}{meaning[1:]}.", *tempered),
    )


def _judge(board: Board, answers: BoardAnswers, judge: JudgeSummary) -> Grid:
    """Return what one judge says: of a rating the difference to the base beside it, of a win rate its rank."""
    names = [
        name for stem in JUDGED if any((name := f"{stem}@{judge.name}") in row.values for row in answers.rows.values())
    ]
    head: list[str] = ["loss"]
    for name in names:
        stem = name.partition("@")[0]
        head += ["rank", SHORT[stem], "over base"] if stem == RATING else [SHORT[stem], "rank"]
    ranked = sorted(_in_order(board, answers), key=lambda of: _first(of[1], names))
    rows = [(label, *_judged(row, names)) for label, row in ranked]
    agreement = [_two(pair) for pair in answers.agreement if judge.name in (pair.one, pair.other)]
    why = dict.fromkeys(
        f"{label} has no {JUDGED[name.partition('@')[0]].summary}: {reason}."
        for label, row in _in_order(board, answers)
        for name, reason in row.reasons.items()
        if name in {f"{stem}@{judge.name}" for stem in JUDGED}
    )
    meaning = "; ".join(f"{SHORT[stem]}: {JUDGED[stem].summary}" for stem in (name.partition("@")[0] for name in names))
    return Grid(
        title=f"Judge {judge.name}",
        before=tuple(filter(None, (said_by(answers, judge), _asked(judge)))),
        head=tuple(head),
        rows=tuple(rows),
        after=tuple([f"{meaning[0].upper()}{meaning[1:]}."] if meaning else []) + tuple(agreement) + tuple(why),
    )


def _first(row: AnswerRow, names: Sequence[str]) -> float:
    """Return the rank by the first of these numbers; what has none stands last."""
    place = row.places.get(names[0]) if names else None
    return math.inf if place is None or place.rank is None else place.rank


def _judged(row: AnswerRow, names: Sequence[str]) -> list[str]:
    cells: list[str] = []
    for name in names:
        place = place_cell(row.places.get(name))
        value = value_cell(row.values.get(name))
        if name.startswith(f"{RATING}@"):
            cells += [place, value, value_cell(row.over_base.get(name), "+.3f")]
        else:
            cells += [value, place]
    return cells


def _asked(judge: JudgeSummary) -> str:
    """Return what a judge was asked, what of it could not be read, and how far it can be relied on."""
    kind = "ratings" if judge.rates else "comparisons, each answer shown first and second"
    faults = "".join(f"; {count} of them: {reason}" for reason, count in judge.reasons.items())
    parts = [f"{judge.asked} {kind}{faults}."]
    if math.isfinite(judge.chosen):
        parts.append(f"The data's chosen responses are rated {number(judge.chosen)} on average.")
    if math.isfinite(judge.first.value):
        parts.append(f"It prefers the answer shown first in {number_with_interval(judge.first)}; 0.5 is no liking.")
    if judge.itself is not None:
        parts.append(
            f"Asked again it says the same in {number(judge.itself.share)} (kappa {number(judge.itself.kappa)})."
        )
    return " ".join(parts)


def _two(pair: TwoJudges) -> str:
    return (
        f"{pair.one} and {pair.other} say the same of {number(pair.verdicts.share)} of {pair.verdicts.questions} "
        f"comparisons with the base (Cohen's kappa {number(pair.verdicts.kappa)} "
        f"[{number(pair.verdicts.kappa_low)}, {number(pair.verdicts.kappa_high)}]); Kendall's tau of their win rates: "
        f"{number(pair.tau)}."
    )


def _in_order(board: Board, answers: BoardAnswers) -> list[tuple[str, AnswerRow]]:
    """Return the rows in the order of the board, the base last."""
    labels = [row.label for row in board.rows if row.label in answers.rows]
    return [(label, answers.rows[label]) for label in sorted(labels, key=lambda label: label == BASE)]


def _and_seeds(board: Board) -> str:
    return " and seeds" if len(board.seeds) > 1 else ""
