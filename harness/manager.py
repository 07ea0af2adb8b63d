"""Plugins: found by entry point, asked by pluggy, each failing alone."""

from __future__ import annotations

import difflib
import importlib.metadata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pluggy

from harness.api import DatasetSource, HarnessError, Loss, ScorerSource, hookspecs

Named = TypeVar("Named", bound=DatasetSource | ScorerSource)


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Who brought a plugin."""

    distribution: str
    version: str
    entry_point: str


@dataclass(frozen=True, kw_only=True)
class Manager:
    """The plugins found, and those that could not be imported."""

    hooks: pluggy.PluginManager
    owners: Mapping[str, Owner]
    """By the name pluggy knows the plugin under."""
    broken: Mapping[str, str] = field(default_factory=dict)
    """Entry point -> the distribution that brings it and the error it raised."""


def plugin_manager(entry_points: Iterable[importlib.metadata.EntryPoint] | None = None) -> Manager:
    """Return the plugins of every installed distribution; one that fails to import costs only itself."""
    hooks = pluggy.PluginManager(hookspecs.PROJECT)
    hooks.add_hookspecs(hookspecs)
    owners: dict[str, Owner] = {}
    broken: dict[str, str] = {}
    found = importlib.metadata.entry_points(group=hookspecs.PROJECT) if entry_points is None else entry_points
    for entry in sorted(set(found), key=lambda entry: (entry.name, entry.value)):
        distribution = entry.dist.name if entry.dist else "an unknown distribution"
        version = entry.dist.version if entry.dist else "unknown"
        try:
            module = entry.load()
            name = hooks.register(module, name=f"{distribution}:{entry.name}")
        except Exception as error:  # whatever a plugin raises at import, it costs only itself
            broken[entry.name] = f"plugin '{entry.name}' of {distribution} {version} failed: {type(error).__name__}: {error}"
            continue
        if name is not None:
            owners[name] = Owner(distribution=distribution, version=version, entry_point=entry.name)
    return Manager(hooks=hooks, owners=owners, broken=broken)


def losses(manager: Manager) -> dict[str, type[Loss]]:
    """Return the loss classes by name, in alphabetical order. A name that two plugins claim is an error naming both."""
    found: dict[str, type[Loss]] = {}
    owner: dict[str, str] = {}
    for plugin, classes in _answers(manager, "harness_losses"):
        for cls in classes:
            if cls.name in found and found[cls.name] is not cls:
                raise HarnessError(
                    f"two plugins bring a loss called '{cls.name}': {owner[cls.name]} and {plugin}; uninstall one of them"
                )
            found[cls.name], owner[cls.name] = cls, plugin
    return dict(sorted(found.items()))


def loss_owner(manager: Manager, name: str) -> Owner:
    """Return who brings the loss called `name`."""
    for plugin, classes in _answers(manager, "harness_losses"):
        if any(cls.name == name for cls in classes):
            return manager.owners[plugin]
    raise KeyError(name)


def datasets(manager: Manager) -> dict[str, DatasetSource]:
    """Return the data sets that plugins bring, by name."""
    return _by_name(manager, "harness_datasets", "data set")


def scorers(manager: Manager) -> dict[str, ScorerSource]:
    """Return the scorers that plugins bring, by name."""
    return _by_name(manager, "harness_scorers", "scorer")


def resolver(manager: Manager) -> Callable[[str, Mapping[str, Any]], Loss]:
    """Return `resolve(name, options)`: the loss of that name with those options, or an error with the names there are."""
    known = losses(manager)

    def resolve(name: str, options: Mapping[str, Any]) -> Loss:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f" (did you mean '{close[0]}'?)" if close else ""
            hint += f"; {manager.broken[name]}" if name in manager.broken else ""
            raise HarnessError(f"got loss '{name}', expected one of {', '.join(known)}{hint}; see `harness plugins list`")
        return known[name].from_options(options, resolve)

    return resolve


def _by_name(manager: Manager, hook: str, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    owner: dict[str, str] = {}
    for plugin, sources in _answers(manager, hook):
        for source in sources:
            if source.name in found:
                raise HarnessError(
                    f"two plugins bring a {kind} called '{source.name}': {owner[source.name]} and {plugin}; uninstall one"
                )
            found[source.name], owner[source.name] = source, plugin
    return found


def _answers(manager: Manager, hook: str) -> list[tuple[str, Any]]:
    answers = []
    for implementation in getattr(manager.hooks.hook, hook).get_hookimpls():
        try:
            answers.append((implementation.plugin_name, implementation.function()))
        except Exception as error:
            raise HarnessError(
                f"plugin '{implementation.plugin_name}' raised {type(error).__name__} in {hook}: {error}; "
                "mend it or uninstall it"
            ) from error
    return sorted(answers, key=lambda answer: answer[0])
