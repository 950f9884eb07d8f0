"""From picture files and a calibration to one panorama file."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from salticid.data.readers.pictures import read_picture
from salticid.diffusion.noise import keyed_normal
from salticid.errors import UserError
from salticid.evaluate.gpano import save_panorama
from salticid.evaluate.pictures import check_png_path, coverage_picture, save_png, to_bytes
from salticid.geometry.cameras import Equirectangular
from salticid.geometry.rig import Rig, load_rig
from salticid.geometry.stitch import Stitcher
from salticid.recipes.panorama.rigs import batch_rig, views_for

if TYPE_CHECKING:
    from salticid.recipes.panorama.recipe import PanoramaRecipe


@torch.no_grad()
def predict_panorama(
    recipe: "PanoramaRecipe",
    inputs: list[Path],
    output: Path,
    rig_file: Path,
    *,
    steps: int = 1,
    distance: float = math.inf,
    seed: int = 0,
    coverage_file: Path | None = None,
) -> list[Path]:
    """Write the panorama of one picture per camera; see `PanoramaRecipe.predict`.

    Raises:
        UserError: the checkpoint knows no rig, the pictures are not the rig's, or a file cannot be read or written.
    """
    if not recipe.rig_intrinsics.any():
        raise UserError("this checkpoint does not know the rig it was trained on; train it with `salticid train`")
    for path in filter(None, (output, coverage_file)):
        check_png_path(path)
    rig = load_rig(rig_file)
    pictures = [read_picture(path).float() / 127.5 - 1 for path in inputs]
    rig.check_images([(p.shape[1], p.shape[2]) for p in pictures], source=str(rig_file))
    intrinsics, poses = recipe.rig_intrinsics.cpu(), recipe.rig_poses.cpu()
    views = views_for(pictures, rig, intrinsics, poses, recipe.view_size, distance).to(recipe.rig_poses)[None]

    trained = batch_rig(recipe.rig_intrinsics[None], recipe.rig_poses[None], recipe.view_size)
    shape = 3, recipe.height, 2 * recipe.height
    noise = keyed_normal(torch.zeros(1, dtype=torch.int64), shape, seed=seed, stream="sample", device=views.device)
    panorama = recipe.model.generate(recipe.model.condition(views, trained), noise, steps, recipe.sampler.power)
    picture = to_bytes(panorama)[0].cpu()
    save_panorama(picture, output)
    if coverage_file is None:
        return [output]
    save_png(preview_coverage(picture, rig, trained.to("cpu"), distance), coverage_file)
    return [output, coverage_file]


def preview_coverage(picture: Tensor, rig: Rig, trained: Rig, distance: float, rows: int = 512) -> Tensor:
    """The panorama, at least `rows` high, with what is made up marked: what no camera of the rig shows, or what the
    views that the model is given, those of the `trained` rig, do not."""
    rows = max(rows, picture.shape[1])
    sphere = Equirectangular(rows, 2 * rows)
    shown = Stitcher(rig, sphere, distance=distance).coverage[0, 0] > 0
    given = Stitcher(trained, sphere).coverage[0, 0] > 0
    large = F.interpolate(picture[None].float(), (rows, 2 * rows), mode="bilinear").round().byte()[0]
    return coverage_picture(large, shown & given)
