"""Networks of diffusers and transformers from the files of a base."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from salticid.errors import ConfigError
from salticid.losses.pretrained import fill, first_line, package, read
from salticid.nets.diffusers_folder import EXTRA, DiffusersFolder

OLD_ATTENTION = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
"""What the attention of a VAE is called in files of 2022 and 2023, that of Stable Diffusion 2 among them."""
TOWER = re.compile(r"^(text|vision)_model\.")
"""Before the names of CLIP's halves in files; transformers 5 has left it out in some, and reads both."""


def instantiate(network: Any, config: dict[str, Any], what: str, *, zero: bool) -> Any:
    """A network of diffusers from its configuration: zero, or random.

    Raises:
        ConfigError: the configuration describes none.
    """
    try:
        if not zero:
            return network.from_config(config)
        with torch.device("meta"):
            empty = network.from_config(config)
    except Exception as error:  # wrong values fail wherever they are used first
        raise ConfigError(f"{what}: config.json describes no {network.__name__} ({first_line(error)})") from error
    return empty._apply(lambda tensor: torch.zeros_like(tensor, device="cpu"))


def load_vae(base: DiffusersFolder) -> Any:
    """The VAE of a base, of the kind that its configuration says; in float32, frozen, in eval mode; random where there
    are no weights.

    Raises:
        ConfigError: it is damaged or of another kind.
    """
    kind, key = base.kind("vae"), base.key
    network = getattr(package("diffusers", key, EXTRA), kind)
    file = base.weights("vae")
    vae = instantiate(network, base.config("vae"), f"{key}: vae of {base.name}", zero=file is not None)
    if file is None:
        base.note_random("vae")
    else:
        tensors = read(file, key)
        expected = f"the weights of its {kind} in the format of diffusers"
        fill(vae, tensors, file=file, expected=expected, key=key, rename=lambda name: _as_stored(name, tensors))
    return vae.eval().requires_grad_(False)


def _as_stored(name: str, tensors: dict[str, Tensor]) -> str:
    """What a tensor of a VAE is called in a file, which may be old."""
    old = name
    for new_part, old_part in OLD_ATTENTION.items():
        old = old.replace(new_part, old_part)
    return old if old in tensors else name


def load_clip(base: DiffusersFolder, part: str, config_class: str, network_class: str) -> Any:
    """One half of a CLIP by transformers; in float32, frozen, in eval mode; random where the base has no weights.

    Raises:
        ConfigError: it is damaged or of another kind.
    """
    transformers = package("transformers", base.key, EXTRA)
    file = base.weights(part)
    try:
        config = getattr(transformers, config_class).from_dict(base.config(part))
        with torch.device("cpu" if file is None else "meta"):
            encoder = getattr(transformers, network_class)(config)
    except ConfigError:
        raise
    except Exception as error:  # wrong values fail wherever they are used first
        raise ConfigError(f"{base.key}: {part} of {base.name}: config.json ({first_line(error)})") from error
    if file is None:
        base.note_random(part)
    else:
        fill_clip(encoder, {TOWER.sub("", name): value for name, value in read(file, base.key).items()}, file, base.key)
    return encoder.eval().requires_grad_(False).float()


def fill_clip(encoder: nn.Module, tensors: dict[str, Tensor], file: Path, key: str) -> None:
    """Give half a CLIP, on the meta device, its weights, under transformers' names without what `TOWER` matches.

    Raises:
        ConfigError: a tensor is missing, superfluous or of another shape.
    """
    tensors.pop("embeddings.position_ids", None)  # a table of 0, 1, 2 … that old files hold
    expected = f"the weights of its {type(encoder).__name__} in the format of transformers"
    fill(encoder, tensors, file=file, expected=expected, key=key, rename=lambda name: TOWER.sub("", name))
    for module in encoder.modules():
        if (positions := getattr(module, "position_ids", None)) is not None:
            # No part of the state dict, so still on the meta device.
            module.position_ids = torch.arange(positions.shape[-1])[None]
