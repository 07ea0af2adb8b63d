"""A checkpoint that TRL trained, scored by `harness score`: the log-probs and rewards of a computation by hand."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import brought_checkpoints as made
import numpy as np
import pytest

from harness.run_folder.store import read_records

TRAIN = Path(__file__).with_name("train_dpo_trl.py")
PAIRS = 20
NATS = 1e-3
"""What the sum over a response may be off, in nats."""


@pytest.mark.bench
def test_a_checkpoint_that_trl_trained_is_scored_as_by_hand(harness: Any, peer_python: str, tmp_path: Path) -> None:
    data, start = made.write_data(tmp_path / "data", test=PAIRS), made.write_start(tmp_path / "start")
    trained = tmp_path / "trl-dpo"
    subprocess.run([peer_python, str(TRAIN), str(start), str(data / "train.jsonl"), str(trained)], check=True)
    pairs = made.rows(PAIRS, 2)
    policy, reference = (
        np.array([total for total, _ in made.by_hand(folder, pairs)]).reshape(PAIRS, 2) for folder in (trained, start)
    )
    assert np.abs(policy - reference).max() > 0.5  # it was trained
    for scorer in ("transformers", "vllm"):
        run = tmp_path / scorer
        done = harness(
            "score", "--dataset", str(data), "--model", str(trained), "--reference", str(start), "--scorer", scorer,
            "--output-dir", str(run), "--no-pictures",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        (record,) = (record for record in read_records(run) if record.elsewhere)
        rows = record.rows()
        summed = rows[["chosen_sum_logp", "rejected_sum_logp"]].to_numpy(np.float64)
        rewards = rows[["reward_chosen", "reward_rejected"]].to_numpy(np.float64)
        off, off_in_reward = np.abs(summed - policy).max(), np.abs(rewards - (policy - reference)).max()
        print(f"\n{scorer}: {off:.1e} nats off in a sum, {off_in_reward:.1e} in a log-ratio", end="")
        assert off < NATS
        assert off_in_reward < NATS
        assert record.metrics["pairwise_accuracy"] == np.mean(np.diff(policy - reference)[:, 0] < 0)
