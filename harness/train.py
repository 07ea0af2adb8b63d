"""Training: one `transformers.Trainer` subclass for every loss.

What it adds to Trainer is the step: the loss of a batch of pairs, normalised by the pairs of the optimiser step, the
extra pass of batch-coupled losses, the order of pairs, and the stop when the budget is spent.

Legend of shapes: B pairs of a micro-batch, T response tokens (padded). It holds 2B responses: chosen, then rejected.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from harness.api import HarnessError, Logps, Loss, Pair, PairLogps, ResponseLogps
from harness.budget import Plan
from harness.data.collate import Batch, collate
from harness.data.tokens import TokenPair
from harness.logps import response_logps
from harness.memory import peak_memory, reset_peak_memory
from harness.reference import Reference
from harness.torchvision_guard import hide_broken_torchvision

hide_broken_torchvision()  # Trainer does not import beside a torchvision that does not load
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments  # noqa: E402  # see above

WARMUP = 0.1
"""Share of the budget over which the learning rate rises; then it falls along a cosine (SimPO's recipe)."""
MAX_GRAD_NORM = 1.0


class DivergedError(Exception):
    """The loss or its gradient is not finite."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What every loss shares; nothing here can be set for one loss alone."""

    learning_rate: float
    micro_pairs: int
    """Pairs of one forward and backward pass; a whole fraction of the pairs of a step."""
    seed: int
    dtype: str
    """`float32` or `bfloat16`: of the forward pass, by autocast; log-probs, losses and the optimiser are fp32."""


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The training pairs: as text, as ids, with what the loss asked for beside them."""

    pairs: Sequence[Pair]
    tokens: Sequence[TokenPair]
    reference: Reference | None
    columns: Mapping[str, np.ndarray]
    """(pairs,) float64 each; NaN on pairs that the budget does not visit."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What came of a training run."""

    status: str
    """`ok` or `diverged`."""
    reason: str
    steps: int
    pairs: int
    tokens: int
    """Prompt + response tokens of both sides of every pair visited."""
    seconds: float
    """Training alone; the reference pass is added where the record is written."""
    peak_memory_bytes: int
    log: pd.DataFrame
    """One row an optimiser step, TRL's metric names."""


def train(
    model: Any,
    loss: Loss,
    data: TrainingData,
    plan: Plan,
    recipe: Recipe,
    scratch: Path,
    on_step: Callable[[int], None],
) -> Trained:
    """Train `model` in place with `loss` until the plan is spent; `on_step(step)` is called after every step."""
    if loss.needs_reference_tokens or loss.needs_kl:
        raise HarnessError(
            f"loss '{loss.name}' declares needs_reference_tokens or needs_kl, which this trainer does not supply yet; "
            "leave it out"
        )
    reset_peak_memory()
    began = time.perf_counter()
    trainer = PreferenceTrainer(
        model=model, loss=loss, data=data, plan=plan, recipe=recipe, scratch=scratch, on_step=on_step
    )
    status, reason = "ok", ""
    try:
        trainer.train()
    except DivergedError as error:
        status, reason = "diverged", str(error)
    return Trained(
        status=status,
        reason=reason,
        steps=trainer.state.global_step,
        pairs=trainer.visited_pairs,
        tokens=trainer.visited_tokens,
        seconds=time.perf_counter() - began,
        peak_memory_bytes=peak_memory(),
        log=pd.DataFrame(trainer.step_log),
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
        on_step: Callable[[int], None],
    ) -> None:
        self.loss, self.data, self.plan, self.recipe = loss, data, plan, recipe
        self.visited_pairs = self.visited_tokens = 0
        self.step_log: list[dict[str, float]] = []
        self._sums: dict[str, float] = {}
        self._coupled: deque[tuple[Tensor, Tensor, Tensor]] = deque()
        self._began = time.perf_counter() - (data.reference.seconds if data.reference else 0.0)
        super().__init__(
            model=model,
            args=_arguments(plan, recipe, scratch),
            train_dataset=_Visits(plan, recipe.micro_pairs),
            callbacks=[_Budget(self, on_step)],
        )
        self.remove_callback(PrinterCallback)

    # -- the order of pairs ------------------------------------------------------------------------------------
    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return micro-batches in the plan's order."""
        return DataLoader(self.train_dataset, batch_size=None, collate_fn=self._collate)

    def _collate(self, indices: Any) -> dict[str, Tensor]:
        pairs = [self.data.tokens[i] for i in indices]
        batch = collate([(pair.prompt_ids, (pair.chosen_ids, pair.rejected_ids)) for pair in pairs])
        return {"pair": torch.from_numpy(indices), **{name: getattr(batch, name) for name in Batch.names()}}

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Tensor]], int]:
        """Return the micro-batches of one optimiser step and its number of pairs."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self.loss.batch_coupled and len(batches) > 1:
            self._couple([self._prepare_inputs(batch) for batch in batches])
        return batches, sum(len(batch["pair"]) for batch in batches)

    # -- the step ----------------------------------------------------------------------------------------------
    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: int | None = None
    ) -> Tensor:
        """Return the micro-batch's share of the step's loss: the sum over its pairs / the pairs of the step."""
        assert num_items_in_batch is not None
        pairs = self._pair_logps(model, inputs)
        if self._coupled:  # values and gradients were found over the whole step: pass the gradients on
            per_pair, grad_chosen, grad_rejected = self._coupled.popleft()
            surrogate = (pairs.chosen.token * grad_chosen).sum() + (pairs.rejected.token * grad_rejected).sum()
            loss = surrogate - surrogate.detach() + per_pair.sum() / num_items_in_batch
        else:
            per_pair = self._values(pairs)
            loss = per_pair.sum() / num_items_in_batch
        if not torch.isfinite(loss):
            raise DivergedError(f"the loss is {loss.item()} at step {self.state.global_step + 1}")
        self._account(inputs, pairs, per_pair.detach())
        return loss

    def _values(self, pairs: PairLogps) -> Tensor:
        values = self.loss(pairs)
        expected = pairs.chosen.token.shape[:1]
        if values.shape != expected:
            raise HarnessError(
                f"loss '{self.loss.name}' gave shape {tuple(values.shape)}, expected one value a pair {tuple(expected)}"
            )
        return values

    def _couple(self, batches: list[dict[str, Tensor]]) -> None:
        """Find the gradient of a batch-coupled loss with respect to every token log-prob of the step."""
        with torch.no_grad(), self.compute_loss_context_manager():
            parts = [self._pair_logps(self.model, batch) for batch in batches]
        whole = _join(parts)
        whole.chosen.token.requires_grad_(True)
        whole.rejected.token.requires_grad_(True)
        values = self._values(whole)
        grad_chosen, grad_rejected = torch.autograd.grad(values.mean(), [whole.chosen.token, whole.rejected.token])
        start = 0
        for part in parts:
            rows = slice(start, start + len(part.chosen.token))
            start = rows.stop
            self._coupled.append(
                (
                    values[rows].detach(),
                    grad_chosen[rows, : part.chosen.token.shape[1]],
                    grad_rejected[rows, : part.rejected.token.shape[1]],
                )
            )

    def _pair_logps(self, model: Any, inputs: dict[str, Tensor]) -> PairLogps:
        batch = Batch(**{name: inputs[name] for name in Batch.names()})
        with torch.autocast(batch.ids_L.device.type, torch.bfloat16, enabled=self.recipe.dtype == "bfloat16"):
            both = response_logps(model, batch, log_sum_sq=self.loss.needs_log_sum_sq)
        indices = inputs["pair"].cpu().numpy()
        count = len(indices)
        device = both.token.device

        def column(values: np.ndarray) -> Tensor:
            return torch.as_tensor(values[indices], dtype=both.token.dtype, device=device)

        reference = self.data.reference if self.loss.needs_reference else None
        return PairLogps(
            chosen=_rows(both, slice(0, count)),
            rejected=_rows(both, slice(count, 2 * count)),
            ref_chosen=column(reference.chosen) if reference else None,
            ref_rejected=column(reference.rejected) if reference else None,
            columns={name: column(values) for name, values in self.data.columns.items()},
        )

    # -- optimiser, schedule, budget ---------------------------------------------------------------------------
    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Return a schedule that is a function of the fraction of the budget spent."""
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, self._schedule)
        return self.lr_scheduler

    def _schedule(self, step: int) -> float:
        if self.plan.steps is not None:
            return schedule((step + 0.5) / self.plan.steps)
        assert self.plan.seconds is not None
        return schedule((time.perf_counter() - self._began) / self.plan.seconds)

    def spent(self) -> bool:
        """Return whether a budget in seconds is used up."""
        return self.plan.seconds is not None and time.perf_counter() - self._began >= self.plan.seconds

    def floating_point_ops(self, inputs: Any) -> int:
        """Return 0: FLOPs are counted by `harness.budget`, alike for every loss."""
        return 0

    # -- the step log ------------------------------------------------------------------------------------------
    def _account(self, inputs: dict[str, Tensor], pairs: PairLogps, values: Tensor) -> None:
        self.visited_pairs += len(values)
        self.visited_tokens += int((inputs["row_NS"] >= 0).sum())
        with torch.no_grad():
            chosen = self.loss.reward(_response(pairs.chosen, pairs.ref_chosen)).double()
            rejected = self.loss.reward(_response(pairs.rejected, pairs.ref_rejected)).double()
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
            self._sums[name] = self._sums.get(name, 0.0) + float(value.double().sum())

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Keep one row an optimiser step."""
        if "loss" not in logs:  # Trainer's closing summary
            return
        if not math.isfinite(logs.get("grad_norm", 0.0)):
            raise DivergedError(f"the gradient norm is {logs['grad_norm']} at step {self.state.global_step}")
        count = self._sums.pop("pairs")
        means = {name: total / count for name, total in self._sums.items()}
        self._sums = {}
        row = {"step": self.state.global_step, **means}
        row |= {name: float(logs[name]) for name in ("grad_norm", "learning_rate") if name in logs}
        self.step_log.append(row)


class _Visits(IterableDataset[np.ndarray]):
    """The indices of each micro-batch, in the plan's order."""

    def __init__(self, plan: Plan, micro_pairs: int) -> None:
        self.plan, self.micro_pairs = plan, micro_pairs

    def __iter__(self) -> Iterator[np.ndarray]:
        for step in self.plan.batches():
            yield from np.split(step, len(step) // self.micro_pairs)


class _Budget(TrainerCallback):
    """Reports each step and stops a budget in seconds."""

    def __init__(self, trainer: PreferenceTrainer, on_step: Callable[[int], None]) -> None:
        self.trainer, self.on_step = trainer, on_step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        self.on_step(state.global_step)
        if self.trainer.spent():
            control.should_training_stop = True
        return control


def schedule(fraction: float) -> float:
    """Return the factor on the learning rate at this fraction of the budget: linear warm-up, then a cosine to 0."""
    if fraction < WARMUP:
        return fraction / WARMUP
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (fraction - WARMUP) / (1 - WARMUP))))


