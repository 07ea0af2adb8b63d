"""Losses that no distribution brings: instances of classes that a script or a notebook defined, or imported.

They are registered for one run under their name, and are named in its selection with the hash of their source, so that
folders, cells and boards tell the versions of an edited loss apart.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import cloudpickle

from harness.api import HarnessError, Loss, hookimpl
from harness.api.loss import Resolve
from harness.api.wrapper import with_inner
from harness.execute.loss_source import source_hash
from harness.manager import RESERVED, Manager, Owner, losses, resolver
from harness.planning.grid import System, label, own_label, selection

NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


@dataclass(frozen=True, kw_only=True)
class OwnLoss:
    """A class of losses that no distribution brings."""

    cls: type[Loss]
    source: str
    """The sha256 of its source, in hex."""

    @property
    def label(self) -> str:
        """What a selection of losses and a board call it."""
        return own_label(self.cls.name, self.source)

    @property
    def owner(self) -> Owner:
        """What records say of where it is from."""
        module = self.cls.__module__
        return Owner(distribution=f"defined in {module}", version=f"source sha256 {self.source}", entry_point=module)

    @hookimpl
    def harness_losses(self) -> list[type[Loss]]:
        """Return the class."""
        return [self.cls]


def selected(given: Sequence[str | Loss], manager: Manager) -> tuple[str, tuple[OwnLoss, ...]]:
    """Return the selection, as `--plugins` has it, of losses given by name or as instances, and those not installed.

    Raises `HarnessError` for a loss that cannot be told apart, written down or sent to a worker process.
    """
    known, found = losses(manager), dict[str, OwnLoss]()
    for loss in (inner for each in given if isinstance(each, Loss) for inner in with_inner(each)):
        before = found[loss.name].cls if loss.name in found else known.get(loss.name)
        if before is type(loss):
            continue
        if before is not None:
            raise HarnessError(
                f"got a loss '{loss.name}' defined in {type(loss).__module__}, expected a name that is not taken: "
                f"{before.__module__} has a loss of that name; change its `name`"
            )
        found[loss.name] = _own(type(loss))
    own = tuple(found.values())
    resolve = resolver_with(with_own(manager, own), own)
    return ",".join(each if isinstance(each, str) else _written(each, own, resolve) for each in given), own


def with_own(manager: Manager, own: Sequence[OwnLoss]) -> Manager:
    """Return the manager, which knows these losses too from now on."""
    for each in own:
        manager.hooks.register(each, name=each.label)
    return replace(manager, owners={**manager.owners, **{each.label: each.owner for each in own}})


def resolver_with(manager: Manager, own: Sequence[OwnLoss]) -> Resolve:
    """Return `resolve(name, options)`, which knows these losses by their labels too."""
    known = {**losses(manager), **{each.label: each.cls for each in own}}
    installed = resolver(manager)

    def resolve(name: str, options: Mapping[str, Any]) -> Loss:
        if name in known:
            return known[name].from_options(options, resolve)
        if "@" in name:
            raise HarnessError(
                f"got loss '{name}', which was defined in Python and is not installed; run the script or notebook that "
                "defines it, which gives it to harness.run(losses=[...]), or install it as a plugin"
            )
        return installed(name, options)

    return resolve


def with_source(system: System, own: Sequence[OwnLoss]) -> System:
    """Return the system with the hash of its source, where a loss in it is not installed: of several one over all."""
    sources = {each.cls: each.source for each in own}
    found = [sources[type(loss)] for loss in with_inner(system.loss) if type(loss) in sources]
    together = found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()
    return replace(system, source=together) if found else system


def _own(cls: type[Loss]) -> OwnLoss:
    """Return a class that is not installed, with its source; workers get it by value where they cannot import it."""
    name = getattr(cls, "name", None)
    if not (isinstance(name, str) and NAME.fullmatch(name)) or name in RESERVED:
        raise HarnessError(
            f"got loss {cls.__name__} with the name {name!r}, expected lower-case letters, digits and dashes, and none "
            f"of {', '.join(RESERVED)}; write name: ClassVar[str] = ... into the class"
        )
    module = cls.__module__
    if module != "__main__" and importlib.machinery.PathFinder.find_spec(module.partition(".")[0]) is None:
        cloudpickle.register_pickle_by_value(sys.modules[module])
    return OwnLoss(cls=cls, source=source_hash(cls))


def _written(loss: Loss, own: Sequence[OwnLoss], resolve: Resolve) -> str:
    """Return a loss as a selection has it, with the options that are not its defaults."""
    name, flat = _name(loss, own), _flat(loss, own)
    try:
        for option in list(flat):
            fewer = {other: value for other, value in flat.items() if other != option}
            if _options(name, fewer, resolve) == loss.options():
                flat = fewer
        text = f"{name}:{label(name, flat)[len(name) + 1 : -1]}" if flat else name
        if selection(text, []) == [(name, flat)] and _options(name, flat, resolve) == loss.options():
            cloudpickle.dumps(loss)
            return text
    except HarnessError:
        raise
    except Exception as error:
        raise HarnessError(
            f"loss '{loss.name}': got {type(error).__name__}: {error}, expected one that can be built from its options "
            "and sent to another process; define it at the top of a script, a module or a notebook cell"
        ) from error
    raise HarnessError(
        f"loss '{loss.name}': got options {loss.options()}, expected numbers, words, yes and no, or None, which can be "
        "written as option=value and read back; change the types of its fields"
    )


def _options(name: str, given: Mapping[str, str], resolve: Resolve) -> Mapping[str, Any] | None:
    """Return all options of the loss that has been given these; None where it refuses them."""
    try:
        return resolve(name, given).options()
    except HarnessError:
        return None


def _name(loss: Loss, own: Sequence[OwnLoss]) -> str:
    return next((each.label for each in own if each.cls is type(loss)), loss.name)


def _flat(loss: Loss, own: Sequence[OwnLoss]) -> dict[str, str]:
    """Return every option with its value as text, those of wrapped losses with a prefix; see `Loss.options`."""
    flat: dict[str, str] = {}
    for field in (field for field in fields(loss) if field.init):
        value = getattr(loss, field.name)
        if isinstance(value, Loss):
            flat[field.name] = _name(value, own)
            flat |= {f"{field.name}.{option}": text for option, text in _flat(value, own).items()}
        else:
            flat[field.name] = _text(value)
    return flat


def _text(value: Any) -> str:
    """Return a value as people write it: 2 and 0.1, not 2.0 and 0.10000000000000001."""
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return short if not isinstance(value, float) or float(short) == value else repr(value)
