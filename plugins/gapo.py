"""GaPO: SimPO whose target margin grows with the dissimilarity of the two response texts.

Formula: -log sigmoid(beta * (A_w - A_l) - beta * M), M = Norm(map(EF), gamma), A = log-prob averaged over the response
tokens, EF in (0, 1] = similarity of chosen and rejected text, fixed before training: a similar pair, a small margin.
Reward: beta * A.
Source: "Gap-Aware Preference Optimization" (anonymous, under double-blind review), eq. 5, 8, 9, 10, tables 1 and 4.
Provenance: [P] the paper's text, by hand arithmetic; no public code is known to us. Where it leaves a choice: eq. 5
multiplies the margin by beta, eq. 9 does not; beta 10 and gamma 0.3 "consistent with SimPO" is SimPO's *ratio*, so
`margin_units="ratio"` is the default, and "reward" is eq. 9 to the letter, a margin ten times weaker. The mean in eq. 8
and 10 is over the training set. Table 1 prints BERTScore P and R cross-wired; we use the standard definition, candidate
rejected, reference chosen. Jaccard is over the set of ROUGE tokens; its EF is 1 for "ok ok" and "ok".
Traps: "log" clamps EF to [floor, 1] BEFORE the mean: one EF of 0 would make the mean inf and every margin 0. The column
"clamped" marks such pairs; under ROUGE-2 they are many and the floor sets the scale. The bounded maps need no floor.
ROUGE tokens are lower-case runs of [a-z0-9] (rouge-score's default, no stemmer): text in another script has none, so EF
is 0, every pair is clamped and GaPO is SimPO. Additive margins can be negative. With all pairs identical (mean 0) the
scaled margin is gamma.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import numpy as np

from harness.api import HarnessError, Limit, Loss, PairLogps, Range, ResponseLogps, Terms, hookimpl, require

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

Similarity = Literal["jaccard", "rouge1", "rouge2", "rougeL", "bertscore_p", "bertscore_r", "bertscore_f1"]
Mapper = Literal["one_minus", "one_minus_square", "one_minus_sqrt", "log"]
Normalise = Literal["none", "add", "scale"]
Units = Literal["ratio", "reward"]

MAPPINGS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "one_minus": lambda ef: 1 - ef,
    "one_minus_square": lambda ef: 1 - ef**2,
    "one_minus_sqrt": lambda ef: 1 - np.sqrt(ef),
    "log": lambda ef: np.log(1 / ef),
}


@dataclass(frozen=True, kw_only=True)
class GaPO(Loss):
    """-log sigmoid(beta * (mean logp chosen - mean logp rejected - margin of the pair))."""

    name: ClassVar[str] = "gapo"
    search_space: ClassVar[Mapping[str, Range]] = {
        "beta": Range(low=1.0, high=10.0, log=True),
        "gamma": Range(low=0.1, high=1.0, log=True),
    }
    length_normalised = True

    beta: float = 10.0
    """Scale of the averaged log-probs, above 0. Default: the paper's."""
    gamma: float = 0.3
    """Mean margin over the training set, in `margin_units`; unused with normalise="none". Default: the paper's."""
    similarity: Similarity = "rougeL"
    """EF, the similarity of the two texts; BERTScore needs the extra `bertscore`. Default: the paper's best."""
    mapping: Mapper = "log"
    """From EF to the gap: 1 - EF, 1 - EF^2, 1 - sqrt(EF) or log(1 / EF). Default: the paper's best."""
    normalise: Normalise = "scale"
    """gap ("none"), gap - mean + gamma ("add") or gamma * gap / mean ("scale"). Default: the paper's best."""
    margin_units: Units = "ratio"
    """Margin multiplied by beta ("ratio", eq. 5) or not ("reward", eq. 9). Default: our reading, see above."""
    floor: float = 1e-3
    """Smallest EF under mapping="log", above 0 and below 1; caps the gap at log(1 / floor). Default: ours."""
    encoder: str = field(default="bert-base-uncased", metadata={"unchecked": "it acts with BERTScore alone"})
    """Local folder or hub id of BERTScore's encoder. Default: the encoder the paper cites."""

    def __post_init__(self) -> None:
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")
        require(0 <= self.gamma < math.inf, f"gamma got {self.gamma}, expected a finite number of at least 0")
        require(0 < self.floor < 1, f"floor got {self.floor}, expected a number above 0 and below 1")
        for option, hint in (
            ("similarity", Similarity),
            ("mapping", Mapper),
            ("normalise", Normalise),
            ("margin_units", Units),
        ):
            value, known = getattr(self, option), get_args(hint)
            require(value in known, f"{option} got '{value}', expected one of {', '.join(known)}")

    @property
    def limits(self) -> tuple[Limit, ...]:
        """With equally similar pairs every scaled margin is gamma: it is SimPO."""
        gamma = self.gamma * self.beta if self.margin_units == "ratio" else self.gamma
        return (
            Limit(
                options={"similarity": "rougeL", "normalise": "scale"},  # without an encoder to load
                equals="simpo",
                equals_options={"beta": self.beta, "gamma": gamma},
                columns={"chosen": "a b c d", "rejected": "a b c e"},
            ),
        )

    def prepare(self, pairs: pd.DataFrame) -> Mapping[str, np.ndarray]:
        """Return "margin" in `margin_units` and "clamped" (1 where EF was below the floor), (len(pairs),) each."""
        both = list(zip(pairs["chosen"], pairs["rejected"], strict=True))
        once = list(dict.fromkeys(both))
        measure = self._bertscore if self.similarity.startswith("bertscore") else self._overlap
        of_pair = dict(zip(once, measure(once), strict=True))
        similarity = np.array([of_pair[pair] for pair in both], dtype=float)
        low = self.floor if self.mapping == "log" else 0.0
        gap = MAPPINGS[self.mapping](np.clip(similarity, low, 1.0))
        return {"margin": self._normalised(gap), "clamped": (similarity < low).astype(float)}

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair, (B,)."""
        from torch.nn.functional import logsigmoid

        gap = pairs.chosen.mean() - pairs.rejected.mean()
        margin = pairs.columns["margin"].to(gap) * (self.beta if self.margin_units == "ratio" else 1.0)
        return Terms.of(-logsigmoid(self.beta * gap - margin))

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * A, SimPO's reward, (B,); the margin is part of the loss, never of the reward."""
        return self.beta * response.sum / response.length

    def _normalised(self, gap: np.ndarray) -> np.ndarray:
        mean = float(gap.mean())
        if self.normalise == "none":
            return gap
        if self.normalise == "add":
            return gap - mean + self.gamma
        return gap * (self.gamma / mean) if mean > 0 else np.full_like(gap, self.gamma)

    def _overlap(self, texts: Sequence[tuple[str, str]]) -> list[float]:
        from rouge_score.tokenize import tokenize

        overlap = OVERLAPS[self.similarity]
        return [overlap(tokenize(chosen, None), tokenize(rejected, None)) for chosen, rejected in texts]

    def _bertscore(self, texts: Sequence[tuple[str, str]]) -> list[float]:
        rows = [row for row, pair in enumerate(texts) if all(text.strip() for text in pair)]  # an empty text: EF 0
        scores = np.zeros(len(texts))
        if rows:
            precision_recall_f1 = bertscore(tuple(texts[row] for row in rows), self.encoder)
            scores[rows] = precision_recall_f1[:, ("bertscore_p", "bertscore_r", "bertscore_f1").index(self.similarity)]
        return [float(score) for score in scores]


