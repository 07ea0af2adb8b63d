"""Memory that is out in the midst of a training: fewer pairs go through the model at once, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_pairs import made_pairs, made_tokens
from transformers import AutoModelForCausalLM

from harness.api import HarnessError, Loss, PairLogps
from harness.data.mismatch import mismatched
from harness.logps.packed_attention import use_packed_attention
from harness.manager import plugin_manager, resolver
from harness.models.families import FAMILIES
from harness.planning.budget import Plan
from harness.planning.ending import EndedError, Ending
from harness.run_folder.checkpoints import Origin, find_checkpoint
from harness.training.checkpoints import Checkpoints
from harness.training.loss_columns import prepare_columns
from harness.training.loss_inputs import LossInputs, TrainingData
from harness.training.out_of_memory import is_out_of_memory, out_of_memory_told
from harness.training.recipe import Recipe
from harness.training.reference_cache import Reference
from harness.training.trainer import Trained, train

RESOLVE = resolver(plugin_manager())
N_PAIRS, BATCH, STEPS = 16, 4, 4
rng = np.random.default_rng(5)
TOKENS = made_tokens(rng, N_PAIRS)
PAIRS = made_pairs(N_PAIRS)
REFERENCE = Reference(
    chosen=np.full(N_PAIRS, -20.0),
    rejected=np.full(N_PAIRS, -19.0),
    tokens=(
        [-rng.random(len(ids.chosen_ids)).astype(np.float32) for ids in TOKENS],
        [-rng.random(len(ids.rejected_ids)).astype(np.float32) for ids in TOKENS],
    ),
    mismatched=-30 * rng.random(N_PAIRS),
    seconds=0.0,
    cached=True,
)
MISMATCHED = mismatched(TOKENS, [pair.prompt_id for pair in PAIRS], N_PAIRS, seed=0)
LOSSES: dict[str, Loss] = {
    "simpo": RESOLVE("simpo", {}),
    "dpo": RESOLVE("dpo", {}),
    "kto": RESOLVE("kto", {}),  # coupled, with a mismatched response
    "gamma-po": RESOLVE("gamma-po", {}),  # coupled, with a state
    "sampo": RESOLVE("sampo", {}),  # with random numbers
}
SO_MUCH = 2**52
"""Bytes that no machine has."""


class Memory:
    """Holds so many pairs from a step on; beyond them torch fails to allocate, for real, where it is told to."""

    def __init__(self, holds: int, from_step: int, where: str) -> None:
        self.holds, self.from_step, self.where = holds, from_step, where
        self.step, self.pairs, self.failed = 1, 0, 0

    def __call__(self, place: str) -> None:
        if place == self.where and self.step >= self.from_step and self.pairs > self.holds:
            self.failed += 1
            torch.empty(SO_MUCH, dtype=torch.uint8)

    def watch(self, net: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Fail before a pass, or in the midst of the way back: the upper layers have their gradients by then."""
        pair_logps = LossInputs.pair_logps

        def counted(inputs: LossInputs, model: Any, batch: Mapping[str, Any], *, for_loss: bool) -> PairLogps:
            self.pairs = len(batch["pair"])
            self("coupling" if for_loss and not torch.is_grad_enabled() else "forward")
            return pair_logps(inputs, model, batch, for_loss=for_loss)

        def way_back(_module: Any, _arguments: Any, output: Any) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            if hidden.requires_grad:
                hidden.register_hook(lambda gradient: self("backward"))

        monkeypatch.setattr(LossInputs, "pair_logps", counted)
        net.model.layers[0].register_forward_hook(way_back)


