"""The judge that knows: it reads an answer to an embedded prompt by rule and gives its true quality, 1 to 5."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.api import HarnessError, JudgeOptions, JudgeRequest, JudgeSource, Rating, hookimpl
from harness.data.simulator.reading import read

NAME = "simulator"
LOWEST = 1.0
NO_RULE = "fits no rule"


@dataclass(frozen=True, kw_only=True)
class Simulator:
    """Rates answers to made tasks by the rules they are made by."""

    def judge(self, requests: Sequence[JudgeRequest]) -> list[Rating]:
        """Return the true quality of each answer; a text that fits no rule has the lowest, and the reason says so."""
        return [_rating(request) for request in requests]

    def close(self) -> None:
        """Do nothing: it holds nothing."""


def _rating(request: JudgeRequest) -> Rating:
    if request.task is None:
        raise HarnessError(
            f"judge '{NAME}' got prompt {request.prompt_id} without its task, expected one of the embedded data, whose "
            "tasks are known; choose another judge"
        )
    (answer,) = request.answers
    quality = read(answer, request.task)
    return Rating(value=LOWEST, reason=NO_RULE) if quality is None else Rating(value=round(quality.true(), 6))


def identity(_what: str) -> str:
    """Return the name: its rules are those of the embedded data."""
    return NAME


def why_not(what: str) -> str | None:
    """Return why it cannot judge: nothing may stand behind its name."""
    return f"got '{NAME}:{what}', expected '{NAME}' alone" if what else None


def open_simulator(_what: str, _options: JudgeOptions) -> Simulator:
    """Return the judge."""
    return Simulator()


@hookimpl
def harness_judges() -> list[JudgeSource]:
    """Return the judge of the embedded data."""
    summary = "the true quality of answers to the embedded data, read by rule; free"
    return [
        JudgeSource(
            name=NAME,
            asks="answers",
            identity=identity,
            why_not=why_not,
            open=open_simulator,
            summary=summary,
            needs_tasks=True,
        )
    ]
