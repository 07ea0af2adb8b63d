"""The run as one value."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from harness.api import HarnessError
from harness.planning.presets import LEARNING_RATES, PRESETS, preset_of_size
from harness.planning.run_file import make_run
from harness.planning.run_toml import read_run
from harness.planning.tuned_run import TrialRun


def test_a_run_file_round_trips(tmp_path: Path) -> None:
    run = make_run(
        {
            "plugins": "simpo:beta=2.5",
            "models": ["qwen", "gemma"],
            "budget": "pairs=32",
            "seeds": [0, 1],
            "lenient": True,
        }
    )
    (tmp_path / "run.toml").write_text(run.as_toml())
    assert make_run(read_run(tmp_path / "run.toml")) == run


@pytest.mark.parametrize("key", ["plain-path", "reference-path"])
def test_the_plain_path_has_two_names_in_a_run_file(key: str, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(f"{key} = true\n")
    assert make_run(read_run(tmp_path / "run.toml")).plain_path


def test_both_names_of_the_plain_path_in_one_run_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("plain-path = true\nreference-path = false\n")
    with pytest.raises(HarnessError, match="plain-path and reference-path, which are the same setting"):
        read_run(tmp_path / "run.toml")


def test_the_plain_path_keeps_its_first_name_in_files_and_hashes() -> None:
    run = make_run({"plain_path": True})
    assert "reference-path = true\n" in run.as_toml()
    assert "plain-path" not in run.as_toml()
    assert (run.as_json()["reference_path"], run.decisive().reference_path) == (True, True)
    assert run.short_hash() == "b2d669e11a"
    assert make_run({}).short_hash() == "e8fe85a0c3"


def test_an_optimiser_is_in_the_key_and_the_hash_where_it_is_not_adamw() -> None:
    assert "optimizer" not in make_run({"optimizer": "adamw"}).decisive().as_json()
    other = make_run({"optimizer": "adamw-8bit"})
    assert other.decisive().optimizer == "adamw-8bit"
    assert other.short_hash() != make_run({}).short_hash() == "e8fe85a0c3"


def test_weights_are_in_bf16_with_an_optimiser_that_rounds_at_random_and_else_in_fp32() -> None:
    bf16 = {"dtype": "bfloat16"}
    assert make_run(bf16).weights_dtype == make_run({**bf16, "optimizer": "adamw-8bit"}).weights_dtype == "float32"
    assert make_run({**bf16, "optimizer": "adamw-bf16-sr"}).weights_dtype == "bfloat16"
    assert make_run({**bf16, "adapter": "lora"}).weights_dtype == "bfloat16"


def test_an_unknown_key_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("bugdet = 'pairs=3'\n")
    with pytest.raises(HarnessError, match=r"got key 'bugdet'.*did you mean 'budget'"):
        make_run(read_run(tmp_path / "run.toml"))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"preset": "huge"}, "--preset got 'huge': expected 'nano', 'tiny', 'small', 'medium' or 'paper'"),
        ({"models": []}, "--models got .*expected at least one"),
        ({"seeds": [1, 1]}, "--seeds got .*no value twice"),
        ({"learning_rate": -1.0}, "--learning-rate got -1.0"),
        ({"seeds": [-1]}, "--seeds got -1: expected greater than or equal to 0"),
        ({"trials": -1}, "--trials got -1: expected greater than or equal to 0"),
        ({"trials": 1.5}, "--trials got 1.5: expected a valid integer"),
        ({"trials": 2, "evaluate_on": "dev"}, "--trials got 2: expected 0 with --evaluate-on dev"),
        ({"optimizer": "sgd"}, "--optimizer got 'sgd': expected 'adamw', 'adamw-8bit' or 'adamw-bf16-sr'"),
        ({"optimizer": "adamw-bf16-sr"}, "adamw-bf16-sr with --adapter full and --dtype float32, expected full and bf"),
        (
            {"optimizer": "adamw-bf16-sr", "adapter": "lora", "dtype": "bfloat16"},
            "with --adapter lora and --dtype bfloat16, expected full and bfloat16",
        ),
        ({"adapter": "dora"}, "--adapter got 'dora': expected full, lora or qlora, with options as in lora:r=16"),
        ({"adapter": "full:r=8"}, "--adapter got 'full:r=8': expected full, lora or qlora"),
        ({"adapter": "lora:rank=8"}, "--adapter got 'lora:rank=8': got 'rank=8', expected r=RANK, alpha=FACTOR or"),
        ({"adapter": "lora:"}, "--adapter got 'lora:': got '', expected r=RANK"),
        ({"adapter": "lora:r=8,r=16"}, "got 'r=16', expected .* each once"),
        ({"adapter": "lora:r=0"}, "got r=0, expected a whole number from 1 to 4096"),
        ({"adapter": "lora:alpha=1.5"}, "got alpha=1.5, expected a whole number"),
        ({"adapter": "lora:targets="}, "got targets=, expected all-linear or names of linear layers"),
        ({"adapter": "lora:targets=all-linear+q_proj"}, "got targets=all-linear.q_proj, expected all-linear or"),
    ],
)
def test_a_value_that_is_off_is_one_line(values: dict[str, object], words: str) -> None:
    with pytest.raises(HarnessError, match=words) as error:
        make_run(values)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("= =")
    with pytest.raises(HarnessError, match=r"run\.toml: not valid TOML"):
        read_run(tmp_path / "run.toml")


def test_what_decides_a_result_decides_the_hash() -> None:
    run = make_run({})
    assert run.short_hash() == make_run({"budget": run.settings.budget}).short_hash()
    assert run.short_hash() != make_run({"budget": "pairs=64"}).short_hash()
    assert run.short_hash() == make_run({"micro_pairs": 4}).short_hash()  # micro-batching changes no result
    assert run.short_hash() == make_run({"trials": 4}).short_hash()  # trials add boards to the same run


def test_how_files_are_read_decides_a_run_only_where_it_is_said() -> None:
    said = {"columns": "prompt=question", "splits": "train=first", "pairs_from_labels": True}
    plain, told = make_run({}), make_run(said)
    assert not said.keys() & plain.decisive().as_json().keys()
    assert told.decisive().as_json().items() >= said.items()
    assert told.short_hash() != plain.short_hash()
    assert 'columns = "prompt=question"\n' in told.as_toml()


@pytest.mark.parametrize(
    ("asked", "rate"),
    [
        ({}, 1e-3),
        ({"adapter": "lora"}, 2e-3),
        ({"models": ["./mine"], "preset": "nano"}, 1e-3),  # as asked
        ({"preset": "paper"}, 5e-7),
        ({"preset": "paper", "adapter": "lora"}, 5e-6),
        ({"preset": "paper", "adapter": "qlora:r=64"}, 5e-6),
        ({"preset": "small", "learning_rate": 1e-4}, 1e-4),
    ],
)
def test_the_learning_rate_is_that_of_the_preset_and_the_adapter_unless_one_is_given(
    asked: dict[str, Any], rate: float
) -> None:
    run = make_run(asked)
    assert (run.settings.learning_rate, run.decisive().learning_rate) == (rate, rate)


def test_every_preset_has_its_learning_rates_and_a_larger_model_never_a_larger_one() -> None:
    assert list(LEARNING_RATES) == list(PRESETS)
    for one, other in pairwise(LEARNING_RATES.values()):
        assert one.full >= other.full
        assert one.lora >= other.lora
    assert all(rates.lora > rates.full for rates in LEARNING_RATES.values())


@pytest.mark.parametrize(
    ("parameters", "preset"),
    [
        (1, "tiny"),
        (10_000_000, "tiny"),
        (10_000_001, "small"),
        (134_515_008, "small"),  # SmolLM2-135M
        (494_032_768, "small"),  # Qwen2.5-0.5B
        (1_235_814_400, "medium"),  # Llama-3.2-1B
        (2_000_000_001, "paper"),
        (8_030_261_248, "paper"),  # Llama-3-8B
    ],
)
def test_a_model_that_somebody_brings_has_the_settings_of_its_size(parameters: int, preset: str) -> None:
    assert preset_of_size(parameters) == preset


def test_no_preset_leaves_the_dtype_to_the_processor() -> None:
    assert {preset.dtype for preset in PRESETS.values()} <= {"float32", "bfloat16"}
    assert make_run({"preset": "small"}).settings.dtype == "float32"


def test_points_are_in_order_each_once_and_the_end_is_one_of_them() -> None:
    assert make_run({"evaluate_at": (0.5, 0.25, 0.5)}).evaluate_at == (0.25, 0.5, 1.0)
    assert make_run({"evaluate_at": (1,)}).evaluate_at == (1.0,)
    assert make_run({}).evaluate_at == ()


@pytest.mark.parametrize("values", [(0.0, 0.5), (-0.1,), (1.01,), (25, 50)])
def test_a_fraction_that_is_none_is_refused_with_what_was_expected(values: tuple[float, ...]) -> None:
    with pytest.raises(HarnessError, match=r"--evaluate-at got .*: expected fractions of the budget above 0 and up to"):
        make_run({"evaluate_at": values})


def test_points_come_back_from_a_run_file(tmp_path: Path) -> None:
    run = make_run({"evaluate_at": (0.125, 1)})
    (tmp_path / "run.toml").write_text(run.as_toml())
    assert make_run(read_run(tmp_path / "run.toml")) == run


def test_points_give_a_run_a_folder_of_its_own_and_its_board_the_same_key() -> None:
    plain, with_points = make_run({}), make_run({"evaluate_at": (0.5, 1)})
    assert plain.short_hash() != with_points.short_hash()
    assert plain.decisive() == with_points.decisive()


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({}, "--evaluate-at with a point before the end"),
        ({"evaluate_at": (1,)}, "--evaluate-at with a point before the end"),
        ({"evaluate_at": (0.5, 1), "evaluate_on": "dev"}, "--evaluate-on test"),
    ],
)
def test_choosing_among_points_needs_points_and_a_test_split(values: dict[str, Any], wanted: str) -> None:
    with pytest.raises(HarnessError, match=f"--report got 'best-on-dev': expected {wanted}"):
        make_run({**values, "report": "best-on-dev"})


def test_choosing_on_dev_is_another_run_whose_trials_choose_nothing() -> None:
    points = {"evaluate_at": (0.5, 1), "trials": 2}
    plain, chosen = make_run(points), make_run({**points, "report": "best-on-dev"})
    assert plain.short_hash() != chosen.short_hash()
    assert plain.decisive() == chosen.decisive()  # the numbers of its own board are those of a run without
    assert TrialRun.of(chosen).report == "end"


@pytest.mark.parametrize(
    ("asked", "written"),
    [
        ("full", "full"),
        ("lora", "lora"),
        ("lora:r=16", "lora"),
        ("lora:r=16,alpha=32,targets=all-linear", "lora"),
        ("lora:r=8", "lora:r=8"),
        (" lora : alpha=16 , r=8 ", "lora:r=8"),  # alpha is twice the rank where it is not given
        ("lora:r=8,alpha=32", "lora:r=8,alpha=32"),
        ("qlora:targets=v_proj+q_proj+v_proj", "qlora:targets=q_proj+v_proj"),
    ],
)
def test_an_adapter_is_written_in_one_way_whatever_is_as_by_default_left_out(asked: str, written: str) -> None:
    run = make_run({"adapter": asked})
    assert (run.adapter, run.decisive().adapter) == (written, written)
    assert make_run({"adapter": run.adapter}) == run


def test_the_key_of_a_run_with_the_adapter_of_before_is_that_of_before() -> None:
    assert make_run({"adapter": "lora"}).short_hash() == make_run({"adapter": "lora:r=16"}).short_hash() == "5bef22b8f2"
    assert make_run({"adapter": "lora:r=8"}).short_hash() != "5bef22b8f2"
