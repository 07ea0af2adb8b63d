"""What is known of the systems of a board before it stands in rows: estimates, and the places of the losses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.leaderboard.decide.answers import Asking, BoardAnswers, board_answers, numbers_of
from harness.leaderboard.decide.comparable import Group, with_one_more
from harness.leaderboard.decide.estimates import OWN, Estimate, Sample, board_estimates, read_by, samples
from harness.leaderboard.decide.frontier import Frontier, frontiers
from harness.leaderboard.decide.standings import Family, family
from harness.leaderboard.decide.training_noise import with_training_noise
from harness.run_folder.generation_facts import GenerationFacts
from harness.run_folder.record import Record
from harness.statistics.yardsticks import READINGS


@dataclass(frozen=True, kw_only=True)
class Results:
    """What is known of the systems of a board before it stands in rows."""

    group: Group
    models: tuple[str, ...]
    trouble: Mapping[str, tuple[str, str]]
    """Status and reason of each system without a result."""
    drawn: Mapping[str, Sample]
    """By metric."""
    measured: Mapping[str, Mapping[str, Estimate]]
    """By metric and system."""
    families: Mapping[str, Family]
    """The ranked metric's, and that of each reading, by metric."""
    points: Mapping[float, Mapping[str, Mapping[str, Estimate]]] = field(default_factory=dict)
    """By fraction of the budget, metric and system: what is measured at each point along the run, the end as above."""
    answers: BoardAnswers | None = None
    """What is known of generated answers; None where there are none."""
    answers_at: Mapping[float, Mapping[str, Mapping[str, Estimate]]] = field(default_factory=dict)
    """By fraction of the budget, name and system: the numbers of the answers at each point along the run."""
    frontiers: tuple[Frontier, ...] = ()
    """Quality against distance from the start; of the board of one model."""

    @property
    def ranked(self) -> Family:
        """The family of the ranked metric."""
        return self.families[self.group.ranked_by]


def results_of(group: Group, models: tuple[str, ...]) -> Results:
    """Return the results of a group on these models."""
    trouble = {label: lost for label in group.labels if (lost := group.trouble(label, models))}
    sound = [label for label in group.labels if label not in trouble]
    drawn = _drawn(group, models, sound)
    measured = {name: board_estimates(name, sample) for name, sample in drawn.items()}
    asking = Asking(
        labels=[*sound, *group.baselines],
        losses=sound,
        models=models,
        seeds=group.seeds or (0,),
        resampling=group.resampling,
    )
    end, facts = group.answers.get(1.0), generation_facts(group.records.values(), models)
    compared = dict.fromkeys([group.ranked_by, *(read_by(group.ranked_by, reading) for reading in (OWN, *READINGS))])
    return Results(
        group=group,
        models=models,
        trouble=trouble,
        drawn=drawn,
        measured=measured,
        families={metric: family(metric, sound, drawn, measured, group.resampling) for metric in compared},
        points=_points(group, models, sound, measured),
        answers=board_answers(end, facts, asking) if end and facts else None,
        answers_at={at: numbers_of(of, asking) for at, of in sorted(group.answers.items())},
        frontiers=frontiers(group.answers, {1.0: group.evidence, **group.points}, asking)
        if end and len(models) == 1
        else (),
    )


def generation_facts(records: Iterable[Record], models: Sequence[str]) -> GenerationFacts | None:
    """Return how the answers of these models were sampled; None where there are none."""
    return next((record.generation for record in records if record.generation and record.model.name in models), None)


def _points(
    group: Group, models: Sequence[str], sound: Sequence[str], end: Mapping[str, Mapping[str, Estimate]]
) -> dict[float, Mapping[str, Mapping[str, Estimate]]]:
    """Return what is measured at each point along the run; a noise floor counts at each as it does at the end."""
    found: dict[float, Mapping[str, Mapping[str, Estimate]]] = {}
    for fraction, evidence in group.points.items():
        drawn = _drawn(replace(group, evidence=evidence), models, sound)
        found[fraction] = {name: board_estimates(name, sample) for name, sample in drawn.items()}
    asked = any(record.points for record in group.records.values())
    return found | ({1.0: end} if asked else {})


def _drawn(group: Group, models: Sequence[str], sound: Sequence[str]) -> dict[str, Sample]:
    """Return every metric of the sound systems and the baseline rows, by name."""
    labels = [*sound, *group.baselines]
    drawn = samples(group.evidence.values, labels, models, group.seeds or (0,), group.resampling)
    return with_training_noise(drawn, group, models)


def with_elsewhere(results: Results, record: Record) -> Results:
    """Return the results with a checkpoint from elsewhere measured beside the others; the places stay as they are."""
    group = with_one_more(results.group, record)
    sound = [label for label in group.labels if label not in results.trouble]
    drawn = _drawn(group, results.models, sound)
    measured = {name: board_estimates(name, sample) for name, sample in drawn.items()}
    return replace(results, group=group, drawn=drawn, measured=measured)
