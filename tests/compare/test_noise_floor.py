"""`harness gate --calibrate`: what runs of the same code differ by, as measured, and what a gate makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.__main__ import main
from harness.api import HarnessError
from harness.compare import run_calibrate, run_gate
from harness.compare.comparison import compare
from harness.compare.paired import Paired, differences
from harness.compare.repeats import calibrate, smallest_margin
from harness.compare.verdict import gate
from harness.run_folder.noise_floor import LossOnModel, NoiseFloor, Spread, read_noise
from harness.run_folder.paths import NOISE_FLOOR

Write = Callable[..., None]
RNG = np.random.default_rng


def noisy_runs(rng: np.random.Generator, runs: int, cells: int, n: int = 1000) -> np.ndarray:
    """Return right or wrong of every pair, (runs, cells, n): runs differ by 0.015 (sd) in accuracy."""
    latent = rng.normal(size=n)
    level = scipy_stats.norm.ppf(0.7 + 0.015 * rng.normal(size=(runs, cells, 1)))
    return (np.sqrt(0.97) * latent + np.sqrt(0.03) * rng.normal(size=(runs, cells, n)) < level).astype(float)


def write_runs(tmp_path: Path, write_cell: Write, right: np.ndarray, start: int = 0) -> list[Path]:
    folders = [tmp_path / f"run{start + r}" for r in range(len(right))]
    for r, folder in enumerate(folders):
        for k in range(right.shape[1]):
            write_cell(folder, f"loss{k}", np.where(right[r, k] > 0, 1.0, -1.0), seed=start + r)
    return folders


def test_the_noise_floor_counted_by_hand(tmp_path: Path, write_cell: Write) -> None:
    right = np.arange(1000)
    values = np.array([0.70, 0.72, 0.71])
    runs = [tmp_path / f"run{r}" for r in range(3)]
    for run, value in zip(runs, values, strict=True):
        write_cell(run, "one", np.where(right < 1000 * value, 1.0, -1.0))
    floor = calibrate(runs)
    assert not floor.seeds_differ
    spread = floor.cells[LossOnModel("qwen", "one")]
    assert spread.sd == pytest.approx(values.std(ddof=1))  # 0.01
    assert (spread.freedom, spread.largest) == (2, pytest.approx(0.02))
    # it must cover the difference of two runs, sd 0.01 * sqrt(2), at the Student quantile of 2 degrees of freedom
    assert floor.smallest_margin > 0.01 * np.sqrt(2) * scipy_stats.t.ppf(0.95, 2)


def test_the_smallest_margin_of_one_column_is_a_student_quantile() -> None:
    got = smallest_margin(np.array([0.01]), np.array([4.0]), np.array([0.03]))
    assert got == pytest.approx(0.03 + 0.01 * np.sqrt(2) * scipy_stats.t.ppf(0.95, 4))
    two = smallest_margin(np.array([0.01, 0.01]), np.array([4.0, 4.0]), np.array([0.03, 0.03]))
    assert two == pytest.approx(0.03 + 0.01 * np.sqrt(2) * scipy_stats.t.ppf(np.sqrt(0.95), 4))
    assert smallest_margin(np.zeros(2), np.ones(2), np.array([0.0, 0.02])) == 0.02


def test_the_noise_floor_lies_beside_the_baseline_and_a_margin_below_it_is_told(
    tmp_path: Path, write_cell: Write
) -> None:
    folders = write_runs(tmp_path, write_cell, noisy_runs(RNG(0), 6, 2))
    text, code = run_calibrate(folders[:5])
    assert code == 0
    floor = read_noise(folders[0])
    assert floor is not None
    assert (floor.runs, floor.seeds, len(floor.cells)) == (5, 1, 2)
    assert f"Noise floor of pairwise_accuracy: {floor.smallest_margin:.4g}" in text
    again = tmp_path / "again"
    for k in range(2):
        write_cell(again, f"loss{k}", np.where(noisy_runs(RNG(1), 1, 2)[0, k] > 0, 1.0, -1.0), seed=0)
    said = run_gate(folders[0], again, 0.001).text
    assert "The margin 0.001 is below the noise floor" in said
    assert "noise floor" not in run_gate(folders[0], again, 0.9).text
    wide, bare = compare(folders[0], again), compare(folders[5], folders[5])
    assert wide.noise == floor
    assert bare.noise is None


def test_with_a_noise_floor_the_interval_covers_reruns(tmp_path: Path, write_cell: Write) -> None:
    cell = LossOnModel("qwen", "loss0")
    right = noisy_runs(RNG(0), 2, 1)
    prompt = np.arange(1000).astype(str).astype(object)
    pairs = {cell: Paired(seeds=(0,), prompt=prompt, base=right[0], new=right[1], identical=False)}
    spread = Spread(sd=0.015, freedom=1e6, largest=0.0)
    floor = NoiseFloor(
        protocol=1,
        metric="pairwise_accuracy",
        dataset_fingerprint="d",
        settings={},
        runs=5,
        seeds=1,
        seeds_differ=True,
        cells={cell: spread},
        overall=spread,
        smallest_margin=0.05,
    )
    narrow, wide = differences(pairs, "difference")[0][0], differences(pairs, "difference", floor)[0][0]
    prompts = (narrow.high - narrow.low) / 2 / 1.96
    assert (wide.high - wide.low) / 2 == pytest.approx(1.96 * np.sqrt(prompts**2 + 2 * 0.015**2), rel=0.03)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"metric": "spearman"}, "it was measured for spearman"),
        ({"dataset_fingerprint": "else"}, "it was measured on other data"),
        ({"settings": {"budget": "pairs=1"}}, "it was measured with another budget"),
        ({"seeds": 3}, "it was measured with 3 seeds per run, but here are 1"),
    ],
)
def test_a_noise_floor_of_other_runs_is_not_used_and_told(
    tmp_path: Path, write_cell: Write, changed: dict[str, object], why: str
) -> None:
    folders = write_runs(tmp_path, write_cell, noisy_runs(RNG(0), 2, 1, n=100))
    run_calibrate(folders)
    path = folders[0] / NOISE_FLOOR
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    text, _ = run_gate(folders[0], folders[0], 0.01)
    assert f"The noise floor beside BASE is not used: {why}" in text.replace("budget, ", "budget")[:10_000]


def test_a_noise_floor_of_the_same_data_in_another_place_is_used(tmp_path: Path, write_cell: Write) -> None:
    folders = write_runs(tmp_path, write_cell, noisy_runs(RNG(0), 2, 1, n=100))
    run_calibrate(folders)
    path = folders[0] / NOISE_FLOOR
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"settings": content["settings"] | {"dataset": "/where/they/lay/then"}}))
    text, _ = run_gate(folders[0], folders[0], 0.01)
    assert "is not used" not in text


def test_a_broken_noise_floor_and_runs_that_are_no_repeats_are_refused(tmp_path: Path, write_cell: Write) -> None:
    folders = write_runs(tmp_path, write_cell, noisy_runs(RNG(0), 2, 2, n=100))
    (folders[0] / NOISE_FLOOR).write_text('{"schema": 9}')
    with pytest.raises(HarnessError, match="schema 9, expected what `harness gate --calibrate` writes"):
        run_gate(folders[0], folders[0], 0.01)
    with pytest.raises(
        HarnessError, match="got one run with 1 seed to calibrate with, expected one run with two seeds"
    ):
        calibrate(folders[:1])
    write_cell(folders[1], "loss0", status="failed", reason="out of memory", seed=1)
    with pytest.raises(HarnessError, match="loss0 on qwen, seed 1, failed"):
        calibrate(folders)


def test_a_metric_that_is_better_when_lower_reaches_the_other_way(tmp_path: Path, write_cell: Write) -> None:
    """The Brier score is skewed, so its interval reaches further to one side; a gate is failed by the upper one."""
    rng = RNG(2)
    runs = [tmp_path / f"run{k}" for k in range(3)]
    truth = rng.normal(1, 2, 200)
    for run in runs:
        write_cell(run, "one", truth + rng.normal(0, 0.5, 200) - 6 * (rng.random(200) < 0.02))
    floor = calibrate(runs, "brier")
    repeats = [
        compare(one, other, "brier", noise=floor).cells[0] for one, other in ((runs[0], runs[1]), (runs[1], runs[2]))
    ]
    reach = np.mean([one.high - one.value for one in repeats])
    spread = floor.cells[LossOnModel("qwen", "one")]
    expected = reach + np.sqrt(2) * spread.sd * scipy_stats.t.ppf(0.95, spread.freedom)
    assert floor.smallest_margin == pytest.approx(expected)


def test_calibrating_by_the_command_writes_beside_the_first_run(
    tmp_path: Path, write_cell: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = write_runs(tmp_path, write_cell, noisy_runs(RNG(0), 2, 1, n=100))
    monkeypatch.setattr("sys.argv", ["harness", "gate", "--calibrate", *map(str, folders)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code or 0) == 0
    floor = read_noise(folders[0])
    assert floor is not None
    assert f"Noise floor of pairwise_accuracy: {floor.smallest_margin:.4g}" in capsys.readouterr().out
    assert "Five runs or more give a floor that is not needlessly high" in run_calibrate(folders).text


def write_seeds(run: Path, write_cell: Write, right: np.ndarray) -> Path:
    """Write one run whose seeds are the repeats, (seeds, cells, n)."""
    for seed in range(len(right)):
        for k in range(right.shape[1]):
            write_cell(run, f"loss{k}", np.where(right[seed, k] > 0, 1.0, -1.0), seed=seed)
    return run


def test_the_seeds_of_one_run_give_the_floor_that_one_run_a_seed_gives(tmp_path: Path, write_cell: Write) -> None:
    right = noisy_runs(RNG(0), 5, 2)
    apart = calibrate(write_runs(tmp_path, write_cell, right))
    together = calibrate([write_seeds(tmp_path / "seeds", write_cell, right)])
    assert together == apart
    assert (together.runs, together.seeds, together.seeds_differ) == (5, 1, True)


def test_the_floor_of_a_run_with_several_seeds_serves_a_one_seed_baseline(
    tmp_path: Path, write_cell: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = noisy_runs(RNG(0), 5, 2)
    seeds = write_seeds(tmp_path / "seeds", write_cell, right[:4])
    base = write_seeds(tmp_path / "base", write_cell, right[:1])
    new = write_seeds(tmp_path / "new", write_cell, right[4:])
    assert compare(base, new).noise is None
    monkeypatch.setattr("sys.argv", ["harness", "gate", "--calibrate", str(seeds), "--out", str(base)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code or 0) == 0
    assert f"Written: {base / NOISE_FLOOR}" in capsys.readouterr().out
    assert not (seeds / NOISE_FLOOR).exists()
    assert compare(base, new).noise == read_noise(base) == calibrate([seeds])
    # beside the run itself it serves gates in which NEW has one of its seeds
    run_calibrate([seeds])
    assert compare(seeds, new).noise is not None
    assert compare(seeds, seeds).noise is None


def test_a_run_with_several_seeds_that_lacks_a_cell_is_no_set_of_repeats(tmp_path: Path, write_cell: Write) -> None:
    run = write_seeds(tmp_path / "run", write_cell, noisy_runs(RNG(0), 3, 2, n=100))
    write_cell(run, "loss9", np.ones(100), seed=1)
    with pytest.raises(HarnessError, match="got no loss9 on qwen with seed 0, expected every cell with each"):
        calibrate([run])
    write_cell(run, "loss9", status="failed", reason="out of memory", seed=0)
    with pytest.raises(HarnessError, match="got loss9 on qwen, seed 0, failed"):
        calibrate([run])


def test_a_floor_is_not_written_into_a_run_that_it_does_not_fit(
    tmp_path: Path, write_cell: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_seeds(tmp_path / "run", write_cell, noisy_runs(RNG(0), 2, 1, n=100))
    other = tmp_path / "other"
    write_cell(other, "loss0", np.ones(100), board={"budget": "pairs=1"})
    with pytest.raises(HarnessError, match="does not fit: it was measured with another budget"):
        run_calibrate([run], out=other)
    assert not (other / NOISE_FLOOR).exists()
    for wrong, said in (
        (["--calibrate", run, "--json", tmp_path / "x.json"], "got --calibrate with a report"),
        ([run, run, "--out", other], "got --out without --calibrate"),
    ):
        monkeypatch.setattr("sys.argv", ["harness", "gate", *map(str, wrong)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        assert said in capsys.readouterr().err


def test_a_gate_at_the_smallest_margin_between_two_of_the_repeats_passes(tmp_path: Path, write_cell: Write) -> None:
    folders = write_runs(tmp_path, write_cell, noisy_runs(RNG(5), 6, 2))
    for run in folders:  # the same seed again: reruns, not other orders
        for path in run.glob("cells/*/record.json"):
            path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": 0}))
    run_calibrate(folders[:5])
    floor = read_noise(folders[0])
    assert floor is not None
    assert gate(compare(folders[0], folders[5]), floor.smallest_margin).exit_code == 0
    assert gate(compare(folders[0], folders[5]), 0.0001).exit_code == 4
