"""The embedded data set: preference pairs generated from a seed, shaped like those of ultrafeedback_binarized.

It is a simulator with known ground truth, not a stand-in for human data. Prompts are instructions of twelve task
families; each has four responses whose TRUE quality (1 to 5) is known because the text is made from it
(`harness.data.simulator.responses`). A simulated annotator sees the true quality with normal noise, and the pair is
ordered by what the annotator saw, so some labels are wrong and the data say which. Results on it show that the harness
measures; they do not rank methods for real use.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from harness.api import (
    Dataset,
    DatasetSource,
    HarnessError,
    Listwise,
    LoadOptions,
    MadeTask,
    Message,
    Pair,
    Response,
    hookimpl,
    require,
)
from harness.data.list_pairs import pair_of
from harness.data.simulator import responses, tasks

NAME = "embedded"
MATCHES = ((0, 1), (2, 3), (0, 2), (1, 3), (0, 3), (1, 2))
"""Which two of the four responses make the first pair of a prompt, the second, and so on; the first two share none."""
ATTEMPTS = 200
"""Draws of a prompt before we conclude that there are too few different ones."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much data is made, and how noisy the annotator is."""

    prompts_train: int = 1200
    prompts_dev: int = 150
    prompts_test: int = 200
    train_pairs_per_prompt: int = 2
    """1 to 6; with 1 or 2, the pairs of a prompt share no response."""
    dev_pairs_per_prompt: int = 2
    test_pairs_per_prompt: int = 2
    annotator_noise: float = 0.4
    """Standard deviation of the annotation score around the true quality, on the scale from 1 to 5."""
    prompt_bias: float = 0.0
    """Share of the training prompts whose pairs are of two good or of two bad responses: the better half of a prompt's
    responses by true quality, or the worse half. Labels then say little of how good a response is among all."""
    lenbalanced_within: float = 0.2
    """`test_lenbalanced` holds test pairs whose lengths in characters differ by less than this share of the longer."""

    def __post_init__(self) -> None:
        for name in ("prompts_train", "prompts_dev", "prompts_test"):
            count = getattr(self, name)
            require(count >= 0, f"{NAME} data: {name} got {count}, expected 0 or more; set it so")
        for name in ("train_pairs_per_prompt", "dev_pairs_per_prompt", "test_pairs_per_prompt"):
            count = getattr(self, name)
            require(1 <= count <= len(MATCHES), f"{NAME} data: {name} got {count}, expected 1 to 6; set it so")
        noise = self.annotator_noise
        require(0 <= noise < np.inf, f"{NAME} data: annotator_noise got {noise}, expected 0 or more; set it so")
        bias = self.prompt_bias
        require(0 <= bias <= 1, f"{NAME} data: prompt_bias got {bias}, expected a share from 0 to 1; set it so")


def make(settings: Settings, seed: int) -> Dataset:
    """Return the data set for `settings` and `seed`; the same two always give the same data.

    The test split is drawn first, and each split from a generator of its own: more training prompts change no test
    prompt. More noise changes scores and the order within pairs, but no text.
    """
    require(seed >= 0, f"{NAME} data: seed got {seed}, expected 0 or more; set it so")
    known: dict[str, MadeTask] = {}
    test = _prompts(np.random.default_rng([seed, 0]), settings.prompts_test, settings.annotator_noise, known)
    dev = _prompts(np.random.default_rng([seed, 1]), settings.prompts_dev, settings.annotator_noise, known)
    train = _prompts(np.random.default_rng([seed, 2]), settings.prompts_train, settings.annotator_noise, known)
    test_pairs = _pairs(test, settings.test_pairs_per_prompt)
    train_pairs = _pairs(_biased(train, settings.prompt_bias, seed), settings.train_pairs_per_prompt)
    dev_pairs = _pairs(dev, settings.dev_pairs_per_prompt)
    return Dataset(
        name=NAME,
        train=train_pairs,
        dev=dev_pairs,
        test=test_pairs,
        test_lenbalanced=tuple(pair for pair in test_pairs if _alike(pair, settings.lenbalanced_within)),
        listwise_train=train,
        listwise_dev=dev,
        listwise_test=test,
        sft=tuple((prompt.context, response.text) for prompt in train for response in prompt.responses),
        notes=tuple(
            note for name, pairs in (("train", train_pairs), ("test", test_pairs)) for note in _account(name, pairs)
        ),
        source=f"simulator: seed={seed}, " + _told(settings),
        tasks=known,
    )


def _prompts(rng: np.random.Generator, count: int, noise: float, known: dict[str, MadeTask]) -> tuple[Listwise, ...]:
    return tuple(_prompt(rng, noise, known) for _ in range(count))


