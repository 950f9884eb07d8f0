"""Samples of pictures with depth: what all depth data sets share once a pair of files is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from salticid.data.readers.depth.augment import corner, jittered, resized
from salticid.data.source import Sample, Source
from salticid.errors import UnreadableSample

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, UInt8

    from salticid.data.readers.depth.base import DepthData


@dataclass(frozen=True, slots=True)
class Pair:
    """The files of one sample, relative to the root; `mask` is empty where there is none."""

    image: str
    depth: str
    mask: str = ""

    @property
    def id(self) -> str:
        return self.image

    @property
    def files(self) -> tuple[str, ...]:
        return (self.image, self.depth, self.mask) if self.mask else (self.image, self.depth)


class Decoded(NamedTuple):
    """What the files of a pair hold. Depth in metres may be anything where nothing was measured: 0, NaN, negative,
    infinite. `mask` says where it is good, if the data set has one."""

    picture: UInt8[np.ndarray, "h w 3"]
    depth: Float[np.ndarray, "h w"]
    mask: Bool[np.ndarray, "h w"] | None = None


class DepthPairs(Source):
    """Samples of a list of pairs.

    image: float32 (3, H, W) in [−1, 1].
    depth: float32 (1, H, W), z, m; 0 where nothing was measured. Beyond the limits (a rendered sky) it is kept in
        training, not valid, and 0 in validation.
    valid: bool (1, H, W): measured, strictly between the limits, inside the region that is judged (validation alone).
    limits: float32 (2,), near and far, m.

    Training samples are flipped, resized to `size`, cropped at random and jittered in colour; without a generator they
    are not flipped nor jittered, and the crop is the middle. Validation samples are as their files are, or resized to
    `val_size`.
    """

    def __init__(self, data: DepthData, pairs: Sequence[Pair], *, training: bool) -> None:
        self.data, self.pairs, self.training = data, pairs, training
        self.limits = torch.tensor(data.limits, dtype=torch.float32)

    def __len__(self) -> int:
        return len(self.pairs)

    def id(self, index: int) -> str:
        return self.pairs[index].id

    @property
    def outcomes(self) -> int | None:
        """Two with a flip alone: 0 is as it is, 1 is flipped."""
        if not self.training:
            return 1
        if self.data.crop or self.data.jitter:
            return None
        return 2 if self.data.flip else 1

    def outcome(self, index: int, which: int) -> Sample:
        if self.outcomes is None:
            return super().outcome(index, which)
        return self._sample(index, bool(which), None)

    def sample(self, index: int, augment: Generator | None) -> Sample:
        if self.outcomes is not None:
            return self._sample(index, bool(self.draw(augment)), None)
        flip = augment is not None and self.data.flip and bool(torch.randint(2, (), generator=augment))
        return self._sample(index, flip, augment)

    def _sample(self, index: int, flip: bool, augment: Generator | None) -> Sample:
        data = self.data
        image, depth = self._planes(self.pairs[index])  # and where it is valid, as a second plane
        if flip:  # before the resize: of a tie, nearest-exact takes the right neighbour
            image, depth = image.flip(-1), depth.flip(-1)
        size = data.size if self.training else data.val_size
        if size:
            # Depth is never averaged: between an edge and what is behind it there is nothing.
            image, depth = resized(image, size, data.resize), resized(depth, size, "nearest")
        if self.training and data.crop:
            image, depth = self._cropped(index, image, depth, augment)
        image = image.float().div_(127.5).sub_(1)
        if data.jitter and augment is not None:
            image = jittered(image, data.jitter, augment)
        return {"image": image, "depth": depth[:1], "valid": depth[1:] > 0, "limits": self.limits.clone()}

    def _planes(self, pair: Pair) -> tuple[UInt8[Tensor, "3 h w"], Float[Tensor, "2 h w"]]:
        """The picture, and the depth with (1 or 0) where it is valid, at the size of their files."""
        data = self.data
        picture, depth, mask = data.decode(pair)
        for name, plane in (("depth", depth), ("mask", mask)):
            if plane is not None and plane.shape != picture.shape[:2]:
                sizes = " and ".join(f"{height}×{width}" for height, width in (picture.shape[:2], plane.shape))
                raise UnreadableSample(f"{data.root / pair.image}: picture and {name} differ in size, {sizes}")
        window = data.window(pair, depth.shape)
        picture, depth = picture[window], depth[window]
        valid = data.valid(depth, None if mask is None else mask[window])
        if not self.training:
            judged = np.zeros_like(valid)
            judged[data.judged(*valid.shape)] = True
            valid &= judged
        if not valid.any():
            near, far = data.limits
            raise UnreadableSample(f"{data.root / pair.depth}: no valid depth between {near:g} and {far:g} m")
        kept = np.isfinite(depth) & (depth > 0) if self.training else valid
        planes = np.stack([np.where(kept, depth, np.float32(0)), valid]).astype(np.float32, copy=False)
        return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))), torch.from_numpy(planes)

    def _cropped(
        self, index: int, image: Tensor, depth: Tensor, augment: Generator | None
    ) -> tuple[UInt8[Tensor, "3 h w"], Float[Tensor, "2 h w"]]:
        height, width = crop = self.data.crop or (0, 0)
        if height > image.shape[-2] or width > image.shape[-1]:
            sizes = f"{image.shape[-2]}×{image.shape[-1]} is smaller than data.crop, {height}×{width}"
            raise UnreadableSample(f"{self.data.root / self.pairs[index].image}: {sizes}")
        top, left = corner(image, crop, augment)
        rows, columns = slice(top, top + height), slice(left, left + width)
        return image[:, rows, columns], depth[:, rows, columns]
