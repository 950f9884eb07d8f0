"""Which files the depth of a picture or a video goes into, and their writing."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from salticid.data.readers.pictures import is_picture
from salticid.data.readers.video import Video, is_video
from salticid.errors import UserError
from salticid.evaluate.colour import coloured
from salticid.evaluate.depth_files import LARGEST, save_depth_npy, save_depth_png, save_point_cloud
from salticid.evaluate.pictures import save_png
from salticid.evaluate.video_files import ArrayWriter, VideoWriter
from salticid.geometry.cameras import Pinhole
from salticid.recipes.marigold.coding import DepthCoding
from salticid.recipes.marigold.estimator import Estimator, Frames

Output = Literal["png16", "npy", "colour", "uncertainty", "ply"]
Intrinsics = tuple[float, float, float, float]
Plan = dict[Output | Literal["video"], Path]
"""The files of one input, by what they hold."""

NAMES: dict[Output, str] = {
    "png16": "-depth.png",
    "npy": "-depth.npy",
    "colour": "-colour.png",
    "uncertainty": "-uncertainty.npy",
    "ply": ".ply",
}
ENDINGS: dict[str, Output | Literal["video"]] = {".png": "png16", ".npy": "npy", ".ply": "ply", ".mp4": "video"}
"""What is written where the output is the name of one file."""
MILLIMETRES = 1000.0
"""In a metre."""
NEAREST = 0.1
"""Distance of what is nearest in a point cloud of relative depth, where what is farthest is at 1."""


def is_file(output: Path) -> bool:
    """Whether an output is the name of one file, not of a folder.

    Raises:
        UserError: it has the name of another kind of file, or there is a file where a folder is to be.
    """
    if output.is_dir():
        return False
    if output.suffix.lower() in ENDINGS:
        return True
    if is_picture(output) or is_video(output):
        raise UserError(f"{output}: results end in {', '.join(ENDINGS)}; or expected the name of a folder")
    if output.exists():
        raise UserError(f"{output}: is a file; expected a folder, or a name that ends in {', '.join(ENDINGS)}")
    return False


def files_of(inputs: Sequence[Path], output: Path, chosen: Sequence[Output]) -> list[Plan]:
    """The files of each input.

    Raises:
        UserError: a file would be written twice, or over an input.
    """
    if is_file(output):
        plans: list[Plan] = [{ENDINGS[output.suffix.lower()]: output}]
    else:
        plans = [_plan(path, output, chosen) for path in inputs]
    owners = {path.resolve(): path for path in inputs}
    for path, plan in zip(inputs, plans, strict=True):
        for file in plan.values():
            if file.resolve() in owners:
                other = owners[file.resolve()]
                raise UserError(f"{file}: the result of {path} would take its place, or that of the result of {other}")
            owners[file.resolve()] = path
    return plans


def _plan(path: Path, folder: Path, chosen: Sequence[Output]) -> Plan:
    plan: Plan = {"video": folder / f"{path.stem}-depth.mp4"} if is_video(path) else {}
    for name in chosen:
        if name == "npy" or not is_video(path):
            plan[name] = folder / f"{path.stem}{NAMES[name]}"
    return plan


def save_picture(picture: Tensor, name: str, estimator: Estimator, plan: Plan, intrinsics: Intrinsics | None) -> None:
    """Write what is planned of the depth of a uint8 picture (3, H, W)."""
    found = estimator(picture, name)
    coding = estimator.coding
    depth = found.depth[0, 0].cpu()
    for wanted, path in plan.items():
        match wanted:
            case "png16":
                save_sixteen_bits(depth, path, coding)
            case "npy":
                save_depth_npy(depth, path)
            case "colour":
                save_png(colours(depth, coding), path)
            case "uncertainty" if found.uncertainty is not None:
                save_depth_npy(found.uncertainty[0, 0].cpu(), path)
            case "ply" if intrinsics is not None:
                camera = Pinhole(depth.shape[0], depth.shape[1], *intrinsics)
                save_point_cloud(distances(depth, coding), picture, camera, path)


def save_video(video: Video, frames: Frames, plan: Plan) -> None:
    """Write depth as colours, and, where it is planned, as an array (N, H, W). One frame is in memory at a time."""
    coding = frames.estimator.coding
    plan["video"].parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        pictures = stack.enter_context(VideoWriter(plan["video"], video.rate))
        arrays = stack.enter_context(ArrayWriter(plan["npy"])) if "npy" in plan else None
        for frame in video.frames():
            depth = frames(frame).cpu()
            pictures.write(colours(depth, coding))
            if arrays:
                arrays.write(depth)


def save_sixteen_bits(depth: Tensor, path: Path, coding: DepthCoding) -> None:
    """Relative depth [0, 1] as 0 to 65535; metres as millimetres, those from 65.536 on as 0: not known."""
    if coding.metric:
        save_depth_png(depth.where(depth * MILLIMETRES <= LARGEST, torch.nan), path, scale=MILLIMETRES)
    else:
        save_depth_png(depth, path)


def colours(depth: Tensor, coding: DepthCoding) -> Tensor:
    """uint8 (3, H, W), near is red: the same colour for the same value in every picture."""
    if coding.space == "disparity":
        depth = 1 - depth
    limits = torch.tensor([[coding.near, coding.far] if coding.metric else [0.0, 1.0]])
    return coloured(depth[None, None], limits)[0]


def distances(depth: Tensor, coding: DepthCoding) -> Tensor:
    """Metres; or, where depth is relative, and scale and shift are unknown, from `NEAREST` to 1."""
    match coding.space:
        case "metric":
            return depth
        case "log":
            return NEAREST ** (1 - depth)
        case "disparity":
            return 1 / (1 + depth * (1 / NEAREST - 1))
        case "depth":
            return NEAREST + depth * (1 - NEAREST)
