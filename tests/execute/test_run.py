"""A whole run, as a user starts it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from terminal import on_a_terminal, without_control_sequences
from waiting import has_no_writer, until

SMALL = ("--models", "qwen", "--limit", "48", "--budget", "pairs=32", "--scorer", "transformers")
TRIO = "simpo,dpo,gappo"


def records(folder: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in folder.glob("cells/*/record.json")]
    return {record["label"]: record for record in found}


def without_spend(folder: Path) -> Any:
    """The board without what a clock or a process decides."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: strip(inner) for key, inner in value.items() if key not in ("spend", "environment")}
        return [strip(inner) for inner in value] if isinstance(value, list) else value

    return strip(json.loads((folder / "leaderboard.json").read_text()))


def test_a_run_leaves_boards_records_and_rows(small_run: Path) -> None:
    board = json.loads((small_run / "leaderboard.json").read_text())["boards"][0]
    assert {row["loss"] for row in board["rows"]} == {"simpo", "dpo", "gappo", "base", "longer-wins"}
    assert (small_run / "leaderboard.md").exists()
    assert (small_run / "leaderboard.csv").exists()
    for record in records(small_run).values():
        rows = pd.read_parquet(small_run / "cells" / record["key"] / "rows.parquet")
        assert len(rows) >= record["dataset"]["test_pairs"] == 48
        responses = pd.read_parquet(small_run / "cells" / record["key"] / "responses.parquet")
        assert set(rows["chosen_response_id"]) <= set(responses["response_id"])


def test_a_run_leaves_a_page_with_pictures(small_run: Path) -> None:
    assert "vega" in (small_run / "leaderboard.html").read_text(encoding="utf-8")
    assert {path.suffix for path in (small_run / "plots").iterdir()} == {".json", ".png", ".svg"}


def test_a_printed_accuracy_can_be_counted_again_from_the_rows(small_run: Path) -> None:
    row = next(
        r for r in json.loads((small_run / "leaderboard.json").read_text())["boards"][0]["rows"] if r["loss"] == "dpo"
    )
    rows = pd.read_parquet(small_run / "cells" / records(small_run)["dpo"]["key"] / "rows.parquet").query(
        "split == 'test'"
    )
    chosen = 0.1 * (rows.chosen_sum_logp - rows.ref_chosen_sum_logp)
    rejected = 0.1 * (rows.rejected_sum_logp - rows.ref_rejected_sum_logp)
    wins = (chosen > rejected) + 0.5 * (chosen == rejected)
    assert row["metrics"]["pairwise_accuracy"]["value"] == pytest.approx(wins.mean())


def test_every_record_says_what_it_spent_in_five_currencies(small_run: Path) -> None:
    spend = records(small_run)["dpo"]["spend"]
    assert (spend["pairs"], spend["steps"]) == (32, 2)
    assert spend["tokens"] > 32 * 20
    assert spend["flops"] == pytest.approx(8 * records(small_run)["dpo"]["model"]["parameters"] * spend["tokens"])
    assert spend["seconds"] > 0
    assert 2e7 < spend["peak_memory_bytes"] < 4e8  # without the libraries, which are more
    assert records(small_run)["simpo"]["spend"]["tokens"] == spend["tokens"]


def test_the_untrained_base_has_no_reward_of_its_own_and_a_constant_ratio(small_run: Path) -> None:
    base = records(small_run)["base"]
    assert base["metrics"]["pairwise_accuracy"] is None
    assert base["metric_reasons"]["pairwise_accuracy"]
    assert base["metrics"]["pairwise_accuracy@ratio"] == 0.5


def test_longer_wins_is_counted_in_characters(small_run: Path) -> None:
    record = records(small_run)["longer-wins"]
    rows = pd.read_parquet(small_run / "cells" / record["key"] / "rows.parquet").query("split == 'test'")
    longer = (rows.chosen_characters > rows.rejected_characters) + 0.5 * (
        rows.chosen_characters == rows.rejected_characters
    )
    assert record["metrics"]["pairwise_accuracy"] == pytest.approx(longer.mean())


def test_the_fallback_scorer_is_said_in_the_record_and_on_the_board(small_run: Path) -> None:
    assert records(small_run)["simpo"]["scorer"]["name"] == "transformers"
    assert "transformers" in (small_run / "leaderboard.md").read_text()


def test_the_weights_are_gone_unless_they_are_wanted(small_run: Path) -> None:
    assert not list(small_run.glob("cells/*/weights"))


def test_the_same_command_again_computes_nothing(small_run: Path, harness: Any) -> None:
    before = {path: path.stat().st_mtime_ns for path in small_run.glob("cells/*/record.json")}
    again = harness("run", "--plugins", TRIO, *SMALL, "--output-dir", str(small_run))
    assert again.returncode == 0
    assert "3 have their result, 0 to compute" in again.stdout
    assert before == {path: path.stat().st_mtime_ns for path in small_run.glob("cells/*/record.json")}


