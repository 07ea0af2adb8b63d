"""A checkpoint that was trained elsewhere -> its row, scored on the held-out pairs of a run or of a data set.

A run's start checkpoint need not be there any more: its log-probs stand in the row `base`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from harness.api import HarnessError
from harness.data.heldout import HeldOut, held_out
from harness.data.noise import with_noise
from harness.data.tokens import Limits
from harness.models.load import load_tokenizer, start_checkpoint
from harness.models.start import StartCheckpoint, StartRequest
from harness.models.window import window_of
from harness.planning.elsewhere import LOG_RATIO, MEAN, START, Brought, row_key, row_label
from harness.planning.events import Phase, Tell
from harness.planning.job import Job
from harness.run_folder.facts import ElsewhereFacts, LossFacts
from harness.run_folder.paths import CELLS
from harness.run_folder.record import ELSEWHERE, Record
from harness.run_folder.tables import RESPONSE_KEYS
from harness.training.cell_record import environment, finish
from harness.training.elsewhere_board import Checked, Place, beside_a_model, own_board, records_of
from harness.training.live_engine import LiveEngine, longest
from harness.training.own_rewards import read_rewards


def score_brought(job: Job, brought: Brought, tell: Tell, lent: LiveEngine | None = None) -> None:
    """Write the row of a checkpoint that was trained elsewhere, unless it is there, and what its board lacks.

    With an engine that is lent, nothing is written of a checkpoint that it does not take, or that does not stand beside
    a model of the run.
    Raises `HarnessError`, before anything is scored, for what is no checkpoint and for tokens that do not fit.
    """
    checked = _checked(job, brought, tell)
    place = beside_a_model(job, checked)
    _require_reference(checked, place)
    engine = lent or LiveEngine(job=job)
    try:
        if place is None and lent is None:
            place = own_board(job, checked, engine, tell)
        if place is not None and (lent is None or lent.takes(checked.checkpoint.folder)):
            _write_row(job, checked, place, engine, tell)
    finally:
        engine.close()


def _checked(job: Job, brought: Brought, tell: Tell) -> Checked:
    """Return the checkpoint with its reference and the held-out pairs, all of which must fit each other."""
    checkpoint = _found(job, brought.model, tell)
    reference = None if brought.reference is None else _found(job, brought.reference, tell)
    held = _held(job, checkpoint)
    if reference is not None and _held(job, reference).fingerprint != held.fingerprint:
        raise HarnessError(
            f"--reference got {brought.reference}, whose tokenizer gives other ids of the held-out pairs than that of "
            f"{brought.model}, expected the same; name the checkpoint that its training started from"
        )
    return Checked(brought=brought, checkpoint=checkpoint, reference=reference, held=held)


def _found(job: Job, model: str, tell: Tell) -> StartCheckpoint:
    """Return the files of a checkpoint as they are, nothing fine-tuned."""
    return start_checkpoint(
        StartRequest(
            model=model,
            preset="paper",  # under which a family is a checkpoint on the hub
            dataset=job.dataset,
            limits=_limits(job),
            chat_template=job.chat_template,
            cache=job.cache,
            trust_remote_code=job.run.trust_remote_code,
            sft=False,
            progress=lambda text: tell(Phase(text=text)),
        )
    )


def _held(job: Job, checkpoint: StartCheckpoint) -> HeldOut:
    """Return the held-out pairs as the ids of a checkpoint's own tokenizer."""
    run = job.run
    tokenizer = load_tokenizer(checkpoint.folder, run.trust_remote_code, job.chat_template)
    data = with_noise(job.dataset, run.noise, run.data_seed).data
    held = held_out(tokenizer, data, run.evaluate_on, _limits(job), lenient=run.lenient)
    window, needed = window_of(checkpoint.folder), longest(held)
    if window is not None and needed > window:
        raise HarnessError(
            f"got {checkpoint.id} with a window of {window} tokens, expected at least the {needed} of the longest "
            "held-out pair; cut the pairs by --max-length, or name a checkpoint with a longer window"
        )
    return held


def _limits(job: Job) -> Limits:
    settings = job.run.settings
    return Limits(max_length=settings.max_length, max_prompt=settings.max_prompt)


