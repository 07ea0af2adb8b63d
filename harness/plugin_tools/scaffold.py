"""`harness plugins new`: a distribution with one loss and its tests, from the files in `template/`."""

from __future__ import annotations

import importlib.util
import keyword
import re
import shlex
from importlib.resources import files
from pathlib import Path
from string import Template

from harness.api import HarnessError
from harness.manager import RESERVED, loss_owner, losses, plugin_manager

FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "src/{module}.py": "loss.py",
    "tests/test_conformance.py": "test_conformance.py",
    "tests/golden.json": "golden.json",
}
"""Where a file goes -> its template, which has `.txt` after its name so that no tool takes it for code of ours."""


def new_plugin(name: str, folder: Path) -> Path:
    """Write `folder`/`name`, a distribution that brings the loss `name`, and return it.

    Raises `HarnessError` for a name that cannot be used and for a folder that is there already or cannot be written.
    """
    _check_name(name)
    target = folder / name
    if target.exists():
        raise HarnessError(
            f"got '{name}', but {target} is there already, expected a new folder; move it or name another"
        )
    module = name.replace("-", "_")
    words = {"name": name, "module": module, "cls": _class_name(name)}
    templates = files("harness.plugin_tools") / "template"
    try:
        for place, source in FILES.items():
            path = target / place.format(module=module)
            path.parent.mkdir(parents=True, exist_ok=True)
            text = (templates / f"{source}.txt").read_text(encoding="utf-8")
            path.write_text(Template(text).substitute(words), encoding="utf-8")
    except OSError as error:
        raise HarnessError(f"--folder got {folder}, where {target} cannot be written: {error}; name another") from error
    return target


def next_steps(target: Path) -> str:
    """Return what to do with a new distribution, as text."""
    name = target.name
    path = target if target.is_absolute() else f"./{target}"  # pip would take a bare name for one of the index
    return "\n".join(
        [
            f"Written: {target}; the loss is {target / 'src' / name.replace('-', '_')}.py",
            "Next:",
            f"  pip install -e {shlex.quote(f'{path}[test]')}",
            f"  harness plugins check {name}",
            f"  harness run --plugins {name},simpo --models qwen",
        ]
    )


def _class_name(name: str) -> str:
    camel = "".join(part.capitalize() for part in name.split("-"))
    # an end of its own: a loss called `range` or `terms` must not hide what the file imports
    return camel if camel.endswith("Loss") and camel != "Loss" else f"{camel}Loss"


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise HarnessError(
            f"got the name '{name}', expected lower-case letters, digits and single dashes, a letter first; "
            "for example my-loss"
        )
    if name in RESERVED:
        raise HarnessError(f"got the name '{name}', which {RESERVED[name]}, expected a new one; choose another")
    manager = plugin_manager()
    if name in losses(manager):
        owner = loss_owner(manager, name)
        raise HarnessError(
            f"got the name '{name}', which {owner.distribution} {owner.version} brings already, expected a new one; "
            "choose another"
        )
    module = name.replace("-", "_")
    if keyword.iskeyword(module) or importlib.util.find_spec(module) is not None:
        raise HarnessError(
            f"got the name '{name}', whose module '{module}' Python has already, expected a new one; choose another"
        )
