"""The pictures: their data from the records, their specs, and the files that need no browser."""

from __future__ import annotations

import importlib
import importlib.util
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from page_examples import HOSTILE, needed, table
from page_examples import picture_data as example_data

from harness.leaderboard import write
from harness.leaderboard.page import html
from harness.leaderboard.page import write as page_write
from harness.leaderboard.page.manifest_facts import ManifestFacts
from harness.leaderboard.page.picture_section import PagePictures
from harness.leaderboard.pictures import files
from harness.leaderboard.pictures.data import STRETCHES, picture_data
from harness.leaderboard.pictures.drawing import Picture
from harness.leaderboard.pictures.points import short
from harness.leaderboard.pictures.styles import styles
from harness.leaderboard.pictures.vega import pictures
from harness.leaderboard.table import build
from harness.run_folder.store import read_records
from harness.statistics.calibration import Bin

Add = Callable[..., None]
LABELS = ["loss0", "loss1(beta=2.5)", "loss2"]


def drawn(labels: list[str]) -> tuple[Picture, ...]:
    """Return the pictures of a board with these losses, or skip where the extra is not installed."""
    needed(files.why_no_pictures())
    content = table(labels)
    return pictures(content.boards[-1], example_data(labels), styles(content), content.ranked_by)


def picture(name: str, labels: list[str]) -> Picture:
    return next(picture for picture in drawn(labels) if picture.name == name)


# -- data --------------------------------------------------------------------------------------------------------------


def test_reward_against_score_counted_by_hand(tmp_path: Path, add_cell: Add) -> None:
    # 10 pairs: chosen scores 0.5..1 with rewards -19 .. -10 rising, rejected scores 0..0.4 with reward -20 all.
    add_cell(tmp_path, "a", np.arange(1.0, 11.0), prompts=10)
    add_cell(tmp_path, "b", np.arange(10.0, 0.0, -1.0), prompts=10)
    records = read_records(tmp_path)
    data = picture_data(records, build(records, resamples=50))[0]
    rows = {label: [row for row in data.scores if row["loss"] == label] for label in ("a", "b")}
    # 20 responses in tenths of two; ten rewards tie at the bottom: mid-rank 5.5, percentile (5.5 - 0.5) / 20
    assert [row["n"] for row in rows["a"]] == [2] * 10
    assert [row["percentile"] for row in rows["a"]] == [25] * 5 + [55, 65, 75, 85, 95]  # ranks 11, 12: (10.5+11.5)/2/20
    assert [row["percentile"] for row in rows["b"]] == [25] * 5 + [95, 85, 75, 65, 55]
    assert rows["a"][0]["score"] == short((0 + 0.4 / 9) / 2)


def test_the_bins_of_the_reliability_diagram_are_the_tables() -> None:
    content = table(LABELS)
    bins = (
        Bin(start=0.5, end=0.55, confidence=0.52, accuracy=0.6, low=0.5, high=0.7, n=40),
        Bin(start=0.55, end=0.6, confidence=float("nan"), accuracy=float("nan"), low=0.0, high=1.0, n=0),
    )
    rows = tuple(replace(row, reliability=bins) for row in content.boards[0].rows)
    data = picture_data([], replace(content, boards=(replace(content.boards[0], rows=rows),)))[0]
    expected = {"confidence": 0.52, "accuracy": 0.6, "low": 0.5, "high": 0.7, "n": 40}
    assert data.reliability == [{"loss": label, **expected} for label in LABELS]


