"""Generated answers, judges and the frontier on boards, against counts by hand."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from page_examples import needed
from scipy.stats import binomtest

from harness.exchange.export import as_csv
from harness.leaderboard import csv as csv_board
from harness.leaderboard import json as json_board
from harness.leaderboard import markdown
from harness.leaderboard.answer_grids import sampled
from harness.leaderboard.decide.wording import APART, MEASURES
from harness.leaderboard.page import html
from harness.leaderboard.page.manifest_facts import ManifestFacts
from harness.leaderboard.pictures import files
from harness.leaderboard.pictures.data import picture_data
from harness.leaderboard.table import Board, build
from harness.run_folder.generation_facts import GenerationFacts, PromptFacts
from harness.run_folder.paths import point_folder
from harness.run_folder.point_facts import PointFacts
from harness.run_folder.store import read_record, read_records, write_record, write_tables

Add = Callable[..., None]
PROMPTS = 40
FACTS = GenerationFacts(prompts=PROMPTS, samples=1, temperature=1.0, top_p=1.0, max_new_tokens=64, stop=(1,))
LABELS = ("good", "fair", "base")


def answer(folder: Path, kl: float, *, length: int = 10, text: str = "some words", samples: int = 1) -> None:
    """Write the answers of a cell or point: their KL is `kl` on average and differs by prompt."""
    names = [f"prompt{p:03d}" for p in range(PROMPTS) for _ in range(samples)]
    spread = np.linspace(0.9, 1.1, len(names))
    pd.DataFrame(
        {
            "prompt_id": names,
            "sample": [sample for _ in range(PROMPTS) for sample in range(samples)],
            "text": text,
            "kl_log_ratio": kl * spread,
            "kl_low_variance": kl * spread,
            "length": length,
            "cut": 0.0,
            "distinct_2": 0.9,
            "longest_loop": 0,
            "rouge_l": 0.2,
        }
    ).to_parquet(folder / "generations.parquet", index=False)


def judge(folder: Path, name: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Write what a judge said of a cell; a row has `prompt`, and `rating` or `preference` with `order`."""
    known = {"sample": 0, "against": "", "order": 0, "repeat": 0, "preference": np.nan, "rating": np.nan, "reason": ""}
    table = pd.DataFrame(
        [known | {"prompt_id": f"prompt{row['prompt']:03d}", "judge": name} | dict(row) for row in rows]
    )
    (folder / "judgements").mkdir(exist_ok=True)
    table.drop(columns="prompt").to_parquet(folder / "judgements" / f"{name}.parquet", index=False)


def rate(folder: Path, values: Sequence[float], name: str = "rater") -> None:
    judge(folder, name, [{"prompt": p, "rating": value} for p, value in enumerate(values)])


def prefer(folder: Path, values: Sequence[tuple[float, float]], name: str = "judge", against: str = "base") -> None:
    """Write what a judge prefers of each prompt, for the cell's answer, shown first and shown second."""
    judge(
        folder,
        name,
        [
            {"prompt": p, "against": against, "order": order, "preference": said, "reason": "" if said == said else "?"}
            for p, both in enumerate(values)
            for order, said in enumerate(both)
        ],
    )


@pytest.fixture
def run(tmp_path: Path, add_cell: Add) -> Path:
    """Two losses and the base on one model, each with answers at the end; `good` at 4 nats, `fair` at 9."""
    made = tmp_path / "run"
    margins = np.where(np.arange(PROMPTS) < 30, 1.0, -1.0) * (1 + np.arange(PROMPTS) / 100)
    for label in LABELS:
        add_cell(made, label, margins, prompts=PROMPTS, generation=FACTS.as_json())
        answer(cell(made, label), {"good": 4.0, "fair": 9.0, "base": 0.0}[label])
    return made


def cell(run: Path, label: str) -> Path:
    return run / "cells" / (f"qwen--{label}" + ("" if label == "base" else "--seed0"))


def board_of(run: Path) -> Board:
    (board,) = build(read_records(run), resamples=500).boards
    return board


def test_a_run_without_answers_says_nothing_of_them(small_run: Path) -> None:
    board = board_of(small_run)
    assert (board.answers, board.frontiers) == (None, ())
    assert all(row.answers is None for row in board.rows)
    assert "answers" not in json.loads(json_board.render(build(read_records(small_run), resamples=100)))["boards"][0]


