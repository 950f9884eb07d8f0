"""The UNet of SVD, SV3D and SV4D (Blattmann et al. 2023; Voleti et al. 2024; Xie et al. 2024)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salticid.nets.blocks import Recomputable, group_norm, sinusoids
from salticid.nets.video.blocks import Rows, VideoResBlock, VideoTransformer
from salticid.nets.video.config import VideoUNetConfig
from salticid.nets.video.layers import GROUPS, Block, perceptron, zeroed


class Down(nn.Module):
    """Half the height and width, rounded up."""

    def __init__(self, width: int):
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Up(nn.Module):
    """To the height and width of the level above, by nearest neighbour and a convolution."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return self.conv(F.interpolate(x, size, mode="nearest"))


class VideoUNet(nn.Module):
    """Rows of pictures (N, in_channels, h, w) → (N, out_channels, h, w), the rows of a clip one after the other.

    Without `config.reference` (SVD, SV3D) N = batch · frames, and row b · frames + t is frame t of clip b; an orbit of
    SV3D is such a clip. With it (SV4D) N = batch · frames · views, and row (b · frames + t) · views + v is view v of
    frame t. A new network answers 0 and its blocks are the identity.

    Names of weights are those of `svd.safetensors` (below `model.diffusion_model.`); `sv4d.safetensors` calls two of
    the layers differently, see `names`.
    """

    def __init__(self, config: VideoUNetConfig):
        super().__init__()
        self.config = config
        first, embedding = config.widths[0], 4 * config.widths[0]
        self.time_embed = perceptron(first, embedding, embedding)
        self.label_emb = nn.Sequential(perceptron(config.vector, embedding, embedding))
        self.input_blocks, kept = _way_down(config)
        last = config.widths[-1]
        middle = [
            VideoResBlock(last, last, embedding),
            _transformer(config, -1),
            VideoResBlock(last, last, embedding),
        ]
        self.middle_block = nn.ModuleList(middle)
        self.output_blocks = _way_up(config, kept)
        out = zeroed(nn.Conv2d(first, config.out_channels, 3, padding=1))
        self.out = nn.Sequential(group_norm(first, GROUPS), nn.SiLU(), out)

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        *,
        context: Tensor,
        vector: Tensor,
        frames: int,
        views: int = 1,
        image_only: Tensor | None = None,
        reference: Tensor | None = None,
    ) -> Tensor:
        """The network's raw answer, (N, out_channels, h, w).

        What is said of a whole clip may have one row for it instead of one per picture, or in SV4D one per frame.

        Args:
            x: (N, in_channels, h, w), scaled noisy latents and conditioning latents.
            time: (N,) or (batch,), the network's time, ¼ ln σ for SVD.
            context: (N, m, config.context) or (batch, m, …), tokens such as one CLIP embedding, m = 1.
            vector: (N, config.vector) or (batch, …), embedded numbers (fps, motion bucket, noise, camera …).
            frames: T ≥ 1.
            views: V ≥ 1; 1 without `config.reference`.
            image_only: (batch, frames) of bool or 0 and 1: rows of ones are single pictures, the temporal layers have
                no part in them. Without `config.reference` alone: SV4D's blends know no such thing.
            reference: (batch, views, config.reference, h, w), latents of the reference frame from all views. With
                `config.reference` alone.

        Raises:
            ValueError: a tensor's rows are not those of so many frames and views, or an argument is missing, or the
                network has no use for it.
        """
        rows = self._rows(x, frames, views, image_only, reference)
        single = None if image_only is None else _spread(image_only.bool().flatten(), x, "image_only")
        looks = None if reference is None else reference.flatten(0, 1)
        context = _spread(context, x, "context")
        embedding = self._embedding(_spread(time, x, "time"), _spread(vector, x, "vector"))

        kept: list[Tensor] = []

        def run(stage: nn.Module, h: Tensor) -> Tensor:
            for layer in stage.children():
                if isinstance(layer, VideoResBlock):
                    h = layer(h, embedding, rows, single)
                elif isinstance(layer, VideoTransformer):
                    h = layer(h, context, rows, single, looks)
                elif isinstance(layer, Up):
                    h = layer(h, kept[-1].shape[-2:])
                else:
                    h = layer(h)
            return h

        for stage in self.input_blocks:
            x = run(stage, x)
            kept.append(x)
        x = run(self.middle_block, x)
        for stage in self.output_blocks:
            x = run(stage, torch.cat([x, kept.pop()], dim=1))
        return self.out(x)

    def _embedding(self, time: Tensor, vector: Tensor) -> Tensor:
        """(N,) and (N, vector) → (N, 4 · first width)."""
        waves = sinusoids(time, self.config.widths[0]).to(vector.dtype)
        return self.time_embed(waves) + self.label_emb(vector)

    def _rows(self, x: Tensor, frames: int, views: int, image_only: Tensor | None, reference: Tensor | None) -> Rows:
        """How the rows belong together, once it is sure that they do."""
        if frames < 1 or views < 1 or x.shape[0] % (frames * views):
            raise ValueError(f"{x.shape[0]} rows are no clips of {frames} frames × {views} views")
        batch = x.shape[0] // (frames * views)
        if self.config.reference:
            if image_only is not None:
                raise ValueError("image_only: SV4D has no blend that leaves single pictures out")
            if reference is None or reference.shape[:3] != (batch, views, self.config.reference):
                given = None if reference is None else tuple(reference.shape)
                raise ValueError(f"reference is {given}; expected ({batch}, {views}, {self.config.reference}, h, w)")
            return Rows(outer=frames, inner=views)
        if views > 1 or reference is not None:
            raise ValueError("the network has no frame attention: views are 1, and there is no reference")
        if image_only is not None and image_only.shape != (batch, frames):
            raise ValueError(f"image_only is {tuple(image_only.shape)}; expected ({batch}, {frames})")
        return Rows(outer=1, inner=frames)


