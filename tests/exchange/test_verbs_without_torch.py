"""Every verb that reads a finished run works where torch, transformers, vllm and ray are not installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

PROGRAM = """
from contextlib import suppress
from http.server import ThreadingHTTPServer
from harness.__main__ import main

def interrupted(self):
    raise KeyboardInterrupt  # as Ctrl-C does, once the address has been said

ThreadingHTTPServer.serve_forever = interrupted
first, second, folder = sys.argv[1:]
for words in (
    ["view", first, "--port", "0"],
    ["power", first, "--difference", "0.1"],
    ["compare", first, second],
    ["gate", first, second, "--margin", "0.9"],
    ["gate", "--calibrate", first, second],
    ["leaderboard", first, "--no-pictures"],  # with the noise floor that now lies there
    ["verify", first],
    ["merge", first, second, "--into", folder + "/merged"],
    ["report", first, second, "--output", folder + "/paper"],
    *(["export", first, "--format", form, "--output", folder + "/" + form] for form in ("csv", "lm-eval", "hf")),
):
    sys.argv = ["harness", *words]
    try:
        main()
    except SystemExit as ended:
        print("ENDED", *words[:2 if words[1].startswith("--") else 1], ended.code or 0, flush=True)
print("LOADED", sorted({"torch", "transformers", "vllm", "ray"} & set(sys.modules)))
"""


def test_every_verb_of_a_finished_run_works_without_torch(whole_run: Path, tmp_path: Path, without_torch: str) -> None:
    runs = [shutil.copytree(whole_run, tmp_path / name) for name in ("one", "two")]
    done = subprocess.run(
        [sys.executable, "-c", without_torch + PROGRAM, *map(str, runs), str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = [line for line in done.stdout.splitlines() if line.startswith(("ENDED", "LOADED"))]
    assert said == [
        *("ENDED view 0", "ENDED power 0", "ENDED compare 0", "ENDED gate 0", "ENDED gate --calibrate 0"),
        *("ENDED leaderboard 0", "ENDED verify 0", "ENDED merge 0"),
        "ENDED report 0",
        *["ENDED export 0"] * 3,
        "LOADED []",
    ], done.stdout + done.stderr
    assert "(on this machine only; Ctrl-C ends it)" in done.stdout
