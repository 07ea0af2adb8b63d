"""Judges of known faults, 500 runs each: what the numbers of judging say. `tox -e stats`; prints its results."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from harness.statistics import pairwise_tests
from harness.statistics.bradley_terry import against_base, bradley_terry
from harness.statistics.intervals import interval
from harness.statistics.judge_agreement import judge_noise, self_agreement
from harness.statistics.length_control import length_controlled_win_rate
from harness.statistics.pairwise_tests import compare
from harness.statistics.style import style_differences
from harness.statistics.verdicts import prompt_scores, win_rate

pytestmark = pytest.mark.stats
RNG = np.random.default_rng
LEAST = 0.93
RUNS, BLOCK = 500, 50


def inside(low: np.ndarray, high: np.ndarray, truth: np.ndarray | float) -> np.ndarray:
    return np.asarray((low <= truth) & (truth <= high))


def ask(rng: np.random.Generator, chance: np.ndarray, repeats: int = 1) -> np.ndarray:
    """Return verdicts, (1, *chance.shape, 1, 2, repeats), of a judge who prefers an answer with that chance, (K, P)."""
    return (rng.random((1, *chance.shape, 1, 2, repeats)) < chance[None, ..., None, None, None]).astype(float)


@pytest.mark.parametrize(
    ("prompts", "truth", "strength", "longer"),
    [(200, 0.5, 1.0, 0.5), (200, 0.6, 1.5, 1.0), (200, 0.7, 1.0, -0.5), (100, 0.9, 1.0, 1.0), (50, 0.6, 1.0, 0.5)],
)
def test_of_a_judge_that_likes_length_the_plain_win_rate_is_off_and_the_controlled_one_covers(
    prompts: int, truth: float, strength: float, longer: float
) -> None:
    """The judge's log-odds: logit(truth) + strength tanh(dL / 200 characters); dL has mean 200 `longer` and sd 200."""
    rng, values, covered = RNG([1, prompts, int(10 * truth)]), [], []
    for start in range(0, RUNS, BLOCK):
        apart = np.rint(rng.normal(200 * longer, 200, (BLOCK, prompts)))
        verdicts = ask(rng, expit(logit(truth) + strength * np.tanh(apart / 200)))
        plain = win_rate(verdicts, 10)
        controlled = length_controlled_win_rate(verdicts, apart[None, ..., None], 1000, start).sample
        values.append((plain.value, controlled.value))
        covered.append([inside(one.low, one.high, truth) for one in (plain, controlled)])
    (plain_mean, mean), (plain_share, share) = (np.concatenate(each, axis=1).mean(1) for each in (values, covered))
    print(
        f"\n{prompts} prompts, truth {truth}, liking {strength}, {longer:+} sd longer: plain {plain_mean:.3f} covers "
        f"{plain_share:.1%}, controlled {mean:.3f} covers {share:.1%}",
        end="",
    )
    assert abs(plain_mean - truth) > 5 * abs(mean - truth)
    assert share >= LEAST


def test_where_the_judge_does_not_follow_the_model_the_controlled_win_rate_is_nearly_right() -> None:
    """Log-odds that are straight in dL, prompts of unequal difficulty, a liking for the first place; longer answers."""
    rng, prompts = RNG(2), 200
    for name, straight, difficulty, place in (
        ("straight in dL", True, 0.0, 0.0),
        ("prompts differ by 1", False, 1.0, 0.0),
        ("first place +1", False, 0.0, 1.0),
    ):
        values, covered = [], []
        level = logit(0.6)
        spread = level + difficulty * np.linspace(-3, 3, 601)
        weight = np.exp(-(np.linspace(-3, 3, 601) ** 2) / 2)
        both = (expit(spread + place) + expit(spread - place)) / 2
        truth = float(both @ weight / weight.sum())
        for start in range(0, RUNS, BLOCK):
            apart = np.rint(rng.normal(100, 200, (BLOCK, prompts)))
            log_odds = level + difficulty * rng.normal(size=apart.shape)
            log_odds = log_odds + (apart / 200 if straight else np.tanh(apart / 200))
            verdicts = np.concatenate([ask(rng, expit(log_odds + s))[..., :1, :] for s in (place, -place)], axis=-2)
            found = length_controlled_win_rate(verdicts, apart[None, ..., None], 1000, start).sample
            values.append(found.value)
            covered.append(inside(found.low, found.high, truth))
        mean, share = np.mean(values), np.mean(covered)
        print(f"\n{name}: truth {truth:.3f}, controlled {mean:.3f} covers {share:.1%}", end="")
        assert abs(mean - truth) < 0.01
        assert share >= LEAST - 0.01


def test_losses_that_differ_in_length_alone_are_not_told_apart_by_the_controlled_win_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pairwise_tests, "MOST_RESAMPLES", 8000)
    rng, boards, false, plain_false = RNG(3), RUNS, 0, 0
    longer = np.linspace(-1, 1, 4)[:, None]
    for board in range(boards):
        apart = np.rint(200 * (longer + rng.normal(size=(4, 100))))
        verdicts = ask(rng, expit(np.tanh(apart / 200) + 0.5 * rng.normal(size=100)))
        plain = win_rate(verdicts, 1000, board % 50)
        found = length_controlled_win_rate(verdicts, apart[None, ..., None], 1000, board % 50).sample
        plain_false += bool(compare(plain.per_seed, plain.sums, plain.sizes, plain.resampled).better.any())
        false += bool(compare(found.per_seed, found.sums, found.sizes, found.resampled).better.any())
    print(
        f"\nfour equal losses of other lengths: told apart on {plain_false / boards:.1%} of boards by the win rate, "
        f"{false / boards:.1%} by the controlled one",
        end="",
    )
    assert false / boards <= 0.07
    assert plain_false / boards > 0.9


