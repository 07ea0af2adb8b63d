"""The installed plugins: found by entry point, registered with pluggy; a broken one costs only itself."""

from __future__ import annotations

import difflib
import importlib.metadata
import inspect
import pickle
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NoReturn

import pluggy

from harness.api import DatasetSource, HarnessError, JudgeSource, Loss, ScorerSource, Selector, hookspecs

KINDS: Mapping[str, type] = {
    "harness_losses": Loss,
    "harness_datasets": DatasetSource,
    "harness_scorers": ScorerSource,
    "harness_judges": JudgeSource,
    "harness_selectors": Selector,
}
"""For each hook, the type of what it returns a list of: of those in `CLASSES` subclasses, else instances."""
CLASSES = (Loss, Selector)
CALLED: Mapping[str, str] = {
    "harness_losses": "loss",
    "harness_datasets": "data set",
    "harness_scorers": "scorer",
    "harness_judges": "judge",
    "harness_selectors": "selector",
}
"""For each hook, what to call one of what it returns."""

TRAITS = tuple(name for name, value in vars(Loss).items() if isinstance(value, property))
"""Names of the properties by which a loss describes itself."""

RESERVED: Mapping[str, str] = {
    "all": "every loss after --plugins",
    "core": "a selection of losses after --plugins",
    "base": "the baseline row of the untrained model on a board",
    "longer-wins": "the baseline row that prefers the longer response on a board",
    "trained elsewhere": "the row of a checkpoint that the run did not train on a board",
}
"""Names that no loss may have -> what they stand for already."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The distribution that brings a plugin, and the entry point that names it."""

    distribution: str
    version: str
    entry_point: str


@dataclass(frozen=True, kw_only=True)
class Manager:
    """The plugins that work, and those that do not."""

    hooks: pluggy.PluginManager
    owners: Mapping[str, Owner]
    """By the name under which the plugin is registered with pluggy."""
    broken: Mapping[str, str] = field(default_factory=dict)
    """Entry point -> a sentence with its distribution and the error it raised on import or when a hook was called.

    `loss NAME`, `data set NAME` and so on -> a sentence with the plugins that bring another of one name each.
    """


def plugin_manager(entry_points: Iterable[importlib.metadata.EntryPoint] | None = None) -> Manager:
    """Return the plugins of every installed distribution; one that fails costs only itself.

    A plugin fails if importing it raises, if it implements an unknown hook or takes arguments that the hook does not
    have, has no hook at all, or if one of its hooks raises or returns the wrong kind of thing: every hook is called
    once here. The whole plugin is then left out and named in `broken`. A name that several bring costs that name alone.
    """
    hooks = pluggy.PluginManager(hookspecs.PROJECT)
    hooks.add_hookspecs(hookspecs)
    owners: dict[str, Owner] = {}
    broken: dict[str, str] = {}
    if entry_points is None:
        entry_points = importlib.metadata.entry_points(group=hookspecs.PROJECT)
    for entry in sorted(set(entry_points), key=lambda entry: (entry.name, entry.value)):
        distribution = entry.dist.name if entry.dist else "an unknown distribution"
        version = entry.dist.version if entry.dist else "unknown"
        name = f"{distribution}:{entry.name}"
        try:
            module = entry.load()
            if hooks.is_registered(module):  # another entry point names the same module
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
    manager = Manager(hooks=hooks, owners=owners, broken=broken)
    broken |= {f"{CALLED[hook]} {name}": reason for hook in CALLED for name, reason in _clashes(manager, hook).items()}
    return manager


