"""`--micro-pairs auto`: as many pairs at once as are estimated to fit the device, which changes no result."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.api import Dataset, HarnessError, Selector
from harness.execute.model_facts import shape_in
from harness.planning.budget import runs_reference
from harness.planning.estimates import visits
from harness.planning.grid import Cell
from harness.planning.memory import Batch, Device, needed_memory
from harness.planning.run_file import Run


def with_fitting_pairs(
    run: Run,
    data: Dataset,
    selector: Selector | None,
    cells: Sequence[Cell],
    device: Device,
    *,
    side_by_side: int,
    processes: int,
) -> Run:
    """Return the run with a number in the place of `auto`: the same for all of its cells.

    It is the largest with which no activations have to be computed again, or, if none is, the largest that fits.
    `side_by_side`: models on the device at a time; `processes`: that share the pairs of a step. Raises `HarnessError`
    where the size of a model, or the memory of the device, is not known.
    """
    if math.isinf(device.memory):
        raise HarnessError(
            f"--micro-pairs got auto, and the memory of {device.name} is not known here; give a number: with too large "
            "a one a training goes on with half of it"
        )
    shapes = {model: shape_in(run, model) for model in run.models}
    known = {shape for shape in shapes.values() if shape is not None}
    if unknown := [model for model, shape in shapes.items() if shape is None]:
        raise HarnessError(
            f"--micro-pairs got auto, and the size of {', '.join(unknown)} is not known before it is loaded; give a "
            "number: with too large a one a training goes on with half of it"
        )
    tokens = visits(data, run).of(selector)
    batch = Batch(packed=tokens.packed, longest=tokens.longest)
    beside = any(runs_reference(cell.system.loss) for cell in cells)

    def fits(pairs: int, checkpointing: str) -> bool:
        other = run.model_copy(update={"micro_pairs": pairs, "activation_checkpointing": checkpointing})
        needs = [needed_memory(other, shape, batch, device, reference_beside=beside).total for shape in known]
        return side_by_side * max(needs) <= device.usable

    own, asked = run.settings.batch_pairs // processes, run.activation_checkpointing
    sizes = [pairs for pairs in range(own, 0, -1) if own % pairs == 0]
    ways = ["off", "auto"] if asked == "auto" else [asked]
    found = next((pairs for way in ways for pairs in sizes if fits(pairs, way)), 1)
    return run.model_copy(update={"micro_pairs": found})
