"""The networks as programs that run without this package: `torch.export` and ONNX."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from salticid.errors import ConfigError, UserError
from salticid.export.folder import whole_folder
from salticid.nets.motion import PoseDecoder
from salticid.nets.motion.cost_volume import CostVolumePose
from salticid.recipes.sfm.model import MotionModel, PairPose, UNet

TOLERANCE = 1e-4
"""Largest difference between the answers of a network and its ONNX file."""


class Depth(nn.Module):
    """(B, 3, H, W) in [0, 1] → depth (B, 1, H, W)."""

    def __init__(self, model: MotionModel):
        super().__init__()
        assert model.depth is not None
        self.network, self.to_depth = model.depth, model.to_depth

    def forward(self, images: Tensor) -> Tensor:
        return self.to_depth(self.network(images)[0])


class Pose(nn.Module):
    """Two frames (B, 6, H, W) in [0, 1], one after the other, or as `pose_order` says → axis-angle and translation
    (B, 6), of the points."""

    def __init__(self, model: MotionModel):
        super().__init__()
        assert isinstance(model.pose, PairPose | PoseDecoder)
        self.pose = model.pose
        self.shared = None if isinstance(model.pose, PairPose) or model.depth is None else model.depth.encoder

    def forward(self, images: Tensor) -> Tensor:
        if self.shared is None:
            axis_angle, translation = self.pose.decoder(self.pose.encoder(images)[-1])  # type: ignore[operator, union-attr]
        else:
            axis_angle, translation = self.pose(*(self.shared(frame)[-1] for frame in images.split(3, dim=1)))
        return torch.cat([axis_angle[:, 0], translation[:, 0]], dim=1)


class CostVolume(nn.Module):
    """Two frames in [0, 1], and the unit rays of their pixels, x, y and z (B, 9, H, W) → axis-angle and translation
    (B, 6), of the points."""

    def __init__(self, network: CostVolumePose):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        axis_angle, translation, _ = self.network(*images.split(3, dim=1))
        return torch.cat([axis_angle, translation], dim=1)


class Flow(nn.Module):
    """Source and target (B, 6, H, W) in [0, 1] → flow (x, y) from target to source (B, 2, H, W), pixels."""

    def __init__(self, network: UNet):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)[0]


def export_motion(model: MotionModel, size: tuple[int, ...], output: Path, *, onnx: bool) -> list[Path]:
    """Write NAME.pt2 and NAME.onnx of the depth, pose and flow networks, for pictures of
    `size` and batches of any number.

    Raises:
        UserError: the run has seen no data, a package is missing, or an ONNX file answers otherwise than its network.
    """
    if not all(size):
        raise UserError("the run has seen no data, so nobody knows the size of its pictures")
    with whole_folder(output) as folder:
        files = []
        for name, network, channels in _networks(model):
            # Two samples, since a batch of one would be taken for a constant; ONNX is checked with one.
            images = torch.rand(2, channels, *size, generator=torch.Generator().manual_seed(0))
            batch = torch.export.Dim("batch", min=1, max=1024)
            program = torch.export.export(network.eval(), (images,), dynamic_shapes=({0: batch},))
            torch.export.save(program, folder / f"{name}.pt2")
            files.append(f"{name}.pt2")
            if onnx:
                _write_onnx(program, network, images[:1], folder / f"{name}.onnx")
                files.append(f"{name}.onnx")
    return [output / file for file in files]


def _networks(model: MotionModel) -> Iterator[tuple[str, nn.Module, int]]:
    """Name, module and channels of the input."""
    if model.depth is not None:
        yield "depth", Depth(model), 3
    if isinstance(model.pose, CostVolumePose):
        yield "pose", CostVolume(model.pose), 9
    elif model.pose is not None:
        yield "pose", Pose(model), 6
    if model.flow is not None:
        yield "flow", Flow(model.flow), 6


def _write_onnx(program: Any, network: nn.Module, images: Tensor, file: Path) -> None:
    try:
        import onnxruntime

        torch.onnx.export(program, f=str(file), external_data=False, verbose=False)
    except ImportError as error:
        missing = error.name or "onnx"
        raise ConfigError(f"{missing} is not installed; pip install 'salticid[onnx]', or --no-onnx") from error
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    with torch.no_grad():
        wanted = network(images)
    apart = float((torch.from_numpy(answer) - wanted).abs().max() / wanted.abs().max().clamp(min=1.0))
    if not apart <= TOLERANCE:
        raise UserError(f"{file.name}: answers by {apart:.1e} otherwise than its network; expected at most {TOLERANCE}")
