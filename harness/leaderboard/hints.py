"""How to read a board: the hints under leaderboard.md and the page, which mark them up each in its own language."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Term:
    """What a hint explains: a heading, or another word of the board."""

    text: str


@dataclass(frozen=True)
class Code:
    """A name as records and commands have it."""

    text: str


Hint = tuple[str | Term | Code, ...]
"""The pieces of one hint, in order."""


def marked_up(
    hint: Hint, *, term: Callable[[str], str], code: Callable[[str], str], plain: Callable[[str], str]
) -> str:
    """Return a hint as one text, each kind of piece marked up by a function of the rendering."""
    marks = {Term: term, Code: code}
    return "".join(plain(piece) if isinstance(piece, str) else marks[type(piece)](piece.text) for piece in hint)


PROTOCOL = (
    "One trainer, one start checkpoint per model, one tokenisation, one seeded order of pairs, one optimiser and "
    "schedule, one budget for every loss; what must not differ cannot be set per loss. Every result is scored by one "
    "extraction of implicit rewards: by what the loss learned relative to the start checkpoint, by its own reward and, "
    "for all alike, by four common readings. A run that diverged or failed is a row, ranked last, with its reason. A "
    "table never holds records of two protocols."
)
"""What every loss has in common, whatever the run."""
IN_SHORT = (
    "learned: accuracy by the loss's own kind of log-prob relative to the start checkpoint, 0.5 for an untrained model",
    "own reward: accuracy by the reward that its paper gives; without a reference it starts at the base's log-probs",
    "in brackets: ranks that the data leave open (~ too close to call), 95 % intervals",
)
"""For a terminal: what the columns are."""
FEW_MEANS = "fewer than ten prompts have a wrong pair (or fewer than ten a right one): the interval rests on few"
RANK: Hint = (
    Term("rank"),
    " is by the point estimate; in brackets the ranks that the data leave open (step-down comparison of all pairs "
    "of losses, family-wise error 5 %). ",
    Code("~"),
    " marks a range that depends on a comparison within resampling error of 5 %; it holds either way. Losses of one ",
    Term("tier"),
    " are not significantly worse than its first; one of the next tier is worse than that first one, not than "
    "every loss above it.",
)
BRACKETS: Hint = (
    "Brackets after a number: 95 % interval over prompts, paired between losses; over prompts and seeds where "
    f"there are several seeds. ‡ {FEW_MEANS}.",
)
REWARDS: Hint = (
    "All accuracies are shares of held-out pairs whose chosen response has more reward. ",
    Term("own reward"),
    " reads each loss by the reward that its paper gives; one without a reference starts where the start "
    "checkpoint's log-probs are. ",
    Term("learned"),
    " reads each loss by its own kind of log-prob, summed or per token, relative to the start checkpoint: 0.5 for "
    "every untrained model.",
)
COMMON_READINGS: Hint = (
    Term("accuracy@mean"),
    " reads every loss by the same reward, the log-prob per token, ",
    Term("accuracy@sum"),
    " by the summed log-prob; ",
    Term("over base, @mean"),
    " is the paired difference in the first of these to the untrained base.",
)
RANKS_BY: Hint = (
    Term("ranks by"),
    " own, learned, sum, mean, ratio and ",
    Code("ratio_mean"),
    ": the ranks if all were ranked by the own reward, by what was learned, or by one common reading (log-prob "
    "summed or per token, log-ratio to the start summed or per token).",
)
SPEARMAN: Hint = (
    Term("Spearman"),
    " is between reward and annotation score over all responses, pooled; ",
    Term("within prompt"),
    " is its mean over prompts with several scored responses. † A reward relative to a reference leaves out a term "
    "of the prompt alone (beta log Z) and is comparable within a prompt only: read its pooled value with care.",
)
BALANCED: Hint = (Term("length-balanced"), " is the accuracy on test pairs whose two responses are of like length.")
BASELINE_ROWS: Hint = (
    Code("base"),
    " is the checkpoint that every loss starts from; ",
    Code("longer-wins"),
    " always prefers the longer response.",
)
HOW_TO_READ = (RANK, BRACKETS, REWARDS, COMMON_READINGS, RANKS_BY, SPEARMAN, BALANCED, BASELINE_ROWS)
"""For what every rendering shows."""
ONLY_ON_THE_PAGE: tuple[Hint, ...] = (
    (
        "The ",
        Term("forest plot"),
        " over the table draws the ranked metric: a dot is the estimate, the line its 95 % interval, the dashed line "
        "what a reward that knows nothing has. Lines that overlap may still differ: the comparisons are paired, and "
        "their outcome is in the tiers.",
    ),
    (
        Term("to the leader"),
        " is the paired difference to the first row in the ranked metric; its interval is that of one comparison, the "
        "tiers are adjusted for all.",
    ),
    (
        Term("spend of a cell"),
        " is the mean over seeds and models; FLOP are floating-point operations, of training alone. Seconds tell of "
        "the machine too and stand with the commands.",
    ),
)
