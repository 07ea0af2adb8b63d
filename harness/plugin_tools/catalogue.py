"""The catalogue of the shipped losses: one Markdown page, made of what their files say of themselves."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping

from harness.api import HarnessError, Loss
from harness.manager import loss_owner, losses, plugin_manager
from harness.plugin_tools.listing import default_loss, family, needs

SHIPPED = "preference-harness"
"""The distribution whose losses the page lists."""
LABELS = ("Formula", "Reward", "Source", "Provenance", "Traps")
"""The labelled paragraphs of a loss's module docstring."""
HEAD = ("Name", "Formula", "Reward", "Family", "Needs", "Mark", "Source", "Options and defaults")
PAGE = """\
# The shipped losses

Each of the {count} losses is one file in [`plugins/`](../plugins), and this page is what those files say. It is made by
`harness plugins catalogue > docs/losses.md`; a test compares the two. `harness plugins show NAME` adds the meaning and
the range of every option, and the traps. [Write a loss](write-a-loss.md) tells how to add one.

**Symbols.** S: log-prob of a response, summed over its tokens (prompt excluded, end-of-turn token included). n: the
number of these tokens. A = S / n. R: S under the frozen reference model. h = S - R. Subscript w: chosen, l: rejected;
h alone is h_w - h_l. A formula is the loss of one pair; the loss of a step is the mean over its pairs.

**Family.** How the two responses meet (pairwise: through their difference; pointwise: each is held against a target of
its own; unpaired: a label a response would do), whether a reference model takes part, whether the *reward* is summed
or averaged over the response tokens, and for a loss around another one which it is around by default.

**Needs.** What a loss asks for beyond the policy's log-probs of the two responses.

**Mark.** V: agrees with values computed by the authors' or another library's code. P: from the paper's own text. S:
from third-party code; the original was not read. R: reconstructed. The docstring's paragraph Provenance says more.

{table}"""


def catalogue() -> str:
    """Return the page. A paragraph that a loss does not write is an empty cell.

    Raises `HarnessError` where a shipped loss cannot be imported or built: a page without it would look complete.
    """
    manager = plugin_manager()
    lost = [reason for reason in manager.broken.values() if f" of {SHIPPED} " in reason]
    if lost:
        raise HarnessError("; ".join(lost))
    ours = [name for name in losses(manager) if loss_owner(manager, name).distribution == SHIPPED]
    rows = [row(loss, paragraphs(type(loss))) for loss in (default_loss(manager, name) for name in ours)]
    lines = [HEAD, ("---",) * len(HEAD), *rows]
    return PAGE.format(count=len(rows), table="\n".join(f"| {' | '.join(cells)} |" for cells in lines))


def paragraphs(cls: type[Loss]) -> dict[str, str]:
    """Return the labelled paragraphs of the loss's module docstring, each as one line; its class's win."""
    found: dict[str, str] = {}
    for said in (inspect.getdoc(inspect.getmodule(cls)), cls.__doc__):
        label = ""
        for line in inspect.cleandoc(said or "").splitlines():
            head, colon, rest = line.partition(":")
            if colon and head in LABELS:
                label = head
                found[label] = rest.strip()
            elif not line.strip():
                label = ""
            elif label:
                found[label] = f"{found[label]} {line.strip()}".strip()
    return found


def row(loss: Loss, said: Mapping[str, str]) -> tuple[str, ...]:
    """Return the cells of one loss, in the order of `HEAD`."""
    mark = re.match(r"\[(\w)\]", said.get("Provenance", ""))
    source = re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", escaped(said.get("Source", "")))
    options = [f"`{key}={_written(value)}`" for key, value in loss.options().items() if "." not in key]
    return (
        f"`{loss.name}`",
        escaped(said.get("Formula", "").removesuffix(".")),
        escaped(said.get("Reward", "").removesuffix(".")),
        family(loss),
        ", ".join(map(escaped, needs(loss))),
        mark[1] if mark else "",
        source,
        " ".join(options),
    )


def escaped(text: str) -> str:
    """Return plain text as Markdown that shows it unchanged in a table cell; `code` stays code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # a lone backtick marks nothing
        return _plain(text)
    return "`".join(part.replace("|", r"\|") if code % 2 else _plain(part) for code, part in enumerate(parts))


def _plain(text: str) -> str:
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", text).replace("&", "&amp;").replace("<", "&lt;")


def _written(value: object) -> str:
    """Return an option's value as it is written after `--plugins`."""
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
