"""The source of a loss that no distribution brings, by which its results are known: an edited loss is another one.

It is the text of its class and of all that the class uses and that is not installed either: its bases, the functions,
classes and constants of its module or notebook, modules of the same project. In notebooks it is found by the methods of
the class: their cells are known to Python by name, while the class itself is not.
"""

from __future__ import annotations

import ast
import dis
import hashlib
import inspect
import linecache
import pickle
import sys
import sysconfig
import textwrap
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from harness.api import HarnessError, Loss

OURS = ("harness", "harness_plugins")
"""Packages whose versions are in every record."""
GLOBAL = ("LOAD_GLOBAL", "LOAD_NAME")
"""The operations of Python's bytecode that read a global."""
INSTALLED = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def source_hash(cls: type[Loss]) -> str:
    """Return the sha256 over the source of a loss and of what it uses that is not installed, in hex.

    Raises `HarnessError` where there is no source.
    """
    parts: dict[str, str] = {}
    _collect(cls, parts, cls.name)
    return hashlib.sha256("\0".join(f"{name}\0{parts[name]}" for name in sorted(parts)).encode()).hexdigest()


def is_installed(module: str) -> bool:
    """Return whether a module is part of Python, of the harness or of an installed distribution."""
    root = module.partition(".")[0]
    if root == "__main__":
        return False
    if root in sys.stdlib_module_names or root in OURS:
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is not None and (str(Path(file)).startswith(INSTALLED) or "site-packages" in Path(file).parts)


def _collect(thing: Any, parts: dict[str, str], loss: str) -> None:
    """Add the source of a class or function, and of what it uses, to `parts`, by qualified name."""
    if is_installed(thing.__module__ or "builtins"):
        return
    name = f"{thing.__module__}.{thing.__qualname__}"
    if name in parts:
        return
    parts[name] = _text(thing, loss)
    if isinstance(thing, type):
        for base in thing.__bases__:
            _collect(base, parts, loss)
        for attribute, member in list(vars(thing).items()):
            if _is_plain(member) and not attribute.startswith("__"):
                parts[f"{name}.{attribute}"] = repr(member)  # its text may name a constant
            for function in _functions(member):
                _used(function, parts, loss)
    else:
        _used(thing, parts, loss)


def _functions(member: Any) -> Iterator[FunctionType]:
    """Yield the functions behind a member of a class that were written down, not made by `dataclass`."""
    inner = getattr(member, "__func__", member)  # class and static methods
    found = (inner.fget, inner.fset) if isinstance(inner, property) else (getattr(inner, "func", inner),)
    for function in map(inspect.unwrap, (each for each in found if callable(each))):
        if isinstance(function, FunctionType) and not _made(function):
            yield function


def _made(function: FunctionType) -> bool:
    """Return whether nobody wrote a function down in this class: `dataclass` and the like made it."""
    file = function.__code__.co_filename
    return file == "<string>" or file.startswith(INSTALLED)


def _used(function: FunctionType, parts: dict[str, str], loss: str) -> None:
    """Add the globals and the variables of enclosing functions that a function reads."""
    closed = inspect.getclosurevars(function).nonlocals
    used = {name: function.__globals__[name] for name in _names(function.__code__) if name in function.__globals__}
    for name, value in {**used, **closed}.items():
        _add_value(f"{function.__module__}:{name}", value, parts, loss)


def _names(code: CodeType) -> set[str]:
    """Return the names of the globals that a code object reads, and those of functions inside it."""
    inner = [_names(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return {each.argval for each in dis.get_instructions(code) if each.opname in GLOBAL}.union(*inner)


def _add_value(place: str, value: Any, parts: dict[str, str], loss: str) -> None:
    if isinstance(value, ModuleType):
        namespace = hasattr(value, "__path__") and getattr(value, "__file__", None) is None
        if not namespace and not is_installed(value.__name__):
            parts[place] = _module_text(value, loss)
    elif isinstance(value, partial):
        for number, each in enumerate((value.func, *value.args, *sorted(value.keywords.items()))):
            _add_value(f"{place}.{number}", each, parts, loss)
    elif isinstance(value, type | FunctionType):
        _collect(value, parts, loss)
    elif hasattr(value, "__qualname__") and is_installed(value.__module__ or "builtins"):
        return  # a function written in C
    else:
        _collect(type(value), parts, loss)
        parts[place] = _value_text(place, value, loss)


def _is_plain(value: Any) -> bool:
    """Return whether a value is numbers and text through and through, so that it is always printed alike."""
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    if isinstance(value, Mapping):
        return all(_is_plain(each) for item in value.items() for each in item)
    return isinstance(value, bool | int | float | complex | str | bytes | type(None))


def _value_text(place: str, value: Any, loss: str) -> str:
    if isinstance(value, set | frozenset):
        value = sorted(value, key=repr)
    if _is_plain(value):
        return repr(value)
    try:
        return hashlib.sha256(pickle.dumps(value, protocol=4)).hexdigest()
    except Exception as error:
        raise HarnessError(
            f"loss '{loss}': got {place.partition(':')[2]}, a {type(value).__name__} that its code reads and whose "
            f"content cannot be told ({error}), expected functions, numbers or text; make it a field of the loss"
        ) from None


def _module_text(module: ModuleType, loss: str) -> str:
    try:
        return inspect.getsource(module)
    except (OSError, TypeError):
        raise HarnessError(
            f"loss '{loss}': got module {module.__name__}, whose source is not there, expected a file; write it in one"
        ) from None


def _text(thing: Any, loss: str) -> str:
    """Return the source of a class or function as it stands in its file or notebook."""
    found = _class_text(thing) if isinstance(thing, type) else None
    if found is None:
        try:
            found = inspect.getsource(thing)
        except (OSError, TypeError):
            raise HarnessError(
                f"loss '{loss}': got {thing.__qualname__} of {thing.__module__}, whose source is not there, expected a "
                "class in a file or in a cell of a notebook, with a method; write it in a file and import it"
            ) from None
    return textwrap.dedent(found)


def _class_text(cls: type) -> str | None:
    """Return the source of the class around one of its methods; None where it has none, or its lines are not known."""
    for function in (function for member in vars(cls).values() for function in _functions(member)):
        if function.__qualname__.rpartition(".")[0] != cls.__qualname__:
            continue  # defined elsewhere and put in
        linecache.checkcache(function.__code__.co_filename)  # it may have been edited since
        lines = linecache.getlines(function.__code__.co_filename, function.__globals__)
        try:
            tree = ast.parse("".join(lines))
        except SyntaxError:
            continue
        line = function.__code__.co_firstlineno
        around = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef)
            and node.name == cls.__name__
            and node.lineno <= line <= (node.end_lineno or 0)
        ]
        if around:
            node = around[-1]
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            return "".join(lines[first - 1 : node.end_lineno])
    return None
