"""`harness score` and `harness run --also`: rows of checkpoints that were trained elsewhere."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import brought_checkpoints as made
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from harness.api import HarnessError
from harness.cli import cli
from harness.exchange.verify import verify
from harness.planning.job import Job
from harness.run_folder.record import Record
from harness.run_folder.store import read_records
from harness.training.elsewhere import score_brought

PAIRS = 20
MY_DPO = "my-dpo (trained elsewhere, log-ratio)"
"""The label of a row without the digits by which its content is told apart."""
MARK = re.compile(r"(my-dpo|new-dpo|other|stranger)@[0-9a-f]{8} ")
NATS = 1e-3
Score = Callable[..., str]


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """Data, a start checkpoint, what was trained from it without the harness, and a run that scored that beside."""

    data: Path
    start: Path
    my_dpo: Path
    run: Path
    said: str


@pytest.fixture(scope="module")
def elsewhere(harness: Any, tmp_path_factory: pytest.TempPathFactory) -> Elsewhere:
    folder = tmp_path_factory.mktemp("elsewhere")
    data, start = made.write_data(folder / "data", test=PAIRS), made.write_start(folder / "start")
    my_dpo = made.train_dpo(start, folder / "my-dpo")
    done = harness(
        "run", "--plugins", "simpo,dpo", "--models", str(start), "--dataset", str(data), "--budget", "pairs=16",
        "--batch-pairs", "8", "--learning-rate", "1e-3", "--scorer", "transformers", "--also", str(my_dpo),
        "--output-dir", str(folder / "run"),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return Elsewhere(data=data, start=start, my_dpo=my_dpo, run=folder / "run", said=done.stdout)


@pytest.fixture
def score(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Score:
    """Run `harness score ...` in this process, its worker too, and return what it prints; its error is raised."""

    def execute(job: Job, _start: Any, report: Any, _stop: Any) -> None:
        for brought in job.brought:
            score_brought(job, brought, lambda event: report(job.model, event))

    monkeypatch.setattr("harness.execute.elsewhere.execute_scoring", execute)
    monkeypatch.setattr("harness.execute.workers.context", lambda **_: None)
    monkeypatch.setenv("HARNESS_CACHE", str(cache))

    def call(*arguments: str | Path) -> str:
        words = ["score", *map(str, arguments), "--no-pictures"]
        done = CliRunner().invoke(cli, words, standalone_mode=False, env={"COLUMNS": "160"})
        if done.exception is not None:
            raise done.exception
        return done.output

    return call


def records(run: Path) -> dict[str, Record]:
    return {unmarked(record.label): record for record in read_records(run)}


def unmarked(text: str) -> str:
    return MARK.sub(r"\1 ", text)


def boards(run: Path) -> list[dict[str, Any]]:
    content = json.loads(unmarked((run / "leaderboard.json").read_text("utf-8")))
    found: list[dict[str, Any]] = content["boards"]
    return found


def row_of(run: Path, label: str, board: int = 0) -> dict[str, Any]:
    (row,) = (row for row in boards(run)[board]["rows"] if row["label"] == label)
    return row


def in_file_order(record: Record) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Summed log-probs, the reference's, and rewards, (pairs, 2): chosen and rejected in the order of the data file."""
    rows = record.rows().query("split == 'test'")
    columns = (("chosen_sum_logp", "rejected_sum_logp"), ("ref_chosen_sum_logp", "ref_rejected_sum_logp"),
               ("reward_chosen", "reward_rejected"))  # fmt: skip
    summed, reference, reward = (rows[list(names)].to_numpy(np.float64) for names in columns)
    return summed, reference, reward


def hand(folder: Path) -> np.ndarray:
    """The same by hand, (pairs, 2, 2): sums and numbers of tokens."""
    return np.array(made.by_hand(folder, made.rows(PAIRS, 2))).reshape(PAIRS, 2, 2)


