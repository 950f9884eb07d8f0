"""From a batch of films to what networks see and losses compare."""

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from salticid.data.motion import lens_of
from salticid.data.source import Batch
from salticid.geometry.lens import Lens
from salticid.recipes.sfm.jitter import jittered


@dataclass(frozen=True)
class Frames:
    """The frames of a batch; number 0 is the target, the others are its sources."""

    clean: Tensor
    """(B, N, 3, H, W) in [0, 1]: what losses compare."""
    seen: Tensor
    """The same with the colours that networks see."""
    intrinsics: Tensor
    """(B, P)"""
    offsets: tuple[int, ...]
    """When each of the sources was filmed, in frames from the target; 0: at the same time, by a stereo partner."""

    @classmethod
    def of(cls, batch: Batch, offsets: tuple[int, ...]) -> "Frames":
        """`offsets`: those of the data, the target's 0 first; validation may have fewer."""
        clean = batch["frames"].float() / 255
        stereo = "stereo_pose" in batch
        seen = jittered(clean, batch["jitter"])
        return cls(clean, seen, batch["intrinsics"].float(), (*offsets[1 : clean.shape[1] - stereo], *(0,) * stereo))

    @property
    def size(self) -> tuple[int, int]:
        return self.clean.shape[-2], self.clean.shape[-1]

    @property
    def target(self) -> Tensor:
        return self.clean[:, 0]

    @property
    def sources(self) -> Tensor:
        """(B, K, 3, H, W)"""
        return self.clean[:, 1:]

    @cached_property
    def camera(self) -> Lens:
        """Of every sample."""
        return lens_of(self.intrinsics, *self.size)
