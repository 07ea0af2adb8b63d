"""Batches of token ids. Every response is a row of its own: prompt, response, padding.

Legend of shapes: N rows, S row length (padded), T response tokens (padded), R response tokens of all rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows of prompt + response, padded on the right."""

    ids_NS: Tensor
    """int64 token ids; 0 in the padding."""
    attention_NS: Tensor
    """int64, 1 on tokens, 0 on padding."""
    position_R: Tensor
    """int64 index into the flattened N*S positions: the position BEFORE each response token, which predicts it."""
    label_R: Tensor
    """int64 id of each response token."""
    mask_NT: Tensor
    """bool, True on the response tokens of each row, counted from the response's start."""

    def to(self, device: torch.device) -> Batch:
        """Return the batch on `device`."""
        return Batch(
            ids_NS=self.ids_NS.to(device),
            attention_NS=self.attention_NS.to(device),
            position_R=self.position_R.to(device),
            label_R=self.label_R.to(device),
            mask_NT=self.mask_NT.to(device),
        )


def collate(rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Batch:
    """Return the batch of (prompt ids, response ids) rows. Every prompt and every response holds at least one token."""
    length = max(len(prompt) + len(response) for prompt, response in rows)
    ids = torch.zeros((len(rows), length), dtype=torch.int64)
    attention = torch.zeros((len(rows), length), dtype=torch.int64)
    mask = torch.zeros((len(rows), max(len(response) for _, response in rows)), dtype=torch.bool)
    positions: list[Tensor] = []
    labels: list[int] = []
    for row, (prompt, response) in enumerate(rows):
        assert prompt, "an empty prompt"
        assert response, "an empty response"
        end = len(prompt) + len(response)
        ids[row, :end] = torch.tensor([*prompt, *response])
        attention[row, :end] = 1
        mask[row, : len(response)] = True
        positions.append(torch.arange(row * length + len(prompt) - 1, row * length + end - 1))
        labels.extend(response)
    return Batch(
        ids_NS=ids,
        attention_NS=attention,
        position_R=torch.cat(positions),
        label_R=torch.tensor(labels),
        mask_NT=mask,
    )