def jaccard(chosen: Sequence[str], rejected: Sequence[str]) -> float:
    """Return the shared distinct tokens over all distinct tokens; 0 where neither text has a token."""
    union = len({*chosen, *rejected})
    return len({*chosen} & {*rejected}) / union if union else 0.0


def rouge_n(chosen: Sequence[str], rejected: Sequence[str], n: int) -> float:
    """Return ROUGE-N F1: clipped n-gram overlap."""
    ngrams = [Counter(zip(*(tokens[start:] for start in range(n)), strict=False)) for tokens in (chosen, rejected)]
    shared, total = (ngrams[0] & ngrams[1]).total(), ngrams[0].total() + ngrams[1].total()
    return 2 * shared / total if total else 0.0


def rouge_l(chosen: Sequence[str], rejected: Sequence[str]) -> float:
    """Return ROUGE-L F1 over the longest common subsequence of tokens.

    Bit-parallel (Hyyrö 2004): rouge-score's table takes some 50 ms for two texts of 300 words, this about 1 ms.
    """
    positions: dict[str, int] = {}
    for index, token in enumerate(chosen):
        positions[token] = positions.get(token, 0) | 1 << index
    every = free = (1 << len(chosen)) - 1
    for token in rejected:
        hit = free & positions.get(token, 0)
        free = ((free + hit) | (free - hit)) & every
    common, total = len(chosen) - free.bit_count(), len(chosen) + len(rejected)
    return 2 * common / total if total else 0.0


OVERLAPS: Mapping[str, Callable[[Sequence[str], Sequence[str]], float]] = {
    "jaccard": jaccard,
    "rouge1": lambda chosen, rejected: rouge_n(chosen, rejected, 1),
    "rouge2": lambda chosen, rejected: rouge_n(chosen, rejected, 2),
    "rougeL": rouge_l,
}


@lru_cache(maxsize=1)  # one encoding for all cells of a model, whichever of P, R and F1 they read
def bertscore(texts: tuple[tuple[str, str], ...], encoder: str) -> np.ndarray:
    """Return BERTScore P, R, F1 of each (reference, candidate), (len(texts), 3); no idf, no baseline rescaling.

    The layer is bert-score's for an encoder it knows by its last name, the last one otherwise. Longer texts are cut
    at the encoder's window. As in the library, [CLS] and [SEP] may be matched but carry no weight.
    """
    try:
        from bert_score.utils import bert_cos_score_idf, get_model, model2layers
    except ModuleNotFoundError as error:
        if error.name != "bert_score":
            raise
        raise HarnessError(
            "similarity bertscore_* got no library bert-score; run `pip install preference-harness[bertscore]`"
        ) from None
    import torch
    from transformers import AutoConfig, AutoTokenizer

    try:
        config = AutoConfig.from_pretrained(encoder)
        layers = min(model2layers.get(encoder.rstrip("/").split("/")[-1], math.inf), config.num_hidden_layers)
        tokenizer = AutoTokenizer.from_pretrained(encoder)
        model = get_model(encoder, layers)
    except (OSError, ValueError) as error:
        raise HarnessError(
            f"encoder got '{encoder}', which cannot be loaded ({error}); give a local folder or a hub id of an encoder"
        ) from error
    if (
        tokenizer.model_max_length > 1_000_000
    ):  # "unknown": two fewer, as RoBERTa's positions start behind the padding id
        tokenizer.model_max_length = config.max_position_embeddings - 2
    device = "cuda" if torch.cuda.is_available() else "cpu"
    weights = dict.fromkeys(range(len(tokenizer)), 1.0)
    weights.update({tokenizer.sep_token_id: 0.0, tokenizer.cls_token_id: 0.0})
    references, candidates = (list(side) for side in zip(*texts, strict=True))
    scores = bert_cos_score_idf(model.to(device), references, candidates, tokenizer, weights, device=device)
    return np.asarray(scores.double().cpu())


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [GaPO]