def blocks(unet: VideoUNet) -> list[nn.Module]:
    """Residual blocks and transformers in the order of computation: what FSDP shards one by one and `torch.compile`
    compiles."""
    stages = [*unet.input_blocks, unet.middle_block, *unet.output_blocks]
    return [layer for stage in stages for layer in stage.children() if isinstance(layer, Recomputable)]


def checkpoint_activations(unet: VideoUNet) -> None:
    """Let every block compute its activations anew in the backward pass rather than keep them."""
    for block in blocks(unet):
        block.recompute = True  # type: ignore[assignment]


def idle(unet: VideoUNet) -> list[nn.Module]:
    """Layers that do nothing where there is but one context token per row, as in SVD, SV3D and SV4D: queries, keys and
    their norms. Their gradient is zero but for rounding, of which Adam would make steps of full size; frozen
    (`requires_grad_(False)`) they stay as they are, and are not computed in training either."""
    return [layer for block in unet.modules() if isinstance(block, Block) for layer in block.idle]


def _way_down(config: VideoUNetConfig) -> tuple[nn.ModuleList, list[int]]:
    """The stages, and the width of what each leaves for the way up."""
    width = config.widths[0]
    stages, kept = [nn.ModuleList([nn.Conv2d(config.in_channels, width, 3, padding=1)])], [width]
    for level, outputs in enumerate(config.widths):
        for _ in range(config.blocks):
            stages.append(_stage(config, level, width))
            width = outputs
            kept.append(width)
        if level < len(config.widths) - 1:
            stages.append(nn.ModuleList([Down(width)]))
            kept.append(width)
    return nn.ModuleList(stages), kept


def _way_up(config: VideoUNetConfig, kept: list[int]) -> nn.ModuleList:
    kept, width = list(kept), config.widths[-1]
    stages = []
    for level in reversed(range(len(config.widths))):
        for number in range(config.blocks + 1):
            stage = _stage(config, level, width + kept.pop(), up=True)
            width = config.widths[level]
            if level and number == config.blocks:
                stage.append(Up(width))
            stages.append(stage)
    return nn.ModuleList(stages)


def _stage(config: VideoUNetConfig, level: int, inputs: int, *, up: bool = False) -> nn.ModuleList:
    """A residual block, and a transformer where the level has attention."""
    epsilon = 1e-6 if config.diffusers_norms and (up or config.attention[level]) else 1e-5
    block = VideoResBlock(inputs, config.widths[level], 4 * config.widths[0], epsilon)
    return nn.ModuleList([block, _transformer(config, level)] if config.attention[level] else [block])


def _transformer(config: VideoUNetConfig, level: int) -> VideoTransformer:
    return VideoTransformer(config.widths[level], config.heads[level], config.context, config.reference)


def _spread(value: Tensor, x: Tensor, name: str) -> Tensor:
    """(n, …) → (N, …): each row N / n times in turn.

    Raises:
        ValueError: n does not divide N.
    """
    times, rest = divmod(x.shape[0], max(value.shape[0], 1))
    if rest or not times or not value.shape[0]:
        raise ValueError(f"{name} has {value.shape[0]} rows; expected {x.shape[0]}, or one per clip or frame")
    return value if times == 1 else value.repeat_interleave(times, dim=0)
