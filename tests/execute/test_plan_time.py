"""The time in a plan, counted by hand for one step of two pairs on a model of a billion parameters."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.execute import plan_time, workers
from harness.execute.plan_time import Work, answer_time_in_words, time_in_words
from harness.manager import plugin_manager, resolver
from harness.planning.estimates import Visits, estimates
from harness.planning.grid import Cell, System
from harness.planning.model_shape import ModelShape
from harness.planning.rates import Rate, remember_answer_rate
from harness.planning.run_file import Run, make_run

TOKENS = Visits(pairs=[100, 200], mismatched=[30, 50], packed=[80, 150], longest=110, held_out=1000)
MILLION = 1_000_000
SHAPE = ModelShape.of_parameters(1_000_000_000)


def said(run: Run) -> str:
    cell = Cell(key="k", model="./mine", system=System(loss=resolver(plugin_manager())("simpo", {}), label="s"), seed=0)
    (cost,) = estimates(run, TOKENS, [(cell, SHAPE.parameters)])
    return time_in_words(run, [Work(model="./mine", shape=SHAPE, cost=cost)], TOKENS)


@pytest.mark.parametrize(
    ("adapter", "words"),
    [
        # training 6 x 1e9 x (80 + 150) tokens at 1e10 FLOP/s: 138 s; scoring 2 x 1e9 x 1000 tokens, the start and the
        # cell: 400 s; 20 s to start and 2 s for the cell
        ("full", "9 min 20 s: 2 min 18 s of training, 6 min 40 s of scoring, by hand"),
        (
            "lora",
            "8 min 34 s: 1 min 32 s of training, 6 min 40 s of scoring, by hand",
        ),  # 4 of 6: no gradient of weights
    ],
)
def test_a_time_is_that_of_starting_training_and_scoring(
    adapter: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    monkeypatch.setattr(workers, "may_have_gpu", lambda: False)
    rate = Rate(slowest=1e10, fastest=1e10, source="by hand", computed=True)
    monkeypatch.setattr(plan_time, "measured_rate", lambda width, inner: rate)
    run = make_run(
        {"models": ["./mine"], "preset": "medium", "budget": "steps=1", "batch_pairs": 2, "adapter": adapter}
    )
    assert said(run).startswith(words)


def test_choosing_pairs_takes_its_time_once_for_all_cells_of_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    monkeypatch.setattr(workers, "may_have_gpu", lambda: False)
    rate = Rate(slowest=1e10, fastest=1e10, source="by hand", computed=True)
    monkeypatch.setattr(plan_time, "measured_rate", lambda width, inner: rate)
    run = make_run({"models": ["./mine"], "preset": "medium", "budget": "steps=1", "batch_pairs": 2})
    cell = Cell(key="k", model="./mine", system=System(loss=resolver(plugin_manager())("simpo", {}), label="s"), seed=0)
    (cost,) = estimates(run, TOKENS, [(cell, SHAPE.parameters)], choosing=600.0)
    works = 2 * [Work(model="./mine", shape=SHAPE, cost=cost)]
    # training 2 x 138 s as above; choosing 600 x 1e9 FLOPs at 1e10 FLOP/s once: 60 s
    assert ": 5 min 36 s of training, " in time_in_words(run, works, TOKENS)


def test_products_of_a_processor_say_nothing_of_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    monkeypatch.setattr(workers, "may_have_gpu", lambda: True)
    run = make_run({"models": ["./mine"], "preset": "medium", "budget": "steps=1", "batch_pairs": 2})
    assert said(run) == "not known: no earlier run on this machine trained models of about 1B parameters so"


def test_answers_take_as_long_as_the_slowest_of_the_last_ones_here_and_without_any_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    run = make_run({"models": ["./mine"], "preset": "medium", "generate": 10, "max_new_tokens": 50})
    unknown = "and that of the answers, which is not known: none were sampled on this machine by models of this size"
    assert answer_time_in_words(run, "vllm", [(SHAPE, 300)]) == unknown
    for scorer, tokens in (("vllm", 2000), ("vllm", 1000), ("transformers", 10)):
        remember_answer_rate(tmp_path, run, scorer, SHAPE.parameters, tokens, 10.0)
    # 300 answers of 50 tokens at 100 tokens a second
    known = "and at most 2 min 30 s of answers, at the rate of the last ones on this machine"
    assert answer_time_in_words(run, "vllm", [(SHAPE, 300)]) == known
    assert answer_time_in_words(run, "vllm", [(SHAPE, 300), (ModelShape.of_parameters(MILLION), 1)]) == unknown
