"""harness export: lm-evaluation-harness results, the tidy CSV, the folder for the hub."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.api import HarnessError
from harness.exchange.export import run_export
from harness.exchange.lm_eval import standard_error
from harness.statistics.metrics import METRICS, Examples
from harness.statistics.yardsticks import READINGS

Make = Callable[..., Path]
Tables = Callable[[str], tuple[pd.DataFrame, pd.DataFrame]]

# The keys of EvalResults in lm_eval/result_schema.py of lm-evaluation-harness 0.4.13 that every file of it has and
# that do not tell of lm_eval itself (its version, its git hash, the time of day).
LM_EVAL = ("results", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better", "n-samples", "config",
           "model_source", "model_name", "model_name_sanitized", "task_hashes")  # fmt: skip


@pytest.fixture(scope="module")
def exported(whole_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What each format writes of `whole_run`."""
    folder = tmp_path_factory.mktemp("exported")
    places = {"lm-eval": folder / "lm", "csv": folder / "deep" / "run.csv", "hf": folder / "hf"}
    for form, place in places.items():
        text, code = run_export(whole_run, form, place)
        assert code == 0
        assert str(place) in text
    return places


def test_lm_eval_gets_a_file_a_cell_in_its_own_shape(exported: dict[str, Path]) -> None:
    files = sorted(path.relative_to(exported["lm-eval"]).as_posix() for path in exported["lm-eval"].rglob("*.json"))
    assert files == [
        "qwen--base--5ac4d2/results_noseed.json",
        "qwen--dpo_beta=0.2--dfd14f/results_seed0.json",
        "qwen--longer-wins--a8d386/results_noseed.json",
        "qwen--simpo--5ca962/results_seed0.json",
    ]
    found = json.loads((exported["lm-eval"] / files[3]).read_text(), parse_constant=pytest.fail)
    assert set(LM_EVAL) <= found.keys()
    tasks = found["results"].keys()
    for name in ("group_subtasks", "configs", "versions", "n-shot", "higher_is_better", "n-samples", "task_hashes"):
        assert found[name].keys() == tasks, name
    main = found["results"]["preference_made_up"]
    assert (main["alias"], main["sample_len"]) == ("preference_made_up", 24)
    for task, values in found["results"].items():
        for key in values.keys() - {"name", "alias", "sample_len"}:
            metric, comma, how = key.partition(",")
            assert comma, (task, key)
            assert how in ("none", *READINGS)
            assert metric.removesuffix("_stderr") in found["higher_is_better"][task]
    assert found["higher_is_better"]["preference_made_up"]["brier"] is False
    assert found["config"]["model_args"]["loss_options"] == {"beta": 2.0, "gamma": 0.5}
    assert found["model_name_sanitized"] == "nano-qwen+simpo"


def test_the_accuracy_in_the_file_is_counted_from_the_rows(exported: dict[str, Path], tables: Tables) -> None:
    rows, _ = tables("simpo")
    margin = rows["reward_chosen"] - rows["reward_rejected"]
    right = np.where(margin > 0, 1.0, np.where(margin == 0, 0.5, 0.0))
    path = exported["lm-eval"] / "qwen--simpo--5ca962" / "results_seed0.json"
    found = json.loads(path.read_text())["results"]["preference_made_up"]
    assert found["acc,none"] == pytest.approx(right.mean(), rel=1e-9)
    # 8 prompts of 3 pairs each: the variance of a mean of clusters of one size is that of their means, over 8
    by_prompt = pd.Series(right).groupby(rows["prompt_id"]).mean()
    assert found["acc_stderr,none"] == pytest.approx(by_prompt.std(ddof=1) / np.sqrt(8), rel=1e-9)


def test_the_base_has_no_reward_and_so_no_accuracy_of_its_own(exported: dict[str, Path]) -> None:
    found = json.loads((exported["lm-eval"] / "qwen--base--5ac4d2" / "results_noseed.json").read_text())
    main = found["results"]["preference_made_up"]
    assert "acc,none" not in main
    assert main["acc,ratio"] == 0.5  # the policy is its own reference: every pair is a tie
    assert main["acc_stderr,ratio"] == 0


