"""The catalogue of the shipped losses: one Markdown page, made from the docstrings of their files."""

from __future__ import annotations

import re
from collections.abc import Mapping

from harness.api import HarnessError, Loss
from harness.api.paragraphs import paragraphs
from harness.manager import losses, owner_of, plugin_manager
from harness.plugin_tools.listing import default_loss, family, needs

SHIPPED = "preference-harness"
"""The distribution whose losses the page lists."""
HEAD = ("Name", "Formula", "Reward", "Family", "Needs", "Mark", "Source", "Options and defaults")
PAGE = """\
# The shipped losses

Each of the {count} losses is one file in [`plugins/`](../plugins), and this page is made from their docstrings by
`harness plugins catalogue > docs/losses.md`; a test compares the two. `harness plugins show NAME` adds the meaning and
the range of every option, and the traps. [Write a loss](write-a-loss.md) explains how to add one.

**Symbols.** S: log-prob of a response, summed over its tokens (prompt excluded, end-of-turn token included). n: the
number of these tokens. A = S / n. R: S under the frozen reference model. h = S - R. Subscript w: chosen, l: rejected;
h alone is h_w - h_l. A formula is the loss of one pair; the loss of a step is the mean over its pairs.

**Family.** How the two responses enter the loss (pairwise: through their difference; pointwise: each is compared with a
target of its own; unpaired: one good-or-bad label per response would do), whether a reference model takes part, whether
the *reward* is summed or averaged over the response tokens, and, for a loss around another one, its default base.

**Needs.** What a loss needs beyond the policy's log-probs of the two responses.

**Mark.** V: agrees with values computed by the authors' or another library's code. P: from the paper's own text. S:
from third-party code; the original was not read. R: reconstructed. The docstring's paragraph Provenance says more.

{table}"""


def catalogue() -> str:
    """Return the page. The cell of a paragraph that a loss does not have is empty.

    Raises `HarnessError` if a shipped loss cannot be imported or built: a page without it would look complete.
    """
    manager = plugin_manager()
    lost = [reason for reason in manager.broken.values() if f" of {SHIPPED} " in reason or f" {SHIPPED}:" in reason]
    if lost:
        raise HarnessError("; ".join(lost))
    ours = [name for name in losses(manager) if owner_of(manager, name).distribution == SHIPPED]
    rows = [row(loss, paragraphs(type(loss))) for loss in (default_loss(manager, name) for name in ours)]
    lines = [HEAD, ("---",) * len(HEAD), *rows]
    return PAGE.format(count=len(rows), table="\n".join(f"| {' | '.join(cells)} |" for cells in lines))


def row(loss: Loss, by_label: Mapping[str, str]) -> tuple[str, ...]:
    """Return the cells of one loss, in the order of `HEAD`."""
    mark = re.match(r"\[(\w)\]", by_label.get("Provenance", ""))
    source = re.sub(
        r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", escaped(by_label.get("Source", ""))
    )
    options = [f"`{key}={_written(value)}`" for key, value in loss.options().items() if "." not in key]
    return (
        f"`{loss.name}`",
        escaped(by_label.get("Formula", "").removesuffix(".")),
        escaped(by_label.get("Reward", "").removesuffix(".")),
        family(loss),
        ", ".join(map(escaped, needs(loss))),
        mark[1] if mark else "",
        source,
        " ".join(options),
    )


def escaped(text: str) -> str:
    """Return plain text as Markdown that shows it unchanged in a table cell; text in backticks stays code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # an unpaired backtick marks no code
        return _plain(text)
    return "`".join(part.replace("|", r"\|") if code % 2 else _plain(part) for code, part in enumerate(parts))


def _plain(text: str) -> str:
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", text).replace("&", "&amp;").replace("<", "&lt;")


def _written(value: object) -> str:
    """Return an option's value as it is written after `--plugins`."""
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
