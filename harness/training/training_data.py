"""What a cell trains on: the pairs, labelled as the run has it, with what the loss asks for beside them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from harness.api import Loss
from harness.data.control import shuffled, swap_pairs, swap_tokens
from harness.planning.budget import runs_reference
from harness.training.loss_columns import prepare_columns
from harness.training.loss_inputs import TrainingData
from harness.training.prepared import Prepared, reference_logps


def training_data(prepared: Prepared, loss: Loss, model: Any, visited: np.ndarray, seed: int) -> TrainingData:
    """Return the training pairs with the reference log-probs, columns and mismatched responses that `loss` asks for.

    `model` is the start checkpoint, `visited` the sorted indices of the pairs that the budget will visit.
    """
    run = prepared.job.run
    reference = reference_logps(prepared, loss, model, visited)
    swapped = shuffled(prepared.pairs, visited, run.control, run.data_seed + seed)
    pairs, tokens = swap_pairs(prepared.pairs, swapped), swap_tokens(prepared.tokens.pairs, swapped)
    if reference is not None:
        reference = reference.swapped(swapped)
    return TrainingData(
        pairs=pairs,
        tokens=tokens,
        reference=reference,
        columns=prepare_columns(loss, pairs, tokens, visited, reference),
        mismatched=prepared.mismatched if loss.needs_kl else None,
        frozen=copy.deepcopy(model).requires_grad_(False) if runs_reference(loss) else None,
    )
