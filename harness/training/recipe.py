"""How cells are trained: what is the same for every loss."""

from __future__ import annotations

from dataclasses import dataclass

from harness.training.trackers import NOWHERE, Tracked


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train, the same for every loss but for a tuned learning rate."""

    learning_rate: float
    micro_pairs: int
    """Pairs of one forward and backward pass; divides the pairs of a step."""
    seed: int
    dtype: str
    """`float32` or `bfloat16`: of the forward pass, by autocast; log-probs and losses are fp32."""
    plain: bool = False
    """Use padded rows and full logits instead of the fast path: the same numbers up to rounding."""
    optimizer: str = "adamw"
    """As `--optimizer` has it."""
    tracked: Tracked = NOWHERE
    """Where steps are logged besides the step log."""
