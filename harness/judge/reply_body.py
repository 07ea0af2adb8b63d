"""The body of an endpoint's answer -> what is read of it and kept."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from harness.judge.wording import Reply


class _Token(BaseModel):
    token: str
    logprob: Annotated[float, Field(le=1e-3)]


class _First(BaseModel):
    top_logprobs: list[_Token] = []


class _Logprobs(BaseModel):
    content: list[_First] | None = None


class _Said(BaseModel):
    content: str | None


class _Choice(BaseModel):
    message: _Said
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Answer(BaseModel):
    """What is read of an endpoint's answer."""

    choices: Annotated[list[_Choice], Field(min_length=1)]


def reply_of(body: str) -> Reply:
    """Return what is read of the body of an answer; raises `ValidationError` where it is something else."""
    choice = _Answer.model_validate_json(body).choices[0]
    positions = choice.logprobs.content if choice.logprobs and choice.logprobs.content else []
    first = tuple((token.token, token.logprob) for token in positions[0].top_logprobs) if positions else ()
    return Reply(text=choice.message.content or "", finish=choice.finish_reason or "", first=first)
