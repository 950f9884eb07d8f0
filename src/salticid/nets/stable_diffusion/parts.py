"""What stands around the UNet and is never trained: the VAE, the empty prompt, the noise schedule."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

from salticid.errors import ConfigError
from salticid.losses.pretrained import fill, first_line, package, read
from salticid.nets.stable_diffusion.base import Base
from salticid.nets.stable_diffusion.unet import instantiate

if TYPE_CHECKING:
    from jaxtyping import Float

Vae: TypeAlias = Any
"""`AutoencoderKL` of diffusers, whose types a checker cannot follow."""
OLD_ATTENTION = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
"""What the attention of a VAE is called in files of 2022 and 2023, that of Stable Diffusion 2 among them."""
TEXT = "text_model."
"""Before every name of a text encoder's file; transformers 5 has it in its files no more, and reads both."""


def make_vae(base: str, key: str = "recipe.base") -> Vae:
    """The autoencoder of a base: pictures (B, 3, H, W) in [−1, 1] ↔ latents (B, 4, H/f, W/f), which
    `config.scaling_factor` brings to unit variance. In float32, frozen, in eval mode; random where the base has no
    weights.

    Raises:
        ConfigError: there is no such base, or its VAE is damaged or of another kind.
    """
    found = Base(base, key)
    classes = package("diffusers", key, "marigold")
    file = found.weights("vae")
    vae = instantiate(classes.AutoencoderKL, found.config("vae"), f"{key}: vae of {base}", zero=file is not None)
    if file is None:
        found.note_random("vae")
    else:
        tensors = read(file, key)
        expected = "the weights of its AutoencoderKL in the format of diffusers"
        fill(vae, tensors, file=file, expected=expected, key=key, rename=lambda name: _as_stored(name, tensors))
    return vae.eval().requires_grad_(False)


def _as_stored(name: str, tensors: dict[str, Tensor]) -> str:
    """What a tensor of a VAE is called in a file, which may be old."""
    old = name
    for new_part, old_part in OLD_ATTENTION.items():
        old = old.replace(new_part, old_part)
    return old if old in tensors else name


@torch.no_grad()
def empty_prompt(base: str, padded: bool = False, key: str = "recipe.base") -> "Float[Tensor, '1 n d']":
    """What a base's text encoder makes of "": the last hidden states (1, n, d), in float32, of n = 2 tokens, or of
    77 where they are `padded` to the tokenizer's length. The encoder is dropped again.

    Raises:
        ConfigError: there is no such base, or its text encoder or tokenizer is damaged or of another kind.
    """
    found = Base(base, key)
    transformers = package("transformers", key, "marigold")
    try:
        tokenizer = transformers.CLIPTokenizer.from_pretrained(found.tokenizer(), local_files_only=True)
        length = {"padding": "max_length", "max_length": tokenizer.model_max_length} if padded else {}
        tokens = tokenizer("", return_tensors="pt", **length).input_ids
    except ConfigError:
        raise
    except Exception as error:  # of tokenizers, of JSON, of the file system
        raise ConfigError(f"{key}: the tokenizer of {base} cannot be read ({first_line(error)})") from error
    encoder = _text_encoder(found, transformers)
    if tokens.shape[1] > encoder.config.max_position_embeddings or tokens.max() >= encoder.config.vocab_size:
        raise ConfigError(f"{key}: the tokenizer of {base} does not fit its text encoder")
    return encoder(tokens).last_hidden_state


def _text_encoder(base: Base, transformers: Any) -> Any:
    """CLIPTextModel; random where the base has no weights."""
    file = base.weights("text_encoder")
    try:
        config = transformers.CLIPTextConfig.from_dict(base.config("text_encoder"))
        with torch.device("cpu" if file is None else "meta"):
            encoder = transformers.CLIPTextModel(config)
    except ConfigError:
        raise
    except Exception as error:  # wrong values fail wherever they are used first
        raise ConfigError(f"{base.key}: text_encoder of {base.name}: config.json ({first_line(error)})") from error
    if file is None:
        base.note_random("text_encoder")
    else:
        _fill_text_encoder(encoder, file, base.key)
    return encoder.eval().requires_grad_(False).float()


def _fill_text_encoder(encoder: nn.Module, file: Path, key: str) -> None:
    tensors = {name.removeprefix(TEXT): value for name, value in read(file, key).items()}
    tensors.pop("embeddings.position_ids", None)  # a table of 0, 1, 2 … that old files hold
    expected = "the weights of its CLIPTextModel in the format of transformers"
    fill(encoder, tensors, file=file, expected=expected, key=key, rename=lambda name: name.removeprefix(TEXT))
    for module in encoder.modules():
        if (positions := getattr(module, "position_ids", None)) is not None:
            # No part of the state dict, so still on the meta device.
            module.position_ids = torch.arange(positions.shape[-1])[None]


def scheduler_config(base: str, key: str = "recipe.base") -> dict[str, Any]:
    """The scheduler of a base as its file has it: `beta_start`, `prediction_type` …; see `VP.from_scheduler`.

    Raises:
        ConfigError: there is no such base, or no such file.
    """
    return Base(base, key).scheduler()
