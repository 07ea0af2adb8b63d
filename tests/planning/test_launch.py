"""What `torchrun` and `accelerate launch` say of a process, and the steps that several processes can take together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.api import HarnessError
from harness.planning.launch import Launch, without_launch
from harness.planning.launched_run import fitted
from harness.planning.run_file import Run

TORCHRUN = {
    "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "1", "ROLE_RANK": "3",
    "MASTER_ADDR": "node1", "MASTER_PORT": "29500", "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RUN_ID": "x",
}  # fmt: skip
FSDP2 = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "ACCELERATE_MIXED_PRECISION": "bf16"}
OURS = {"PATH": "/bin", "HARNESS_CACHE": "cache", "CUDA_VISIBLE_DEVICES": "0,1", "RANKS": "mine"}


def launch(count: int, **config: str) -> Launch:
    found = Launch.of({**TORCHRUN, "WORLD_SIZE": str(count), **config})
    assert found is not None
    return found


def test_a_process_knows_its_place_and_the_configuration_of_accelerate() -> None:
    found = launch(4, **FSDP2, **OURS)
    assert (found.count, found.rank, found.local_rank, found.local_count) == (4, 3, 1, 2)
    assert (found.host, found.port, found.store_runs) == ("node1", 29500, True)
    assert found.config == {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}  # the precision is the run's


@pytest.mark.parametrize("environment", [{}, OURS, {"WORLD_SIZE": "4"}, {**TORCHRUN, "WORLD_SIZE": "1"}])
def test_a_process_that_is_alone_has_no_launch(environment: dict[str, str]) -> None:
    assert Launch.of(environment) is None


def test_workers_see_nothing_of_a_launcher() -> None:
    assert without_launch({**TORCHRUN, **FSDP2, **OURS}) == OURS


@pytest.mark.parametrize(
    ("batch", "micro", "count", "expected"),
    [
        (16, None, 2, 8),  # nano takes up to 8 pairs at once
        (16, 4, 2, 4),
        (16, 1, 16, 1),
        (24, None, 3, 8),
        (24, None, 4, 6),  # 6 pairs of a step each
    ],
)
def test_micro_batches_are_fitted_to_the_processes(batch: int, micro: int | None, count: int, expected: int) -> None:
    assert Run(preset="nano").settings.micro_pairs == 8
    found = fitted(Run(batch_pairs=batch, micro_pairs=micro), launch(count))
    assert found.settings.micro_pairs == expected
    assert found.decisive() == Run(batch_pairs=batch, micro_pairs=micro).decisive()


def test_a_run_of_one_process_stays_as_it_is() -> None:
    run = Run()
    assert fitted(run, None) is run


@pytest.mark.parametrize(
    ("values", "config", "words"),
    [
        ({"batch_pairs": 16}, {}, "--batch-pairs got 16, expected a multiple of 3"),
        ({"batch_pairs": 12, "micro_pairs": 6}, {}, "--micro-pairs got 6, expected a divisor of 4, the pairs"),
        ({"batch_pairs": 24}, {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"}, "got FSDP, version 1, expected"),
        ({"batch_pairs": 24}, {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}, "got DeepSpeed, ZeRO stage 3, expected"),
        ({"batch_pairs": 24}, {"PARALLELISM_CONFIG_TP_SIZE": "2"}, "got TP parallelism, expected"),
    ],
)
def test_what_several_processes_cannot_train_is_refused(
    values: dict[str, int], config: dict[str, str], words: str
) -> None:
    with pytest.raises(HarnessError, match=words):
        fitted(Run.model_validate(values), launch(3, **config))


def test_a_stage_of_zero_in_deepspeeds_own_file_is_read(tmp_path: Path) -> None:
    for stage in (2, 3):
        (tmp_path / f"{stage}.json").write_text(json.dumps({"zero_optimization": {"stage": stage}}))
    fitted(Run(), launch(2, ACCELERATE_DEEPSPEED_CONFIG_FILE=str(tmp_path / "2.json")))
    with pytest.raises(HarnessError, match="got DeepSpeed, ZeRO stage 3"):
        fitted(Run(), launch(2, ACCELERATE_DEEPSPEED_CONFIG_FILE=str(tmp_path / "3.json")))
