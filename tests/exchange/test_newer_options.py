"""A run folder that was made before an option was there: what writes run.toml anew writes the option's default."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.api import HarnessError
from harness.exchange.merge import run_merge
from harness.exchange.verify import Verdict, verify
from harness.planning.run_file import make_run

NANO = Path(__file__).parents[2] / "leaderboards" / "nano"


@pytest.fixture
def rewritten(tmp_path: Path) -> Path:
    """An older run, its run.toml written by this version from its manifest, as `merge` does."""
    folder = tmp_path / "nano"
    shutil.copytree(NANO, folder)
    run = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["run"]
    assert "samples" not in run
    (folder / "run.toml").write_text(make_run(run).as_toml(), encoding="utf-8")
    return folder


def test_a_default_of_an_option_that_the_manifest_does_not_know_is_no_difference(rewritten: Path) -> None:
    assert "samples = 1\n" in (rewritten / "run.toml").read_text(encoding="utf-8")
    assert not verify(rewritten).problems


def test_another_value_than_the_default_is_one(rewritten: Path) -> None:
    text = (rewritten / "run.toml").read_text(encoding="utf-8")
    (rewritten / "run.toml").write_text(text.replace("samples = 1\n", "samples = 3\n"), encoding="utf-8")
    problems = [problem for problem in verify(rewritten).problems if "run.toml: got samples 3, expected 1" in problem]
    assert len(problems) == 1


def with_answers(folder: Path, length: float, samples: int, **further: object) -> Path:
    """A copy of a run whose base says what it answered."""
    shutil.copytree(NANO, folder)
    (record,) = folder.glob("cells/qwen--base--*/record.json")
    facts = {"prompts": 2, "samples": samples, "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 8, "stop": [2]}
    known = json.loads(record.read_text(encoding="utf-8"))
    known["generation"] = facts | {"metrics": {"length": length}} | further
    record.write_text(json.dumps(known), encoding="utf-8")
    return folder


def test_runs_merge_where_a_machine_sampled_other_answers_and_not_where_it_was_asked_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.exchange.merge.verify", lambda run: Verdict(run=run, checks=()))  # there are no tables
    monkeypatch.setattr("harness.exchange.merge.write", lambda run: None)
    one, other = with_answers(tmp_path / "one", 7.5, 1), with_answers(tmp_path / "other", 7.25, 1)
    said, code = run_merge([one, other], tmp_path / "both")
    assert code == 0, said
    with pytest.raises(HarnessError, match=r"two results of one cell that differ: .*: generation "):
        run_merge([one, with_answers(tmp_path / "more", 7.5, 3)], tmp_path / "none")


def test_runs_merge_wherever_their_prompts_lie_and_not_where_those_are_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.exchange.merge.verify", lambda run: Verdict(run=run, checks=()))
    monkeypatch.setattr("harness.exchange.merge.write", lambda run: None)
    asked = {"name": "mine", "licence": "", "fingerprint": "0"}
    one, other, third = (
        with_answers(tmp_path / name, 7.5, 1, asked=asked | {"source": f"{name}/mine.jsonl"} | changed)
        for name, changed in (("one", {}), ("other", {}), ("third", {"fingerprint": "1"}))
    )
    said, code = run_merge([one, other], tmp_path / "both")
    assert code == 0, said
    with pytest.raises(HarnessError, match=r"two results of one cell that differ: .*: generation "):
        run_merge([one, third], tmp_path / "none")
