"""The model: a first stage, a conditioner, and a UNet that denoises the latents of clips."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from salticid.diffusion.guide import classifier_free
from salticid.diffusion.path import VE
from salticid.diffusion.sigma import Scaling
from salticid.diffusion.solve import Denoise, Denoiser
from salticid.nets import stable_video
from salticid.nets.conditioner import Conditioner, Conditions, Embedder
from salticid.nets.first_stage import FirstStage, FirstStageSettings
from salticid.nets.lora import Lora, add_lora
from salticid.nets.video import VideoUNet, VideoUNetConfig, blocks, checkpoint_activations
from salticid.recipes.video.settings import SOLVERS, Network, Sampler

log = logging.getLogger(__name__)


class VideoModel(nn.Module):
    """Pictures (B, places, 3, H, W) in [−1, 1] ↔ latents (B, places, c, h, w).

    The places are those of a grid, (T,) frames or (T, V) frames × views, views innermost.

    Args:
        base: as in `nets.stable_video`.
        embedders: the conditioner's.
        network: sizes of a UNet that begins from nothing; None: the base's.
        scaling: what the UNet sees and predicts.
        lora: adapters beside the frozen UNet.
    """

    def __init__(
        self,
        base: str,
        embedders: Sequence[Embedder],
        *,
        first_stage: FirstStageSettings,
        network: Network | None,
        scaling: Scaling,
        lora: Lora | None,
    ):
        super().__init__()
        self.base, self.network, self.scaling, self.lora = base, network, scaling, lora
        self.first_stage = FirstStage(base, first_stage)
        self.conditioner = Conditioner(embedders, base, self.first_stage)
        config = self._config()
        self.unet = VideoUNet(config) if network else stable_video.make_unet(config, base)
        self.anew: set[str] = set()
        """Weights of the base that do not fit: the UNet's begin as they are."""
        if lora is not None:
            self._fill()
            add_lora(self.unet, lora)
            for name, parameter in self.unet.named_parameters():
                if name.replace(".base_layer.", ".") in self.anew:
                    parameter.requires_grad_()

    def _config(self) -> VideoUNetConfig:
        """The sizes of the base's UNet, or those that were asked for, with room for what the conditioner says."""
        sizes = VideoUNetConfig(**vars(self.network)) if self.network else stable_video.unet_config(self.base)
        width = self.conditioner.width
        return replace(
            sizes,
            in_channels=self.first_stage.channels + width("concat"),
            out_channels=self.first_stage.channels,
            context=max(width("crossattn"), 1),
            vector=max(width("vector"), 1),
            reference=width("reference"),
        )

    def load_pretrained(self) -> None:
        """Take the UNet's weights from the base, unless it begins from nothing.

        Raises:
            ConfigError: they are damaged, or do not fit.
        """
        if self.lora is None:
            self._fill()

    def _fill(self) -> None:
        if self.network is not None:
            return
        left = stable_video.start_unet(self.unet, self.base)
        for name, reason in left.items():
            log.warning("%s begins anew: %s", name, reason)
        self.anew = set(left)

    @property
    def pretrained(self) -> bool:
        """Whether the UNet begins with weights of the base, not from nothing."""
        return self.network is None and stable_video.has_weights(self.base)

    # --- first stage

    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures (B, places, 3, H, W) → scaled latents."""
        return self.first_stage.encode(pictures.flatten(0, 1)).unflatten(0, pictures.shape[:2])

    def decode(self, latents: Tensor, views: int = 1) -> Tensor:
        """Scaled latents (B, places, c, h, w) → pictures, each view decoded as a film of its own."""
        films = latents.unflatten(1, (-1, views)).transpose(1, 2)
        pictures = self.first_stage.decode(films.flatten(0, 2), films.shape[2]).unflatten(0, films.shape[:3])
        return pictures.transpose(1, 2).flatten(1, 2)

    # --- second stage

    def output(self, x: Tensor, time: Tensor, conditions: Conditions) -> Tensor:
        """What the UNet says of scaled noisy latents (B, places, c, h, w) at its times (B,), in float32."""
        rows = x.flatten(0, 1)
        nothing = rows.new_zeros(len(rows), 1)
        if conditions.concat is not None:
            rows = torch.cat([rows, conditions.concat.to(rows.dtype)], dim=1)
        # Frames × views are one sequence to a UNet that knows no reference: an orbit is a film of the camera.
        apart = conditions.reference is not None
        answer = self.unet(
            rows,
            time,
            context=nothing[:, None] if conditions.crossattn is None else conditions.crossattn,
            vector=nothing if conditions.vector is None else conditions.vector,
            frames=conditions.grid[0] if apart else x.shape[1],
            views=conditions.grid[1] if apart else 1,
            image_only=conditions.image_only,
            reference=conditions.reference,
        )
        return answer.unflatten(0, x.shape[:2]).float()

    def denoiser(self, conditions: Conditions) -> Denoiser:
        """`denoise` of latents (B, places, c, h, w)."""
        return self.scaling.denoiser(lambda x, time: self.output(x, time, conditions))

    def guided(self, conditions: Conditions, free: Conditions, scale: Tensor | None) -> Denoise:
        """The same, guided by a scale (places,) away from what is made of the conditions `free`."""
        if scale is None:
            return self.denoiser(conditions)
        return classifier_free(self.denoiser(conditions.after(free)), scale, frame_axis=1)

    def sample(self, denoise: Denoise, noise: Tensor, sampler: Sampler, steps: int | None = None) -> Tensor:
        """Latents from unit noise of their shape."""
        levels = sampler.grid(steps)
        return SOLVERS[sampler.solver](denoise, self.scaling.start(noise, float(levels[0])), VE(), levels)

    def blocks(self) -> list[nn.Module]:
        return blocks(self.unet)

    def checkpoint_activations(self) -> None:
        checkpoint_activations(self.unet)