def _prompt(rng: np.random.Generator, noise: float, known: dict[str, MadeTask]) -> Listwise:
    """Return a prompt that is not among `known`, and add its task there; with four responses of different qualities."""
    for _ in range(ATTEMPTS):
        task, style = tasks.task(rng), tasks.pick(rng, list(responses.STYLES))
        text = responses.prompt(rng, task, style)
        prompt_id = hashlib.sha256(text.encode()).hexdigest()
        if prompt_id not in known:
            break
    require(
        prompt_id not in known,
        f"{NAME} data: got settings that ask for more than {len(known)} prompts, expected fewer; lower prompts_train",
    )
    known[prompt_id] = MadeTask(family=task.family, style=style, right=task.right, near=task.near, slots=task.slots)
    made: dict[str, float] = {}
    while len(made) < 4:
        quality = responses.draw(rng)
        answer = responses.response(rng, task, style, quality)
        if answer not in made and round(quality.true(), 6) not in made.values():
            made[answer] = round(quality.true(), 6)
    scores = np.round(np.clip(np.array(list(made.values())) + noise * rng.standard_normal(4), 1, 5), 1)
    return Listwise(
        prompt_id=prompt_id,
        context=(Message(role="user", content=text),),
        responses=tuple(
            Response(response_id=f"{prompt_id[:16]}-{index}", text=answer, score=float(score), true_quality=true)
            for index, ((answer, true), score) in enumerate(zip(made.items(), scores, strict=True))
        ),
    )


def _told(settings: Settings) -> str:
    """Return the settings as the source of the data names them: a bias where there is one."""
    told = {name: value for name, value in asdict(settings).items() if name != "prompt_bias" or value}
    return ", ".join(f"{name}={value}" for name, value in told.items())


def _biased(prompts: tuple[Listwise, ...], share: float, seed: int) -> tuple[Listwise, ...]:
    """Return the prompts; of a share of them the responses by true quality, so that pairs lie in one half of them.

    Best first or worst first at random: with one pair per prompt, as many are of good responses as of bad ones.
    """
    rng = np.random.default_rng([seed, 3])
    chosen = set(rng.permutation(len(prompts))[: round(share * len(prompts))].tolist())
    best_first = rng.random(len(prompts)) < 0.5

    def of(place: int, prompt: Listwise) -> Listwise:
        ordered = sorted(prompt.responses, key=lambda each: each.true_quality or 0.0, reverse=bool(best_first[place]))
        return replace(prompt, responses=tuple(ordered)) if place in chosen else prompt

    return tuple(of(place, prompt) for place, prompt in enumerate(prompts))


def _pairs(prompts: Iterable[Listwise], per_prompt: int) -> tuple[Pair, ...]:
    """Return the pairs of each prompt, ordered by annotation score; of a tie the response made first is chosen."""
    pairs = []
    for prompt in prompts:
        for first, second in MATCHES[:per_prompt]:
            chosen, rejected = prompt.responses[first], prompt.responses[second]
            if rejected.score > chosen.score:
                chosen, rejected = rejected, chosen
            pairs.append(pair_of(prompt, chosen, rejected, f"{prompt.prompt_id[:16]}-{first}{second}"))
    return tuple(pairs)


def _alike(pair: Pair, within: float) -> bool:
    lengths = len(pair.chosen), len(pair.rejected)
    return max(lengths) - min(lengths) < within * max(lengths)


def _account(split: str, pairs: tuple[Pair, ...]) -> Iterable[str]:
    ties = sum(pair.score_chosen == pair.score_rejected for pair in pairs)
    flipped = sum(pair.true_chosen < pair.true_rejected and pair.score_chosen > pair.score_rejected for pair in pairs)
    yield f"{split}: {ties} of {len(pairs)} pairs are ties, kept in the order they were made"
    if len(pairs) > ties:
        yield f"{split}: annotator noise flipped {flipped / (len(pairs) - ties):.1%} of the labels without a tie"


def _load(options: LoadOptions) -> Dataset:
    given: dict[str, Any] = {}
    for name, text in options.settings.items():
        kind = type(getattr(Settings, name))
        try:
            given[name] = kind(text)
        except ValueError:
            wanted = "a whole number" if kind is int else "a number"
            raise HarnessError(f"{NAME} data: {name} got '{text}', expected {wanted}; set it so") from None
    return make(Settings(**given), options.seed)


@hookimpl
def harness_datasets() -> list[DatasetSource]:
    """Return the embedded data set."""
    summary = "simulated instructions with known true quality, made from a seed; needs no download"
    settings = tuple(field.name for field in fields(Settings))
    return [DatasetSource(name=NAME, load=_load, summary=summary, settings=settings)]
