"""Checkpoints inside a training: a training that was stopped and went on is one that was never stopped, bit for bit."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_pairs import made_pairs, made_tokens
from transformers import AutoModelForCausalLM
from transformers.trainer_pt_utils import safe_globals

from harness.api import Loss
from harness.logps.packed_attention import use_packed_attention
from harness.manager import plugin_manager, resolver
from harness.models.families import FAMILIES
from harness.models.load import load_model
from harness.planning.budget import Plan, Point
from harness.planning.ending import EndedError, Ending
from harness.run_folder.checkpoints import Origin, find_checkpoint, remove_checkpoints, why_unusable
from harness.run_folder.paths import WEIGHTS, point_folder
from harness.training.checkpoints import Checkpointing, Checkpoints
from harness.training.loss_columns import prepare_columns
from harness.training.loss_inputs import TrainingData
from harness.training.recipe import Recipe
from harness.training.reference_cache import Reference
from harness.training.trainer import PreferenceTrainer, Trained, train

RESOLVE = resolver(plugin_manager())
N_PAIRS, BATCH, MICRO, STEPS = 12, 4, 2, 7
"""Seven steps of four pairs: more than two epochs."""
rng = np.random.default_rng(2)
TOKENS = made_tokens(rng, N_PAIRS)
PAIRS = made_pairs(N_PAIRS)
REFERENCE = Reference(
    chosen=np.full(N_PAIRS, -20.0),
    rejected=np.full(N_PAIRS, -19.0),
    tokens=(
        [-rng.random(len(ids.chosen_ids)).astype(np.float32) for ids in TOKENS],
        [-rng.random(len(ids.rejected_ids)).astype(np.float32) for ids in TOKENS],
    ),
    seconds=0.0,
    cached=True,
)
ORIGIN = Origin(
    cell="qwen--loss--0--seed0", board="{}", start_fingerprint="start", tokens_fingerprint="tokens", evaluate_at=(),
    code="code", versions={"torch": torch.__version__},
)  # fmt: skip


class StoppedError(Exception):
    """Stands for SIGKILL: nothing is written once it is there."""


@pytest.fixture(scope="module", autouse=True)
def quick_collection() -> Iterator[None]:
    """Trainer collects garbage after every run: let it pass over what the imports left."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A start checkpoint in a folder."""
    torch.manual_seed(0)
    config = FAMILIES["qwen"].nano_config(64)
    folder = tmp_path_factory.mktemp("start")
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


Run = Callable[..., tuple[Trained, Any]]


@pytest.fixture
def run(start: Path, tmp_path: Path) -> Run:
    """Train a loss in a process of its own, as far as a test can: a model, loss and data that no other run has."""

    def call(
        loss: Loss,
        checkpoints: Checkpoints | None = None,
        on_step: Callable[[int], None] = lambda step: None,
        *,
        adapter: str = "full",
        dtype: str = "float32",
        optimizer: str = "adamw",
        points: tuple[Point, ...] = (),
        keep: Callable[[float], None] = lambda fraction: None,
        seconds: float | None = None,
    ) -> tuple[Trained, Any]:
        net = load_model(start, "bfloat16" if optimizer == "adamw-bf16-sr" else "float32", adapter, seed=3)
        use_packed_attention(net)
        steps = None if seconds else STEPS
        plan = Plan(batch_pairs=BATCH, n_pairs=N_PAIRS, seed=1, steps=steps, seconds=seconds, points=points)
        moves = loss.moving_reference is not None
        data = TrainingData(
            pairs=PAIRS,
            tokens=TOKENS,
            reference=None if moves else REFERENCE,
            columns=prepare_columns(loss, PAIRS, TOKENS, plan.visited(), REFERENCE),
            frozen=copy.deepcopy(net).requires_grad_(False) if moves else None,
        )
        recipe = Recipe(learning_rate=1e-2, micro_pairs=MICRO, seed=0, dtype=dtype, optimizer=optimizer)
        scratch = tmp_path / "scratch"
        return train(net, loss, data, plan, recipe, scratch, lambda step, _: on_step(step), keep, checkpoints), net

    return call


def kept(cell: Path, *, ending: Ending | None = None, every: float = 1e9) -> Checkpoints:
    """Return what a run of the cell in this folder is asked to keep; it goes on from what is there."""
    return Checkpoints(
        cell=cell,
        origin=ORIGIN,
        every=every,
        ending=ending or Ending(),
        written=lambda step, trouble: None,
        found=find_checkpoint(cell),
    )


def stopped_in_order(run: Run, cell: Path, loss: Loss, step: int, **settings: Any) -> None:
    """Train until this step is done, as after SIGTERM."""
    ending = Ending()

    def ask(at: int) -> None:
        if at == step:
            ending.ask()

    with pytest.raises(EndedError), ending.held():
        run(loss, kept(cell, ending=ending), ask, **settings)


