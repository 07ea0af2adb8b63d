"""Judges, which say which of two answers is better or how good one is: the types in `harness_judges`. Imports no torch.

A judge sees the text of a conversation and of answers, never who wrote them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

from harness.api.data import MadeTask, Message
from harness.api.errors import HarnessError


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeRequest:
    """One question to a judge: which of two answers is better, or how good a single one is."""

    prompt_id: str
    context: tuple[Message, ...]
    """Every turn before the answer."""
    answers: tuple[str, ...]
    """Two, in the order in which the judge sees them, or one."""
    reference: str = ""
    """An answer known to be good, shown to the judge as such; "" where there is none."""
    task: MadeTask | None = None
    """What the prompt asks for, where the data are made; for judges that know the truth."""
    repeat: int = 0
    """0 for the first time of asking; a judge asked again does not repeat what it said then."""

    def __post_init__(self) -> None:
        if len(self.answers) not in (1, 2):
            raise HarnessError(f"got {len(self.answers)} answers to judge, expected one or two; ask so")

    @property
    def swapped(self) -> JudgeRequest:
        """The same question with the two answers in the other order."""
        return replace(self, answers=self.answers[::-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a judge says of two answers."""

    preference: float | None
    """How much it prefers the answer it saw first: 1 wholly, 0.5 not at all, 0 the other; None where it cannot be
    read."""
    reason: str = ""
    """Why there is no preference, in a few words: the same for the same fault, so that faults can be counted."""

    def __post_init__(self) -> None:
        _require_either(self.preference, self.reason)
        if self.preference is not None and not 0 <= self.preference <= 1:
            raise HarnessError(f"got a preference of {self.preference}, expected 0 to 1; correct the judge")

    @property
    def swapped(self) -> Verdict:
        """The same verdict seen from the other answer."""
        return self if self.preference is None else Verdict(preference=1 - self.preference)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """What a judge says of a single answer."""

    value: float | None
    """On the judge's own scale, the higher the better; None where it cannot be read."""
    reason: str = ""
    """As `Verdict.reason`; a value with a reason is the judge's lowest, given to a text that fits none of its rules."""

    def __post_init__(self) -> None:
        if self.value is None:
            _require_either(self.value, self.reason)
        elif self.value != self.value or abs(self.value) == float("inf"):
            raise HarnessError(f"got a rating of {self.value}, expected a finite number; correct the judge")


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """How a judge is opened."""

    cache: Path | None = None
    """Folder of what judges answered before; None: nothing is kept, and everything is asked again."""
    max_requests: int | None = None
    """Most requests that may be sent in all; None: as many as there are."""
    parallel: int = 8
    """Requests on their way at a time."""
    timeout: float = 120.0
    """Seconds that one try may take."""
    retries: int = 5
    """Further tries after 429, 5xx, a broken connection or a time-out, each after a longer wait."""
    trust_remote_code: bool = False
    """Whether a model may run code of its own; only if the user asked for it."""


@dataclass(frozen=True, kw_only=True)
class JudgeCost:
    """What judging takes, known before it is spent; what the cache has costs nothing."""

    requests: int = 0
    """Requests that will be sent to somebody who may charge for them; failed tries come on top."""
    tokens_in: int = 0
    """Tokens of them, about: counted in characters, four a token."""
    tokens_out: int = 0
    """Tokens of the answers, at most."""


class OpenJudge(Protocol):
    """A judge that can be asked."""

    def judge(self, requests: Sequence[JudgeRequest]) -> list[Verdict] | list[Rating]:
        """Return a verdict (of two answers) or a rating (of one) per request, in their order.

        What cannot be read is given as such, never guessed. Raises `HarnessError` where asking on is of no use.
        """

    def close(self) -> None:
        """Free what it holds."""


Asked = Literal["pairs", "answers"]


def _free(_what: str, _requests: Sequence[JudgeRequest], _options: JudgeOptions) -> JudgeCost:
    return JudgeCost()


@dataclass(frozen=True, kw_only=True)
class JudgeSource:
    """A named judge that a plugin brings. `what` is what stands behind the colon of `NAME:WHAT`, "" if nothing."""

    name: str
    asks: Asked
    """Whether a request to it has two answers (`pairs`) or one (`answers`)."""
    identity: Callable[[str], str]
    """Returns who judges, for records: what is not the same judge has another one. Functions, no lambdas."""
    why_not: Callable[[str], str | None]
    """Returns why this judge cannot judge here, or None if it can. Asks nobody and loads nothing large."""
    open: Callable[[str, JudgeOptions], OpenJudge]
    cost: Callable[[str, Sequence[JudgeRequest], JudgeOptions], JudgeCost] = field(default=_free)
    """Returns what the requests will cost; nothing for a judge that runs on this machine."""
    summary: str = ""
    """One line for listings."""
    needs_tasks: bool = False
    """Whether it can judge only answers to prompts whose tasks are known: those of made data."""


def _require_either(value: float | None, reason: str) -> None:
    if (value is None) != bool(reason):
        raise HarnessError(f"got the value {value} with the reason '{reason}', expected one of them; correct the judge")
