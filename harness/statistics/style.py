"""How an answer looks: its length and its Markdown, counted. Imports no torch.

What Chatbot Arena and Arena-Hard control for (Li, Angelopoulos & Chiang 2024, "Does style matter?", the LMSYS blog of
29 August 2024): tokens, headers, list items, bold. Counts in code blocks do not count. Two differences: a block that
was never closed, as in an answer that was cut off, reaches to the end, and single backticks open none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from harness.statistics.intervals import Floats

FEATURES = ("tokens", "headers", "lists", "bold")
"""What a judge's liking is fitted for, in the order of the columns."""
_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_HEADER = re.compile(r"^#{1,6}[ \t]", re.MULTILINE)
_ITEM = re.compile(r"^[ \t]*(?:\d+\.|[-*+])[ \t]", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")


@dataclass(frozen=True, kw_only=True)
class Style:
    """Counts of one answer."""

    characters: int
    """Code points of the whole text."""
    tokens: int
    """As given: of the model's tokenizer, or whatever counts alike for all."""
    headers: int
    """Lines that begin with one to six # and a space."""
    lists: int
    """Lines that begin an item, after any indent: -, * or + or a number with a dot, and a space."""
    bold: int
    """Pieces within a line between two ** or two __."""

    @property
    def row(self) -> tuple[int, int, int, int]:
        """The counts of `FEATURES`."""
        return self.tokens, self.headers, self.lists, self.bold


def style_of(text: str, tokens: int) -> Style:
    """Return the counts of an answer of so many tokens."""
    prose = _CODE.sub("", text)
    return Style(
        characters=len(text),
        tokens=tokens,
        headers=len(_HEADER.findall(prose)),
        lists=len(_ITEM.findall(prose)),
        bold=len(_BOLD.findall(prose)),
    )


def style_differences(first_n4: Floats, second_n4: Floats) -> Floats:
    """Return how the first answer's style differs from the second's, (n, 4), from the counts of `FEATURES` of each.

    Length: (l1 - l2) / (l1 + l2), so from -1 to 1. Headers, lists and bold: with d the number per token, (d1 - d2) /
    (d1 + d2 + 1), as Arena-Hard has it. Two answers without a token differ by 0.
    """
    length = np.stack([first_n4[:, 0], second_n4[:, 0]])
    total = length.sum(0)
    apart = np.where(total > 0, length[0] - length[1], 0.0) / np.where(total > 0, total, 1.0)
    first, second = (
        first_n4[:, 1:] / np.maximum(length[0], 1)[:, None],
        second_n4[:, 1:] / np.maximum(length[1], 1)[:, None],
    )
    return np.column_stack([apart, (first - second) / (first + second + 1)])
