"""Hypersim (Roberts et al. 2021): rendered interiors."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from salticid.data.readers.depth.base import DepthData
from salticid.data.readers.depth.decode import read_colour, read_hdf5, read_values
from salticid.data.readers.depth.files import Files
from salticid.data.readers.depth.pairs import Decoded, Pair
from salticid.data.readers.splits import Split
from salticid.errors import ConfigError, UnreadableSample

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, UInt8

log = logging.getLogger(__name__)

FOCAL = 886.81 / 1024
"""Focal length of the published cameras, in widths of the picture: 1 / (2·tan(fov/2)), fov = 60°."""

SPLIT_FILE = "metadata_images_split_scene_v1.csv"


@dataclass(kw_only=True, eq=False)
class Hypersim(DepthData):
    """Hypersim as published, or as Marigold's pre-processing leaves it; see `DepthData` for what is not said here.

    Processed (by lists alone): `ai_003_010/rgb_cam_00_fr0047.png` and `…/depth_plane_cam_00_fr0047.png`, z-depth as
    16-bit PNG in millimetres.

    Own layout: `ai_VVV_NNN/images/scene_cam_XX_final_hdf5/frame.IIII.color.hdf5` (radiance, brought into eight bits by
    `tone_map`), `scene_cam_XX_geometry_hdf5/frame.IIII.depth_meters.hdf5` (distance along the ray, brought to z by
    `z_depth`) and, where it is there, `frame.IIII.render_entity_id.hdf5` (−1 where nothing was hit: not valid). Frames
    are split as the published table says (frames of its test part, and those that were not released, are left out);
    without a table by scenes, a fifth of them for validation. The few scenes with tilted lenses are treated like all.

    Args:
        split_csv: the table, metadata_images_split_scene_v1.csv; null: looked for in root and in the folder above.
    """

    limits: tuple[float, float] = (1e-5, 65.0)
    size: tuple[int, int] | None = (480, 640)
    split_csv: Path | None = None

    layout: ClassVar[str] = "expected ai_*/images/scene_cam_*_final_hdf5/, or data.train_list, data.val_list"

    def decode(self, pair: Pair) -> Decoded:
        if not pair.depth.endswith(".hdf5"):
            depth = read_values(self.root / pair.depth).astype(np.float32) / np.float32(1000)
            return Decoded(read_colour(self.root / pair.image, depth.shape), depth)
        radiance = read_hdf5(self.root / pair.image, "dataset").astype(np.float32)
        distance = read_hdf5(self.root / pair.depth, "dataset").astype(np.float32)
        hit = read_hdf5(self.root / pair.mask, "dataset") != -1 if pair.mask else np.ones(distance.shape, bool)
        if radiance.shape != (*hit.shape, 3) or distance.shape != hit.shape:
            shapes = f"{radiance.shape}, {distance.shape} and {hit.shape}"
            raise UnreadableSample(f"{self.root / pair.image}: colour, depth and entities differ in shape, {shapes}")
        return Decoded(tone_map(radiance, hit), distance * z_per_distance(*distance.shape), hit)

    def found(self, files: Files) -> tuple[list[Pair], list[Pair]]:
        pairs: dict[tuple[str, str, int], Pair] = {}
        for folder in files.folders("ai_*/images/scene_cam_*_final_hdf5"):
            camera = folder.rpartition("/scene_")[2].removesuffix("_final_hdf5")
            geometry = folder.removesuffix("_final_hdf5") + "_geometry_hdf5"
            for name in sorted(files.names(folder)):
                frame, ending = name.removeprefix("frame.")[:4], name[len("frame.0000") :]
                if ending != ".color.hdf5" or not frame.isdecimal():
                    continue
                entities = f"{geometry}/frame.{frame}.render_entity_id.hdf5"
                pairs[folder.split("/")[0], camera, int(frame)] = Pair(
                    f"{folder}/{name}",
                    f"{geometry}/frame.{frame}.depth_meters.hdf5",
                    entities if entities in files else "",
                )
        parts = self._parts(list(pairs))
        train, val = ([pair for key, pair in pairs.items() if parts.get(key) == side] for side in ("train", "val"))
        return train, val

    def _parts(self, frames: Sequence[tuple[str, str, int]]) -> dict[tuple[str, str, int], str]:
        """`train`, `val` or `test` for every (scene, camera, frame)."""
        path = self.split_csv
        if path is None:
            path = next((p for p in (self.root / SPLIT_FILE, self.root.parent / SPLIT_FILE) if p.is_file()), None)
        if path is not None:
            return read_split(path)
        log.info("data.split_csv: no %s in %s; a fifth of the scenes validates", SPLIT_FILE, self.root)
        val = Split().val_files({Path(scene): scene for scene, _, _ in frames}) if frames else set()
        return {frame: "val" if Path(frame[0]) in val else "train" for frame in frames}


def read_split(path: Path) -> dict[tuple[str, str, int], str]:
    """The part of every released frame, by (scene, camera, frame), of Hypersim's table.

    Raises:
        ConfigError: it cannot be read or lacks a column.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            return {
                (row["scene_name"], row["camera_name"], int(row["frame_id"])): row["split_partition_name"]
                for row in csv.DictReader(file)
                if row["included_in_public_release"].strip().lower() == "true"
            }
    except OSError as error:
        raise ConfigError(f"data.split_csv: {path} cannot be read ({error.strerror})") from None
    except (KeyError, ValueError, AttributeError, csv.Error) as error:
        reason = f"column {error} is missing" if isinstance(error, KeyError) else f"{error}"
        raise ConfigError(f"data.split_csv: {path} is not Hypersim's table of frames ({reason})") from None


def tone_map(radiance: Float[np.ndarray, "h w 3"], hit: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Eight bits of linear radiance, as published with Hypersim: (s·radiance)^(1/2.2), s such that the 90th percentile
    of brightness (0.3 R + 0.59 G + 0.11 B, where something was hit) becomes 0.8; black where that percentile is below
    10⁻⁴, s = 1 where nothing was hit. Values that are not finite are black. Rounded down, as Marigold's files are.
    """
    radiance = np.nan_to_num(radiance, nan=0.0, posinf=0.0, neginf=0.0)
    scale = 1.0
    if hit.any():
        brightness = radiance @ np.array((0.3, 0.59, 0.11), np.float32)
        percentile = np.percentile(brightness[hit], 90)
        scale = 0.8**2.2 / percentile if percentile >= 1e-4 else 0.0
    level = np.clip(radiance * np.float32(scale), 0, 1) ** np.float32(1 / 2.2)
    return (level * 255).astype(np.uint8)


@lru_cache(maxsize=4)
def z_per_distance(height: int, width: int) -> Float[np.ndarray, "h w"]:
    """What distance along the ray of each pixel is multiplied by to become z: f / √(x² + y² + f²)."""
    x, y = np.arange(width) - (width - 1) / 2, np.arange(height) - (height - 1) / 2
    focal = FOCAL * width
    return (focal / np.sqrt(x**2 + y[:, None] ** 2 + focal**2)).astype(np.float32)
