"""Hashes of functions and classes that no file holds, such as those of a notebook."""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from msgd.lab.tasks.faults import is_own_file

PLAIN = (bool, int, float, complex, str, bytes, type(None))


def fingerprint(thing: Any) -> str:
    """Hash what a function or a class does: its bytecode, and what it refers to in code of the user's own.

    Spaces and comments do not change the hash; another version of Python may.

    Args:
        thing: a function, a class, an object with methods, or data.

    Returns:
        SHA-256, as 64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for part in _parts(thing, set()):
        digest.update(part)
        digest.update(b"\0")
    return digest.hexdigest()


def _parts(thing: Any, seen: set[int]) -> Iterator[bytes]:
    if isinstance(thing, PLAIN):
        yield repr(thing).encode()
        return
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, torch.Tensor | np.ndarray):
        array = thing.detach().cpu().numpy() if isinstance(thing, torch.Tensor) else thing
        yield f"{array.shape}{array.dtype}".encode() + np.ascontiguousarray(array).tobytes()
    elif isinstance(thing, types.FunctionType):
        yield from _of_function(thing, seen)
    elif isinstance(thing, types.MethodType):
        yield from _of_each([thing.__func__, thing.__self__], seen)
    elif isinstance(thing, functools.partial):
        yield from _of_each([thing.func, thing.args, thing.keywords], seen)
    elif isinstance(thing, type):
        yield f"{thing.__module__}.{thing.__qualname__}".encode()
        if _is_own_class(thing):
            yield from _of_each([*thing.__bases__, *_own_members(thing)], seen)
    elif isinstance(thing, dict):
        yield from _of_each([each for item in thing.items() for each in item], seen)
    elif isinstance(thing, list | tuple):
        yield from _of_each(thing, seen)
    elif isinstance(thing, types.ModuleType | types.BuiltinFunctionType):
        yield str(thing.__name__).encode()
    else:
        yield from _of_each([type(thing), getattr(thing, "__dict__", None)], seen)


def _of_each(things: Any, seen: set[int]) -> Iterator[bytes]:
    for thing in things:
        yield from _parts(thing, seen)


def _own_members(thing: type) -> list[Any]:
    """What a class defines, without the names that Python adds."""
    added = ("__dict__", "__weakref__", "__module__", "__doc__", "__firstlineno__", "__static_attributes__")
    return [each for name, value in sorted(vars(thing).items()) if name not in added for each in (name, _plain(value))]


def _plain(value: Any) -> Any:
    """The function in a property, a static method or a class method."""
    if isinstance(value, property):
        return (value.fget, value.fset)
    return getattr(value, "__func__", value)


def _is_own_class(thing: type) -> bool:
    functions = [_plain(value) for value in vars(thing).values()]
    files = [each.__code__.co_filename for each in functions if isinstance(each, types.FunctionType)]
    return thing.__module__ == "__main__" or any(map(is_own_file, files))


def _of_function(function: types.FunctionType, seen: set[int]) -> Iterator[bytes]:
    yield function.__name__.encode()
    if not is_own_file(function.__code__.co_filename):
        yield str(function.__module__).encode()
        return
    names: set[str] = set()
    yield from _of_code(function.__code__, names)
    yield from _of_each([function.__defaults__, function.__kwdefaults__], seen)
    yield from _of_each([cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)], seen)
    for name in sorted(names & function.__globals__.keys()):
        yield name.encode()
        yield from _parts(function.__globals__[name], seen)


def _of_code(code: types.CodeType, names: set[str]) -> Iterator[bytes]:
    """The bytecode and the constants of a function and of the functions in it; adds the names it refers to."""
    names.update(code.co_names)
    yield code.co_code
    yield repr(code.co_varnames).encode()
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _of_code(constant, names)
        else:
            ordered = sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant
            yield repr(ordered).encode()


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - an empty cell raises
    except ValueError:
        return False
    return True
