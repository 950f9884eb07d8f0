"""YAML as configurations use it: the core schema of YAML 1.2, and limits that a hostile file cannot pass.

A configuration may come from a stranger. Tags (`!!python/…`) are refused, and so is whatever makes a small
text into a large or deep value: size, nesting and the number of nodes *after* aliases and merge keys are
expanded are bounded before anything is built.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from salticid.errors import ConfigError

MAX_BYTES = 64 * 1024
MAX_DEPTH = 24
MAX_NODES = 10_000

_CORE = "tag:yaml.org,2002:"
_PLAIN_TAGS = {"map", "seq", "str", "int", "float", "bool", "null", "merge"}


class CoreLoader(yaml.SafeLoader):
    """YAML 1.2 scalars: `yes`, `on`, `1:30` and `2001-01-01` are text, `1e-4` is a number."""

    yaml_implicit_resolvers: dict[str, list] = {}  # noqa: RUF012  (PyYAML reads this class attribute)


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
):
    CoreLoader.add_implicit_resolver(f"{_CORE}{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: unreadable, not YAML, not a mapping, or past a limit; the message names the file.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES // 1024} KiB; a configuration is a page or two")
    try:
        value = parse_yaml(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected a mapping of keys to values at the top")
    return value


def parse_yaml(text: str) -> Any:
    """The value of one YAML document of plain scalars, lists and mappings with text keys."""
    if len(text) > MAX_BYTES:
        raise ConfigError(f"longer than {MAX_BYTES // 1024} KiB")
    try:
        _check_depth(text)
        loader = CoreLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check(node, {})
            return _unshared(loader.construct_document(node))
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ConfigError(_one_line(error)) from error
    except (ValueError, IndexError, KeyError, RecursionError) as error:  # 5000 digits; `!!int x`; `!!bool x`
        raise ConfigError(f"not readable as YAML: {str(error).splitlines()[0]}") from error


def _check_depth(text: str) -> None:
    """Count nesting on the event stream, which needs no recursion, before the composer recurses."""
    depth = 0
    for event in yaml.parse(text, Loader=CoreLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise ConfigError(f"line {event.start_mark.line + 1}: nested deeper than {MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _check(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Refuse foreign tags, double keys and too many values; return the number of nodes, aliases expanded.

    `sizes` remembers shared nodes, so that a bomb of aliases is counted, not followed.
    """
    if id(node) in sizes:
        if sizes[id(node)] == 0:
            raise ConfigError(f"line {_line(node)}: an alias that contains itself")
        return sizes[id(node)]
    if node.tag.removeprefix(_CORE) not in _PLAIN_TAGS:
        raise ConfigError(f"line {_line(node)}: the tag {node.tag.replace(_CORE, '!!')!r} is not allowed")
    sizes[id(node)] = 0  # being counted
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
    children = _children(node)
    size = 1 + sum(_check(child, sizes) for child in children)
    if size > MAX_NODES:
        raise ConfigError(f"line {_line(node)}: more than {MAX_NODES} values once aliases are written out")
    sizes[id(node)] = size
    return size


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _check_keys(node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        if key.tag not in (_CORE + "str", _CORE + "merge"):
            raise ConfigError(f"line {_line(key)}: a key must be text, not {_shown(key)}")
        if key.value in seen:
            raise ConfigError(f"line {_line(key)}: the key {key.value!r} is given twice")
        seen.add(key.value)


def _unshared(value: Any) -> Any:
    """A copy in which aliases are values of their own, so that one can be changed without the other."""
    if isinstance(value, dict):
        return {key: _unshared(inner) for key, inner in value.items()}
    return [_unshared(inner) for inner in value] if isinstance(value, list) else value


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1


def _shown(node: yaml.Node) -> str:
    return repr(node.value) if isinstance(node, yaml.ScalarNode) else "a list or mapping"


def _one_line(error: yaml.YAMLError) -> str:
    problem = getattr(error, "problem", None) or " ".join(str(error).split())
    if problem.startswith("but "):
        problem = f"{error.context}, {problem}"  # pyrefly: ignore
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else f"not YAML: {problem}"