def test_log_probs_and_rewards_are_those_of_a_hand_computation_within_a_thousandth_nat(elsewhere: Elsewhere) -> None:
    record = records(elsewhere.run)[MY_DPO]
    summed, reference, reward = in_file_order(record)
    policy, start = hand(elsewhere.my_dpo)[..., 0], hand(elsewhere.start)[..., 0]
    assert np.abs(summed - policy).max() < NATS
    assert np.abs(reference - start).max() < NATS
    assert np.abs(reward - (policy - start)).max() < 2 * NATS
    assert np.abs(policy - start).max() > 1  # it was trained
    wins = ((policy - start)[:, 0] > (policy - start)[:, 1]).mean()
    assert row_of(elsewhere.run, MY_DPO)["metrics"]["pairwise_accuracy"]["value"] == pytest.approx(wins)


def test_its_row_has_every_metric_with_an_interval_and_no_rank_and_says_what_it_is(elsewhere: Elsewhere) -> None:
    row = row_of(elsewhere.run, MY_DPO)
    assert (row["kind"], row["loss"], row["options"]) == ("elsewhere", "trained elsewhere", {"reward": "log-ratio"})
    assert [row[name] for name in ("rank", "rank_low", "rank_high", "tier")] == [None] * 4
    assert row["spend"] == {}
    assert row["seeds"] == []
    dpo = row_of(elsewhere.run, "dpo")
    have = [{name for name, metric in each["metrics"].items() if metric["n"]} for each in (row, dpo)]
    assert have[0] == have[1]
    accuracy = row["metrics"]["pairwise_accuracy@learned"]
    assert accuracy["low"] < accuracy["value"] < accuracy["high"]
    labels = [each["label"] for each in boards(elsewhere.run)[0]["rows"]]
    assert labels[-3:] == ["base", "longer-wins", MY_DPO]
    said = f"{MY_DPO} is {elsewhere.my_dpo}: what it was trained on and for how long is not known here"
    for name in ("leaderboard.md", "leaderboard.html"):
        assert said in unmarked((elsewhere.run / name).read_text("utf-8")), name
    assert said in unmarked(elsewhere.said)
    assert MY_DPO in unmarked((elsewhere.run / "leaderboard.csv").read_text("utf-8"))


def test_a_run_scores_it_with_the_engine_that_scores_its_cells(elsewhere: Elsewhere) -> None:
    assert f"Also      {elsewhere.my_dpo}: trained elsewhere, scored beside the losses and not ranked" in elsewhere.said
    assert "scoring my-dpo (trained elsewhere, log-ratio) beside" in unmarked(elsewhere.said)
    assert "has its row beside" in elsewhere.said  # nothing was left to compute after the run


@pytest.fixture
def copied(elsewhere: Elsewhere, tmp_path: Path) -> Path:
    return Path(shutil.copytree(elsewhere.run, tmp_path / "run"))


def tell_of_others(run: Path) -> list[dict[str, Any]]:
    """What the boards say of all rows but those that were trained elsewhere."""
    found = boards(run)
    for board in found:
        board["rows"] = [row for row in board["rows"] if row["kind"] != "elsewhere"]
        board["disclaimers"] = [sentence for sentence in board["disclaimers"] if "trained elsewhere" not in sentence]
    return found


