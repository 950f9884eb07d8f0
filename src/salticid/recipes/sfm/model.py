"""The networks of self-supervised motion, and what they say of the frames of a film."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from salticid.geometry import se3
from salticid.nets.motion import DepthDecoder, FrameEncoder, PoseDecoder, PositionDecoder, TransformDecoder
from salticid.nets.motion.cost_volume import CostVolumePose
from salticid.nets.motion.decoder import Head
from salticid.recipes.sfm.frames import Frames
from salticid.recipes.sfm.settings import DepthRange, Networks, Stage

PARTS: dict[Stage, tuple[str, ...]] = {
    "depth": ("depth", "pose"),
    "flow": ("flow",),
    "appearance": ("depth", "pose", "appearance", "flow"),
    "alternating": ("depth", "pose", "appearance", "flow"),
}
"""What a stage needs."""


TINY = 1e-6
"""Distance of disparities from 0 and 1 below which they are no longer told apart."""


class UNet(nn.Module):
    """An encoder and one of the decoders."""

    def __init__(self, encoder: FrameEncoder, decoder: type[DepthDecoder | PositionDecoder | TransformDecoder]):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder(encoder.channels)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) → maps by scale, 0 (H × W) to 3."""
        return self.decoder(self.encoder(images), (images.shape[-2], images.shape[-1]))

    def checkpoint_activations(self) -> None:
        self.encoder.checkpoint_activations()
        self.decoder.checkpoint_activations()


class PairPose(nn.Module):
    """Pose from an encoder of two frames together."""

    def __init__(self, encoder: FrameEncoder, scale: float):
        super().__init__()
        self.encoder = encoder
        self.decoder = PoseDecoder(encoder.channels, scale=scale)


class Motions(NamedTuple):
    """How the cameras of the sources lie to the target's."""

    to_source: Tensor
    """(B, K, 4, 4): points in the target's frame → in the source's."""
    intrinsics: Tensor
    """(B, P): given, or corrected."""


class Pair(NamedTuple):
    """Two frames in the order that the pose network sees them."""

    first: int
    second: int
    inverted: bool
    """The network's answer leads from a source to the target."""