def test_training_curves_are_means_over_models_and_stretches_of_steps(tmp_path: Path, add_cell: Add) -> None:
    for model, level in (("qwen", 1.0), ("gemma", 3.0)):
        add_cell(tmp_path, "a", np.ones(60), model=model)
        steps = np.arange(1, 2 * STRETCHES + 1)
        log = {"step": steps, "rewards/margins": level * steps, "logps/chosen": -80 - level * steps, "loss": -1.0}
        cell = next((tmp_path / "cells").glob(f"{model}--a*"))
        pd.DataFrame(log | {"rewards/accuracies": np.where(steps <= 2, 0.5, 0.75)}).to_parquet(cell / "train.parquet")
    records = read_records(tmp_path)
    qwen, _, both = picture_data(records, build(records, resamples=50, models=["qwen", "gemma"]))
    assert len(both.curves) == STRETCHES
    assert qwen.curves[0] == {"loss": "a", "step": 1.5, "margin": 1.5, "accuracy": 0.5, "drift": 0.0}
    # over both: margins (1.5 + 4.5) / 2 and (3.5 + 10.5) / 2; chosen -81.5 and -84.5, then -83.5 and -90.5: 4 below
    assert both.curves[0] == {"loss": "a", "step": 1.5, "margin": 3.0, "accuracy": 0.5, "drift": 0.0}
    assert both.curves[1] == {"loss": "a", "step": 3.5, "margin": 7.0, "accuracy": 0.75, "drift": -4.0}


def test_a_step_log_without_accuracies_draws_what_it_has(tmp_path: Path, add_cell: Add) -> None:
    add_cell(tmp_path, "a", np.ones(60))
    cell = next((tmp_path / "cells").glob("qwen--a*"))
    pd.DataFrame({"step": [1, 2], "rewards/margins": [0.1, 0.2]}).to_parquet(cell / "train.parquet")
    records = read_records(tmp_path)
    (data,) = picture_data(records, build(records, resamples=50))
    assert data.curves == [{"loss": "a", "step": 1.0, "margin": 0.1}, {"loss": "a", "step": 2.0, "margin": 0.2}]
    needed(files.why_no_pictures())
    content, shown = table(["a"]), replace(example_data(["a"]), curves=data.curves)
    drawn_ones = pictures(content.boards[-1], shown, styles(content), content.ranked_by)
    (curves,) = [each for each in drawn_ones if each.name == "curves"]
    assert len(curves.spec["vconcat"]) == 1


def test_places_are_ranks_under_every_reading_the_one_that_ranks_first(small_run: Path) -> None:
    """Sum, mean and own reward have good, fair, bad; the log-ratios of a made run are the same, so all agree."""
    records = read_records(small_run)
    (data,) = picture_data(records, build(records, resamples=500, ranked_by="pairwise_accuracy@mean"))
    readings = dict.fromkeys((point["reading"], point["order"]) for point in data.places)
    assert list(readings) == [("mean", 0), ("own", 1), ("learned", 2), ("sum", 3), ("ratio", 4), ("ratio_mean", 5)]
    under = [(point["loss"], point["place"], point["rank"], point["low"], point["high"]) for point in data.places[:3]]
    assert under == [("good", 1, 1, 1, 1), ("fair", 2, 2, 2, 2), ("bad", 3, 3, 3, 3)]


def test_losses_of_one_rank_stand_at_neighbouring_places(tmp_path: Path, add_cell: Add) -> None:
    for label in ("b", "a", "c"):
        add_cell(tmp_path, label, np.where(np.arange(60) < (40 if label == "c" else 50), 1.0, -1.0))
    records = read_records(tmp_path)
    (data,) = picture_data(records, build(records, resamples=50))
    own = [(point["loss"], point["place"], point["rank"]) for point in data.places if point["reading"] == "own"]
    assert own == [("a", 1, 1), ("b", 2, 1), ("c", 3, 3)]


def test_the_ranked_metric_by_model_is_that_of_the_models_boards(tmp_path: Path, add_cell: Add) -> None:
    for model, right in (("qwen", 45), ("gemma", 30)):
        for label, more in (("a", 9), ("b", 0)):
            add_cell(tmp_path, label, np.where(np.arange(60) < right + more, 1.0, -1.0), model=model)
    records = read_records(tmp_path)
    qwen, _, both = picture_data(records, build(records, resamples=50, models=["qwen", "gemma"]))
    found = {(point["loss"], point["model"]): point["value"] for point in both.by_model}
    assert found == {("a", "qwen"): 0.9, ("a", "gemma"): 0.65, ("b", "qwen"): 0.75, ("b", "gemma"): 0.5}
    assert qwen.by_model == ()