@pytest.mark.parametrize("place", [0.5, 1.0, 2.0])
def test_both_orders_are_right_for_equal_answers_and_shrink_unequal_ones_as_stated(place: float) -> None:
    """`place`: log-odds that the first place adds; 200 prompts."""
    rng = RNG([4, int(10 * place)])
    for truth in (0.5, 0.6, 0.7, 0.9):
        log_odds = np.full((RUNS, 200), logit(truth))
        verdicts = np.concatenate([ask(rng, expit(log_odds + s))[..., :1, :] for s in (place, -place)], axis=-2)
        found = win_rate(verdicts, 10)
        both = float((expit(logit(truth) + place) + expit(logit(truth) - place)) / 2)
        share = inside(found.low, found.high, both).mean()
        kept = f", {(both - 0.5) / (truth - 0.5):.0%} of its lead" if truth > 0.5 else ""
        print(
            f"\nplace +{place} (equal answers: first wins {expit(place):.2f}), truth {truth}: first order alone "
            f"{verdicts[..., 0, :].mean():.3f}, both {found.value.mean():.3f} (stated {both:.3f}{kept}), "
            f"covers {share:.1%}",
            end="",
        )
        assert found.value.mean() == pytest.approx(both, abs=0.003)
        assert share >= LEAST
        assert truth > 0.5 or both == pytest.approx(0.5)


@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 0.2), (2.0, 1.5), (200.0, 150.0)])
def test_of_a_noisy_judge_intervals_over_prompts_cover_and_resampling_the_repeats_too_is_too_wide(
    alpha: float, beta: float
) -> None:
    """A prompt's chance is Beta(alpha, beta): from a judge with an opinion to one that is all noise; 100 prompts."""
    rng, prompts, truth = RNG([5, int(10 * alpha)]), 100, alpha / (alpha + beta)
    for repeats in (1, 2):
        chance = rng.beta(alpha, beta, (RUNS, prompts))
        verdicts = ask(rng, chance, repeats)
        found = win_rate(verdicts, 10)
        share = inside(found.low, found.high, truth).mean()
        width = (found.high - found.low).mean()
        words = f"\nBeta({alpha}, {beta}), asked {repeats} times: covers {share:.1%}, width {width:.3f}"
        if repeats == 2:
            of_itself = self_agreement(verdicts, 100)
            words += f"; agrees with itself {of_itself.share:.2f}, noise is {judge_noise(verdicts).mean():.0%}"
            alone, twice = [], []
            for run in range(200):
                which = rng.integers(0, prompts, (1000, prompts))
                drawn = verdicts[0, run, :, 0][which]  # (resamples, prompts, orders, repeats)
                again = np.take_along_axis(drawn, rng.integers(0, repeats, drawn.shape), axis=-1)
                for into, values in ((alone, drawn), (twice, again)):
                    score = prompt_scores(verdicts[:, run : run + 1]).mean(2)[0]
                    low, high = interval(values.mean((1, 2, 3))[:, None], score, n_prompts=prompts)
                    into.append((bool(inside(low, high, truth)[0]), float(high[0] - low[0])))
            (one, width), (both, wider) = np.mean(alone, axis=0), np.mean(twice, axis=0)
            words += (
                f"; bootstrap of prompts {one:.1%}, of repeats too {both:.1%} and {wider / width:.2f} times as wide"
            )
            assert both >= one
        print(words, end="")
        assert LEAST <= share <= 0.975


def test_of_a_judge_that_likes_style_bradley_terry_covers() -> None:
    """Three losses, two of which write more than the base."""
    rng, truth, prompts = RNG(6), np.array([0.5, 0.6, 0.8]), 100
    liking, values, covered, plain = np.array([1.0, 20.0, 0.0, -10.0]), [], [], []
    for run in range(RUNS):
        tokens = rng.integers(50, 300, (4, prompts)) * np.array([1.0, 1.3, 1.0, 2.0])[:, None]
        counts = [rng.poisson(tokens / each) for each in (40, 20, 20)]
        style = np.stack([tokens, *counts], axis=-1)[:, :, None]  # (4, P, 1, 4), the base first
        base = np.broadcast_to(style[0], style[1:].shape).reshape(-1, 4)
        apart = style_differences(style[1:].reshape(-1, 4), base).reshape(3, prompts, 4)
        verdicts = ask(rng, expit(logit(truth)[:, None] + apart @ liking))
        found = bradley_terry(against_base(verdicts, style[None, 1:], style[0]), 3, prompts, 1000, run).sample
        values.append(found.value)
        plain.append(prompt_scores(verdicts)[0].mean(1))
        covered.append(inside(found.low, found.high, truth))
    mean, share = np.mean(values, axis=0), np.mean(covered, axis=0)
    print(
        f"\n{prompts} prompts, truth {truth}: plain {np.mean(plain, axis=0).round(3)}, at equal style {mean.round(3)} "
        f"covers {', '.join(f'{one:.1%}' for one in share)}",
        end="",
    )
    assert np.abs(mean - truth).max() < 0.01
    assert share.min() >= LEAST
