"""What a row is: a digest of its parts, by which a reader's own method is told from another of the same name.

Parts are builders, mostly closures and partials. A function is what it was compiled to, with its closure, its defaults
and the values of its own module that it reads; what comes with a library, `falw` among them, goes by name, and so does
whatever is reached through another module.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch

import falw
from falw.methods import ABOUT, SHIPPED, Method

CAME_LATER = ("sampling", "enlarge")  # fields from after the first rows of readers were stored: None says nothing


def is_shipped(row: Method) -> bool:
    """Whether the package has this row under this name; raises ValueError for another row under a name of its own."""
    known = SHIPPED.get(row.name)
    if known is None or known is row:
        return known is row
    if fingerprint(row) != fingerprint(known):
        raise ValueError(f"row '{row.name}' is not the package's row of that name: call it otherwise, name='...'")
    return True


def fingerprint(row: Method) -> str:
    """12 hexadecimal digits of what a row does, whatever it is called. Another version of Python gives others.

    Raises ValueError for a part that holds what cannot be told from another of its kind.
    """
    parts = {}
    for field in fields(row):
        if field.name not in ABOUT and not (field.name in CAME_LATER and getattr(row, field.name) is None):
            try:
                parts[field.name] = _described(getattr(row, field.name), ())
            except TypeError as error:
                hint = "take it from the task, or give the numbers that make it"
                raise ValueError(f"{field.name} of row '{row.name}' holds {error}: {hint}") from None
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def _described(value: Any, outer: tuple) -> Any:
    """A value as JSON has it; `outer` are the values that it is part of, which may be part of it again."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | torch.dtype | torch.device):
        return repr(value)
    if any(value is other for other in outer):
        return ["again", [other is value for other in outer].index(True)]
    inner = functools.partial(_described, outer=(*outer, value))
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        return [str(value.dtype), value.tolist()]
    if isinstance(value, dict):
        return ["dict", *([inner(k), inner(v)] for k, v in value.items())]
    if isinstance(value, set | frozenset):
        return ["set", *sorted(json.dumps(inner(v)) for v in value)]
    if isinstance(value, list | tuple):
        return [type(value).__name__, *map(inner, value)]
    if isinstance(value, functools.partial):
        return ["partial", *map(inner, (value.func, value.args, value.keywords))]
    if isinstance(value, MethodType):
        return ["method", inner(value.__func__), inner(value.__self__)]
    return ["object", *_of_object(value, inner)]


def _of_object(value: Any, inner: Any) -> Iterator[Any]:
    if isinstance(value, ModuleType):
        yield value.__name__
    elif isinstance(value, FunctionType):
        yield from _of_function(value, inner)
    elif isinstance(value, CodeType):
        yield [value.co_code.hex(), value.co_names, *map(inner, value.co_consts)]
    elif isinstance(value, type):
        if _of_library(value.__module__):
            yield f"{value.__module__}.{value.__qualname__}"
        else:
            yield from (inner(base) for base in value.__bases__)
            members = ((name, _unwrapped(member)) for name, member in vars(value).items())
            yield from ([n, inner(m)] for n, m in members if isinstance(m, FunctionType) or not n.startswith("__"))
    elif isinstance(value, BuiltinFunctionType) and isinstance(value.__self__, type | ModuleType | None):
        yield value.__qualname__
    elif hasattr(value, "__dict__"):
        yield from (inner(type(value)), inner(vars(value)))
    else:
        raise TypeError(f"a {type(value).__name__}, which cannot be told from another")


def _of_function(value: FunctionType, inner: Any) -> Iterator[Any]:
    yield from ([name, inner(c.cell_contents)] for name, c in zip(value.__code__.co_freevars, value.__closure__ or ()))
    if _of_library(value.__module__):
        yield f"{value.__module__}.{value.__qualname__}"
    else:
        names = sorted(set(_global_names(value.__code__)) & set(value.__globals__))
        yield from ([name, inner(value.__globals__[name])] for name in names)
        yield from map(inner, (value.__code__, value.__defaults__, value.__kwdefaults__, vars(value)))


def _global_names(code: CodeType) -> Iterator[str]:
    """The names that a function reads of its module, functions inside it included."""
    yield from (i.argval for i in dis.get_instructions(code) if i.opname == "LOAD_GLOBAL")
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)


def _unwrapped(member: Any) -> Any:
    """The functions of a property, a static or a class method; anything else as it is."""
    if isinstance(member, property):
        return [member.fget, member.fset, member.fdel]
    return getattr(member, "__func__", member)


def _of_library(module: str | None) -> bool:
    """Whether a module is of the package, the standard library or what is installed beside it."""
    top = (module or "").partition(".")[0]
    if top in (falw.__name__, *sys.stdlib_module_names):
        return True
    file = getattr(sys.modules.get(top), "__file__", None)
    return bool(file) and bool({"site-packages", "dist-packages"} & set(Path(file).parts))
