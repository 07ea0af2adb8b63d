"""Table -> leaderboard.json, for programs; numbers have 10 significant digits, so that rebuilds are byte-identical."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from harness.leaderboard.decide.answers import AnswerRow, BoardAnswers
from harness.leaderboard.decide.estimates import Estimate
from harness.leaderboard.decide.frontier import Frontier
from harness.leaderboard.decide.points import RowPoint
from harness.leaderboard.decide.robustness import Robustness
from harness.leaderboard.decide.sensitivity import Sensitivity
from harness.leaderboard.decide.standings import Standing
from harness.leaderboard.formatting import json_text
from harness.leaderboard.table import Board, Row, Table


def render(table: Table) -> str:
    """Return the table as JSON with a trailing newline; missing numbers are null."""
    content = {
        "protocol": table.protocol,
        "ranked_by": table.ranked_by,
        "boards": [_board(board) for board in table.boards],
        **({"robustness": [_robustness(each) for each in table.robustness]} if table.robustness else {}),
        **({"sensitivity": [_sensitivity(each) for each in table.sensitivity]} if table.sensitivity else {}),
    }
    return json_text(content)


def _board(board: Board) -> dict[str, Any]:
    return {
        "model": board.model,
        "models": board.models,
        "preset": board.preset,
        "dataset": board.dataset,
        **({"tested_on": board.tested_on} if board.tested_on else {}),
        "title": board.title,
        "conclusions": board.conclusions,
        "disclaimers": board.disclaimers,
        "weightiest": board.weightiest,
        "settings": board.settings.as_json(),
        "seeds": board.seeds,
        "n_pairs": board.n_pairs,
        "n_prompts": board.n_prompts,
        "minimum_detectable_difference": board.minimum_detectable_difference,
        "minimum_detectable_planned": board.minimum_detectable_planned,
        "gap_edges": board.gap_edges,
        "noise_floor": board.noise_floor,
        "rows": [_row(row) for row in board.rows],
        "p_values": board.p_values,
        "borderline": board.borderline,
        "comparisons": board.comparisons,
        **({"answers": _answers(board.answers)} if board.answers else {}),
        **({"frontiers": [_frontier(each) for each in board.frontiers]} if board.frontiers else {}),
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        **_standing(row),
        "label": row.label,
        "loss": row.loss,
        "kind": row.kind,
        "options": row.options,
        "tuned": {model: asdict(choice) for model, choice in row.tuned.items()},
        "reference_based": row.reference_based,
        "status": row.status,
        "reason": row.reason,
        "seeds": row.seeds,
        **({"reported_at": row.reported_at} if row.reported_at else {}),
        "metrics": _estimates(row.metrics),
        **({"subsets": _subsets(row)} if row.subsets else {}),
        **({"points": [_point(point) for point in row.points]} if row.points else {}),
        **({"answers": _answers_of_row(row.answers)} if row.answers else {}),
        "metric_reasons": row.metric_reasons,
        "readings": {reading: _standing(standing) for reading, standing in row.readings.items()},
        "vs_base": {name: _estimate(estimate) for name, estimate in row.vs_base.items()},
        "vs_leader": _estimate(row.vs_leader),
        "spend": row.spend,
        "scorer": row.scorer.as_json(),
        "reliability": [asdict(pairs) for pairs in row.reliability],
        "prepared": row.prepared,
    }


def _point(point: RowPoint) -> dict[str, Any]:
    return {
        "fraction": point.fraction,
        **point.spend,
        "metrics": _estimates(point.metrics),
        **({"answers": _estimates(point.answers)} if point.answers else {}),
    }


def _subsets(row: Row) -> dict[str, Any]:
    return {subset: _estimates(accuracies) for subset, accuracies in row.subsets.items()}


def _answers(found: BoardAnswers) -> dict[str, Any]:
    """Return how answers were sampled, and what is known of their judges."""
    return {
        "sampling": {name: value for name, value in found.facts.as_json().items() if name != "metrics"},
        "judges": [
            {**asdict(judge), "first": _estimate(judge.first), "itself": judge.itself and asdict(judge.itself)}
            for judge in found.judges
        ],
        "agreement": [asdict(pair) for pair in found.agreement],
    }


def _answers_of_row(row: AnswerRow) -> dict[str, Any]:
    """Return what is known of a system's answers."""
    return {
        "values": _estimates(row.values),
        "over_base": _estimates(row.over_base),
        "places": {name: _standing(place) for name, place in row.places.items()},
        "reasons": row.reasons,
    }


def _frontier(of: Frontier) -> dict[str, Any]:
    """Return one frontier; KL in nats."""
    return {
        "quality": of.quality,
        "points": [{**asdict(point), "kl": _estimate(point.kl), "gain": _estimate(point.gain)} for point in of.points],
        "fits": {label: [asdict(fit) for fit in made] for label, made in of.fits.items()},
        "at_kl": {
            f"{target:g}": {
                label: _estimate(estimate) | _standing(of.places[target][label]) for label, estimate in found.items()
            }
            for target, found in of.at.items()
        },
        "dominated": [asdict(each) for each in of.dominated],
    }


def _robustness(of: Robustness) -> dict[str, Any]:
    """Return the losses along one dial of noise; slopes per 1 of the dial."""
    return {
        "dial": of.dial,
        "model": of.model,
        "dataset": of.data,
        "settings": of.settings.as_json(),
        "metric": of.metric,
        "seeds": of.seeds,
        "n_pairs": of.n_pairs,
        "amounts": of.amounts,
        "losses": {
            label: {
                "values": [_estimate(estimate) for estimate in values],
                "slope": _estimate(of.slopes[label]),
                "slope_less_that_of": {other: _estimate(estimate) for other, estimate in of.differences[label].items()},
            }
            for label, values in of.values.items()
        },
        "left_out": of.left_out,
    }


def _sensitivity(of: Sensitivity) -> dict[str, Any]:
    """Return the losses over their settings, or over their trials on dev."""
    return {
        "model": of.model,
        "dataset": of.data,
        "settings": of.shared.as_json(),
        "metric": of.metric,
        "seeds": of.seeds,
        "chosen_on_dev": of.on_dev,
        **({"trials": True} if of.trials else {}),
        "losses": {
            loss: asdict(spread)
            | {"best_value": _estimate(spread.best_value), "worst_value": _estimate(spread.worst_value)}
            for loss, spread in of.losses.items()
        },
        "left_out": of.left_out,
    }


def _estimates(metrics: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: _estimate(found) | {"n": found.n, "few": found.few} for name, found in metrics.items()}


def _standing(standing: Standing) -> dict[str, Any]:
    return {
        "rank": standing.rank,
        "rank_low": standing.rank_low,
        "rank_high": standing.rank_high,
        "tier": standing.tier,
        "borderline": standing.borderline,
    }


def _estimate(estimate: Estimate) -> dict[str, float]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}
