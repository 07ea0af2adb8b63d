"""What models are asked to answer: held-out prompts, or those of `--prompts`, as token ids, and how it is sampled."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import pandas as pd

from harness.api import Generated, GenerateRequest, HarnessError, Message, OpenPrompt, Sampling
from harness.data.template import RefusedError
from harness.data.tokens import Encoded, Limits, encode_each, refused_error
from harness.models.load import load_tokenizer
from harness.models.window import window_of
from harness.training.prepared import Prepared

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SOME_ANSWER = "Yes."
"""What stands for an answer where the ids of a prompt are made, which no answer changes."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What every model of a run is asked: the same prompts by the same seeds."""

    prepared: Prepared
    prompts: pd.DataFrame
    """A row per prompt: `prompt_id`, its token `ids`, and `text`, an answer to compare with; "" where there is none."""
    open: tuple[OpenPrompt, ...] = ()
    """The same prompts where they are not held-out ones."""

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
        return [
            GenerateRequest(prompt=ids, seed=seed_of(prompt, sample))
            for prompt, ids in zip(self.prompts["prompt_id"], self.prompts["ids"], strict=True)
            for sample in range(self.prepared.job.run.samples)
        ]

    def second_requests(self, first: Sequence[Generated]) -> list[GenerateRequest]:
        """Return the second turns of the prompts that have one, each with the model's own `first` answer before it."""
        samples = self.prepared.job.run.samples
        places = [(place, sample) for place, each in enumerate(self.open) if each.second for sample in range(samples)]
        contexts = [
            (
                *self.open[place].context,
                Message(role="assistant", content=text_of(self.tokenizer, first[place * samples + sample])),
                Message(role="user", content=self.open[place].second),
            )
            for place, sample in places
        ]
        return [
            GenerateRequest(prompt=ids, seed=seed_of(self.open[place].second_id, sample))
            for (place, sample), ids in zip(places, _prompt_ids(self.prepared, self.tokenizer, contexts), strict=True)
        ]


def asked_of(prepared: Prepared) -> Asked | None:
    """Return what the models are asked to answer; None where a run generates nothing."""
    run, held, data = prepared.job.run, prepared.held_out, prepared.job.dataset
    if not run.generate:
        return None
    if data.to_answer is not None:
        return _asked_openly(prepared, data.to_answer.prompts[: run.generate])
    texts = {pair.pair_id: pair.chosen for pair in (data.test if run.evaluate_on == "test" else data.dev)}
    main = held.pairs[held.pairs["split"] == run.evaluate_on].drop_duplicates("prompt_id").head(run.generate)
    prompts = main[["prompt_id"]].assign(
        ids=[held.requests[place].prompt for place in main["chosen"]], text=main["pair_id"].map(texts)
    )
    return Asked(prepared=prepared, prompts=prompts.reset_index(drop=True))


def _asked_openly(prepared: Prepared, prompts: tuple[OpenPrompt, ...]) -> Asked:
    """Return what is asked in the place of held-out prompts."""
    job = prepared.job
    tokenizer = load_tokenizer(prepared.start.folder, job.run.trust_remote_code, job.chat_template)
    table = {
        "prompt_id": [each.prompt_id for each in prompts],
        "ids": _prompt_ids(prepared, tokenizer, [each.context for each in prompts]),
        "text": [each.rival for each in prompts],
    }
    return Asked(prepared=prepared, prompts=pd.DataFrame(table), open=prompts)


def _prompt_ids(
    prepared: Prepared, tokenizer: PreTrainedTokenizerBase, contexts: Sequence[Sequence[Message]]
) -> list[tuple[int, ...]]:
    """Return the ids of prompts, with the generation prompt; raise `HarnessError` where the template refuses one."""
    settings = prepared.job.run.settings
    limits = Limits(max_length=settings.max_length, max_prompt=settings.max_prompt)
    encoded = encode_each(tokenizer, [(context, SOME_ANSWER) for context in contexts], limits)
    for context, each in zip(contexts, encoded, strict=True):
        if isinstance(each, RefusedError):
            raise refused_error(tokenizer, f"--prompts {prepared.job.run.prompts}", context, each)
    return [each.prompt_ids for each in encoded if isinstance(each, Encoded)]


def longest_answer(prepared: Prepared) -> int:
    """Return the tokens of the longest prompt with the longest answer; 0 where a run generates nothing."""
    run, prompts = prepared.job.run, [each.prompt for each in prepared.held_out.requests]
    if run.generate and prepared.job.dataset.to_answer is not None:
        asked = asked_of(prepared)
        assert asked is not None, "it generates"
        if any(each.second for each in asked.open):  # as long as it may be: it has an answer in it
            return run.max_new_tokens + run.settings.max_prompt
        prompts = list(asked.prompts["ids"])
    return run.max_new_tokens + max(map(len, prompts)) if run.generate else 0


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


def text_of(tokenizer: PreTrainedTokenizerBase, answer: Generated) -> str:
    """Return the text of an answer, without the token that ended it."""
    text: str = tokenizer.decode(answer.tokens, skip_special_tokens=True)
    return text.strip()
