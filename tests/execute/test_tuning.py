"""Equal tuning: what is tried, what is chosen, and what a tuned run leaves."""

from __future__ import annotations

import csv
import io
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pandas as pd
import pytest
from made_records import made_record
from scipy.stats import qmc
from torch import Tensor

from harness.api import HarnessError, Loss, PairLogps, Range, ResponseLogps, Terms
from harness.execute.tuning import drop_superseded
from harness.manager import losses, plugin_manager, resolver
from harness.planning.grid import Cell, System, cells, select
from harness.planning.run_file import Run, make_run
from harness.planning.trials import RATE, Outcome, chosen, outcomes, sampled, space, trials_csv, trials_of
from harness.planning.tuned_run import TrialRun, TunedRun
from harness.run_folder.record import Record
from harness.run_folder.store import write_record

MANAGER = plugin_manager()
SMALL = ("--models", "qwen", "--limit", "48", "--budget", "pairs=32", "--scorer", "transformers")


def systems(text: str) -> list[System]:
    return select(text, list(losses(MANAGER)), resolver(MANAGER))


def trials(text: str, run: Run) -> list[System]:
    (system,) = systems(text)
    return trials_of(system, run, resolver(MANAGER))


# -- what is tried -----------------------------------------------------------------------------------------------------
def test_every_loss_has_as_many_trials_and_all_lie_in_its_ranges() -> None:
    run = make_run({"trials": 3})
    for system in systems("all"):
        found = trials_of(system, run, resolver(MANAGER))
        assert [each.label for each in found] == [f"{system.label} trial {number}" for number in range(3)]
        for each in found:
            assert each.trial is not None
            assert each.learning_rate is not None
            assert 0.001 / 4 <= each.learning_rate <= 0.001 * 4  # around the preset's, the same for every loss
            assert set(each.trial.options) == set(system.loss.tuning_space())
            for option, spread in system.loss.tuning_space().items():
                assert spread.low <= each.trial.options[option] <= spread.high
                assert each.loss.options()[option] == each.trial.options[option]
            untouched = set(system.loss.options()) - set(each.trial.options)
            assert all(each.loss.options()[name] == system.loss.options()[name] for name in untouched)


@dataclass(frozen=True, kw_only=True)
class Bare(Loss):
    """Has an option, and no search space."""

    name: ClassVar[str] = "bare"
    scale: float = 3.0

    def terms(self, pairs: PairLogps) -> Terms:
        return Terms.of(-self.scale * pairs.chosen.sum())

    def reward(self, response: ResponseLogps) -> Tensor:
        return response.sum


def test_a_loss_without_a_search_space_is_tuned_over_the_learning_rate_alone() -> None:
    found = trials_of(System(loss=Bare(), label="bare"), make_run({"trials": 4}), lambda _, options: Bare(**options))
    assert [each.loss for each in found] == [Bare()] * 4
    assert len({each.learning_rate for each in found}) == 4


def test_options_that_were_given_are_not_tuned() -> None:
    found = trials("gappo:base=dpo,power=0.7", make_run({"trials": 2}))
    assert [set(each.trial.options) for each in found if each.trial] == [{"base.beta"}] * 2
    assert all(each.loss.options()["power"] == 0.7 for each in found)


def test_trials_come_from_the_seed_and_a_longer_list_begins_with_a_shorter_one() -> None:
    (system,) = systems("simpo")
    spreads = space(system, (1e-4, 1e-2))
    assert sampled(spreads, 3, seed=5) == sampled(spreads, 8, seed=5)[:3]
    assert sampled(spreads, 3, seed=5) != sampled(spreads, 3, seed=6)


