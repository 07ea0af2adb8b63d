"""Cells -> everything that a study asks, answered in the order of its file."""

from __future__ import annotations

from dataclasses import replace

from harness.study.answer import Answer
from harness.study.cells import Cells
from harness.study.contrasts import of_contrasts
from harness.study.effects import of_effects
from harness.study.groups import of_groups
from harness.study.study_file import Study

ONE_SEED = (
    "One seed: what follows is of these trained models, not of their losses or data; what another seed would change is "
    "in every number, and no interval has it."
)
"""Said first where a study's run has one seed."""


def answers(study: Study, cells: Cells) -> tuple[Answer, ...]:
    """Return what the study asks, in the order contrasts, effects, groups.

    Raises `HarnessError` for a row, loss or factor that the run does not have.
    """
    found = [of_contrasts(study.contrasts, cells)] if study.contrasts else []
    found += [of_effects(each, cells, k) for k, each in enumerate(study.effects, 1)]
    found += [of_groups(each, cells, k) for k, each in enumerate(study.groups, 1)]
    if len(cells.seeds) == 1:
        found[0] = replace(found[0], findings=(ONE_SEED, *found[0].findings))
    return tuple(found)
