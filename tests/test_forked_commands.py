"""Commands that tests fork: the same as those started afresh, and none leaves anything to the next."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from forked_commands import can_be_forked

from harness.execute import workers


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("plugins", "show", "gappo"), 0),
        (("plugins", "show", "nothing"), 2),
        (("run", "--no-such-option"), 2),
        (("leaderboard", "--help"), 0),
    ],
)
def test_a_forked_command_says_what_one_started_afresh_says(words: tuple[str, ...], code: int, harness: Any) -> None:
    forked, fresh = harness(*words), harness(*words, afresh=True)
    assert (forked.returncode, forked.stdout, forked.stderr) == (fresh.returncode, fresh.stdout, fresh.stderr)
    assert forked.returncode == code


def test_a_plugin_on_the_path_of_one_command_is_unknown_to_the_next(harness: Any, tmp_path: Path) -> None:
    source = (Path(__file__).parent / "example_plugin" / "example_loss.py").read_text()
    (tmp_path / "example_loss.py").write_text(source)
    info = tmp_path / "example_dist-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: example-dist\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[harness]\nexample-hinge = example_loss\n")
    asked = ("plugins", "show", "example-hinge")
    assert harness(*asked, PYTHONPATH=str(tmp_path)).returncode == 0
    assert harness(*asked).returncode == 2


@pytest.mark.skipif(sys.platform != "linux", reason="commands are forked on Linux alone")
@pytest.mark.parametrize(
    ("words", "variables", "expected"),
    [
        (("verify", "run"), {}, True),
        (("run", "--scorer", "transformers"), {"HARNESS_CACHE": "here"}, True),
        (("run", "--scorer", "transformers"), {"HF_HUB_OFFLINE": "1"}, False),  # read when its library is imported
        (("run", "--plugins", "simpo"), {}, False),  # vLLM may score it
        (("doctor",), {}, False),
    ],
)
def test_what_reads_its_variables_early_or_may_use_vllm_is_not_forked(
    words: tuple[str, ...], variables: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "may_have_gpu", lambda: False)
    assert can_be_forked(words, variables) == expected
