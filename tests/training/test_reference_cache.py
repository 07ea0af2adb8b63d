"""Reference log-probs are computed once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.training.reference_cache import Pass, Reference, reference_pass

BLOCK = 16


class Counted:
    """Stands for the model: pair i has 1 + i % 3 chosen tokens of -i nats and 2 rejected ones of -i."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, indices: Sequence[int]) -> list[list[np.ndarray]]:
        self.asked += list(indices)
        return [
            [np.full(n, -i, np.float32) for i, n in zip(indices, row[indices], strict=True)] for row in lengths(999)
        ]


def lengths(n_pairs: int) -> np.ndarray:
    return np.stack([1 + np.arange(n_pairs) % 3, np.full(n_pairs, 2)])


def run(folder: Path, n_pairs: int, wanted: np.ndarray, model: Counted, key: str = "key", tokens: bool = False) -> Pass:
    return reference_pass(folder, key, wanted, model, lengths=lengths(n_pairs), block_pairs=BLOCK, tokens=tokens)


def test_a_second_loss_computes_nothing(tmp_path: Path) -> None:
    wanted = np.array([0, 5, 40])
    first, second = Counted(), Counted()
    one = run(tmp_path, 50, wanted, first)
    two = run(tmp_path, 50, wanted, second)
    assert first.asked
    assert second.asked == []
    assert (one.cached, two.cached) == (False, True)
    np.testing.assert_array_equal(two.sums[:, wanted], [[0, -5 * 3, -40 * 2], [0, -10, -80]])  # 5 % 3 = 2, 40 % 3 = 1


def test_a_larger_budget_computes_only_what_is_missing(tmp_path: Path) -> None:
    run(tmp_path, 3 * BLOCK, np.arange(BLOCK), Counted())
    more = Counted()
    whole = run(tmp_path, 3 * BLOCK, np.arange(3 * BLOCK), more)
    assert sorted(more.asked) == list(range(BLOCK, 3 * BLOCK))
    assert not np.isnan(whole.sums).any()


def test_the_cost_is_charged_to_whoever_uses_it_also_from_the_cache(tmp_path: Path) -> None:
    wanted = np.arange(BLOCK)
    one = run(tmp_path, BLOCK, wanted, Counted())
    two = run(tmp_path, BLOCK, wanted, Counted())
    assert one.seconds == two.seconds > 0


def test_another_checkpoint_or_tokenisation_has_its_own(tmp_path: Path) -> None:
    run(tmp_path, 4, np.arange(4), Counted())
    other = Counted()
    run(tmp_path, 4, np.arange(4), other, key="other")
    assert other.asked == [0, 1, 2, 3]


def test_token_log_probs_are_kept_as_they_are_beside_their_sums(tmp_path: Path) -> None:
    run(tmp_path, 40, np.arange(40), Counted(), tokens=True)
    again = Counted()
    cached = run(tmp_path, 40, np.arange(40), again, tokens=True)
    assert again.asked == []
    assert cached.tokens is not None
    for index in range(40):
        np.testing.assert_array_equal(cached.tokens[0][index], [-index] * (1 + index % 3))
        np.testing.assert_array_equal(cached.tokens[1][index], [-index] * 2)
    np.testing.assert_array_equal([[row.sum() for row in side] for side in cached.tokens], cached.sums)


def test_sums_alone_are_no_tokens_and_tokens_bring_their_sums(tmp_path: Path) -> None:
    wanted, late, later = np.arange(BLOCK), Counted(), Counted()
    run(tmp_path, 40, wanted, Counted())
    assert not (tmp_path / "key-tokens.npz").exists()  # nothing is stored for who does not ask
    run(tmp_path, 40, wanted, late, tokens=True)
    run(tmp_path, 40, wanted, later)
    assert (late.asked, later.asked) == (list(range(BLOCK)), [])


def test_tokens_of_pairs_nobody_asked_for_are_missing_not_zero(tmp_path: Path) -> None:
    few = run(tmp_path, 40, np.array([3]), Counted(), tokens=True)
    assert few.tokens is not None
    assert np.isnan(few.tokens[1][BLOCK]).all()


def test_a_file_of_sums_from_an_earlier_version_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "key.npz", table=np.array([[-1.0, -2.0], [-3.0, -4.0], [0.5, 0.5]]))  # sums, seconds per pair
    nobody = Counted()
    known = run(tmp_path, 2, np.arange(2), nobody)
    assert (nobody.asked, known.seconds, known.sums.tolist()) == ([], 1.0, [[-1, -2], [-3, -4]])


def test_a_file_of_another_shape_is_not_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "key.npz", table=np.zeros((3, 7)))
    model = Counted()
    assert run(tmp_path, 2, np.arange(2), model).sums.tolist() == [[0, -2], [0, -2]]
    assert model.asked == [0, 1]


def test_swapped_labels_swap_sums_and_tokens_and_leave_mismatches_alone() -> None:
    tokens = [np.array([-1.0]), np.array([-2.0, -2.0])], [np.array([-3.0] * 3), np.array([-4.0])]
    reference = Reference(
        chosen=np.array([-1.0, -4.0]), rejected=np.array([-9.0, -4.5]), tokens=tokens,
        mismatched=np.array([-5.0, -6.0]), seconds=0.0, cached=True,
    )  # fmt: skip
    swapped = reference.swapped(np.array([True, False]))
    assert (swapped.chosen.tolist(), swapped.rejected.tolist()) == ([-9, -4], [-1, -4.5])
    assert swapped.tokens is not None
    assert [[row.tolist() for row in side] for side in swapped.tokens] == [[[-3] * 3, [-2, -2]], [[-1], [-4]]]
    assert swapped.mismatched is reference.mismatched


def test_a_cache_that_is_damaged_is_computed_again(tmp_path: Path) -> None:
    wanted = np.arange(8)
    whole = run(tmp_path, 8, wanted, Counted())
    (path,) = tmp_path.glob("*.npz")
    content = path.read_bytes()
    value = content.index(np.float64(-5 * 3).tobytes())
    flipped = content[:value] + bytes([content[value] ^ 1]) + content[value + 1 :]
    for damage in (flipped, content[: len(content) // 2], b""):
        path.write_bytes(damage)
        model = Counted()
        again = run(tmp_path, 8, wanted, model)
        assert model.asked
        np.testing.assert_array_equal(again.sums, whole.sums)
