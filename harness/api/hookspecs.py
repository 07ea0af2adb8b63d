"""The hooks a plugin may implement. Each returns values; none receives the harness.

A distribution registers its module under the entry-point group `harness`:

    [project.entry-points.harness]
    my-loss = "my_package.my_module"
"""

from __future__ import annotations

import pluggy

from harness.api.data import DatasetSource
from harness.api.loss import Loss
from harness.api.scores import ScorerSource

PROJECT = "harness"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def harness_losses() -> list[type[Loss]]:  # type: ignore[empty-body]  # a specification has no body
    """Return the loss classes of this plugin. Called once, when the plugins are listed."""


@hookspec
def harness_datasets() -> list[DatasetSource]:  # type: ignore[empty-body]  # a specification has no body
    """Return the named data sets of this plugin: what `--dataset NAME` may then say."""


@hookspec
def harness_scorers() -> list[ScorerSource]:  # type: ignore[empty-body]  # a specification has no body
    """Return the scorers of this plugin: what `--scorer NAME` may then say."""
