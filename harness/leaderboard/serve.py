"""A folder of runs in the browser: an index and each run's page, on this machine only. Imports no torch.

Nothing is computed and nothing is written: a run is shown as `harness run` or `harness leaderboard` left it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from harness.api.errors import HarnessError

HOST = "127.0.0.1"
DEEP = 4
"""So many folders below the one named, runs are looked for."""
PAGE = "leaderboard.html"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".json": "application/json; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".md": "text/markdown; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
"""What of a run is served: the renders in its folder and in plots/, never its records, logs or weights."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
STYLE = (
    ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:1.5rem auto;"
    "padding:0 1rem;overflow-wrap:anywhere}li{margin:1rem 0}small{display:block;opacity:.8}"
    ":focus-visible{outline:3px solid currentColor;outline-offset:2px}"
)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A run of the index."""

    path: str
    """Relative to the folder that is served, with slashes; `.` for that folder itself."""
    boards: tuple[str, ...]
    """Their titles."""
    note: str
    """What is missing or went wrong; empty where nothing is."""


def find_runs(folder: Path) -> list[Shown]:
    """Return the runs in a folder, itself included, by path. Raises `HarnessError` where there is none."""
    if not folder.is_dir():
        raise HarnessError(f"got {folder}, expected a run folder or a folder of runs; name one that exists")
    found = [_shown(folder, run) for run in _walk(folder, DEEP)]
    if not found:
        raise HarnessError(f"got {folder}, expected a run folder (one with cells/ in it) or a folder of them")
    return sorted(found, key=lambda each: each.path)


def server(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """Return a server of a folder's runs, bound to this machine alone; `port` 0 takes a free one.

    Raises `HarnessError` where there is no run, or the port is taken.
    """
    find_runs(folder)
    root = folder.resolve()

    class Handler(_Handler):
        folder = root

    try:
        return ThreadingHTTPServer((HOST, port), Handler)
    except OSError as error:
        raise HarnessError(f"--port got {port}, which cannot be used ({error.strerror}); name another one") from None


def address(running: ThreadingHTTPServer, folder: Path) -> str:
    """Return where to look: the page of a single run, the index of several."""
    runs = find_runs(folder)
    place = quote(f"{runs[0].path}/{PAGE}") if len(runs) == 1 and not runs[0].note else ""
    return f"http://{HOST}:{running.server_address[1]}/{place.removeprefix('./')}"


def view(folder: Path, port: int, say: Callable[[str], Any]) -> None:
    """Serve until interrupted; `say` gets the address."""
    with server(folder, port) as running:
        say(f"{address(running, folder)}  (on this machine only; Ctrl-C ends it)")
        try:
            running.serve_forever()
        except KeyboardInterrupt:
            say("Ended.")


def index(runs: list[Shown]) -> str:
    """Return the page that lists the runs."""
    items = []
    for run in runs:
        name = escape("this folder" if run.path == "." else run.path)
        link = quote("" if run.path == "." else f"{run.path}/")
        head = f"<strong>{name}</strong>" if run.note else f'<a href="/{link}{PAGE}">{name}</a>'
        said = "".join(f"<small>{escape(text)}</small>" for text in (*run.boards, run.note) if text)
        items.append(f"<li>{head}{said}</li>")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>Runs</title><style>{STYLE}</style></head>\n"
        f"<body><main><h1>Runs</h1><ul>{''.join(items)}</ul></main></body></html>\n"
    )


class _Handler(BaseHTTPRequestHandler):
    folder: Path

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal belongs to the user."""

    def _answer(self, body: bool) -> None:
        local = {f"{name}:{self.server.server_address[1]}" for name in (HOST, "localhost")}  # type: ignore[index]  # typeshed allows addresses that are no (host, port)
        if self.headers.get("Host") not in local:  # a foreign name that resolves to here: DNS rebinding
            self._send(HTTPStatus.FORBIDDEN, "text/plain; charset=utf-8", b"Open this page as 127.0.0.1.\n", body)
            return
        path = unquote(urlsplit(self.path).path).strip("/")
        if not path:
            page = index(find_runs(self.folder)).encode()
            self._send(HTTPStatus.OK, TYPES[".html"], page, body, policy=POLICY)
            return
        file = self.folder / path
        if not _served(self.folder, file):
            self._send(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"Not here.\n", body)
            return
        policy = None if file.name == PAGE else POLICY  # the page brings its own, with the hashes of its scripts
        self._send(HTTPStatus.OK, TYPES[file.suffix], file.read_bytes(), body, policy=policy)

    def _send(self, status: HTTPStatus, kind: str, content: bytes, body: bool, policy: str | None = POLICY) -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(content)), "Cache-Control": "no-store"}
        headers |= {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
        headers |= {"Content-Security-Policy": policy} if policy else {}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


def _served(folder: Path, file: Path) -> bool:
    """Return whether a file is a render of a run inside the folder; links that lead out of it are not followed."""
    if "\0" in str(file) or file.suffix not in TYPES or not file.is_file():
        return False
    real = file.resolve()
    run = real.parent.parent if real.parent.name == "plots" else real.parent
    renders = real.parent.name == "plots" or real.name.startswith("leaderboard.")
    return renders and real.is_relative_to(folder) and (run / "cells").is_dir()


def _walk(folder: Path, deep: int) -> list[Path]:
    if (folder / "cells").is_dir():
        return [folder]
    if not deep:
        return []
    inner = sorted(each for each in folder.iterdir() if each.is_dir() and not each.is_symlink())
    return [run for each in inner if not each.name.startswith(".") for run in _walk(each, deep - 1)]


def _shown(folder: Path, run: Path) -> Shown:
    path = run.relative_to(folder).as_posix()
    if not (run / PAGE).is_file():
        return Shown(path=path, boards=(), note=f"no {PAGE} yet: harness leaderboard {run} makes it")
    try:
        boards = json.loads((run / "leaderboard.json").read_text(encoding="utf-8"))["boards"]
        titles = tuple(str(board["title"]) for board in boards)
    except (OSError, ValueError, KeyError, TypeError):
        titles = ()  # the page itself says more
    return Shown(path=path, boards=titles, note="")
