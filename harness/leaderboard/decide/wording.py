"""What a board says in words: its title and its disclaimers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.leaderboard.decide.estimates import Evidence
from harness.statistics.intervals import MIN_PROMPTS, MIN_SEEDS

MEASURES = "Measures implicit-reward ranking accuracy, not generation quality."
NANO = "A nano board tests the harness and ranks no method."


def title(records: Sequence[Mapping[str, Any]], models: Sequence[str], seeds: Sequence[int]) -> str:
    """Return the title of a board from the fields of its records."""
    settings = records[0].get("board", {})
    rate = settings.get("learning_rate")
    parts = [
        models[0] if len(models) == 1 else f"all of {', '.join(models)}",
        f"{settings.get('preset') or records[0]['model'].get('preset', 'unknown')} preset",
        str(records[0].get("dataset", {}).get("name", "unknown data")),
        rate if isinstance(rate, str) else _tuned(settings) or "shared learning rate, untuned",
        f"budget {_budget(settings.get('budget'))}",
        f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds)) or 'none'}",
        *(["LoRA"] if settings.get("adapter") == "lora" else []),
        *(["development split"] if settings.get("evaluated_on") == "dev" else []),
        *([f"control: {settings['control']}"] if _controlled(settings) else []),
    ]
    return " · ".join(parts)


def disclaimers(
    records: Sequence[Mapping[str, Any]], seeds: Sequence[int], evidence: Evidence, unranked: Sequence[str]
) -> tuple[str, ...]:
    """Return what a reader must know before believing the board, a sentence each."""
    settings = records[0].get("board", {})
    said = [MEASURES]
    if (settings.get("preset") or records[0]["model"].get("preset")) == "nano":
        said.append(NANO)
    if settings.get("evaluated_on") == "dev":
        said.append("Scored on the development split, which choices may have been made on: not a test result.")
    if settings.get("trials"):
        low, high = settings["trial_learning_rates"]
        said.append(
            f"Equal tuning: every loss had {_trials(settings)} on each model, the budget of a cell each, over its "
            f"declared space and learning rates from {low:g} to {high:g}; the best by {settings['tuned_by']} on the "
            f"development split (seed {settings['tuning_seed']}) was trained anew. What trials spent is not in the row."
        )
    if _controlled(settings):
        said.append(f"Control run ({settings['control']}): shows what the harness finds where nothing can be learnt.")
    if len(seeds) == 1:
        said.append("One seed: no between-seed variance in the intervals; another seed may rank differently.")
    elif len(seeds) < MIN_SEEDS:
        said.append(f"{len(seeds)} seeds, fewer than {MIN_SEEDS}: the between-seed variance is roughly known.")
    if evidence.n_prompts < MIN_PROMPTS:
        said.append(f"{evidence.n_prompts} prompts, fewer than {MIN_PROMPTS}: the intervals may be too narrow.")
    said += [
        f"{number} {kind} left out: not scored for every system and model."
        for kind, number in evidence.left_out.items()
    ]
    said += [f"{label} is not ranked: it has no value of the ranked metric." for label in unranked]
    beside = max((fields.get("environment", {}).get("models_side_by_side", 1) for fields in records), default=1)
    if beside > 1:
        said.append(f"Seconds are wall-clock, with {beside} models computed side by side.")
    return tuple(dict.fromkeys([*said, *_scorers(records), *_data(records)]))


def choice(tuned: Mapping[str, Any]) -> str:
    """Return what tuning chose for one system on one model, as a row has it."""
    options = [f"{name} = {value:.4g}" for name, value in tuned["options"].items()]
    dev = "no trial had a value on dev" if tuned["dev"] is None else f"{tuned['dev']:.3f} on dev"
    rate = f"learning rate {tuned['learning_rate']:.4g}"
    return f"{', '.join([*options, rate])} (trial {tuned['trial']}, {dev})"


def _tuned(settings: Mapping[str, Any]) -> str:
    return f"equal tuning: {_trials(settings)} a loss, chosen on dev" if settings.get("trials") else ""


def _trials(settings: Mapping[str, Any]) -> str:
    return f"{settings['trials']} trial{'' if settings['trials'] == 1 else 's'}"


def _scorers(records: Sequence[Mapping[str, Any]]) -> list[str]:
    said = []
    for fields in records:
        scorer = fields.get("scorer") or {}
        if scorer.get("name") not in (None, "vllm"):
            note = scorer.get("note") or f"scored by {scorer['name']} {scorer.get('version') or ''}".rstrip()
            said.append(f"{note[0].upper()}{note[1:]}.".replace("..", "."))
    return sorted(set(said))


def _data(records: Sequence[Mapping[str, Any]]) -> list[str]:
    data: Mapping[str, Any] = next(
        (fields["dataset"] for fields in records if "test_pairs" in fields.get("dataset", {})), {}
    )
    said = []
    for key, what in (("truncated_pairs", "training pairs"), ("truncated_test_pairs", "held-out pairs")):
        if data.get(key):
            said.append(f"{data[key]} {what} were cut to the longest length.")
    skipped = data.get("skipped") or {}
    if isinstance(skipped, Mapping):
        said += [
            f"{number} rows of the data skipped: {reason}." for reason, number in sorted(skipped.items()) if number
        ]
    else:
        said.append(f"{skipped} rows of the data skipped.")
    return said + [f"Data: {note}" for note in data.get("notes") or []]


def _budget(budget: Any) -> str:
    return (
        ", ".join(f"{name}={value}" for name, value in budget.items()) if isinstance(budget, Mapping) else str(budget)
    )


def _controlled(settings: Mapping[str, Any]) -> bool:
    return settings.get("control") not in (None, "", "none", False)
