"""Dotted overrides on the command line: `--optimizer.lr 1e-4`, `--data.folder pictures`, `--ema null`."""

from typing import Any

from salticid.config.reader import parse_yaml
from salticid.errors import ConfigError

Override = tuple[str, str]
"""A dotted key and the text of its value."""


def split_overrides(arguments: list[str], keys: tuple[str, ...]) -> tuple[list[str], list[Override]]:
    """Take the overrides out of command-line arguments.

    Whatever starts with `--` and has a dot in its name is an override, and so is `--KEY` for each of `keys`, the
    top-level keys. A value is the next argument or follows `=`.

    Raises:
        ConfigError: an override without a value.
    """
    rest: list[str] = []
    overrides: list[Override] = []
    remaining = iter(arguments)
    for argument in remaining:
        name, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or ("." not in name and name not in keys):
            rest.append(argument)
            continue
        if not equals:
            value = next(remaining, "--")
            if value.startswith("--"):
                raise ConfigError(f"--{name}: a value is missing, as in --{name} VALUE")
        overrides.append((name, value))
    return rest, overrides


def apply_overrides(config: dict[str, Any], overrides: list[Override]) -> None:
    """Set keys of a raw configuration, in place and in order.

    `init_args` may be left out of a key: `data.folder` is `data.init_args.folder` where `data` names a class.
    `data` alone takes the path of a class. Naming another class drops the arguments of the one before.

    Raises:
        ConfigError: a key that leads into something that is not a mapping, or a value that is not YAML.
    """
    for key, text in overrides:
        parts = key.split(".")
        if not all(parts):
            raise ConfigError(f"--{key}: expected a dotted key, such as --trainer.steps")
        value = _value(key, text)
        inner, name = _descend(config, parts)
        if isinstance(value, str) and isinstance(old := inner.get(name), dict) and "class_path" in old:
            inner, name = old, "class_path"
        if name == "class_path" and inner.get(name) != value:
            inner.pop("init_args", None)
        inner[name] = value


def _value(key: str, text: str) -> Any:
    """Null, lists and mappings are YAML; any other text is left for the type of its key to read."""
    if text != "null" and not text.startswith(("[", "{")):
        return text
    try:
        return parse_yaml(text)
    except ConfigError as error:
        raise ConfigError(f"--{key}: {error}") from error


def _descend(config: dict[str, Any], parts: list[str]) -> tuple[dict[str, Any], str]:
    """The mapping that holds the last part, and that part; mappings on the way are made where they are missing."""
    inner = config
    for i, part in enumerate(parts):
        if "class_path" in inner and part not in ("class_path", "init_args"):
            inner = _step(inner, "init_args", parts[:i])
        if i == len(parts) - 1:
            break
        inner = _step(inner, part, parts[: i + 1])
    return inner, parts[-1]


def _step(mapping: dict[str, Any], name: str, path: list[str]) -> dict[str, Any]:
    if mapping.get(name) is None:
        mapping[name] = {}
    if not isinstance(mapping[name], dict):
        raise ConfigError(f"--{'.'.join(path)}: not a mapping of keys, so nothing in it can be set by name")
    return mapping[name]