def test_numbers_of_answers_are_means_over_prompts_of_means_over_samples(run: Path) -> None:
    answer(cell(run, "good"), 4.0, samples=2)
    found = board_of(run).answers
    assert found is not None
    row = found.rows["good"].values["kl_low_variance"]
    assert (row.value, row.n) == (pytest.approx(4.0), PROMPTS)
    assert row.low < 4.0 < row.high
    base = found.rows["base"].values["kl_low_variance"]
    assert (base.value, np.isnan(base.low)) == (0.0, True)


def test_a_rating_stands_beside_its_paired_difference_to_the_base(run: Path) -> None:
    """The base's ratings vary a lot from prompt to prompt, and the loss has 0.5 more on each: no doubt about that."""
    base = np.arange(PROMPTS) % 5
    rate(cell(run, "base"), list(base))
    rate(cell(run, "good"), list(base + np.linspace(0.4, 0.6, PROMPTS)))
    rate(cell(run, "fair"), list(base[::-1]))
    found = board_of(run).answers
    assert found is not None
    row = found.rows["good"]
    assert row.values["rating@rater"].value == pytest.approx(2.5)
    gain = row.over_base["rating@rater"]
    assert gain.value == pytest.approx(0.5)
    assert (gain.low, gain.high) == pytest.approx((0.5, 0.5), abs=0.03)
    assert found.rows["fair"].over_base["rating@rater"].low < 0 < found.rows["fair"].over_base["rating@rater"].high
    assert row.values["win_rate@rater"].value == 1.0
    assert (row.places["rating@rater"].rank, found.rows["fair"].places["rating@rater"].rank) == (1, 2)


def test_a_win_rate_is_the_mean_of_both_orders_with_the_exact_interval(run: Path) -> None:
    """24 wins and 16 defeats, the same in both orders."""
    for label, wins in (("good", 24), ("fair", 8)):
        prefer(cell(run, label), [(1.0, 1.0) if p < wins else (0.0, 0.0) for p in range(PROMPTS)])
    found = board_of(run).answers
    assert found is not None
    exact = binomtest(24, PROMPTS).proportion_ci(method="exact")
    rate_of = found.rows["good"].values["win_rate@judge"]
    assert rate_of.value == pytest.approx(0.6)
    assert (rate_of.low, rate_of.high) == pytest.approx((exact.low, exact.high))
    assert found.rows["good"].places["win_rate@judge"].rank_high == 1  # 0.6 and 0.2 of the same prompts
    assert "win_rate@judge" not in found.rows["base"].values


def test_a_judge_of_a_place_alone_says_nothing_of_the_loss(run: Path) -> None:
    """It always prefers the answer shown first: every comparison is a tie, and the liking is told."""
    for label in ("good", "fair"):
        prefer(cell(run, label), [(1.0, 0.0)] * PROMPTS)
    found = board_of(run).answers
    assert found is not None
    assert found.rows["good"].values["win_rate@judge"].value == 0.5
    (judge_of,) = found.judges
    assert (judge_of.rates, judge_of.asked, judge_of.unread, judge_of.first.value) == (False, 160, 0, 1.0)


def test_what_cannot_be_read_is_counted_and_left_out(run: Path) -> None:
    """Of ten prompts one order is missing: they count for nothing, whichever way the other order went."""
    nan = float("nan")
    prefer(cell(run, "good"), [(1.0, nan) if p < 10 else (1.0, 1.0) if p < 25 else (0.0, 0.0) for p in range(PROMPTS)])
    prefer(cell(run, "fair"), [(1.0, 0.0)] * PROMPTS)
    found = board_of(run).answers
    assert found is not None
    rate_of = found.rows["good"].values["win_rate@judge"]
    assert (rate_of.value, rate_of.n) == (pytest.approx(0.5), 30)
    assert (found.judges[0].unread, found.judges[0].reasons) == (10, {"?": 10})


def test_a_loss_whose_answers_a_judge_could_not_read_has_the_reason(run: Path) -> None:
    nan = float("nan")
    prefer(cell(run, "good"), [(nan, nan)] * PROMPTS)
    prefer(cell(run, "fair"), [(1.0, 0.0)] * PROMPTS)
    found = board_of(run).answers
    assert found is not None
    assert "win_rate@judge" not in found.rows["good"].values
    assert "no comparison" in found.rows["good"].reasons["win_rate@judge"]


