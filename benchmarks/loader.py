"""Training samples a second of a panorama folder against the loader of the document that the recipe follows.

The peer reads the file for every sample, computes the maps of each view anew, remaps with OpenCV, and reduces the
target by a plain resize (which aliases). Ours does the same work with an antialiased target, and keeps decoded
panoramas in memory; it is timed with that cache and without. One thread each, jittered rigs as in training.

    python benchmarks/loader.py [--root DIR] [--samples 32]
"""

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from salticid.data.readers import PanoramaFolder
from salticid.data.readers.cache import DecodedCache
from salticid.data.readers.jitter import RigJitter
from salticid.world import WorldPanoramas

SIZE = 128
FOCAL, XI = 50.3, 0.85


def document_sample(path: Path, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Four UCM views (4, 128, 128, 3) and the target (128, 256, 3)."""
    panorama = cv2.imread(str(path))[..., ::-1]
    xi, focal = XI * random.uniform(0.6, 1.4), FOCAL * 1.1 ** random.uniform(-1, 1)
    views = []
    for yaw in (0, 90, 180, 270):
        turn = np.radians(np.array([yaw, 0, 0]) + random.uniform(-3, 3, 3))
        views.append(remap(panorama, xi, focal, turn))
    target = cv2.resize(panorama, (2 * SIZE, SIZE))
    return np.stack(views).astype(np.float32) / 127.5 - 1, target.astype(np.float32) / 127.5 - 1


def remap(panorama: np.ndarray, xi: float, focal: float, turn: np.ndarray) -> np.ndarray:
    height, width = panorama.shape[:2]
    u, v = np.meshgrid(np.arange(SIZE, dtype=np.float32), np.arange(SIZE, dtype=np.float32))
    mx, my = (u - (SIZE - 1) / 2) / focal, (v - (SIZE - 1) / 2) / focal
    r2 = mx * mx + my * my
    omega = (xi + np.sqrt(np.maximum(1 + (1 - xi * xi) * r2, 0))) / (1 + r2)
    rays = np.stack([omega * mx, omega * my, omega - xi], axis=-1)
    yaw, pitch, roll = turn
    rotation = (
        cv2.Rodrigues(np.array([0, yaw, 0]))[0]
        @ cv2.Rodrigues(np.array([pitch, 0, 0]))[0]
        @ cv2.Rodrigues(np.array([0, 0, roll]))[0]
    )
    x, y, z = np.moveaxis(rays @ rotation.T.astype(np.float32), -1, 0)
    columns = (np.arctan2(x, z) / (2 * math.pi) + 0.5) * width - 0.5
    rows = (np.arcsin(np.clip(y, -1, 1)) / math.pi + 0.5) * height - 0.5
    maps = columns.astype(np.float32), rows.astype(np.float32)
    return cv2.remap(panorama, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def rate(sample: Callable[[int], object], count: int) -> float:
    sample(0)
    start = time.perf_counter()
    for i in range(count):
        sample(i)
    return count / (time.perf_counter() - start)


def make_panoramas(folder: Path, count: int = 4, height: int = 1024) -> Path:
    """JPEG files of the embedded world, where no folder is given."""
    world = WorldPanoramas(height=height // 8, val_scenes=count)
    for i in range(count):
        picture = ((world.val().sample(i, None)["panorama"] + 1) * 127.5).byte().permute(1, 2, 0).numpy()
        Image.fromarray(picture).resize((2 * height, height)).save(folder / f"{i}.jpg", quality=90)
    return folder


def compare(root: Path, count: int) -> None:
    data = PanoramaFolder(
        root, SIZE, SIZE, xi=XI, focal=FOCAL, jitter=RigJitter(0.4, 0.1, 3.0), val_share=0.0, cache_mb=4096
    )
    source, random = data.train(), np.random.default_rng(0)
    files = data.train_files

    def ours(i: int) -> object:
        return source.sample(i % len(files), torch.Generator().manual_seed(i))

    def uncached(i: int) -> object:
        data.cache = DecodedCache(0, data.cache.height)
        return ours(i)

    theirs = rate(lambda i: document_sample(root / files[i % len(files)], random), count)
    for i in range(len(files)):
        ours(i)
    warm, cold = rate(ours, count), rate(uncached, count)
    print(f"the document's loader: {theirs:.1f} samples/s, of four views and a target each")
    print(f"ours, decoded panoramas in memory: {warm:.1f} ({warm / theirs:.1f}×)")
    print(f"ours, decoding every time: {cold:.1f} ({cold / theirs:.1f}×)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--samples", type=int, default=32)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as scratch:
        compare(options.root or make_panoramas(Path(scratch)), options.samples)
