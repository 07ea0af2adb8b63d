"""Build the distributions as they are published, check them, use the wheel in a fresh environment: `tox -e package`.

Needs build and twine, and the package registry for what the wheel depends on. They stay in dist/.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
DIST = ROOT / "dist"
SMALLEST = "--plugins core --models qwen,gemma,mistral --limit 48 --budget pairs=16 --scorer transformers"
"""The README's first command on very little, and scored without vLLM, which is an extra."""


def main() -> None:
    """Raise where a step fails; each prints what it does."""
    shutil.rmtree(DIST, ignore_errors=True)
    call(sys.executable, "-m", "build", "--outdir", DIST, ROOT)
    wheels, sources = list(DIST.glob("*.whl")), list(DIST.glob("*.tar.gz"))
    assert (len(wheels), len(sources)) == (1, 1), sorted(DIST.iterdir())
    call(sys.executable, "-m", "twine", "check", "--strict", *wheels, *sources)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)  # outside the repository, so that nothing is imported from there
        call(sys.executable, "-m", "venv", folder / "fresh")
        programs = folder / "fresh" / "bin"
        call(programs / "pip", "install", "--quiet", wheels[0])
        call(programs / "harness", "run", *SMALLEST.split(), "--output-dir", folder / "run", cwd=folder)
        call(programs / "harness", "verify", folder / "run", cwd=folder)


def call(*words: str | Path, cwd: Path = ROOT) -> None:
    """Run a command; raise where it fails."""
    print("+", *words, flush=True)
    subprocess.run([str(word) for word in words], cwd=cwd, check=True)


if __name__ == "__main__":
    main()