def killed(run: Run, cell: Path, loss: Loss, step: int, **settings: Any) -> None:
    """Train with a checkpoint after every step, and end in the midst of this one."""

    def switch(at: int) -> None:
        if at == step:
            raise StoppedError

    with pytest.raises(StoppedError):
        run(loss, kept(cell, every=0), switch, **settings)


def weights(net: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def require_same(one: tuple[Trained, Any], other: tuple[Trained, Any]) -> None:
    """Hold weights, step log and what was spent against each other, bit for bit."""
    ours, theirs = weights(one[1]), weights(other[1])
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert one[0].log.equals(other[0].log)
    assert list(one[0].log.dtypes) == list(other[0].log.dtypes)
    for name in ("status", "steps", "pairs", "tokens", "mismatched_tokens"):
        assert getattr(one[0], name) == getattr(other[0], name)


LOSSES: dict[str, Loss] = {
    "dpo": RESOLVE("dpo", {}),
    "simpo": RESOLVE("simpo", {}),
    "gamma-po": RESOLVE("gamma-po", {}),
    "bco, running": RESOLVE("bco", {"shift": "running"}),
    "tr-dpo, soft": RESOLVE("tr-dpo", {"alpha": 0.3}),
    "tr-dpo, hard": RESOLVE("tr-dpo", {"update": "hard", "every": 2}),
    "sampo": RESOLVE("sampo", {}),  # its state is the generator's alone
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_training_that_was_stopped_and_killed_ends_with_the_weights_of_one_that_was_not(
    loss: Loss, run: Run, tmp_path: Path
) -> None:
    undisturbed = run(loss)
    stopped_in_order(run, tmp_path, loss, 2)
    assert find_checkpoint(tmp_path) == tmp_path / "checkpoint-2"
    killed(run, tmp_path, loss, 5)
    assert find_checkpoint(tmp_path) == tmp_path / "checkpoint-4"
    require_same(run(loss, kept(tmp_path)), undisturbed)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("dpo", {"adapter": "lora"}),
        ("tr-dpo, soft", {"adapter": "lora"}),
        ("tr-dpo, soft", {"adapter": "qlora:r=4"}),
        ("simpo", {"dtype": "bfloat16"}),
        ("gamma-po", {"dtype": "bfloat16"}),
        ("dpo", {"optimizer": "adamw-8bit"}),
        ("gamma-po", {"dtype": "bfloat16", "optimizer": "adamw-bf16-sr"}),
        ("tr-dpo, soft", {"dtype": "bfloat16", "optimizer": "adamw-bf16-sr"}),
    ],
)
def test_so_do_adapters_a_forward_pass_in_bf16_and_optimisers_that_keep_less(
    name: str, settings: dict[str, Any], run: Run, tmp_path: Path
) -> None:
    undisturbed = run(LOSSES[name], **settings)
    stopped_in_order(run, tmp_path, LOSSES[name], 3, **settings)
    require_same(run(LOSSES[name], kept(tmp_path), **settings), undisturbed)


