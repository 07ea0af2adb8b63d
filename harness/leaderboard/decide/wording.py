"""What a board says in words besides its findings: its title and its disclaimers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.leaderboard.decide.data_notes import data_notes
from harness.leaderboard.decide.estimates import Evidence
from harness.leaderboard.decide.row_facts import Choice
from harness.leaderboard.formatting import counted, heading
from harness.run_folder.adapter_setting import FULL, adapter_in_words
from harness.run_folder.board_key import BoardKey
from harness.run_folder.noise_floor import NoiseFloor
from harness.run_folder.paths import NOISE_FLOOR
from harness.run_folder.record import ELSEWHERE, Record
from harness.statistics.intervals import MIN_PROMPTS, MIN_SEEDS
from harness.statistics.metrics import READ

ONE_SEED = (
    "One seed: ranks and tiers are of these trained models, not of the losses. Whether one loss is better than "
    "another, this run cannot say; several seeds (--seeds 0,1,2) can."
)
MEASURES = "Measures implicit-reward ranking accuracy, not generation quality."
APART = "Ranks and tiers are by implicit-reward accuracy; generated answers and what judges say of them stand apart."
"""In the place of `MEASURES` where there are answers."""
BORDERLINE = "Borderline: "
"""So begins the sentence of a board on pairs whose test is too close to call."""
NANO = "A nano board tests the harness and ranks no method."
EARLY = "An early point is not a finished shorter run: its learning rate has not decayed."
TINY = "A board of models of at most 10M parameters tests the harness and ranks no method."


def title(first: Record, models: Sequence[str], seeds: Sequence[int], ranked_by: str) -> str:
    """Return the title of a board from the first of its records."""
    settings = first.board
    if not seeds and settings.budget is None and settings.preset is None:  # nothing was trained
        return f"{', '.join(models)} · {ELSEWHERE} · {first.dataset.name or 'unknown data'}"
    parts = [
        models[0] if len(models) == 1 else f"all of {', '.join(models)}",
        _rule(ranked_by),
        _preset(first),
        data_in_words(first.dataset.name, first.dataset.tested_on.name if first.dataset.tested_on else ""),
        _tuned(settings) or "shared learning rate, untuned",
        f"budget {settings.budget}",
        f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds)) or 'none'}",
        *(["best point on dev"] if settings.chosen_from else []),
        *([_adapter(settings.adapter)] if settings.adapter not in (None, FULL) else []),
        *([f"optimiser {settings.optimizer}"] if settings.optimizer else []),
        *(["development split"] if settings.evaluated_on == "dev" else []),
        *([f"control: {settings.control}"] if _controlled(settings) else []),
        *([f"noise {settings.noise}"] if settings.noise else []),
        *([f"pairs by {settings.select}"] if settings.select else []),
    ]
    return " · ".join(parts)


def _adapter(text: str) -> str:
    """Return an adapter in a few words, such as `LoRA, r=8`."""
    return adapter_in_words(text).replace(" adapters", "")


def _preset(first: Record) -> str:
    """Return whose settings a board has; a model that somebody brought is not called nano for having nano's."""
    preset = first.board.preset or first.model.preset or "unknown"
    brought = preset == "nano" and first.model.preset == "custom"
    return "settings of the nano preset" if brought else f"{preset} preset"


def data_in_words(name: str, tested_on: str) -> str:
    """Return the name of the data; of two sets what each was for."""
    return f"trained on {name}, tested on {tested_on}" if tested_on else name or "unknown data"


def subsets_in_words(metric: str) -> str:
    """Return what a table of an accuracy by subset shows."""
    return (
        f"Accuracy by subset, {heading(metric)}, with 95 % intervals; in brackets the pairs of each. Nothing is ranked "
        "or tested by it, and of many subsets some differ by chance"
    )


def points_in_words(metric: str) -> str:
    """Return what a table of a metric along the run shows."""
    return f"Along the run, by the fraction of the budget spent: {heading(metric)}, with 95 % intervals"


