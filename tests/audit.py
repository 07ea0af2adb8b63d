"""Ask PyPI whether what is installed here has known vulnerabilities: `tox -e security` runs this.

Every package is asked for by its public version, without the +cpu of a build of torch. One that PyPI has no answer
about ends the audit with an error: what was not looked up is not taken to be sound.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path

OWN = "preference-harness"
ACCEPTED: dict[str, str] = {}
"""Advisories that have no fix yet, by id, each with the reason why it does not concern this project."""


def installed() -> list[str]:
    """Return what is installed here besides this project, as requirements."""
    found = {
        f"{re.sub(r'[-_.]+', '-', each.metadata['Name']).lower()}=={each.version.partition('+')[0]}"
        for each in distributions()
    }
    return sorted(line for line in found if not line.startswith(f"{OWN}=="))


def main() -> int:
    """Return pip-audit's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "installed.txt"
        listed.write_text("\n".join(installed()) + "\n", encoding="utf-8")
        options = ["--strict", "--no-deps", "--disable-pip", "--progress-spinner=off"]
        ignored = [part for advisory in ACCEPTED for part in ("--ignore-vuln", advisory)]
        command = [sys.executable, "-m", "pip_audit", *options, *ignored, "-r", str(listed)]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
