"""Answers that a model samples to held-out prompts, and how far they are from its start checkpoint's."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd

from harness.api import Generated, GenerateRequest, HarnessError, OpenGenerator, OpenScorer, Sampling, ScoreRequest
from harness.models.load import load_tokenizer
from harness.models.window import window_of
from harness.planning.events import AnsweringBegins, Tell
from harness.planning.rates import remember_answer_rate
from harness.run_folder.full_disk import told
from harness.run_folder.generation_facts import GenerationFacts
from harness.run_folder.paths import GENERATIONS, JUDGEMENTS, RECORD
from harness.run_folder.store import file_hash, read_record
from harness.run_folder.tables import ANSWER_METRICS, read_frame
from harness.statistics.answers import distinct, longest_loop
from harness.statistics.divergence import kl_log_ratio, kl_low_variance
from harness.training.prepared import Prepared

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PLACE = ("prompt_id", "sample", "seed")
"""Those that say what was asked."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What every model of a run is asked: the same prompts by the same seeds."""

    prepared: Prepared
    prompts: pd.DataFrame
    """A row per prompt: `prompt_id`, `chosen` as an index into the held-out requests, and `text`, that response."""

    @property
    def sampling(self) -> Sampling:
        """How answers are sampled, by the run's options."""
        run = self.prepared.job.run
        return Sampling(stop=self.stop, temperature=run.temperature, top_p=run.top_p, max_new_tokens=run.max_new_tokens)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """That of the start checkpoint."""
        job = self.prepared.job
        return load_tokenizer(self.prepared.start.folder, job.run.trust_remote_code, job.chat_template)

    @cached_property
    def stop(self) -> tuple[int, ...]:
        """The special tokens of held-out responses, which their template put there, and the end of a text."""
        specials = {id for id, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        found = {id for request in self.prepared.held_out.requests for id in request.response if id in specials}
        end = self.tokenizer.eos_token_id
        return tuple(sorted(found | ({end} if end is not None else set())))

    @cached_property
    def requests(self) -> list[GenerateRequest]:
        """One per prompt and sample, samples of a prompt side by side."""
        held, samples = self.prepared.held_out, self.prepared.job.run.samples
        return [
            GenerateRequest(prompt=held.requests[place].prompt, seed=seed_of(prompt, sample))
            for prompt, place in zip(self.prompts["prompt_id"], self.prompts["chosen"], strict=True)
            for sample in range(samples)
        ]


def asked_of(prepared: Prepared) -> Asked | None:
    """Return what the models are asked to answer; None where a run generates nothing."""
    run, held = prepared.job.run, prepared.held_out
    if not run.generate:
        return None
    data = prepared.job.dataset
    texts = {pair.pair_id: pair.chosen for pair in (data.test if run.evaluate_on == "test" else data.dev)}
    main = held.pairs[held.pairs["split"] == run.evaluate_on].drop_duplicates("prompt_id").head(run.generate)
    prompts = main[["prompt_id", "chosen"]].assign(text=main["pair_id"].map(texts)).reset_index(drop=True)
    return Asked(prepared=prepared, prompts=prompts)


def longest_answer(prepared: Prepared) -> int:
    """Return the tokens of the longest prompt with the longest answer; 0 where a run generates nothing."""
    run = prepared.job.run
    return run.max_new_tokens + max(len(each.prompt) for each in prepared.held_out.requests) if run.generate else 0


def require_answers_fit(prepared: Prepared) -> None:
    """Raise `HarnessError` where the longest answer would not fit the context window that the model's config states."""
    window, longest = window_of(prepared.start.folder), longest_answer(prepared)
    if window is not None and longest > window:
        run = prepared.job.run
        raise HarnessError(
            f"{prepared.job.model} takes at most {window} tokens, its context window, and a prompt with its answer has "
            f"up to {longest}: got --max-new-tokens {run.max_new_tokens}, expected at most "
            f"{window - longest + run.max_new_tokens}; give fewer, or a smaller --max-prompt"
        )


def seed_of(prompt: str, sample: int) -> int:
    """Return the seed of one answer, the same for every model, so that it can be sampled again alone."""
    return int.from_bytes(hashlib.sha256(f"{prompt}/{sample}".encode()).digest()[:4]) >> 1


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
    if (record.files or {}).get(GENERATIONS) != file_hash(folder / GENERATIONS):
        return None
    table = read_frame(folder / GENERATIONS, (*PLACE, *ANSWER_METRICS))
    same = all(list(table[name]) == list(values) for name, values in _places(asked).items())
    now = facts_of(asked, table)
    return now if same and now == record.generation else None


def sampled(asked: Asked, engine: OpenScorer) -> list[Generated]:
    """Return the answers of the weights that the engine has."""
    return cast(OpenGenerator, engine).generate(asked.requests, asked.sampling)


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
    run = asked.prepared.job.run
    means = table.groupby("prompt_id")[list(ANSWER_METRICS)].mean().mean()
    return GenerationFacts(
        prompts=len(asked.prompts),
        samples=run.samples,
        temperature=run.temperature,
        top_p=run.top_p,
        max_new_tokens=run.max_new_tokens,
        stop=asked.stop,
        metrics={name: float(means[name]) if np.isfinite(means[name]) else None for name in ANSWER_METRICS},
    )


def answers_table(asked: Asked, answers: Sequence[Generated], engine: OpenScorer) -> pd.DataFrame:
    """Return a row per answer: ids, text, tokens, log-probs in nats under the model and the reference, metrics.

    The engine has the start checkpoint's weights, which give the reference's.
    """
    scored = [
        ScoreRequest(prompt=request.prompt, response=answer.tokens)
        for request, answer in zip(asked.requests, answers, strict=True)
    ]
    reference = cast(OpenGenerator, engine).token_log_probs(scored)
    run, own = asked.prepared.job.run, [answer.log_probs for answer in answers]
    texts = [_text(asked.tokenizer, answer) for answer in answers]
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
            "rouge_l": _rouge_l([text for text in asked.prompts["text"] for _ in range(run.samples)], texts),
        }
    )


def _places(asked: Asked) -> dict[str, Sequence[str] | Sequence[int]]:
    """Return what each answer is to: the columns `PLACE`, a row per request."""
    samples = asked.prepared.job.run.samples
    return {
        "prompt_id": [prompt for prompt in asked.prompts["prompt_id"] for _ in range(samples)],
        "sample": list(range(samples)) * len(asked.prompts),
        "seed": [request.seed for request in asked.requests],
    }


def _text(tokenizer: PreTrainedTokenizerBase, answer: Generated) -> str:
    """Return the text of an answer, without the token that ended it."""
    text: str = tokenizer.decode(answer.tokens, skip_special_tokens=True)
    return text.strip()


def _rouge_l(chosen: Sequence[str], texts: Sequence[str]) -> list[float]:
    """Return ROUGE-L (F1 over words, Lin 2004) of each answer with the chosen response to its prompt."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])
    return [scorer.score(right, text)["rougeL"].fmeasure for right, text in zip(chosen, texts, strict=True)]