def disclaimers(
    records: Sequence[Record],
    seeds: Sequence[int],
    evidence: Evidence,
    unranked: Sequence[str],
    noise_unfit: str = "",
) -> tuple[str, ...]:
    """Return what a reader must know before believing the board, one sentence per item.

    `noise_unfit`: why a noise floor is not used.
    """
    settings = records[0].board
    sentences = [APART if any(record.generation for record in records) else MEASURES]
    if any(record.model.preset == "nano" for record in records):
        sentences.append(NANO)
    elif settings.preset == "tiny":
        sentences.append(TINY)
    if any(record.points for record in records):
        sentences.append(EARLY)
    sentences += [f"{name} is the model in {place}." for name, place in places(records).items()]
    sentences += _merged(records)
    sentences += _quantised(records)
    sentences += [f"{label} {words}; harness plugins check says more." for label, words in failing(records).items()]
    if settings.evaluated_on == "dev":
        sentences.append("Scored on the development split, which choices may have been made on: not a test result.")
    if settings.trials:
        sentences.append(_equal_tuning(settings))
    if _controlled(settings):
        sentences.append(f"Control run ({settings.control}): shows what the harness finds where nothing can be learnt.")
    sentences += [f"Noise {noise.in_words}." for record in records if (noise := record.dataset.noise)]
    sentences += selections(records)
    if 1 < len(seeds) < MIN_SEEDS:
        sentences.append(f"{len(seeds)} seeds, fewer than {MIN_SEEDS}: the between-seed variance is roughly known.")
    if noise_unfit:
        sentences.append(f"The noise floor in {NOISE_FLOOR} is not used: {noise_unfit}.")
    if evidence.n_prompts < MIN_PROMPTS:
        sentences.append(f"{evidence.n_prompts} prompts, fewer than {MIN_PROMPTS}: the intervals may be too narrow.")
    sentences += [
        f"{number} {kind} left out: not scored for every system and model."
        for kind, number in evidence.left_out.items()
    ]
    sentences += [f"{label} is not ranked: it has no value of the ranked metric." for label in unranked]
    beside = max(record.environment.models_side_by_side for record in records)
    if beside > 1:
        sentences.append(f"Seconds are wall-clock, with {beside} models computed side by side.")
    return tuple(dict.fromkeys([*sentences, *_scorers(records), *data_notes(records)]))


def weightiest(
    records: Sequence[Record], seeds: Sequence[int], prompts: int, noise: bool, lost: int, unclear: int
) -> tuple[str, ...]:
    """Return what weighs most of what a reader must know, a few words each; `disclaimers` and findings say it in full.

    `noise`: whether a noise floor is in use; `lost`: losses without a result; `unclear`: comparisons that are
    borderline.
    """
    settings = records[0].board
    answers = any(record.generation for record in records)
    small = any(record.model.preset == "nano" for record in records) or settings.preset == "tiny"
    failed = len(failing(records))
    return tuple(
        filter(
            None,
            (
                "ranks by implicit rewards, not by answers" if answers else "implicit rewards, not generated text",
                "models too small to rank a method" if small else "",
                "start weights quantised" if any(record.model.quantised for record in records) else "",
                f"{counted(failed)} loss{'' if failed == 1 else 'es'} failing the rules" if failed else "",
                "one seed" if len(seeds) == 1 and not noise else "",
                f"{counted(len(seeds))} seeds, fewer than {MIN_SEEDS}" if 1 < len(seeds) < MIN_SEEDS else "",
                f"{prompts} prompts, fewer than {MIN_PROMPTS}" if 0 < prompts < MIN_PROMPTS else "",
                f"control: {settings.control}" if _controlled(settings) else "",
                f"noise {settings.noise}" if settings.noise else "",
                "development split, not a test" if settings.evaluated_on == "dev" else "",
                f"{counted(lost)} without a result" if lost else "",
                f"{counted(unclear)} too close to call" if unclear else "",
            ),
        )
    )


def selections(records: Iterable[Record]) -> list[str]:
    """Return what `--select` did to the training pairs of each model, a sentence each."""
    chosen = {record.model.name: facts.in_words for record in records if (facts := record.dataset.selection)}
    return [f"For {model}, {words}." for model, words in chosen.items()]


def failing(records: Iterable[Record]) -> dict[str, str]:
    """Return which rules of `harness plugins check` a loss breaks, in words, by its label; others are left out."""
    return {record.label: f"fails: {', '.join(record.loss.fails)}" for record in records if record.loss.fails}


