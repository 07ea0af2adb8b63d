"""Language models as judges behind any endpoint that is compatible with OpenAI's: a vendor's, vLLM's, llama.cpp's.

The key is that of the environment variable OPENAI_API_KEY. It is given to the client and to nothing else: no record,
reply, error or cache has it, nor what a server says in its errors, which may quote it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import ValidationError

from harness.api import HarnessError, JudgeCost, JudgeOptions, JudgeRequest, JudgeSource, Rating, Verdict, hookimpl
from harness.judge.kept_replies import KeptReplies
from harness.judge.reply_body import reply_of
from harness.judge.wording import MANNERS, Manner, Reply, shown

if TYPE_CHECKING:
    from openai import APIStatusError, OpenAI
    from openai.types.chat import ChatCompletionMessageParam

KEY = "OPENAI_API_KEY"
NO_CONNECTION = "no connection, or one that broke"
GIVEN_UP = 8
"""Requests in a row that the endpoint lets go unanswered, each for all its tries, before it is taken to be down."""
HOPELESS = (401, 403, 404)
"""Statuses that every further request would get too: key, permission, model."""
UNSUPPORTED = ("max_tokens", "temperature", "seed")
"""Options that a model may refuse: it is then asked without, or by the newer name."""
NEWER_NAMES = {"max_tokens": "max_completion_tokens"}
TOO_LONG = "longer than the model's context window"
CHARACTERS = 4
"""Characters a token, about; no tokenizer is known of a model behind an endpoint."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A model, and where it answers."""

    model: str
    url: str
    """What stands before `/chat/completions`, such as `http://localhost:8000/v1`."""

    @classmethod
    def parse(cls, what: str) -> Endpoint:
        """Read `MODEL@URL`. Raises `HarnessError` for anything else, and for a URL that carries a password or key."""
        found = re.fullmatch(r"(?P<model>\S+?)@(?P<url>https?://\S+)", what)
        parts = urlsplit(found["url"]) if found else None
        if found is None or parts is None or parts.username is not None or parts.query or parts.fragment:
            given = re.sub(r"(://|[?#]).*", r"\1...", what)  # what follows may be a secret
            raise HarnessError(
                f"got judge '{given}', expected MODEL@URL such as my-model@http://localhost:8000/v1, without a "
                f"password or a key in it; a key is read from {KEY}"
            )
        return cls(model=found["model"], url=found["url"].rstrip("/"))


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is sent, and the key under which its reply is kept."""

    content: str
    repeat: int
    key: str


def question(endpoint: Endpoint, manner: Manner, request: JudgeRequest) -> Question:
    """Return what is asked of the endpoint; the same request in the same words always has the same key."""
    content = f"{shown(request)}\n\n{manner.closing}"
    asked = [endpoint.url, endpoint.model, manner.instruction, manner.max_tokens, manner.top_logprobs]
    key = hashlib.sha256(json.dumps([*asked, content, request.repeat]).encode()).hexdigest()
    return Question(content=content, repeat=request.repeat, key=key)


@dataclass(frozen=True, kw_only=True)
class OpenEndpoint:
    """An endpoint that is asked, many requests at a time, and never twice for what it has answered."""

    endpoint: Endpoint
    manner: Manner
    options: JudgeOptions
    client: OpenAI
    kept: KeptReplies
    refused: set[str] = field(default_factory=set)
    """Of `UNSUPPORTED`, what the model has refused so far."""

    def judge(self, requests: Sequence[JudgeRequest]) -> list[Verdict] | list[Rating]:
        """Return what the model says of each request; what fails after all tries, or cannot be read, has a reason."""
        questions = [question(self.endpoint, self.manner, request) for request in requests]
        replies = {each.key: self.kept.get(each.key) for each in questions}
        new = [each for each in {each.key: each for each in questions}.values() if replies[each.key] is None]
        _check_cap(len(new), self.options)
        failed: dict[str, str] = {}
        with ThreadPoolExecutor(self.options.parallel) as threads:
            try:
                unanswered = 0
                for each, got in zip(new, threads.map(self._ask, new), strict=True):
                    if isinstance(got, Reply):
                        replies[each.key] = got
                    else:
                        failed[each.key] = got
                    unanswered = unanswered + 1 if got in (NO_CONNECTION, self._too_late) else 0
                    self._require_up(unanswered, of=len(replies))
            except BaseException:  # also Ctrl-C: what has not been sent stays unsent
                threads.shutdown(wait=True, cancel_futures=True)
                raise
        return [self._read(replies[each.key], failed.get(each.key, "")) for each in questions]  # type: ignore[return-value]  # a manner gives one kind

    @property
    def _too_late(self) -> str:
        return f"no answer within {self.options.timeout:g} s"

    def _require_up(self, unanswered: int, of: int) -> None:
        """Raise `HarnessError` where so many requests in a row, or all that there are, have had no answer at all."""
        if unanswered >= min(GIVEN_UP, of):
            raise HarnessError(
                f"{self.endpoint.url}: got no answer to {unanswered} requests in a row, each tried "
                f"{self.options.retries + 1} times, expected some; see whether it is up"
            )

    def close(self) -> None:
        """Close the connections and the file of replies."""
        self.client.close()
        self.kept.close()

    def _read(self, reply: Reply | None, reason: str) -> Verdict | Rating:
        if reply is not None:
            return self.manner.read(reply)
        if self.manner.asks == "pairs":
            return Verdict(preference=None, reason=reason)
        return Rating(value=None, reason=reason)

    def _ask(self, asked: Question) -> Reply | str:
        """Return the reply, kept by now, or why there is none; tries again as often as the options say."""
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        try:
            reply = reply_of(self._sent(asked))
        except APITimeoutError:
            return self._too_late
        except APIConnectionError:
            return NO_CONNECTION
        except APIStatusError as error:
            if error.status_code in HOPELESS:
                raise HarnessError(
                    f"{self.endpoint.url}: got HTTP {error.status_code}, expected an answer of "
                    f"'{self.endpoint.model}'; check the URL, the model's name and the key in {KEY}"
                ) from None
            return TOO_LONG if _is_too_long(error) else f"HTTP {error.status_code}"
        except (ValidationError, UnicodeDecodeError):
            return "not the JSON of an answer"
        self.kept.keep(asked.key, reply)
        return reply

    def _sent(self, asked: Question) -> str:
        """Return the body of the endpoint's answer; what the model refuses of the options it is not sent again."""
        from openai import BadRequestError

        messages: list[ChatCompletionMessageParam] = [
            {"role": "system", "content": self.manner.instruction},
            {"role": "user", "content": asked.content},
        ]
        wanted = dict(zip(UNSUPPORTED, (self.manner.max_tokens, 0.0, asked.repeat), strict=True))
        top = self.manner.top_logprobs
        while True:
            refused = frozenset(self.refused)
            options = {name: value for name, value in wanted.items() if name not in refused}
            options |= {NEWER_NAMES[name]: wanted[name] for name in refused & NEWER_NAMES.keys()}
            try:
                raw = self.client.chat.completions.with_raw_response.create(
                    model=self.endpoint.model,
                    messages=messages,
                    extra_body=options | ({"logprobs": True, "top_logprobs": top} if top else {}),
                )
                return str(raw.text)
            except BadRequestError as error:
                if error.param not in UNSUPPORTED or error.param in refused or "unsupported" not in str(error.code):
                    raise
                self.refused.add(error.param)


