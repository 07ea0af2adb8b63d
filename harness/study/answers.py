"""Cells -> everything that a study asks, answered in the order of its file."""

from __future__ import annotations

from harness.study.answer import Answer
from harness.study.cells import Cells
from harness.study.contrasts import of_contrasts
from harness.study.effects import of_effects
from harness.study.groups import of_groups
from harness.study.study_file import Study


def answers(study: Study, cells: Cells) -> tuple[Answer, ...]:
    """Return what the study asks, in the order contrasts, effects, groups.

    Raises `HarnessError` for a row, loss or factor that the run does not have.
    """
    found = [of_contrasts(study.contrasts, cells)] if study.contrasts else []
    found += [of_effects(each, cells, k) for k, each in enumerate(study.effects, 1)]
    found += [of_groups(each, cells, k) for k, each in enumerate(study.groups, 1)]
    return tuple(found)