def test_with_an_example_a_prompt_the_standard_error_is_the_textbooks_and_with_one_prompt_there_is_none() -> None:
    value = np.array([1.0, 0.0, 1.0, 1.0, np.nan])
    prompts = np.array([f"p{i}" for i in range(5)], dtype=object)
    # mean 3/4, sample variance (3 * 1/16 + 9/16) / 3 = 1/4, over n = 4
    assert standard_error(Examples(prompt=prompts, value=value)) == pytest.approx(0.25)
    assert standard_error(Examples(prompt=np.full(5, "p", dtype=object), value=value)) is None


def test_the_csv_is_long_and_says_what_each_number_is_of(whole_run: Path, exported: dict[str, Path]) -> None:
    lines = list(csv.DictReader(io.StringIO(exported["csv"].read_text())))
    board = json.loads((whole_run / "leaderboard.json").read_text())["boards"][0]
    assert len(lines) == len(board["rows"]) * len(METRICS)
    row = next(row for row in board["rows"] if row["label"] == "dpo(beta=0.2)")
    for name, one in row["metrics"].items():
        line = next(line for line in lines if (line["label"], line["metric"]) == ("dpo(beta=0.2)", name))
        for key in ("value", "low", "high"):
            assert line[key] == ("" if one[key] is None else str(one[key])), (name, key)
        assert (line["n"], line["unit"]) == (str(one["n"]), METRICS[name].unit)
    first = lines[0]
    assert (first["board"], first["model"], first["budget"], first["seeds"]) == ("1", "qwen", "pairs=64", "0")
    missing = next(line for line in lines if (line["label"], line["metric"]) == ("base", "pairwise_accuracy"))
    assert (missing["value"], missing["why_missing"]) == ("", "no reward is known")


def test_the_hub_folder_holds_every_row_of_every_cell_with_its_cell_before_it(
    exported: dict[str, Path], tables: Tables
) -> None:
    rows = pd.read_parquet(exported["hf"] / "data" / "rows.parquet")
    assert rows["label"].value_counts().to_dict() == dict.fromkeys(
        ("simpo", "dpo(beta=0.2)", "base", "longer-wins"), 24
    )
    trained = ~rows["label"].isin(["base", "longer-wins"])
    assert rows.loc[~trained, "seed"].isna().all()
    assert (rows.loc[trained, "seed"] == 0).all()
    mine = rows[rows["label"] == "simpo"].reset_index(drop=True)
    pd.testing.assert_series_equal(mine["reward_chosen"], tables("simpo")[0]["reward_chosen"])
    responses = pd.read_parquet(exported["hf"] / "data" / "responses.parquet")
    assert len(responses) == 4 * 48
    assert json.loads(responses["options"].iloc[-1]) == {"beta": 2.0, "gamma": 0.5}


