"""Batches of token ids: one packed row in which a prompt stands once, followed by each of its responses.

Positions restart at the end of the prompt for every response, so each response sees what it would see alone; which
token may look at which is said by group and segment (see `harness.attention`). Nothing in the packed row is padding.

Legend of shapes: L packed tokens, G groups (a prompt with its responses), K responses a group, S tokens of the longest
group, N = K * G responses (all first ones, then all second ones), T tokens of the longest response, R response tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

Group = tuple[Sequence[int], Sequence[Sequence[int]]]
"""(prompt ids, the ids of each response); nothing is empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Groups of the same number of responses, packed."""

    ids_L: Tensor
    """int64 token ids."""
    position_L: Tensor
    """int64 position of each token in its own sequence: prompt + one response."""
    slot_L: Tensor
    """int64 place of each token in the flattened (G, S) table of groups."""
    segment_GS: Tensor
    """int64: 0 the prompt, k the k-th response, -1 nothing."""
    position_GS: Tensor
    """int64 positions, as `position_L`; 0 where there is nothing."""
    predictor_R: Tensor
    """int64 index into L of the token that predicts each response token: the one before it in its own sequence."""
    label_R: Tensor
    """int64 id of each response token; in the order of the True places of `mask_NT`."""
    mask_NT: Tensor
    """bool, True on the tokens of each response, counted from its start."""
    row_NS: Tensor
    """int64 index into L of prompt + response of each response as a row of its own; -1 in the padding on the right."""
    start_N: Tensor
    """int64 tokens of the prompt of each response."""

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of the tensors."""
        return tuple(field.name for field in fields(cls))

    def to(self, device: torch.device) -> Batch:
        """Return the batch on `device`."""
        return Batch(**{name: getattr(self, name).to(device) for name in self.names()})


def collate(groups: Sequence[Group]) -> Batch:
    """Return the batch of groups. Every prompt and every response holds at least one token."""
    responses = len(groups[0][1])
    longest = max(len(prompt) + sum(map(len, each)) for prompt, each in groups)
    ids: list[int] = []
    position: list[np.ndarray] = []
    slot: list[np.ndarray] = []
    segment_gs = np.full((len(groups), longest), -1, dtype=np.int64)
    position_gs = np.zeros((len(groups), longest), dtype=np.int64)
    rows: list[list[np.ndarray]] = [[] for _ in range(responses)]
    for g, (prompt, each) in enumerate(groups):
        assert prompt, "an empty prompt"
        assert len(each) == responses, "groups of one batch have the same number of responses"
        first, at = len(ids), len(prompt)
        places = [np.arange(at)]
        segment_gs[g, :at] = 0
        for k, response in enumerate(each):
            assert response, "an empty response"
            rows[k].append(
                np.concatenate([np.arange(first, first + len(prompt)), first + at + np.arange(len(response))])
            )
            places.append(len(prompt) + np.arange(len(response)))
            segment_gs[g, at : at + len(response)] = k + 1
            at += len(response)
        ids.extend(prompt)
        for response in each:
            ids.extend(response)
        position.append(np.concatenate(places))
        position_gs[g, :at] = position[-1]
        slot.append(g * longest + np.arange(at))
    flat = [row for column in rows for row in column]
    starts = [len(prompt) for _ in range(responses) for prompt, _ in groups]
    lengths = [len(row) - start for row, start in zip(flat, starts, strict=True)]
    row_ns = np.full((len(flat), max(map(len, flat))), -1, dtype=np.int64)
    for n, row in enumerate(flat):
        row_ns[n, : len(row)] = row
    ids_l = np.asarray(ids, dtype=np.int64)
    predictor = np.concatenate([row[start - 1 : -1] for row, start in zip(flat, starts, strict=True)])
    label = ids_l[np.concatenate([row[start:] for row, start in zip(flat, starts, strict=True)])]
    mask = np.arange(max(lengths))[None, :] < np.asarray(lengths)[:, None]
    arrays = {
        "ids_L": ids_l,
        "position_L": np.concatenate(position),
        "slot_L": np.concatenate(slot),
        "segment_GS": segment_gs,
        "position_GS": position_gs,
        "predictor_R": predictor,
        "label_R": label,
        "mask_NT": mask,
        "row_NS": row_ns,
        "start_N": np.asarray(starts, dtype=np.int64),
    }
    return Batch(**{name: torch.from_numpy(array) for name, array in arrays.items()})
