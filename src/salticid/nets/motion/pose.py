"""The decoder of relative camera poses."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from salticid.nets.motion.decoder import Head

WIDTH = 256


class PoseDecoder(nn.Module):
    """Four convolutions of an encoder's coarsest map, and the mean over all pixels.

    Monodepth2's pose network is one input (the map of a pair of images) and two frames, of which it uses the first; one
    encoder for depth and pose means two inputs (the map of each image). AF-SfMLearner's scale is 0.001.

    Args:
        channels: of the encoder's maps; the last counts.
        inputs: number of maps, each squeezed by the same convolution.
        frames: number of poses.
        scale: what rotation and translation are multiplied by, so that a new network hardly moves.
    """

    def __init__(self, channels: Sequence[int], inputs: int = 1, frames: int = 2, scale: float = 0.01):
        super().__init__()
        self.frames, self.scale = frames, scale
        self.squeeze = nn.Conv2d(channels[-1], WIDTH, 1)
        self.first = nn.Conv2d(inputs * WIDTH, WIDTH, 3, padding=1)
        self.second = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.last = Head(WIDTH, 6 * frames, 1)

    def forward(self, *maps: Tensor) -> tuple[Tensor, Tensor]:
        """Coarsest maps (B, C, h, w), one an input → axis-angle in radians and translation, both (B, frames, 3), in
        float32 under autocast."""
        x = torch.cat([self.squeeze(x).relu() for x in maps], dim=1)
        x = self.last(self.second(self.first(x).relu()).relu())
        pose = self.scale * x.mean(dim=(2, 3)).unflatten(1, (self.frames, 6))
        return pose[..., :3], pose[..., 3:]
