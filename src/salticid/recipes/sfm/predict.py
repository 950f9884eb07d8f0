"""From pictures and films to depth, the way of the camera, and points in space."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from salticid.data.motion import lens_of, lens_parameters
from salticid.data.readers.inputs import find_inputs, report_unreadable
from salticid.data.readers.motion.film import check_lens
from salticid.data.readers.pictures import is_picture, read_picture
from salticid.data.readers.video import Video, is_video
from salticid.errors import UnreadableSample, UserError
from salticid.evaluate.colour import coloured
from salticid.evaluate.depth_files import save_depth_npy, save_depth_picture, save_depth_png, save_points
from salticid.evaluate.pictures import save_png
from salticid.evaluate.trajectory import chain
from salticid.evaluate.trajectory_plot import trajectory_picture
from salticid.evaluate.video_files import ArrayWriter, VideoWriter
from salticid.geometry import se3
from salticid.geometry.trajectory_files import write_kitti, write_tum
from salticid.geometry.warp import sample
from salticid.recipes.sfm.frames import Frames

if TYPE_CHECKING:
    from salticid.recipes.sfm.recipe import SfmRecipe

log = logging.getLogger(__name__)

Output = Literal["png16", "npy", "colour", "ply"]
MILLIMETRES = 1000.0
POINTS = 20_000
"""Points of one frame in the cloud of a film, at most."""
NEAR, FAR = 0.02, 0.6
"""Quantiles of a film's first depth between which its points lie: what is far is known least."""


class Seen(NamedTuple):
    """What is thought of a picture."""

    depth: Tensor
    """(H, W) of the input's size, in the unit of the training; known up to a factor, if that was not told."""
    points: Tensor
    """(h, w, 3) in the camera's frame, at the size at which it was looked at."""
    colours: Tensor
    """uint8 (h, w, 3)"""


class Predictor:
    """Runs the networks of a recipe on pictures of any size.

    Args:
        size: height and width at which pictures are looked at; None: those of training.
        intrinsics: in pixels of the input; None: those of training, for its size.

    Raises:
        UserError: the run has no depth network, or the intrinsics make no camera.
    """

    def __init__(self, recipe: "SfmRecipe", size: tuple[int, int] | None, intrinsics: Sequence[float] | None):
        if recipe.model.depth is None:
            raise UserError("the run has trained optical flow alone (recipe.stage: flow); it predicts no depth")
        if size is not None and min(size) <= 32:
            raise UserError(f"--size is {list(size)}; expected more than 32 pixels on each side")
        self.model, self.device = recipe.model, recipe.mean_disparity.device
        self.size = size or (int(recipe.size[0]), int(recipe.size[1]))
        if not all(self.size):
            raise UserError("--size: the run has seen no data to take it from; expected height and width")
        self.own = recipe.lens[recipe.lens.isfinite()].tolist(), (int(recipe.size[0]), int(recipe.size[1]))
        self.intrinsics = intrinsics
        if intrinsics is None and not self.own[0]:
            raise UserError("--intrinsics: the run has seen no data to take them from; expected those of the camera")
        if intrinsics is not None:
            lens_of(list(intrinsics), *self.size)  # refuses a number of parameters that no camera has

    @torch.no_grad()
    def __call__(self, picture: Tensor) -> Seen:
        """Of a uint8 picture (3, H, W)."""
        shown = self.shown(picture)
        disparity = self.model.disparities(shown)[0]
        depth = self.model.to_depth(disparity)
        whole = self.model.to_depth(F.interpolate(disparity.float(), picture.shape[-2:], mode="bilinear"))
        rays = lens_of(self.lens(picture)[None], *self.size).rays(self.device)[0][0]
        scale = depth[0, 0] if self.model.range.measure == "distance" else depth[0, 0] / rays[..., 2].clamp(min=1e-3)
        colours = shown[0].mul(255).round().byte().permute(1, 2, 0)
        return Seen(whole[0, 0].cpu(), (rays * scale[..., None]).cpu(), colours.cpu())

    @torch.no_grad()
    def step(self, before: Tensor, after: Tensor) -> Tensor:
        """The pose (4, 4) of the camera of `after` in that of `before`, of two pictures that follow each other."""
        frames = torch.stack([self.shown(picture)[0] for picture in (before, after)])[None]
        pair = Frames(frames, frames, self.lens(before)[None], (1,))
        return se3.inverse(self.model.motions(pair).to_source[0, 0]).cpu()

    def growth(self, before: Seen, after: Seen, step: Tensor, picture: Tensor) -> float:
        """How long the unit of `after` is in that of `before`, whose camera `step` leads from; 1, unless each picture
        has its own (`range.relative`): the median ratio of what both say of the same points."""
        if not self.model.range.relative:
            return 1.0
        lens = lens_of(self.lens(picture)[None].cpu(), *self.size)
        moved = se3.transform(se3.inverse(step), before.points.flatten(0, 1)).view(1, *self.size, 3)
        pixels, seen = lens.project(moved)
        there = sample(torch.linalg.vector_norm(after.points, dim=-1)[None, None], pixels)[:, 0]
        ratios = (torch.linalg.vector_norm(moved, dim=-1) / there)[seen]
        return float(ratios.median()) if len(ratios) else 1.0

    def shown(self, picture: Tensor) -> Tensor:
        """(1, 3, h, w) in [0, 1]."""
        pixels = picture[None].to(self.device).float() / 255
        return F.interpolate(pixels, self.size, mode="bilinear", antialias=True).clamp(0, 1)

    def lens(self, picture: Tensor) -> Tensor:
        """Intrinsics (P,) at the size at which pictures are looked at."""
        values, size = (self.intrinsics, picture.shape[-2:]) if self.intrinsics is not None else self.own
        lens = lens_of(list(values), int(size[0]), int(size[1]))
        check_lens(lens, "--intrinsics")
        return lens_parameters(lens.resized(*self.size)).to(self.device)


