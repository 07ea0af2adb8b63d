"""Evaluation sets: test data without training data, and the training data of another set beside them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from harness.api import Dataset, HarnessError, Origin
from harness.data.prompts import Prompted, opening
from harness.data.raw import counted, printable


def only_test_data(data: Dataset) -> Dataset:
    """Return the test data alone of a data set: an evaluation set."""
    unused = [name for name, rows in (("train", data.train), ("dev", data.dev), ("sft", data.sft)) if rows]
    notes = [not_taken(unused)] if unused else []
    return replace(data, train=(), dev=(), listwise_train=(), listwise_dev=(), sft=(), notes=(*data.notes, *notes))


def not_taken(unused: list[str]) -> str:
    """Return the note of an evaluation set that is a part of a data set."""
    return f"the test split is taken, not {', '.join(unused)}"


def with_test_data(data: Dataset, test: Dataset) -> Dataset:
    """Return the data set with the test data of another one in place of its own.

    Rows whose prompt is in the test data are kept out of training, selection and fine-tuning, and counted: those of
    the same context, or of the same id and first user turn, since an id alone says little in another data set. Raises
    `HarnessError` where no training pair is left.
    """
    held_out: tuple[Prompted, ...] = (*test.test, *test.test_lenbalanced, *test.listwise_test)
    contexts = {row.context for row in held_out}
    ids = {(row.prompt_id, opening(row.context)) for row in held_out}

    def is_new(row: Prompted) -> bool:
        return row.context not in contexts and (row.prompt_id, opening(row.context)) not in ids

    kept = replace(
        data,
        train=tuple(pair for pair in data.train if is_new(pair)),
        dev=tuple(pair for pair in data.dev if is_new(pair)),
        listwise_train=tuple(prompt for prompt in data.listwise_train if is_new(prompt)),
        listwise_dev=tuple(prompt for prompt in data.listwise_dev if is_new(prompt)),
        sft=tuple(example for example in data.sft if example[0] not in contexts),
    )
    if not kept.train:
        raise HarnessError(
            f"{printable(data.source)}: got no training pair whose prompt is not also in the test data "
            f"{printable(test.source)}, expected at least one; give other test or training data"
        )
    skipped = Counter(data.skipped)
    notes = [*data.notes, f"tested on {test.name}, not on a split of {data.name}"]
    for split in ("train", "dev", "listwise_dev", "sft"):
        if dropped := len(getattr(data, split)) - len(getattr(kept, split)):
            skipped[f"{split} prompt also in the test data"] += dropped
            notes.append(f"{split}: {counted(dropped, 'row')} dropped, their prompt is also in the test data")
    skipped.update({f"{reason} (test data)": count for reason, count in test.skipped.items()})
    return replace(
        kept,
        test=test.test,
        test_lenbalanced=test.test_lenbalanced,
        listwise_test=test.listwise_test,
        skipped=dict(skipped),
        notes=(*notes, *(f"test data: {note}" for note in test.notes)),
        tested_on=Origin(name=test.name, source=test.source, fingerprint=test.fingerprint),
        tasks={**data.tasks, **test.tasks},
    )
