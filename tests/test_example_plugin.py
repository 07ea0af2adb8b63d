"""A loss from somebody else's distribution, installed by pip, found by entry point."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.manager import losses, plugin_manager

SOURCE = Path(__file__).parent / "example_plugin"

ASK = """
import json, sys
from harness.manager import owner_of, losses, plugin_manager
manager = plugin_manager()
found = losses(manager)
print(json.dumps({
    "losses": list(found),
    "broken": dict(manager.broken),
    "owner": vars(owner_of(manager, "example-hinge")),
    "options": found["example-hinge"].from_options({"margin": "0.75"}).options(),
    "loaded": [name for name in ("vllm", "transformers", "datasets", "bert_score") if name in sys.modules],
}))
"""


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What a fresh interpreter finds with the example installed beside the harness."""
    work = tmp_path_factory.mktemp("example")
    shutil.copytree(SOURCE, work / "source")  # building leaves an egg-info behind
    target = work / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    pip += ["--disable-pip-version-check", "--no-index", "--target", str(target), str(work / "source")]
    subprocess.run(pip, check=True, capture_output=True, text=True)
    environment = {**os.environ, "PYTHONPATH": str(target)}
    asked = subprocess.run(
        [sys.executable, "-c", ASK], check=True, capture_output=True, text=True, env=environment, cwd=work
    )
    return dict(json.loads(asked.stdout))


def test_an_installed_distribution_adds_its_loss_to_the_shipped_ones(answer: dict[str, object]) -> None:
    shipped = set(losses(plugin_manager())) - {"example-hinge"}
    assert answer["losses"] == sorted({*shipped, "example-hinge"})
    assert shipped >= {"alphapo", "cpo", "dpo", "gapo", "gappo", "ipo", "simpo"}
    assert answer["broken"] == {}


def test_its_owner_and_version_are_those_of_its_own_distribution(answer: dict[str, object]) -> None:
    assert answer["owner"] == {
        "distribution": "example-preference-loss",
        "version": "0.1.0",
        "entry_point": "example-hinge",
    }


def test_its_options_are_read_as_those_of_a_shipped_loss(answer: dict[str, object]) -> None:
    assert answer["options"] == {"margin": 0.75}


def test_listing_losses_loads_no_heavy_library(answer: dict[str, object]) -> None:
    assert answer["loaded"] == []
