"""What of a run file or of flags makes several runs, and which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.api import HarnessError
from harness.execute.resolve import run_values, runs_of
from harness.planning.axes import expanded


@pytest.mark.parametrize(
    ("name", "value", "several"),
    [
        ("learning_rate", "3e-4,1e-3", ["3e-4", "1e-3"]),
        ("learning_rate", "3e-4|1e-3", ["3e-4", "1e-3"]),
        ("learning_rate", [3e-4, 1e-3], [3e-4, 1e-3]),
        ("learning_rate", 3e-4, [3e-4]),
        ("budget", "pairs=128|512", ["pairs=128", "pairs=512"]),
        ("budget", "pairs=128, steps=4", ["pairs=128", "steps=4"]),
        ("budget", ["pairs=128|512", "tokens=1e6"], ["pairs=128", "pairs=512", "tokens=1e6"]),
        ("noise", "none,flip=0.1|0.2,gaussian=1", ["none", "flip=0.1", "flip=0.2", "gaussian=1"]),
        ("select", "none,random:share=0.4", ["none", "random:share=0.4"]),
        (
            "select",
            "none, alignment-potential:share=0.2|0.4, weight=1,dcrm",
            [
                *("none", "alignment-potential:share=0.2,weight=1", "alignment-potential:share=0.4,weight=1"),
                "dcrm",
            ],
        ),
        ("select", ["none", "dcrm:share=0.2|0.4"], ["none", "dcrm:share=0.2", "dcrm:share=0.4"]),
        ("dataset", ("embedded", "a,b|c.jsonl"), ["embedded", "a,b|c.jsonl"]),
        ("dataset", "org/name:config@v1", ["org/name:config@v1"]),
        (
            "dataset",
            "embedded:annotator_noise=0.2|0.6,prompts_train=9",
            ["embedded:annotator_noise=0.2,prompts_train=9", "embedded:annotator_noise=0.6,prompts_train=9"],
        ),
    ],
)
def test_an_axis_has_the_values_that_it_is_given(name: str, value: Any, several: list[Any]) -> None:
    assert [each[name] for each in expanded({name: value})] == several


def test_axes_are_crossed_with_the_first_values_first_and_all_else_is_the_same() -> None:
    found = expanded({"learning_rate": "1e-3,2e-3", "noise": "none,flip=0.1", "seeds": (0, 1)})
    assert [(each["noise"], each["learning_rate"]) for each in found] == [
        *(("none", "1e-3"), ("none", "2e-3"), ("flip=0.1", "1e-3"), ("flip=0.1", "2e-3")),
    ]
    assert all(each["seeds"] == (0, 1) for each in found)


def test_a_file_whose_name_looks_like_an_axis_is_one_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x:a=1|2").touch()
    assert len(expanded({"dataset": "x:a=1|2"})) == 1
    assert len(expanded({"dataset": "x:a=1|3"})) == 2


def test_a_run_file_takes_lists_where_flags_take_them_and_flags_win(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('learning-rate = [1e-3, 2e-3]\nbudget = ["pairs=32", "pairs=64"]\nnoise = "none,flip=0.1"\n')
    runs = runs_of(file, {"noise": "flip=0.2"})
    assert [(run.budget, run.learning_rate, run.noise) for run in runs] == [
        (budget, rate, "flip=0.2") for budget in ("pairs=32", "pairs=64") for rate in (1e-3, 2e-3)
    ]
    with pytest.raises(HarnessError, match="make 4 runs, expected one"):
        run_values(file, {"noise": "flip=0.2"})


def test_without_an_axis_there_is_one_run_with_the_values_that_were_given() -> None:
    (run,) = runs_of(None, {"learning_rate": "3e-4", "dataset": ("embedded",), "budget": "pairs=64"})
    assert (run.learning_rate, run.dataset, run.budget, run.noise) == (3e-4, "embedded", "pairs=64", None)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"learning_rate": []}, r"--learning-rate got \[\], expected at least one value"),
        ({"learning_rate": "1e-3,fast"}, "--learning-rate got 'fast'"),
        ({"learning_rate": "1e-3,"}, "--learning-rate got ''"),
        ({"noise": "flip=0.1|2"}, "--noise got 'flip=2'"),
        ({"select": ""}, "--select got '', expected at least one value"),
        (
            {"select": "share=0.4,dcrm"},
            "--select got 'share=0.4' in 'share=0.4,dcrm', expected NAME:option=value before",
        ),
        ({"select": "none,dcrm:0.4"}, "selector 'dcrm': got '0.4', expected option=value; for example dcrm:share=0.4"),
        ({"select": "dcrm:share=0.2|0.2"}, "selector 'dcrm': got share=0.2.0.2, expected values .* not alike"),
        ({"dataset": "embedded:annotator_noise=1||2"}, "values between the |"),
    ],
)
def test_a_value_that_is_off_is_named_with_its_option(values: dict[str, Any], words: str) -> None:
    with pytest.raises(HarnessError, match=words) as error:
        runs_of(None, values)
    assert "\n" not in str(error.value)
