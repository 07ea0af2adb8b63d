"""Whether records, manifest.json and run.toml tell of one run: settings, data, start checkpoints."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import harness
from harness.api.errors import HarnessError
from harness.exchange.cell_checks import Check
from harness.exchange.untrusted import UntrustedCell
from harness.models.smollm2 import IDS
from harness.planning.elsewhere import ScoreRun
from harness.planning.presets import NAMED, SMOLLM2, start_preset
from harness.planning.run_file import PROTOCOL, Run, make_run
from harness.planning.run_toml import read_run
from harness.planning.tuned_run import TrialRun, TunedRun
from harness.run_folder.board_key import BoardKey, content_key, differing
from harness.run_folder.manifest import Manifest, StartFacts
from harness.run_folder.paths import MANIFEST, RECORD, RUN_FILE
from harness.run_folder.record import Record

KEYS = {"evaluated_on": "evaluate_on"}
"""Settings of a board that a run file calls otherwise."""
MADE_HERE = re.compile(r"[0-9a-f]{16}")
"""The revision of a start checkpoint that was made here; that of a hub is longer, that of a folder empty."""
SAME_DATA = ("train_pairs", "test_pairs", "truncated_pairs", "seams_moved", "seams_moved_test", "template_day")
SAME_IN_A_MODEL = ("preset", "id", "revision", "parameters", "fingerprint")


def check_settings(run: Path, manifest: Manifest, cells: Sequence[UntrustedCell]) -> Check:
    """Every record's board is that of the manifest, which follows from its run, which is that of run.toml."""
    problems, notes = [], []
    for cell in cells:
        problems += [f"{cell.file(RECORD)}: {said}; run the cell again" for said in _other_board(cell.record, manifest)]
    if manifest.decisive is None:
        notes.append(f"not checked: {MANIFEST} has no settings (`decisive`) to compare with")
    elif manifest.run:
        wrong, unsure = _other_run(manifest)
        problems += [f"{MANIFEST}: {said}; copy the file anew" for said in wrong]
        notes += [f"not checked: {said}" for said in unsure]
    if not (run / RUN_FILE).is_file():
        notes.append(f"not checked: there is no {RUN_FILE}")
    elif manifest.run:
        problems += _other_file(run / RUN_FILE, manifest)
    return Check(
        summary=f"settings and data of {len(cells)} records are those of {MANIFEST} and {RUN_FILE}",
        problems=tuple(problems),
        notes=tuple(notes),
    )


def _other_board(record: Record, manifest: Manifest) -> Iterator[str]:
    """Yield where a record's settings or data are not those of the manifest."""
    if record.board.protocol not in (None, PROTOCOL):
        yield f"got board.protocol {record.board.protocol}, expected {PROTOCOL}"
    if manifest.decisive is not None:
        # the scorer that was chosen; `decisive` has the one that was asked for
        wanted = manifest.decisive.model_copy(update={"scorer": manifest.scorer or record.board.scorer})
        for name, (got, expected) in record.board.differing(wanted).items():
            yield f"got board.{name} {got!r}, expected {expected!r} as in {MANIFEST}"
    if manifest.scorer is not None and record.scorer.name not in (None, manifest.scorer):
        yield f"got scorer.name {record.scorer.name!r}, expected {manifest.scorer!r} as in {MANIFEST}"
    noise = record.dataset.noise.setting if record.dataset.noise else None
    if noise != record.board.noise and (noise or record.scored):
        yield f"got dataset.noise.setting {noise!r}, expected that of board.noise, {record.board.noise!r}"
    if manifest.dataset is None:
        return
    tested = record.dataset.tested_on
    if (content_key(tested.fingerprint) if tested else None) != record.board.test:
        yield f"got dataset.tested_on {tested!r:.80}, expected the data that board.test names, {record.board.test!r}"
    # of merged runs, or after an update, words may have changed
    alike = manifest.sources is None and record.environment.harness == manifest.harness
    if record.board.knows_content and record.dataset.source != manifest.dataset.source:
        return  # another copy of the same data, or a failed cell, which does not say where they were
    if tested != manifest.dataset.tested_on:
        return  # another copy of the same test data
    for name in ("name", *(("skipped", "notes") if alike and record.scored else ())):
        got, expected = getattr(record.dataset, name), getattr(manifest.dataset, name)
        if got != expected:
            yield f"got dataset.{name} {got!r:.80}, expected {expected!r:.80} as in {MANIFEST}"


def _other_run(manifest: Manifest) -> tuple[list[str], list[str]]:
    """Return where the manifest's settings do not follow from its run, and what another version may have set so."""
    assert manifest.decisive is not None
    try:
        run = _run_of(manifest)
    except HarnessError as error:
        return [], [f"{MANIFEST} has a run that this version does not read: {error}"]
    wrong: list[str] = []
    unsure: list[str] = []
    for name, (got, expected) in manifest.decisive.differing(run.decisive()).items():
        said = f"got decisive.{name} {got!r}, expected {expected!r} as its run gives"
        given = manifest.run.get(KEYS.get(name, name)) is not None  # else a preset's, of the version that ran
        (wrong if given or made_by_this_version(manifest) else unsure).append(said)
    return wrong, unsure


