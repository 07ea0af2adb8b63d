"""Plugins: found by entry point, asked by pluggy, each failing alone."""

from __future__ import annotations

import difflib
import importlib.metadata
import inspect
import pickle
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pluggy

from harness.api import DatasetSource, HarnessError, Loss, ScorerSource, hookspecs

KINDS: Mapping[str, type] = {"harness_losses": Loss, "harness_datasets": DatasetSource, "harness_scorers": ScorerSource}
"""By hook: what its answer is a list of (for losses: the classes)."""

TRAITS = tuple(name for name, value in vars(Loss).items() if isinstance(value, property))
"""What a loss says of itself: properties of `Loss`."""

RESERVED: Mapping[str, str] = {
    "all": "--plugins takes for every loss",
    "core": "--plugins takes for a selection",
    "base": "a board gives its untrained reference row",
    "longer-wins": "a board gives its reference row by length",
}
"""Names that no loss may have, and what they stand for."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Who brought a plugin."""

    distribution: str
    version: str
    entry_point: str


@dataclass(frozen=True, kw_only=True)
class Manager:
    """The plugins that work, and those that do not."""

    hooks: pluggy.PluginManager
    owners: Mapping[str, Owner]
    """By the name pluggy knows the plugin under."""
    broken: Mapping[str, str] = field(default_factory=dict)
    """Entry point -> the distribution that brings it and the error it raised, at import or when asked."""


def plugin_manager(entry_points: Iterable[importlib.metadata.EntryPoint] | None = None) -> Manager:
    """Return the plugins of every installed distribution; one that fails costs only itself.

    A plugin fails where importing it raises, where it implements a hook that there is not or with arguments that the
    hook has not, and where one of its hooks raises or answers with something else than the hook returns: every hook
    is asked once here. It is then left out as a whole and named in `broken`.
    """
    hooks = pluggy.PluginManager(hookspecs.PROJECT)
    hooks.add_hookspecs(hookspecs)
    owners: dict[str, Owner] = {}
    broken: dict[str, str] = {}
    found = importlib.metadata.entry_points(group=hookspecs.PROJECT) if entry_points is None else entry_points
    for entry in sorted(set(found), key=lambda entry: (entry.name, entry.value)):
        distribution = entry.dist.name if entry.dist else "an unknown distribution"
        version = entry.dist.version if entry.dist else "unknown"
        name = f"{distribution}:{entry.name}"
        try:
            module = entry.load()
            if hooks.is_registered(module):  # two entry points to one module
                continue
            _register(hooks, module, name)
        except (Exception, SystemExit) as error:  # whatever a plugin raises, it costs only itself
            key = name if entry.name in broken else entry.name
            broken[key] = f"plugin '{entry.name}' of {distribution} {version} failed: {type(error).__name__}: {error}"
            continue
        owners[name] = Owner(distribution=distribution, version=version, entry_point=entry.name)
    for name, reason in _unusable(hooks):
        hooks.unregister(name=name)
        owner = owners.pop(name)
        key = name if owner.entry_point in broken else owner.entry_point
        broken[key] = f"plugin '{owner.entry_point}' of {owner.distribution} {owner.version} failed: {reason}"
    return Manager(hooks=hooks, owners=owners, broken=broken)


def _unusable(hooks: pluggy.PluginManager) -> list[tuple[str, str]]:
    """Return (plugin, error) of the plugins with a loss that fails with its defaults: built, asked for what it needs,
    sent to a worker process.

    What a loss itself refuses with a `HarnessError`, such as an option without a default, is said when it is asked for.
    """
    asked = hooks.hook.harness_losses.get_hookimpls()
    brought: dict[str, list[type[Loss]]] = {
        each.plugin_name: _checked("harness_losses", each.function()) for each in asked
    }
    known = {cls.name: cls for classes in brought.values() for cls in classes}

    def resolve(name: str, options: Mapping[str, Any]) -> Loss:
        if name not in known:
            raise HarnessError(f"got loss '{name}', which is not installed")
        return known[name].from_options(options, resolve)

    unusable = []
    for plugin, classes in brought.items():
        for cls in classes:
            try:
                loss = cls.from_options({}, resolve)
                for trait in TRAITS:
                    getattr(loss, trait)
                pickle.loads(pickle.dumps(loss))
            except HarnessError:
                continue
            except Exception as error:  # whatever a loss raises, it costs only its plugin
                unusable.append((plugin, f"loss '{cls.name}' with its defaults: {type(error).__name__}: {error}"))
                break
    return unusable


