"""The configurations that ship with the package. A preset's first comment line says what it is for.

`protocols/` has the settings under which models are compared on a data set: dotted keys for `salticid evaluate`,
and the number of its samples.
"""

from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from salticid.config.overrides import Override
from salticid.config.reader import read_yaml
from salticid.errors import ConfigError

_FOLDER = Path(__file__).parent
_PROTOCOLS = _FOLDER / "protocols"


def names() -> list[str]:
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def summary(name: str) -> str:
    """The first comment line of a preset."""
    first = (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def find(source: str) -> Path:
    """The file of a preset by name, or of a configuration by path (with a slash or ending in .yaml).

    Raises:
        ConfigError: there is neither; the message names the nearest preset.
    """
    path = Path(source)
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        if not path.is_file():
            raise ConfigError(f"{source}: there is no such configuration file")
        return path
    if source in names():
        return _FOLDER / f"{source}.yaml"
    close = get_close_matches(source, names(), n=1)
    hint = f"did you mean {close[0]}?" if close else f"presets: {', '.join(names()) or 'none'}"
    raise ConfigError(f"{source}: neither a preset nor a .yaml file; {hint}")


def protocols() -> list[str]:
    return sorted(path.stem for path in _PROTOCOLS.glob("*.yaml"))


class Protocol(NamedTuple):
    """How published models are compared on a data set."""

    samples: int
    """How many there are."""
    settings: list[Override]
    """To be applied before those of the command line."""


def protocol(name: str) -> Protocol:
    settings = read_yaml(_PROTOCOLS / f"{name}.yaml")
    return Protocol(settings.pop("samples"), [(key, str(value)) for key, value in settings.items()])
