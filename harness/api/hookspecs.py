"""The hooks that a plugin may implement. Each takes nothing and returns a list.

A distribution registers its module under the entry-point group `harness`:

    [project.entry-points.harness]
    my-loss = "my_package.my_module"
"""

from __future__ import annotations

import pluggy

from harness.api.data import DatasetSource
from harness.api.judging import JudgeSource
from harness.api.loss import Loss
from harness.api.scores import ScorerSource
from harness.api.selection import Selector

PROJECT = "harness"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def harness_losses() -> list[type[Loss]]:  # type: ignore[empty-body]  # a specification has no body
    """Return the loss classes of this plugin."""


@hookspec
def harness_datasets() -> list[DatasetSource]:  # type: ignore[empty-body]  # a specification has no body
    """Return the data sets of this plugin, which `--dataset NAME` may then name."""


@hookspec
def harness_scorers() -> list[ScorerSource]:  # type: ignore[empty-body]  # a specification has no body
    """Return the scorers of this plugin, which `--scorer NAME` may then name."""


@hookspec
def harness_judges() -> list[JudgeSource]:  # type: ignore[empty-body]  # a specification has no body
    """Return the judges of this plugin, which `--judge NAME` may then name."""


@hookspec
def harness_selectors() -> list[type[Selector]]:  # type: ignore[empty-body]  # a specification has no body
    """Return the selectors of this plugin, classes, which `--select NAME` may then name."""
