"""A measured noise floor -> what training again would change of each system of a one-seed board."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from harness.leaderboard.decide.comparable import Group
from harness.leaderboard.decide.estimates import Reruns, Sample
from harness.run_folder.noise_floor import LossOnModel


def with_training_noise(drawn: Mapping[str, Sample], group: Group, models: Sequence[str]) -> dict[str, Sample]:
    """Return the samples of a board over these models by metric, with the floor where it was measured.

    It was for the ranked metric alone. The rows that need no training have none.
    """
    samples, ranked = dict(drawn), drawn.get(group.ranked_by)
    if group.noise is None or ranked is None:
        return samples
    spreads = [[group.noise.spread_of(LossOnModel(model, label)) for model in models] for label in ranked.labels]
    sd_KM = np.array([[spread.sd for spread in of_label] for of_label in spreads]).reshape(-1, len(models))
    trained = np.array([label not in group.baselines for label in ranked.labels], dtype=bool)
    reruns = Reruns(
        sd=np.where(trained, np.sqrt((sd_KM**2).sum(1)) / len(models), 0.0),  # of a mean over models
        freedom=min((spread.freedom for of_label in spreads for spread in of_label), default=1.0),
    )
    return samples | {group.ranked_by: replace(ranked, reruns=reruns)}


def typical_sd(ranked: Sample | None, baselines: Sequence[str]) -> float | None:
    """Return the median standard deviation of the losses between reruns; None where none was measured."""
    if ranked is None or ranked.reruns is None:
        return None
    sds = [sd for label, sd in zip(ranked.labels, ranked.reruns.sd, strict=True) if label not in baselines]
    return float(np.median(sds)) if sds else None