def test_the_card_describes_every_column_and_leaves_the_license_to_the_user(exported: dict[str, Path]) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML, which reads the card's front matter, is not installed")
    text = (exported["hf"] / "README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["pretty_name"] == "Preference losses on made-up"
    assert "license" not in front
    assert "then set `license` in the front matter" in text
    assert [(one["config_name"], one["data_files"]) for one in front["configs"]] == [
        ("rows", "data/rows.parquet"),
        ("responses", "data/responses.parquet"),
    ]
    for name in ("rows", "responses"):
        for column in pd.read_parquet(exported["hf"] / "data" / f"{name}.parquet").columns:
            assert f"`{column}`" in text, column
    assert "implicit-reward ranking accuracy, not generation quality" in text


def test_the_hub_folder_loads_with_datasets(
    exported: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets: Any = pytest.importorskip("datasets", reason="datasets is not installed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    folder = str(exported["hf"])
    rows = datasets.load_dataset(folder, split="train", cache_dir=str(tmp_path))
    responses = datasets.load_dataset(folder, "responses", split="train", cache_dir=str(tmp_path))
    assert (len(rows), len(responses)) == (96, 192)
    assert {"pair_id", "reward_chosen", "seed"} <= set(rows.column_names)


def test_a_second_export_gives_the_same_bytes(whole_run: Path, exported: dict[str, Path], tmp_path: Path) -> None:
    for form, place in exported.items():
        again = tmp_path / place.name
        run_export(whole_run, form, again)
        for path in [place] if place.is_file() else (path for path in place.rglob("*") if path.is_file()):
            assert (again / path.relative_to(place) if place.is_dir() else again).read_bytes() == path.read_bytes()


def test_cells_that_came_to_nothing_are_said_to_have_no_file(
    make_run: Make, add_cell: Callable[..., None], tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", "simpo", board=False)
    add_cell(run, "ipo", None)
    text, _ = run_export(run, "lm-eval", tmp_path / "lm")
    assert "1 files, one per cell" in text
    assert text.endswith("1 cells that failed or diverged have no file")


def test_what_cannot_be_written_is_refused(whole_run: Path, exported: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"--format got 'xml', expected one of lm-eval, csv, hf"):
        run_export(whole_run, "xml", tmp_path / "x")
    for form in ("lm-eval", "hf"):
        with pytest.raises(HarnessError, match="which is there already, expected a new folder"):
            run_export(whole_run, form, exported["hf"])
    with pytest.raises(HarnessError, match="expected a file"):
        run_export(whole_run, "csv", tmp_path)
    (tmp_path / "cells").mkdir()
    with pytest.raises(HarnessError, match="none scored; expected at least one"):
        run_export(tmp_path, "csv", tmp_path / "x.csv")


def test_tuned_losses_are_in_every_format_marked_with_their_trials(
    make_run: Make, add_tuned: Callable[..., Path], tmp_path: Path
) -> None:
    run = add_tuned(make_run(tmp_path / "run", "base", "longer-wins", "simpo", board=False), "simpo")
    for form in ("csv", "lm-eval", "hf"):
        run_export(run, form, tmp_path / form)
    lines = [line for line in csv.DictReader(io.StringIO((tmp_path / "csv").read_text())) if line["label"] == "simpo"]
    chosen = {line["trials"]: (line["learning_rate"], json.loads(line["tuned"] or "null")) for line in lines}
    assert chosen["0"] == ("0.001", None)
    rate, facts = chosen["2"]
    assert (rate, facts["qwen"]["trial"], facts["qwen"]["trials"]) == ("0.002", 1, 2)
    assert facts["qwen"]["options"] == {"beta": 3.0}

    files = {path.parent.name: json.loads(path.read_text()) for path in (tmp_path / "lm-eval").rglob("*.json")}
    untuned = {"qwen--base--5ac4d2", "qwen--longer-wins--a8d386", "qwen--simpo--5ca962"}
    chosen_simpo = "qwen--simpo--85ab00--tuned-2"  # other options, another key
    baselines = {"qwen--base--5ac4d2--tuned-2", "qwen--longer-wins--a8d386--tuned-2"}
    assert set(files) == {*untuned, *baselines, chosen_simpo}
    tuned = files[chosen_simpo]
    assert tuned["model_name"] == "nano-qwen+simpo+tuned-2"
    assert (tuned["config"]["model_args"]["learning_rate"], tuned["config"]["model_args"]["tuning"]["trials"]) == (
        0.002,
        2,
    )
    assert files["qwen--simpo--5ca962"]["model_name"] == "nano-qwen+simpo"

    rows = pd.read_parquet(tmp_path / "hf" / "data" / "rows.parquet")
    assert rows.groupby(["label", "trials"]).size().to_dict() == {
        (label, trials): 24 for label in ("base", "longer-wins", "simpo") for trials in (0, 2)
    }
    assert set(rows.loc[(rows["label"] == "simpo") & (rows["trials"] == 2), "learning_rate"]) == {0.002}
    assert "equal tuning: 2 trials per loss" in (tmp_path / "hf" / "README.md").read_text()
    assert not (rows["split"] == "dev").any()  # the trials themselves stay behind