def _unusable(hooks: pluggy.PluginManager) -> list[tuple[str, str]]:
    """Return (plugin, error) for plugins with a loss that cannot be used with its default options.

    Each loss is built, its traits are read, and it is pickled as for a worker process. A `HarnessError` is no fault
    here: a loss may have an option without a default, and the message is shown when somebody selects it.
    """
    brought: dict[str, list[type[Loss]]] = {
        implementation.plugin_name: _checked("harness_losses", implementation.function())
        for implementation in hooks.hook.harness_losses.get_hookimpls()
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
    """Register `module` and call each of its hooks once; where anything raises, it is not registered."""
    try:
        hooks.register(module, name=name)
        hooks.check_pending()
        callers = hooks.get_hookcallers(module) or []
        if not callers:
            raise HarnessError(
                f"got {getattr(module, '__name__', module)!r}, which has no hook, expected {', '.join(KINDS)}, or one "
                "of them, under @hookimpl; write it, or remove the entry point"
            )
        for hook in callers:
            for implementation in hook.get_hookimpls():
                if implementation.plugin is module:
                    _checked(hook.name, implementation.function())
    except BaseException:
        if hooks.get_plugin(name) is module:
            hooks.unregister(module)
        raise


def losses(manager: Manager) -> dict[str, type[Loss]]:
    """Return the loss classes by name, in alphabetical order, without names that several plugins use."""
    return of_one_plugin(manager, "harness_losses")


def of_one_plugin(manager: Manager, hook: str) -> dict[str, Any]:
    """Return what plugins bring under a hook, by name, in alphabetical order, without names that several use."""
    clashes = _clashes(manager, hook)
    return {name: items[0][1] for name, items in sorted(_brought(manager, hook).items()) if name not in clashes}


def owner_of(manager: Manager, name: str, hook: str = "harness_losses") -> Owner:
    """Return who brings the loss called `name`, or what another hook brings; the first of several."""
    for plugin, items in _answers(manager, hook):
        if any(item.name == name for item in items):
            return manager.owners[plugin]
    raise KeyError(name)


def datasets(manager: Manager) -> dict[str, DatasetSource]:
    """Return the data sets that plugins bring, by name; loading one whose name several use is an error."""
    clashes = _clashes(manager, "harness_datasets")
    unusable = {name: DatasetSource(name=name, load=partial(_refuse, reason)) for name, reason in clashes.items()}
    return {name: items[0][1] for name, items in _brought(manager, "harness_datasets").items()} | unusable


def scorers(manager: Manager) -> dict[str, ScorerSource]:
    """Return the scorers that plugins bring, by name; one whose name several use cannot run."""
    clashes = _clashes(manager, "harness_scorers")
    unusable = {
        name: ScorerSource(
            name=name,
            version=partial(str, "none"),
            why_not=partial(str, reason),
            open=partial(_refuse, reason),
        )
        for name, reason in clashes.items()
    }
    return {name: items[0][1] for name, items in _brought(manager, "harness_scorers").items()} | unusable


def judges(manager: Manager) -> dict[str, JudgeSource]:
    """Return the judges that plugins bring, by name; one whose name several use cannot judge."""
    clashes = _clashes(manager, "harness_judges")
    return {
        name: replace(items[0][1], why_not=partial(_said, clashes[name]), open=partial(_refuse, clashes[name]))
        if name in clashes
        else items[0][1]
        for name, items in _brought(manager, "harness_judges").items()
    }


def resolver(manager: Manager) -> Callable[[str, Mapping[str, Any]], Loss]:
    """Return `resolve(name, options)`, which gives the loss of that name; its error for an unknown name lists all."""
    known, clashes = losses(manager), _clashes(manager, "harness_losses")

    def resolve(name: str, options: Mapping[str, Any]) -> Loss:
        if name in clashes:
            raise HarnessError(clashes[name])
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f" (did you mean '{close[0]}'?)" if close else ""
            hint += f"; {manager.broken[name]}" if name in manager.broken else ""
            raise HarnessError(
                f"got loss '{name}', expected one of {', '.join(known)}{hint}; see `harness plugins list`"
            )
        return known[name].from_options(options, resolve)

    return resolve


def _brought(manager: Manager, hook: str) -> dict[str, list[tuple[str, Any]]]:
    """Return, by name, every (plugin, thing) that it brings of that name, each thing once."""
    by_name: dict[str, list[tuple[str, Any]]] = {}
    for plugin, items in _answers(manager, hook):
        for item in items:
            same = by_name.setdefault(item.name, [])
            if all(item is not other for _, other in same):
                same.append((plugin, item))
    return by_name


def _clashes(manager: Manager, hook: str) -> dict[str, str]:
    """Return the names that more than one thing of a kind has, each with a sentence that names the plugins."""
    return {
        name: f"several plugins bring a {CALLED[hook]} called '{name}': {' and '.join(plugin for plugin, _ in items)}, "
        "expected one; uninstall or rename the others"
        for name, items in _brought(manager, hook).items()
        if len(items) > 1
    }


def _said(reason: str, _what: str) -> str:
    return reason


def _refuse(reason: str, *_given: Any) -> NoReturn:
    raise HarnessError(reason)


def _answers(manager: Manager, hook: str) -> list[tuple[str, list[Any]]]:
    """Return (plugin, what its hook returned) in the order of the plugins' names."""
    answers = []
    for implementation in getattr(manager.hooks.hook, hook).get_hookimpls():
        plugin = implementation.plugin_name
        try:
            answers.append((plugin, _checked(hook, implementation.function())))
        except Exception as error:  # it worked in `plugin_manager`, or was registered by other means
            raise HarnessError(
                f"plugin '{plugin}' raised {type(error).__name__} in {hook}: {error}; correct it or uninstall it"
            ) from error
    return sorted(answers, key=lambda answer: answer[0])


def _checked(hook: str, answer: Any) -> list[Any]:
    """Return what a hook returned, or raise `HarnessError` where it is not a list of what the hook returns."""
    kind = KINDS[hook]
    if not isinstance(answer, list | tuple):
        raise HarnessError(f"{hook} returned {answer!r}, expected a list; correct the plugin")
    for item in answer:
        if kind in CLASSES:
            if not (isinstance(item, type) and issubclass(item, kind)):
                raise HarnessError(
                    f"{hook} returned {item!r}, expected subclasses of harness.api.{kind.__name__}; correct the plugin"
                )
            if inspect.isabstract(item):
                lacking = ", ".join(sorted(item.__abstractmethods__))
                raise HarnessError(f"{hook} returned {item.__name__}, which does not define {lacking}; write it")
        elif not isinstance(item, kind):
            raise HarnessError(f"{hook} returned {item!r}, expected harness.api.{kind.__name__}; correct the plugin")
        if not isinstance(getattr(item, "name", None), str):
            raise HarnessError(f"{hook} returned {item!r}, which has no name; give it one")
        if kind is Loss and item.name in RESERVED:
            raise HarnessError(
                f"got a loss called '{item.name}', a name that stands for {RESERVED[item.name]}; choose another"
            )
    return list(answer)
