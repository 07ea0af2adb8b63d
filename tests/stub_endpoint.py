"""A server on the loopback that answers like a chat endpoint, or fails in the way that a prompt asks for."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LATE = 3.0
"""Seconds after which the stub answers what is to come very late."""
TOO_LONG_AT_VLLM = (
    "This model's maximum context length is 2048 tokens. However, you requested 512 output tokens and your prompt "
    "contains at least 1537 input tokens, for a total of at least 2049 tokens. Please reduce the length of the input "
    "prompt or the number of requested output tokens. (parameter=input_tokens, value=1537)"
)
"""What vLLM 0.29 says."""


@dataclass(kw_only=True)
class Stub:
    """What the stub was asked, and how it is reached."""

    url: str = ""
    asked: Counter[str] = field(default_factory=Counter)
    """How often each user turn was asked."""
    keys: set[str] = field(default_factory=set)
    """The `Authorization` headers that came."""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    at_a_time: int = 0
    most_at_a_time: int = 0
    reply: str = "They differ.\nVERDICT: 1 is better"
    logprobs: dict[str, float] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    """What it answers everything with, as HTTP 400."""
    unsupported: tuple[str, ...] = ()
    """Options that it refuses, in the words of OpenAI's reasoning models."""
    fault: str = ""
    """The fault that every prompt meets which asks for none."""
    stuck: threading.Event = field(default_factory=threading.Event)
    """Set once a prompt with `hang` has come."""
    over: threading.Event = field(default_factory=threading.Event)
    """Set when the stub ends, which lets go of what hangs."""


@contextmanager
def stub() -> Iterator[Stub]:
    """Run a stub. A prompt with `fault: NAME` in it meets that fault, one with `fault: NAME once` the first time only.

    Faults: 429, 500, half, broken-off, nothing, empty, late, hang, trickle, html, no-choices, null, 401,
    too-long.
    """
    made, lock = Stub(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the name that http.server calls
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            content = body["messages"][-1]["content"]
            with lock:
                made.asked[content] += 1
                made.keys.add(self.headers.get("Authorization", ""))
                made.bodies.append(body)
                made.at_a_time += 1
                made.most_at_a_time = max(made.most_at_a_time, made.at_a_time)
                first = made.asked[content] == 1
            inside = [True]

            def leave() -> None:
                with lock:
                    made.at_a_time -= len(inside)
                    inside.clear()

            try:
                name = content.partition("fault: ")[2].split()[:2] or made.fault.split()
                if name and (first or name[1:] != ["once"]):
                    self._fail(name[0], body)
                elif made.error or any(option in body for option in made.unsupported):
                    refused = next((option for option in made.unsupported if option in body), None)
                    error = made.error or {"message": "no", "param": refused, "code": "unsupported_parameter"}
                    self._send(400, json.dumps({"error": error}))
                else:
                    reply = json.dumps(answer(body))
                    leave()  # who has the reply may ask again before this thread goes on
                    self._send(200, reply)
            finally:
                leave()

        def _fail(self, name: str, body: dict[str, Any]) -> None:
            whole = json.dumps(answer(body))
            if name == "429":
                self._send(429, '{"error": {"message": "slow down"}}', {"Retry-After": "0.05"})
            elif name in ("500", "401", "400"):
                key = self.headers.get("Authorization", "")
                self._send(int(name), json.dumps({"error": {"message": f"failed with {key}"}}), {"Retry-After": "0.05"})
            elif name == "half":
                self._send(200, whole[: len(whole) // 2])
            elif name == "broken-off":
                self._send(200, whole[: len(whole) // 2], {"Content-Length": str(len(whole))})
                self.close_connection = True
            elif name == "nothing":
                self.close_connection = True
            elif name == "empty":
                self._send(200, "")
            elif name == "html":
                self._send(200, "<html>VERDICT: 1 is better</html>", {"Content-Type": "text/html"})
            elif name == "no-choices":
                self._send(200, json.dumps(answer(body) | {"choices": []}))
            elif name == "null":
                self._send(200, "null")
            elif name == "late":
                made.over.wait(LATE)
                self._send(200, whole)
            elif name == "trickle":
                self._send(200, "", {"Content-Length": str(len(whole))})
                with suppress(OSError):  # whoever asked has gone
                    for letter in whole:
                        if made.over.wait(0.1):
                            break
                        self.wfile.write(letter.encode())
                self.close_connection = True
            elif name == "too-long":
                self._send(
                    400, json.dumps({"error": {"message": TOO_LONG_AT_VLLM, "param": "input_tokens", "code": 400}})
                )
            elif name == "hang":
                made.stuck.set()
                made.over.wait(60)
            else:
                raise AssertionError(name)

        def _send(self, status: int, body: str, headers: dict[str, str] | None = None) -> None:
            everything = {"Content-Type": "application/json", "Content-Length": str(len(body.encode()))} | (
                headers or {}
            )
            try:
                self.send_response(status)
                for header, value in everything.items():
                    self.send_header(header, value)
                self.end_headers()
                self.wfile.write(body.encode())
            except OSError:
                self.close_connection = True  # whoever asked has gone

        def log_message(self, *_: Any) -> None:
            pass

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        time.sleep(0.01)
        choice: dict[str, Any] = {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": made.reply},
        }
        if body.get("logprobs"):
            top = [{"token": token, "logprob": logp, "bytes": None} for token, logp in made.logprobs.items()]
            choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}] if top else []}
        return {"id": "1", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]}

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield made
    finally:
        made.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
