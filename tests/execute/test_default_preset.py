"""Which settings a run has that names no preset: by its models alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.api import HarnessError
from harness.execute.resolve import run_values


def folder_of(place: Path, parameters: int, **config: object) -> str:
    """Write what is read of a checkpoint: its config and the header of its weights."""
    place.mkdir()
    (place / "config.json").write_text(json.dumps({"model_type": "llama"} | config))
    header = json.dumps({"w": {"dtype": "F32", "shape": [parameters], "data_offsets": [0, 0]}}).encode()
    (place / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return str(place)


def test_the_largest_model_decides(tmp_path: Path) -> None:
    tiny, medium = folder_of(tmp_path / "t", 1_000_000), folder_of(tmp_path / "m", 1_100_000_000)
    assert run_values(None, {"models": (tiny,)}).preset == "tiny"
    assert run_values(None, {"models": (tiny, "smollm2")}).preset == "small"
    assert run_values(None, {"models": ("smollm2", medium, tiny)}).preset == "medium"


def test_models_made_here_are_nano_and_a_tuned_start_has_the_settings_of_its_size(tmp_path: Path) -> None:
    assert run_values(None, {}).preset == "nano"
    assert run_values(None, {"models": ("qwen", "gemma")}).preset == "nano"
    assert run_values(None, {"models": ("qwen",), "start": folder_of(tmp_path / "s", 400_000_000)}).preset == "small"


def test_a_preset_that_is_named_wins_in_flags_and_in_a_run_file(tmp_path: Path) -> None:
    tiny = folder_of(tmp_path / "t", 1_000_000)
    assert run_values(None, {"models": ("qwen", tiny), "preset": "small"}).preset == "small"
    (tmp_path / "run.toml").write_text(run_values(None, {"models": (tiny,)}).as_toml())
    again = run_values(tmp_path / "run.toml", {"models": ("smollm2",)})
    assert (again.preset, again.models) == ("tiny", ("smollm2",))


def test_the_settings_stand_in_the_run_and_do_not_depend_on_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = folder_of(tmp_path / "t", 400_000_000)
    here = run_values(None, {"models": (model,)})
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(64)), raising=False)
    monkeypatch.setattr("harness.execute.workers.may_have_gpu", lambda: True)
    assert run_values(None, {"models": (model,)}).decisive() == here.decisive()
    assert here.decisive().preset == "small"


@pytest.mark.parametrize("models", [("qwen", "smollm2"), ("./nowhere", "qwen")])
def test_both_kinds_of_models_need_a_preset(models: tuple[str, ...]) -> None:
    with pytest.raises(HarnessError, match=r"--models got qwen, made here by default, beside .* give --preset"):
        run_values(None, {"models": models})


def test_a_model_of_unknown_size_needs_a_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.models.size.why_no_answer", lambda name, seconds, revision: "offline")
    with pytest.raises(HarnessError, match=r"got model 'org/big-7b'.*tiny \(up to 10M\).* paper \(larger\)"):
        run_values(None, {"models": ("org/big-7b",)})
    assert run_values(None, {"models": ("org/big-7b",), "preset": "paper"}).preset == "paper"


def test_texts_are_cut_to_the_smallest_window_and_longer_ones_refused(tmp_path: Path) -> None:
    short, long = (folder_of(tmp_path / str(n), 1000, n_positions=n) for n in (256, 1024))
    run = run_values(None, {"models": (long, short)})
    assert (run.settings.max_length, run.settings.max_prompt, run.decisive().max_length) == (256, 128, 256)
    assert run_values(None, {"models": (long,)}).max_length is None
    assert run_values(None, {"models": (long,), "preset": "paper"}).settings.max_length == 1024
    assert run_values(None, {"models": (short,), "max_length": 200}).settings.max_length == 200
    with pytest.raises(HarnessError, match="--max-length got 300, expected at most 256, the context window of"):
        run_values(None, {"models": (short,), "max_length": 300})
