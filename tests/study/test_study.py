"""Studies: numbers against counts by hand, files that rebuild, and what is refused before anything is trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from made_cells import BOARD, add_cell
from page_examples import needed

from harness.api import HarnessError
from harness.cli import cli
from harness.leaderboard import table_of
from harness.leaderboard.pictures import files
from harness.leaderboard.pictures.files import why_no_pictures
from harness.study.answers import ONE_SEED, answers
from harness.study.cells import cells_of
from harness.study.study_file import STUDY_FILE, read_study
from harness.study.write import RECORDS, REPORT, RUN, unpack, write_study

HEAD = 'question = "Does it matter?"\nhypothesis = "No."\nsetting = "Made by hand."\n'
ASKED = """
[run]
plugins = "simpo:beta=1|2,dpo:beta=1|2"

[[contrasts]]
name = "simpo over dpo"
plus = ["simpo(beta=1)", "simpo(beta=2)"]
minus = ["dpo(beta=1)", "dpo(beta=2)"]

[[effects]]
factors = ["loss", "beta", "noise"]

[[groups]]
first = "averaged"
first_losses = ["simpo"]
second = "summed"
second_losses = ["dpo"]
by = "noise"
"""
RIGHT = {
    ("simpo", 1, "none"): 72, ("simpo", 2, "none"): 96, ("dpo", 1, "none"): 60, ("dpo", 2, "none"): 60,
    ("simpo", 1, "flip=0.2"): 66, ("simpo", 2, "flip=0.2"): 66, ("dpo", 1, "flip=0.2"): 60, ("dpo", 2, "flip=0.2"): 72,
}  # fmt: skip
"""Of 120 test pairs of 40 prompts, the same for both seeds: loss, beta, noise."""


def made(folder: Path, asked: str = ASKED, without: tuple[str, int, str] | None = None) -> Path:
    """Return a study's folder with a run of these cells: the one without noise, and one inside it with."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STUDY_FILE).write_text(HEAD + asked)
    for noise in ("none", "flip=0.2"):
        run = folder / RUN / ("" if noise == "none" else "at-noise=flip=0.2")
        board: dict[str, Any] = {**BOARD, **({} if noise == "none" else {"noise": noise})}
        add_cell(run, "base", np.where(np.arange(120) < 60, 1.0, -1.0), board=board)
        for (loss, beta, at), right in RIGHT.items():
            for seed in (0, 1) if at == noise else ():
                label = f"{loss}(beta={beta})"
                facts = {"name": loss, "options": {"beta": float(beta)}, "tags": ["pairwise", "summed"]}
                won = np.where(np.arange(120) < right, 1.0, -1.0)
                if (loss, beta, at) == without:
                    add_cell(run, label, seed=seed, board=board, loss=facts, status="diverged", reason="NaN")
                else:
                    add_cell(run, label, won, seed=seed, board=board, loss=facts)
        (run / "manifest.json").write_text(json.dumps({"models": ["qwen"], "cells": [], "run": {}}))
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study with all its files; not to be changed."""
    folder = made(tmp_path_factory.mktemp("written"))
    needed(why_no_pictures())
    write_study(folder, read_study(folder / STUDY_FILE), draw=True)
    return folder


def test_without_pictures_the_report_names_none(tmp_path: Path) -> None:
    folder = made(tmp_path)
    write_study(folder, read_study(folder / STUDY_FILE), draw=False)
    assert ".svg" not in (folder / REPORT).read_text(encoding="utf-8")
    assert not list(folder.glob("*.svg"))


def test_without_what_draws_the_command_says_so_and_writes_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(files.PACKAGES, "absent_module", "absent-package")
    folder = made(tmp_path)
    answer = CliRunner().invoke(cli, ["study", str(folder / STUDY_FILE), "--rebuild"])
    assert answer.exit_code == 0, answer.output
    assert "No pictures: absent-package is not installed" in answer.stderr
    assert (folder / REPORT).is_file()


def rows_of(folder: Path, answer: int, grid: int = 0) -> dict[str, tuple[str, ...]]:
    study = read_study(folder / STUDY_FILE)
    table, records = table_of(folder / RUN)
    found = answers(study, cells_of(records, table.ranked_by))
    return {" ".join(row[:2]) if answer else row[0]: row[1:] for row in found[answer].grids[grid].rows}


def value(cell: str) -> float:
    return float(cell.partition(" ")[0])


def test_a_contrast_is_the_difference_of_the_mean_accuracies_at_each_setting(tmp_path: Path) -> None:
    row = rows_of(made(tmp_path), 0)["simpo over dpo"]
    at_none, at_flip = (72 + 96 - 60 - 60) / 240, (66 + 66 - 60 - 72) / 240
    assert [value(cell) for cell in row] == pytest.approx([at_none, at_flip, at_flip - at_none], abs=6e-4)
    assert "[" in row[0]


def test_the_levels_of_a_factor_are_told_against_the_mean_of_all(tmp_path: Path) -> None:
    rows = rows_of(made(tmp_path), 1)
    mean = sum(RIGHT.values()) / 8 / 120
    simpo = (72 + 96 + 66 + 66) / 4 / 120
    assert value(rows["loss simpo"][1]) == pytest.approx(simpo, abs=6e-4)
    assert value(rows["loss simpo"][2]) == pytest.approx(simpo - mean, abs=6e-4)
    assert value(rows["loss dpo"][2]) == pytest.approx(mean - simpo, abs=6e-4)


def test_factors_that_do_not_tell_the_cells_apart_are_refused(tmp_path: Path) -> None:
    asked = ASKED.replace('"beta", "noise"]', '"beta"]')
    with pytest.raises(HarnessError, match=r"dpo\(beta=1\) at noise none and dpo\(beta=1\) at noise flip=0.2 are t"):
        rows_of(made(tmp_path, asked), 1)


def test_a_loss_of_a_group_counts_by_the_mean_of_its_cells(tmp_path: Path) -> None:
    rows = rows_of(made(tmp_path), 2)
    assert value(rows["simpo averaged"][1]) == pytest.approx((72 + 96) / 240, abs=6e-4)
    apart = rows["averaged less summed "]
    assert [value(cell) for cell in apart[1:]] == pytest.approx([(168 - 120) / 240, (132 - 132) / 240], abs=6e-4)


def test_a_cell_without_a_result_leaves_out_its_level_and_says_so(tmp_path: Path) -> None:
    folder = made(tmp_path, without=("simpo", 2, "flip=0.2"))
    table, records = table_of(folder / RUN)
    cells = cells_of(records, table.ranked_by)
    assert cells.left_out == ("simpo(beta=2) at noise flip=0.2",)
    contrasts, effects, _ = answers(read_study(folder / STUDY_FILE), cells)
    assert contrasts.grids[0].rows[0][2] == "–"
    assert effects.findings[-1].startswith("Left out, so that every combination has a result: ")


def test_the_study_of_the_guide_is_one_and_asks_for_what_its_run_has(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")
    (tmp_path / STUDY_FILE).write_text(guide.partition("```toml\n")[2].partition("```")[0])
    answer = CliRunner().invoke(cli, ["study", str(tmp_path / STUDY_FILE), "--dry-run"], catch_exceptions=False)
    assert answer.exit_code == 0
    assert "Losses    4: dpo, simpo(beta=1), simpo(beta=2), simpo(beta=4)" in answer.output


def test_a_study_rebuilds_byte_for_byte_from_its_packed_records(written: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in written.iterdir() if path.is_file()}
    assert {REPORT, RECORDS, "leaderboard.md", "leaderboard.json", "leaderboard.csv", "leaderboard.html"} < {*before}
    for name in (STUDY_FILE, RECORDS):
        shutil.copy(written / name, tmp_path)
    answer = CliRunner().invoke(cli, ["study", str(tmp_path / STUDY_FILE), "--rebuild"])
    assert answer.exit_code == 0, answer.output
    assert answer.output.startswith("Does it matter?\n  At noise none: simpo over dpo +0.200 [")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_names_and_texts_from_outside_stay_text_in_the_report(tmp_path: Path) -> None:
    folder = made(tmp_path, ASKED.replace('"simpo over dpo"', '"<script>alert(1)</script> | x"'))
    (folder / STUDY_FILE).write_text((folder / STUDY_FILE).read_text().replace("Does it", "<img src=x> Does it"))
    write_study(folder, read_study(folder / STUDY_FILE), draw=False)
    report = (folder / REPORT).read_text(encoding="utf-8")
    assert "\\<script\\>" in report
    assert "\\<img" in report
    assert "<script" not in report.replace("\\<script", "")
    assert "<img" not in report.replace("\\<img", "")


def test_with_one_seed_the_findings_begin_with_what_they_cannot_say(tmp_path: Path) -> None:
    folder = made(tmp_path)
    for record in folder.rglob("*--seed1"):
        shutil.rmtree(record)
    table, records = table_of(folder / RUN)
    first, effects, _ = answers(read_study(folder / STUDY_FILE), cells_of(records, table.ranked_by))
    assert first.findings[0] == ONE_SEED
    assert [row[0] for row in effects.grids[1].rows] == ["loss", "beta", "noise", "interactions"]
    assert "With one seed, what another would change stands among the others." in effects.grids[1].after[0]
    both = answers(read_study(made(tmp_path / "b") / STUDY_FILE), cells_of(table_of(tmp_path / "b" / RUN)[1], "margin"))
    assert all(ONE_SEED not in answer.findings for answer in both)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ASKED.replace("[run]", "[ran]"), "run: Field required"),
        ('[run]\nplugins = "simpo"\n', "got no [[contrasts]], [[effects]] or [[groups]], expected at least one"),
        (ASKED.replace("plus = [", "pluss = ["), "contrasts.0.plus: Field required"),
        (ASKED.replace('plus = ["simpo(beta=1)", "simpo(beta=2)"]', "plus = []"), "contrasts.0.plus: "),
        ("[run", "not valid TOML"),
    ],
)
def test_a_file_that_is_no_study_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / STUDY_FILE).write_text(HEAD + text)
    with pytest.raises(HarnessError) as error:
        read_study(tmp_path / STUDY_FILE)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (('plus = ["simpo(beta=1)"', 'plus = ["simpo(beta=3)"'), "[[contrasts]] got 'simpo(beta=3)', expected one of"),
        (('factors = ["loss", "beta"', 'factors = ["loss", "betas"'), "[[effects]] got 'betas', expected one of"),
        (('first_losses = ["simpo"]', 'first_losses = ["cpo"]'), "[[groups]] got 'cpo', expected one of dpo, simpo"),
        (('plugins = "simpo', 'plugin = "simpo'), "got key 'plugin', expected one of"),
        (
            ('plugins = "simpo', 'plain-path = true\nreference-path = true\nplugins = "simpo'),
            "[run]: got plain-path and",
        ),
    ],
)
def test_what_the_run_will_not_have_is_refused_before_it_starts(
    tmp_path: Path, wrong: tuple[str, str], said: str
) -> None:
    (tmp_path / STUDY_FILE).write_text(HEAD + ASKED.replace(*wrong))
    answer = CliRunner().invoke(cli, ["study", str(tmp_path / STUDY_FILE), "--dry-run"])
    assert isinstance(answer.exception, HarnessError)
    assert said in str(answer.exception)
    assert not (tmp_path / RUN).exists()


def test_without_records_rebuild_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / STUDY_FILE).write_text(HEAD + ASKED)
    missing = CliRunner().invoke(cli, ["study", str(tmp_path / STUDY_FILE), "--rebuild"])
    assert f"neither {RUN}/ nor {RECORDS}" in str(missing.exception)


@pytest.mark.parametrize("kept", [0, 40, -20])
def test_broken_records_are_refused_and_leave_nothing(written: Path, tmp_path: Path, kept: int) -> None:
    broken = tmp_path / RECORDS
    broken.write_bytes((written / RECORDS).read_bytes()[:kept])
    with pytest.raises(HarnessError, match=f"{RECORDS}: cannot be unpacked"):
        unpack(broken, tmp_path / RUN)
    assert [path.name for path in tmp_path.iterdir()] == [RECORDS]


def test_pictures_draw_every_interval_once(written: Path) -> None:
    table, records = table_of(written / RUN)
    for answer in answers(read_study(written / STUDY_FILE), cells_of(records, table.ranked_by)):
        svg = (written / f"{answer.name}.svg").read_text(encoding="utf-8")
        assert all(point.row in svg for point in answer.points)
        assert svg.count('aria-roledescription="point"') == len(answer.points)
        assert f"({answer.name}.svg)" in (written / REPORT).read_text(encoding="utf-8")