def _arguments(plan: Plan, recipe: Recipe, scratch: Path) -> TrainingArguments:
    if plan.batch_pairs % recipe.micro_pairs:
        raise HarnessError(
            f"got --micro-pairs {recipe.micro_pairs}, expected a divisor of the {plan.batch_pairs} pairs of a step"
        )
    arguments = TrainingArguments(
        output_dir=str(scratch),
        max_steps=plan.steps if plan.steps is not None else 10**9,
        per_device_train_batch_size=recipe.micro_pairs,
        gradient_accumulation_steps=plan.batch_pairs // recipe.micro_pairs,
        learning_rate=recipe.learning_rate,
        weight_decay=0.0,
        max_grad_norm=MAX_GRAD_NORM,
        optim="adamw_torch",
        seed=recipe.seed,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=False,
    )
    arguments._n_gpu = min(1, arguments.n_gpu)  # one device a worker; Trainer would wrap DataParallel
    return arguments


def _rows(logps: Logps, rows: slice) -> Logps:
    width = max(1, int(logps.mask[rows].sum(-1).max()))
    square = None if logps.log_sum_sq is None else logps.log_sum_sq[rows, :width]
    return Logps(token=logps.token[rows, :width], mask=logps.mask[rows, :width], log_sum_sq=square)


