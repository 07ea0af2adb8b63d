"""The comparison of a benchmark run with the stored ratios, on planted numbers; the benchmarks themselves are slow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks import ratios
from benchmarks.driver import Ratio, same_curve
from benchmarks.floor import Shape, needed_flops
from benchmarks.ratios import Stored, check, complaint

STORED = {"a/time": Stored(value=4.0, low=3.8, high=4.2, at_least=2.5)}


def test_a_ratio_is_that_of_the_medians_with_the_extremes_of_the_repetitions() -> None:
    found = Ratio.of([8.0, 9.0, 4.0], [2.0, 3.0, 2.0])
    assert (found.value, found.low, found.high) == (4.0, 2.0, 4.0)  # 8 / 2; 4 / 2; 8 / 2


@pytest.mark.parametrize(
    ("low", "high", "passes"),
    [
        (3.9, 4.3, True),  # a repeat
        (3.0, 3.6, True),  # the interval reaches 0.9 * 4
        (3.0, 3.59, False),  # wholly below
        (6.0, 7.0, True),  # faster
    ],
)
def test_a_run_fails_where_the_whole_interval_lies_below_nine_tenths_of_the_stored_ratio(
    low: float, high: float, passes: bool
) -> None:
    said = complaint("a/time", Ratio(value=(low + high) / 2, low=low, high=high), STORED)
    assert (said is None) == passes


def test_a_ratio_that_was_never_stored_is_an_error_that_says_what_to_do() -> None:
    assert "HARNESS_BENCH_STORE=1" in str(complaint("b/time", Ratio(value=1, low=1, high=1), STORED))


def test_storing_keeps_the_promise_and_what_another_run_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ratios.json"
    kept = {"value": 2.0, "low": 1.9, "high": 2.1, "at_least": 1.5}
    content = {ratios.this_machine(): {"ratios": {"a/time": kept, "b/time": kept}}, "another": {"ratios": {}}}
    path.write_text(json.dumps(content))
    monkeypatch.setenv("HARNESS_BENCH_STORE", "1")
    check({"a/time": Ratio(value=3.0, low=2.5, high=3.5)}, path)
    monkeypatch.delenv("HARNESS_BENCH_STORE")
    assert ratios.read(path) == {"a/time": Stored(value=3.0, low=2.5, high=3.5, at_least=1.5), "b/time": Stored(**kept)}
    check({"a/time": Ratio(value=2.8, low=2.6, high=2.9)}, path)
    assert "another" in ratios.machines(path)
    with pytest.raises(AssertionError, match=r"a/time: got x2\.00"):
        check({"a/time": Ratio(value=2.0, low=1.9, high=2.1)}, path)


def test_a_processor_that_nothing_was_stored_on_is_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check({"a/time": Ratio(value=0.1, low=0.1, high=0.1)}, tmp_path / "ratios.json")
    assert "nothing is stored for" in capsys.readouterr().out


def test_every_promise_is_kept_by_its_stored_ratio() -> None:
    every = {
        (machine, name): one for machine in ratios.machines() for name, one in ratios.read(machine=machine).items()
    }
    assert {place: one.value for place, one in every.items() if one.value < one.at_least} == {}


def test_the_table_of_the_readme_is_what_is_stored() -> None:
    text = (ratios.STORED.parent / "README.md").read_text(encoding="utf-8")
    assert text.partition("<!-- ratios -->\n")[2].partition("\n<!-- /ratios -->")[0] == ratios.table().strip()


def test_loss_curves_that_differ_are_told_apart() -> None:
    assert same_curve([1.0, 2.0], [1.0, 2.0001], 1e-4) == pytest.approx(5e-5, rel=1e-3)
    with pytest.raises(AssertionError, match=r"differ by 0\.0005"):
        same_curve([1.0, 2.001], [1.0, 2.0], 1e-4)


def test_needed_flops_agree_with_a_count_by_hand() -> None:
    """One layer of width 2 with one head of 2, MLP 4, three entries; prompt 1, responses 1 and 2 tokens."""
    shape = Shape(layers=1, width=2, inner=4, heads=1, key_heads=1, head_width=2, vocabulary=3)
    linear = 2 * 4 * (4 * 2 * 2 + 3 * 2 * 4)  # 4 tokens; q, k, v, o of 2 x 2; gate, up, down of 2 x 4
    head = 2 * 3 * 2 * 3  # 3 response tokens
    # keys seen: prompt 1; chosen 2; rejected 2 + 3; scores and their sum: 2 products of 2 x 2 FLOPs
    attention = (1 + 2 + 2 + 3) * 2 * 2 * 2
    assert needed_flops(shape, 1, 1, 2) == 3 * (linear + head + attention)
