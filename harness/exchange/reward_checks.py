"""Whether rewards are what the cell's own loss gives of its log-probs; computed with torch, where that is installed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.api.errors import HarnessError
from harness.api.loss import Loss
from harness.exchange.cell_checks import Check, near, some
from harness.exchange.installed_losses import InstalledLosses
from harness.exchange.untrusted import WholeCell
from harness.run_folder.paths import RESPONSES


def check_rewards(cells: Sequence[WholeCell], installed: InstalledLosses) -> Check:
    """Every reward is what the loss of the record gives of the response's log-probs and tokens."""
    problems, checked, left = [], dict[str, int](), dict[str, str]()
    for cell in cells:
        record = cell.record
        if record.kind == "reference":
            continue
        loss, why = installed.find(record), installed.why_not(record)
        if not why:
            wanted, why = _rewards(loss, cell)
        if why:
            left[record.label] = why
            continue
        off = _off(cell, wanted)
        version = installed.other_version(record)
        if off.any() and version:  # its formula may have been another
            left[record.label] = f"it gives others, {version}"
            continue
        checked[record.loss.name] = checked.get(record.loss.name, 0) + 1
        if off.any():
            problems.append(
                f"{cell.file(RESPONSES)}: got another reward than {record.label} gives of sum_logp, tokens and "
                f"ref_sum_logp for {off.sum()} responses ({some(cell.responses['response_id'][off])}), expected the "
                "same; copy the cell's folder anew"
            )
    names = ", ".join(f"{name} ({number})" for name, number in sorted(checked.items())) or "no cell"
    return Check(
        summary=f"rewards are what the losses give of the log-probs: {names}",
        problems=tuple(problems),
        notes=tuple(f"not checked: rewards of {label}: {why}" for label, why in sorted(left.items())),
    )


def _rewards(loss: Loss | None, cell: WholeCell) -> tuple[NDArray[np.float64], str]:
    """Return the reward of each response, (responses,), and why there is none; empty where there is."""
    facts = cell.record.elsewhere
    columns = [
        cell.responses[name].to_numpy(np.float64, na_value=np.nan) for name in ("sum_logp", "tokens", "ref_sum_logp")
    ]
    try:
        from harness.training.own_rewards import read_rewards
    except ImportError as error:
        return np.empty(0), f"torch cannot be imported here ({error})"
    try:
        return read_rewards(facts.reward if facts else "", loss, *columns), ""
    except HarnessError as error:
        return np.empty(0), str(error)
    except Exception as error:  # whatever a plugin raises, it is a reason
        return np.empty(0), f"{type(error).__name__}: {error}"


def _off(cell: WholeCell, wanted: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which rewards are not those, (responses,) bool; NaN equals NaN."""
    got = cell.responses["reward"].to_numpy(np.float64, na_value=np.nan)
    return np.asarray(~near(got, wanted), dtype=np.bool_)
