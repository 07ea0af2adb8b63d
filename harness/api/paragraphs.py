"""The labelled paragraphs of a loss's docstrings, which say its formula and where it is from. Imports no torch."""

from __future__ import annotations

import inspect

from harness.api.loss import Loss

LABELS = ("Formula", "Reward", "Source", "Provenance", "Traps")
"""Labels of the paragraphs in a loss's module docstring."""


def paragraphs(cls: type[Loss]) -> dict[str, str]:
    """Return the labelled paragraphs of a loss, by label, one line each; those of its class replace its module's."""
    by_label: dict[str, str] = {}
    for docstring in (inspect.getdoc(inspect.getmodule(cls)), cls.__doc__):
        label = ""
        for line in inspect.cleandoc(docstring or "").splitlines():
            head, colon, rest = line.partition(":")
            if colon and head in LABELS:
                label = head
                by_label[label] = rest.strip()
            elif not line.strip():
                label = ""
            elif label:
                by_label[label] = f"{by_label[label]} {line.strip()}".strip()
    return by_label
