"""A checkpoint that was trained elsewhere, as it is asked for, and the settings by which it is scored. No torch."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from harness.api import HarnessError, Loss
from harness.api.loss import Resolve
from harness.planning.grid import cell_key, label, selection
from harness.planning.run_file import Run
from harness.run_folder.board_key import BoardKey
from harness.run_folder.facts import ElsewhereFacts
from harness.run_folder.record import ELSEWHERE

LOG_RATIO, MEAN, SUM = "log-ratio", "mean", "sum"
READINGS = (LOG_RATIO, MEAN, SUM)
"""Rewards that are no loss's: the summed log-prob over that of the reference, the log-prob per token, and summed."""
START = "the start checkpoint"
"""The reference of a row whose log-ratios are to what its model's losses started from."""
OF_SCORING = (
    *("protocol", "dataset", "max_length", "max_prompt", "dtype", "scorer", "evaluated_on", "chat_template"),
    *("lenient", "test", "test_columns", "columns", "splits", "pairs_from_labels", "limit", "data_seed"),
)
"""The settings of a board's key that decide how a given checkpoint is scored."""


@dataclass(frozen=True, kw_only=True)
class Brought:
    """A checkpoint that was trained elsewhere, as it is asked for."""

    model: str
    """A folder, a GGUF file or a hub id."""
    reward: str = ""
    """One of `READINGS`, or a loss as --plugins has it; "": `log-ratio` where there is a reference, else `mean`."""
    loss: Loss | None = None
    """The loss that `reward` names."""
    reference: str | None = None
    """What log-ratios are relative to; None: the start checkpoint of the model that it stands beside, if any."""
    in_run: bool = True
    """Whether it may stand beside the model of a run; else on a board of its reference alone."""

    @property
    def name(self) -> str:
        """The last name of the checkpoint."""
        local = Path(self.model).expanduser()
        return Path(os.path.abspath(local)).name if local.exists() else self.model.rstrip("/").rpartition("/")[2]

    def reward_beside(self, reference: bool) -> str:
        """Return the reward as it is asked for, or the default with or without a reference."""
        return self.reward or (LOG_RATIO if reference else MEAN)

    def needs_reference(self) -> bool:
        """Return whether the reward that was asked for is relative to a reference."""
        return self.reward == LOG_RATIO or bool(self.loss and self.loss.reward_needs_reference)


def brought(model: str, reward: str | None, reference: str | None, resolve: Resolve, *, in_run: bool) -> Brought:
    """Return what is asked for. Raises `HarnessError` for a reward that is none, or that lacks its reference."""
    asked, loss = reward or "", None
    if asked and asked not in READINGS:
        named = selection(asked, [])
        if len(named) != 1:
            raise HarnessError(f"--reward got '{asked}', expected {', '.join(READINGS)} or one loss; name one of them")
        ((name, options),) = named
        try:
            loss = resolve(name, options)
        except HarnessError as error:
            raise HarnessError(f"--reward got '{asked}', expected {', '.join(READINGS)} or a loss: {error}") from None
        asked = label(name, options)
    found = Brought(model=model, reward=asked, loss=loss, reference=reference, in_run=in_run)
    if found.needs_reference() and not in_run and reference is None:
        raise HarnessError(
            f"--reward got '{reward}', which is relative to a reference, and there is none; name it by --reference, or "
            f"give --reward {MEAN}"
        )
    return found


def row_label(name: str, reward: str) -> str:
    """Return the label of a row: no loss has such a one."""
    return f"{name} ({ELSEWHERE}, {reward})"


def row_key(model: str, row: str, facts: ElsewhereFacts, reward: str) -> str:
    """Return the key of a row: the same for the same checkpoint, read in the same way, wherever it lies."""
    return cell_key(model, row, json.dumps([facts.fingerprint, reward, facts.reference_fingerprint]), None)


class ScoreRun(Run):
    """The settings by which checkpoints from elsewhere are scored; nothing is trained."""

    @classmethod
    def of(cls, run: Run) -> Self:
        """Return the run with nothing to train."""
        return cls(**run.model_dump()).known_as(run)

    def decisive(self) -> BoardKey:
        """Return the settings that decide what a given checkpoint scores."""
        settings = super().decisive().as_json()
        names = (*OF_SCORING, *(("noise",) if self.evaluate_on == "dev" else ()))  # which the test split never has
        return BoardKey.of({name: settings[name] for name in names if name in settings})
