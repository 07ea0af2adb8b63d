"""Learning curves on boards: as a run that ended at the point would have it, in every rendering, where asked for."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from page_examples import needed
from scipy.stats import binomtest

from harness.leaderboard import csv as csv_board
from harness.leaderboard import json as json_board
from harness.leaderboard import markdown
from harness.leaderboard.decide.wording import EARLY
from harness.leaderboard.page import html
from harness.leaderboard.page.manifest_facts import ManifestFacts
from harness.leaderboard.pictures import files
from harness.leaderboard.pictures.data import picture_data
from harness.leaderboard.pictures.styles import styles
from harness.leaderboard.pictures.vega import pictures
from harness.leaderboard.table import Row, Table, build
from harness.run_folder.paths import point_folder
from harness.run_folder.point_facts import PointFacts
from harness.run_folder.store import read_record, read_records, write_record, write_tables

Add = Callable[..., None]
PAIRS = 60
RIGHT = {"good": {0.25: 20, 0.5: 35, 1.0: 50}, "fair": {0.25: 30, 0.5: 33, 1.0: 36}}
"""Right pairs at each point."""
ACCURACY = "pairwise_accuracy"


def margins(right: int, seed: int = 0) -> np.ndarray:
    order = np.random.default_rng(seed).permutation(PAIRS)
    return np.where(order < right, 1.0, -1.0) * (1 + np.arange(PAIRS) / 100)


def add_points(run: Path, key: str, elsewhere: Mapping[float, Path]) -> None:
    """Give a cell points whose tables are those of cells of other runs, by fraction."""
    folder = run / "cells" / key
    record, points = read_record(folder), []
    rows, responses = record.rows(), record.responses()
    for number, (fraction, other) in enumerate(elsewhere.items(), start=1):
        at = read_record(other / "cells" / key)
        hashes = write_tables(point_folder(folder, fraction), key, at.rows(), at.responses())
        spent = {"step": 8 * number, "pairs": 128 * number, "tokens": 1000 * number, "flops": 1e9, "seconds": 1.0}
        points.append(PointFacts(fraction=fraction, metrics=at.metrics, files=hashes, **spent))  # type: ignore[arg-type]  # a mapping of known keys
    write_record(folder, record.model_copy(update={"points": tuple(points)}), rows, responses)


def add_ends(run: Path, add_cell: Add, at: float, models: tuple[str, ...], seeds: tuple[int, ...]) -> None:
    """Write the cells of a run that ended where the other has a point."""
    for model in models:
        add_cell(run, "base", np.zeros(PAIRS), model=model, prompts=PAIRS)
        add_cell(run, "longer-wins", margins(31), model=model, prompts=PAIRS)
        for label, right in RIGHT.items():
            for seed in seeds:
                add_cell(run, label, margins(right[at] + seed, seed), model=model, seed=seed, prompts=PAIRS)


def runs(
    tmp_path: Path, add_cell: Add, models: tuple[str, ...] = ("qwen",), seeds: tuple[int, ...] = (0,)
) -> dict[float, Path]:
    """Return, by fraction, runs that ended there; the last, of 1, has points as the others ended."""
    found = {at: tmp_path / f"run-{at:g}" for at in (0.25, 0.5, 1.0)}
    for at, run in found.items():
        add_ends(run, add_cell, at, models, seeds)
    for label in RIGHT:
        for model in models:
            for seed in seeds:
                add_points(found[1.0], f"{model}--{label}--seed{seed}", found)
    return found


def table_of(run: Path) -> Table:
    return build(read_records(run), resamples=200)


def rows_of(table: Table, model: str = "qwen") -> dict[str, Row]:
    (board,) = (board for board in table.boards if board.model == model)
    return {row.label: row for row in board.rows}


@pytest.mark.parametrize(
    ("models", "seeds", "board"),
    [(("qwen",), (0,), "qwen"), (("qwen",), (0, 1, 2), "qwen"), (("qwen", "gemma"), (0, 1), "all")],
)
def test_a_point_has_the_numbers_and_intervals_of_a_run_that_ended_there(
    models: tuple[str, ...], seeds: tuple[int, ...], board: str, tmp_path: Path, add_cell: Add
) -> None:
    by_fraction = runs(tmp_path, add_cell, models, seeds)
    with_points = rows_of(table_of(by_fraction[1.0]), board)
    for place, (fraction, run) in enumerate(by_fraction.items()):
        ended = rows_of(table_of(run), board)
        for label in RIGHT:
            point = with_points[label].points[place]
            wanted = {name: found for name, found in ended[label].metrics.items() if found.n}
            assert (point.fraction, repr(point.metrics)) == (fraction, repr(wanted))
    assert with_points["base"].points == ()


def test_the_interval_of_a_point_is_the_exact_one_of_its_right_pairs(tmp_path: Path, add_cell: Add) -> None:
    row = rows_of(table_of(runs(tmp_path, add_cell)[1.0]))["good"]
    for point in row.points:
        right, found = RIGHT["good"][point.fraction], point.metrics[ACCURACY]
        exact = binomtest(right, PAIRS).proportion_ci(method="exact")
        assert (found.value, found.n) == (pytest.approx(right / PAIRS), PAIRS)
        assert (found.low, found.high) == pytest.approx((exact.low, exact.high))


def test_the_end_of_a_board_is_what_it_is_without_points(tmp_path: Path, add_cell: Add) -> None:
    by_fraction = runs(tmp_path, add_cell)
    plain = tmp_path / "plain"
    add_ends(plain, add_cell, 1.0, ("qwen",), (0,))
    with_points, without = (json.loads(json_board.render(table_of(run))) for run in (by_fraction[1.0], plain))
    (board,) = with_points["boards"]
    assert [row.pop("points", None) is not None for row in board["rows"]] == [True, True, False, False]
    assert EARLY in board["disclaimers"]
    board["disclaimers"].remove(EARLY)
    assert with_points == without


def test_every_rendering_has_the_curves(tmp_path: Path, add_cell: Add) -> None:
    table = table_of(runs(tmp_path, add_cell)[1.0])
    point = rows_of(table)["good"].points[1]
    found = point.metrics[ACCURACY]
    (board,) = json.loads(json_board.render(table))["boards"]
    in_json = next(row for row in board["rows"] if row["label"] == "good")["points"][1]
    assert (in_json["fraction"], in_json["step"], in_json["pairs"]) == (0.5, 16, 256)
    assert in_json["metrics"][ACCURACY]["low"] == pytest.approx(found.low)
    lines = list(csv.DictReader(io.StringIO(csv_board.render(table))))
    (line,) = (line for line in lines if (line["label"], line["metric"]) == ("good", f"{ACCURACY} at 0.5"))
    assert (float(line["value"]), line["n"]) == (pytest.approx(found.value), str(PAIRS))
    text = markdown.render(table)
    assert "| loss | 0.25 | 0.5 | 1 |" in text
    assert "\n| good | 0.333 [" in text  # 20 of 60
    assert f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]" in text
    assert EARLY in text
    page = html.render(table, manifest=ManifestFacts(harness="", lists=(), owners={}))
    assert "<summary>Along the run</summary>" in page
    assert "--evaluate-at 0.25,0.5,1" in page


def test_a_loss_one_of_whose_cells_lacks_a_point_has_only_those_that_all_have(tmp_path: Path, add_cell: Add) -> None:
    by_fraction = runs(tmp_path, add_cell, seeds=(0, 1))
    add_points(by_fraction[1.0], "qwen--good--seed1", {at: by_fraction[at] for at in (0.5, 1.0)})
    rows = rows_of(table_of(by_fraction[1.0]))
    assert [point.fraction for point in rows["good"].points] == [0.5, 1.0]
    assert [point.fraction for point in rows["fair"].points] == [0.25, 0.5, 1.0]


def test_the_picture_has_every_loss_at_every_point(tmp_path: Path, add_cell: Add) -> None:
    needed(files.why_no_pictures())
    run = runs(tmp_path, add_cell)[1.0]
    records, table = read_records(run), table_of(run)
    (data,) = picture_data(records, table)
    drawn = {
        (point["loss"], point["fraction"]): point["value"] for point in data.learning if point["metric"] == ACCURACY
    }
    assert drawn == {
        (label, at): pytest.approx(right / PAIRS, abs=1e-4) for label, of in RIGHT.items() for at, right in of.items()
    }
    picture = next(p for p in pictures(table.boards[0], data, styles(table), ACCURACY) if p.name == "learning")
    assert EARLY in picture.summary
    assert len(picture.spec["vconcat"]) == 4
    files.write_files(tmp_path / "plots", ["qwen"], [[picture]])
    assert (tmp_path / "plots" / "qwen-learning.png").stat().st_size > 10_000
