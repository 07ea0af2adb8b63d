"""How entangled the house is: import arrows between rooms, and the places that a flag passes on its way.

    python tests/architecture_counts.py [ROOT] [FLAG]

An arrow is a pair of top-level files or folders of harness/ of which one imports the other. A stay is a line of
harness/ that names the flag's field.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path


def arrows(root: Path) -> set[tuple[str, str]]:
    """Return the pairs (importing, imported) of top-level files and folders of root/harness."""
    found = set()
    for path in (root / "harness").rglob("*.py"):
        room = path.relative_to(root / "harness").with_suffix("").parts[0]
        found |= {(room, other) for other in _imported(ast.parse(path.read_text(encoding="utf-8"))) if other != room}
    return found


def _imported(tree: ast.AST) -> Iterator[str]:
    """Yield the rooms of the harness that a module imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "harness":
            yield from (alias.name for alias in node.names if not alias.name.startswith("__"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("harness."):
            yield str(node.module).split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (name.split(".")[1] for name in (a.name for a in node.names) if name.startswith("harness."))


def stays(root: Path, flag: str) -> dict[str, int]:
    """Return the lines that name the field of a flag such as `--trust-remote-code`, by file of root/harness."""
    word = re.compile(rf"\b{flag.removeprefix('--').replace('-', '[-_]')}\b")
    counts = {
        str(path.relative_to(root)): sum(bool(word.search(line)) for line in path.read_text("utf-8").splitlines())
        for path in sorted((root / "harness").rglob("*.py"))
    }
    return {path: count for path, count in counts.items() if count}


if __name__ == "__main__":
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]
    flag = sys.argv[2] if len(sys.argv) > 2 else "--trust-remote-code"
    where = stays(root, flag)
    print(f"{len(arrows(root))} arrows; {flag}: {sum(where.values())} lines in {len(where)} files")
