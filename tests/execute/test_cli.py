"""The command line: every mistake is one line and exit code 2."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.__main__ import main

QUICK = ("--scorer", "transformers")
"""Without this, a run asks first whether vLLM can be imported."""
MISTAKES = [
    (("--plugins", "smipo"), ("smipo", "simpo", "plugins list")),
    (("--plugins", ""), ("selects no loss",)),
    (("--plugins", "simpo:betta=2"), ("betta", "beta, gamma")),
    (("--plugins", "simpo:beta=two"), ("'two'", "float")),
    (("--plugins", "simpo:beta=-1"), ("beta", "-1")),
    (("--models", "quen"), ("quen", "qwen, gemma, mistral, llama, smollm2")),
    (("--models", ""), ("--models", "at least one")),
    (("--budget", "pairs"), ("'pairs'", "pairs=N")),
    (("--budget", "pairs=3"), ("pairs=3", "one optimiser step of 16 pairs")),
    (("--seeds", "one"), ("one", "0,1,2")),
    (("--preset", "huge"), ("huge", "nano")),
    (("--scorer", "llama"), ("llama", "vllm")),
    (("--dataset", "no/such/folder"), ("no/such/folder", "embedded")),
    (("--limit", "3"), ("3 training pairs", "at least 16")),
    (("--ranked-by", "beauty"), ("beauty", "pairwise_accuracy")),
    (("--batch-pairs", "0"), ("--batch-pairs", "0")),
    (("--batch-pairs", "16", "--micro-pairs", "3"), ("--micro-pairs", "divisor")),
    (("--evaluate-at", "0,0.5"), ("--evaluate-at", "(0.0, 0.5)", "above 0 and up to 1")),
    (("--evaluate-at", "25,50"), ("--evaluate-at", "above 0 and up to 1")),
    (("--evaluate-at", "half"), ("'half'", "such as 0.25,0.5,1")),
    (("--evaluate-at", "0.01"), ("--evaluate-at", "0.01", "pairs=384", "one optimiser step of 16 pairs")),
    (("--trials", "-1"), ("--trials", "-1", "greater than or equal to 0")),
    (("--trials", "1.5"), ("--trials", "1.5", "integer")),
    (("--adapter", "dora"), ("dora", "full, lora or qlora")),
    (("--adapter", "lora:targets=c_attn"), ("targets=c_attn", "'qwen'", "down_proj, gate_proj")),
    (("--unknown-option", "3"), ("--unknown-option",)),
    (("--reference-path",), ("got --reference-path", "now called --plain-path")),
    (("no-such-file.toml",), ("no-such-file.toml", "cannot be read")),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES, ids=[" ".join(arguments) for arguments, _ in MISTAKES])
def test_a_mistake_is_one_line_with_exit_code_2(
    arguments: tuple[str, ...],
    words: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    from harness.__main__ import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["harness", "run", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert all(word in said for word in words), said
    assert "Traceback" not in said
    assert len([line for line in said.splitlines() if line.startswith("Error")]) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said_before_anything_runs(harness: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = harness("run", *QUICK, "--plugins", "simpo", "--output-dir", str(tmp_path / "file" / "run"))
    assert done.returncode == 2
    assert "not a folder" in done.stderr


def test_a_folder_with_another_run_is_refused_and_the_difference_named(small_run: Path, harness: Any) -> None:
    other = ("--plugins", "simpo", "--limit", "48", "--budget", "pairs=16")
    done = harness("run", *QUICK, *other, "--output-dir", str(small_run))
    assert done.returncode == 2
    assert "budget was 'pairs=32', now 'pairs=16'" in done.stderr


def test_a_run_of_the_fast_path_is_not_continued_on_the_plain_one(small_run: Path, harness: Any) -> None:
    file = str(small_run / "run.toml")
    done = harness("run", file, *QUICK, "--plain-path", "--dry-run", "--output-dir", str(small_run))
    assert done.returncode == 2
    assert "reference_path was False, now True" in done.stderr


def test_a_dry_run_prints_the_plan_and_writes_nothing(harness: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = harness("run", "--plugins", "core", "--models", "qwen,gemma", "--dry-run", "--output-dir", str(folder))
    assert done.returncode == 0, done.stderr
    assert "estimates" in done.stdout
    assert "14 = 7 losses x 2 models x 1 seeds" in done.stdout
    assert not folder.exists()


def test_help_loads_neither_torch_nor_pandas() -> None:
    code = "import sys, harness.cli, harness.__main__; print('torch' in sys.modules, 'pandas' in sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "False False"


def test_plugins_list_names_the_seven_losses(harness: Any) -> None:
    done = harness("plugins", "list")
    assert done.returncode == 0, done.stderr
    for name in ("simpo", "cpo", "ipo", "alphapo", "gapo", "gappo", "dpo"):
        assert f"\n{name} " in "\n" + done.stdout


def test_plugins_show_gives_options_with_defaults_and_source(harness: Any) -> None:
    shown = harness("plugins", "show", "gappo").stdout
    assert "base = 'simpo'" in shown
    assert "base.beta = 2.0" in shown
    assert "column score_chosen" in shown


def test_data_describe_says_what_a_file_was_taken_for_with_the_columns_it_was_told(harness: Any, tmp_path: Any) -> None:
    row = '{"asked": "Question %d?", "best": "Yes.", "worst": "No."}'
    (tmp_path / "pairs.jsonl").write_text("\n".join(row % n for n in range(20)))
    asked = ("data", "describe", str(tmp_path / "pairs.jsonl"))

    refused, done = harness(*asked), harness(*asked, "--columns", "prompt=asked,chosen=best,rejected=worst")

    assert refused.returncode == 2
    assert "which lacks prompt, chosen, rejected" in refused.stderr
    assert "taken for: a prompt with chosen and rejected texts (columns asked, best, worst)" in done.stdout


def test_data_describe_counts_pairs_and_gaps(harness: Any) -> None:
    done = harness("data", "describe", "embedded")
    assert done.returncode == 0, done.stderr
    for word in ("train", "test", "gap", "longer"):
        assert word in done.stdout


def test_doctor_says_which_scorer_a_run_would_use(harness: Any) -> None:
    done = harness("doctor", HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert "A run scores with" in done.stdout


def test_a_leaderboard_of_a_folder_that_is_none_says_so(harness: Any, tmp_path: Path) -> None:
    done = harness("leaderboard", str(tmp_path))
    assert done.returncode == 2
    assert "expected a run folder" in done.stderr


def test_the_manifest_keeps_what_was_run(small_run: Path) -> None:
    manifest = json.loads((small_run / "manifest.json").read_text())
    assert manifest["decisive"]["budget"] == "pairs=32"
    assert manifest["versions"]["torch"]
    assert (small_run / "run.toml").exists()


def brings(site: Path, name: str, source: str) -> None:
    """Write a distribution `<name>-dist` 1.2 with one module, which an entry point of its own names."""
    info = site / f"{name}_dist-1.2.dist-info"
    info.mkdir(parents=True)
    (site / f"outside_{name}.py").write_text(source)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-dist\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[harness]\n{name} = outside_{name}\n")


def test_a_taken_name_and_an_entry_point_without_a_hook_are_told_and_every_verb_works(
    harness: Any, tmp_path: Path
) -> None:
    source = (Path(__file__).parents[1] / "example_plugin" / "example_loss.py").read_text()
    for name in ("one", "two"):
        brings(tmp_path, name, source)
    brings(tmp_path, "silent", "answer = 42\n")
    site = {"PYTHONPATH": str(tmp_path)}
    clash = "several plugins bring a loss called 'example-hinge': one-dist:one and two-dist:two"
    silent = "plugin 'silent' of silent-dist 1.2 failed: HarnessError: got 'outside_silent', which has no hook"
    doctor, listed = harness("doctor", **site, HF_HUB_OFFLINE="1"), harness("plugins", "list", **site)
    planned = harness("run", *QUICK, "--dry-run", "--plugins", "simpo", **site)
    for done in (doctor, listed, planned):
        assert done.returncode == 0, done.stderr
        assert clash in done.stdout + done.stderr
        assert silent in done.stdout + done.stderr
    assert "simpo" in listed.stdout
    for asked in ("example-hinge", "simpo,example-hinge:beta=2.0"):
        refused = harness("run", *QUICK, "--dry-run", "--plugins", asked, **site)
        assert (refused.returncode, refused.stderr.startswith(f"Error: {clash}")) == (2, True), refused.stderr


def a_folder(folder: Path, parameters: int) -> Path:
    """Write what the plan reads of a checkpoint: its config and the header of its weights."""
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
    header = json.dumps({"w": {"dtype": "F32", "shape": [parameters // 1000, 1000], "data_offsets": [0, 0]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return folder


def test_the_plan_says_what_a_folder_is_and_which_settings_it_gets(harness: Any, tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "mine", 31_300_000)
    asked = ("run", *QUICK, "--dry-run", "--plugins", "dpo", "--limit", "48", "--models")
    planned = harness(*asked, str(folder), HARNESS_CACHE=str(tmp_path / "cache"))
    assert planned.returncode == 0, planned.stderr
    for said in (
        f": {folder} (a local folder, 31.3M parameters: trained as it is)",
        "settings of the preset small, which is for models of up to 500M parameters; --preset names another",
        "Budget    pairs=256 per cell, 16 pairs per step, learning rate 2e-05 for every loss, full fine-tuning",
        "Lengths   up to 384 tokens of prompt and response, 192 of the prompt",
        "Disk      up to 0.13 GB, of trained weights",  # 31.3M x 4 bytes
    ):
        assert said in planned.stdout
    assert "nano" not in planned.stdout.replace(str(folder), "")
    assert "made and fine-tuned on the spot" not in planned.stdout
    assert re.search(r"Time      \d.* of training, .* of scoring, by matrix products timed just now", planned.stdout)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ((), "Disk      up to 0.38 GB, of trained weights at 3 points that are deleted when scored"),  # 3 x 125.2 MB
        (
            ("--keep-checkpoints",),
            "Disk      0.13 GB for good, the trained weights of 1 cells, and up to 0.25 GB of those at earlier points",
        ),
    ],
)
def test_the_plan_says_the_disk_that_weights_at_points_take(
    more: tuple[str, ...], said: str, harness: Any, tmp_path: Path
) -> None:
    folder = a_folder(tmp_path / "mine", 31_300_000)
    asked = ("run", *QUICK, "--dry-run", "--plugins", "dpo", "--limit", "48", "--models", str(folder))
    planned = harness(*asked, "--evaluate-at", "0.25,0.5", *more, HARNESS_CACHE=str(tmp_path / "cache"))
    assert planned.returncode == 0, planned.stderr
    assert "Points    each cell is scored at 0.25, 0.5, 1 of its budget" in planned.stdout
    assert said in planned.stdout


@pytest.mark.parametrize(
    ("loss", "minutes", "said"),
    [
        # 2 x 3 x 125.2 MB, and with the reference 2 x 4 x 125.2
        ("dpo", "0.001", "and up to 0.75 GB to go on with a training that is stopped, written every 0.001 min of it"),
        ("simpo,tr-dpo", "0.001", "and up to 1 GB to go on with a training that is stopped"),
        ("dpo", "1e6", None),  # no training is so long
    ],
)
def test_the_plan_says_the_disk_of_checkpoints_where_a_training_is_longer_than_their_interval(
    loss: str, minutes: str, said: str | None, harness: Any, tmp_path: Path
) -> None:
    folder = a_folder(tmp_path / "mine", 31_300_000)
    asked = ("run", "--dry-run", "--plugins", loss, "--limit", "48", "--models", str(folder))
    planned = harness(*asked, "--checkpoint-every", minutes, HARNESS_CACHE=str(tmp_path / "cache"))
    assert planned.returncode == 0, planned.stderr
    assert (said or "Disk") in planned.stdout
    assert ("to go on with" in planned.stdout) == (said is not None)


def test_models_made_here_and_brought_ones_have_one_preset_only_where_it_is_named(harness: Any, tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "mine", 31_300_000)
    asked = ("run", *QUICK, "--dry-run", "--plugins", "dpo", "--limit", "48", "--models", f"qwen,{folder}")
    refused = harness(*asked)
    assert refused.returncode == 2
    assert f"--models got qwen, made here by default, beside {folder}, which are not" in refused.stderr
    both = harness(*asked, "--preset", "nano")
    assert "Models    qwen (nano preset" in both.stdout
    assert f": {folder} (a local folder, 31.3M" in both.stdout
    assert "settings of the preset nano, as asked, whatever the size" in both.stdout
    assert "learning rate 0.001 for every loss" in both.stdout


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fills(**options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/data/runs/7/run.lock")

    monkeypatch.setattr("harness.cli.cli.main", fills)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("Error: the disk of /data/runs/7 is full")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "encoding", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}]
)
def test_names_outside_ascii_are_printed_in_every_locale(
    encoding: dict[str, str], harness: Any, tmp_path: Path
) -> None:
    folder = a_folder(tmp_path / "größe", 1_000_000)
    done = harness("run", "--dry-run", "--plugins", "dpo", "--limit", "48", "--models", str(folder), **encoding)
    assert "Traceback" not in done.stderr
    unreadable = done.returncode == 2 and "expected UTF-8; set PYTHONUTF8=1" in done.stderr
    assert done.returncode == 0 or unreadable


def test_a_line_of_progress_outside_ascii_is_printed_in_every_encoding() -> None:
    program = (
        "from harness.__main__ import print_any_name; print_any_name(); from rich.console import Console; "
        "from rich.text import Text; Console().print(Text('[größe] 模型'), soft_wrap=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=True,
    )
    assert done.stdout.strip() == rb"[gr\xf6\xdfe] \u6a21\u578b"


@pytest.mark.parametrize(
    ("rates", "words"),
    [([1e10, 1.5e10], "of scoring, at the rate of the last such cells"), ([1e9, 1e11], ", which varied")],
)
def test_the_plan_s_time_is_by_models_of_like_size_and_a_range_where_the_rate_varied(
    rates: list[float], words: str, harness: Any, tmp_path: Path
) -> None:
    folder, cache = a_folder(tmp_path / "mine", 31_300_000), tmp_path / "cache"
    cache.mkdir()
    (cache / "rates.json").write_text(
        json.dumps({"full float32, 4 pairs at once": {"30000000": rates, "1000000": [1.0]}})
    )
    asked = ("run", *QUICK, "--dry-run", "--plugins", "dpo", "--limit", "48", "--models", str(folder))
    planned = harness(*asked, HARNESS_CACHE=str(cache)).stdout
    (counted,) = (line for line in planned.splitlines() if line.startswith("Estimate"))
    (line,) = (line for line in planned.splitlines() if line.startswith("Time"))
    assert words in line
    flops = float(counted.split(" FLOPs")[0].rpartition(" ")[2])
    said = re.search(r"Time      (?:(\d+) h )?(\d+) min", line)
    assert said is not None
    seconds = 3600 * int(said[1] or 0) + 60 * int(said[2])
    # beside training: the start of the run, and 48 held-out pairs for the start and the trained model
    least, most = (flops / rate for rate in (max(rates), min(rates)))
    assert least - 60 <= seconds <= 2 * most + 60
