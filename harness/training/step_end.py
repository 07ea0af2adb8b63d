"""What happens at the end of a step: it is reported, a spent budget ends the training, weights are kept at points.

Keeping weights changes no bit of the training: it draws no random number, and the meter stands still meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.tensor import DTensor

from harness.api import MovingReference
from harness.import_guard import guard_imports
from harness.planning.budget import Point
from harness.training.peak_memory import peak_memory, reset_peak_memory

guard_imports()  # callbacks do not import beside a torchvision that does not load
from transformers import TrainerCallback  # noqa: E402  # see above

if TYPE_CHECKING:
    from harness.training.trainer import PreferenceTrainer

Keep = Callable[[float], None]
"""Called with the fraction of a point, to write the weights as they are."""


def keep_nothing(_fraction: float) -> None:
    """Keep no weights."""


@dataclass(frozen=True, kw_only=True)
class Reached:
    """What was spent when a point was reached."""

    fraction: float
    """Of the budget; 1 is the end."""
    steps: int
    pairs: int
    tokens: int
    mismatched_tokens: int
    seconds: float
    """Training alone, as in `Trained`."""


class Meter:
    """Seconds and highest memory of a training alone: what is done `apart` counts in neither."""

    def __init__(self) -> None:
        self.go_on(0.0, 0)

    def go_on(self, seconds: float, peak: int) -> None:
        """Begin anew behind what was measured earlier."""
        self._began = time.perf_counter()
        self._before, self._stood, self._peak = seconds, 0.0, peak
        reset_peak_memory()

    def seconds(self) -> float:
        """Return the seconds that count."""
        return self._before + time.perf_counter() - self._began - self._stood

    def peak(self) -> int:
        """Return the highest memory that counts, in bytes."""
        return max(self._peak, peak_memory())

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Do something that is none of the training, such as writing its weights."""
        began, self._peak = time.perf_counter(), self.peak()
        try:
            yield
        finally:
            reset_peak_memory()
            self._stood += time.perf_counter() - began


class Budget(TrainerCallback):
    """Reports each step, and ends training when a budget in seconds is used up."""

    def __init__(self, trainer: PreferenceTrainer, on_step: Callable[[int, float], None]) -> None:
        self.trainer, self.on_step = trainer, on_step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        self.trainer.add_up()
        self.on_step(state.global_step, self.trainer.step_loss())
        if self.trainer.spent():
            control.should_training_stop = True
        return control


class Follow(TrainerCallback):
    """Moves the reference model towards the policy, for a loss whose reference moves."""

    def __init__(self, trainer: PreferenceTrainer, moving: MovingReference) -> None:
        self.trainer, self.moving = trainer, moving

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Mix the policy's weights into the reference's where this step is one of those."""
        if state.global_step % self.moving.every:
            return
        frozen, policy = self.trainer.data.frozen, self.trainer.model
        with torch.no_grad():
            for theirs, ours in zip(frozen.parameters(), policy.parameters(), strict=True):
                if ours.requires_grad:  # the others, which may be in 4 bits, are the same in both
                    theirs.lerp_(ours.full_tensor() if isinstance(ours, DTensor) else ours, self.moving.share)


class Points(TrainerCallback):
    """Has the weights kept at each point of the plan."""

    def __init__(self, trainer: PreferenceTrainer, keep: Keep) -> None:
        self.trainer, self.keep = trainer, keep
        self.waiting = list(trainer.plan.points)
        self.reached: list[Reached] = []

    def go_on(self, reached: Sequence[Reached]) -> None:
        """Take these points for reached."""
        self.reached = list(reached)
        known = {point.fraction for point in reached}
        self.waiting = [point for point in self.waiting if point.fraction not in known]

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep the weights where this step reaches a point."""
        due = [point for point in self.waiting if self._is_due(point, state.global_step)]
        if not due:
            return
        at = self.trainer.meter.seconds()
        with self.trainer.meter.apart():
            for point in due:
                self.reached.append(self.now(point.fraction, at))
                self.keep(point.fraction)
        self.waiting = [point for point in self.waiting if point not in due]

    def _is_due(self, point: Point, step: int) -> bool:
        if point.seconds is None:
            return step == point.steps
        return self.trainer.spent_seconds() >= point.seconds

    def now(self, fraction: float, seconds: float) -> Reached:
        """Return what is spent now."""
        trainer = self.trainer
        return Reached(
            fraction=fraction,
            steps=trainer.state.global_step,
            pairs=trainer.visited_pairs,
            tokens=trainer.visited_tokens,
            mismatched_tokens=trainer.mismatched_tokens(),
            seconds=seconds,
        )
