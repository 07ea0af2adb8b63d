"""Whether a record says one thing of what its cell is: folder, key, model, seed, label, options, learning rate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.api.errors import HarnessError
from harness.exchange.cell_checks import Check
from harness.exchange.installed_losses import InstalledLosses
from harness.exchange.untrusted import UntrustedCell
from harness.planning.elsewhere import row_key, row_label
from harness.planning.grid import OWN_LABEL, cell_key, identity, selection
from harness.run_folder.board_key import differing
from harness.run_folder.facts import ElsewhereFacts
from harness.run_folder.paths import RECORD
from harness.run_folder.record import BASELINES, ELSEWHERE, Record


def check_keys(cells: Sequence[UntrustedCell]) -> Check:
    """Every folder is named as its record's model, label, options, learning rate and seed make it."""
    problems = []
    for cell in cells:
        record = cell.record
        if record.key != (wanted := _key(record)):
            problems.append(
                f"{cell.file(RECORD)}: got key = {record.key!r}, expected {wanted!r} as its model {record.model.name}, "
                f"label {record.label}, options {record.loss.options} and seed {record.seed} give; run the cell again"
            )
    return Check(
        summary=f"{len(cells)} folders are named by model, label, options and seed of their records",
        problems=tuple(problems),
    )


def _key(record: Record) -> str:
    """Return the key of the cell that a record describes."""
    if record.kind == "reference":
        return cell_key(record.model.name, record.loss.name, record.loss.name, None)
    if record.elsewhere is not None:
        return row_key(record.model.name, record.label, record.elsewhere, _reward(record))
    rate = None if record.tuning is None else record.learning_rate
    exact = identity(record.loss.name, record.loss.options, rate, record.loss.source or "")
    return cell_key(record.model.name, record.label, exact, record.seed)


def check_labels(cells: Sequence[UntrustedCell], installed: InstalledLosses) -> Check:
    """Every label names its loss, and the options are those that it gives; the others are the loss's defaults."""
    problems, unknown = [], dict[str, str]()
    for cell in cells:
        record = cell.record
        if record.kind == "reference":
            said = [_no_baseline(record)] if {record.label, record.loss.name} - {_baseline(record)} else []
        elif record.elsewhere is not None:
            said = [*_not_elsewhere(record, record.elsewhere)]
        else:
            said = [*_wrong_label(record), *_wrong_rate(record)]
        if record.kind == "loss" and not said:
            options, why = _wrong_options(record, installed)
            said += options
            if why:
                unknown[record.label] = why
        problems += [f"{cell.file(RECORD)}: {problem}; run the cell again" for problem in said]
    notes = [f"not checked: options of {label} that its label does not give: {why}" for label, why in unknown.items()]
    return Check(
        summary=f"labels, options and learning rates of {len(cells)} records agree",
        problems=tuple(problems),
        notes=tuple(notes),
    )


def _baseline(record: Record) -> str:
    return record.label if record.label in BASELINES else ""


def _no_baseline(record: Record) -> str:
    return f"got label {record.label!r} of {record.loss.name!r}, expected one of {', '.join(BASELINES)}, twice the same"


def _reward(record: Record) -> str:
    """Return the reward of a checkpoint from elsewhere as it was asked for."""
    return str(record.loss.options.get("reward"))


def _not_elsewhere(record: Record, facts: ElsewhereFacts) -> Iterator[str]:
    """Yield where a row of a checkpoint from elsewhere is not labelled as one, or names two rewards."""
    if record.loss.name != ELSEWHERE or not record.label.endswith(row_label("", _reward(record))):
        yield f"got label {record.label!r} of {record.loss.name!r}, expected NAME{row_label('', _reward(record))}"
    given = _reward(record).partition("(")[0]
    if given != facts.reward:
        yield f"got loss.options.reward {given!r}, expected {facts.reward!r} as in elsewhere.reward"