@pytest.mark.parametrize("broken", [False, True])
def test_whatever_it_is_every_number_of_the_other_rows_stays_bit_for_bit(copied: Path, broken: bool) -> None:
    """`broken`: its rewards are all alike, so that it has no correlations, and half of its pairs have no log-probs."""
    from harness.leaderboard import write
    from harness.run_folder.store import write_record

    record = records(copied)[MY_DPO]
    if broken:
        rows, responses = record.rows(), record.responses()
        rows[["reward_chosen", "reward_rejected"]], responses["reward"] = 1.0, 1.0
        rows.loc[: PAIRS // 2, ["chosen_sum_logp", "rejected_sum_logp"]] = np.nan
        responses.loc[:PAIRS, "sum_logp"] = np.nan
        write_record(record.folder, record, rows, responses)
    write(copied)
    with_it = tell_of_others(copied)
    assert any(row["kind"] == "elsewhere" for row in boards(copied)[0]["rows"])
    shutil.rmtree(record.folder)
    write(copied)
    assert boards(copied) == with_it


def test_the_same_command_again_computes_nothing(copied: Path, elsewhere: Elsewhere, score: Score) -> None:
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    said = score(copied, "--model", elsewhere.my_dpo)
    assert "nothing to compute" in said
    shutil.copytree(elsewhere.my_dpo, copied.parent / "a-copy")
    said = score(copied, "--model", copied.parent / "a-copy")  # what counts is the content
    assert f", {MY_DPO}: nothing to compute" in unmarked(said)
    names = {"leaderboard.html", ".lock"}
    assert {path: path.read_bytes() for path in before if path.name not in names} == {
        path: text for path, text in before.items() if path.name not in names
    }


@pytest.mark.parametrize("reward", ["log-ratio", "mean"])
def test_another_checkpoint_of_the_same_name_is_told_apart(
    copied: Path, elsewhere: Elsewhere, score: Score, reward: str
) -> None:
    other = made.train_dpo(elsewhere.start, copied.parent / "my-dpo", steps=4)
    said = score(copied, "--model", other, "--reward", reward)
    rows = {record.elsewhere.checkpoint: record for record in read_records(copied) if record.elsewhere}
    assert rows.keys() == {str(elsewhere.my_dpo), str(other)}
    for checkpoint, record in rows.items():
        assert record.elsewhere is not None
        assert record.label.startswith(f"my-dpo@{record.elsewhere.fingerprint[:8]} (trained elsewhere, ")
        assert f"{record.label} is {checkpoint}: " in said
    assert len({record.label.partition(" ")[0] for record in rows.values()}) == 2
    assert not verify(copied).problems


def test_a_reward_is_read_as_it_is_asked_for(copied: Path, elsewhere: Elsewhere, score: Score) -> None:
    by_hand = hand(elsewhere.my_dpo)
    for reward, wanted, name in (
        ("mean", by_hand[..., 0] / by_hand[..., 1], "mean"),
        ("sum", by_hand[..., 0], "sum"),
        ("simpo:beta=2.5", 2.5 * by_hand[..., 0] / by_hand[..., 1], "simpo(beta=2.5)"),
    ):
        score(copied, "--model", elsewhere.my_dpo, "--reward", reward)
        record = records(copied)[f"my-dpo (trained elsewhere, {name})"]
        assert np.abs(in_file_order(record)[2] - wanted).max() < 3 * NATS
        assert record.loss.averaged == (reward != "sum")
    assert len([row for row in boards(copied)[0]["rows"] if row["kind"] == "elsewhere"]) == 4
    assert not verify(copied).problems


def test_another_reference_than_the_start_checkpoint_is_scored_and_named(
    copied: Path, elsewhere: Elsewhere, score: Score
) -> None:
    other = made.train_dpo(elsewhere.start, copied.parent / "other", steps=3)
    score(copied, "--model", elsewhere.my_dpo, "--reference", other, "--reward", "log-ratio")
    (record,) = (
        record for record in read_records(copied) if record.elsewhere and record.elsewhere.reference == str(other)
    )
    assert np.abs(in_file_order(record)[1] - hand(other)[..., 0]).max() < NATS
    assert not verify(copied).problems


def test_another_tokenizer_gets_a_board_of_its_own(copied: Path, score: Score) -> None:
    stranger = made.write_start(copied.parent / "stranger", seed=3, vocabulary=300)
    others = tell_of_others(copied)
    said = score(copied, "--model", stranger)
    assert "stranger reads other tokens than " in said
    assert "a board of its own" in said
    found = boards(copied)
    assert tell_of_others(copied)[:-1] == others
    assert [row["label"] for row in found[-1]["rows"]] == ["longer-wins", "stranger (trained elsewhere, mean)"]
    assert "trained elsewhere" in found[-1]["title"]
    row = row_of(copied, "stranger (trained elsewhere, mean)", -1)
    assert row["metrics"]["pairwise_accuracy@ratio"]["value"] is None
    assert row["metric_reasons"]["pairwise_accuracy@ratio"] == "the log-probs that @ratio reads are not known"
    by_hand = hand(stranger)
    record = records(copied / "elsewhere")["stranger (trained elsewhere, mean)"]
    assert np.abs(in_file_order(record)[2] - by_hand[..., 0] / by_hand[..., 1]).max() < NATS
    for run in (copied, copied / "elsewhere"):
        assert not verify(run).problems, verify(run).text()
    assert "nothing to compute" in score(copied, "--model", stranger)
    with pytest.raises(HarnessError, match=r"'log-ratio' .* it reads other tokens than the run's models; name"):
        score(copied, "--model", stranger, "--reward", "log-ratio")


def test_a_data_set_alone_gives_a_run_folder_with_the_reference_as_base(
    elsewhere: Elsewhere, score: Score, tmp_path: Path
) -> None:
    test_only = tmp_path / "evaluation"
    test_only.mkdir()
    shutil.copy(elsewhere.data / "test.jsonl", test_only)
    options = ("--dataset", test_only, "--scorer", "transformers", "--output-dir", tmp_path / "run")
    said = score("--model", elsewhere.my_dpo, "--reference", elsewhere.start, *options)
    assert "start · trained elsewhere · evaluation" in said
    assert MY_DPO in unmarked(said)
    start, policy = hand(elsewhere.start)[..., 0], hand(elsewhere.my_dpo)[..., 0]
    assert np.abs(in_file_order(records(tmp_path / "run")["base"])[0] - start).max() < NATS
    assert np.abs(in_file_order(records(tmp_path / "run")[MY_DPO])[2] - (policy - start)).max() < 2 * NATS
    again = score("--model", elsewhere.my_dpo, "--reference", elsewhere.start, *options)
    assert "nothing to compute" in again
    score("--model", elsewhere.my_dpo, *options)  # without a reference: a board beside it
    titles = [board["title"] for board in boards(tmp_path / "run")]
    assert titles == ["llama · trained elsewhere · evaluation", "start · trained elsewhere · evaluation"]
    score(tmp_path / "run", "--model", elsewhere.start)  # the folder is a run that takes rows
    assert not verify(tmp_path / "run").problems, verify(tmp_path / "run").text()
    with pytest.raises(HarnessError, match=r"holds another run .max_length was 2048, now 64"):
        score("--model", elsewhere.my_dpo, *options, "--max-length", "64")


def test_mistakes_are_told_before_anything_is_computed(copied: Path, elsewhere: Elsewhere, score: Score) -> None:
    def told(*arguments: str | Path) -> str:
        with pytest.raises(HarnessError) as error:
            score(*arguments)
        return str(error.value)

    model = ("--model", elsewhere.my_dpo)
    alone = ("--dataset", elsewhere.data, "--scorer", "transformers", "--output-dir", copied.parent / "new")
    nothing = copied.parent / "nothing"
    assert told(copied, "--model", nothing).startswith(f"--model got '{nothing}', expected ")
    assert told(copied, *model, "--reference", nothing).startswith(f"--reference got '{nothing}', expected ")
    also = CliRunner().invoke(cli, ["run", "--also", str(nothing), "--dry-run"], standalone_mode=False)
    assert str(also.exception).startswith(f"--also got '{nothing}', expected ")
    assert told(nothing, *model).startswith(f"got {nothing}, expected a run folder")
    assert "got no RUN and no --dataset" in told(*model)
    assert "got --max-length, --output-dir with " in told(copied, *model, "--max-length", "9", "--output-dir", nothing)
    assert "--reward got 'log-ratio', which is relative to a reference" in told(*alone, *model, "--reward", "log-ratio")
    assert "--reward got 'dpo', which is relative to a reference" in told(*alone, *model, "--reward", "dpo")
    assert "--reward got 'ratio', expected log-ratio, mean, sum or a loss: " in told(
        copied, *model, "--reward", "ratio"
    )
    (nothing / "sub").mkdir(parents=True)
    (nothing / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
    assert "expected a config.json and *.safetensors in it" in told(copied, "--model", nothing)
    narrow = made.write_start(copied.parent / "narrow", window=16)
    assert "with a window of 16 tokens, expected at least the " in told(copied, "--model", narrow)
    stranger = made.write_start(copied.parent / "stranger", vocabulary=300)
    assert "whose tokenizer gives other ids" in told(copied, *model, "--reference", stranger)
    assert not (copied.parent / "new").exists()


def test_a_run_whose_data_have_moved_or_changed_says_so(copied: Path, elsewhere: Elsewhere, score: Score) -> None:
    manifest = json.loads((copied / "manifest.json").read_text("utf-8"))
    moved = copied.parent / "moved"
    manifest["run"]["dataset"] = str(moved)
    (copied / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    other = made.train_dpo(elsewhere.start, copied.parent / "new-dpo", steps=2)
    with pytest.raises(HarnessError, match=r"its data cannot be read: .*; say where they lie now by --dataset"):
        score(copied, "--model", other)
    shutil.copytree(elsewhere.data, moved)
    lines = (moved / "test.jsonl").read_text("utf-8").splitlines()
    (moved / "test.jsonl").write_text("\n".join(lines[1:]) + "\n", encoding="utf-8")
    with pytest.raises(HarnessError, match=r"got other data in .*moved .* expected those of the run"):
        score(copied, "--model", other)
    score(copied, "--model", other, "--dataset", elsewhere.data)
    assert "new-dpo (trained elsewhere, log-ratio)" in records(copied)


def test_verify_finds_rewards_that_are_not_as_the_record_says(copied: Path) -> None:
    from harness.run_folder.store import write_record

    record = records(copied)[MY_DPO]
    rows, responses = record.rows(), record.responses()
    rows[["reward_chosen", "reward_rejected"]] *= 2
    responses["reward"] *= 2
    write_record(record.folder, record, rows, responses)
    problems = [problem for problem in verify(copied).problems if "got another reward than" in problem]
    assert len(problems) == 1


def test_merge_gate_compare_and_export_cope_with_such_a_row(copied: Path, elsewhere: Elsewhere) -> None:
    from harness.compare import run_compare, run_gate
    from harness.exchange.export import run_export
    from harness.exchange.merge import run_merge

    said, code = run_merge([copied, elsewhere.run], copied.parent / "merged")
    assert code == 0, said
    assert MY_DPO in records(copied.parent / "merged")
    assert not verify(copied.parent / "merged").problems
    text, code = run_gate(elsewhere.run, copied, 0.01, None)
    assert code == 0, text
    assert MY_DPO not in unmarked(text)
    text, code = run_compare(elsewhere.run, copied, None, None)
    assert (MY_DPO in unmarked(text), code) == (False, 0)
    for form in ("csv", "lm-eval", "hf"):
        run_export(copied, form, copied.parent / f"exported-{form}")
    lines = pd.read_csv(copied.parent / "exported-csv")
    assert set(lines[lines["label"].map(unmarked) == MY_DPO]["kind"]) == {"elsewhere"}


def test_two_folders_of_scored_checkpoints_merge_and_a_gate_says_that_there_is_nothing_to_judge(
    elsewhere: Elsewhere, score: Score, tmp_path: Path
) -> None:
    from harness.compare import run_gate
    from harness.exchange.merge import run_merge

    other = made.train_dpo(elsewhere.start, tmp_path / "other", steps=2)
    alone = ("--dataset", elsewhere.data, "--reference", elsewhere.start, "--scorer", "transformers")
    for model, name in ((elsewhere.my_dpo, "one"), (other, "two")):
        score("--model", model, *alone, "--output-dir", tmp_path / name)
    said, code = run_merge([tmp_path / "one", tmp_path / "two"], tmp_path / "both")
    assert code == 0, said
    assert [row["label"] for row in boards(tmp_path / "both")[0]["rows"]] == [
        "base", "longer-wins", MY_DPO, "other (trained elsewhere, log-ratio)",
    ]  # fmt: skip
    assert not verify(tmp_path / "both").problems, verify(tmp_path / "both").text()
    score("--model", elsewhere.start, *alone, "--output-dir", tmp_path / "both")
    assert not verify(tmp_path / "both").problems, verify(tmp_path / "both").text()
    text, code = run_gate(tmp_path / "one", tmp_path / "two", 0.01, None)
    assert code == 5, text
