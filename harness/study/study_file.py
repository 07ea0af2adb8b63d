"""study.toml as a frozen value: the question, the hypothesis, the run, and what is to be read off its cells."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.api import HarnessError
from harness.planning.run_toml import read_toml

STUDY_FILE = "study.toml"
Text = Annotated[str, Field(min_length=1)]
Names = Annotated[tuple[Text, ...], Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Contrast(_Part):
    """The mean of some rows less that of others, at every setting of the run's axes."""

    name: str = ""
    """What the table calls it; by default the two sides."""
    plus: Names
    """Rows by their labels on the board."""
    minus: Names

    @property
    def title(self) -> str:
        """What the table calls it."""
        return self.name or f"{', '.join(self.plus)} less {', '.join(self.minus)}"


class Effects(_Part):
    """What each factor of a full grid does: the mean of each level against that of all, and shares of the variance."""

    factors: Names
    """`loss`, an option of the losses, or what a board is set to: learning_rate, noise, select, budget, dataset,
    optimizer."""
    losses: tuple[str, ...] = ()
    """Which losses the grid is of; empty: all."""


class Groups(_Part):
    """Two groups of losses, each loss by the mean over all of its cells, and whether they were parted so by chance."""

    first: Text
    """What the first group is called."""
    first_losses: Names
    second: Text
    second_losses: Names
    by: str = ""
    """A factor whose levels are told apart, as `Effects.factors`; empty: all cells together."""


class Study(_Part):
    """A study as its file has it."""

    question: Text
    hypothesis: Text
    """Written before the run."""
    setting: Text
    """On what models and data it is asked, and what therefore it cannot say."""
    metric: str = ""
    """What is compared; by default what the run is ranked by."""
    run: dict[str, Any]
    """The run file of the run that answers, its keys as `harness run` has them."""
    contrasts: tuple[Contrast, ...] = ()
    effects: tuple[Effects, ...] = ()
    groups: tuple[Groups, ...] = ()

    @model_validator(mode="after")
    def _asks_something(self) -> Study:
        if not (self.contrasts or self.effects or self.groups):
            raise ValueError("got no [[contrasts]], [[effects]] or [[groups]], expected at least one of them")
        return self


def read_study(path: Path) -> Study:
    """Return the study of a file. Raises `HarnessError`, one line, for what is no study."""
    content = read_toml(path, f"study {path}")
    try:
        return Study.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        said = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
        at = f"{place}: " if place else ""
        raise HarnessError(f"study {path}: {at}{said}; see docs/studies.md") from None
