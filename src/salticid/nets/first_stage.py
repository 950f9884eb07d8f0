"""The first stage: pictures ↔ what the diffusion model works on, latents of a frozen VAE or the pixels themselves."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from salticid.errors import require
from salticid.losses.frozen import Frozen


@dataclass(frozen=True)
class FirstStageSettings:
    """What stands between pictures and latents, and how many it takes at a time."""

    kind: Literal["vae", "identity"] = "vae"
    """`vae`: that of the recipe's base, temporal or not. `identity`: pixels are the latents."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of its arithmetic; auto: the trainer's."""
    encode_batch: int = 0
    """Pictures that are encoded at a time; 0: all."""
    decode_frames: int = 14
    """Frames of a clip that are decoded at a time; 0: all. A temporal decoder's pixels depend on it."""
    decode_overlap: int = 0
    """Frames that a chunk shares with the one before; there the two are blended, from one to the other."""

    def __post_init__(self) -> None:
        for key, value in (("encode_batch", self.encode_batch), ("decode_frames", self.decode_frames)):
            require(f"recipe.first_stage.{key}", value, value >= 0, "0 or more")
        most = self.decode_frames // 2
        require(
            "recipe.first_stage.decode_overlap",
            self.decode_overlap,
            0 <= self.decode_overlap <= most,
            f"0 to {most}, half of decode_frames",
        )


class FirstStage(nn.Module):
    """Pictures (N, 3, H, W) in [−1, 1] ↔ latents (N, channels, H / factor, W / factor).

    Args:
        base: whose VAE it is, as in `nets.stable_video`.
    """

    def __init__(self, base: str, settings: FirstStageSettings):
        super().__init__()
        self.settings = settings
        self.vae: Frozen | None = None
        self.channels, self.factor, self.scale = 3, 1, 1.0
        if settings.kind == "vae":
            from salticid.nets.stable_video import make_vae

            vae = make_vae(base)
            self.vae = Frozen(vae)
            self.channels, self.factor, self.scale = vae.latent_channels, vae.factor, vae.scaling_factor

    def networks(self) -> Sequence[nn.Module]:
        """What latents depend on."""
        return [] if self.vae is None else [self.vae.network]

    @torch.no_grad()
    def encode(self, pictures: Tensor, *, scaled: bool = True) -> Tensor:
        """The posterior's mode in float32, of unit variance where it is `scaled`: nothing is drawn."""
        if self.vae is None:
            return pictures.float()
        with self._precision(pictures):
            parts = pictures.split(self.settings.encode_batch or len(pictures))
            found = torch.cat([self.vae.network.encode_mode(part) for part in parts]).float()
        return (found * self.scale if scaled else found).contiguous()

    @torch.no_grad()
    def decode(self, latents: Tensor, frames: int) -> Tensor:
        """Scaled latents (b · frames, c, h, w) of clips → pictures in float32, not clipped."""
        if self.vae is None:
            return latents.float()
        decode = self.vae.network.decode
        with self._precision(latents):
            clips = [self._decode_clip(decode, clip / self.scale) for clip in latents.split(frames)]
        return torch.cat(clips)

    def _decode_clip(self, decode: Callable[[Tensor, int], Tensor], latents: Tensor) -> Tensor:
        """Chunk by chunk, the frames that two chunks share blended on a line."""
        made: list[Tensor] = []
        overlap = self.settings.decode_overlap
        for start, end in _chunks(len(latents), self.settings.decode_frames or len(latents), overlap):
            part = decode(latents[start:end], end - start).float()
            if start:
                share = torch.arange(1, overlap + 1, device=part.device).view(-1, 1, 1, 1) / (overlap + 1)
                made[-1][len(made[-1]) - overlap :].lerp_(part[:overlap], share)
                part = part[overlap:]
            made.append(part)
        return torch.cat(made)

    def _precision(self, tensor: Tensor) -> AbstractContextManager[Any]:
        kind = self.settings.precision
        if kind == "auto":
            return nullcontext()
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[kind]
        return torch.autocast(tensor.device.type, dtype=dtype, enabled=kind != "fp32")


def _chunks(frames: int, size: int, overlap: int) -> Iterator[tuple[int, int]]:
    """First and last + 1 of chunks that share `overlap` frames; the last chunk may be shorter."""
    start = 0
    while start + size < frames:
        yield start, start + size
        start += size - overlap
    yield start, frames