def test_differences_are_row_minus_column_with_the_tests_of_the_table(small_run: Path) -> None:
    records = read_records(small_run)
    content = build(records, resamples=500)
    differences = picture_data(records, content)[0].differences
    pairs = {(row["loss"], row["other"]): row for row in differences}
    assert len(differences) == 6  # three losses have a value, the one that diverged has none
    assert pairs["good", "bad"]["difference"] == pytest.approx(0.9 - 0.25)
    assert pairs["bad", "good"]["difference"] == pytest.approx(0.25 - 0.9)
    assert pairs["good", "bad"]["significant"]
    assert pairs["good", "bad"]["p"] == short(content.boards[0].p_values["good"]["bad"])


def test_a_run_without_a_step_log_has_the_data_of_every_other_picture(small_run: Path) -> None:
    records = read_records(small_run)
    data = picture_data(records, build(records, resamples=50))[0]
    assert data.curves == []
    assert data.quartiles
    assert data.scores
    assert data.spend
    assert data.reliability


# -- specs and files ---------------------------------------------------------------------------------------------------


def test_every_spec_is_vega_lite_by_its_schema_and_says_preset_budget_and_disclaimers() -> None:
    alt: Any = importlib.import_module("altair") if not files.why_no_pictures() else None
    board = drawn(LABELS)
    assert [picture.name for picture in board] == [
        "places",
        "models",
        "quartiles",
        "scores",
        "reliability",
        "curves",
        "spend",
        "differences",
    ]
    for picture in board:
        alt.Chart.from_dict(dict(picture.spec), validate=True)
        subtitle = " ".join(picture.spec["title"]["subtitle"])
        assert "nano preset · embedded · budget pairs=512" in subtitle
        assert "not generation quality. A nano board tests the harness and ranks no method." in subtitle
        assert picture.selectable == any(parameter["name"] == "shown" for parameter in picture.spec.get("params", []))


def test_names_stand_in_specs_as_data_and_scales_never_in_expressions() -> None:
    def expressions(value: Any, key: str = "") -> list[str]:
        if isinstance(value, dict):
            return [text for name, inner in value.items() if name != "datasets" for text in expressions(inner, name)]
        if isinstance(value, list):
            return [text for inner in value for text in expressions(inner, key)]
        return [value] if isinstance(value, str) and key in ("filter", "calculate", "expr", "test") else []

    for picture in drawn([*HOSTILE, "loss"]):
        assert not [text for text in expressions(picture.spec) if any(name in text for name in HOSTILE)]


def test_files_are_drawn_without_a_browser_with_names_escaped_and_the_same_bytes_again(tmp_path: Path) -> None:
    board = [picture for picture in drawn([*HOSTILE[:2], "loss"]) if picture.name in ("scores", "differences")]
    written = files.write_files(tmp_path, ["all"], [board])
    first = {path.name: path.read_bytes() for path in written}
    assert sorted(first) == ["all-differences.png", "all-differences.svg", "all-scores.png", "all-scores.svg"]
    for name, content in first.items():
        if name.endswith(".png"):
            assert content.startswith(b"\x89PNG\r\n\x1a\n")
            continue
        tree = ElementTree.fromstring(content)
        assert not [element for element in tree.iter() if element.tag.endswith(("script", "foreignObject"))]
        words = [text for element in tree.iter() if element.tag.endswith("text") for text in element.itertext()]
        assert set(HOSTILE[:2]) <= set(words)
        assert any("nano preset · embedded · budget pairs=512" in text for text in words)
    again = files.write_files(tmp_path, ["all"], [board])
    assert {path.name: path.read_bytes() for path in again} == first


def test_forty_losses_have_a_style_each_a_cell_each_and_a_whole_legend(tmp_path: Path) -> None:
    labels = [f"loss{k:02d}" for k in range(40)]
    style_of = styles(table(labels))
    assert len({(style.colour, tuple(style.dash)) for style in style_of.values() if style}) == len(style_of) == 41
    heat = picture("differences", labels)
    (svg, _) = files.write_files(tmp_path, ["all"], [[heat]])
    words = [element.text for element in ElementTree.parse(svg).iter() if element.tag.endswith("text")]
    assert all(words.count(label) == 2 for label in labels)  # one on each axis, none dropped
    legend = json.dumps(picture("curves", labels).spec)
    assert '"symbolLimit": 0' in legend


