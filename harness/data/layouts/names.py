"""What a column is called in the field: one table of aliases, and the roles that a file's columns have."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields

from harness.api import HarnessError
from harness.data.raw import some

ALIASES: Mapping[str, tuple[str, ...]] = {
    "prompt": (
        *("prompt", "question", "instruction", "query", "conversations", "conversation", "messages"),
        *("user_prompt", "user_input", "dialogue", "history", "context", "input"),
    ),
    "system": ("system", "system_prompt", "system_message"),
    "input": ("input",),
    "document": ("document", "documents", "passage", "context"),
    "prompt_id": ("prompt_id",),
    "chosen": (
        *("chosen", "chosen_response", "response_chosen", "chosen_completion", "chosen_answer"),
        *("preferred", "preferred_response", "response_w", "y_w", "accepted"),
    ),
    "rejected": (
        *("rejected", "rejected_response", "response_rejected", "rejected_completion", "rejected_answer"),
        *("dispreferred", "dispreferred_response", "nonpreferred", "response_l", "y_l"),
    ),
    "gap": (
        *("margin", "gap", "score_margin", "score_gap", "score_diff", "score_difference", "rating_gap"),
        *("preference_strength", "strength"),
    ),
    "strength": (
        *("preference_strength", "strength", "overall_preference", "preference_score", "preference_rating"),
        *("margin", "preference"),
    ),
    "label": (
        *("winner", "preferred", "better_response_id", "better", "choice", "human_preference", "preference"),
        *("preference_label", "label"),
    ),
    "subset": ("subset",),
    "completions": ("completions", "responses", "outputs", "answers", "candidates", "generations"),
    "scores": ("scores", "ratings", "rewards", "score", "rating"),
    "completion": ("completion", "response", "output", "answer", "generation"),
    "desirable": ("label", "labels", "desirable", "thumbs_up", "is_good"),
}
"""Names by role, the first that a file has counts; case and signs do not: `chosen-rating` is `chosen_rating`."""
WINNERS, LOSERS = ("chosen", "w", "winner", "better", "preferred"), ("rejected", "l", "loser", "worse", "dispreferred")
SCORE_WORDS = (
    *("score", "rating", "reward", "overall_score", "overall_rating", "avg_rating", "average_rating", "avg_score"),
    *("average_score", "mean_score", "quality", "grade", "points"),
)
STEMS = ("response", "output", "answer", "completion", "conversation", "candidate", "reply", "text", "generation")
ENDS = (("1", "2"), ("a", "b"), ("0", "1"))
PAIR_ROLES = (
    *("prompt", "system", "input", "document", "prompt_id", "chosen", "rejected", "score_chosen", "score_rejected"),
    *("gap", "first", "second", "strength", "label", "subset"),
)
"""What layouts of chosen and rejected, or of two responses, read."""


@dataclass(frozen=True, kw_only=True)
class Roles:
    """The column that has each role; None where the file has no such column."""

    prompt: str | None = None
    system: str | None = None
    input: str | None = None
    """Further text of the user, behind an instruction."""
    document: str | None = None
    """A text that the question is about, put before it."""
    prompt_id: str | None = None
    chosen: str | None = None
    rejected: str | None = None
    score_chosen: str | None = None
    score_rejected: str | None = None
    gap: str | None = None
    """Score of chosen less score of rejected."""
    first: str | None = None
    second: str | None = None
    strength: str | None = None
    """Signed: below 0 the first response is better, above 0 the second."""
    label: str | None = None
    """Which of the two responses is better."""
    subset: str | None = None
    """The part of the data that a row belongs to."""
    completions: str | None = None
    """A list of responses, each with its score or beside a list of scores."""
    scores: str | None = None
    completion: str | None = None
    """One response of a row."""
    desirable: str | None = None
    """Whether that response is a good one."""

    def columns(self) -> Iterator[str]:
        """Yield every column that has a role."""
        yield from (name for role in fields(self) if (name := getattr(self, role.name)) is not None)


def plain(name: str) -> str:
    """Return the name in lower case with `_` for every other sign: how aliases are compared."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def overrides(text: str) -> dict[str, str]:
    """Return column by role of `prompt=question,chosen=best`. Raises `HarnessError` for what is no such list."""
    known = [role.name for role in fields(Roles)]
    given: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        role, equals, column = (piece.strip() for piece in part.partition("="))
        if not equals or not column or role not in known or role in given:
            raise HarnessError(
                f"--columns got {part!r:.80}, expected ROLE=COLUMN with a ROLE of {', '.join(known)}, each once; "
                "for example prompt=question,chosen=best,rejected=worst"
            )
        given[role] = column
    return given


def roles_of(columns: Collection[str], given: str = "", where: str = "") -> Roles:
    """Return the roles of these columns; those that were given go before aliases.

    Raises `HarnessError` for a given column that the table `where` lacks; without `where` it is let pass.
    """
    asked = overrides(given)
    for role, column in asked.items():
        if column not in columns and where:
            raise HarnessError(
                f"{where}: --columns says {role}={column!r:.60}; got columns {some(sorted(columns))}, expected it "
                "among them; correct the name"
            )
    by_name = {plain(name): name for name in sorted(columns) if name not in asked.values()}
    found = {role: _first(by_name, names) for role, names in ALIASES.items()}
    found |= _scores(by_name) | _two(by_name) | asked
    prompt = found["prompt"]
    for role in ("input", "document"):  # one column has one role
        if found[role] == prompt:
            found[role] = None
    if found["document"] is not None and found["document"] == found["input"]:
        found["document"] = None
    if found["score_chosen"] is not None and found["score_rejected"] is not None and "gap" not in asked:
        found["gap"] = None
    return Roles(**found)


def _first(by_name: Mapping[str, str], names: Collection[str]) -> str | None:
    return next((by_name[name] for name in names if name in by_name), None)


def _scores(by_name: Mapping[str, str]) -> dict[str, str | None]:
    """Return the two columns of scores: any word for the side beside any word for a score, in either order."""
    half: dict[str, str | None] = {"score_chosen": None, "score_rejected": None}
    for word in SCORE_WORDS:
        for good, bad in zip(WINNERS, LOSERS, strict=True):
            for form in ("{word}_{side}", "{side}_{word}"):
                names = [by_name.get(form.format(word=word, side=side)) for side in (good, bad)]
                if all(names):
                    return {"score_chosen": names[0], "score_rejected": names[1]}
                if any(names) and not any(half.values()):
                    half = {"score_chosen": names[0], "score_rejected": names[1]}
    return half


def _two(by_name: Mapping[str, str]) -> dict[str, str | None]:
    """Return the columns of two responses of which neither is called the better one."""
    for stem in STEMS:
        for ends in ENDS:
            for form in ("{stem}_{end}", "{stem}{end}"):
                names = [by_name.get(form.format(stem=stem, end=end)) for end in ends]
                if all(names):
                    return {"first": names[0], "second": names[1]}
    return {"first": None, "second": None}
