"""Which judge is asked: found by its name, and refused where it cannot judge here or not on these data."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from harness.api import Dataset, HarnessError, JudgeSource
from harness.manager import Manager, judges
from harness.planning.run_file import Run


def choose_judge(judge: str, manager: Manager) -> tuple[JudgeSource, str]:
    """Return the judge `NAME` or `NAME:WHAT`, and what stands behind the colon; nothing is asked.

    Raises `HarnessError` for an unknown judge and one that cannot judge here.
    """
    name, _, what = judge.partition(":")
    known = judges(manager)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f" (did you mean '{close[0]}'?)" if close else ""
        raise HarnessError(f"got judge '{name}', expected one of {', '.join(sorted(known))}{hint}; name one")
    reason = known[name].why_not(what)
    if reason is not None:
        raise HarnessError(f"judge '{name}' cannot judge: {reason}")
    return known[name], what


def require_tasks(source: JudgeSource, data: Dataset, prompts: Iterable[str]) -> None:
    """Raise `HarnessError` where a judge needs the tasks of prompts, by their ids, and the data do not have them."""
    if source.needs_tasks and not all(prompt in data.tasks for prompt in prompts):
        raise HarnessError(
            f"judge '{source.name}' cannot judge answers to data set '{data.name}': got prompts without tasks, "
            "expected made data, such as the embedded; choose another judge"
        )


def require_judges(run: Run, data: Dataset, manager: Manager) -> None:
    """Raise `HarnessError` for a judge of the run that is unknown, or cannot judge here, or not on these data."""
    for judge in run.judge:
        require_tasks(choose_judge(judge, manager)[0], data, answered_prompts(run, data))


def answered_prompts(run: Run, data: Dataset) -> Sequence[str]:
    """Return the ids of the prompts that are answered: the first of `--prompts`, or of the split that is scored."""
    if data.to_answer is not None:
        asked = data.to_answer.prompts[: run.generate]
        return [*(each.prompt_id for each in asked), *(each.second_id for each in asked if each.second)]
    held = data.test if run.evaluate_on == "test" else data.dev
    return list(dict.fromkeys(pair.prompt_id for pair in held))[: run.generate]