def test_no_pair_is_skipped_or_repeated(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    visited: list[int] = []
    compute_loss = PreferenceTrainer.compute_loss

    def seen(self: PreferenceTrainer, model: Any, inputs: Any, **named: Any) -> Any:
        visited.extend(inputs["pair"].tolist())
        return compute_loss(self, model, inputs, **named)

    monkeypatch.setattr(PreferenceTrainer, "compute_loss", seen)
    stopped_in_order(run, tmp_path, LOSSES["simpo"], 3)
    stopped_in_order(run, tmp_path, LOSSES["simpo"], 4)
    run(LOSSES["simpo"], kept(tmp_path))
    epochs = [np.random.default_rng([1, epoch]).permutation(N_PAIRS) for epoch in range(3)]
    assert visited == np.concatenate(epochs)[: STEPS * BATCH].tolist()


def test_points_along_the_run_are_reached_once_and_keep_what_was_spent_by_then(run: Run, tmp_path: Path) -> None:
    points = (Point(fraction=0.25, steps=2), Point(fraction=0.75, steps=5))
    reached: list[float] = []
    undisturbed = run(LOSSES["dpo"], points=points)
    stopped_in_order(run, tmp_path, LOSSES["dpo"], 3, points=points, keep=reached.append)
    assert reached == [0.25]
    again = run(LOSSES["dpo"], kept(tmp_path), points=points, keep=reached.append)
    assert reached == [0.25, 0.75]
    require_same(again, undisturbed)

    def counts(trained: Trained) -> list[tuple[float, int, int, int]]:
        return [(point.fraction, point.steps, point.pairs, point.tokens) for point in trained.points]

    assert counts(again[0]) == counts(undisturbed[0])
    seconds = [point.seconds for point in again[0].points]
    assert seconds == sorted(seconds)


class Watch:
    """A clock that a test sets."""

    now = 100.0

    def perf_counter(self) -> float:
        return self.now


def test_a_budget_in_seconds_counts_those_of_the_earlier_process_and_none_for_the_checkpoint(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch, ending = Watch(), Ending()
    monkeypatch.setattr("harness.training.step_end.time", watch)
    written = Checkpointing._write_beside

    def slowly(self: Checkpointing, made: Path, mismatched_tokens: int) -> None:
        written(self, made, mismatched_tokens)
        watch.now += 3600

    monkeypatch.setattr(Checkpointing, "_write_beside", slowly)

    def tick(step: int) -> None:
        watch.now += 10
        if step == 3:
            ending.ask()

    with pytest.raises(EndedError), ending.held():
        run(LOSSES["simpo"], kept(tmp_path, ending=ending), tick, seconds=65)
    watch.now += 1e6  # until somebody comes to start it again
    done, _ = run(LOSSES["simpo"], kept(tmp_path), lambda step: tick(0), seconds=65)
    assert (done.steps, done.seconds) == (7, 70.0)
    assert len(done.log) == 7


def test_a_training_shorter_than_the_interval_writes_nothing(run: Run, tmp_path: Path) -> None:
    run(LOSSES["simpo"], kept(tmp_path, every=60))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


def test_one_checkpoint_is_kept_and_what_it_holds_runs_no_code_when_it_is_read(run: Run, tmp_path: Path) -> None:
    killed(run, tmp_path, LOSSES["gamma-po"], 6)
    checkpoint = tmp_path / "checkpoint-5"
    assert [path for path in tmp_path.rglob("*checkpoint-*") if path.is_dir()] == [checkpoint]
    others = {path.name for path in checkpoint.iterdir() if path.suffix not in (".json", ".safetensors", ".parquet")}
    assert others == {"optimizer.pt", "scheduler.pt", "rng_state.pth"}
    with safe_globals():  # numpy's arrays, as `Trainer` reads them
        for name in others:
            torch.load(checkpoint / name, weights_only=True)
    remove_checkpoints(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cell": "qwen--other--0--seed0"}, "it is of another cell"),
        ({"start_fingerprint": "another"}, "it is of another start_fingerprint"),
        ({"tokens_fingerprint": "another"}, "it is of another tokens_fingerprint"),
        ({"board": '{"budget":1}'}, "it is of another board"),
        ({"evaluate_at": (0.5, 1.0)}, "it is of another evaluate_at"),
        ({"code": "edited"}, "it is of another code"),
        ({"versions": {"torch": "1"}}, "it is of another versions"),
    ],
)
def test_another_start_other_data_or_another_version_never_go_on(
    change: dict[str, Any], words: str, stopped: Path
) -> None:
    checkpoint = find_checkpoint(stopped)
    assert checkpoint is not None
    assert why_unusable(checkpoint, ORIGIN) == ""
    assert why_unusable(checkpoint, ORIGIN.model_copy(update=change)) == words


@pytest.fixture(scope="module")
def stopped(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a cell that was stopped after its second step, behind a point."""
    folder = tmp_path_factory.mktemp("stopped")
    training = run.__wrapped__(start, folder)  # type: ignore[attr-defined]

    def keep(fraction: float) -> None:
        (point_folder(folder, fraction) / WEIGHTS).mkdir(parents=True)

    stopped_in_order(training, folder, LOSSES["bco, running"], 2, points=(Point(fraction=0.1, steps=1),), keep=keep)
    return folder


def test_a_bit_that_is_flipped_in_any_file_is_found(stopped: Path) -> None:
    checkpoint = find_checkpoint(stopped)
    assert checkpoint is not None
    names = [path.name for path in checkpoint.iterdir() if path.stat().st_size]
    assert len(names) >= 9
    for name in names:
        path = checkpoint / name
        whole = path.read_bytes()
        at = len(whole) // 2
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert why_unusable(checkpoint, ORIGIN) != "", name
        path.write_bytes(whole)
    assert why_unusable(checkpoint, ORIGIN) == ""


def test_a_checkpoint_behind_a_point_whose_weights_are_gone_is_not_gone_on_from(stopped: Path) -> None:
    checkpoint, folder = find_checkpoint(stopped), point_folder(stopped, 0.1) / WEIGHTS
    assert checkpoint is not None
    folder.rmdir()
    assert why_unusable(checkpoint, ORIGIN) == "the weights at 0.1 of the budget are missing"
    folder.mkdir()


@pytest.mark.parametrize(
    "where", ["harness.training.checkpoints.save_file", "harness.run_folder.checkpoints.file_hash"]
)
def test_a_checkpoint_that_cannot_be_written_costs_no_training_and_leaves_the_earlier_one(
    where: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_in_order(run, tmp_path, LOSSES["simpo"], 2)
    asked, told = kept(tmp_path, every=0), list[tuple[int, str]]()
    asked = Checkpoints(**{**vars(asked), "written": lambda step, trouble: told.append((step, trouble))})

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(where, full)
    again = run(LOSSES["simpo"], asked)
    monkeypatch.undo()
    assert [step for step, _ in told] == [3]  # told of once
    assert told[0][1].startswith(f"the disk of {tmp_path} is full")
    assert find_checkpoint(tmp_path) == tmp_path / "checkpoint-2"
    require_same(again, run(LOSSES["simpo"]))
