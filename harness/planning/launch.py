"""How `torchrun` or `accelerate launch` started this process, where one did: one of several that train a cell together.

Both start the same command several times. The first process is the run: it plans, scores, writes and prints. The others
only take part in its trainings (`training/together.py`, `execute/follow.py`). Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PLACE = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""The variables that tell a process of its place, all of which both launchers set."""
BESIDE = ("LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_NAME", "ROLE_RANK", "ROLE_WORLD_SIZE")
"""Others that they set; and those that begin with TORCHELASTIC_."""
CONFIG = ("ACCELERATE_", "FSDP_", "PARALLELISM_CONFIG_")
"""How variables begin that carry the configuration of accelerate."""
NOT_OURS = ("ACCELERATE_MIXED_PRECISION", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "ACCELERATE_DYNAMO_")
"""What the run decides itself, the same for every loss: --dtype, --micro-pairs; nothing is compiled."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """The place of this process among those that train a cell together."""

    count: int
    rank: int
    local_rank: int
    """Its place among those of its machine, which is the number of its device."""
    local_count: int
    host: str
    """Of the first process."""
    port: int
    store_runs: bool
    """Whether the launcher answers at this port; else the first process does."""
    attempt: str = "0"
    """How often the launcher has started all anew."""
    config: Mapping[str, str]
    """The configuration of accelerate, as environment variables."""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Launch | None:
        """Return what a launcher says in the environment; None without one, and where it started one process only."""
        if not all(environment.get(name) for name in PLACE) or int(environment["WORLD_SIZE"]) == 1:
            return None
        config = {name: value for name, value in environment.items() if name.startswith(CONFIG)}
        return cls(
            count=int(environment["WORLD_SIZE"]),
            rank=int(environment["RANK"]),
            local_rank=int(environment["LOCAL_RANK"]),
            local_count=int(environment.get("LOCAL_WORLD_SIZE") or environment["WORLD_SIZE"]),
            host=environment["MASTER_ADDR"],
            port=int(environment["MASTER_PORT"]),
            attempt=environment.get("TORCHELASTIC_RESTART_COUNT", "0"),
            store_runs=environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
            config={name: value for name, value in config.items() if not name.startswith(NOT_OURS)},
        )

    @property
    def variables(self) -> dict[str, str]:
        """What accelerate reads in the environment, for the length of a training."""
        return {
            **self.config,
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.count),
            "LOCAL_RANK": str(self.local_rank),
            "LOCAL_WORLD_SIZE": str(self.local_count),
            "MASTER_ADDR": self.host,
            "MASTER_PORT": str(self.port),
        }


def without_launch(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment as if nothing had launched this process: an engine that reads it would wait for others."""
    begin, names = ("TORCHELASTIC_", *CONFIG), (*PLACE, *BESIDE)
    return {name: value for name, value in environment.items() if not (name in names or name.startswith(begin))}
<<<<<<< HEAD


def fitted(run: AnyRun, launch: Launch | None) -> AnyRun:
    """Return the run with micro-batches that every process has as many of; unless they are given, as large as may be.

    Raises `HarnessError` where a step cannot be divided so, or a model would be parted in a way that is not known here.
    """
    if launch is None:
        return run
    _require_whole_weights(launch)
    batch, asked = run.settings.batch_pairs, run.micro_pairs
    asked = None if asked == "auto" else asked
    own, left = divmod(batch, launch.count)
    if left:
        raise HarnessError(
            f"--batch-pairs got {batch}, expected a multiple of {launch.count}: so many processes train each cell "
            "together, and each takes as many pairs of a step; change one of the two"
        )
    if asked is not None and own % asked:
        raise HarnessError(
            f"--micro-pairs got {asked}, expected a divisor of {own}, the pairs of a step that each of the "
            f"{launch.count} processes takes; give such a number, or leave it out"
        )
    if run.micro_pairs == "auto":
        return run
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
=======
>>>>>>> hD