def test_only_the_board_over_all_models_has_files() -> None:
    content = table(LABELS, models=("org/qwen", "gemma"))
    assert files.file_names(content) == ["", "", "all"]
    alone = replace(content, boards=content.boards[:1])
    assert files.file_names(alone) == ["qwen"]
    assert files.file_names(replace(content, boards=content.boards[:1] * 2)) == ["qwen", "qwen-2"]


def test_the_page_carries_pictures_and_their_script_and_nothing_else_may_run(tmp_path: Path) -> None:
    board = drawn(LABELS)
    script = files.vega_script(tmp_path)
    assert "vegaEmbed" in script
    assert len(script) < 2_000_000
    assert files.vega_script(tmp_path) == script  # from the cache
    content = table(LABELS, models=("qwen",))
    content = replace(content, boards=content.boards[:1])
    shown = PagePictures(boards=[board], styles=styles(content), script=script, files=["plots/qwen"])
    text = html.render(content, manifest=ManifestFacts(), pictures=shown)
    assert text.lower().count("</script") == 3  # the data, Vega, the page's own
    assert 'href="plots/qwen-scores.svg"' in text
    assert "No pictures" not in text


# -- where they cannot be drawn ----------------------------------------------------------------------------------------


@pytest.fixture
def drawings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Every picture that is drawn, by name, with a cache folder of the test's own."""
    needed(files.why_no_pictures())
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    drawn_files, names_drawn = files.write_files, []

    def write_files(folder: Path, names: Sequence[str], boards: Any) -> list[Path]:
        names_drawn.extend(picture.name for board in boards for picture in board)
        return drawn_files(folder, names, boards)

    monkeypatch.setattr(files, "write_files", write_files)
    monkeypatch.setattr(files, "vega_script", lambda cache: "")  # not what is tested, and slow
    return names_drawn


def test_pictures_are_drawn_once_and_anew_when_the_numbers_or_the_files_change(
    small_run: Path, drawings: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def rebuilt(**options: Any) -> tuple[bool, str]:
        drawings.clear()
        write(small_run, draw=True, **options)
        return bool(drawings), (small_run / "leaderboard.html").read_text(encoding="utf-8")

    drew, page = rebuilt()
    assert drew
    assert rebuilt() == (False, page)
    (picture, *_) = sorted((small_run / "plots").glob("*.svg"))
    before = picture.read_bytes()
    picture.write_text("<svg>another winner</svg>")
    assert rebuilt() == (True, page)
    assert picture.read_bytes() == before
    specs = small_run / "plots" / "pictures.json"
    specs.write_text(specs.read_text().replace("quartile", "another"))
    assert rebuilt() == (True, page)
    drew, other = rebuilt(ranked_by="spearman")
    assert drew
    assert other != page
    assert rebuilt() == (True, page)  # the files are those of the other board
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "another machine"))
    assert rebuilt() == (True, page)


def test_without_the_extra_the_page_and_the_screen_say_so_in_one_line(
    small_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "vl_convert" else real(name, *rest)
    )
    monkeypatch.setattr(files, "PACKAGES", {"vl_convert": "vl-convert-python"})
    lines: list[str] = []
    write(small_run, draw=True, say=lines.append)
    line = (
        "No pictures: vl-convert-python is not installed; "
        "pip install 'preference-harness[plots]' and rebuild the leaderboard."
    )
    assert lines == [line]
    text = (small_run / "leaderboard.html").read_text(encoding="utf-8")
    assert line.replace("'", "&#x27;") in text
    assert not (small_run / "plots").exists()


def test_a_drawing_that_fails_costs_the_pictures_and_not_the_page(
    small_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no fonts\nat all")

    monkeypatch.setattr(files, "why_no_pictures", lambda: "")
    monkeypatch.setattr(page_write, "styles", fail)
    lines: list[str] = []
    write(small_run, draw=True, say=lines.append)
    assert lines == ["No pictures: drawing them failed, RuntimeError: no fonts at all"]
    assert lines[0] in (small_run / "leaderboard.html").read_text(encoding="utf-8")