def predict_motion(
    predictor: Predictor, inputs: list[Path], output: Path, *, outputs: Sequence[Output], every: int
) -> list[Path]:
    """Write what is thought of pictures and films into the folder `output`, and name the files. What cannot be read is
    named, skipped and counted.

    A film is a video file or a folder of pictures in the order of their names. It becomes NAME-depth.mp4,
    NAME-depth.npy (frames, H, W; where asked for), NAME-tum.txt and NAME-kitti.txt (its trajectory), NAME-way.png (a
    plot of it) and NAME.ply.

    Raises:
        UserError: nothing could be read, or a file cannot be written.
    """
    if output.suffix and not output.is_dir():
        raise UserError(f"{output}: expected the name of a folder")
    if every < 1:
        raise UserError(f"--every is {every}; expected at least 1")
    written: list[Path] = []
    unreadable: list[UnreadableSample] = []
    films = [path for path in inputs if path.is_dir() or is_video(path)]
    pictures = [path for path in inputs if path not in films]
    files = [*(find_inputs(pictures, output) if pictures else []), *films]
    for path in files:
        try:
            written += (
                save_film(predictor, path, output, outputs, every)
                if path in films
                else save_picture(predictor, path, output, outputs)
            )
        except UnreadableSample as error:
            unreadable.append(error)
            log.warning("skipped: %s", error)
    report_unreadable(unreadable, len(files))
    return written


def save_picture(predictor: Predictor, path: Path, folder: Path, outputs: Sequence[Output]) -> list[Path]:
    picture = read_picture(path)
    seen = predictor(picture)
    written = []
    for kind in dict.fromkeys(outputs):
        match kind:
            case "png16":
                file = folder / f"{path.stem}-depth.png"
                save_depth_png(seen.depth.where(seen.depth < 65.5, torch.nan), file, scale=MILLIMETRES)
            case "npy":
                file = folder / f"{path.stem}-depth.npy"
                save_depth_npy(seen.depth, file)
            case "colour":
                file = folder / f"{path.stem}-colour.png"
                save_depth_picture(seen.depth.log(), file)
            case "ply":
                file = folder / f"{path.stem}.ply"
                save_points(seen.points.flatten(0, 1), seen.colours.flatten(0, 1), file)
        written.append(file)
    return written


