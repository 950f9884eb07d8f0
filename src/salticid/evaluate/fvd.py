"""FVD: the Fréchet distance of two sets of videos in the features of an I3D network (Unterthiner et al. 2018)."""

from __future__ import annotations

import re
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from salticid.errors import ConfigError, UserError
from salticid.evaluate.fid import frechet_distance
from salticid.losses.frozen import Frozen

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

FEATURES = 400
FVD_ENOUGH = 2048
"""Videos from which on an FVD is worth telling, as in StyleGAN-V; the SVD paper has 13 320."""
USUAL_FRAMES = 16
LEAST_FRAMES = 10
"""Fewer are halved away: three strides of 2, then a pooling over 2 frames."""
CODE_BYTES = 2**24
"""So much code is read of a file; a network has some hundred kilobytes."""
EXPECTED = "the I3D of FVD as TorchScript (i3d_torchscript.pt)"
OPTIONS = ("rescale", "resize", "return_features")
FILE_OPERATORS = re.compile(rb"\b(save|from_file|load_tensor)\b")
"""Those of torch's operators that read or write files: `aten::save`, `aten::from_file`, `debugprims::load_tensor`."""


class VideoFeatures(nn.Module):
    """The I3D that FVD is defined by, trained on Kinetics-400: the TorchScript file of StyleGAN-V (Skorokhodov et al.
    2022), which the SVD paper (appendix E.4) uses as well.

    The protocol is theirs: 8-bit videos, values 0 to 255, all frames at once. The file's own code maps them to [−1, 1]
    (`rescale`) and bilinearly to 224 × 224 whatever their shape was (`resize`); the features are the 400 logits
    (`return_features`). Crops and frame rates are up to the caller. Videos are looked at one by one, in float32
    whatever autocast says, so that a batch changes nothing.

    TorchScript is code, but of torch's operators only. Files whose code names one of those that read or write files
    are refused before they are loaded. Frozen and outside `state_dict()`: see `Frozen`.

    Args:
        path: local file.
        key: configuration key that errors name.

    Raises:
        ConfigError: there is no such file, it is no TorchScript, or not one that is called like that.
    """

    def __init__(self, path: str, *, key: str = "metrics.fvd"):
        super().__init__()
        self.judge = Frozen(_Called(_network(path, key)))
        try:
            self(torch.zeros(1, 3, LEAST_FRAMES, 32, 32, dtype=torch.uint8))
        except (RuntimeError, ValueError, torch.jit.Error) as error:
            raise ConfigError(f"{key}: {path} fails on a video ({_last_line(error)}); expected {EXPECTED}") from None

    @torch.no_grad()
    def forward(self, videos: UInt8[Tensor, "b 3 t h w"]) -> Float[Tensor, "b 400"]:
        """Features of RGB videos, which `to_and_fro` makes long enough.

        Raises:
            ValueError: the videos are not uint8, or the network makes something else of them.
        """
        if videos.dtype != torch.uint8:
            raise ValueError(f"VideoFeatures: videos are {videos.dtype}; expected uint8")
        long = to_and_fro(videos, LEAST_FRAMES).to(self.judge.dtype)
        # Without the optimiser, which would time the first calls and then fuse: those would have other digits.
        with torch.autocast(videos.device.type, enabled=False), torch.jit.optimized_execution(False):
            found = [self.judge(video[None]) for video in long]
        features = torch.stack(found).flatten(1)
        if features.shape[1] != FEATURES:
            raise ValueError(f"{features.shape[1]} features a video instead of {FEATURES}")
        return features


class _Called(nn.Module):
    """A script, called as FVD does, in a module that can be frozen as a script cannot."""

    def __init__(self, script: nn.Module):
        super().__init__()
        self.script = script

    def forward(self, videos: Tensor) -> Tensor:
        return self.script(videos, rescale=True, resize=True, return_features=True)


def to_and_fro(videos: Tensor, least: int) -> Tensor:
    """Videos (B, C, T, H, W) with fewer than `least` frames are played forwards, backwards and so on up to `least`:
    unlike a last frame that stands still, that keeps the motion and weighs frames alike. Others are as they were."""
    frames = videos.shape[2]
    if frames >= least:
        return videos
    turn = max(2 * (frames - 1), 1)
    place = torch.arange(least, device=videos.device) % turn
    return videos[:, :, torch.minimum(place, turn - place)]


def fvd(a: Float[Tensor, "n k"], b: Float[Tensor, "m k"]) -> float:
    """FVD of two sets of videos from their features: K is 400, or n·400 for n videos a sample (see `grids`).

    Raises:
        UserError: fewer than two videos on a side.
    """
    a, b = a.reshape(-1, FEATURES), b.reshape(-1, FEATURES)
    if min(len(a), len(b)) < 2:
        raise UserError(f"FVD of {len(a)} and {len(b)} videos; it needs at least 2 of each")
    return frechet_distance(a, b)


def fvd_remark(n: int, frames: int) -> str:
    """What an FVD of n videos (the smaller side) of so many frames is worth, for those who read it: empty where it can
    stand beside those of papers, which depend on both numbers."""
    remarks = []
    if n <= FEATURES:  # as many videos as features leave one direction without variance
        remarks.append(f"too few videos for a regular covariance ({FEATURES + 1}): not an FVD to quote")
    elif n < FVD_ENOUGH:
        remarks.append("hence too high: compare it with FVDs of as many videos only")
    if frames < LEAST_FRAMES:
        remarks.append(f"played to and fro up to {LEAST_FRAMES} frames, which I3D needs at least")
    if frames != USUAL_FRAMES:
        remarks.append("compare it with FVDs of as many frames only")
    usual = f"papers use {FVD_ENOUGH:,} videos and more, mostly of {USUAL_FRAMES} frames"
    return "; ".join([f"of {n:,} videos of {frames} frames", *remarks, usual]) if remarks else ""


def _network(path: str, key: str) -> nn.Module:
    """The network of a TorchScript file that has weights and the options which FVD calls it with, on the CPU."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(f"{key}: {path}: no such file; expected {EXPECTED}")
    _check_code(file, key)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"`torch\.jit\.load` is deprecated")
            network = torch.jit.load(file, map_location="cpu")
        options = [argument.name for argument in network.forward.schema.arguments]  # a module may have no forward
    except (RuntimeError, AttributeError) as error:
        raise ConfigError(f"{key}: {path} cannot be loaded ({_last_line(error)}); expected {EXPECTED}") from None
    if missing := [name for name in OPTIONS if name not in options]:
        raise ConfigError(f"{key}: {path} has no option {missing[0]}; expected {EXPECTED}")
    if not list(network.parameters()):
        raise ConfigError(f"{key}: {path} has no weights; expected {EXPECTED}")
    return network


def _check_code(file: Path, key: str) -> None:
    """Refuse a file that is no TorchScript archive, or whose code reaches for files."""
    try:
        with zipfile.ZipFile(file) as archive:
            parts = [part for part in archive.infolist() if part.filename.endswith(".py")]
            small = sum(part.file_size for part in parts) <= CODE_BYTES
            code = [archive.read(part) for part in parts] if small else []
    except (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError):
        code = []  # whatever zip archives can fail with
    if not code:
        raise ConfigError(f"{key}: {file} is not a TorchScript archive; expected {EXPECTED}")
    for text in code:
        if found := FILE_OPERATORS.search(text):
            raise ConfigError(f"{key}: {file} has code that calls {found[0].decode()}, which reaches for files")


def _last_line(error: Exception) -> str:
    """Where TorchScript says what was wrong: the traceback of its own code comes first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__