def _require_reference(checked: Checked, place: Place | None) -> None:
    """Raise `HarnessError` where the reward that was asked for is relative to a reference, and there is none."""
    brought = checked.brought
    if brought.needs_reference() and checked.reference is None and (place is None or place.base is None):
        why = "there is none" if place else "it reads other tokens than the run's models"
        raise HarnessError(
            f"--reward got '{brought.reward}' for {brought.model}, which is relative to a reference, but {why}; name "
            f"the checkpoint that its training started from by --reference, or give --reward {MEAN}"
        )


def _write_row(job: Job, checked: Checked, place: Place, engine: LiveEngine, tell: Tell) -> None:
    """Score a checkpoint and write its row, unless that is there."""
    brought, held, model = checked.brought, checked.held, place.baseline.model.name
    facts = _facts(checked, place)
    reward = brought.reward_beside(facts.reference is not None)
    rows = [record for record in records_of(place.folder) if record.elsewhere is not None]
    for record in rows:
        if record.model.name == model and _read_alike(record, facts, reward):
            tell(Phase(text=f"{brought.model} has its row beside {model}, {record.label}: nothing to compute"))
            return
    label = row_label(f"{brought.name}@{facts.fingerprint[:8]}", reward)
    reference = _reference_sums(checked, facts, place, engine, tell)
    tell(Phase(text=f"scoring {label} beside {model} with {job.scorer.name}"))
    scored = engine.score(checked.checkpoint.folder, held)
    lengths = np.array([len(request.response) for request in held.requests], dtype=np.float64)
    own = read_rewards(facts.reward, brought.loss, scored.sums, lengths, reference)
    averaged = brought.loss.length_normalised if brought.loss else reward == MEAN
    record = place.baseline.model_copy(
        update={
            "kind": "elsewhere",
            "key": row_key(model, label, facts, reward),
            "label": label,
            "loss": LossFacts(
                name=ELSEWHERE,
                options={"reward": reward},
                needs_reference=brought.loss.reward_needs_reference if brought.loss else reward == LOG_RATIO,
                tags=("averaged" if averaged else "summed",),
            ),
            "elsewhere": facts,
            "scorer": scored.scorer,
            "environment": environment(job),
        }
    )
    finish(held, place.folder / CELLS / record.key, record, scored.sums, reference, own)


def _facts(checked: Checked, place: Place) -> ElsewhereFacts:
    """Return what the row says of the checkpoint and its reference."""
    brought, checkpoint, reference = checked.brought, checked.checkpoint, checked.reference
    named, mark = None, None
    if reference is not None:
        named, mark = brought.reference, reference.fingerprint
    elif place.base is not None:
        named, mark = START, place.base.model.fingerprint
    return ElsewhereFacts(
        checkpoint=brought.model,
        revision=checkpoint.revision,
        fingerprint=checkpoint.fingerprint,
        parameters=checkpoint.parameters,
        quantised=checkpoint.quantised,
        reward=brought.loss.name if brought.loss else brought.reward_beside(named is not None),
        options=brought.loss.options() if brought.loss else {},
        reference=named,
        reference_fingerprint=mark,
    )


def _read_alike(record: Record, facts: ElsewhereFacts, reward: str) -> bool:
    """Return whether a row is of the same weights, read in the same way."""
    there = record.elsewhere
    same = there is not None and (
        (there.fingerprint, there.reference_fingerprint) == (facts.fingerprint, facts.reference_fingerprint)
    )
    return same and record.loss.options.get("reward") == reward


def _reference_sums(
    checked: Checked, facts: ElsewhereFacts, place: Place, engine: LiveEngine, tell: Tell
) -> np.ndarray:
    """Return the log-probs of the reference, (requests,): those of the row `base` where it is that; NaN without one."""
    held, base, reference = checked.held, place.base, checked.reference
    if base is not None and base.model.fingerprint == facts.reference_fingerprint:
        sums = base.responses().set_index(list(RESPONSE_KEYS))["sum_logp"]
        keys = pd.MultiIndex.from_frame(held.responses[list(RESPONSE_KEYS)])
        if not keys.isin(sums.index).all():
            raise HarnessError(
                f"{base.folder}: got other responses than the data have; delete the folder and run again"
            )
        return sums.loc[keys].to_numpy(np.float64)
    if reference is None:
        return np.full(len(held.requests), np.nan)
    tell(Phase(text=f"scoring the reference {reference.id} with {engine.job.scorer.name}"))
    return engine.score(reference.folder, held).sums