def _is_too_long(error: APIStatusError) -> bool:
    """Say whether a question was too long for the model, by the words of OpenAI, vLLM and llama.cpp."""
    told = f"{error.code} {error.message}".lower()
    return error.status_code in (400, 413) and re.search(r"context[ _](length|size|window)", told) is not None


def _check_cap(count: int, options: JudgeOptions) -> None:
    if options.max_requests is not None and count > options.max_requests:
        raise HarnessError(
            f"got {count} requests that have no answer yet, expected at most {options.max_requests}; nothing was sent; "
            "allow more or judge fewer answers"
        )


def cost(manner: Manner, what: str, requests: Sequence[JudgeRequest], options: JudgeOptions) -> JudgeCost:
    """Return what the requests cost that have no answer in the cache."""
    endpoint = Endpoint.parse(what)
    kept = KeptReplies(options.cache)
    try:
        questions = {each.key: each for each in (question(endpoint, manner, request) for request in requests)}
        new = [each for key, each in questions.items() if kept.get(key) is None]
    finally:
        kept.close()
    characters = sum(len(manner.instruction) + len(each.content) for each in new)
    return JudgeCost(requests=len(new), tokens_in=-(-characters // CHARACTERS), tokens_out=len(new) * manner.max_tokens)


def identity(manner: Manner, what: str) -> str:
    """Return the manner, its wording, the model and the URL."""
    endpoint = Endpoint.parse(what)
    return f"{manner.name}:{endpoint.model}@{endpoint.url} wording {manner.digest}"


def why_not(what: str) -> str | None:
    """Return why the endpoint cannot be asked; sends nothing."""
    if importlib.util.find_spec("openai") is None:
        return 'the package openai is not installed; pip install "preference-harness[judge]"'
    try:
        Endpoint.parse(what)
    except HarnessError as error:
        return str(error)
    return None


def open_endpoint(manner: Manner, what: str, options: JudgeOptions) -> OpenEndpoint:
    """Return the endpoint, ready to be asked."""
    reason = why_not(what)
    if reason is not None:
        raise HarnessError(reason)
    from openai import OpenAI

    from harness.judge.limited_client import LimitedClient

    endpoint = Endpoint.parse(what)
    client = OpenAI(
        api_key=os.environ.get(KEY) or "none",  # servers of one's own ask for none
        base_url=endpoint.url,
        timeout=options.timeout,
        max_retries=options.retries,
        http_client=LimitedClient(options.timeout),
    )
    return OpenEndpoint(
        endpoint=endpoint, manner=manner, options=options, client=client, kept=KeptReplies(options.cache)
    )


@hookimpl
def harness_judges() -> list[JudgeSource]:
    """Return a judge for each manner of asking."""
    return [
        JudgeSource(
            name=manner.name,
            asks=manner.asks,
            identity=partial(identity, manner),
            why_not=why_not,
            open=partial(open_endpoint, manner),
            cost=partial(cost, manner),
            summary=manner.summary,
        )
        for manner in MANNERS
    ]
