"""A folder of runs in the browser: an index and each run's page, on this machine only. Imports no torch.

Nothing is computed and nothing is written: a run is shown as `harness run` or `harness leaderboard` left it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from harness.api.errors import HarnessError
from harness.run_folder.limits import read_json
from harness.run_folder.paths import BOARD_JSON, BOARDS, CELLS, PAGE, PLOTS, is_run

HOST = "127.0.0.1"
LEVELS = 4
"""How deep below the named folder runs are looked for."""
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".json": "application/json; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".md": "text/markdown; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
"""What is served of a run: the renders in its folder and in plots/, never its records, logs or weights."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox allow-scripts allow-downloads"
)
"""A page that somebody else wrote may run its scripts and ask nobody for anything, this server neither."""
STYLE = (
    ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:1.5rem auto;"
    "padding:0 1rem;overflow-wrap:anywhere}li{margin:1rem 0}small{display:block;opacity:.8}"
    ":focus-visible{outline:3px solid currentColor;outline-offset:2px}"
)


@dataclass(frozen=True, kw_only=True)
class IndexEntry:
    """A run as the index lists it."""

    path: str
    """Relative to the folder that is served, with slashes; `.` for that folder itself."""
    titles: tuple[str, ...]
    """Of its boards."""
    note: str
    """Why there is no page to open; empty where there is one."""


def find_runs(folder: Path) -> list[IndexEntry]:
    """Return the runs in a folder, itself included, by path. Raises `HarnessError` where there is none."""
    if not folder.is_dir():
        raise HarnessError(f"got {folder}, expected a run folder or a folder of runs; name one that exists")
    entries = [_entry(folder, run) for run in _runs_below(folder, LEVELS)]
    if not entries:
        raise HarnessError(
            f"got {folder}, expected a run folder (one with {CELLS}/ in it) or a folder of them; name one of those"
        )
    return sorted(entries, key=lambda entry: entry.path)


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
        raise HarnessError(f"got --port {port}, which cannot be used ({error.strerror}); name another") from None


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


def index(entries: list[IndexEntry]) -> str:
    """Return the page that lists the runs."""
    items = []
    for entry in entries:
        name = escape("this folder" if entry.path == "." else entry.path)
        link = quote("" if entry.path == "." else f"{entry.path}/")
        head = f"<strong>{name}</strong>" if entry.note else f'<a href="/{link}{PAGE}">{name}</a>'
        lines = "".join(f"<small>{escape(text)}</small>" for text in (*entry.titles, entry.note) if text)
        items.append(f"<li>{head}{lines}</li>")
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
        port = self.server.server_address[1]  # type: ignore[index]  # typeshed allows addresses that are no (host, port)
        if self.headers.get("Host") not in (f"{HOST}:{port}", f"localhost:{port}"):
            # another name that resolves to this machine: a foreign page reading along (DNS rebinding)
            self._send(HTTPStatus.FORBIDDEN, "text/plain; charset=utf-8", b"Open this page as 127.0.0.1.\n", body)
            return
        path = unquote(urlsplit(self.path).path).strip("/")
        if not path:
            page = index(find_runs(self.folder)).encode()
            self._send(HTTPStatus.OK, TYPES[".html"], page, body)
            return
        file = self.folder / path
        if not _may_be_served(self.folder, file):
            self._send(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"Not here.\n", body)
            return
        policy = PAGE_POLICY if file.name == PAGE else POLICY
        self._send(HTTPStatus.OK, TYPES[file.suffix], file.read_bytes(), body, policy=policy)

    def _send(self, status: HTTPStatus, kind: str, content: bytes, body: bool, policy: str = POLICY) -> None:
        """Send an answer of the media type `kind`; with its content where `body` is asked for, else its head alone."""
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(content)), "Cache-Control": "no-store"}
        headers |= {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
        headers |= {"Content-Security-Policy": policy, "Cross-Origin-Resource-Policy": "same-origin"}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


def _may_be_served(folder: Path, file: Path) -> bool:
    """Return whether a file is a render of a run inside the folder; links that lead out of it are not followed."""
    if "\0" in str(file) or file.suffix not in TYPES or not file.is_file():
        return False
    real = file.resolve()
    run = real.parent.parent if real.parent.name == PLOTS else real.parent
    is_render = real.parent.name == PLOTS or real.name in (*BOARDS, PAGE)
    return is_render and real.is_relative_to(folder) and is_run(run)


def _runs_below(folder: Path, levels: int) -> list[Path]:
    if is_run(folder):
        return [folder]
    if not levels:
        return []
    inner = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.is_symlink()]
    return [run for path in inner if not path.name.startswith(".") for run in _runs_below(path, levels - 1)]


def _entry(folder: Path, run: Path) -> IndexEntry:
    path = run.relative_to(folder).as_posix()
    if not (run / PAGE).is_file():
        return IndexEntry(path=path, titles=(), note=f"no {PAGE} yet: harness leaderboard {run} makes it")
    try:
        boards = read_json(run / BOARD_JSON)["boards"]
        titles = tuple(str(board["title"]) for board in boards)
    except (OSError, ValueError, KeyError, TypeError):
        titles = ()  # its page can be opened all the same
    return IndexEntry(path=path, titles=titles, note="")