def test_longer_answers_that_win_for_their_length_do_not_win_at_equal_length(run: Path) -> None:
    """Longer answers win two times of three, by their length alone: half of them are longer, half shorter."""
    texts = ["w " * (60 if p % 2 else 20) for p in range(PROMPTS)]
    table = pd.read_parquet(cell(run, "good") / "generations.parquet").assign(text=texts)
    table.to_parquet(cell(run, "good") / "generations.parquet", index=False)
    for label in ("base", "fair"):
        answer(cell(run, label), 0.0 if label == "base" else 9.0, text="w " * 40)
    wins = [(p % 2 == 1) == (p % 3 > 0) for p in range(PROMPTS)]
    prefer(cell(run, "good"), [(float(won), float(won)) for won in wins])
    prefer(cell(run, "fair"), [(1.0, 0.0)] * PROMPTS)
    found = board_of(run).answers
    assert found is not None
    even = found.rows["good"].values["win_rate_at_equal_length@judge"]
    assert even.value == pytest.approx(0.5, abs=0.05)
    assert even.low < 0.5 < even.high


def test_two_judges_have_their_agreement_counted_by_hand(run: Path) -> None:
    rng = np.random.default_rng(0)
    said = {name: rng.integers(0, 3, (2, PROMPTS, 2)) / 2 for name in ("one", "two")}
    for name, verdicts in said.items():
        for label, of in zip(("good", "fair"), verdicts, strict=True):
            prefer(cell(run, label), [(float(a), float(b)) for a, b in of], name=name)
    found = board_of(run).answers
    assert found is not None
    (pair,) = found.agreement
    flat = [(verdicts.ravel() * 2).astype(int) for verdicts in said.values()]
    share = float((flat[0] == flat[1]).mean())
    chance = sum(float((flat[0] == of).mean() * (flat[1] == of).mean()) for of in (0, 1, 2))
    assert pair.verdicts.share == pytest.approx(share)
    assert pair.verdicts.kappa == pytest.approx((share - chance) / (1 - chance))


def test_the_chosen_responses_are_a_rival_of_their_own(run: Path) -> None:
    for label, wins in (("good", 20), ("fair", 10), ("base", 4)):
        rows = [(1.0, 1.0) if p < wins else (0.0, 0.0) for p in range(PROMPTS)]
        prefer(cell(run, label), rows, against="chosen")
    found = board_of(run).answers
    assert found is not None
    values = {label: found.rows[label].values["win_rate_vs_chosen@judge"].value for label in LABELS}
    assert values == {"good": 0.5, "fair": 0.25, "base": 0.1}


def test_a_judge_that_rates_says_what_the_chosen_responses_are_worth(run: Path) -> None:
    """The base's table has their ratings; an answer with more than the chosen one of its prompt wins."""
    rate(cell(run, "good"), [4.0 if p < 10 else 2.0 for p in range(PROMPTS)])
    rate(cell(run, "fair"), [3.0] * PROMPTS)
    alone = [{"prompt": p, "rating": 1.0} for p in range(PROMPTS)]
    judge(
        cell(run, "base"), "rater", alone + [{"prompt": p, "rating": 3.0, "against": "chosen"} for p in range(PROMPTS)]
    )
    found = board_of(run).answers
    assert found is not None
    assert found.judges[0].chosen == 3.0
    values = {label: found.rows[label].values["win_rate_vs_chosen@rater"].value for label in LABELS}
    assert values == {"good": 0.25, "fair": 0.5, "base": 0.0}
    assert found.rows["base"].values["rating@rater"].value == 1.0


def with_points(run: Path) -> None:
    """Give both losses a point at half of the budget: `good` at 1 nat, `fair` at 4; both rated 0.2 over the base."""
    rate(cell(run, "base"), [2.0] * PROMPTS)
    for label, kl, at_end in (("good", 1.0, 0.4), ("fair", 4.0, -0.1)):
        folder = cell(run, label)
        record = read_record(folder)
        rows, responses = record.rows(), record.responses()
        points = []
        for fraction in (0.5, 1.0):
            there = point_folder(folder, fraction)
            hashes = write_tables(there, record.key, rows, responses)
            points.append(PointFacts(fraction=fraction, step=4, metrics=record.metrics, files=hashes))
        answer(point_folder(folder, 0.5), kl)
        rate(point_folder(folder, 0.5), [2.2] * PROMPTS)
        rate(folder, [2.0 + at_end] * PROMPTS)
        write_record(folder, record.model_copy(update={"points": tuple(points)}), rows, responses)


