"""Numbers, ranks and names as text: one rule each for the leaderboards and for the reports of `compare` and `gate`.

Pure. A `form` is a format specification of Python's: `.3f`, `+.3f` with its sign, `z.4f` without a negative zero.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

MISSING = "–"
"""Stands for a number that is missing, in Markdown and HTML."""
MISSING_ON_TERMINAL = "-"
"""The same in plain text, which may end in a log file of any encoding."""
BORDERLINE = "~"
"""Stands behind a rank range that depends on a comparison too close to call."""
FEW = " ‡"
"""Behind a share of which fewer than ten prompts are wrong, or fewer than ten right."""
FEW_ON_TERMINAL = " *"
"""The same in plain text."""
WORDS = ("no", *["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"])
"""Numbers as sentences have them."""
DIGITS = 10
"""Significant digits of numbers for programs: all that do not depend on the chip."""
SPEND_FORMS = {"seconds": ".1f", "epochs": ".3g"}
"""How what training cost is written where it is no whole number."""
MARKDOWN_SIGNS = r"\`*_{}[]<>#|~"
"""What Markdown would read as more than a character."""


class Measured(Protocol):
    """A number with its interval; NaN where it is missing."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


def number(value: float | None, form: str = ".3f", missing: str = MISSING) -> str:
    """Return a number, `missing` where there is none or it is not finite."""
    return missing if value is None or not math.isfinite(value) else f"{value:{form}}"


def interval(low: float | None, high: float | None, form: str = ".3f") -> str:
    """Return `[0.512, 0.601]`, empty where an end is missing."""
    ends = number(low, form, ""), number(high, form, "")
    return f"[{', '.join(ends)}]" if all(ends) else ""


def number_with_interval(measured: Measured, form: str = ".3f", missing: str = MISSING) -> str:
    """Return `0.555 [0.512, 0.601]`, the number alone where it has no interval."""
    if not math.isfinite(measured.value):
        return missing
    return f"{number(measured.value, form)} {interval(measured.low, measured.high, form)}".rstrip()


def rank_range(low: int | None, high: int | None, borderline: bool = False) -> str:
    """Return `[1–3]`, the ranks that the data leave open; `[1–3]~` where that is `borderline`; empty if not known."""
    return "" if low is None or high is None else f"[{low}–{high}]{BORDERLINE * borderline}"


def rank_with_range(rank: int | None, low: int | None, high: int | None, borderline: bool = False) -> str:
    """Return `2 [1–3]`, `2 [1–3]~` where the range is `borderline`."""
    return MISSING if rank is None else f"{rank} {rank_range(low, high, borderline)}".rstrip()


def ranks(places: Sequence[int | None], missing: str = MISSING) -> str:
    """Return `1/2/–`."""
    return "/".join(number(place, "d", missing) for place in places)


def mebibytes(size: float | None, form: str = ".0f") -> str:
    """Return a number of bytes as `700 MiB`."""
    return MISSING if size is None or not math.isfinite(size) else f"{size / 2**20:{form}} MiB"


def prefixed(value: float) -> str:
    """Return a number at three digits with its prefix: 4.09e11 is 409 G."""
    for power, sign in ((18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if abs(value) >= 0.9995 * 10**power:
            return f"{value / 10**power:.3g} {sign}"
    return f"{value:.3g}"


def spent(name: str, value: float | None) -> str:
    """Return a number of what training cost, by its name in a record."""
    if value is None or not math.isfinite(value):
        return MISSING
    if name == "flops":
        return prefixed(value)
    return mebibytes(value, ",.0f") if name == "peak_memory_bytes" else number(value, SPEND_FORMS.get(name, ",.0f"))


def smallest_difference(detectable: float | None, planned: float | None, comparisons: int) -> str:
    """Return what the smallest difference was that a run could have detected; empty where it is not known.

    `detectable`: by the board's own test of so many `comparisons`; `planned`: by one of them, planned in advance.
    """
    difference, alone = number(detectable, missing=""), number(planned, missing="")
    if not difference:
        return ""
    if comparisons > 1:
        difference = f"{difference} among its {comparisons} comparisons, {alone} for one planned in advance"
    return f"Smallest difference this run could have detected (80 % power): {difference}"


def significant(value: float, digits: int) -> float | None:
    """Return a number at so many significant digits, without a negative zero; None where it is not finite."""
    return float(f"{value:.{digits}g}") + 0.0 if math.isfinite(value) else None


def rounded(content: Any) -> Any:
    """Return what goes into JSON with every float in it at `DIGITS` significant digits; None for the missing ones."""
    if isinstance(content, Mapping):
        return {str(key): rounded(inner) for key, inner in content.items()}
    if isinstance(content, list | tuple):
        return [rounded(inner) for inner in content]
    return significant(content, DIGITS) if isinstance(content, float) else content


def json_text(content: Any, ascii_only: bool = False) -> str:
    """Return `content` as the text of a JSON file, its numbers as `rounded` has them."""
    return json.dumps(rounded(content), indent=1, ensure_ascii=ascii_only, allow_nan=False) + "\n"


def short_name(metric: str) -> str:
    """Return a metric's name without what goes without saying: `accuracy@mean`."""
    return metric.replace("pairwise_accuracy", "accuracy")


def heading(metric: str) -> str:
    """Return what a column of a metric is called."""
    return {"pairwise_accuracy": "own reward", "pairwise_accuracy@learned": "learned"}.get(
        metric, spoken_name(short_name(metric))
    )


def spoken_name(metric: str) -> str:
    """Return a metric's name as it is read: `spearman within prompt`."""
    return metric.replace("_", " ")


def escaped_for_markdown(text: str, also: str = "") -> str:
    """Return text whose signs Markdown shows as they are. `also`: more signs that mean something where it is shown."""
    return re.sub(f"[{re.escape(MARKDOWN_SIGNS + also)}]", r"\\\g<0>", text)


def markdown_text(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return escaped_for_markdown(re.sub(r"\s+", " ", text))


def markdown_table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table from cells that are Markdown already."""
    return [f"| {' | '.join(cells)} |" for cells in (heading, ["---"] * len(heading), *rows)]


def one_line(text: str) -> str:
    """Return text on one line; control characters and lone surrogates are shown as escapes."""
    return "".join(c if c.isprintable() else " " if c.isspace() else c.encode("unicode_escape").decode() for c in text)


def counted(number: int) -> str:
    """Return a whole number as sentences have it: in words up to twelve."""
    return WORDS[number] if number < len(WORDS) else str(number)


def listed(names: Sequence[str]) -> str:
    """Return `a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def things_to_know(number: int, weightiest: Sequence[str]) -> str:
    """Return the line that a board's disclaimers fold into: how many there are, and the weightiest in a few words."""
    notes = f"{counted(number)} note{'' if number == 1 else 's'}"
    return f"To know ({notes}): {'; '.join(weightiest)}" if weightiest else f"To know: {notes}"
