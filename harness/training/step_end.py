"""What happens at the end of a step: it is reported, a spent budget ends the training, weights are kept at points.

Keeping weights changes no bit of the training: it draws no random number, and the clock stands still meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from harness.api import MovingReference
from harness.planning.budget import Point
from harness.torchvision_guard import hide_broken_torchvision
from harness.training.peak_memory import peak_memory, reset_peak_memory

hide_broken_torchvision()  # callbacks do not import beside a torchvision that does not load
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


class Clock:
    """Seconds since it was made; `stood` of them do not count."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self.stood = 0.0

    def seconds(self) -> float:
        """Return the seconds that count."""
        return time.perf_counter() - self._began - self.stood


class Budget(TrainerCallback):
    """Reports each step, and ends training when a budget in seconds is used up."""

    def __init__(self, trainer: PreferenceTrainer, on_step: Callable[[int, float], None]) -> None:
        self.trainer, self.on_step = trainer, on_step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
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
                theirs.lerp_(ours, self.moving.share)


class Points(TrainerCallback):
    """Has the weights kept at each point of the plan."""

    def __init__(self, trainer: PreferenceTrainer, keep: Keep) -> None:
        self.trainer, self.keep = trainer, keep
        self.waiting = list(trainer.plan.points)
        self.reached: list[Reached] = []
        self.peak = 0
        """Highest memory before the last point, bytes: what writing the weights takes is none of the training's."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep the weights where this step reaches a point."""
        due = [point for point in self.waiting if self._is_due(point, state.global_step)]
        if not due:
            return
        clock = self.trainer.clock
        at, began = clock.seconds(), time.perf_counter()
        self.peak = max(self.peak, peak_memory())
        for point in due:
            self.reached.append(self.now(point.fraction, at))
            self.keep(point.fraction)
        self.waiting = [point for point in self.waiting if point not in due]
        reset_peak_memory()
        clock.stood += time.perf_counter() - began

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
            mismatched_tokens=trainer.inputs.mismatched_tokens,
            seconds=seconds,
        )
