"""What takes minutes of two processes: models that FSDP2 parts between them, and whole runs under a launcher."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import pytest
import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from two_processes import STEPS, require_same, second_process, start_checkpoint, trained
from waiting import HANGS

from harness.data.tokens import TokenPair
from harness.manager import plugin_manager, resolver
from harness.planning.budget import Point
from harness.planning.ending import EndedError
from harness.planning.launch import Launch
from harness.planning.run_file import Run
from harness.run_folder.checkpoints import find_checkpoint
from harness.training.train_cell import start_model

pytestmark = pytest.mark.launched
RESOLVE = resolver(plugin_manager())
FSDP2 = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    "ACCELERATE_TORCH_DEVICE": "cpu",
}
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the other process does not know this file


def on_cpus(state: PartialState, cpu: bool = False, sagemaker: bool = False, backend: str | None = None) -> Any:
    """Have accelerate take CPUs for devices that it parts a model among: it does so for accelerators alone."""
    return "gloo", DistributedType.MULTI_XPU


def opens_parted(folder: Path, run: Run, seed: int, pair: TokenPair, name: str) -> Any:
    """Open a start checkpoint where accelerate parts it on CPUs, as it does in this process."""
    PartialState._prepare_backend = on_cpus
    return start_model(folder, run, seed, pair, name)


@pytest.fixture(scope="module")
def two() -> Iterator[Launch]:
    with second_process(FSDP2) as first:
        yield first


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return start_checkpoint(tmp_path_factory.mktemp("start"))


@pytest.mark.filterwarnings("ignore:.*")  # of what accelerate and torch say of FSDP2 on CPUs
@pytest.mark.parametrize(
    ("name", "options", "adapter"),
    [
        ("dpo", {}, "full"),
        ("dpo", {}, "lora"),
        ("cpo", {"nll_reduction": "token"}, "full"),
        ("kto", {}, "full"),
        ("tdpo", {}, "full"),
        ("tr-dpo", {"every": 2}, "full"),
    ],
)
def test_a_model_that_fsdp2_parts_is_trained_as_a_whole_one(
    name: str, options: dict[str, Any], adapter: str, start: Path, two: Launch, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    loss, at = RESOLVE(name, options), (Point(fraction=0.5, steps=STEPS // 2),)
    kept: list[torch.Tensor] = []

    def keep(model: Any) -> None:
        kept.append(model.get_output_embeddings().weight.detach().clone())

    one = trained(loss, None, start, tmp_path, adapter=adapter, points=at, keep=keep)
    monkeypatch.setattr(PartialState, "_prepare_backend", on_cpus)
    parted = partial(trained, loss, two, start, tmp_path, adapter=adapter, opens=opens_parted)
    require_same(one, parted(points=at, keep=keep))
    torch.testing.assert_close(kept[1], kept[0], rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*")
def test_a_training_of_parted_models_that_is_stopped_goes_on_as_if_it_had_not_been(
    start: Path, two: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PartialState, "_prepare_backend", on_cpus)
    train = partial(trained, RESOLVE("dpo", {}), two, start, tmp_path, opens=opens_parted)
    undisturbed, cell = train(), tmp_path / "cell"
    with pytest.raises(EndedError):
        train(cell=cell, stopped_at=2)
    assert find_checkpoint(cell) == cell / "checkpoint-2"
    require_same(undisturbed, train(cell=cell))


def run_under(launcher: list[str], folder: Path, cache: Path, *arguments: str) -> pd.DataFrame:
    """Run two losses, and return the scored pairs of all cells."""
    command = ["-m", "harness", "run", "--plugins", "simpo,bco:shift=running", "--scorer", "transformers"]
    command += ["--limit", "32", "--budget", "pairs=64", "--no-pictures", "--quiet", "--output-dir", str(folder)]
    environment = {**os.environ, "HARNESS_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    subprocess.run([*launcher, *command, *arguments], check=True, timeout=HANGS, env=environment)
    tables = [path for path in sorted(folder.glob("cells/*/rows.parquet")) if "seed" in path.parent.name]
    return pd.concat([pd.read_parquet(path) for path in tables], ignore_index=True)


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
ACCELERATE += ["--num_machines", "1", "--mixed_precision", "bf16", "--dynamo_backend", "no"]  # the run is in fp32


@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE], ids=["torchrun", "accelerate"])
def test_a_run_under_a_launcher_is_done_once_with_the_numbers_of_one_process(
    launcher: list[str], cache: Path, tmp_path: Path
) -> None:
    expected = run_under([sys.executable], tmp_path / "one", cache)
    got = run_under(launcher, tmp_path / "two", cache)
    columns = ["chosen_sum_logp", "rejected_sum_logp"]
    assert float(np.abs(got[columns] - expected[columns]).to_numpy().max()) < 1e-4
    sides = [np.sign(rows["reward_chosen"] - rows["reward_rejected"]) for rows in (expected, got)]
    assert int((sides[0] != sides[1]).sum()) == 0
    for folder, processes in (("one", None), ("two", 2)):
        for path in (tmp_path / folder).glob("cells/*seed0/record.json"):
            record = json.loads(path.read_text())
            assert record["environment"].get("processes") == processes
            assert record["spend"]["pairs"] == 64
