"""Weights to begin with: from a run of ours, or from a checkpoint of the public SSDD and its multi-view fork.

The public names are those of our networks, under prefixes. A single-view checkpoint holds `encoder.` and `decoder.`;
a multi-view one the same under `base_ssdd.`, and `fusion.`. A file of a training run holds everything twice, the raw
weights under `model.` and the averaged ones under `ema.ema_model.`; released weights have neither prefix.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from salticid.engine import checkpoint as checkpoints
from salticid.errors import ConfigError
from salticid.losses.pretrained import read
from salticid.recipes.panorama.settings import Initial

log = logging.getLogger(__name__)

KEY = "recipe.initial.path"
MODEL = "model."
"""What the names of the model begin with in our own checkpoints."""
RAW, AVERAGED = "model.", "ema.ema_model."
FUSION = {
    "fusion.view_encoding.view_embeddings": "fusion.codes",
    "fusion.fusion_conv.": "fusion.squeeze.",
    "fusion.aspect_adjust.1.": "fusion.widen.",
    "fusion.aspect_adjust.2.": "fusion.finish.0.",
}
"""Names of the public fusion → ours."""


def begin(model: nn.Module, initial: Initial, needed: set[str]) -> None:
    """Give `model` the weights that `initial` points to.

    Args:
        needed: the parts that will not be trained, and so must be among them.

    Raises:
        ConfigError: they are not, or the weights cannot be read or do not fit.
    """
    parts = load_initial(model, read_initial(initial), initial.path)
    if missing := sorted(needed - set(parts)):
        raise ConfigError(f"{KEY}: {initial.path} has no {missing[0]}, which is not to be trained")
    log.info("%s: took %s", initial.path, ", ".join(parts))


def read_initial(initial: Initial) -> dict[str, Tensor]:
    """The tensors that `initial` points to, by their names in `PanoramaModel`.

    Raises:
        ConfigError: nothing is there, it cannot be read, or it has not the weights asked for.
    """
    path = Path(initial.path).expanduser()
    if not path.exists():
        raise ConfigError(f"{KEY}: {path} does not exist; expected a run, a checkpoint, or a file of weights")
    tensors = _ours(path, initial) if path.is_dir() else _public(read(path, KEY), path, initial.weights)
    if initial.parts == "encoder":
        tensors = {name: value for name, value in tensors.items() if name.startswith("encoder.")}
    if not tensors:
        raise ConfigError(f"{KEY}: {path} has no weights of {initial.parts} parts")
    return tensors


def load_initial(model: nn.Module, tensors: Mapping[str, Tensor], path: str) -> list[str]:
    """Overwrite the parts of `model` that `tensors` are of; the names of the parts. A part is taken whole and fits in
    every name and shape, or nothing is.

    Raises:
        ConfigError: it does not fit; the first difference is named.
    """
    parts = sorted({name.partition(".")[0] for name in tensors})
    wanted = {name: value for name, value in model.state_dict().items() if name.partition(".")[0] in parts}
    for what, names in (("lacks", wanted.keys() - tensors.keys()), ("has unknown", tensors.keys() - wanted.keys())):
        if names:
            some = ", ".join(sorted(names)[:3]) + (", …" if len(names) > 3 else "")
            hint = "; its fusion ends in GroupNorm·SiLU: recipe.concat_norm true" if _normed(names, what) else ""
            raise ConfigError(f"{KEY}: {path} {what} {some} ({len(names)} in all): it is of another model{hint}")
    for name, value in wanted.items():
        if value.shape != tensors[name].shape:
            shapes = f"{tuple(tensors[name].shape)}, the model's {tuple(value.shape)}"
            raise ConfigError(f"{KEY}: {path}: {name} has shape {shapes}: it is of another model")
    model.load_state_dict(dict(tensors), strict=False)
    return parts


def _normed(names: set[str], what: str) -> bool:
    return what == "has unknown" and names == {"fusion.finish.0.weight", "fusion.finish.0.bias"}


def _ours(path: Path, initial: Initial) -> dict[str, Tensor]:
    """Of a run directory or a checkpoint, every digest checked."""
    from safetensors.torch import load_file

    folder = path / checkpoints.FOLDER
    if not (path / "manifest.json").is_file():
        found, rejected = checkpoints.newest(folder)
        if found is None:
            reason = f" ({rejected[0]})" if rejected else ""
            raise ConfigError(f"{KEY}: {path} has no valid checkpoint{reason}")
        path = found
    manifest = checkpoints.verify(path)
    tensors = load_file(path / "model.safetensors")
    if initial.weights == "ema":
        if "ema.safetensors" not in manifest["files"] or not manifest["progress"]["ema_updates"]:
            raise ConfigError(f"{KEY}: {path} has no averaged weights; recipe.initial.weights: raw takes the others")
        tensors |= load_file(path / "ema.safetensors")
    return {name.removeprefix(MODEL): value for name, value in tensors.items() if name.startswith(MODEL)}


def _public(tensors: dict[str, Tensor], path: Path, weights: str) -> dict[str, Tensor]:
    """Of a file of the public code, under our names."""
    twice = any(name.startswith(AVERAGED) for name in tensors)
    if weights == "ema" and not twice:
        raise ConfigError(f"{KEY}: {path} has no averaged weights; recipe.initial.weights: raw takes those it has")
    prefix = AVERAGED if weights == "ema" else RAW if any(name.startswith(RAW) for name in tensors) else ""
    found = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    return {_renamed(name.removeprefix("base_ssdd.")): value for name, value in found.items()}


def _renamed(name: str) -> str:
    for theirs, ours in FUSION.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name