def test_sampled_values_are_scrambled_sobol_points_on_the_scale_of_the_range() -> None:
    spreads = {"a": Range(low=1.0, high=16.0, log=True), "b": Range(low=-1.0, high=3.0)}
    found = sampled(spreads, 64, seed=7)
    for point, one in zip(qmc.Sobol(2, scramble=True, seed=7).random(64), found, strict=True):
        assert one["a"] == pytest.approx(16 ** point[0], rel=1e-5)
        assert one["b"] == pytest.approx(4 * point[1] - 1, abs=1e-5)
    for octave in range(4):  # log2 of 1 to 16: a quarter of the trials in each octave
        assert sum(2**octave <= one["a"] < 2 ** (octave + 1) for one in found) == 16


def test_a_trial_can_be_typed_again_exactly() -> None:
    (first, *_) = trials("simpo", make_run({"trials": 1}))
    assert first.trial is not None
    options = ",".join(f"{name}={value}" for name, value in first.trial.options.items())
    assert systems(f"simpo:{options}")[0].loss == first.loss
    assert max(len(f"{value:g}") for value in first.trial.options.values()) <= len("0.000123456")


def test_without_optuna_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(HarnessError, match=r"--trials got 4, which needs optuna.*preference-harness\[tune\]") as error:
        trials("simpo", make_run({"trials": 4}))
    assert "\n" not in str(error.value)


def test_trials_are_of_dev_with_one_seed_and_the_tuned_of_test_with_all() -> None:
    run = make_run({"trials": 4, "seeds": (3, 4)})
    tried, tuned = TrialRun.of(run), TunedRun.of(run)
    assert (tried.evaluate_on, tried.seeds, tried.settings) == ("dev", (3,), run.settings)
    assert (tuned.evaluate_on, tuned.seeds, tuned.settings) == ("test", (3, 4), run.settings)
    assert "learning_rate" not in tuned.decisive().as_json()
    assert tuned.decisive().trials == 4
    assert run.decisive() == make_run({"seeds": (3, 4)}).decisive()  # the default board is what it was


# -- what is chosen ----------------------------------------------------------------------------------------------------
def outcome(number: int, value: float | None, status: str = "ok", system: str = "simpo") -> Outcome:
    return Outcome(
        model="qwen", system=system, number=number, options={"beta": 2.0 + number, "note": None},
        learning_rate=0.001, value=value, status=status, reason="" if status == "ok" else "nan, at step 3",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("values", "best"),
    [
        ([0.5, 0.7, 0.6], 1),
        ([0.6, 0.7, 0.7], 1),  # of equal ones the lower number
        ([None, 0.1, None], 1),  # whatever has a value wins over what has none
        ([None, None, None], 0),
        ([0.5, 0.6, 0.6, 0.9], 1),  # the fourth is not among the first three
    ],
)
def test_the_trial_with_the_highest_value_on_dev_is_chosen(values: list[float | None], best: int) -> None:
    found = [outcome(number, value) for number, value in enumerate(values)]
    assert chosen(found[::-1], 3)["qwen", "simpo"].number == best


def record(number: int, accuracy: float | None, status: str = "ok") -> Record:
    tuning = {"system": "simpo", "number": number, "options": {}}
    metrics = {"pairwise_accuracy": accuracy, "ndcg": 1.0}
    return made_record({"learning_rate": 0.001, "status": status, "tuning": tuning, "metrics": metrics})


def test_a_trial_that_diverged_or_has_no_value_has_no_say() -> None:
    found = outcomes(
        [record(1, None), record(2, 0.5), record(0, 0.9, "diverged"), made_record({"kind": "reference"})],
        "pairwise_accuracy",
    )
    assert [(each.number, each.value) for each in found] == [(0, None), (1, None), (2, 0.5)]
    assert chosen(found, 3)["qwen", "simpo"].number == 2


def test_trials_csv_has_every_option_and_says_what_was_chosen() -> None:
    found = [outcome(0, None, "diverged"), outcome(1, 0.75), outcome(0, 0.5, system="dpo")]
    text = trials_csv(found, chosen(found, 2), "pairwise_accuracy")
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [(line["loss"], line["trial"], line["chosen"]) for line in lines] == [
        ("simpo", "0", "no"), ("simpo", "1", "yes"), ("dpo", "0", "yes"),
    ]  # fmt: skip
    assert lines[0]["reason"] == "nan, at step 3"
    assert [line["dev_pairwise_accuracy"] for line in lines] == ["", "0.75", "0.5"]
    assert (lines[1]["option.beta"], lines[1]["option.note"]) == ("3.0", "none")


