"""Which pairs the micro-batches of a training hold, in the plan's order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from torch.utils.data import IterableDataset

from harness.planning.budget import Plan
from harness.training.ranks import Ranks


class Visits(IterableDataset[np.ndarray]):
    """The indices of each micro-batch of this process, in the plan's order."""

    def __init__(self, plan: Plan, micro_pairs: int, ranks: Ranks) -> None:
        self.plan, self.micro_pairs, self.ranks = plan, micro_pairs, ranks
        self.done = 0
        """Steps that an earlier process took."""

    def __iter__(self) -> Iterator[np.ndarray]:
        for step in itertools.islice(self.plan.batches(), self.done, None):
            own = self.ranks.own(step)
            yield from np.split(own, len(own) // self.micro_pairs)
