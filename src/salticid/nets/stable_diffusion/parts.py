"""What stands around the UNet and is never trained: the VAE, the empty prompt, the noise schedule."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

from salticid.errors import ConfigError
from salticid.losses.pretrained import first_line, package
from salticid.nets.diffusers_folder import EXTRA
from salticid.nets.loading import load_clip, load_vae
from salticid.nets.stable_diffusion.base import Base

if TYPE_CHECKING:
    from jaxtyping import Float

Vae: TypeAlias = Any
"""`AutoencoderKL` of diffusers, whose types a checker cannot follow."""


def make_vae(base: str, key: str = "recipe.base") -> Vae:
    """The autoencoder of a base: pictures (B, 3, H, W) in [−1, 1] ↔ latents (B, 4, H/f, W/f), which
    `config.scaling_factor` brings to unit variance. In float32, frozen, in eval mode; random where the base has no
    weights.

    Raises:
        ConfigError: there is no such base, or its VAE is damaged or of another kind.
    """
    return load_vae(Base(base, key))


class TextEncoder(nn.Module):
    """What a base's text encoder makes of texts, in float32. Texts that are too long are cut.

    Args:
        base, key: as in `make_vae`.

    Raises:
        ConfigError: there is no such base, or its text encoder or tokenizer is damaged or of another kind.
    """

    def __init__(self, base: str, key: str = "recipe.base"):
        super().__init__()
        found = Base(base, key)
        transformers = package("transformers", key, EXTRA)
        try:
            self.tokenizer = transformers.CLIPTokenizer.from_pretrained(found.tokenizer(), local_files_only=True)
            self.longest = int(self.tokenizer.model_max_length)
            self._tokens(("",), padded=True)
        except ConfigError:
            raise
        except Exception as error:  # of tokenizers, of JSON, of the file system
            raise ConfigError(f"{key}: the tokenizer of {base} cannot be read ({first_line(error)})") from error
        self.encoder = load_clip(found, "text_encoder", "CLIPTextConfig", "CLIPTextModel")
        config = self.encoder.config
        if self.longest > config.max_position_embeddings or len(self.tokenizer) > config.vocab_size:
            raise ConfigError(f"{key}: the tokenizer of {base} does not fit its text encoder")

    @property
    def width(self) -> int:
        return self.encoder.config.hidden_size

    @torch.no_grad()
    def forward(self, texts: Sequence[str], padded: bool = True) -> "Float[Tensor, 'b n d']":
        """The last hidden states of n tokens: the tokenizer's length, 77, or where they are not `padded` the longest
        text's."""
        return self.encoder(self._tokens(texts, padded).to(self.encoder.device)).last_hidden_state

    def _tokens(self, texts: Sequence[str], padded: bool) -> Tensor:
        length = {"padding": "max_length" if padded else True, "max_length": self.longest, "truncation": True}
        return self.tokenizer(list(texts), return_tensors="pt", **length).input_ids


def empty_prompt(base: str, padded: bool = False, key: str = "recipe.base") -> "Float[Tensor, '1 n d']":
    """What a base's text encoder makes of "": the last hidden states (1, n, d), in float32, of n = 2 tokens, or of
    77 where they are `padded` to the tokenizer's length. The encoder is dropped again. Raises as `TextEncoder`."""
    return TextEncoder(base, key)(("",), padded)


def scheduler_config(base: str, key: str = "recipe.base") -> dict[str, Any]:
    """The scheduler of a base as its file has it: `beta_start`, `prediction_type` …; see `VP.from_scheduler`.

    Raises:
        ConfigError: there is no such base, or no such file.
    """
    return Base(base, key).scheduler()
