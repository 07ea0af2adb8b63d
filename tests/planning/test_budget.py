"""Budgets: five currencies, one order of pairs."""

from __future__ import annotations

import itertools

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
