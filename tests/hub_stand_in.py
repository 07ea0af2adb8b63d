"""A stand-in for the Hugging Face hub on loopback: data sets and models from folders, spoken to by `HF_ENDPOINT`.

It answers what `huggingface_hub` and `datasets` ask: what a data set or a model is, its tree, its files with ETag
and ranges.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

API = re.compile(r"/api/(datasets|models)/(?P<repo>[^/]+/[^/]+?)(/(?P<what>revision|tree|paths-info)/(?P<rest>.+))?")
RESOLVE = re.compile(r"(/datasets)?/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")


@dataclass(kw_only=True)
class Hub:
    """What the stand-in has, changed by tests while it serves."""

    url: str = ""
    revisions: dict[str, dict[str, Path]] = field(default_factory=dict)
    """By data set or model, the folder of each branch, tag and commit."""
    gated: set[str] = field(default_factory=set)
    """Those whose files are refused; what they are is told, as on the hub."""
    cut: dict[str, int] = field(default_factory=dict)
    """By end of a file's path, how many answers end after half of the bytes."""
    asked: list[str] = field(default_factory=list)
    """Method, path and range of every request."""

    def add(self, repo: str, folder: Path, *names: str) -> str:
        """Serve the folder as a commit with these names, `main` if there are none; return the commit."""
        content = b"".join(path.name.encode() + path.read_bytes() for path in files_in(folder))
        commit = hashlib.sha1(repo.encode() + content).hexdigest()
        for name in (commit, *(names or ("main",))):
            self.revisions.setdefault(repo, {})[name] = folder
        return commit

    def commit(self, repo: str, revision: str) -> str:
        """Return the commit of a revision."""
        known = self.revisions[repo]
        return next(name for name, folder in known.items() if folder == known[revision] and len(name) == 40)


def files_in(folder: Path) -> list[Path]:
    """Return the files of a folder and of those below it."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


class Answers(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """Answer without a body."""
        self.answer()

    def do_POST(self) -> None:
        """Answer `paths-info`."""
        self.answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def do_GET(self) -> None:
        """Answer with a body."""
        self.answer()

    def answer(self, body: bytes = b"") -> None:
        """Answer one request."""
        url = urlsplit(self.path)
        self.hub.asked.append(f"{self.command} {unquote(url.path)} {self.headers.get('Range', '')}".strip())
        if found := RESOLVE.fullmatch(url.path):
            self.file(found["repo"], unquote(found["revision"]), unquote(found["path"]))
        elif found := API.fullmatch(url.path):
            self.told(found["repo"], found["what"] or "", found["rest"] or "main", body, parse_qs(url.query))
        else:
            self.send(404, b"{}")

    def missing(self, repo: str, revision: str) -> bool:
        """Answer for a data set, a model or a revision that is not there; return whether it is not."""
        if repo not in self.hub.revisions:
            self.send(401, b'{"error": "Repository not found"}', **{"X-Error-Code": "RepoNotFound"})
        elif revision not in self.hub.revisions[repo]:
            self.send(404, b'{"error": "Invalid rev id"}', **{"X-Error-Code": "RevisionNotFound"})
        else:
            return False
        return True

    def told(self, repo: str, what: str, rest: str, body: bytes, query: dict[str, list[str]]) -> None:
        """Answer what a data set or a model is, or what its tree has."""
        quoted, _, inside = rest.partition("/")
        revision = unquote(quoted)
        if self.missing(repo, revision):
            return
        folder, commit = self.hub.revisions[repo][revision], self.hub.commit(repo, revision)
        names = [path.relative_to(folder).as_posix() for path in files_in(folder)]
        if what in ("", "revision"):
            self.json(
                {
                    "id": repo,
                    "sha": commit,
                    "gated": "auto" if repo in self.hub.gated else False,
                    "private": False,
                    "disabled": False,
                    "tags": [],
                    "downloads": 0,
                    "likes": 0,
                    "lastModified": "2024-01-01T00:00:00.000Z",
                    "cardData": card(folder),
                    "siblings": [{"rfilename": name} for name in names],
                }
            )
            return
        entries = [entry(folder, path) for path in sorted(folder.rglob("*"))]
        if what == "paths-info":
            form = body.decode()
            wanted = json.loads(form)["paths"] if form.startswith("{") else parse_qs(form)["paths"]
            self.json([each for each in entries if each["path"] in wanted])
            return
        deep, start = query.get("recursive", ["false"])[0].lower() == "true", unquote(inside).strip("/")
        if start and not (folder / start).is_dir():
            self.send(404, b'{"error": "no such entry"}', **{"X-Error-Code": "EntryNotFound"})
            return
        below = [each for each in entries if not start or each["path"].startswith(f"{start}/")]
        self.json([each for each in below if deep or "/" not in each["path"][len(start) :].strip("/")])

    def file(self, repo: str, revision: str, path: str) -> None:
        """Answer with a file, or with the part of it that is asked for."""
        if self.missing(repo, revision):
            return
        commit = {"X-Repo-Commit": self.hub.commit(repo, revision)}
        if repo in self.hub.gated:
            self.send(403, b"gated", **{"X-Error-Code": "GatedRepo"}, **commit)
            return
        place = self.hub.revisions[repo][revision] / path
        if not place.is_file():
            self.send(404, b"no such file", **{"X-Error-Code": "EntryNotFound"}, **commit)
            return
        content = place.read_bytes()
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "Accept-Ranges": "bytes", **commit}
        first = 0
        if asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            first = int(asked[1])
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        self.send(206 if asked else 200, content[first:], self.cuts(path), **headers)

    def cuts(self, path: str) -> bool:
        """Return whether this answer ends early."""
        end = next((end for end, left in self.hub.cut.items() if left and path.endswith(end)), None)
        if self.command != "GET" or end is None:
            return False
        self.hub.cut[end] -= 1
        return True

    def json(self, value: object) -> None:
        """Answer with JSON."""
        self.send(200, json.dumps(value).encode(), **{"Content-Type": "application/json"})

    def send(self, status: int, body: bytes, cut: bool = False, **headers: str) -> None:
        """Answer; `cut` breaks the connection after half of the body."""
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.close_connection = True


def card(folder: Path) -> dict[str, Any]:
    """Return what stands in front of the README."""
    import yaml

    text = (folder / "README.md").read_text("utf-8") if (folder / "README.md").is_file() else ""
    return yaml.safe_load(text.split("---")[1]) if text.startswith("---") else {}


def entry(folder: Path, path: Path) -> dict[str, Any]:
    """Return a line of the tree."""
    name = path.relative_to(folder).as_posix()
    if path.is_dir():
        return {"type": "directory", "oid": hashlib.sha1(name.encode()).hexdigest(), "size": 0, "path": name}
    content = path.read_bytes()
    return {"type": "file", "oid": hashlib.sha1(content).hexdigest(), "size": len(content), "path": name}


@contextmanager
def serving() -> Iterator[Hub]:
    """Yield a hub that is empty."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Answers,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
