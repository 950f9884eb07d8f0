"""Leaves of a configuration: values that hold no class of ours. jsonargparse types them."""

import dataclasses
import inspect
import math
import types
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from salticid.errors import ConfigError

LISTS = (list, tuple, Sequence)
MAPPINGS = (dict, Mapping)
_SCALARS = (bool, int, float, str, Path, Enum, type(None))


def is_leaf(hint: Any) -> bool:
    """Whether jsonargparse can type it without a class of ours."""
    if get_origin(hint) is Literal or hint is ...:
        return True
    if arguments := get_args(hint):
        return all(is_leaf(a) for a in arguments)
    return inspect.isclass(hint) and issubclass(hint, _SCALARS)


def configurable(hint: Any) -> bool:
    """Whether a value of this type may come from a file: no functions, types, protocols or untyped values."""
    if is_leaf(hint):
        return True
    if (origin := get_origin(hint)) is not None:
        return origin in (Union, types.UnionType, *LISTS, *MAPPINGS) and all(map(configurable, get_args(hint)))
    ours = inspect.isclass(hint) and hint.__module__ not in ("builtins", "abc", "collections.abc", "typing")
    return ours and not getattr(hint, "_is_protocol", False)


def typed(value: Any, hint: Any, key: str, wanted: Any = None) -> Any:
    """A leaf in its type: `1` as 1.0 where a float is asked for, text as a path, a list as a tuple.

    Text from the command line is read as the type asks: `1e-4` is a number for a float and text for a `str`.
    `wanted` is the type to name in messages, where `hint` is only the part of it that fits.

    Raises:
        ConfigError: another type, or not a number (.nan).
    """
    from jsonargparse import ArgumentError, ArgumentParser  # 0.1 s that `--help` need not pay

    if value is None and not _nullable(hint):  # to jsonargparse, None is a value that is not there
        raise ConfigError(f"{key}: expected {describe(wanted or hint)}, got null")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=hint)
    try:
        result = parser.parse_object({"value": value}, defaults=False)["value"]
    except (ArgumentError, OverflowError) as error:
        raise ConfigError(f"{key}: expected {describe(wanted or hint)}, got {short(value)}") from error
    if _has_nan(result):
        raise ConfigError(f"{key}: expected a number, got {short(value)}")
    return result


def _nullable(hint: Any) -> bool:
    return hint is type(None) or type(None) in get_args(hint)


def plain(value: Any) -> Any:
    """A default or a typed leaf as YAML holds it."""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, Mapping):
        return {name: plain(v) for name, v in value.items()}
    if dataclasses.is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
    return value


def is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(map(is_plain, value.values()))
    return value is None or isinstance(value, bool | int | float | str)


def describe(hint: Any) -> str:
    """A type in words: `one of bf16, fp32`, `int or null`, `tuple[float, float]`."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is type(None):
        return "null"
    if origin is Literal:
        return "one of " + ", ".join(str(a) for a in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(a) for a in arguments)
    if inspect.isclass(hint) and issubclass(hint, Enum):
        return "one of " + ", ".join(hint.__members__)
    if origin is not None and arguments:
        return f"{origin.__name__}[{', '.join('...' if a is ... else describe(a) for a in arguments)}]"
    return "path" if hint is Path else getattr(hint, "__name__", str(hint))


def short(value: Any) -> str:
    """A value for a message, in one line of bounded length."""
    text = "null" if value is None else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _has_nan(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_nan, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_nan, value))
    return isinstance(value, float) and math.isnan(value)