def test_results_with_other_options_than_now_are_removed_and_no_others(tmp_path: Path) -> None:
    (before,) = systems("simpo:beta=3")
    now, other = systems("simpo,dpo")
    campaign: Any = SimpleNamespace(folder=tmp_path, cells=cells(["qwen"], [replace(now, learning_rate=0.002)], [0]))
    kept = [*campaign.cells, *cells(["qwen"], [other], [0]), *cells(["gemma"], [now], [0])]
    stale = [*cells(["qwen"], [now], [0]), *cells(["qwen"], [replace(before, label="simpo")], [0])]
    for cell in [*kept, *stale]:
        write(tmp_path, cell)
    drop_superseded(campaign)
    left = {path.parent.name for path in tmp_path.glob("cells/*/record.json")}
    assert left == {cell.key for cell in kept}


def write(folder: Path, cell: Cell) -> None:
    fields = {"key": cell.key, "label": cell.system.label, "seed": cell.seed, "model": {"name": cell.model}}
    write_record(folder / "cells" / cell.key, made_record({**fields, "status": "failed"}))


# -- a whole run -------------------------------------------------------------------------------------------------------
COMMAND = ("run", "--plugins", "simpo,dpo", *SMALL, "--seeds", "0,1", "--trials", "2")


@pytest.fixture(scope="module")
def tuned_run(harness: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two losses with two trials each."""
    folder = tmp_path_factory.mktemp("tuned") / "run"
    done = harness(*COMMAND, "--output-dir", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Trials    4 = 2 losses x 1 models x 2 trials" in done.stdout
    assert "Tuned     4 = 2 losses x 1 models x 2 seeds" in done.stdout
    return folder


def records(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("cells/*/record.json"))]
    return [fields for fields in found if fields["kind"] == "loss"]


def learned(folder: Path, key: str, per_token: bool) -> float:
    """The pairwise accuracy by the log-ratio to the start checkpoint, counted from the rows."""
    rows = pd.read_parquet(folder / "cells" / key / "rows.parquet")
    chosen = rows.chosen_sum_logp - rows.ref_chosen_sum_logp
    rejected = rows.rejected_sum_logp - rows.ref_rejected_sum_logp
    margin = chosen / rows.chosen_tokens - rejected / rows.rejected_tokens if per_token else chosen - rejected
    return float(((margin > 0) + 0.5 * (margin == 0)).mean())


def test_the_default_and_the_tuned_board_stand_apart(tuned_run: Path) -> None:
    default, tuned = json.loads((tuned_run / "leaderboard.json").read_text())["boards"]
    assert "shared learning rate, untuned" in default["title"]
    assert "equal tuning: 2 trials per loss, chosen on dev" in tuned["title"]
    assert (default["settings"]["learning_rate"], "trials" in default["settings"]) == (0.001, False)
    assert ("learning_rate" in tuned["settings"], tuned["settings"]["trials"]) == (False, 2)
    for board in (default, tuned):
        assert {row["label"] for row in board["rows"]} == {"simpo", "dpo", "base", "longer-wins"}
        assert all(row["seeds"] == [0, 1] for row in board["rows"] if row["kind"] == "loss")
        assert board["settings"]["evaluated_on"] == "test"
    for row in tuned["rows"]:
        if row["kind"] == "loss":
            choice = row["tuned"]["qwen"]
            assert row["options"]["beta"] == choice["options"]["beta"]
            assert f"learning rate {choice['learning_rate']:.4g} (trial" in (tuned_run / "leaderboard.md").read_text()


def test_the_best_trial_on_dev_is_what_was_trained_for_test(tuned_run: Path) -> None:
    tried = {fields["label"]: fields for fields in records(tuned_run / "tuning")}
    assert set(tried) == {f"{name} trial {number}" for name in ("simpo", "dpo") for number in (0, 1)}
    for fields in records(tuned_run / "tuned-2"):
        both = [tried[f"{fields['label']} trial {number}"] for number in (0, 1)]
        on_dev = [learned(tuned_run / "tuning", each["key"], each["loss"]["name"] == "simpo") for each in both]
        best = both[on_dev.index(max(on_dev))]
        assert (fields["loss"]["options"], fields["learning_rate"]) == (best["loss"]["options"], best["learning_rate"])
        assert fields["tuning"]["number"] == best["tuning"]["number"]
        assert fields["tuning"]["dev"] == pytest.approx(max(on_dev))


def test_no_trial_was_ever_scored_on_test(tuned_run: Path) -> None:
    for path in tuned_run.glob("tuning/cells/*/*s.parquet"):
        assert set(pd.read_parquet(path)["split"]) == {"dev"}, path
    test = pd.concat([pd.read_parquet(path) for path in tuned_run.glob("tuned-2/cells/*/rows.parquet")])
    dev = pd.concat([pd.read_parquet(path) for path in tuned_run.glob("tuning/cells/*/rows.parquet")])
    assert not set(test.pair_id) & set(dev.pair_id)


def test_the_sampled_learning_rate_reaches_the_optimiser(tuned_run: Path) -> None:
    first, second = (fields for fields in records(tuned_run / "tuning") if fields["label"].startswith("simpo"))
    logs = [
        pd.read_parquet(tuned_run / "tuning" / "cells" / fields["key"] / "train.parquet") for fields in (first, second)
    ]
    ratio = (logs[0]["learning_rate"] / logs[1]["learning_rate"]).dropna()
    assert len(ratio)
    assert ratio.to_list() == pytest.approx([first["learning_rate"] / second["learning_rate"]] * len(ratio))


def test_the_manifest_says_what_was_searched(tuned_run: Path) -> None:
    for folder in (tuned_run, tuned_run / "tuning", tuned_run / "tuned-2"):
        search = json.loads((folder / "manifest.json").read_text())["search"]
        assert search["trials"] == 2
        assert search["space"]["dpo"] == {"learning_rate": [0.00025, 0.004, "log"], "beta": [0.01, 0.5, "log"]}
        assert "QMCSampler" in search["sampler"]


def test_the_same_command_again_computes_nothing_and_writes_the_same_trials(tuned_run: Path, harness: Any) -> None:
    written = (tuned_run / "tuning" / "trials.csv").read_bytes()
    assert sum(line["chosen"] == "yes" for line in csv.DictReader(io.StringIO(written.decode()))) == 2
    before = {path: path.stat().st_mtime_ns for path in tuned_run.glob("**/record.json")}
    again = harness(*COMMAND, "--output-dir", str(tuned_run))
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("nothing to compute") == 3
    assert before == {path: path.stat().st_mtime_ns for path in tuned_run.glob("**/record.json")}
    assert (tuned_run / "tuning" / "trials.csv").read_bytes() == written


def test_another_seed_for_the_trials_is_refused_before_anything_runs(tuned_run: Path, harness: Any) -> None:
    other = [*COMMAND[: COMMAND.index("0,1")], "1,0", *COMMAND[COMMAND.index("0,1") + 1 :]]
    done = harness(*other, "--output-dir", str(tuned_run))
    assert done.returncode == 2
    assert "tuning_seed was 0, now 1" in done.stderr


def test_a_name_of_a_setting_is_no_option(tuned_run: Path) -> None:
    heading = (tuned_run / "tuning" / "trials.csv").read_text().splitlines()[0].split(",")
    assert heading[:3] == ["model", "loss", "trial"]
    assert heading[-5:] == [RATE, "dev_pairwise_accuracy@learned", "status", "reason", "chosen"]
