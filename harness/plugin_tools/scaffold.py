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
from harness.manager import RESERVED, losses, owner_of, plugin_manager

FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "src/{module}.py": "loss.py",
    "tests/test_conformance.py": "test_conformance.py",
    "tests/golden.json": "golden.json",
}
"""Written file -> its template in `template/`, where `.txt` is appended so that no tool reads it as our code."""


def new_plugin(name: str, folder: Path) -> Path:
    """Write a distribution that brings the loss `name` to `folder`/`name`, and return that folder.

    Raises `HarnessError` for a name that cannot be used and for a folder that exists already or cannot be written.
    """
    _check_name(name)
    target = folder / name
    if target.exists():
        raise HarnessError(
            f"got '{name}', but {target} exists already, expected a new folder; move it or choose another name"
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
        raise HarnessError(
            f"--folder got {folder}, where {target} cannot be written: {error}; give another folder"
        ) from error
    return target


def next_steps(target: Path) -> str:
    """Return the next commands for the author of a new distribution, as text."""
    name = target.name
    path = target if target.is_absolute() else f"./{target}"  # pip would look a bare name up in the package index
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
    # always with "Loss": a class `Range` or `Terms` would hide what the file imports under that name
    return camel if camel.endswith("Loss") and camel != "Loss" else f"{camel}Loss"


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise HarnessError(
            f"got the name '{name}', expected lower-case letters, digits and single dashes, beginning with a letter; "
            "for example my-loss"
        )
    if name in RESERVED:
        raise HarnessError(f"got the name '{name}', which stands for {RESERVED[name]}; choose another")
    manager = plugin_manager()
    if f"loss {name}" in manager.broken:
        raise HarnessError(f"got the name '{name}', expected a new one: {manager.broken[f'loss {name}']}")
    if name in losses(manager):
        owner = owner_of(manager, name)
        raise HarnessError(
            f"got the name '{name}', which {owner.distribution} {owner.version} already uses, expected a new one; "
            "choose another"
        )
    module = name.replace("-", "_")
    if keyword.iskeyword(module) or importlib.util.find_spec(module) is not None:
        raise HarnessError(
            f"got the name '{name}', but Python already has a module '{module}', expected a new one; choose another"
        )
