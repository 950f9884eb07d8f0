"""Check a configuration against the types of the classes it describes, and build them.

A *plain* value is what YAML holds: text, numbers, booleans, null, lists, mappings. `resolve` takes a plain
value and a type to the plain value with every default written out; `build` takes that to the object. Where
the type is a dataclass the value is a mapping of its fields; where it is another class, a `class_path` with
`init_args`. Everything else is a *leaf*, and jsonargparse types it: it is never handed a class, so it never
imports one.
"""

import dataclasses
import functools
import inspect
import operator
import types
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, Union, get_args, get_origin, get_type_hints

from salticid.config.classes import find_class
from salticid.config.leaves import LISTS, MAPPINGS, configurable, describe, is_leaf, is_plain, plain, short, typed
from salticid.errors import ConfigError

MISSING = inspect.Parameter.empty


@dataclasses.dataclass(frozen=True)
class Field:
    """A value that a class takes."""

    hint: Any
    default: Any = MISSING


def fields_of(cls: Callable) -> dict[str, Field]:
    """What `cls` (or a function) can be given by name, from its signature.

    Parameters that a configuration must not set (functions, classes, anything) are left out.

    Raises:
        ConfigError: one of those has no default, so that the class cannot be configured.
    """
    record = dataclasses.is_dataclass(cls)
    hints = get_type_hints(cls.__init__ if inspect.isclass(cls) and not record else cls)
    factories = {f.name: f.default_factory for f in dataclasses.fields(cls)} if record else {}
    found = {}
    for name, parameter in inspect.signature(cls).parameters.items():
        if name == "self" or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        factory = factories.get(name, dataclasses.MISSING)
        default = parameter.default if factory is dataclasses.MISSING else factory()
        hint = hints.get(name, Any)
        if configurable(hint):
            found[name] = Field(hint, default)
        elif default is MISSING:
            raise ConfigError(f"{cls.__qualname__} cannot be configured: {name} is a {describe(hint)}")
    return found


def resolve(value: Any, hint: Any, key: str, allowed: tuple[str, ...]) -> Any:
    """The plain value with defaults written out and every leaf in its own type.

    Raises:
        ConfigError: an unknown or missing key, a value of another type, a class that may not be named.
    """
    if is_leaf(hint):
        return plain(typed(value, hint, key))
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        member = _member(value, arguments, key)
        if is_leaf(member):
            return plain(typed(value, member, key, wanted=hint))
        return resolve(value, member, key, allowed)
    if origin in LISTS:
        items = _items(value, hint, key)
        return [resolve(v, h, f"{key}[{i}]", allowed) for i, (v, h) in enumerate(items)]
    if origin in MAPPINGS:
        mapping = _mapping(value, key)
        return {name: resolve(v, arguments[1], f"{key}.{name}", allowed) for name, v in mapping.items()}
    mapping = _mapping(value, key, cls=hint)
    if "class_path" not in mapping and dataclasses.is_dataclass(hint):
        return _resolve_fields(mapping, hint, key, allowed)
    _check_keys(mapping, ("class_path", "init_args"), key)
    if "class_path" not in mapping:
        raise ConfigError(f"{key}: class_path is missing; expected the name of a {hint.__qualname__}")
    cls = find_class(mapping["class_path"], hint, allowed, f"{key}.class_path")
    arguments = _mapping(mapping.get("init_args") or {}, f"{key}.init_args")
    inner = _resolve_fields(arguments, cls, f"{key}.init_args", allowed)
    return {"class_path": mapping["class_path"], "init_args": inner}


