"""Whether activations are computed again in the backward pass, for less memory, more time, and the same numbers."""

from __future__ import annotations

from harness.api import Loss
from harness.models.size import shape_of
from harness.planning.budget import runs_reference
from harness.planning.memory import Batch, recomputes
from harness.planning.model_shape import ModelShape
from harness.training.peak_memory import device
from harness.training.prepared import Prepared


def recomputes_here(prepared: Prepared, loss: Loss) -> bool:
    """Return whether the cells of a loss are trained so on this machine, as `--activation-checkpointing` has it."""
    start, pairs = prepared.start, prepared.tokens.pairs
    shape = shape_of(str(start.folder)) or ModelShape.of_parameters(start.parameters)
    answers = [(len(pair.chosen_ids), len(pair.rejected_ids)) for pair in pairs]
    batch = Batch(
        packed=[len(pair.prompt_ids) + sum(both) for pair, both in zip(pairs, answers, strict=True)],
        longest=max(len(pair.prompt_ids) + max(both) for pair, both in zip(pairs, answers, strict=True)),
    )
    return recomputes(prepared.job.run, shape, batch, device(), reference_beside=runs_reference(loss))