Run = Callable[..., tuple[Trained, Any]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Train, where asked for on a machine of little memory."""

    def call(
        loss: Loss,
        micro: int,
        memory: Memory | None = None,
        checkpoints: Checkpoints | None = None,
        smaller: Callable[[int, int], None] = lambda step, pairs: None,
    ) -> tuple[Trained, Any]:
        torch.manual_seed(0)
        net = AutoModelForCausalLM.from_config(FAMILIES["qwen"].nano_config(64))
        use_packed_attention(net)
        plan = Plan(batch_pairs=BATCH, n_pairs=N_PAIRS, seed=0, steps=STEPS)
        data = TrainingData(
            pairs=PAIRS,
            tokens=TOKENS,
            reference=REFERENCE,
            columns=prepare_columns(loss, PAIRS, TOKENS, plan.visited(), REFERENCE),
            mismatched=MISMATCHED,
        )
        recipe = Recipe(learning_rate=1e-3, micro_pairs=micro, seed=0, dtype="float32")

        def on_step(step: int, _loss: float) -> None:
            if memory:
                memory.step = step + 1
            if checkpoints and step == 3:
                checkpoints.ending.ask()

        with monkeypatch.context() as patch:
            if memory:
                memory.watch(net, patch)
            trained = train(
                net, loss, data, plan, recipe, tmp_path / "s", on_step, lambda _: None, checkpoints, smaller=smaller
            )
        return trained, net

    return call


def difference(a: Any, b: Any) -> float:
    return max(
        float((x.detach() - y.detach()).abs().max()) for x, y in zip(a.parameters(), b.parameters(), strict=True)
    )


@pytest.mark.parametrize(("name", "where"), [*((name, "backward") for name in LOSSES), ("gamma-po", "forward")])
def test_out_of_memory_in_the_first_step_is_a_training_with_the_smaller_micro_batch_bit_for_bit(
    name: str, where: str, run: Run
) -> None:
    told: list[tuple[int, int]] = []
    memory = Memory(1, 1, where)
    scarce, ours = run(LOSSES[name], 4, memory, smaller=lambda step, pairs: told.append((step, pairs)))
    small, theirs = run(LOSSES[name], 1)
    assert memory.failed == 2  # with 4 pairs and with 2
    assert difference(ours, theirs) == 0
    assert scarce.log.equals(small.log)
    spent = [(each.pairs, each.tokens, each.mismatched_tokens) for each in (scarce, small)]
    assert spent[0] == spent[1]
    assert told == [(1, 1)]  # once, where it fits
    assert (scarce.micro_pairs, small.micro_pairs) == (1, None)


@pytest.mark.parametrize(("name", "where"), [("simpo", "forward"), ("kto", "backward"), ("sampo", "backward")])
def test_out_of_memory_in_a_later_step_is_so_up_to_rounding(name: str, where: str, run: Run) -> None:
    scarce, ours = run(LOSSES[name], 2, Memory(1, 3, where))
    (small, theirs), (large, _) = run(LOSSES[name], 1), run(LOSSES[name], 2)
    assert difference(ours, theirs) < 5e-5  # Adam divides by the size of the gradient: rounding is magnified
    assert scarce.log[:2].equals(large.log[:2])
    for name in scarce.log:
        np.testing.assert_allclose(scarce.log[name], small.log[name], rtol=1e-4)
    spent = [(each.pairs, each.tokens, each.mismatched_tokens) for each in (scarce, small)]
    assert spent[0] == spent[1]
    assert scarce.micro_pairs == 1


@pytest.mark.parametrize("name", ["kto", "gamma-po"])
def test_out_of_memory_in_the_extra_pass_of_a_coupled_loss_is_no_other_case(name: str, run: Run) -> None:
    memory = Memory(1, 1, "coupling")
    _, ours = run(LOSSES[name], 2, memory)
    assert memory.failed == 1
    assert difference(ours, run(LOSSES[name], 1)[1]) == 0


def test_where_one_pair_does_not_fit_the_error_says_what_would(run: Run) -> None:
    with pytest.raises(HarnessError) as caught:
        run(LOSSES["simpo"], 4, Memory(0, 2, "backward"))
    told = str(caught.value)
    assert "at step 2 with 1 pair at a time" in told
    for way in ("--max-length", "--dtype bfloat16", "--adapter lora"):
        assert way in told


def test_a_training_that_was_stopped_goes_on_with_as_many_pairs_as_memory_held(run: Run, tmp_path: Path) -> None:
    origin = Origin(
        cell="c", board="{}", start_fingerprint="s", tokens_fingerprint="t", evaluate_at=(), code="c", versions={}
    )

    def kept(ending: Ending) -> Checkpoints:
        return Checkpoints(
            cell=tmp_path, origin=origin, every=1e9, ending=ending, written=lambda step, trouble: None,
            found=find_checkpoint(tmp_path),
        )  # fmt: skip

    undisturbed, ours = run(LOSSES["gamma-po"], 2, Memory(1, 2, "forward"))
    ending = Ending()
    with pytest.raises(EndedError), ending.held():
        run(LOSSES["gamma-po"], 2, Memory(1, 2, "forward"), kept(ending))
    assert find_checkpoint(tmp_path) == tmp_path / "checkpoint-3"
    again = Memory(1, 1, "forward")
    resumed, theirs = run(LOSSES["gamma-po"], 2, again, kept(Ending()))
    assert again.failed == 0  # nothing is tried that was seen to fail
    assert difference(ours, theirs) == 0
    assert resumed.log.equals(undisturbed.log)
    assert resumed.micro_pairs == 1


def test_errors_are_known_for_what_they_are() -> None:
    with pytest.raises(RuntimeError) as real:
        torch.empty(SO_MUCH, dtype=torch.uint8)
    for error in (real.value, MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")):
        assert is_out_of_memory(error)
        with pytest.raises(HarnessError, match=r"^out of memory .* whatever --micro-pairs is"), out_of_memory_told():
            raise error
    assert not is_out_of_memory(RuntimeError("on purpose"))
    with pytest.raises(RuntimeError, match=r"^on purpose$"), out_of_memory_told():
        raise RuntimeError("on purpose")
