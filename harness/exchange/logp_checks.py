"""Whether log-probs fit each other within a model: the start checkpoint's, and where systems have none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.exchange.cell_checks import Check, differing, some
from harness.exchange.merge_conflicts import NEARLY, NEARLY_OTHERWISE
from harness.exchange.untrusted import WholeCell
from harness.run_folder.facts import EnvironmentFacts
from harness.run_folder.manifest import Manifest
from harness.run_folder.paths import RECORD, RESPONSES
from harness.run_folder.record import Record
from harness.run_folder.tables import RESPONSE_KEYS

if TYPE_CHECKING:
    import pandas as pd

MACHINE = ("device", "platform", "torch", "transformers", "threads", "gemm")
"""What decides the bits of a log-prob, besides the scorer and its version."""


def check_base(manifest: Manifest, cells: Sequence[WholeCell]) -> Check:
    """The row `base` has the log-probs that every cell of its model has of the start checkpoint."""
    problems, exact, near = [], 0, 0
    bases = {cell.record.model.name: cell for cell in cells if cell.record.label == "base"}
    for base in bases.values():
        off = differing(base.responses["sum_logp"], base.responses["ref_sum_logp"])
        if off.any():
            problems.append(
                f"{base.file(RESPONSES)}: got another sum_logp than ref_sum_logp for {off.sum()} responses "
                f"({some(base.responses['response_id'][off])}), expected the same: base is the start checkpoint; "
                "run the run again"
            )
    for cell in cells:
        base_cell = bases.get(cell.record.model.name)
        if base_cell is None or not _relative_to_start(cell.record):
            continue
        same = manifest.sources is None and _same_machine(cell, base_cell)
        exact, near = exact + same, near + (not same)
        problems += _other_reference(cell, base_cell, same)
    of = f"{exact} cells have the log-probs of the start checkpoint that base has, bit for bit"
    return Check(
        summary=of + (f", and {near} of other machines or on an accelerator nearly" if near else ""),
        problems=tuple(problems),
    )


def _relative_to_start(record: Record) -> bool:
    """Return whether the log-ratios of a row are to its model's start checkpoint."""
    if record.elsewhere is not None:
        return record.elsewhere.reference_fingerprint == record.model.fingerprint
    return record.kind == "loss"


def _same_machine(cell: WholeCell, base: WholeCell) -> bool:
    """Return whether both were scored alike to the last bit; an accelerator need not sum in one order twice."""
    facts = [(_machine(each.record.environment), each.record.scorer.version) for each in (cell, base)]
    return facts[0] == facts[1] and cell.record.environment.device in (None, "cpu")


def _machine(environment: EnvironmentFacts) -> tuple[object, ...]:
    return tuple(getattr(environment, name) for name in MACHINE)


def _other_reference(cell: WholeCell, base: WholeCell, same: bool) -> Iterator[str]:
    own, start = _by_response(cell), _by_response(base)
    if not own.index.equals(start.index):  # the check of the pairs says so
        return
    got, wanted = own["ref_sum_logp"].to_numpy(np.float64), start["sum_logp"].to_numpy(np.float64)
    if same:
        off, within = differing(got, wanted), "the same, bit for bit"
    else:
        absolute, relative = NEARLY.get(str(cell.record.board.dtype), NEARLY_OTHERWISE)
        both_missing = np.isnan(got) & np.isnan(wanted)
        off = ~((np.abs(got - wanted) <= absolute + relative * np.abs(wanted)) | both_missing)
        within = f"the same within {absolute:g} nats and {relative:g} of the sum"
    if off.any():
        yield (
            f"{cell.file(RESPONSES)}: got another ref_sum_logp than sum_logp in {base.name} for {off.sum()} responses "
            f"({some(own.index.get_level_values(1)[off])}), expected {within}; run both again"
        )


def check_holes(cells: Sequence[WholeCell]) -> Check:
    """A response without a log-prob has none under any system of its model, and one without a reward has neither."""
    problems, holes = [], 0
    models: dict[str, list[WholeCell]] = {}
    for cell in cells:
        if cell.record.label == "longer-wins":  # it has no log-probs
            continue
        models.setdefault(cell.record.model.name, []).append(cell)
        missing = _missing(cell.responses, "sum_logp")
        lost = _missing(cell.responses, "reward") & ~missing & (cell.record.kind != "reference")
        holes += int(missing.sum())
        if lost.any():
            problems.append(
                f"{cell.file(RESPONSES)}: got no reward of {lost.sum()} responses that have a log-prob "
                f"({some(cell.responses['response_id'][lost])}), expected one of each; run the cell again"
            )
    for of_model in models.values():
        fullest = min(of_model, key=lambda cell: int(_missing(cell.responses, "sum_logp").sum()))
        for cell in of_model:
            problems += _more_holes(cell, fullest)
    return Check(
        summary=f"{holes} log-probs are missing, each from every system of its model", problems=tuple(problems)
    )


def _more_holes(cell: WholeCell, fullest: WholeCell) -> Iterator[str]:
    own, other = _by_response(cell), _by_response(fullest)
    if not own.index.equals(other.index):
        return
    for name in ("sum_logp", "ref_sum_logp"):
        off = _missing(own, name) & ~_missing(other, name)
        if off.any():
            yield (
                f"{cell.file(RESPONSES)}: got no {name} of {off.sum()} responses "
                f"({some(own.index.get_level_values(1)[off])}) that {fullest.name} has, expected holes only where "
                f"every system of {cell.record.model.name} has them; run the cell again"
            )


def check_baselines(cells: Sequence[WholeCell]) -> Check:
    """The row `base` has no reward, and `longer-wins` has the characters as reward and no log-prob."""
    problems, checked = [], 0
    for cell in cells:
        if cell.record.kind != "reference":
            continue
        checked += 1
        nothing = np.full(len(cell.responses), np.nan)
        characters = cell.responses["characters"].to_numpy(np.float64)
        wanted = {"base": {"reward": nothing}, "longer-wins": {"reward": characters, "sum_logp": nothing}}
        for name, values in wanted.get(cell.record.label, {}).items():
            off = differing(cell.responses[name], values)
            if off.any():
                what = "its characters" if np.isfinite(values).any() else "none"
                problems.append(
                    f"{cell.file(RESPONSES)}: got another {name} than {what} for {off.sum()} responses, expected "
                    f"{what} of the row {cell.record.label} as in {RECORD}; run the run again"
                )
    return Check(summary=f"{checked} baseline rows have the rewards that their names say", problems=tuple(problems))


def _by_response(cell: WholeCell) -> pd.DataFrame:
    return cell.responses.set_index(list(RESPONSE_KEYS)).sort_index()


def _missing(table: pd.DataFrame, name: str) -> NDArray[np.bool_]:
    return np.asarray(np.isnan(table[name].to_numpy(np.float64, na_value=np.nan)), dtype=np.bool_)
