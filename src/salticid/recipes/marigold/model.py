"""The model: a frozen VAE, a UNet that looks at a picture's latent beside a noisy one of its depth, and the text
embedding of nothing."""

import logging
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salticid.diffusion.noise import keyed_normal
from salticid.diffusion.path import VP
from salticid.diffusion.solve import Denoiser, first_order
from salticid.diffusion.times import spaced_grid
from salticid.losses.frozen import Frozen
from salticid.nets import stable_diffusion
from salticid.nets.lora import Lora, add_lora
from salticid.recipes.marigold.settings import TARGETS, Spacing, Start, TargetName

log = logging.getLogger(__name__)

PADDED, UNPADDED = 77, 2
"""Tokens of the empty prompt: filled up as CLIP was trained, or its beginning and end alone, as Marigold has it."""

CACHED_PIXELS = 1 << 15
"""Of the pictures that a CPU takes through the VAE together: eight of 64×64. Maps of more leave its cache, and a batch
of 32 took a third longer."""


class MarigoldModel(nn.Module):
    """Pictures (B, 3, H, W) in [−1, 1] ↔ latents (B, C, H/f, W/f) ↔ coded depth (B, 1, H, W) in [−1, 1]."""

    def __init__(
        self,
        base: str,
        *,
        target: TargetName,
        zero_terminal_snr: bool,
        spacing: Spacing,
        start: Start,
        padded_prompt: bool,
        lora: Lora | None,
        vae_batch: int,
    ):
        super().__init__()
        vae = stable_diffusion.make_vae(base)
        self.vae = Frozen(vae)
        self.channels: int = vae.config["latent_channels"]
        self.factor: int = 2 ** (len(vae.config["block_out_channels"]) - 1)
        self.scale: float = vae.config["scaling_factor"]
        self.vae_batch = vae_batch
        self.unet = stable_diffusion.make_unet(base, in_channels=2 * self.channels)
        if lora is not None:  # what is frozen is in no checkpoint
            stable_diffusion.load_unet(self.unet, base)
            add_lora(self.unet, lora)
            self.unet.conv_in.requires_grad_(True)  # nothing else can learn what its new channels are
        tokens = PADDED if padded_prompt else UNPADDED
        self.register_buffer("prompt", torch.zeros(1, tokens, self.unet.config["cross_attention_dim"]))
        scheduler = stable_diffusion.scheduler_config(base)
        self.path = VP.from_scheduler(scheduler | {"rescale_betas_zero_snr": zero_terminal_snr})
        self.offset: int = scheduler.get("steps_offset", 0)
        self.target, self.spacing, self.start = TARGETS[target], spacing, start
        self.base, self.lora = base, lora

    @property
    def last_time(self) -> int:
        return len(self.path.times) - 1

    @property
    def padded(self) -> bool:
        """Whether the empty prompt is filled up."""
        return self.prompt.shape[1] == PADDED

    def load_pretrained(self) -> None:
        """Take the UNet's weights and the embedding of the empty prompt from the base.

        Raises:
            ConfigError: they are not there, or do not fit.
        """
        if self.lora is None:
            stable_diffusion.load_unet(self.unet, self.base)
        self._remark_on_base()
        self.prompt.copy_(stable_diffusion.empty_prompt(self.base, self.padded))

    def _remark_on_base(self) -> None:
        """Say where a base that is a Marigold already was trained for something else."""
        if stable_diffusion.input_channels(self.base) != 2 * self.channels:
            return
        scheduler = stable_diffusion.scheduler_config(self.base)
        names = {"epsilon": "epsilon", "sample": "x0", "v_prediction": "v"}
        its = names.get(scheduler.get("prediction_type", "epsilon"))
        own = next(name for name, target in TARGETS.items() if target == self.target)
        if its != own:
            log.warning("recipe.target is %s, but the base %s predicts %s", own, self.base, its)

    # --- first stage

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """The posterior's mean, scaled: nothing is drawn."""
        vae = self.vae.network
        chunks = pictures.split(self._at_a_time(pictures, 1))
        means = torch.cat([vae.encode(chunk).latent_dist.mean for chunk in chunks]).float() * self.scale
        return means.contiguous()  # sums over other strides round otherwise than sums over latents from a file

    def _at_a_time(self, maps: Tensor, factor: int) -> int:
        """How many of maps (B, C, h, w), each cell of which stands for factor² pixels, go through the VAE together."""
        if self.vae_batch or maps.device.type != "cpu":
            return self.vae_batch or len(maps)
        return max(CACHED_PIXELS // (maps.shape[-2] * maps.shape[-1] * factor**2), 1)

    def encode_depth(self, coded: Tensor) -> Tensor:
        """Of coded depth (B, 1, H, W), as a grey picture."""
        return self.encode(coded.expand(-1, 3, -1, -1))

    def decode(self, latents: Tensor) -> Tensor:
        """Coded depth: the mean of the decoded channels, not clipped. Gradients flow through."""
        vae = self.vae.network
        chunks = latents.split(self._at_a_time(latents, self.factor))
        pictures = torch.cat([vae.decode(chunk / self.scale).sample for chunk in chunks])
        return pictures.float().mean(dim=1, keepdim=True)

    def valid_cells(self, valid: Tensor) -> Tensor:
        """Cells (B, 1, H/f, W/f) of which every pixel is valid."""
        return ~F.max_pool2d((~valid).float(), self.factor).bool()

    # --- second stage

    def output(self, image_latents: Tensor, noisy: Tensor, times: Tensor) -> Tensor:
        """What the network says of noisy latents at times (B,): its target, in float32."""
        prompt = self.prompt.to(noisy.dtype).expand(len(noisy), -1, -1)
        seen = torch.cat([image_latents, noisy], dim=1)
        return self.unet(seen, times, prompt, return_dict=False)[0].float()

    def denoiser(self, image_latents: Tensor) -> Denoiser:
        return Denoiser(lambda x, t: self.output(image_latents, x, t), self.path, self.target)

    def grid(self, steps: int, spacing: Spacing | None = None) -> Tensor:
        """The times of a number of sampling steps; `spacing`: another than the model's."""
        spacing = spacing or self.spacing
        return spaced_grid(len(self.path.times), steps, spacing, offset=self.offset if spacing == "leading" else 0)

    def sample(
        self,
        image_latents: Tensor,
        noise: Tensor,
        steps: int,
        start: Tensor | None = None,
        spacing: Spacing | None = None,
    ) -> Tensor:
        """Depth latents from noise of their shape, by DDIM.

        With depth latents to `start` from, of the grid's n + 1 times only those from number n // 2 on are gone through:
        at the first of them the two are mixed, to alpha(t) start + sigma(t) noise (SDEdit, Meng et al. 2022).
        """
        times = self.grid(steps, spacing)
        if start is not None:
            times = times[steps // 2 :]
            noise = self.path.mix(start.expand_as(noise), noise, times[0])
        return first_order(self.denoiser(image_latents), noise, self.path, times)

    def noise(self, image_latents: Tensor, keys: Tensor, *, seed: int, stream: str = "sample") -> Tensor:
        """What sampling starts from: a pure function of (seed, stream, key), or no noise at all (`start`)."""
        draws: dict[Start, Callable[[], Tensor]] = {
            "zeros": lambda: torch.zeros_like(image_latents),
            "image": lambda: image_latents,
            "gaussian": lambda: keyed_normal(
                keys, image_latents.shape[1:], seed=seed, stream=stream, device=image_latents.device
            ),
        }
        return draws[self.start]()

    def blocks(self) -> list[nn.Module]:
        return stable_diffusion.blocks(self.unet)

    def checkpoint_activations(self) -> None:
        stable_diffusion.checkpoint_activations(self.unet)