def save_film(predictor: Predictor, path: Path, folder: Path, outputs: Sequence[Output], every: int) -> list[Path]:
    """One frame, and the points, are in memory at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    name = path.stem if is_video(path) else path.name
    files = {kind: folder / f"{name}{ending}" for kind, ending in (("video", "-depth.mp4"), ("array", "-depth.npy"))}
    steps: list[Tensor] = []
    clouds: list[tuple[int, Tensor, Tensor]] = []
    limits: tuple[float, float] | None = None
    unit = 1.0  # of the present frame's depth, in that of the first one
    before: tuple[Tensor, Seen] | None = None
    with ExitStack() as stack:
        rate, frames = _frames(path, stack)
        video = stack.enter_context(VideoWriter(files["video"], rate))
        array = stack.enter_context(ArrayWriter(files["array"])) if "npy" in outputs else None
        for number, frame in enumerate(frames):
            seen = own = predictor(frame)
            if before is not None:
                step = predictor.step(before[0], frame)
                steps.append(scaled(step, unit))
                unit *= predictor.growth(before[1], own, step, frame)
                seen = Seen(own.depth * unit, own.points * unit, own.colours)
            if limits is None:
                low, high = seen.depth.quantile(torch.tensor([NEAR, FAR])).tolist()
                limits = low, high
            video.write(coloured(seen.depth.log()[None, None], torch.tensor([limits]).log())[0])
            if array:
                array.write(seen.depth)
            if number % every == 0:
                clouds.append((number, *_thinned(seen, limits)))
            before = frame, own
    if not steps:
        raise UnreadableSample(f"{path}: expected at least two frames of a film")
    poses = chain(torch.stack(steps))
    return [files["video"], *([files["array"]] if array else []), *_save_way(folder, name, poses, clouds, rate)]


def scaled(pose: Tensor, factor: float) -> Tensor:
    """A pose (4, 4) with its translation multiplied."""
    return se3.pose(pose[:3, :3], factor * pose[:3, 3])


def _save_way(
    folder: Path, name: str, poses: Tensor, clouds: list[tuple[int, Tensor, Tensor]], rate: Fraction
) -> list[Path]:
    tum, kitti, plot, cloud = (folder / f"{name}{e}" for e in ("-tum.txt", "-kitti.txt", "-way.png", ".ply"))
    write_tum(tum, torch.arange(len(poses)) / float(rate), poses)
    write_kitti(kitti, poses)
    save_png(trajectory_picture(poses, unit=""), plot)
    points = torch.cat([se3.transform(poses[number], points.double()) for number, points, _ in clouds])
    save_points(points, torch.cat([colours for _, _, colours in clouds]), cloud)
    return [tum, kitti, plot, cloud]


def _frames(path: Path, stack: ExitStack) -> tuple[Fraction, Iterator[Tensor]]:
    """How many a second, and the frames; a folder is taken to be of 25."""
    if is_video(path):
        video = stack.enter_context(Video.opened(path))
        return video.rate, video.frames()
    names = sorted(p for p in path.iterdir() if is_picture(p) and not p.name.startswith("."))
    if len(names) < 2:
        raise UnreadableSample(f"{path}: {len(names)} pictures; expected the frames of a film")
    return Fraction(25), (read_picture(name) for name in names)


def _thinned(seen: Seen, limits: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Points and colours of what lies between the limits, evenly thinned."""
    points, colours = seen.points.flatten(0, 1), seen.colours.flatten(0, 1)
    far = torch.linalg.vector_norm(points, dim=-1)
    chosen = ((far > limits[0]) & (far < limits[1])).nonzero()[:, 0]
    chosen = chosen[:: max(1, -(-len(chosen) // POINTS))]
    return points[chosen], colours[chosen]