class MotionModel(nn.Module):
    """Depth of a frame; motion, optical flow and appearance flow between two."""

    def __init__(self, settings: Networks, depth_range: DepthRange, stage: Stage):
        super().__init__()
        self.settings, self.range = settings, depth_range
        parts = PARTS[stage]
        self.depth = UNet(self._encoder(1), DepthDecoder) if "depth" in parts else None
        self.pose = self._pose() if "pose" in parts else None
        self.flow = UNet(self._encoder(2), PositionDecoder) if "flow" in parts else None
        self.appearance = UNet(self._encoder(2), TransformDecoder) if "appearance" in parts else None
        self.lens_head = LensHead(self._pose_channels()) if self.pose and settings.intrinsics == "learnt" else None

    def _encoder(self, images: int, *, backbone: str | None = None) -> FrameEncoder:
        s = self.settings
        return FrameEncoder(backbone or s.backbone, images, False, s.normalise, s.norm, key="recipe.networks")

    def load_pretrained(self) -> None:
        """Give encoders the weights that `networks.pretrained` names: a model that is built to be used needs none.

        Raises:
            ConfigError: they cannot be loaded.
        """
        s = self.settings
        if not s.pretrained:
            return
        for encoder in [module for module in self.modules() if isinstance(module, FrameEncoder)]:
            args = (encoder.name, encoder.images, s.pretrained, s.normalise, s.norm)
            encoder.load_state_dict(FrameEncoder(*args, key="recipe.networks").state_dict())

    def _pose(self) -> nn.Module:
        s = self.settings
        if s.pose == "cost_volume":
            return CostVolumePose(scale=s.pose_scale)
        if s.pose == "shared":
            assert self.depth is not None
            return PoseDecoder(self.depth.encoder.channels, inputs=2, scale=s.pose_scale)
        return PairPose(self._encoder(2, backbone=s.pose_backbone), s.pose_scale)

    def _pose_channels(self) -> int:
        if isinstance(self.pose, CostVolumePose):
            return self.pose.last.in_channels
        encoder = self.pose.encoder if isinstance(self.pose, PairPose) else self.depth.encoder  # type: ignore[union-attr]
        return encoder.channels[-1]

    # --- what it says

    def disparities(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) → (B, 1, ⌈H/2^s⌉, ⌈W/2^s⌉) in (0, 1), by scale s, 0 first."""
        assert self.depth is not None
        return self.depth(images)

    def to_depth(self, disparity: Tensor) -> Tensor:
        """Disparity in (0, 1), (…, H, W) → depth (or distance) from far to near, float32; with `range.relative`, in
        units of its harmonic mean over each map."""
        linear = self.linear(disparity)
        if self.range.relative:
            return 1 / linear
        low, high = 1 / self.range.far, 1 / self.range.near
        return 1 / (low + (high - low) * linear)

    def linear(self, disparity: Tensor) -> Tensor:
        """Disparity in (0, 1), (…, H, W) → what inverse depth is linear in (but for an offset), float32: disparity
        itself; with `range.relative`, its odds over their mean. For whatever compares or smooths shapes."""
        disparity = disparity.float()
        if not self.range.relative:
            return disparity
        odds = disparity.clamp(TINY, 1 - TINY)
        odds = odds / (1 - odds)
        return odds / odds.mean(dim=(-2, -1), keepdim=True)

    def motions(self, frames: Frames, known: Tensor | None = None) -> Motions:
        """`known`: (B, 4, 4), the camera of a stereo partner, the last source, to the target's."""
        pairs = [self._pair(k, offset) for k, offset in enumerate(frames.offsets, start=1) if offset]
        intrinsics, moves = frames.intrinsics, []
        if pairs:
            # Pair after pair of each sample: (B·K, …)
            first = frames.seen[:, [pair.first for pair in pairs]].flatten(0, 1)
            second = frames.seen[:, [pair.second for pair in pairs]].flatten(0, 1)
            axis_angle, translation, coarsest = self._motion(first, second, frames, len(pairs))
            moved = se3.pose(se3.axis_angle_to_matrix(axis_angle), translation).unflatten(0, (-1, len(pairs)))
            moves = [se3.inverse(moved[:, k]) if pair.inverted else moved[:, k] for k, pair in enumerate(pairs)]
            if self.lens_head is not None:
                intrinsics = self.lens_head(coarsest, intrinsics, frames.size)
        if known is not None:
            moves.append(se3.inverse(known))
        return Motions(torch.stack(moves, dim=1), intrinsics)

    def _pair(self, number: int, offset: int) -> Pair:
        if self.settings.pose_order == "source_target":
            return Pair(number, 0, inverted=False)
        return Pair(number, 0, inverted=True) if offset < 0 else Pair(0, number, inverted=False)

    def _motion(self, first: Tensor, second: Tensor, frames: Frames, pairs: int) -> tuple[Tensor, Tensor, Tensor]:
        """Axis-angle and translation (B·K, 3), float32, and the network's coarsest map."""
        if isinstance(self.pose, CostVolumePose):
            rays = frames.camera.rays()[0].permute(0, 3, 1, 2).repeat_interleave(pairs, dim=0)
            axis_angle, translation, coarsest = self.pose(first, second, rays)
            return axis_angle.float(), translation.float(), coarsest
        if isinstance(self.pose, PairPose):
            maps = [self.pose.encoder(torch.cat([first, second], dim=1))[-1]]
            axis_angle, translation = self.pose.decoder(*maps)
        else:
            assert self.depth is not None
            assert isinstance(self.pose, PoseDecoder)
            maps = [self.depth.encoder(images)[-1] for images in (first, second)]
            axis_angle, translation = self.pose(*maps)
        return axis_angle[:, 0].float(), translation[:, 0].float(), maps[0]

    def flows(self, frames: Frames, *, reverse: bool = False) -> list[Tensor]:
        """Optical flow from the target to each source (`reverse`: from each source to the target), (B·K, 2, …) by
        scale, pixels of the full resolution."""
        assert self.flow is not None
        target, sources = frames.seen[:, :1].expand(-1, frames.seen.shape[1] - 1, -1, -1, -1), frames.seen[:, 1:]
        shown = (target, sources) if reverse else (sources, target)
        return self.flow(torch.cat(shown, dim=2).flatten(0, 1))

    def appearances(self, warped: Tensor, target: Tensor) -> list[Tensor]:
        """What is to be added to the target to look as the warped source does, (B, 3, …) by scale, in (−1, 1)."""
        assert self.appearance is not None
        return self.appearance(torch.cat([warped, target], dim=1))

    def checkpoint_activations(self) -> None:
        for module in self.modules():
            if isinstance(module, UNet):
                module.checkpoint_activations()
            elif isinstance(module, PairPose):
                module.encoder.checkpoint_activations()


class LensHead(nn.Module):
    """Corrections of focal lengths and principal point, from the coarsest map of a pose network; at first none."""

    def __init__(self, channels: int):
        super().__init__()
        self.last = Head(channels, 4, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, coarsest: Tensor, intrinsics: Tensor, size: tuple[int, int]) -> Tensor:
        """Maps (B·K, C, h, w) of K pairs a sample, intrinsics (B, P) → corrected (B, P): fx and fy times e^a, cx and cy
        plus b·W and b·H."""
        change = self.last(coarsest).mean(dim=(2, 3)).float().unflatten(0, (len(intrinsics), -1)).mean(dim=1)
        focal = intrinsics[:, :2] * change[:, :2].exp()
        centre = intrinsics[:, 2:4] + change[:, 2:] * intrinsics.new_tensor([size[1], size[0]])
        return torch.cat([focal, centre, intrinsics[:, 4:]], dim=1)
