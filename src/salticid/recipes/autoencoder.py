"""The autoencoder recipe: a small VAE of pictures and depth maps, as the first stage of latent diffusion."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from salticid.data.source import Batch, Data, first_readable
from salticid.diffusion.noise import keyed_normal
from salticid.engine.recipe import Clock, Loss, Phase, Recipe
from salticid.errors import ConfigError
from salticid.evaluate.image import eight_bit, psnr
from salticid.evaluate.pictures import tile, to_bytes
from salticid.nets.stable_diffusion import Vae
from salticid.recipes.marigold.coding import DepthCoding

MOMENTUM = 0.99
"""Of the running mean of the latents' power."""


class AutoencoderRecipe(Recipe):
    """Learns to bring pictures, and depth maps repeated to three channels, through a small latent and back.

    The networks are diffusers' `AutoencoderKL`; exported, they are the `vae` folder of a Stable Diffusion.

    Args:
        widths: channels of the levels; each level but the last halves the size.
        layers: residual blocks of a level.
        latent: channels of the latent.
        groups: of the group normalisations.
        kl: what the divergence of a latent from N(0, 1), in nats a pixel of the picture, counts beside the error.
        coding: how depth becomes a map.
    """

    def __init__(
        self,
        widths: Sequence[int] = (24, 48, 64),
        layers: int = 1,
        latent: int = 4,
        groups: int = 8,
        kl: float = 1e-5,
        coding: DepthCoding = DepthCoding(),
    ):
        super().__init__()
        from diffusers import AutoencoderKL

        if not widths or min(*widths, layers, latent, groups) < 1 or any(width % groups for width in widths):
            raise ConfigError(f"recipe.widths are {list(widths)}; expected multiples of recipe.groups ({groups})")
        self.vae: Vae = AutoencoderKL(
            block_out_channels=tuple(widths),
            down_block_types=("DownEncoderBlock2D",) * len(widths),
            up_block_types=("UpDecoderBlock2D",) * len(widths),
            layers_per_block=layers,
            latent_channels=latent,
            norm_num_groups=groups,
        )
        self.kl, self.coding = kl, coding
        self.register_buffer("power", torch.ones(()))
        """Running mean square of the latents; its root is what they are divided by in diffusion."""

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("vae", ("vae",)),)

    def check(self, data: Data) -> None:
        sample = first_readable(data.train(), data.val())
        factor = 2 ** (len(self.vae.config["block_out_channels"]) - 1)
        for name in ("image", "depth", "valid"):
            if name not in sample:
                raise ConfigError(f"data: samples have no {name}; expected pictures with depth")
        if any(side % factor for side in sample["image"].shape[-2:]):
            raise ConfigError(f"data: pictures of {tuple(sample['image'].shape[-2:])}; expected multiples of {factor}")

    def loss(self, phase: str, batch: Batch, clock: Clock) -> Loss:
        """Absolute error of pictures and maps alike, and the divergence."""
        truth = self.maps(batch)
        posterior = self.vae.encode(truth).latent_dist
        keys = torch.cat([2 * batch["key"], 2 * batch["key"] + 1])
        noise = keyed_normal(keys, posterior.mean.shape[1:], seed=clock.seed, stream="latent", device=truth.device)
        with torch.no_grad():
            self.power.lerp_(posterior.mean.float().square().mean(), 1 - MOMENTUM)
        made = self.vae.decode(posterior.mean + posterior.std * noise).sample.float()
        error = (made - truth).abs().mean(dim=(1, 2, 3))
        picture, depth = error.chunk(2)
        divergence = posterior.kl().float().mean() / truth[0, 0].numel()
        total = picture.mean() + depth.mean() + self.kl * divergence
        terms = {"picture": picture.mean(), "depth": depth.mean(), "kl": divergence}
        return Loss(total, {name: value.detach() for name, value in terms.items()})

    def maps(self, batch: Batch) -> Tensor:
        """The pictures, then the coded depth maps, (2B, 3, H, W)."""
        depth = self.coding(batch["depth"], batch["valid"])
        return torch.cat([batch["image"], depth.expand(-1, 3, -1, -1)])

    def reconstruct(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Pictures (B, 3, H, W) and depth maps (B, 1, H, W), there and back."""
        made = self.vae.decode(self.vae.encode(self.maps(batch)).latent_dist.mean).sample.float()
        pictures, depth = made.chunk(2)
        return pictures, depth.mean(dim=1, keepdim=True).clamp(-1, 1)

    def evaluate(self, batch: Batch, *, seed: int) -> dict[str, Tensor]:
        pictures, depth = self.reconstruct(batch)
        valid = batch["valid"].flatten(1)
        error = (depth - self.coding(batch["depth"], batch["valid"])).abs().flatten(1).where(valid, 0.0)
        return {
            "psnr/picture": psnr(eight_bit(pictures), eight_bit(batch["image"])),
            "mae/depth": error.sum(1) / valid.sum(1) / 2,
        }

    def preview(self, batch: Batch, *, seed: int) -> Tensor:
        pictures, depth = self.reconstruct(batch)
        truth = self.coding(batch["depth"], batch["valid"])
        columns = batch["image"], pictures, truth.expand(-1, 3, -1, -1), depth.expand(-1, 3, -1, -1)
        return tile(torch.stack([to_bytes(column) for column in columns], dim=1))

    def legend(self) -> str:
        return "columns: picture, there and back; depth map, there and back"

    def export(self, output: Path) -> list[Path]:
        """The networks in half precision, as the `vae` folder of a diffusers pipeline."""
        self.vae.register_to_config(scaling_factor=round(1 / float(self.power.sqrt()), 4))
        self.vae.half().save_pretrained(output, safe_serialization=True)
        self.vae.float()
        return sorted(output.iterdir())