def test_another_loss_in_the_same_folder_computes_that_loss_alone(
    small_run: Path, harness: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(small_run, folder)
    kept = folder / "cells" / records(folder)["simpo"]["key"] / "record.json"
    before = kept.stat().st_mtime_ns
    more = harness("run", "--plugins", f"{TRIO},simpo:beta=4", *SMALL, "--output-dir", str(folder))
    assert more.returncode == 0, more.stderr
    assert kept.stat().st_mtime_ns == before
    assert "simpo(beta=4)" in records(folder)


def test_the_boards_are_rebuilt_byte_for_byte_without_torch(small_run: Path, environment: dict[str, str]) -> None:
    names = ("leaderboard.json", "leaderboard.md", "leaderboard.csv")
    before = {name: (small_run / name).read_bytes() for name in names}
    for name in names:
        (small_run / name).unlink()
    blocked = "; ".join(f"sys.modules['{name}'] = None" for name in ("torch", "transformers", "vllm"))
    arguments = ["harness", "leaderboard", str(small_run)]
    code = f"import sys; {blocked}; sys.argv = {arguments!r}; from harness.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert before == {name: (small_run / name).read_bytes() for name in names}


def test_the_same_seed_in_another_folder_with_another_cache_gives_the_same_board(
    small_run: Path, harness: Any, tmp_path: Path
) -> None:
    done = harness(
        "run", "--plugins", TRIO, *SMALL, "--output-dir", str(tmp_path / "run"), HARNESS_CACHE=str(tmp_path / "cache")
    )
    assert done.returncode == 0, done.stderr
    assert without_spend(tmp_path / "run") == without_spend(small_run)


@pytest.mark.parametrize("moment", ["trained.json", "record.json"])
def test_a_killed_run_goes_on_where_it_was_and_gives_the_same_board(
    moment: str, small_run: Path, harness: Any, environment: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    command = ("run", "--plugins", TRIO, *SMALL, "--output-dir", str(folder))
    run = subprocess.Popen([sys.executable, "-m", "harness", *command], env=environment, stdout=subprocess.DEVNULL)
    wanted = 1 if moment == "trained.json" else 3  # two baseline rows come first
    until(lambda: len(list(folder.glob(f"cells/*/{moment}"))) >= wanted or run.poll() is not None, moment)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    until(lambda: has_no_writer(folder), "the worker to leave with its run")
    finished = {path: path.stat().st_mtime_ns for path in folder.glob("cells/*/trained.json")}
    assert finished
    again = harness(*command)
    assert again.returncode == 0, again.stderr
    assert all(path.stat().st_mtime_ns == before for path, before in finished.items())
    assert without_spend(folder) == without_spend(small_run)


def test_a_cell_whose_record_was_removed_is_trained_anew(small_run: Path, harness: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(small_run, folder)
    cell = folder / "cells" / records(folder)["simpo"]["key"]
    (cell / "record.json").unlink()
    (cell / "weights").mkdir()  # half written when it was killed, beside the facts of another start checkpoint
    facts = json.loads((cell / "trained.json").read_text())
    (cell / "trained.json").write_text(json.dumps(facts | {"start_fingerprint": "another"}))
    again = harness("run", "--plugins", TRIO, *SMALL, "--output-dir", str(folder))
    assert again.returncode == 0, again.stderr
    assert without_spend(folder) == without_spend(small_run)


def test_a_board_shows_what_was_asked_for_and_is_not_done(small_run: Path, harness: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(small_run, folder)
    shutil.rmtree(folder / "cells" / records(folder)["dpo"]["key"])
    assert harness("leaderboard", str(folder)).returncode == 0
    rows = json.loads((folder / "leaderboard.json").read_text())["boards"][0]["rows"]
    assert [(row["loss"], row["status"]) for row in rows if row["status"] != "ok"] == [("dpo", "missing")]


def test_results_of_another_start_checkpoint_are_not_mixed_in(small_run: Path, harness: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(small_run, folder)
    for path in folder.glob("cells/*/record.json"):  # as if a library had changed the nano model since
        fields = json.loads(path.read_text())
        fields["model"]["fingerprint"] = "0" * 16
        path.write_text(json.dumps(fields))
    done = harness("run", "--plugins", f"{TRIO},cpo", *SMALL, "--output-dir", str(folder))
    assert done.returncode != 0
    assert "another start checkpoint" in done.stderr


def test_a_folder_scored_by_one_scorer_is_not_finished_by_another(
    small_run: Path, harness: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(small_run, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"scorer": "vllm"}))
    done = harness("run", "--plugins", TRIO, *SMALL, "--output-dir", str(folder))
    assert done.returncode == 2
    assert "scored by vllm, which would now be transformers" in done.stderr


BAD = """
import os
from dataclasses import dataclass
from typing import ClassVar
from harness.api import Loss, Terms, hookimpl

def make(kind):
    @dataclass(frozen=True, kw_only=True)
    class Bad(Loss):
        name: ClassVar[str] = "bad-" + kind
        def terms(self, pairs):
            value = pairs.chosen.mean()
            if kind == "raise":
                raise RuntimeError("on purpose")
            if kind == "kill":
                os._exit(9)
            if kind == "nan":
                value = value * float("nan")
            if kind == "detached":
                value = value.detach()
            return Terms.of(value)
        def reward(self, response):
            if kind == "reward":
                raise RuntimeError("no reward on purpose")
            return response.sum
    Bad.__qualname__ = Bad.__name__ = "Bad" + kind.capitalize()
    return Bad

KINDS = ("raise", "kill", "nan", "detached", "reward")
BadRaise, BadKill, BadNan, BadDetached, BadReward = map(make, KINDS)

@hookimpl
def harness_losses():
    return [BadRaise, BadKill, BadNan, BadDetached, BadReward]
"""


@pytest.fixture
def bad_plugin(tmp_path: Path) -> str:
    """A path that brings five losses, each broken in its way, and a plugin that cannot be imported."""
    site = tmp_path / "site"
    info = site / "bad_losses-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "bad_losses.py").write_text(BAD)
    (site / "bad_import.py").write_text("raise ImportError('no such thing')\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bad-losses\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[harness]\nbad = bad_losses\nbad-import = bad_import\n")
    return str(site)


def test_a_broken_loss_costs_its_own_cell_only(bad_plugin: str, harness: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    names = "simpo,bad-raise,bad-kill,bad-nan,bad-detached,bad-reward"
    done = harness("run", "--plugins", names, *SMALL, "--output-dir", str(folder), PYTHONPATH=bad_plugin)
    assert done.returncode == 6, done.stderr
    assert "bad-import" in done.stderr
    assert "bad-losses 1.0" in done.stderr
    status = {label: record["status"] for label, record in records(folder).items()}
    assert status == {
        "simpo": "ok", "bad-raise": "failed", "bad-kill": "failed", "bad-nan": "diverged",
        "bad-detached": "failed", "bad-reward": "failed", "base": "ok", "longer-wins": "ok",
    }  # fmt: skip
    reasons = {label: record["reason"] for label, record in records(folder).items()}
    assert "RuntimeError: on purpose" in reasons["bad-raise"]
    assert "exit code 9" in reasons["bad-kill"]
    assert "the loss is nan at step 1" in reasons["bad-nan"]
    assert "no reward on purpose" in reasons["bad-reward"]
    board = json.loads((folder / "leaderboard.json").read_text())["boards"][0]["rows"]
    assert board[0]["loss"] == "simpo"
    assert all(reason in (folder / "leaderboard.md").read_text() for reason in ("on purpose", "exit code 9"))


def test_a_run_of_a_folder_by_its_absolute_path_on_a_terminal_names_it_whole(
    small_run: Path, cache: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    made = next(path.parent for path in cache.glob("*/start.json"))  # that of `small_run`
    folder = tmp_path / "[bold]mine" / "nano"
    shutil.copytree(made, folder)
    asked = ("run", "--plugins", "dpo", *SMALL[2:], "--models", str(folder), "--no-pictures")
    code, written = on_a_terminal(
        "-m", "harness", *asked, "--output-dir", str(tmp_path / "run"), columns=60,
        HARNESS_CACHE=environment["HARNESS_CACHE"],
    )  # fmt: skip
    assert code == 0, written
    shown = without_control_sequences(written)
    for said in ("1cellstocompute", "trainingdpo", "trained1/1dpo", "scored1/1dpo"):
        assert re.search(rf"\[qwen2@[0-9a-f]{{8}}\]{said}", shown)
    assert str(folder) in shown  # where it lies
    record = records(tmp_path / "run")["dpo"]
    assert (record["model"]["id"], record["model"]["preset"]) == (str(folder), "custom")


@pytest.mark.parametrize("name", ["train.parquet", "rows.parquet"])
def test_a_finished_run_with_a_damaged_table_is_one_error_that_names_it_whether_a_board_reads_it_or_not(
    small_run: Path, harness: Any, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(small_run, folder)
    table = next(folder.glob(f"cells/qwen--dpo-*/{name}"))
    content = bytearray(table.read_bytes())
    content[len(content) // 2] ^= 1
    table.write_bytes(content)
    done = harness("run", "--plugins", "simpo,dpo,gappo", *SMALL, "--output-dir", str(folder))
    assert done.returncode == 2
    assert f"{table}: got other bytes than its record knows" in done.stderr