def _register(hooks: pluggy.PluginManager, module: Any, name: str) -> None:
    try:
        hooks.register(module, name=name)
        hooks.check_pending()
        for hook in hooks.get_hookcallers(module) or []:
            for implementation in hook.get_hookimpls():
                if implementation.plugin is module:
                    _checked(hook.name, implementation.function())
    except BaseException:
        if hooks.get_plugin(name) is module:
            hooks.unregister(module)
        raise


def losses(manager: Manager) -> dict[str, type[Loss]]:
    """Return the loss classes by name, in alphabetical order. A name that two plugins claim is an error naming both."""
    found: dict[str, type[Loss]] = {}
    owner: dict[str, str] = {}
    for plugin, classes in _answers(manager, "harness_losses"):
        for cls in classes:
            if cls.name in found and found[cls.name] is not cls:
                raise HarnessError(
                    f"two plugins bring a loss called '{cls.name}': {owner[cls.name]} and {plugin}; uninstall one"
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
    """Return `resolve(name, options)`: the loss of that name with those options, or an error naming all."""
    known = losses(manager)

    def resolve(name: str, options: Mapping[str, Any]) -> Loss:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f" (did you mean '{close[0]}'?)" if close else ""
            hint += f"; {manager.broken[name]}" if name in manager.broken else ""
            raise HarnessError(
                f"got loss '{name}', expected one of {', '.join(known)}{hint}; see `harness plugins list`"
            )
        return known[name].from_options(options, resolve)

    return resolve


def _by_name(manager: Manager, hook: str, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    owner: dict[str, str] = {}
    for plugin, sources in _answers(manager, hook):
        for source in sources:
            if source.name in found:
                raise HarnessError(
                    f"two plugins bring a {kind} called '{source.name}': "
                    f"{owner[source.name]} and {plugin}; uninstall one"
                )
            found[source.name], owner[source.name] = source, plugin
    return found


def _answers(manager: Manager, hook: str) -> list[tuple[str, list[Any]]]:
    """Return (plugin, its answer) in the order of the plugins' names."""
    answers = []
    for implementation in getattr(manager.hooks.hook, hook).get_hookimpls():
        plugin = implementation.plugin_name
        try:
            answers.append((plugin, _checked(hook, implementation.function())))
        except Exception as error:  # a plugin that was asked before and answered, or was registered by hand
            raise HarnessError(
                f"plugin '{plugin}' raised {type(error).__name__} in {hook}: {error}; mend it or uninstall it"
            ) from error
    return sorted(answers, key=lambda answer: answer[0])


def _checked(hook: str, answer: Any) -> list[Any]:
    kind = KINDS[hook]
    if not isinstance(answer, list | tuple):
        raise HarnessError(f"{hook} returned {answer!r}, expected a list; mend the plugin")
    for item in answer:
        if kind is Loss:
            if not (isinstance(item, type) and issubclass(item, Loss)):
                raise HarnessError(
                    f"{hook} returned {item!r}, expected subclasses of harness.api.Loss; mend the plugin"
                )
            if inspect.isabstract(item):
                lacking = ", ".join(sorted(item.__abstractmethods__))
                raise HarnessError(f"{hook} returned {item.__name__}, which lacks {lacking}; write it")
        elif not isinstance(item, kind):
            raise HarnessError(f"{hook} returned {item!r}, expected harness.api.{kind.__name__}; mend the plugin")
        if not isinstance(getattr(item, "name", None), str):
            raise HarnessError(f"{hook} returned {item!r}, which has no name; give it one")
        if kind is Loss and item.name in RESERVED:
            raise HarnessError(f"got a loss called '{item.name}', a name that {RESERVED[item.name]}; choose another")
    return list(answer)
