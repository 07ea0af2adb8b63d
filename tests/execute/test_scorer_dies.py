"""A scorer that dies: it is started anew once, and nothing is lost; where it dies again, one cell fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

SCORER = """
import dataclasses, os, signal
from pathlib import Path
from harness.api import hookimpl
from harness.score import transformers

def opened(checkpoint, options):
    return Mortal(transformers.open_transformers(checkpoint, options), checkpoint)

class Mortal:
    def __init__(self, engine, checkpoint):
        self.engine, self.weights, self.dead = engine, checkpoint, False
    def load(self, checkpoint):
        self.alive()
        self.engine.load(checkpoint)
        self.weights = checkpoint
    def score(self, requests):
        self.alive()
        fates = Path(os.environ["HARNESS_FATES"])
        for line in fates.read_text().split():
            who, how, times = line.split(":")
            deaths = fates.with_name(f"{who}-{how}")
            count = deaths.stat().st_size if deaths.exists() else 0
            if who in str(self.weights) and count < int(times):
                deaths.write_text("x" * (count + 1))
                if how == "process":
                    os.kill(os.getpid(), signal.SIGKILL)
                self.dead = True
                self.alive()
        return self.engine.score(requests)
    def alive(self):
        if self.dead:
            raise RuntimeError("EngineCore is gone")
    def close(self):
        self.engine.close()

@hookimpl
def harness_scorers():
    (source,) = transformers.harness_scorers()
    return [dataclasses.replace(source, name="mortal", open=opened, generates=False)]
"""
ALWAYS = 99
RUN = ("--models", "qwen", "--limit", "16", "--budget", "pairs=16", "--scorer", "mortal")
LOSSES = "simpo,dpo,cpo,ipo,slic-hf"


@pytest.fixture(scope="module")
def run(harness: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[dict[str, dict[str, Any]], Any]]:
    """Run with a scorer that dies as told: whose weights it has, how, how often; return the records and the command."""
    site = tmp_path_factory.mktemp("site")
    (site / "mortal.py").write_text(SCORER)
    info = site / "mortal-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mortal\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[harness]\nmortal = mortal\n")

    def call(*fates: tuple[str, str, int], losses: str = LOSSES) -> tuple[dict[str, dict[str, Any]], Any]:
        place = tmp_path_factory.mktemp("fates")
        (place / "fates").write_text("\n".join(f"{who}:{how}:{times}" for who, how, times in fates))
        words = ("run", "--plugins", losses, *RUN, "--output-dir", str(place / "run"))
        done = harness(*words, PYTHONPATH=str(site), HARNESS_FATES=str(place / "fates"))
        found = [json.loads(path.read_text()) for path in place.glob("run/cells/*/record.json")]
        return {record["label"]: record for record in found}, done

    return call


def of_the_result(record: dict[str, Any]) -> dict[str, Any]:
    """Return all of a record but what the clock says."""
    return {name: record[name] for name in record if name not in ("spend", "environment", "scorer", "sha256")}


def test_a_scorer_that_dies_is_started_anew_once_and_costs_one_cell_where_it_dies_again(run: Any) -> None:
    undisturbed, whole = run()
    assert whole.returncode == 0, whole.stderr
    disturbed, done = run(
        ("--simpo--", "process", 1),
        ("--dpo--", "process", ALWAYS),
        ("--cpo--", "engine", 1),
        ("--ipo--", "engine", ALWAYS),
    )
    assert done.returncode == 6, done.stdout + done.stderr
    assert {label for label, record in disturbed.items() if record["status"] == "failed"} == {"dpo", "ipo"}
    for label in ("simpo", "cpo", "slic-hf", "base", "longer-wins"):
        assert of_the_result(disturbed[label]) == of_the_result(undisturbed[label])
    assert "was ended by SIGKILL" in disturbed["dpo"]["reason"]
    assert disturbed["ipo"]["reason"].startswith("scorer 'mortal' died twice: RuntimeError: EngineCore is gone; then")
    assert done.stdout.count("the scorer died, and is started anew") == 4
    assert done.stdout.count("] trained ") == 5  # none of them twice


@pytest.mark.parametrize("how", ["process", "engine"])
def test_at_the_start_checkpoint_too(how: str, run: Any) -> None:
    once, done = run(("cache", how, 1), losses="simpo")  # which is there
    assert done.returncode == 0, done.stderr
    assert {record["status"] for record in once.values()} == {"ok"}
    always, done = run(("cache", how, ALWAYS), losses="simpo")
    assert done.returncode == 6, done.stdout + done.stderr
    reason = "was ended by SIGKILL" if how == "process" else "scorer 'mortal' died twice"
    assert reason in always["simpo"]["reason"]
