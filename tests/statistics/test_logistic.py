"""Weighted logistic regression and its refits, against scipy's optimiser and literal resampling."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from harness.statistics.intervals import resample_counts
from harness.statistics.logistic import Rows, fit, is_told_apart

RNG = np.random.default_rng


def by_scipy(design: np.ndarray, outcome: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return what scipy finds: a win of weight w y and a defeat of weight w (1 - y), and half of each per column."""
    columns = design.shape[1]
    rows = np.concatenate([design, design, np.eye(columns), np.eye(columns)])
    wins = np.concatenate([weight * outcome, weight * 0, np.full(columns, 0.5), np.zeros(columns)])
    defeats = np.concatenate([weight * 0, weight * (1 - outcome), np.zeros(columns), np.full(columns, 0.5)])

    def cost(beta: np.ndarray) -> float:
        return float(wins @ np.logaddexp(0, -rows @ beta) + defeats @ np.logaddexp(0, rows @ beta))

    return np.asarray(optimize.minimize(cost, np.zeros(columns), method="BFGS", options={"gtol": 1e-9}).x)


def some_rows(rng: np.random.Generator, prompts: int = 40, columns: int = 3) -> Rows:
    prompt = np.sort(rng.integers(0, prompts, 3 * prompts))
    design = rng.normal(size=(len(prompt), columns))
    chance = 1 / (1 + np.exp(-design @ np.linspace(-1, 1, columns)))
    outcome = np.round(rng.beta(4 * chance, 4 * (1 - chance)), 1)
    return Rows(design=design, outcome=outcome, weight=rng.random(len(prompt)), prompt=prompt)


def test_it_is_scipys_maximum_with_preferences_as_weighted_wins_and_defeats() -> None:
    rows = some_rows(RNG(0))
    found = fit(rows, resample_counts(40, 10))
    theirs = by_scipy(rows.design, rows.outcome, rows.weight)
    np.testing.assert_allclose(found.coefficients, theirs, atol=1e-5)


def test_a_resample_is_the_fit_of_its_rows_written_out() -> None:
    rows, counts = some_rows(RNG(1)), resample_counts(40, 5, seed=3)
    found = fit(rows, counts)
    for count, own in zip(counts, found.resampled, strict=True):
        drawn = np.repeat(np.arange(len(rows.prompt)), count[rows.prompt])
        np.testing.assert_allclose(
            own, by_scipy(rows.design[drawn], rows.outcome[drawn], rows.weight[drawn]), atol=1e-5
        )


def test_many_resamples_in_blocks_are_those_of_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, counts = some_rows(RNG(2)), resample_counts(40, 50)
    whole = fit(rows, counts).resampled
    monkeypatch.setattr("harness.statistics.logistic.AT_ONCE", 7 * len(rows.prompt))
    np.testing.assert_allclose(fit(rows, counts).resampled, whole, atol=1e-9)


def test_a_pull_is_what_a_little_more_of_a_prompt_does() -> None:
    rows, little = some_rows(RNG(3)), 1e-4
    found = fit(rows, resample_counts(40, 2))
    moved = []
    for prompt in range(40):
        more = Rows(
            design=rows.design,
            outcome=rows.outcome,
            weight=rows.weight * (1 + little * (rows.prompt == prompt)),
            prompt=rows.prompt,
        )
        moved.append((fit(more, resample_counts(40, 2)).coefficients - found.coefficients) / little)
    np.testing.assert_allclose(found.pulls, np.array(moved) - np.mean(moved, axis=0), atol=1e-4)
    assert np.abs(found.pulls.sum(0)).max() < 1e-12


@pytest.mark.parametrize("wins", [0, 1, 100, 200])
def test_of_one_coefficient_it_is_jeffreys_mean_also_where_all_are_wins(wins: int) -> None:
    outcome = (np.arange(200) < wins).astype(float)
    rows = Rows(design=np.ones((200, 1)), outcome=outcome, weight=np.ones(200), prompt=np.arange(200))
    found = fit(rows, resample_counts(200, 100))
    assert 1 / (1 + np.exp(-found.coefficients[0])) == pytest.approx((wins + 0.5) / 201, rel=1e-9)
    assert np.isfinite(found.resampled).all()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_value_that_parts_wins_from_defeats_gives_a_finite_fit(scale: float) -> None:
    value = np.linspace(-1, 1, 60) * scale
    design = np.column_stack([np.ones(60), value])
    rows = Rows(design=design, outcome=(value > 0).astype(float), weight=np.ones(60), prompt=np.arange(60))
    found = fit(rows, resample_counts(60, 200))
    assert np.isfinite(found.resampled).all()
    assert found.coefficients[1] > 0


def test_a_column_without_values_gets_nothing_and_columns_that_are_alike_are_not_told_apart() -> None:
    design = np.column_stack([np.ones(50), np.zeros(50)])
    rows = Rows(design=design, outcome=np.full(50, 0.8), weight=np.ones(50), prompt=np.arange(50))
    assert fit(rows, resample_counts(50, 10)).coefficients[1] == 0
    assert is_told_apart(design)
    assert not is_told_apart(np.column_stack([np.ones(50), np.full(50, 0.3)]))