def test_the_frontier_has_every_point_and_is_read_between_them(run: Path) -> None:
    with_points(run)
    frontier, accuracy = board_of(run).frontiers
    assert (frontier.quality, accuracy.quality) == ("rating@rater", "pairwise_accuracy@learned")
    points = {(point.label, point.fraction): (point.kl.value, point.gain.value) for point in frontier.points}
    assert points == {
        ("good", 0.5): pytest.approx((1.0, 0.2)),
        ("good", 1.0): pytest.approx((4.0, 0.4)),
        ("fair", 0.5): pytest.approx((4.0, 0.2)),
        ("fair", 1.0): pytest.approx((9.0, -0.1)),
    }
    # at 1 nat `fair` is halfway from the start to its first point; 4 nats are the very end of `good` in the data, and
    # past it in half of the resamples, so nothing is said of it there
    assert frontier.at[1.0]["fair"].value == pytest.approx(0.1)
    assert frontier.at[4.0] == {"fair": frontier.at[4.0]["fair"]}
    assert frontier.at[4.0]["fair"].value == pytest.approx(0.2)
    assert frontier.at[16.0] == {}
    (left,) = frontier.dominated
    assert (left.label, left.by, left.shown) == ("fair", "good", True)


def test_learning_curves_have_the_numbers_of_answers(run: Path) -> None:
    with_points(run)
    (row,) = (row for row in board_of(run).rows if row.label == "good")
    assert [point.answers["rating@rater"].value for point in row.points] == pytest.approx([2.2, 2.4])
    assert [point.answers["kl_low_variance"].value for point in row.points] == pytest.approx([1.0, 4.0])


def test_every_rendering_has_answers_judges_and_the_frontier(run: Path) -> None:
    with_points(run)
    table = build(read_records(run), resamples=200)
    content = json.loads(json_board.render(table))["boards"][0]
    assert content["answers"]["sampling"]["prompts"] == PROMPTS
    assert content["answers"]["judges"][0]["name"] == "rater"
    assert content["frontiers"][0]["at_kl"]["4"]["fair"]["value"] == pytest.approx(0.2)
    lines = list(csv.DictReader(io.StringIO(csv_board.render(table))))
    values = {(line["label"], line["metric"]): line["value"] for line in lines}
    assert float(values["good", "rating@rater over base"]) == pytest.approx(0.4)
    assert float(values["good", "rating@rater at 0.5"]) == pytest.approx(2.2)
    assert float(values["fair", "gain in rating@rater at KL 4"]) == pytest.approx(0.2)
    exported = {
        (line["label"], line["metric"], line["fraction"]): line for line in csv.DictReader(io.StringIO(as_csv(table)))
    }
    assert float(exported["good", "rating@rater", "0.5"]["value"]) == pytest.approx(2.2)
    assert exported["good", "kl_low_variance", "1.0"]["unit"] == "nats"
    page = html.render(table, manifest=ManifestFacts())
    for text in (markdown.render(table), page):
        for heading in ("Generated answers", "Judge rater", "Frontier: rating by rater", "Frontier: accuracy, learned"):
            assert heading in text
        assert "better than the base" in text.replace("&#x27;", "'")


def test_the_frontier_is_drawn_from_the_start(run: Path) -> None:
    needed(files.why_no_pictures())
    with_points(run)
    records = read_records(run)
    (data,) = picture_data(records, build(records, resamples=100))
    dots = [
        (dot["distance"], dot["gain"]) for dot in data.frontier if dot["loss"] == "good" and "rating" in dot["quality"]
    ]
    assert dots == [(0.0, 0.0), (1.0, 0.2), (2.0, 0.4)]


def test_a_board_with_answers_does_not_say_that_it_measures_none(run: Path) -> None:
    board = board_of(run)
    assert APART in board.disclaimers
    assert MEASURES not in board.disclaimers
    assert board.weightiest[0] == "ranks by implicit rewards, not by answers"


def test_prompts_of_their_own_are_named_with_their_licence(run: Path) -> None:
    asked = PromptFacts(name="AlpacaEval style", source="alpaca_eval", licence="CC BY-NC 4.0", fingerprint="0")
    found = board_of(run).answers
    assert found is not None
    openly = replace(found, facts=FACTS.model_copy(update={"asked": asked}))
    assert "40 prompts, AlpacaEval style (CC BY-NC 4.0)" in sampled(openly)
    assert "40 held-out prompts" in sampled(found)