def _run_of(manifest: Manifest) -> Run:
    """Return the run of a manifest: its trials', what was chosen from them, what was only scored, or the run itself."""
    run, board = make_run(dict(manifest.run)), manifest.decisive or BoardKey()
    if manifest.dataset is not None:
        data, test = manifest.dataset, manifest.dataset.tested_on
        run = run.on(
            data=content_key(data.fingerprint) if board.knows_content else "",
            test=content_key(test.fingerprint) if test else "",
        )
    run = run.on(chat_template=board.chat_template or "", names=manifest.local_models)
    if board.budget is None:  # nothing was trained
        return ScoreRun.of(run)
    if board.trial_learning_rates is None:
        return run
    return TrialRun.of(run) if board.trials is None else TunedRun.of(run)


def made_by_this_version(manifest: Manifest) -> bool:
    """Return whether this version of the harness made a run, or all the runs that were merged into it."""
    versions = {manifest.harness}
    if manifest.harness is None and manifest.sources:
        versions = {source.get("harness") for source in manifest.sources.values() if isinstance(source, dict)}
    return versions == {harness.__version__}


def _other_file(path: Path, manifest: Manifest) -> list[str]:
    """Return where run.toml is not the run of the manifest; options that one does not know yet have their defaults."""
    try:
        file = read_run(path)
    except HarnessError as error:
        return [str(error)]
    if "plain_path" in file:
        file["reference_path"] = file.pop("plain_path")
    run, file = (
        {name: value for name, value in (Run().as_json() | known).items() if value is not None}
        for known in (manifest.run, file)
    )
    return [
        f"{path.name}: got {name} {got!r}, expected {expected!r} as in {MANIFEST}; copy both files anew"
        for name, (got, expected) in differing(file, run).items()
    ]


def check_starts(manifest: Manifest, cells: Sequence[UntrustedCell]) -> Check:
    """Cells of one model start from one checkpoint, of the preset that they name, and read the same tokens."""
    problems, first = [], dict[str, UntrustedCell]()
    for cell in cells:
        record = cell.record
        if record.status == "failed":  # written before its checkpoint was known
            continue
        other = first.setdefault(record.model.name, cell)
        wrong = [*_apart(record, other), *_other_preset(record), *_other_pin(record, manifest)]
        problems += [f"{cell.file(RECORD)}: {said}; run the cell again" for said in wrong]
    unpinned = sorted(first.keys() - manifest.start_checkpoints.keys())
    note = f"not checked: whether the tokens of all cells of {', '.join(unpinned)} were changed alike: {MANIFEST} "
    note += "does not have them (written by an earlier version)"
    return Check(
        summary=f"start checkpoints and tokens of {len(first)} models are one each, of the preset that records name",
        problems=tuple(problems),
        notes=(note,) if unpinned else (),
    )


def _apart(record: Record, other: UntrustedCell) -> Iterator[str]:
    """Yield where a record tells otherwise of its model or its data than another of the model."""
    for part in ("model", "dataset"):
        mine, its = getattr(record, part), getattr(other.record, part)
        names = SAME_IN_A_MODEL if part == "model" else SAME_DATA
        for name in names:
            if name == "id" and record.local_model:
                continue  # another copy of the same model
            got, expected = getattr(mine, name), getattr(its, name)
            if got != expected:
                yield f"got {part}.{name} {got!r}, expected {expected!r} as in {other.name}"
    if record.start_fingerprint not in (None, record.model.fingerprint):
        yield f"got start_fingerprint {record.start_fingerprint!r}, expected {record.model.fingerprint!r}"


def _other_preset(record: Record) -> Iterator[str]:
    """Yield where the start checkpoint cannot be that of the board's preset."""
    model, board = record.model, record.board
    if board.preset is None or model.id is None:
        return
    preset = start_preset(model.name, board.preset, board.start)
    if preset == "nano":
        ids = [f"nano-{model.name}"]
    else:
        named = board.start or model.name
        ids = list(IDS) if named == SMOLLM2 else [named.partition("@")[0]]
        if named in NAMED or record.local_model:
            ids = []
    if model.preset != preset:
        yield f"got model.preset {model.preset!r}, expected {preset!r} of {model.name} under the preset {board.preset}"
    if ids and model.id not in ids:
        wanted = " or ".join(map(repr, ids))
        yield f"got model.id {model.id!r}, expected {wanted} of {model.name} under the preset {board.preset}"
    if model.revision is not None and bool(MADE_HERE.fullmatch(model.revision)) != (preset == "nano"):
        wanted = "16 hex digits, of a model made here" if preset == "nano" else "that of a hub or a folder"
        yield f"got model.revision {model.revision!r}, expected {wanted}, under the preset {board.preset}"


def _other_pin(record: Record, manifest: Manifest) -> Iterator[str]:
    """Yield where checkpoint or tokens are not those that the manifest has of the model."""
    pinned = manifest.start_checkpoints.get(record.model.name, StartFacts())
    for name, got, expected in (
        ("model.fingerprint", record.model.fingerprint, pinned.fingerprint),
        ("tokens_fingerprint", record.tokens_fingerprint, pinned.tokens_fingerprint),
    ):
        if expected is not None and got != expected:
            yield f"got {name} {got!r}, expected {expected!r} as in {MANIFEST}"
