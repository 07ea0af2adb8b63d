"""Judges with a known fault: what they prefer follows from the simulator's truth and from the fault, and from nothing
else. A chance of preferring is sigmoid(truth + fault); without noise that chance is the preference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.api import JudgeOptions, JudgeRequest, Verdict
from harness.judge.simulator import open_simulator


@dataclass(frozen=True, kw_only=True)
class PlantedJudge:
    """Compares two answers to a made task; the fields say with which fault."""

    per_quality: float = 1.0
    """Logits per point of true quality."""
    per_length: float = 0.0
    """Logits per 100 characters that the answer seen first is longer."""
    for_first: float = 0.0
    """Logits for the answer seen first."""
    noise: np.random.Generator | None = None
    """Where given, the verdict is drawn: 1 or 0 with the chance of it."""
    garbage: float = 0.0
    """Share of requests, every n-th, that it answers with nothing that can be read."""
    asked: list[JudgeRequest] = field(default_factory=list)

    def judge(self, requests: Sequence[JudgeRequest]) -> list[Verdict]:
        return [self._verdict(request) for request in requests]

    def close(self) -> None:
        pass

    def _verdict(self, request: JudgeRequest) -> Verdict:
        self.asked.append(request)
        if self.garbage and len(self.asked) % round(1 / self.garbage) == 0:
            return Verdict(preference=None, reason="no verdict in the reply")
        first, second = true_qualities(request)
        longer = (len(request.answers[0]) - len(request.answers[1])) / 100
        logit = self.per_quality * (first - second) + self.per_length * longer + self.for_first
        chance = 1 / (1 + math.exp(-logit))
        return Verdict(preference=chance if self.noise is None else float(self.noise.random() < chance))


def true_qualities(request: JudgeRequest) -> list[float]:
    """Return the true quality of each answer of a request."""
    single = [
        JudgeRequest(prompt_id=request.prompt_id, context=request.context, answers=(answer,), task=request.task)
        for answer in request.answers
    ]
    return [float(rating.value or 0.0) for rating in open_simulator("", JudgeOptions()).judge(single)]
