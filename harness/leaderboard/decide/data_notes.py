"""What a board says of its data: what was cut, skipped or left out, and what the data note of themselves."""

from __future__ import annotations

from collections.abc import Sequence

from harness.run_folder.record import Record


def data_notes(records: Sequence[Record]) -> list[str]:
    """Return what is to be known of the data, a sentence each."""
    data = next((record.dataset for record in records if record.dataset.test_pairs is not None), None)
    if data is None:
        return []
    sentences = [
        f"{number} {what} were cut to the longest length."
        for number, what in ((data.truncated_pairs, "training pairs"), (data.truncated_test_pairs, "held-out pairs"))
        if number
    ]
    reasons = sorted(data.skipped.items())
    sentences += [f"{number} rows of the data skipped: {reason}." for reason, number in reasons if number]
    by_model = {record.model.name: record.dataset.left_out for record in records}
    sentences += [
        f"{model}: {number} left out, {reason}."
        for model, left_out in by_model.items()
        for reason, number in sorted(left_out.items())
    ]
    return sentences + _moved_seams(records) + [f"Data: {note}" for note in data.notes]


def _moved_seams(records: Sequence[Record]) -> list[str]:
    """Return a sentence for each model and split with responses that have tokens of the generation prompt."""
    counts = {
        (record.model.name, what): number
        for record in records
        for number, what in (
            (record.dataset.seams_moved, "training pairs"),
            (record.dataset.seams_moved_test, "held-out pairs"),
        )
        if number
    }
    return [
        f"{model}: in {number} {what} the responses have the end of the prompt too, since the chat template has other "
        "tokens there once a response follows."
        for (model, what), number in counts.items()
    ]
