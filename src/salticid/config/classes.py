"""From a `class_path` to a class, without trusting it.

Importing a module runs it, so a path is judged twice: as text before anything is imported (its package has to
be on the allow-list), and as an object afterwards (it has to be a class, defined in an allowed package, and a
subclass of what the key asks for).
"""

import importlib
import inspect
import os
import re
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from types import ModuleType
from typing import Any

from salticid.config.leaves import short
from salticid.errors import ConfigError

_PATH = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)+")  # ASCII; no part is private or dunder


def allowed_packages(extra: Iterable[str] = ()) -> tuple[str, ...]:
    """`salticid`, those in the environment's SALTICID_ALLOW (separated by commas), and `extra`.

    Raises:
        ConfigError: one of them is not the name of a package.
    """
    named = [*os.environ.get("SALTICID_ALLOW", "").split(","), *extra]
    packages = [name.strip() for name in named if name.strip()]
    for name in packages:
        if not _PATH.fullmatch(name + ".x"):
            raise ConfigError(f"--allow {name}: expected a package, such as mylab or mylab.models")
    return ("salticid", *packages)


def check_class_paths(value: Any, allowed: tuple[str, ...], key: str = "") -> None:
    """Refuse a `class_path` outside `allowed`, wherever in a raw configuration it stands. Imports nothing."""
    if isinstance(value, dict):
        for name, child in value.items():
            inner = f"{key}.{name}" if key else str(name)
            if name == "class_path":
                _check_path(child, allowed, inner)
            else:
                check_class_paths(child, allowed, inner)
    elif isinstance(value, list):
        for i, child in enumerate(value):
            check_class_paths(child, allowed, f"{key}[{i}]")


def find_class(path: str, base: type, allowed: tuple[str, ...], key: str) -> type:
    """Import the class at `path`.

    Args:
        path: `package.module.Class`, or `package.Class` where the package exports it.
        base: what it has to be a subclass of.
        allowed: packages that may be imported.
        key: where it is named, for messages.

    Raises:
        ConfigError: outside `allowed`, missing, no class, defined elsewhere, of another kind, or abstract.
    """
    _check_path(path, allowed, key)
    module_name, _, name = path.rpartition(".")
    module = _import(module_name, key)
    found = getattr(module, name, None)
    if found is None:
        raise ConfigError(f"{key}: {module_name} has no class {name}{_suggestion(module, name, base)}")
    if not inspect.isclass(found) or not _within(found.__module__, allowed):
        raise ConfigError(f"{key}: {path} is not a class of {_listed(allowed)}")
    if not issubclass(found, base):
        raise ConfigError(f"{key}: {path} is not a kind of {base.__module__}.{base.__qualname__}")
    if inspect.isabstract(found):
        raise ConfigError(f"{key}: {path} is abstract; name one of the classes made from it")
    return found


def _check_path(path: object, allowed: tuple[str, ...], key: str) -> None:
    if not isinstance(path, str) or not _PATH.fullmatch(path):
        raise ConfigError(f"{key}: expected package.module.Class, got {short(path)}")
    if not _within(path, allowed):
        package = path.split(".")[0]
        own = package not in sys.stdlib_module_names
        hint = f"; a package that you trust is allowed with --allow {package}" if own else ""
        raise ConfigError(f"{key}: {path} is outside {_listed(allowed)}{hint}")


def _within(path: str, allowed: tuple[str, ...]) -> bool:
    return any(path == package or path.startswith(package + ".") for package in allowed)


def _import(name: str, key: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise ConfigError(f"{key}: there is no module {error.name}") from error
        if (error.name or "salticid").startswith("salticid"):
            raise  # a defect of ours
        raise ConfigError(f"{key}: {name} needs the package {error.name}, which is not installed") from error


def _suggestion(module: ModuleType, name: str, base: type) -> str:
    public = [n for n in dir(module) if inspect.isclass(c := getattr(module, n)) and issubclass(c, base)]
    close = get_close_matches(name, public, n=1)
    return f"; did you mean {module.__name__}.{close[0]}?" if close else ""


def _listed(allowed: tuple[str, ...]) -> str:
    return "the allowed packages (" + ", ".join(allowed) + ")"
