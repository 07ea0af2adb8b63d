"""Answers that models sample to what they are asked, and how far they are from their start checkpoint's."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from harness.api import (
    Generated,
    OpenGenerator,
    OpenScorer,
    ScoreRequest,
)
from harness.planning.events import AnsweringBegins, Tell
from harness.planning.rates import remember_answer_rate
from harness.run_folder.full_disk import told
from harness.run_folder.generation_facts import GenerationFacts, PromptFacts
from harness.run_folder.hashes import file_hash
from harness.run_folder.paths import GENERATIONS, JUDGEMENTS, RECORD
from harness.run_folder.store import read_record
from harness.run_folder.tables import ANSWER_METRICS, read_frame
from harness.statistics.answers import distinct, longest_loop
from harness.statistics.divergence import kl_log_ratio, kl_low_variance
from harness.training.asked import Asked, seed_of, text_of

PLACE = ("prompt_id", "sample", "seed")
"""Those that say what was asked."""


def base_answers(asked: Asked, engine: OpenScorer, tell: Tell, folder: Path) -> GenerationFacts:
    """Return what the record of the start checkpoint says of its answers, sampled unless they are in its `folder`.

    The engine has its weights.
    """
    kept = _kept(asked, folder)
    if kept is not None:
        return kept
    tell(AnsweringBegins(key=None))
    began = time.perf_counter()
    table = answers_table(asked, sampled(asked, engine), engine)
    job, parameters = asked.prepared.job, asked.prepared.start.parameters
    seconds = time.perf_counter() - began
    remember_answer_rate(job.cache, job.run, job.scorer.name, parameters, int(table["length"].sum()), seconds)
    return write_answers(asked, folder, table)


def _kept(asked: Asked, folder: Path) -> GenerationFacts | None:
    """Return what is known of the answers that lie in `folder`; None unless they are whole and those asked for now.

    That is of the same weights to the same prompts, sampled in the same way by the same seeds.
    """
    record = read_record(folder) if (folder / RECORD).is_file() else None
    if record is None or record.generation is None or record.model.fingerprint != asked.prepared.start.fingerprint:
        return None
    if record.tokens_fingerprint != asked.prepared.tokens_fingerprint or not (folder / GENERATIONS).is_file():
        return None
    table = read_frame(folder / GENERATIONS, (*PLACE, *ANSWER_METRICS))
    same = all(list(table[name]) == list(values) for name, values in _places(asked).items())
    now = facts_of(asked, table)
    return now if same and now == record.generation else None


def sampled(asked: Asked, engine: OpenScorer) -> list[Generated]:
    """Return the answers of the weights that the engine has, those of second turns behind all first ones."""
    sampler = cast(OpenGenerator, engine)
    first = sampler.generate(asked.requests, asked.sampling)
    second = asked.second_requests(first)
    return [*first, *sampler.generate(second, asked.sampling)] if second else first


def write_answers(asked: Asked, folder: Path, table: pd.DataFrame) -> GenerationFacts:
    """Write generations.parquet and return what a record says of it; verdicts about other answers are removed."""
    path = folder / GENERATIONS
    before = file_hash(path) if path.is_file() else None
    with told(folder, GENERATIONS):
        folder.mkdir(parents=True, exist_ok=True)
        table.to_parquet(path, index=False, compression="zstd")
    if file_hash(path) != before:
        shutil.rmtree(folder / JUDGEMENTS, ignore_errors=True)
    return facts_of(asked, table)


def facts_of(asked: Asked, table: pd.DataFrame) -> GenerationFacts:
    """Return what a record says of a table of answers."""
    run, prompts = asked.prepared.job.run, asked.prepared.job.dataset.to_answer
    known = prompts and {name: getattr(prompts, name) for name in ("name", "source", "licence", "fingerprint")}
    means = table.groupby("prompt_id")[list(ANSWER_METRICS)].mean().mean()
    return GenerationFacts(
        prompts=len(asked.prompts),
        samples=run.samples,
        temperature=run.temperature,
        top_p=run.top_p,
        max_new_tokens=run.max_new_tokens,
        stop=asked.stop,
        metrics={name: float(means[name]) if np.isfinite(means[name]) else None for name in ANSWER_METRICS},
        **({"asked": PromptFacts(**known)} if known else {}),
    )


def answers_table(asked: Asked, answers: Sequence[Generated], engine: OpenScorer) -> pd.DataFrame:
    """Return a row per answer: ids, text, tokens, log-probs in nats under the model and the reference, metrics.

    The engine has the start checkpoint's weights, which give the reference's.
    """
    requests = [*asked.requests, *asked.second_requests(answers[: len(asked.requests)])]
    scored = [
        ScoreRequest(prompt=request.prompt, response=answer.tokens)
        for request, answer in zip(requests, answers, strict=True)
    ]
    reference = cast(OpenGenerator, engine).token_log_probs(scored)
    run, own = asked.prepared.job.run, [answer.log_probs for answer in answers]
    texts = [text_of(asked.tokenizer, answer) for answer in answers]
    plain = run.temperature == 1 and run.top_p == 1  # else the samples are of another distribution than the policy
    missing = np.full(len(answers), np.nan)
    return pd.DataFrame(
        {
            **_places(asked),
            "text": texts,
            "tokens": [list(answer.tokens) for answer in answers],
            "finish": [answer.finish for answer in answers],
            "sum_logp": [float(each.sum()) for each in own],
            "ref_sum_logp": [float(each.sum()) for each in reference],
            "kl_log_ratio": kl_log_ratio(own, reference) if plain else missing,
            "kl_low_variance": kl_low_variance(own, reference) if plain else missing,
            "length": [len(answer.tokens) for answer in answers],
            "cut": [float(answer.finish == "length") for answer in answers],
            "distinct_2": [distinct(answer.tokens, 2) for answer in answers],
            "longest_loop": [longest_loop(answer.tokens) for answer in answers],
            "rouge_l": _rouge_l(_rivals(asked, len(answers)), texts),
        }
    )


def _places(asked: Asked) -> dict[str, Sequence[str] | Sequence[int]]:
    """Return what each answer is to: the columns `PLACE`, a row per request."""
    samples = asked.prepared.job.run.samples
    prompts = [*asked.prompts["prompt_id"], *(each.second_id for each in asked.open if each.second)]
    return {
        "prompt_id": [prompt for prompt in prompts for _ in range(samples)],
        "sample": list(range(samples)) * len(prompts),
        "seed": [seed_of(prompt, sample) for prompt in prompts for sample in range(samples)],
    }


def _rivals(asked: Asked, answers: int) -> list[str]:
    """Return what each answer is compared with; nothing for second turns."""
    first = [text for text in asked.prompts["text"] for _ in range(asked.prepared.job.run.samples)]
    return first + [""] * (answers - len(first))


def _rouge_l(chosen: Sequence[str], texts: Sequence[str]) -> list[float]:
    """Return ROUGE-L (F1 over words, Lin 2004) of each answer with the chosen response; NaN where there is none."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])
    return [
        scorer.score(right, text)["rougeL"].fmeasure if right else float("nan")
        for right, text in zip(chosen, texts, strict=True)
    ]
