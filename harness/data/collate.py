"""Batches of token ids: one packed row that holds each prompt once, followed by each of its responses.

Positions continue from the end of the prompt for every response, as if it alone followed the prompt; attention keeps
the responses apart (see `harness.logps.packed_attention`). Nothing in the packed row is padding.

Legend of shapes: L packed tokens, N responses (the first ones of all prompts, then the second ones), S tokens of the
longest prompt + response, T tokens of the longest response, R response tokens of the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

Group = tuple[Sequence[int], Sequence[Sequence[int]]]
"""(prompt ids, the ids of each of its responses), none of them empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Prompts with the same number of responses each, packed into one row."""

    ids_L: Tensor
    """int64 token ids."""
    position_L: Tensor
    """int64 position of each token in its own sequence: prompt + one response."""
    row_NS: Tensor
    """int64 index into L of each prompt + response, one row per response; -1 in the padding on the right."""
    home_L: Tensor
    """int64 place of each packed token in the flattened (N, S) rows; a prompt's is in its first response's row."""
    predictor_R: Tensor
    """int64 index into L of the token that predicts each response token: the one before it in its own sequence."""
    label_R: Tensor
    """int64 id of each response token, in the order of the True places of `mask_NT`."""
    mask_NT: Tensor
    """bool, True on the tokens of each response; T counts from the start of the response."""
    start_N: Tensor
    """int64 number of tokens in the prompt of each response."""

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of the tensors, in order."""
        return tuple(field.name for field in fields(cls))

    def to(self, device: torch.device) -> Batch:
        """Return the batch on `device`."""
        return Batch(**{name: getattr(self, name).to(device) for name in self.names()})


def collate(groups: Sequence[Group]) -> Batch:
    """Return the batch of these prompts; every prompt and every response holds at least one token."""
    rows, ids, positions = _pack(groups)
    starts = np.array([len(prompt) for _ in groups[0][1] for prompt, _ in groups])
    lengths = np.array([len(row) for row in rows]) - starts
    row_ns = np.full((len(rows), max(map(len, rows))), -1, dtype=np.int64)
    for n, row in enumerate(rows):
        row_ns[n, : len(row)] = row
    home = np.empty(len(ids), dtype=np.int64)
    # backwards: of the rows that hold a prompt token, the first one is assigned last
    filled = np.flatnonzero(row_ns.ravel() >= 0)[::-1]
    home[row_ns.ravel()[filled]] = filled
    arrays = {
        "ids_L": ids,
        "position_L": positions,
        "row_NS": row_ns,
        "home_L": home,
        "predictor_R": np.concatenate([row[start - 1 : -1] for row, start in zip(rows, starts, strict=True)]),
        "label_R": ids[np.concatenate([row[start:] for row, start in zip(rows, starts, strict=True)])],
        "mask_NT": np.arange(lengths.max())[None, :] < lengths[:, None],
        "start_N": starts,
    }
    return Batch(**{name: torch.from_numpy(array) for name, array in arrays.items()})


def _pack(groups: Sequence[Group]) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Return each prompt + response as indices into the packed tokens, the packed ids, and their positions."""
    ids: list[int] = []
    positions: list[np.ndarray] = []
    rows: list[list[np.ndarray]] = [[] for _ in groups[0][1]]
    for prompt, responses in groups:
        assert prompt, "an empty prompt"
        assert len(responses) == len(rows), "the prompts of one batch have the same number of responses"
        shared = np.arange(len(ids), len(ids) + len(prompt))
        ids.extend(prompt)
        positions.append(np.arange(len(prompt)))
        for column, response in zip(rows, responses, strict=True):
            assert response, "an empty response"
            column.append(np.concatenate([shared, np.arange(len(ids), len(ids) + len(response))]))
            ids.extend(response)
            positions.append(len(prompt) + np.arange(len(response)))
    return [row for column in rows for row in column], np.asarray(ids, dtype=np.int64), np.concatenate(positions)
