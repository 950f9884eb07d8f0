"""One file of generative-models, `svd.safetensors`, `sv3d_u.safetensors` …, which holds all networks of a model."""

import re
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from salticid.errors import ConfigError
from salticid.losses.pretrained import read


class Original:
    """Names and shapes of what is in the file; tensors are read part by part, for it can have ten gigabytes.

    Raises:
        ConfigError: it cannot be read.
    """

    def __init__(self, file: Path, key: str):
        self.file, self.key = file, key
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._read: Callable[[str], Tensor]
        if file.suffix == ".safetensors":
            self._open()
        else:
            tensors = read(file, key)
            self.shapes = {name: tuple(value.shape) for name, value in tensors.items()}
            self._read = tensors.__getitem__

    def _open(self) -> None:
        from safetensors import safe_open

        try:
            content = safe_open(self.file, "pt")
            self.shapes = {name: tuple(content.get_slice(name).get_shape()) for name in content.keys()}  # noqa: SIM118
        except Exception as error:  # a damaged file can fail in any way
            raise ConfigError(f"{self.key}: {self.file} is not a file of weights that can be read safely") from error
        self._read = content.get_tensor

    def shape(self, name: str, dims: int, expected: str) -> tuple[int, ...]:
        """Of a tensor of so many dimensions.

        Raises:
            ConfigError: there is none of that name, or it has others.
        """
        found = self.shapes.get(name)
        if found is None:
            raise ConfigError(f"{self.key}: {self.file} has no {name}; expected {expected}")
        if len(found) != dims:
            raise ConfigError(f"{self.key}: {name} in {self.file} has shape {found}; expected {expected}")
        return found

    def prefix(self, pattern: str) -> str | None:
        """The group of the first name that the whole pattern matches, in the order of the alphabet."""
        found = (re.fullmatch(pattern, name) for name in sorted(self.shapes))
        return next((match[1] for match in found if match), None)

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors below a prefix, without it in their names."""
        return {name.removeprefix(prefix): self._read(name) for name in self.shapes if name.startswith(prefix)}
