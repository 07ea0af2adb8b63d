"""Budgets: five currencies, one order of pairs."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from harness.api import HarnessError
from harness.planning.budget import Budget, Cost, pair_flops, plan, visit_order


def cost(tokens: list[int]) -> Cost:
    return Cost(tokens=tokens, flops=pair_flops(tokens, 10, reference=False, coupled=False))


def test_every_currency_is_read() -> None:
    read = {
        text: Budget.parse(text).amount for text in ("pairs=512", "tokens=2e6", "steps=3", "flops=1e15", "seconds=1.5")
    }
    assert read == {"pairs=512": 512, "tokens=2e6": 2e6, "steps=3": 3, "flops=1e15": 1e15, "seconds=1.5": 1.5}


@pytest.mark.parametrize(
    "text", ["512", "pairs", "pairs=", "pairs=0", "pairs=-3", "pairs=nan", "pairs=1.5", "hours=3", "pairs=inf"]
)
def test_a_budget_that_is_none_says_what_was_got_and_expected(text: str) -> None:
    with pytest.raises(HarnessError, match=r"got .*expected"):
        Budget.parse(text)


def test_a_budget_prints_as_it_is_written() -> None:
    assert str(Budget.parse("pairs=512")) == "pairs=512"


def test_an_epoch_visits_every_pair_once() -> None:
    assert sorted(itertools.islice(visit_order(7, seed=1), 7)) == list(range(7))


def test_the_order_depends_on_the_seed_and_on_nothing_else() -> None:
    first, again, other = (list(itertools.islice(visit_order(50, seed), 50)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_more_pairs_than_the_data_has_means_further_epochs() -> None:
    spending = plan(Budget.parse("pairs=12"), batch_pairs=2, seed=0, cost=cost([5] * 4))
    visits = np.concatenate(list(spending.batches()))
    assert spending.epochs == 3
    assert np.bincount(visits).tolist() == [3, 3, 3, 3]


def test_a_pairs_budget_makes_whole_steps() -> None:
    assert plan(Budget.parse("pairs=11"), batch_pairs=4, seed=0, cost=cost([5] * 20)).steps == 2


def test_a_token_budget_is_never_overspent_and_cannot_pay_one_more_step() -> None:
    tokens = np.random.default_rng(0).integers(3, 90, size=40).tolist()
    spending = plan(Budget.parse("tokens=5000"), batch_pairs=4, seed=3, cost=cost(tokens))
    spent = sum(tokens[i] for batch in spending.batches() for i in batch)
    longer = list(itertools.islice(visit_order(40, 3), spending.steps * 4 + 4))
    assert spent <= 5000 < sum(tokens[i] for i in longer)


def test_a_reference_pass_is_charged_in_flops() -> None:
    tokens = [100] * 64
    plain = Cost(tokens=tokens, flops=pair_flops(tokens, 10, reference=False, coupled=False))
    charged = Cost(tokens=tokens, flops=pair_flops(tokens, 10, reference=True, coupled=False))
    budget = Budget.parse(f"flops={6 * 10 * 100 * 64}")
    assert plan(budget, batch_pairs=1, seed=0, cost=plain).steps == 64
    assert plan(budget, batch_pairs=1, seed=0, cost=charged).steps == 48  # 6 of 8 parts


def test_a_budget_below_one_step_is_refused() -> None:
    with pytest.raises(HarnessError, match="one optimiser step of 16 pairs"):
        plan(Budget.parse("pairs=15"), batch_pairs=16, seed=0, cost=cost([5] * 20))


def test_too_little_data_for_one_step_is_refused() -> None:
    with pytest.raises(HarnessError, match="got 3 training pairs, expected at least 16"):
        plan(Budget.parse("pairs=16"), batch_pairs=16, seed=0, cost=cost([5] * 3))


def test_a_budget_of_very_many_epochs_is_planned_at_once() -> None:
    spending = plan(Budget.parse("tokens=1e13"), batch_pairs=4, seed=0, cost=cost([5] * 20))
    assert spending.steps == int(1e13) // 5 // 4


def test_a_later_epoch_can_be_entered_directly() -> None:
    whole = list(itertools.islice(visit_order(7, seed=3), 21))
    assert list(itertools.islice(visit_order(7, seed=3, first_epoch=2), 7)) == whole[14:]


def test_a_mismatched_completion_is_charged_a_forward_under_policy_and_reference() -> None:
    # N = 10: pair 0 costs (6 + 2) * 10 * 100 = 8000 for its own tokens, and (2 + 2) * 10 * 30 = 1200 for the other
    flops = pair_flops([100, 50], 10, reference=True, coupled=False, mismatched=[30, 0])
    assert flops == [9200.0, 4000.0]
    assert pair_flops([100, 50], 10, reference=True, coupled=False) == [8000.0, 4000.0]


@pytest.mark.parametrize(
    ("budget", "fractions", "steps"),
    [
        ("pairs=384", (0.25, 0.5, 1.0), [6, 12]),  # 24 steps of 16 pairs
        ("pairs=100", (0.5, 1.0), [3]),  # 50 pairs pay for three steps of 16
        ("steps=100", (0.29, 0.57, 1.0), [29, 57]),  # 0.29 * 100 and 0.57 * 100 are a bit less in floating point
        ("tokens=1600", (0.1, 0.5, 1.0), [1, 5]),  # a step of 16 pairs of ten tokens costs 160
        ("flops=32000", (0.3, 1.0), [6]),  # and 1,600 operations: 9,600 of 32,000 pay for six
    ],
)
def test_a_point_is_where_a_budget_of_so_much_would_end(
    budget: str, fractions: tuple[float, ...], steps: list[int]
) -> None:
    cost = Cost(tokens=[10] * 64, flops=[100.0] * 64)
    spending = plan(Budget.parse(budget), batch_pairs=16, seed=0, cost=cost, evaluate_at=fractions)
    assert [point.steps for point in spending.points] == steps
    for point in spending.points:
        alone = plan(Budget.parse(budget).part(point.fraction), batch_pairs=16, seed=0, cost=cost)
        assert alone.steps == point.steps


def test_a_fraction_of_less_than_one_step_is_refused() -> None:
    cost = Cost(tokens=[10] * 64, flops=[100.0] * 64)
    words = (
        r"--evaluate-at got 0\.02 of the budget pairs=384, which is less than one optimiser step of 16 pairs; expected "
        r"enough for one; raise the fraction or the budget, or lower --batch-pairs"
    )
    with pytest.raises(HarnessError, match=words):
        plan(Budget.parse("pairs=384"), batch_pairs=16, seed=0, cost=cost, evaluate_at=(0.02, 1.0))


def test_weighted_pairs_are_visited_as_often_as_they_weigh_within_one_visit() -> None:
    often, epochs = [2.5, 0.5, 1.0, 0.25, 0.75], 2000
    stream = visit_order(5, seed=1, often=often)
    counts = np.array([np.bincount(list(itertools.islice(stream, 5)), minlength=5) for _ in range(epochs)])
    assert counts.sum(1).tolist() == [5] * epochs
    for pair, weight in enumerate(often):
        assert set(counts[:, pair]) <= {math.floor(weight), math.ceil(weight)}
        assert abs(counts[:, pair].mean() - weight) < 4 * 0.5 / math.sqrt(epochs)  # a coin has sd 0.5


def test_pairs_that_weigh_the_same_are_visited_as_without_weights() -> None:
    plain, weighted = (list(itertools.islice(visit_order(50, 3, often=often), 200)) for often in ((), (1.0,) * 50))
    assert plain == weighted


def test_a_budget_in_tokens_pays_for_what_weights_have_visited() -> None:
    cost, often = Cost(tokens=[100, 1, 1, 1], flops=[1.0] * 4), (2.5, 0.5, 0.5, 0.5)
    spending = plan(Budget.parse("tokens=5000"), batch_pairs=4, seed=0, cost=cost, often=often)
    spent = sum(cost.tokens[i] for batch in spending.batches() for i in batch)
    assert 5000 - 4 * 100 < spent <= 5000  # about 251.5 an epoch, where one visit each would be 103
