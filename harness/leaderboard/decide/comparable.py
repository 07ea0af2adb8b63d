"""The records that may stand in one table, and those that may not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.api.errors import HarnessError
from harness.leaderboard.decide.align_examples import at_points, gather, gather_points
from harness.leaderboard.decide.answer_tables import AnswerEvidence, gather_answers
from harness.leaderboard.decide.estimates import Evidence, Resampling, Unit
from harness.run_folder.board_key import BoardKey
from harness.run_folder.noise_floor import NoiseFloor
from harness.run_folder.record import BASELINES, Record, only


@dataclass(frozen=True, kw_only=True)
class Group:
    """The records that share a board's key."""

    records: Mapping[Unit, Record]
    models: tuple[str, ...]
    seeds: tuple[int, ...]
    labels: tuple[str, ...]
    """Loss systems, in alphabetical order."""
    baselines: tuple[str, ...]
    evidence: Evidence
    ranked_by: str
    resampling: Resampling
    noise: NoiseFloor | None = None
    """Of one seed: what training again would change, where that was measured for such records and this metric."""
    noise_unfit: str = ""
    """Of one seed: why a noise floor is not used; empty where it is, and where there is none."""
    points: Mapping[float, Evidence] = field(default_factory=dict)
    """The evidence at each point along the run before its end, by the fraction of the budget."""
    answers: Mapping[float, AnswerEvidence] = field(default_factory=dict)
    """Generated answers at each point along the run, its end too; empty where there are none."""
    elsewhere: tuple[Record, ...] = ()
    """Checkpoints trained elsewhere: whatever they are, nothing changes for the others."""

    def trouble(self, label: str, models: Sequence[str]) -> tuple[str, str] | None:
        """Return (status, reason) of a system that cannot be ranked: a cell of it failed, diverged or is not there."""
        several = len(models) * len(self.seeds) > 1
        places: dict[tuple[str, str], list[str]] = {}
        for model in models:
            for seed in self.seeds:
                record = self.records.get(Unit(label, model, seed))
                status: str = "missing" if record is None else record.status
                if status == "ok":
                    continue
                reason = "not done" if record is None else record.reason or "no reason given"
                places.setdefault((status, reason), []).append(f"{model}, seed {seed}")
        reasons = [f"{_several(where)}: {reason}" if several else reason for (_, reason), where in places.items()]
        found = {status for status, _ in places}
        for status in ("failed", "diverged", "missing"):
            if status in found:
                return status, "; ".join(reasons)
        return None


def group_of(
    records: Sequence[Record],
    ranked_by: str,
    resampling: Resampling,
    order: Sequence[str],
    asked: Sequence[tuple[str, int]] = (),
    noise: NoiseFloor | None = None,
) -> Group:
    """Return the records as one group, with the systems and seeds `asked` for even where they have no record yet."""
    data = only(records, "dataset.fingerprint", lambda record: record.dataset.fingerprint)
    by_unit: dict[Unit, Record] = {}
    elsewhere = sorted((record for record in records if record.elsewhere), key=lambda record: record.label)
    for record in sorted((record for record in records if not record.elsewhere), key=lambda record: record.key):
        unit = Unit(record.label, record.model.name, None if record.kind == "reference" else record.seed)
        if unit in by_unit:
            raise HarnessError(
                f"got two records of {unit.label} on {unit.model}, seed {unit.seed}: {by_unit[unit].folder} and "
                f"{record.folder}, expected one; delete the one that is stale"
            )
        by_unit[unit] = record
    names = sorted({unit.model for unit in by_unit})
    models = [model for model in order if model in names] + [model for model in names if model not in order]
    for model in models:
        mine = [record for record in records if record.model.name == model and record.scored]
        only(mine, "tokens_fingerprint", lambda record: record.tokens_fingerprint)
        only(mine, "model.fingerprint", lambda record: record.model.fingerprint)
    labels = sorted({unit.label for unit in by_unit if unit.seed is not None} | {label for label, _ in asked})
    seeds = {unit.seed for unit in by_unit if unit.seed is not None} | {seed for _, seed in asked}
    baselines = {unit.label for unit in by_unit if unit.seed is None}
    noise = noise if len(seeds) == 1 else None  # several seeds bring their own variance
    unfit = _unfit(noise, data, records[0].board, ranked_by) if noise else ""
    scored = {unit: record for unit, record in by_unit.items() if record.scored}
    return Group(
        records=by_unit,
        models=tuple(models),
        seeds=tuple(sorted(seeds)),
        labels=tuple(labels),
        baselines=tuple(sorted(baselines, key=lambda name: (name not in BASELINES, name))),
        evidence=gather(scored),
        points=gather_points(scored),
        answers=_answers(scored),
        ranked_by=ranked_by,
        resampling=resampling,
        noise=None if unfit else noise,
        noise_unfit=unfit,
        elsewhere=tuple(elsewhere),
    )


def _answers(records: Mapping[Unit, Record]) -> dict[float, AnswerEvidence]:
    """Return the answers of scored cells at each point along the run that has some, by the fraction of the budget."""
    found = {at: gather_answers(of) for at, of in {1.0: records, **at_points(records)}.items()}
    return {at: of for at, of in found.items() if any(unit.seed is not None for unit in of.units)}


def with_one_more(group: Group, record: Record) -> Group:
    """Return the group with a checkpoint from elsewhere among its baseline rows, on the pairs that all have."""
    records = {**group.records, Unit(record.label, record.model.name, None): record}
    scored = {unit: known for unit, known in records.items() if known.scored}
    return replace(group, records=records, baselines=(*group.baselines, record.label), evidence=gather(scored))


def _unfit(noise: NoiseFloor, data: str | None, settings: BoardKey, ranked_by: str) -> str:
    """Return why a noise floor cannot be used for a board of one seed; empty where it can."""
    if not noise.seeds_differ:
        return "it was measured from runs that share seeds, and another seed may differ by more"
    return noise.unfit_for(dataset_fingerprint=data, settings=settings, metric=ranked_by, seeds=1)


def _several(cells: Sequence[str]) -> str:
    """Return the cells that one reason cost: the one, or how many and the first."""
    return cells[0] if len(cells) == 1 else f"{len(cells)} cells, the first {cells[0]}"
