"""The optimisers of `--optimizer` that keep less than AdamW in fp32 does: torchao's, the same for every loss."""

from __future__ import annotations

from typing import Any

import torch

from harness.training.peak_memory import return_freed


def own_optimizer(name: str, learning_rate: float) -> tuple[type[torch.optim.Optimizer], dict[str, float]] | None:
    """Return the class of an optimiser and its arguments, as `Trainer` takes them; None for `adamw`, Trainer's own.

    `adamw-8bit` and `adamw-bf16-sr` have AdamW's two moments in 8 bits, one scale per 256 values (Dettmers et al. 2022,
    arXiv:2110.02861), and those of tensors below 4,096 values as the weights are. With `adamw-bf16-sr` the weights are
    in bf16 too, and a step, computed in fp32, is rounded up or down at random, the likelier to what is nearer: at
    small learning rates rounding to the nearest would undo every step. Its moments are not in bf16, as they could be:
    with beta_2 = 0.999 a second moment in bf16 never falls.
    """
    if name == "adamw":
        return None
    from torchao.optim import AdamW8bit

    rounded_at_random = name == "adamw-bf16-sr"
    known = {"lr": learning_rate, "weight_decay": 0.0, "bf16_stochastic_round": rounded_at_random}
    return (AdamW8bit if torch.cuda.is_available() else _eager(AdamW8bit)), known


def _eager(optimizer: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """Return the optimiser without compiled steps.

    On a CPU compiling takes a C++ compiler and longer than a training of a small model, for a step two to three times
    as fast.
    """

    class Eager(optimizer):  # type: ignore[misc, valid-type]
        def step(self, closure: Any = None) -> Any:
            return_freed()  # what glibc keeps of the activations would come on top of what a step unpacks
            with torch.compiler.set_stance("force_eager"):
                done = super().step(closure)
            return_freed()
            return done

    return Eager
