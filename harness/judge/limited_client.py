"""The HTTP client of judges behind an endpoint: a reply has to be there in time, however it trickles.

A client's own time-out starts anew with every byte, so a server that sends one now and then could hold it for ever.
"""

from __future__ import annotations

import time
from typing import Any

from openai import APITimeoutError, DefaultHttpxClient

MOST, CHUNK = 2**24, 2**16
"""Bytes of a reply that are read, and at a time: an answer with its log-probs takes some kilobytes."""
OF_THE_WIRE = ("content-encoding", "content-length", "transfer-encoding")
"""Headers that say how a body travelled; here it is unpacked."""


class LimitedClient(DefaultHttpxClient):
    """A client whose replies have to be whole `seconds` after they were asked for."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def send(self, request: Any, **options: Any) -> Any:
        """Return the response with its whole body. Raises `APITimeoutError` where that takes too long."""
        end = time.monotonic() + self.seconds
        response = super().send(request, **(options | {"stream": True}))
        body = bytearray()
        try:
            for part in response.iter_bytes(CHUNK):  # unpacked a chunk at a time, whatever it swells to
                body += part
                if time.monotonic() > end:
                    raise APITimeoutError(request=request)
                if len(body) > MOST:
                    break  # what is there is no whole answer, and is told so
        finally:
            response.close()
        headers = [each for each in response.headers.multi_items() if each[0] not in OF_THE_WIRE]
        return type(response)(response.status_code, headers=headers, content=bytes(body[:MOST]), request=request)
