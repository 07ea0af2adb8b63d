"""The HTTP client of judges behind an endpoint: a reply has to be there in time, however it trickles.

A client's own time-out starts anew with every byte, so a server that sends one now and then could hold it for ever.
"""

from __future__ import annotations

import time
from typing import Any

from openai import APITimeoutError, DefaultHttpxClient


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
            for part in response.iter_raw():
                body += part
                if time.monotonic() > end:
                    raise APITimeoutError(request=request)
        finally:
            response.close()
        return type(response)(response.status_code, headers=response.headers, content=bytes(body), request=request)
