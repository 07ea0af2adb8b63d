"""Training: one `transformers.Trainer` subclass for every loss.

What it adds to Trainer is the step: the log-probs that a loss declares, its value normalised by the pairs of the
optimiser step, the extra pass of batch-coupled losses, the order of pairs, and the stop when the budget is spent.

Legend of shapes: B pairs of a micro-batch, T response tokens (padded). It holds 2B responses: chosen, then rejected.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from harness.api import Loss, PairLogps
from harness.import_guard import guard_imports
from harness.planning.budget import Plan
from harness.run_folder.checkpoints import step_of
from harness.training.loss_inputs import LossInputs, TrainingData, as_response
from harness.training.micro_batches import MicroBatches, Smaller, say_nothing
from harness.training.optimizers import own_optimizer
from harness.training.own_rewards import reward_of
from harness.training.ranks import ALONE, Ranks, open_to
from harness.training.recipe import Recipe
from harness.training.step_loss import Share, StepLoss
from harness.training.visits import Visits

guard_imports()  # Trainer does not import beside a torchvision that does not load
from transformers import PrinterCallback, Trainer  # noqa: E402  # see above

from harness.training.arguments import schedule, training_arguments  # noqa: E402  # as above
from harness.training.checkpoints import Checkpointing, Checkpoints  # noqa: E402  # as above
from harness.training.step_end import Budget, Follow, Keep, Meter, Points, Reached, keep_nothing  # noqa: E402  # as above


class DivergedError(Exception):
    """The loss or its gradient is not finite."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The outcome of one training run."""

    status: Literal["ok", "diverged"]
    reason: str
    steps: int
    pairs: int
    tokens: int
    """Prompt + response tokens of both sides of every pair visited."""
    mismatched_tokens: int
    """Prompt + response tokens of the mismatched responses that were evaluated."""
    seconds: float
    """Training alone; the reference pass is added where the record is written."""
    peak_memory_bytes: int
    log: pd.DataFrame
    """One row per optimiser step, with TRL's metric names."""
    points: tuple[Reached, ...] = ()
    """Those of the plan, and the end."""
    micro_pairs: int | None = None
    """Pairs at once in the end, where memory did not hold as many as asked."""


def train(
    model: Any,
    loss: Loss,
    data: TrainingData,
    plan: Plan,
    recipe: Recipe,
    scratch: Path,
    on_step: Callable[[int, float], None],
    keep: Keep = keep_nothing,
    checkpoints: Checkpoints | None = None,
    ranks: Ranks = ALONE,
    smaller: Smaller = say_nothing,
) -> Trained:
    """Train `model` in place with `loss` until the plan is spent; `on_step(step, loss)` is called after every step.

    `keep(fraction)` is called at each point of the plan, `smaller(step, pairs)` where memory is out and fewer pairs go
    through the model at once. `ranks`: the processes that do so together, each with a model of its own. Raises
    `EndedError` where the training was asked to end and is kept as it is.
    """
    trainer = PreferenceTrainer(
        model=model, loss=loss, data=data, plan=plan, recipe=recipe, scratch=scratch, on_step=on_step, meter=Meter(),
        ranks=ranks, smaller=smaller,
    )  # fmt: skip
    points = Points(trainer, keep)
    trainer.add_callback(points)
    found = trainer.keep_checkpoints(points, checkpoints) if checkpoints else None
    reason = ""
    try:
        with open_to(model, ranks):
            trainer.train(resume_from_checkpoint=found)
    except DivergedError as error:
        reason = str(error)
    end = points.now(1.0, trainer.meter.seconds())
    return Trained(
        status="diverged" if reason else "ok",
        reason=reason,
        steps=end.steps,
        pairs=end.pairs,
        tokens=end.tokens,
        mismatched_tokens=end.mismatched_tokens,
        seconds=end.seconds,
        peak_memory_bytes=int(max(peak for [peak] in ranks.each([trainer.meter.peak()]))),
        log=pd.DataFrame(trainer.step_log),
        points=(*points.reached, end),
        micro_pairs=trainer.micro.fewer,
    )


