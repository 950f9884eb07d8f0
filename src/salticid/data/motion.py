"""What all data sets of moving cameras share: neighbours, drawn colour jitter and mirrored samples.

A sample of such a data set holds, with n = len(offsets) and N = n, or n + 1 with the other camera of a stereo pair:
    frames: uint8 (N, 3, H, W), RGB. Frame 0 is the target, frame i lies `offsets[i]` frames from it; the other camera's
        frame is the last.
    intrinsics: float32 (P,), pixels of H × W, centres at integers. P names the model: 4 pinhole (fx, fy, cx, cy), 5 UCM
        (and ξ), 6 double sphere (and ξ, α), 8 Kannala–Brandt (and k1 … k4).
    jitter: float32 (5,), see `Jitter`; (1, 1, 1, 0, 0) changes nothing. Drawn here, applied by the recipe.
    place: int64 (2,), number of the sequence in the source and of the target in its sequence.
Where there is truth:
    depth: float32 (1, h, w), z, m; 0 where not valid. h × w may be the measured size instead of H × W.
    valid: bool (1, h, w).
    limits: float32 (2,), nearest and farthest valid depth, m.
    poses: float32 (n, 4, 4), camera of frame i to the target's camera, m; the first is the identity.
    stereo_pose: float32 (4, 4), the other camera to the target's camera, m.
    travel: float32 (n − 1,), distance from the target's camera to that of frame i, m.
    flow: float32 (n − 1, 2, H, W), from the target to frame i, (x, y), pixels.
    flow_valid: bool (n − 1, 1, H, W), seen in both frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from salticid.data.source import Sample
from salticid.errors import ConfigError
from salticid.geometry.cameras import UCM, DoubleSphere, KannalaBrandt, Pinhole
from salticid.geometry.lens import Lens

LENSES: dict[int, type[Lens]] = {4: Pinhole, 5: UCM, 6: DoubleSphere, 8: KannalaBrandt}
"""Model by the number of its parameters."""
_MIRROR = torch.tensor((-1.0, 1.0, 1.0, 1.0))


@dataclass(frozen=True)
class Jitter:
    """How much the colours that networks see differ from those of the pictures; the same for all frames of a sample.

    Args:
        probability: of any change.
        brightness, contrast, saturation: factors are drawn uniformly from 1 ± this, not below 0.
        hue: shifts are drawn uniformly from ± this, turns; at most 0.5.

    Raises:
        ConfigError: a value out of range.
    """

    probability: float = 0.5
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.1

    def __post_init__(self) -> None:
        for key, most in (("probability", 1), ("brightness", 1), ("contrast", 1), ("saturation", 1), ("hue", 0.5)):
            if not 0 <= getattr(self, key) <= most:
                raise ConfigError(f"data.jitter.{key} is {getattr(self, key)}; expected 0 to {most}")

    def draw(self, generator: Generator) -> Tensor:
        """float32 (5,): factors of brightness, contrast and saturation, shift of the hue (turns), and in which order
        the four apply: the number (0 to 23) of a permutation of them in lexicographic order."""
        chance, *unit, order = torch.rand(6, generator=generator).tolist()
        if chance >= self.probability:
            return no_jitter()
        ranges = (self.brightness, self.contrast, self.saturation, self.hue)
        brightness, contrast, saturation, hue = (r * (2 * u - 1) for r, u in zip(ranges, unit, strict=True))
        return torch.tensor([1 + brightness, 1 + contrast, 1 + saturation, hue, min(int(24 * order), 23)])


def no_jitter() -> Tensor:
    return torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0])


@dataclass(frozen=True)
class Augmentation:
    """What a training sample goes through. Args: flip: probability that it is mirrored. jitter: None: none is drawn.

    Raises:
        ConfigError: `flip` is not a probability.
    """

    flip: float = 0.5
    jitter: Jitter | None = Jitter()

    def __post_init__(self) -> None:
        if not 0 <= self.flip <= 1:
            raise ConfigError(f"data.augmentation.flip is {self.flip}; expected 0 to 1")

    def __call__(self, sample: Sample, generator: Generator | None) -> Sample:
        """The sample with its jitter, perhaps mirrored; without a generator neither."""
        if generator is None:
            return sample | {"jitter": no_jitter()}
        flip = float(torch.rand((), generator=generator)) < self.flip
        sample = sample | {"jitter": self.jitter.draw(generator) if self.jitter else no_jitter()}
        return mirrored(sample) if flip else sample


def mirrored(sample: Sample) -> Sample:
    """What a camera on the other side of a mirror sees: pictures and maps from right to left, the principal point with
    them, poses conjugated by diag(−1, 1, 1, 1), horizontal flow negated."""
    changed = {
        name: sample[name].flip(-1) for name in ("frames", "depth", "valid", "flow", "flow_valid") if name in sample
    }
    if "flow" in sample:
        changed["flow"][:, 0].neg_()
    intrinsics = sample["intrinsics"].clone()
    intrinsics[2] = sample["frames"].shape[-1] - 1 - intrinsics[2]
    for name in ("poses", "stereo_pose"):
        if name in sample:
            changed[name] = sample[name] * _MIRROR * _MIRROR[:, None]
    return sample | changed | {"intrinsics": intrinsics}


def lens_parameters(lens: Lens) -> Tensor:
    """float32 (P,), as `intrinsics` of a sample."""
    return torch.tensor([float(value) for name, value in lens.parameters.items() if name != "max_angle"])


def lens_of(intrinsics: Tensor | Sequence[float], height: int, width: int) -> Lens:
    """The lens of `intrinsics` as in a sample or, (B, P), a batch: one whose parameters are (B,).

    Raises:
        ConfigError: no model has that many parameters.
    """
    values = intrinsics.unbind(-1) if isinstance(intrinsics, Tensor) and intrinsics.ndim > 1 else list(intrinsics)
    if len(values) not in LENSES:
        known = ", ".join(f"{count} ({model.__name__})" for count, model in LENSES.items())
        raise ConfigError(f"{len(values)} intrinsics; expected {known}")
    values = [value if isinstance(value, Tensor) and value.ndim else float(value) for value in values]
    return LENSES[len(values)](height, width, *values)


def check_offsets(offsets: Sequence[int], least: int = 2, key: str = "offsets") -> None:
    """Raise ConfigError unless `offsets` are those of a target and of other frames, all different, `least` in all."""
    if len(offsets) < least or offsets[0] != 0 or len(set(offsets)) < len(offsets):
        raise ConfigError(f"data.{key}: expected 0 (the target) and then other numbers, got {list(offsets)}")
