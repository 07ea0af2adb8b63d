"""What the plan says of memory, against sums by hand."""

from __future__ import annotations

import re
from typing import Any

import pytest

from harness.execute.plan_memory import in_parts, memory_lines, what_fits
from harness.manager import plugin_manager, resolver
from harness.models.size import NAMED_SHAPES
from harness.planning.memory import Batch, Device, needed_memory
from harness.planning.run_file import Run, make_run

GPU = Device(memory=80e9, gpu=True, name="the GPU")
PAPER = Batch(packed=[1300] * 8, longest=900)
MISTRAL = NAMED_SHAPES["mistral"]
DPO, TDPO = (resolver(plugin_manager())(name, {}) for name in ("dpo", "tdpo"))


def paper(**others: Any) -> Run:
    return make_run({"preset": "paper", **others})


def lines(run: Run, loss: Any = DPO) -> list[str]:
    return memory_lines(run, {"mistral": MISTRAL}, PAPER, [loss], GPU, 1)


def test_mistral_in_full_does_not_fit_80_gb_and_is_told_what_would() -> None:
    first, parts, what, _ = lines(paper())
    assert "of 80.0 GB of the GPU, with 2 pairs at once" in first
    # 7.24 billion parameters: 4 bytes of weight, 4 of gradient, 8 of moments, 2 of a copy in bf16
    assert "weights 29.0 GB (4 bytes a parameter) + gradients 29.0 GB (4 bytes a parameter)" in parts
    assert "moments 57.9 GB (8 bytes a parameter) + copies 14.5 GB (2 bytes a parameter)" in parts
    assert "computed again layer by layer" in parts
    assert what.startswith("does not fit the GPU; what would: --optimizer adamw-bf16-sr --dtype bfloat16 (6")
    assert "; or --adapter lora (" in what
    assert "adamw-8bit" not in what


def test_what_fits_is_said_to_do_nothing_more() -> None:
    assert len(lines(paper(optimizer="adamw-bf16-sr", start="org/tuned"))) == 2


def test_an_sft_stage_that_does_not_fit_is_told_of_before_it_begins() -> None:
    # 7.24 billion x 18 bytes, 32 layers x 16,384 tokens x 4,096 wide x 4 bytes, and the libraries
    assert lines(paper())[-1] == (
        "the SFT stage of mistral takes 140.1 GB, in fp32, and does not fit the GPU; name a tuned checkpoint with "
        "--start"
    )
    small = memory_lines(paper(), {"qwen": NAMED_SHAPES["qwen"]}, PAPER, [DPO], GPU, 1)
    assert len(small) == 2


def test_a_copy_of_the_model_is_named_and_counted() -> None:
    alone, beside = (lines(paper(optimizer="adamw-bf16-sr"), loss) for loss in (DPO, TDPO))
    assert "a copy of the model is among it, for tdpo" in beside[0]
    assert "copies 14.5 GB" in beside[1]
    assert "copies" not in alone[1]


def test_a_device_of_unknown_memory_has_no_number_of_it_and_holds_anything() -> None:
    unknown = Device(memory=float("inf"), gpu=True, name="ray-0")
    first, *_, last = memory_lines(paper(start="a/tuned-one"), {"mistral": MISTRAL}, PAPER, [DPO], unknown, 1)
    assert re.fullmatch(r"up to [\d.]+ GB on ray-0, with 2 pairs at once, .*", first)
    assert "does not fit" not in last


def test_the_parts_of_training_add_up() -> None:
    need = needed_memory(paper(), MISTRAL, PAPER, GPU)
    whole, *parts = [float(size) for size in re.findall(r"([\d.]+) GB", in_parts(need, MISTRAL))][:6]
    assert whole == pytest.approx(sum(parts), abs=0.3)


def fitting(run: Run, memory: float) -> list[str]:
    found = what_fits(run, MISTRAL, PAPER, Device(memory=memory, gpu=True, name="the GPU"), beside=False)
    return [words for words, _ in found]


def test_kept_activations_and_fewer_pairs_at_once_are_offered_before_another_optimiser() -> None:
    kept = paper(micro_pairs=32, activation_checkpointing="off")
    assert fitting(kept, 161e9)[0] == "--activation-checkpointing auto"
    assert re.match(r"--micro-pairs (1|2|4|8|16) --activation-checkpointing auto$", fitting(kept, 146e9)[0])
    assert fitting(kept, 100e9)[0].startswith("--optimizer adamw-8bit --micro-pairs")


def test_nothing_is_offered_where_nothing_fits() -> None:
    tiny = Device(memory=1e9, gpu=True, name="the GPU")
    assert "no option of a run makes it fit" in memory_lines(paper(), {"m": MISTRAL}, PAPER, [DPO], tiny, 1)[2]
