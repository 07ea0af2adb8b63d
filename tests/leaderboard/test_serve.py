"""harness view: an index of runs and their pages, on this machine only."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from waiting import HANGS

from harness.api import HarnessError
from harness.leaderboard.serve import address, find_runs, server


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two runs, one without a page yet, and files that must not be served."""
    folder = tmp_path / "runs"
    for name in ("one & <two>", "deep/er/three"):
        (folder / name / "cells" / "a").mkdir(parents=True)
    page = folder / "one & <two>"
    (page / "leaderboard.html").write_text("<!DOCTYPE html><p>the page</p>", encoding="utf-8")
    (page / "leaderboard.json").write_text(json.dumps({"boards": [{"title": "<b>qwen</b>"}]}), encoding="utf-8")
    (page / "plots").mkdir()
    (page / "plots" / "all-scores.svg").write_text("<svg/>", encoding="utf-8")
    (page / "cells" / "a" / "record.json").write_text("{}", encoding="utf-8")
    (page / "manifest.json").write_text("{}", encoding="utf-8")
    (tmp_path / "cells").mkdir()  # a run of its own, outside the folder that is served
    (tmp_path / "leaderboard.json").write_text("outside", encoding="utf-8")
    (page / "leaderboard.md").symlink_to(tmp_path / "leaderboard.json")
    return folder


@pytest.fixture
def serving(runs: Path) -> Iterator[ThreadingHTTPServer]:
    with server(runs) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def ask(
    running: ThreadingHTTPServer, path: str, host: str = "", method: str = "GET"
) -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", running.server_address[1], timeout=HANGS)
    try:
        connection.request(method, path, headers={"Host": host} if host else {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), dict(answer.getheaders())
    finally:
        connection.close()


def test_the_index_lists_every_run_with_its_boards_and_escapes_names(serving: ThreadingHTTPServer) -> None:
    status, text, headers = ask(serving, "/")
    assert status == 200
    assert '<a href="/one%20%26%20%3Ctwo%3E/leaderboard.html">one &amp; &lt;two&gt;</a>' in text
    assert "&lt;b&gt;qwen&lt;/b&gt;" in text
    assert "<strong>deep/er/three</strong><small>no leaderboard.html yet" in text
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_a_page_its_downloads_and_its_pictures_are_served(serving: ThreadingHTTPServer) -> None:
    run = "/one%20%26%20%3Ctwo%3E"
    assert ask(serving, f"{run}/leaderboard.html")[1] == "<!DOCTYPE html><p>the page</p>"
    assert ask(serving, f"{run}/leaderboard.json")[2]["Content-Type"].startswith("application/json")
    assert ask(serving, f"{run}/plots/all-scores.svg")[2]["Content-Type"] == "image/svg+xml"
    assert ask(serving, f"{run}/leaderboard.html", method="HEAD")[:2] == (200, "")


@pytest.mark.parametrize(
    "path",
    [
        "/one%20%26%20%3Ctwo%3E/cells/a/record.json",
        "/one%20%26%20%3Ctwo%3E/manifest.json",
        "/one%20%26%20%3Ctwo%3E/leaderboard.md",  # a link that leads out
        "/../leaderboard.json",
        "/%2e%2e/leaderboard.json",
        "/one%20%26%20%3Ctwo%3E/..%2f..%2fleaderboard.json",
        "/etc/passwd",
        "/leaderboard.html%00.json",
        "//etc/passwd",
    ],
)
def test_nothing_else_is_served(serving: ThreadingHTTPServer, path: str) -> None:
    assert ask(serving, path)[0] == 404


def test_only_this_machine_is_served_and_only_under_its_own_name(serving: ThreadingHTTPServer) -> None:
    assert serving.server_address[0] == "127.0.0.1"
    port = serving.server_address[1]
    assert ask(serving, "/", host=f"evil.example:{port}")[0] == 403
    assert ask(serving, "/", host=f"localhost:{port}")[0] == 200
    assert ask(serving, "/", method="POST")[0] == 501


def test_a_page_that_somebody_wrote_is_confined(serving: ThreadingHTTPServer) -> None:
    policy = ask(serving, "/one%20%26%20%3Ctwo%3E/leaderboard.html")[2]["Content-Security-Policy"]
    assert "default-src 'none'" in policy  # no request to anybody
    assert "sandbox allow-scripts allow-downloads" in policy  # and no look at the other runs
    assert not {"connect-src", "allow-same-origin"} & set(policy.replace(";", " ").split())


def test_a_single_run_is_opened_at_its_page_and_several_at_the_index(serving: ThreadingHTTPServer, runs: Path) -> None:
    port = serving.server_address[1]
    assert address(serving, runs) == f"http://127.0.0.1:{port}/"
    assert address(serving, runs / "one & <two>") == f"http://127.0.0.1:{port}/leaderboard.html"
    assert [run.path for run in find_runs(runs / "one & <two>")] == ["."]


def test_a_folder_without_a_run_and_a_taken_port_are_refused(
    tmp_path: Path, serving: ThreadingHTTPServer, runs: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(HarnessError, match="expected a run folder"):
        server(tmp_path / "empty")
    with pytest.raises(HarnessError, match="expected a run folder"):
        server(tmp_path / "absent")
    with pytest.raises(HarnessError, match="got --port"):
        server(runs, serving.server_address[1])


def test_viewing_needs_neither_torch_nor_what_draws() -> None:
    program = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'vllm', 'ray', 'altair', 'vl_convert'): sys.modules[name] = None\n"
        "import harness.leaderboard.serve, harness.leaderboard\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