def _response(logps: Logps, reference: Tensor | None) -> ResponseLogps:
    return ResponseLogps(sum=logps.sum().detach(), length=logps.length(), ref_sum=reference)


def _join(parts: Sequence[PairLogps]) -> PairLogps:
    def side(logps: Sequence[Logps]) -> Logps:
        width = max(part.token.shape[1] for part in logps)

        def pad(values: Tensor) -> Tensor:
            return torch.nn.functional.pad(values, (0, width - values.shape[1]))

        squares = [pad(part.log_sum_sq) for part in logps if part.log_sum_sq is not None]
        return Logps(
            token=torch.cat([pad(part.token) for part in logps]),
            mask=torch.cat([pad(part.mask) for part in logps]),
            log_sum_sq=torch.cat(squares) if squares else None,
        )

    def reference(values: Sequence[Tensor | None]) -> Tensor | None:
        present = [value for value in values if value is not None]
        return torch.cat(present) if present else None

    return PairLogps(
        chosen=side([part.chosen for part in parts]),
        rejected=side([part.rejected for part in parts]),
        ref_chosen=reference([part.ref_chosen for part in parts]),
        ref_rejected=reference([part.ref_rejected for part in parts]),
        columns={name: torch.cat([part.columns[name] for part in parts]) for name in parts[0].columns},
    )