def build(value: Any, hint: Any, key: str, allowed: tuple[str, ...]) -> Any:
    """The object that a resolved value describes.

    Raises:
        ConfigError: a class refuses its values; the message names the key.
    """
    if is_leaf(hint):
        return typed(value, hint, key)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return build(value, _member(value, arguments, key), key, allowed)
    if origin in LISTS:
        items = _items(value, hint, key)
        parts = [build(v, h, f"{key}[{i}]", allowed) for i, (v, h) in enumerate(items)]
        return tuple(parts) if origin is tuple else parts
    if origin in MAPPINGS:
        return {name: build(v, arguments[1], f"{key}.{name}", allowed) for name, v in value.items()}
    cls, inner = hint, value
    if "class_path" in value:
        cls = find_class(value["class_path"], hint, allowed, f"{key}.class_path")
        inner, key = value["init_args"], f"{key}.init_args"
    fields = fields_of(cls)
    built = {name: build(v, fields[name].hint, _join(key, name), allowed) for name, v in inner.items()}
    try:
        return cls(**built)
    except ValueError as error:
        raise ConfigError(f"{key}: {' '.join(str(error).split())}" if key else str(error)) from error


def unknown(name: str, known: Mapping[str, Any] | tuple[str, ...], key: str) -> ConfigError:
    """The error for a name that nothing has, with the nearest that something has."""
    close = get_close_matches(name, list(known), n=1)
    if close:
        return ConfigError(f"{_join(key, name)}: unknown key; did you mean {_join(key, close[0])}?")
    return ConfigError(f"{_join(key, name)}: unknown key; known here: {', '.join(known) or 'none'}")


def _resolve_fields(mapping: dict[str, Any], cls: type, key: str, allowed: tuple[str, ...]) -> dict[str, Any]:
    fields = fields_of(cls)
    _check_keys(mapping, fields, key)
    resolved = {}
    for name, field in fields.items():
        inner = _join(key, name)
        if name in mapping:
            resolved[name] = resolve(mapping[name], field.hint, inner, allowed)
        elif field.default is MISSING and dataclasses.is_dataclass(field.hint):
            resolved[name] = resolve({}, field.hint, inner, allowed)  # names what it lacks
        elif field.default is MISSING:
            raise ConfigError(f"{inner}: missing; expected {describe(field.hint)}")
        elif is_plain(default := plain(field.default)):
            resolved[name] = default
    return resolved


def _check_keys(mapping: dict[str, Any], known: Mapping[str, Any] | tuple[str, ...], key: str) -> None:
    for name in mapping:
        if name not in known:
            raise unknown(name, known, key)


def _member(value: Any, members: tuple[Any, ...], key: str) -> Any:
    """Which type of a union a value belongs to: text and numbers to its leaves, a mapping to its class."""
    leaves = tuple(m for m in members if is_leaf(m))
    others = [m for m in members if not is_leaf(m)]
    if not isinstance(value, dict | list):
        if leaves and (value is not None or type(None) in leaves):
            return functools.reduce(operator.or_, leaves)
        raise ConfigError(f"{key}: expected {' or '.join(map(describe, members))}, got {short(value)}")
    container = list if isinstance(value, list) else dict
    for member in others:
        if (get_origin(member) in LISTS) == (container is list):
            return member
    raise ConfigError(f"{key}: expected {' or '.join(map(describe, members))}, got {short(value)}")


def _items(value: Any, hint: Any, key: str) -> list[tuple[Any, Any]]:
    """The items of a list with the type of each."""
    arguments = get_args(hint)
    if not isinstance(value, list):
        raise ConfigError(f"{key}: expected a list, got {short(value)}")
    if get_origin(hint) is not tuple or arguments[-1] is ...:
        return [(v, arguments[0]) for v in value]
    if len(value) != len(arguments):
        raise ConfigError(f"{key}: expected {len(arguments)} items, got {len(value)}")
    return list(zip(value, arguments, strict=True))


def _mapping(value: Any, key: str, cls: Any = None) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    contents = "keys" if cls is None or dataclasses.is_dataclass(cls) else "class_path and init_args"
    raise ConfigError(f"{key}: expected a mapping of {contents}, got {short(value)}")


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
