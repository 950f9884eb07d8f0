"""Small objects in the formats of the data sets: pictures whose colours tell view and frame."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def colour(view: int, frame: int) -> tuple[int, int, int]:
    return 20 * view, 10 * frame, 100


def matrix(azimuth: float, elevation: float, distance: float) -> list[list[float]]:
    """Camera to world, in OpenGL's axes, of a camera that looks at the origin of a world whose z points up; degrees."""
    a, e = math.radians(azimuth), math.radians(elevation)
    back = np.array((math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e)))
    right = np.array((-math.sin(a), math.cos(a), 0.0))
    rows = np.eye(4)
    rows[:3] = np.stack((right, np.cross(back, right), back, distance * back), axis=1)
    return rows.tolist()


class Studio:
    """Writes below a root."""

    def __init__(self, root: Path):
        self.root = root

    def path(self, name: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def picture(self, name, rgb, size=(12, 16), alpha=None):
        pixels = np.full((*size, 3 if alpha is None else 4), (*rgb, alpha)[: 3 if alpha is None else 4], np.uint8)
        Image.fromarray(pixels).save(self.path(name))

    def json(self, name, value):
        self.path(name).write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
        return self.path(name)

    def renders(self, name, views=6, frames=5, **keys):
        """Pictures of `views` views, v0 v1 …, 50° apart at an elevation of 5° a view, distance 2."""
        for view in range(views):
            for frame in range(frames):
                self.picture(f"{name}/v{view}/{frame}.png", colour(view, frame))
        places = {f"v{n}": {"azimuth": 50 * n + 30, "elevation": 5 * n, "distance": 2} for n in range(views)}
        self.json(f"{name}/cameras.json", {"views": places} | keys)

    def blender(self, name, views=6, split="train", **keys):
        """Pictures of `views` views, 50° apart, distance 4."""
        frames = []
        for view in range(views):
            self.picture(f"{name}/{split}/r_{view}.png", colour(view, 0), alpha=255)
            frames.append({"file_path": f"./{split}/r_{view}", "transform_matrix": matrix(50 * view, 20, 4.0)})
        return self.json(f"{name}/transforms_{split}.json", {"camera_angle_x": 0.7, "frames": frames} | keys)


@pytest.fixture
def studio(tmp_path) -> Studio:
    return Studio(tmp_path)
