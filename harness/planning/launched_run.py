"""What several processes that train each cell together can do of a run, known before anything is computed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from harness.api import HarnessError
from harness.planning.launch import Launch
from harness.planning.run_file import Run

AnyRun = TypeVar("AnyRun", bound=Run)


def fitted(run: AnyRun, launch: Launch | None) -> AnyRun:
    """Return the run with micro-batches that every process has as many of; unless they are given, as large as may be.

    Raises `HarnessError` where a step cannot be divided so, or a model would be parted in a way that is not known here.
    """
    if launch is None:
        return run
    _require_whole_weights(launch)
    batch, asked = run.settings.batch_pairs, run.micro_pairs
    own, left = divmod(batch, launch.count)
    if left:
        raise HarnessError(
            f"--batch-pairs got {batch}, expected a multiple of {launch.count}: so many processes train each cell "
            "together, and each takes as many pairs of a step; change one of the two"
        )
    if asked == "auto":
        return run
    if asked is not None and own % asked:
        raise HarnessError(
            f"--micro-pairs got {asked}, expected a divisor of {own}, the pairs of a step that each of the "
            f"{launch.count} processes takes; give such a number, or leave it out"
        )
    largest = max(size for size in range(1, run.settings.micro_pairs + 1) if own % size == 0)
    return run.model_copy(update={"micro_pairs": asked or largest})


def _require_whole_weights(launch: Launch) -> None:
    """Raise `HarnessError` where accelerate is to part a model so that its weights could not be put together again."""
    config = launch.config
    ways = {"FSDP, version 1": config.get("ACCELERATE_USE_FSDP") == "true" and config.get("FSDP_VERSION") != "2"}
    ways["DeepSpeed, ZeRO stage 3"] = _zero_stage(config) == "3"
    for kind in ("TP", "CP", "SP"):
        ways[f"{kind} parallelism"] = int(config.get(f"PARALLELISM_CONFIG_{kind}_SIZE") or 1) > 1
    for way in (name for name, asked in ways.items() if asked):
        raise HarnessError(
            f"the configuration of accelerate got {way}, expected data parallelism (DDP), FSDP version 2 or DeepSpeed "
            "up to ZeRO stage 2; change it by `accelerate config`, or by options of `accelerate launch`"
        )


def _zero_stage(config: Mapping[str, str]) -> str | None:
    """Return the ZeRO stage that DeepSpeed is to work at, which a file of its own may say."""
    file = config.get("ACCELERATE_DEEPSPEED_CONFIG_FILE")
    if file is None:
        return config.get("ACCELERATE_DEEPSPEED_ZERO_STAGE")
    try:
        return str(json.loads(Path(file).read_text(encoding="utf-8"))["zero_optimization"]["stage"])
    except (OSError, ValueError, KeyError, TypeError):  # DeepSpeed says what is wrong with it
        return None
