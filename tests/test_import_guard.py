"""What must not load is hidden wherever transformers is about to be imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def _in_python(code: str, *path: Path) -> str:
    """Return what `code` prints in a Python whose import path starts with `path`."""
    start = f"import sys; sys.path[:0] = {[str(folder) for folder in path]}\n"
    done = subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_torchvision_that_cannot_load_is_absent_afterwards_and_models_import(tmp_path: Path) -> None:
    _break_torchvision(tmp_path)
    code = """
import importlib.util
import transformers  # believes what it finds, and remembers it
from harness.import_guard import guard_imports
print("torchvision" in guard_imports(), guard_imports())
print(importlib.util.find_spec("torchvision"), [name for name in sys.modules if name.startswith("torchvision.")])
from transformers import Qwen2ForCausalLM
from transformers.utils import is_torchvision_available
print(is_torchvision_available())
"""
    assert _in_python(code, tmp_path) == "True ()\nNone []\nFalse"


def test_a_torchvision_that_loads_stays(tmp_path: Path) -> None:
    (tmp_path / "torchvision.py").write_text("import warnings; warnings.warn('slow image reader'); nms = 1")
    code = """
import warnings; warnings.simplefilter("error")
from harness.import_guard import guard_imports
print("torchvision" in guard_imports())
import torchvision; print(torchvision.nms)
"""
    assert _in_python(code, tmp_path) == "False\n1"


def test_a_library_that_would_fetch_compiled_code_from_the_hub_finds_no_way_to(tmp_path: Path) -> None:
    (tmp_path / "kernels.py").write_text("print('imported'); get_kernel = lambda *_, **__: print('fetched')")
    (tmp_path / "kernels-0.17.2.dist-info").mkdir()
    (tmp_path / "kernels-0.17.2.dist-info" / "METADATA").write_text("Name: kernels\nVersion: 0.17.2\n")
    code = """
import harness.training.trainer
import peft, bitsandbytes  # asks for its code on a processor that multiplies in bf16
try:
    from kernels import get_kernel
except ImportError:
    print("absent")
"""
    assert _in_python(code, tmp_path) == "absent"


@pytest.mark.parametrize(
    "use",
    [
        "import harness.cell",
        "from harness.models.load import load_tokenizer; load_tokenizer(Path.cwd() / 'nowhere')",
    ],
)
def test_the_python_api_works_beside_a_torchvision_that_cannot_load(tmp_path: Path, use: str) -> None:
    _break_torchvision(tmp_path)
    code = f"""
from pathlib import Path
try:
    {use}
except Exception as error:  # a bad argument; transformers was imported by then
    assert "nowhere" in str(error), error
from transformers import Qwen2ForCausalLM
print("fine")
"""
    assert _in_python(code, tmp_path) == "fine"


def _break_torchvision(folder: Path) -> None:
    broken = folder / "torchvision"
    broken.mkdir()
    (broken / "part.py").write_text("")
    (broken / "__init__.py").write_text(
        "import torchvision.part\nraise RuntimeError('operator torchvision::nms does not exist')"
    )
    (folder / "torchvision-9.9.dist-info").mkdir()
    (folder / "torchvision-9.9.dist-info" / "METADATA").write_text("Name: torchvision\nVersion: 9.9\n")
