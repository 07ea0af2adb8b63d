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
