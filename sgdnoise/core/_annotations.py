"""The kind of an argument by its annotation."""

import os
from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter, isclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import numpy as np

from sgdnoise.core._scalars import check_numbers, described, has_axes, number_of, whole_of

Taker = Callable[[str, Any], Any]


def taker_of_annotation(annotation) -> Taker | None:
    """A function of name and value that returns the value, or raises ValueError for another kind.

    None for an annotation that says nothing, such as Any, a text or a protocol.
    """
    parts = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    known = [_taker(part) for part in parts if part is not NoneType]
    if len(known) != 1 or known[0] is None:  # of several kinds, the function itself chooses
        return None
    taker = known[0]
    if NoneType not in parts:
        return taker
    return lambda name, value: None if value is None else taker(name, value)


def _taker(annotation) -> Taker | None:
    if annotation in (Any, Parameter.empty) or isinstance(annotation, str):
        return None
    if annotation in _TAKERS:
        return _TAKERS[annotation]
    origin = get_origin(annotation) or annotation
    if origin is Callable:
        return _function
    if not isclass(origin):
        return None
    if issubclass(origin, Mapping):
        return _mapping
    if issubclass(origin, Iterable) and get_args(annotation) and origin is not tuple:
        return None if str in get_args(annotation) else _iterable  # a text is one of texts
    return _instance_of(origin) if _is_concrete(origin) else None


def _is_concrete(kind) -> bool:
    """Whether a class of the package, or a module of torch, that its arguments must be."""
    of_package = kind.__module__.startswith("sgdnoise.") and not getattr(kind, "_is_protocol", 0)
    return of_package or f"{kind.__module__}.{kind.__name__}" == "torch.nn.modules.module.Module"


def _number(name, value):
    """A number, or an array, or what is not known yet; not nan."""
    if has_axes(value):
        check_numbers(name, value)
        return value
    if callable(value) or isinstance(value, (tuple, list, dict, set)):
        raise ValueError(f"{name} must be a number, not {described(value)}")
    number = number_of(name, value)
    if number is None and not hasattr(value, "ndim"):
        raise ValueError(f"{name} must be a number, not {described(value)}")
    if number is not None and number != number:
        raise ValueError(f"{name} must be a number, not nan")
    return value


def _whole(name, value):
    """A whole number as an int, or an array of them."""
    _number(name, value)
    if has_axes(value):
        return value
    whole = whole_of(name, value)
    return value if whole is None else whole


def _flag(name, value):
    if isinstance(value, (bool, np.bool_)) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    raise ValueError(f"{name} must be True or False, not {described(value)}")


def _text(name, value):
    if isinstance(value, str):
        return value
    raise ValueError(f"{name} must be a text, not {described(value)}")


def _path(name, value):
    if isinstance(value, (str, os.PathLike)):
        return value
    raise ValueError(f"{name} must be a path, not {described(value)}")


def _function(name, value):
    if callable(value):
        return value
    raise ValueError(f"{name} must be a function, not {described(value)}")


def _mapping(name, value):
    if isinstance(value, Mapping):
        return value
    raise ValueError(f"{name} must be a dictionary, not {described(value)}")


def _iterable(name, value):
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise ValueError(f"{name} must be a sequence, not {described(value)}")
    return value


def _instance_of(kind) -> Taker:
    def taker(name, value):
        if isinstance(value, kind):
            return value
        raise ValueError(f"{name} must be a {kind.__name__}, not {described(value)}")

    return taker


_TAKERS: dict[Any, Taker] = {
    int: _whole,
    float: _number,
    bool: _flag,
    str: _text,
    Path: _path,
}
