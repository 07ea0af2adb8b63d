"""Checkpoints inside a training, from which it goes on after a stop as if there had been none: bit for bit on a CPU.

Weights, optimiser, schedule and random numbers are kept by `transformers.Trainer`'s own means; beside them here: the
state of the loss, a reference that moves, the step log, what was spent. Which pairs a step visits is the plan's.
"""

from __future__ import annotations

import json
import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file, save_file

from harness.api import HarnessError
from harness.import_guard import guard_imports
from harness.planning.ending import EndedError, Ending
from harness.run_folder.checkpoints import Origin, keep_checkpoint
from harness.run_folder.full_disk import print_trouble, told
from harness.run_folder.paths import TRAIN_LOG
from harness.training.step_end import Points, Reached

guard_imports()  # callbacks do not import beside a torchvision that does not load
from transformers import TrainerCallback  # noqa: E402  # see above
from transformers.trainer import TRAINING_ARGS_NAME  # noqa: E402  # see above

if TYPE_CHECKING:
    from torch import Tensor

    from harness.training.trainer import PreferenceTrainer

PROGRESS, LOSS_STATE, REFERENCE = "progress.json", "loss.safetensors", "reference.safetensors"


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """Where the checkpoints of a training go, and when they are written."""

    cell: Path
    """The folder of its cell."""
    origin: Origin
    every: float
    """Seconds between two of them."""
    ending: Ending
    """When it is asked for, the training is kept at the end of the step, and ends."""
    written: Callable[[int, str], None]
    """Called with the step and what went wrong; "" where it is written."""
    found: Path | None = None
    """The checkpoint to go on from; None: the training begins."""


class Progress(BaseModel):
    """What was spent by a checkpoint, and the random numbers of the loss."""

    model_config = ConfigDict(frozen=True)

    pairs: int
    tokens: int
    mismatched_tokens: int
    seconds: float
    peak_memory_bytes: int
    points: tuple[Reached, ...]
    loss_rng: str
    """The state of its generator, as JSON."""
    micro_pairs: int | None = None
    """Pairs at once, where memory did not hold as many as asked."""


class Checkpointing(TrainerCallback):
    """Has a training kept now and then, and when it is asked to end; takes up a training that was kept."""

    def __init__(self, trainer: PreferenceTrainer, points: Points, asked: Checkpoints) -> None:
        self.trainer, self.points, self.asked = trainer, points, asked
        self._last = time.monotonic()
        self._trouble = self._ends = False
        self._behind = asked.found

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Go on with what `Trainer` does not know of; it has loaded the rest by now."""
        if self.asked.found is not None:
            self._take_up(self.asked.found)
        self._last = time.monotonic()

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Go on with the random numbers of the checkpoint: making the data loader has drawn one since `Trainer` did."""
        if self._behind is not None:
            self.trainer._load_rng_state(str(self._behind))
            self._behind = None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Have the training kept where it is time; after the last step its weights are what is kept."""
        first = self.trainer.ranks.first  # where a signal came, and its clock, decide for all processes
        self._ends = bool(first(self.asked.ending.asked))
        due = self._ends or first(time.monotonic() - self._last) >= self.asked.every
        if due and not control.should_training_stop:
            control.should_save = True
        return control

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End where that is asked for."""
        if self._ends:
            raise EndedError

    def write(self, save: Callable[[], None]) -> None:
        """Write a checkpoint, whole or not at all. `save()` writes what `Trainer` keeps.

        Where it cannot be written the training goes on: it would lose more by ending.
        """
        step, ranks = self.trainer.state.global_step, self.trainer.ranks
        made = Path(self.trainer.args.output_dir) / f"checkpoint-{step}"
        mismatched = self.trainer.mismatched_tokens()
        with self.trainer.meter.apart():
            trouble = self._tried(step, save)
            [failed] = ranks.total(bool(trouble))  # by now every process has written what is its own
            if failed and not trouble:
                trouble = "another process could not write its part; its log says why"
            if ranks.index == 0:
                trouble = trouble or self._tried(step, partial(self._keep, made, mismatched))
                if trouble:
                    shutil.rmtree(made, ignore_errors=True)
        self._last = time.monotonic()
        if not (trouble and self._trouble):  # a disk that is full is told of once
            self.asked.written(step, trouble)
        self._trouble = bool(trouble)

    def _tried(self, step: int, work: Callable[[], None]) -> str:
        """Do a part of writing a checkpoint; return what went wrong."""
        try:
            with told(self.asked.cell, f"a checkpoint at step {step}"):
                work()
        except Exception as error:
            print_trouble(traceback.format_exc())
            return str(error) if isinstance(error, HarnessError) else f"{type(error).__name__}: {error}"
        return ""

    def _keep(self, made: Path, mismatched_tokens: int) -> None:
        self._write_beside(made, mismatched_tokens)
        reached = tuple(point.fraction for point in self.points.reached)
        keep_checkpoint(self.asked.cell, made, self.asked.origin, reached)

    def _write_beside(self, made: Path, mismatched_tokens: int) -> None:
        """Write what `Trainer` does not know of, and leave out its arguments: a pickle that nobody reads."""
        trainer = self.trainer
        (made / TRAINING_ARGS_NAME).unlink(missing_ok=True)
        pd.DataFrame(trainer.step_log).to_parquet(made / TRAIN_LOG, index=False)
        state = {name: value.contiguous().clone() for name, value in trainer.loss_of_step.state.items()}
        save_file(state, made / LOSS_STATE)  # it refuses tensors that share memory, as a loss's may
        if trainer.loss.moving_reference is not None:
            save_file(_moving(trainer), made / REFERENCE)
        progress = Progress(
            pairs=trainer.visited_pairs,
            tokens=trainer.visited_tokens,
            mismatched_tokens=mismatched_tokens,
            seconds=trainer.meter.seconds(),
            peak_memory_bytes=trainer.meter.peak(),
            points=tuple(self.points.reached),
            loss_rng=json.dumps(trainer.loss_of_step.rng.bit_generator.state),
            micro_pairs=trainer.micro.fewer,
        )
        (made / PROGRESS).write_text(progress.model_dump_json(), encoding="utf-8")

    def _take_up(self, found: Path) -> None:
        trainer = self.trainer
        progress = Progress.model_validate_json((found / PROGRESS).read_bytes())
        trainer.visited_pairs, trainer.visited_tokens = progress.pairs, progress.tokens
        trainer.inputs.mismatched_tokens = progress.mismatched_tokens if trainer.ranks.index == 0 else 0
        rows = pd.read_parquet(found / TRAIN_LOG).to_dict("records")
        trainer.step_log = [{str(name): value for name, value in row.items()} for row in rows]
        trainer.loss_of_step.state = load_file(found / LOSS_STATE)
        trainer.loss_of_step.rng.bit_generator.state = json.loads(progress.loss_rng)
        if trainer.loss.moving_reference is not None:
            kept = load_file(found / REFERENCE)
            for name, tensor in _moving(trainer).items():
                tensor.copy_(kept[name])
        trainer.micro.go_on(progress.micro_pairs)
        self.points.go_on(progress.points)
        trainer.meter.go_on(progress.seconds, progress.peak_memory_bytes)


def _moving(trainer: PreferenceTrainer) -> dict[str, Tensor]:
    """Return the weights of the reference model that move: those that the policy trains."""
    frozen, policy = trainer.data.frozen, trainer.model
    assert policy is not None
    both = zip(frozen.named_parameters(), policy.parameters(), strict=True)
    return {name: theirs.data for (name, theirs), ours in both if ours.requires_grad}