class PreferenceTrainer(Trainer):
    """Trainer over preference pairs. The step's loss is the sum over its pairs divided by their number, always."""

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        *,
        model: Any,
        loss: Loss,
        data: TrainingData,
        plan: Plan,
        recipe: Recipe,
        scratch: Path,
        on_step: Callable[[int, float], None],
        meter: Meter,
        ranks: Ranks = ALONE,
        smaller: Smaller = say_nothing,
    ) -> None:
        self.loss, self.data, self.plan, self.recipe, self.meter, self.ranks = loss, data, plan, recipe, meter, ranks
        self.visited_pairs = self.visited_tokens = 0
        self.step_log: list[dict[str, float]] = []
        self.sums: dict[str, float] = {}
        self.micro = MicroBatches(self, recipe.micro_pairs, smaller)
        self.inputs = LossInputs(loss, data, recipe.dtype, plain=recipe.plain, ranks=ranks)
        self.loss_of_step = StepLoss(loss, recipe.seed)
        self.shares: deque[Share] = deque()
        super().__init__(
            model=model,
            args=training_arguments(plan, recipe, scratch, ranks),
            train_dataset=Visits(plan, recipe.micro_pairs, ranks),
            callbacks=[Budget(self, on_step)],
            optimizer_cls_and_kwargs=own_optimizer(recipe.optimizer, recipe.learning_rate),
        )
        self.remove_callback(PrinterCallback)
        if loss.moving_reference is not None:
            self.add_callback(Follow(self, loss.moving_reference))

    # -- checkpoints -------------------------------------------------------------------------------------------
    def keep_checkpoints(self, points: Points, asked: Checkpoints) -> str | None:
        """Keep the training as it is asked; return the checkpoint to go on from, where there is one."""
        self._checkpointing = Checkpointing(self, points, asked)
        self.add_callback(self._checkpointing)
        if asked.found is None:
            return None
        self.train_dataset.done = step_of(asked.found)
        return str(asked.found)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self._checkpointing.write(partial(super()._save_checkpoint, model, trial))

    # -- the order of pairs ------------------------------------------------------------------------------------
    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return micro-batches in the plan's order."""
        return DataLoader(self.train_dataset, batch_size=None, collate_fn=self.inputs.collated)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Tensor]], int]:
        """Return this process's micro-batches of one optimiser step, and the step's number of pairs."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.micro.begin(batches)
        return batches, self.ranks.count * sum(len(batch["pair"]) for batch in batches)

    # -- the step ----------------------------------------------------------------------------------------------
    def training_step(self, model: Any, inputs: dict[str, Tensor], num_items_in_batch: Any = None) -> Tensor:
        """Pass a micro-batch forward and backward; return its share of the step's loss, detached."""
        return self.micro.run(
            lambda part: super(PreferenceTrainer, self).training_step(model, part, num_items_in_batch)
        )

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: int | None = None
    ) -> Tensor:
        """Return the micro-batch's share of the step's loss: the sum over its pairs / the pairs of the step."""
        assert num_items_in_batch is not None
        share = self.shares.popleft() if self.shares else None
        pairs = self.inputs.pair_logps(model, inputs, for_loss=share is None)
        per_pair = self.loss_of_step.values(pairs) if share is None else share.values
        loss = per_pair.sum() / num_items_in_batch
        value, count, tokens = self.ranks.total(float(loss.detach()), len(per_pair), int((inputs["row_NS"] >= 0).sum()))
        if not math.isfinite(value):
            raise DivergedError(f"the loss is {value} at step {self.state.global_step + 1}")
        self.visited_pairs += int(count)
        self.visited_tokens += int(tokens)
        self._account(pairs, per_pair.detach())
        if share is not None:
            surrogate = share.surrogate(pairs)  # the value is known already: only its gradient is passed on
            loss = surrogate - surrogate.detach() + loss
        return loss * self.ranks.count  # whoever gathers gradients takes their mean over the processes

    def couple(self, batches: list[dict[str, Tensor]]) -> None:
        """Find the gradient of a batch-coupled loss with respect to every token log-prob of the step."""
        with torch.no_grad(), self.compute_loss_context_manager():
            parts = [
                self.inputs.pair_logps(self.model_wrapped, self._prepare_inputs(part), for_loss=True)
                for part in batches
            ]
        self.shares.extend(self.ranks.own(self.loss_of_step.shares(self.ranks.gathered(parts))))

    # -- optimiser, schedule, budget ---------------------------------------------------------------------------
    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Return a schedule that is a function of the fraction of the budget spent."""
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, self._schedule)
        return self.lr_scheduler

    def _schedule(self, step: int) -> float:
        if self.plan.steps is not None:
            return schedule((step + 0.5) / self.plan.steps)
        assert self.plan.seconds is not None
        return schedule(self.spent_seconds() / self.plan.seconds)

    def spent_seconds(self) -> float:
        """Return the seconds of training and of the reference pass so far, by the clock of the first process."""
        return self.ranks.first(self.meter.seconds() + (self.data.reference.seconds if self.data.reference else 0.0))

    def mismatched_tokens(self) -> int:
        """Return the prompt + response tokens of the mismatched responses evaluated so far."""
        return int(self.ranks.total(self.inputs.mismatched_tokens)[0])

    def spent(self) -> bool:
        """Return whether a budget in seconds is used up."""
        return self.plan.seconds is not None and self.spent_seconds() >= self.plan.seconds

    def floating_point_ops(self, inputs: Any) -> int:
        """Return 0: FLOPs are counted by `harness.planning.budget`, alike for every loss."""
        return 0

    # -- the step log ------------------------------------------------------------------------------------------
    def _account(self, pairs: PairLogps, values: Tensor) -> None:
        chosen = reward_of(self.loss, as_response(self.loss, pairs.chosen, pairs.ref_chosen))
        rejected = reward_of(self.loss, as_response(self.loss, pairs.rejected, pairs.ref_rejected))
        wins = (chosen > rejected).double() + 0.5 * (chosen == rejected).double()
        for name, value in {
            "pairs": torch.ones_like(wins),
            "rewards/chosen": chosen,
            "rewards/rejected": rejected,
            "rewards/margins": chosen - rejected,
            "rewards/accuracies": wins,
            "logps/chosen": pairs.chosen.sum().detach(),
            "logps/rejected": pairs.rejected.sum().detach(),
            "loss": values,
        }.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value.double().sum())

    def add_up(self) -> None:
        """Make the sums of the step just done those of all processes."""
        self.sums = dict(zip(self.sums, self.ranks.total(*self.sums.values()), strict=True))

    def step_loss(self) -> float:
        """Return the mean loss of the pairs visited since the last row of the log: those of the step just done."""
        return self.sums["loss"] / self.sums["pairs"]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Keep one row per optimiser step."""
        if "loss" not in logs:  # Trainer's closing summary
            return
        if not math.isfinite(logs.get("grad_norm", 0.0)):
            raise DivergedError(f"the gradient norm is {logs['grad_norm']} at step {self.state.global_step}")
        count = self.sums.pop("pairs")
        means = {name: total / count for name, total in self.sums.items()}
        self.sums = {}
        row = {"step": self.state.global_step, **means}
        row |= {name: float(logs[name]) for name in ("grad_norm", "learning_rate") if name in logs}
        self.step_log.append(row)
        self.callback_handler.on_log(self.args, self.state, self.control, row)
