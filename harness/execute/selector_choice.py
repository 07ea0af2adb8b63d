"""Which selector chooses the training pairs: found by its name, and refused where the data do not serve it."""

from __future__ import annotations

import difflib
import math

from harness.api import Dataset, HarnessError, Loss, Selector
from harness.data.list_pairs import pairable
from harness.manager import Manager, of_one_plugin, resolver
from harness.planning.grid import with_options
from harness.planning.run_file import Run
from harness.run_folder.label_noise import GAUSSIAN, NoiseSetting


def choose_selector(run: Run, data: Dataset, manager: Manager) -> Selector | None:
    """Return the selector of `--select NAME:option=value,...`, or None where all pairs are candidates of the budget.

    Raises `HarnessError` for an unknown selector or option, and for data without what the selector needs.
    """
    if run.select is None:
        return None
    (name, options), *others = with_options(run.select, "--select", "selector", "share=0.4")
    if others:
        raise HarnessError(f"--select got '{run.select}', expected one selector of a run")
    known: dict[str, type[Selector]] = of_one_plugin(manager, "harness_selectors")
    if name not in known:
        if reason := manager.broken.get(f"selector {name}") or manager.broken.get(name):
            raise HarnessError(f"--select got '{name}': {reason}")
        close = difflib.get_close_matches(name, known, n=1)
        hint = f" (did you mean '{close[0]}'?)" if close else ""
        raise HarnessError(f"--select got '{name}', expected one of {', '.join(known)}{hint}; name one")
    selector = known[name].from_options(options)
    if 0 < selector.probe_pairs < run.settings.batch_pairs:
        raise HarnessError(
            f"--select got '{name}' with a probe of {selector.probe_pairs} pairs, expected at least "
            f"{run.settings.batch_pairs}, those of one step; raise it, or lower --batch-pairs"
        )
    if selector.needs_lists:
        _require_lists(selector, data, run.noise)
    unscored = sum(math.isnan(pair.score_chosen - pair.score_rejected) for pair in data.train)
    if selector.needs_scores and unscored:
        raise HarnessError(
            f"--select got '{name}', which reads scores, and {unscored} of {len(data.train)} training pairs have none "
            "on both sides; give data with scores, or --select random"
        )
    return selector


def _require_lists(selector: Selector, data: Dataset, noise: str | None) -> None:
    """Raise `HarnessError` where training lists cannot give as many pairs as a selector is to make, one per prompt."""
    wanted, prompts = selector.count(len(data.train)), pairable(data.listwise_train)
    asked = f"--select got '{selector.name}'"
    if not data.listwise_train:
        raise HarnessError(
            f"{asked}, which pairs the responses of training lists, and the data have none; give data with several "
            "scored responses to a prompt, or another selector"
        )
    if prompts < wanted:
        most = math.floor(1000 * prompts / len(data.train)) / 1000
        raise HarnessError(
            f"{asked}, which makes {wanted} pairs, one per prompt, and {prompts} training prompt"
            f"{' has' if prompts == 1 else 's have'} responses with different scores; give share={most:g} or less"
        )
    setting = NoiseSetting.parse(noise) if noise else None
    if setting and setting.dial != GAUSSIAN:
        raise HarnessError(
            f"{asked} with --noise {noise}, which changes the labels of given pairs; expected gaussian, since "
            "scores label new pairs"
        )


def probe_loss(selector: Selector | None, manager: Manager) -> Loss | None:
    """Return what the probe of a selector is trained with, DPO; None where it has no probe."""
    return resolver(manager)("dpo", {}) if selector and selector.probe_pairs else None
