"""The house stays enterable: rooms on the map, short files and functions, types for what is passed around."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from architecture_counts import arrows, stays

ROOT = Path(__file__).parents[1]
HARNESS = ROOT / "harness"
MAP = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
FILES = sorted([*HARNESS.rglob("*.py"), *(ROOT / "plugins").glob("*.py")])
ROOMS = sorted(path.parent for path in HARNESS.rglob("__init__.py") if path.parent != HARNESS)
UNTYPED = re.compile(r"\b(dict|Mapping)\[str, (Any|object)\]")
DOORS = {
    "harness/api/": "options of a loss",
    "harness/manager.py": "options of a loss",
    "harness/planning/grid.py": "options of a loss",
    "harness/plugin_tools/report_card.py": "options of a loss",
    "harness/leaderboard/decide/row_facts.py": "options of a loss",
    "harness/data/arrow_files.py": "raw rows of people's files",
    "harness/data/hub.py": "splits of a hub data set",
    "harness/data/json_files.py": "raw rows of people's files",
    "harness/data/layouts/": "raw rows of people's files",
    "harness/data/open_prompts.py": "raw rows of people's files",
    "harness/data/rows.py": "raw rows of people's files",
    "harness/data/turns.py": "raw rows of people's files",
    "harness/planning/axes.py": "run files (TOML) and flags",
    "harness/planning/run_file.py": "run files (TOML) and flags",
    "harness/planning/run_toml.py": "run files (TOML) and flags",
    "harness/execute/resolve.py": "flags",
    "harness/execute/own_losses.py": "options of a loss",
    "harness/leaderboard/row_settings.py": "options of a loss",
    "harness/results/": "options of a loss, lines of tables, settings of a run",
    "harness/execute/elsewhere.py": "flags",
    "harness/run_folder/": "JSON of records and manifests",
    "harness/leaderboard/json.py": "JSON of leaderboards",
    "harness/leaderboard/pictures/": "JSON of Vega-Lite",
    "harness/leaderboard/page/manifest_facts.py": "JSON of manifests",
    "harness/compare/json.py": "JSON of comparisons",
    "harness/exchange/identity_checks.py": "options of a loss",
    "harness/exchange/lm_eval.py": "JSON of lm-evaluation-harness",
    "harness/exchange/merge_conflicts.py": "JSON of records",
    "harness/exchange/merged_manifest.py": "JSON of manifests",
    "harness/planning/trials.py": "JSON of manifests, signatures of Optuna",
    "harness/logps/cpu_matmul.py": "signatures of torch",
    "harness/models/families.py": "signatures of transformers",
    "harness/score/vllm_engine.py": "signatures of vLLM",
}
"""Where a mapping of anything may stand in a signature, and what it is."""


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    """Yield the functions and methods of a file, inner ones too."""
    yield from (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.FunctionDef))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(HARNESS)))
def test_every_room_is_on_the_map_and_says_what_it_is(room: Path) -> None:
    assert f"| `{room.relative_to(HARNESS)}/` |" in MAP
    assert ast.get_docstring(ast.parse((room / "__init__.py").read_text("utf-8")))


def test_every_path_on_the_map_exists() -> None:
    names = re.findall(r"`((?:\w+/)*\w+\.(?:py|md|toml))`", MAP)
    assert len(names) > 30
    for name in names:
        assert (ROOT / name).exists() or (HARNESS / name).exists(), name


def test_few_files_lie_loose_and_the_layers_are_few() -> None:
    loose = sorted(path.name for path in HARNESS.glob("*.py"))
    assert loose == ["__init__.py", "__main__.py", "cell.py", "cli.py", "import_guard.py", "manager.py"]
    config = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    (layers,) = (each["layers"] for each in config["tool"]["importlinter"]["contracts"] if each["type"] == "layers")
    assert len(layers) <= 12


def test_every_package_is_part_of_the_wheel() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    packages = {".".join(room.relative_to(ROOT).parts) for room in ROOMS} | {"harness", "harness_plugins"}
    assert set(config["tool"]["setuptools"]["packages"]) == packages


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_long_file_or_function_has_its_reason_on_its_first_line(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    assert len(lines) <= 300 or "over 300 lines" in lines[0].lower(), f"{len(lines)} lines"
    for function in functions(path):
        length = (function.end_lineno or 0) - function.lineno + 1
        assert length <= 50 or "over 50 lines" in lines[function.lineno - 1].lower(), (
            f"{function.name} has {length} lines"
        )


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_what_is_passed_around_has_a_type(path: Path) -> None:
    if any(name_of(path).startswith(door) for door in DOORS):
        return
    for function in functions(path):
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        hints = [each.annotation for each in (*arguments, function.args.vararg) if each and each.annotation]
        for hint in [*hints, *([function.returns] if function.returns else [])]:
            assert not UNTYPED.search(ast.unparse(hint)), f"{function.name}: {ast.unparse(hint)}; give it a type"


def test_every_door_is_still_one() -> None:
    for door in DOORS:
        paths = [path for path in FILES if name_of(path).startswith(door)]
        assert any(UNTYPED.search(path.read_text("utf-8")) for path in paths), f"{door} passes no mapping: not a door"


def test_arrows_and_stays_are_counted_by_hand_on_a_small_house(tmp_path: Path) -> None:
    for name, text in {
        "cli.py": "from harness.execute.plan import show  # --max-length\n",
        "execute/plan.py": "import harness.data.rows\nfrom harness import grid\nmax_length = 1\nx = max_length\n",
        "data/rows.py": "from harness.data import files\n",
    }.items():
        (tmp_path / "harness" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "harness" / name).write_text(text)
    assert arrows(tmp_path) == {("cli", "execute"), ("execute", "data"), ("execute", "grid")}
    assert stays(tmp_path, "--max-length") == {"harness/cli.py": 1, "harness/execute/plan.py": 2}