def trained_elsewhere(record: Record) -> str:
    """Return what a reader must know of a row that the run did not train."""
    facts = record.elsewhere
    assert facts is not None, "a row of a checkpoint from elsewhere"
    read = {
        "log-ratio": "its summed log-prob minus the reference's",
        "mean": "its log-prob per token",
        "sum": "its summed log-prob",
    }
    asked = str(record.loss.options.get("reward", facts.reward))
    return (
        f"{record.label} is {facts.checkpoint}: what it was trained on and for how long is not known here, so it has "
        f"no rank and is in no comparison. Its own reward is {read.get(asked, f'that of {asked}')}; its reference is "
        f"{facts.reference or 'not known, so it has no log-ratios'}."
        + (f" Its weights are quantised to {facts.quantised}." if facts.quantised else "")
    )


def places(records: Iterable[Record]) -> dict[str, str]:
    """Return where the first record of each local model had it, by what boards call the model."""
    found: dict[str, str] = {}
    for record in records:
        if record.local_model and record.model.id:
            found.setdefault(record.local_model, record.model.id)
    return found


def _merged(records: Sequence[Record]) -> list[str]:
    """Return which models are LoRA adapters merged onto their base, one sentence each."""
    starts = dict.fromkeys((record.model.name, record.model.base) for record in records)
    return [f"{name} is a LoRA adapter merged onto {base}." for name, base in starts if base]


def _quantised(records: Sequence[Record]) -> list[str]:
    """Return which models started from quantised weights, one sentence each."""
    starts = dict.fromkeys((record.model.name, record.model.quantised, record.model.id) for record in records)
    return [
        f"{name} starts from weights quantised to {kind} ({of}), which are not the full ones."
        for name, kind, of in starts
        if kind
    ]


def training_noise(noise: NoiseFloor | None, sd: float | None) -> str:
    """Return what a noise floor is in; empty without one. `sd`: the typical one of the board's losses."""
    if noise is None or sd is None:
        return ""
    return (
        f"One seed, with training noise as measured from {noise.runs} runs (sd {sd:.4f}) in the intervals, ranks and "
        f"tiers by {noise.metric}; all other numbers are of these trained models, not of the losses."
    )


def _rule(ranked_by: str) -> str:
    """Return by which reward the losses are ranked."""
    reading = ranked_by.partition("@")[2]
    if reading in ("", "learned"):
        return "each loss by its own rule" + (", relative to the start" if reading else "")
    return f"all losses read by {READ[reading]}"


def borderline(pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Return the sentence on pairs whose test is too close to call; nothing where there is none."""
    if not pairs:
        return ()
    named = "; ".join(f"{a} and {b}" for a, b in pairs)
    return (f"{BORDERLINE}{named} lie within resampling error of 5 %; their rank ranges hold either way.",)


def _equal_tuning(settings: BoardKey) -> str:
    assert settings.trial_learning_rates is not None, "a tuned board has the range of its learning rates"
    low, high = settings.trial_learning_rates
    return (
        f"Equal tuning: every loss had {_trials(settings)} on each model, the budget of a cell each, over its "
        f"declared space and learning rates from {low:g} to {high:g}; the best by {settings.tuned_by} on the "
        f"development split (seed {settings.tuning_seed}) was trained anew. What trials spent is not in the row."
    )


def choice(tuned: Choice) -> str:
    """Return what tuning chose for one system on one model, in words."""
    options = [f"{name} = {value:.4g}" for name, value in tuned.options.items()]
    dev = "no trial had a value on dev" if tuned.dev is None else f"{tuned.dev:.3f} on dev"
    return f"{', '.join([*options, f'learning rate {tuned.learning_rate:.4g}'])} (trial {tuned.trial}, {dev})"


def _tuned(settings: BoardKey) -> str:
    return f"equal tuning: {_trials(settings)} per loss, chosen on dev" if settings.trials else ""


def _trials(settings: BoardKey) -> str:
    return f"{settings.trials} trial{'' if settings.trials == 1 else 's'}"


def _scorers(records: Sequence[Record]) -> list[str]:
    sentences = set()
    for scorer in (record.scorer for record in records):
        if scorer.name not in (None, "vllm"):
            note = scorer.note or f"scored by {scorer.name} {scorer.version or ''}".rstrip()
            sentences.add(f"{note[0].upper()}{note[1:]}.".replace("..", "."))
    return sorted(sentences)


def _controlled(settings: BoardKey) -> bool:
    return settings.control not in (None, "none")