def _wrong_label(record: Record) -> Iterator[str]:
    """Yield where the label is not that of the loss, or of the system that was tuned."""
    name = _installed_name(record, _given(record)[0])
    if name != record.loss.name:
        yield f"got label {record.label!r} of the loss {record.loss.name!r}, expected the loss's name"
    tuning, board = record.tuning, record.board
    if (tuning is None) != (board.trial_learning_rates is None):
        had, wanted = ("no", "one") if tuning is None else ("a", "none")
        yield f"got {had} tuning, expected {wanted}: its board has trial_learning_rates {board.trial_learning_rates}"
    if tuning is None:
        return
    label = tuning.system if tuning.trials is not None else f"{tuning.system} trial {tuning.number}"
    if record.label != label:
        yield f"got label {record.label!r}, expected {label!r} as its tuning says"
    if tuning.trials != board.trials:
        yield f"got tuning.trials {tuning.trials}, expected {board.trials} as its board says"
    if not 0 <= tuning.number < (tuning.trials or tuning.number + 1):
        yield f"got trial {tuning.number}, expected 0 to {(tuning.trials or 1) - 1}"
    for option in (name for name, value in tuning.options.items() if record.loss.options.get(name) != value):
        got = record.loss.options.get(option)
        yield f"got option {option} {got!r}, expected {tuning.options[option]!r} as its tuning sampled"


def _wrong_rate(record: Record) -> Iterator[str]:
    """Yield where the learning rate is neither the board's nor one of its trials'."""
    rate, shared, spread = record.learning_rate, record.board.learning_rate, record.board.trial_learning_rates
    if shared is not None and rate != shared:
        yield f"got learning_rate {rate}, expected {shared} as its board says"
    if spread is not None and not (rate is not None and spread[0] <= rate <= spread[1]):
        yield f"got learning_rate {rate}, expected {spread[0]} to {spread[1]} as its board says"


def _given(record: Record) -> tuple[str, Mapping[str, str]]:
    """Return the loss and the options that a label gives, as text: simpo(beta=2.5) -> simpo, {"beta": "2.5"}."""
    label = record.tuning.system if record.tuning is not None else record.label
    name, bracket, options = label.partition("(")
    if not (bracket and options.endswith(")")):
        return label, {}
    try:
        ((_, given),) = selection(f"{name}:{options[:-1]}", [])
    except (HarnessError, ValueError):
        return label, {}
    return name, given


def _wrong_options(record: Record, installed: InstalledLosses) -> tuple[list[str], str]:
    """Return where the options are not those of the label, and why its defaults were not compared; empty if they were.

    A loss that is installed says itself how it reads the text of an option, and what its defaults are.
    """
    name, given = _given(record)
    sampled = record.tuning.options if record.tuning is not None else {}
    if record.loss.source:
        apart = {option: text for option, text in given.items() if not _same(record, option, text)}
        return _told(record, apart), installed.why_not(record)
    try:
        read = {**installed.resolve(name, given).options(), **sampled}
    except HarnessError as error:
        apart = {option: text for option, text in given.items() if not _same(record, option, text)}
        return _told(record, apart), str(error)
    both = differing(record.loss.options, _as_json(read))
    apart = {option: wanted for option, (_, wanted) in both.items()}
    version = installed.other_version(record)
    if version and apart:  # its defaults may have been others
        return _told(record, {option: wanted for option, wanted in apart.items() if option in given}), version
    return _told(record, apart), ""


def _told(record: Record, wanted: Mapping[str, Any]) -> list[str]:
    options, whence = record.loss.options, f"the label {record.label!r} and the loss's defaults"
    return [
        f"got option {option} {options.get(option)!r}, expected {value!r} as {whence} say"
        for option, value in wanted.items()
    ]


def _same(record: Record, option: str, text: str) -> bool:
    """Return whether an option may have been given as `text`; of words that mean yes or no any will do."""
    value = record.loss.options.get(option)
    if value is None:
        return text.lower() in ("none", "null")
    if isinstance(value, bool):
        return True
    if isinstance(value, int | float):
        try:
            return float(text) == value
        except ValueError:
            return False
    return str(value) == _installed_name(record, text)


def _installed_name(record: Record, text: str) -> str:
    """Return the name of a loss without the hash that it has where no distribution brings it."""
    return OWN_LABEL.sub("", text) if record.loss.source else text


def _as_json(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as JSON gives them back: tuples are lists."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
