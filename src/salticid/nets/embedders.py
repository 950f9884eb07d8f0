"""The embedders that ship with the package; a recipe's `conditioner:` may name others (`--allow PACKAGE`)."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from salticid.errors import UserError, require
from salticid.losses.frozen import Frozen
from salticid.nets.blocks import sinusoids
from salticid.nets.conditioner import Embedder, Kind
from salticid.nets.first_stage import FirstStage


class FourierEmbedder(Embedder):
    """A number as sinusoids (Vaswani et al. 2017; cosines first), as it is: frames per second, motion bucket, noise
    of the conditioning frame, an angle in radians. (n,) → (n, dim)."""

    content: ClassVar[bool] = False

    def __init__(
        self, input_key: str, dim: int = 256, kind: Literal["vector", "crossattn"] = "vector", ucg_rate: float = 0.0
    ):
        super().__init__(input_key, kind, ucg_rate)
        require(f"recipe.conditioner: dim of {input_key}", dim, dim >= 2 and dim % 2 == 0, "an even number")
        self.dim = dim

    @property
    def width(self) -> int:
        return self.dim

    def embed(self, value: Tensor, step: int) -> Tensor:
        waves = sinusoids(value.float(), self.dim)
        return waves[:, None] if self.kind == "crossattn" else waves


class ClipImageEmbedder(Embedder):
    """A picture's CLIP embedding (Radford et al. 2021), projected, as one token: (n, 3, H, W) in [−1, 1] → (n, 1, d).

    Args:
        base: whose image encoder; None: the recipe's base.
    """

    costly: ClassVar[bool] = True

    def __init__(
        self,
        input_key: str = "cond_frames_without_noise",
        kind: Kind = "crossattn",
        ucg_rate: float = 0.0,
        trainable: bool = False,
        base: str | None = None,
    ):
        super().__init__(input_key, kind, ucg_rate, trainable)
        self.base = base

    def connect(self, base: str, first_stage: FirstStage) -> None:
        from salticid.nets.stable_video import make_image_encoder

        encoder = make_image_encoder(self.base or base, key="recipe.conditioner" if self.base else "recipe.base")
        self.encoder = encoder.requires_grad_() if self.trainable else Frozen(encoder)

    @property
    def network(self) -> Any:
        return self.encoder.network if isinstance(self.encoder, Frozen) else self.encoder

    @property
    def width(self) -> int:
        return self.network.width

    def embed(self, value: Tensor, step: int) -> Tensor:
        with torch.set_grad_enabled(self.trainable and torch.is_grad_enabled()):
            found = self.encoder(value)
        return found[:, None] if self.kind == "crossattn" else found

    def frozen_networks(self) -> Sequence[nn.Module]:
        return [] if self.trainable else [self.network]


class LatentEmbedder(Embedder):
    """A picture's latent from the recipe's first stage: the posterior's mode, not scaled (generative-models gives
    the conditioner's VAE no scale factor). (n, 3, H, W) in [−1, 1] → (n, c, h, w)."""

    def __init__(self, input_key: str = "cond_frames", kind: Kind = "concat", ucg_rate: float = 0.0):
        super().__init__(input_key, kind, ucg_rate)

    def connect(self, base: str, first_stage: FirstStage) -> None:
        self._outside = (first_stage,)  # it is the model's, which registers it

    @property
    def width(self) -> int:
        return self._outside[0].channels

    @torch.no_grad()
    def embed(self, value: Tensor, step: int) -> Tensor:
        return self._outside[0].encode(value, scaled=False)

    def frozen_networks(self) -> Sequence[nn.Module]:
        return self._outside[0].networks()


class ClassEmbedder(Embedder):
    """A class as a learned vector: int64 (n,) → (n, dim), or (n, 1, dim) as a token. Zero stands for no class."""

    def __init__(
        self,
        classes: int,
        dim: int,
        input_key: str = "label",
        kind: Kind = "vector",
        ucg_rate: float = 0.1,
        trainable: bool = True,
    ):
        super().__init__(input_key, kind, ucg_rate, trainable)
        require(f"recipe.conditioner: classes of {input_key}", classes, classes >= 1, "at least 1")
        require(f"recipe.conditioner: dim of {input_key}", dim, dim >= 1, "at least 1")
        self.table = nn.Embedding(classes, dim)

    @property
    def width(self) -> int:
        return self.table.embedding_dim

    def embed(self, value: Tensor, step: int) -> Tensor:
        classes = self.table.num_embeddings
        if len(value) and not 0 <= int(value.min()) <= int(value.max()) < classes:
            raise UserError(f"{self.input_key}: classes {value.tolist()}; expected 0 to {classes - 1}")
        found = self.table(value)
        return found[:, None] if self.kind == "crossattn" else found


class TextEmbedder(Embedder):
    """A caption's last hidden states from a base's CLIP text encoder, 77 tokens: n texts → (n, 77, d).

    Args:
        base: a Stable Diffusion in the format of diffusers: a folder, a hub id, or `tiny`.
    """

    costly: ClassVar[bool] = True
    tokens: ClassVar[int] = 77

    def __init__(self, base: str, input_key: str = "caption", kind: Kind = "crossattn", ucg_rate: float = 0.15):
        super().__init__(input_key, kind, ucg_rate)
        from salticid.nets.stable_diffusion import TextEncoder

        self.encoder = Frozen(TextEncoder(base, key="recipe.conditioner"))

    @property
    def width(self) -> int:
        return self.encoder.network.width

    @torch.no_grad()
    def embed(self, value: Sequence[str], step: int) -> Tensor:
        return self.encoder.network(value)

    def frozen_networks(self) -> Sequence[nn.Module]:
        return [self.encoder.network]
