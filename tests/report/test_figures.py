"""The figures of a report: the forest plot's points, and pictures whose words stand in the caption."""

from __future__ import annotations

import importlib
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from typing import Any

import pytest
from page_examples import HOSTILE, needed, table
from page_examples import picture_data as example_data

from harness.leaderboard.pictures import files
from harness.leaderboard.pictures.drawing import Drawing
from harness.leaderboard.pictures.forest import forest
from harness.leaderboard.pictures.styles import styles
from harness.report import figures as module
from harness.report.figures import figures


def drawing(labels: list[str]) -> Drawing:
    needed(files.why_no_pictures())
    content, data = table(labels), example_data(labels)
    alt: Any = importlib.import_module("altair")
    return Drawing(alt=alt, board=content.boards[-1], data=data, styles=styles(content), ranked_by=content.ranked_by)


def test_the_forest_plot_has_every_row_with_a_value_in_order_and_is_vega_lite_by_its_schema() -> None:
    draw = drawing(["dpo", "simpo"])
    picture = forest(draw)
    assert picture is not None
    assert picture.spec["datasets"]["forest"] == [
        {"loss": "dpo", "ranked": True, "value": 0.9, "low": 0.85, "high": 0.95},
        {"loss": "simpo", "ranked": True, "value": 0.7, "low": 0.65, "high": 0.75},
    ]  # base has no reward of its own, wild diverged
    draw.alt.Chart.from_dict(dict(picture.spec), validate=True)
    assert forest(replace(draw, board=replace(draw.board, rows=draw.board.rows[2:]))) is None


def test_a_figure_has_its_title_and_disclaimers_in_the_caption_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = ["simpo", HOSTILE[0]]
    drawing(labels)
    content = table(labels, models=("qwen",))
    monkeypatch.setattr(module, "picture_data", lambda records, table: [example_data(labels)] * len(table.boards))
    found, note = figures(content, [])
    assert note == ""
    assert found[0].name == "all-forest"
    assert len({figure.name for figure in found}) == len(found) > 5
    for figure in found:
        assert "A nano board tests the harness and ranks no method." in figure.caption
        root = ElementTree.fromstring(figure.svg)
        words = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]
        assert words
        assert not [word for word in words if "nano" in word or word == figure.title]
        assert figure.pdf.startswith(b"%PDF")


def test_what_fails_to_draw_costs_the_figures_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    drawing(["dpo", "simpo"])
    monkeypatch.setattr(module, "picture_data", lambda records, table: 1 / 0)
    assert figures(table(["dpo", "simpo"]), []) == (
        (),
        "No pictures: drawing them failed, ZeroDivisionError: division by zero",
    )
