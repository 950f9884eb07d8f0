"""Time to make four fisheye views (UCM, 128×128) from a 1024×2048 uint8 panorama, maps computed anew every time as
training with jittered cameras does, on one thread: ours against OpenCV and py360convert.

    python benchmarks/views.py

All give the tensor that training needs, float32 (4, 3, 128, 128) in [−1, 1]. Three jobs are compared:

- antialiased: the panorama, twelve times finer than the middle of a view, is shrunk by 4 and sampled, as training
  does;
- shrunk before: only the sampling of that, for a caller who has shrunk the panorama already;
- aliased: the panorama is sampled as it is.

The OpenCV variant computes its maps in vectorised float32 numpy and remaps all views in one call. py360convert has
no fisheye: it makes perspective views, which need fewer operations, and OpenCV shrinks for it.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import math
import time
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import py360convert
import torch

from salticid.geometry import se3
from salticid.geometry.cameras import UCM
from salticid.geometry.rig import Rig
from salticid.geometry.views import views_from_panorama

HEIGHT, WIDTH, SIZE = 1024, 2048, 128
F, XI = 50.3, 0.9


def ours(panorama: np.ndarray, turn: torch.Tensor, shrink: int) -> torch.Tensor:
    rig = Rig.ring(4, UCM.centred(SIZE, SIZE, F, xi=XI))
    return views_from_panorama(torch.from_numpy(panorama).permute(2, 0, 1), rig, turn, prefilter=shrink)


def halved(image: np.ndarray) -> np.ndarray:
    """By far OpenCV's fastest area average: twice 2×2 takes a third of the time of 4×4."""
    return cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def opencv(panorama: np.ndarray, turn: np.ndarray, shrink: int) -> torch.Tensor:
    if shrink > 1:
        panorama = halved(halved(panorama))
    height, width = panorama.shape[:2]
    x = (np.arange(SIZE, dtype=np.float32) - (SIZE - 1) / 2) / F
    y = x[:, None]
    squared = x * x + y * y
    omega = (XI + np.sqrt(1 + (1 - XI * XI) * squared)) / (1 + squared)
    rays = np.stack((omega * x, omega * y, omega - XI)).reshape(3, -1)
    yaws = np.arange(4) * (math.pi / 2)
    ring = np.zeros((4, 3, 3), dtype=np.float32)
    ring[:, 0, 0] = ring[:, 2, 2] = np.cos(yaws)
    ring[:, 0, 2], ring[:, 2, 0], ring[:, 1, 1] = np.sin(yaws), -np.sin(yaws), 1
    seen = (turn @ ring) @ rays
    u = np.arctan2(seen[:, 0], seen[:, 2]) * (width / (2 * math.pi)) + (width / 2 - 0.5)
    v = np.arcsin(np.clip(seen[:, 1], -1, 1)) * (height / math.pi) + (height / 2 - 0.5)
    u, v = (m.astype(np.float32, copy=False).reshape(4 * SIZE, SIZE) for m in (u, v))
    views = cv2.remap(panorama, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP).reshape(4, SIZE, SIZE, 3)
    planes = np.ascontiguousarray(views.transpose(0, 3, 1, 2))
    return torch.from_numpy(planes.astype(np.float32) * np.float32(1 / 127.5) - 1)


def py360(panorama: np.ndarray, shrink: int) -> torch.Tensor:
    if shrink > 1:
        panorama = halved(halved(panorama))
    # Angles that differ from call to call, as py360convert keeps the maps of the last ones.
    jitter = time.perf_counter() % 1
    views = [
        py360convert.e2p(panorama, (100 + jitter, 100 + jitter), 90 * k + jitter, 0, (SIZE, SIZE)) for k in range(4)
    ]
    return torch.from_numpy(np.stack(views).transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1)


def milliseconds(*jobs: Callable[[], object], rounds: int = 60) -> list[float]:
    """Median times, the jobs taking turns so that a busy machine is as unfair to one as to the other."""
    times: list[list[float]] = [[] for _ in jobs]
    for _ in range(rounds):
        for job, record in zip(jobs, times, strict=True):
            start = time.perf_counter()
            job()
            record.append(time.perf_counter() - start)
    return [1e3 * sorted(record)[rounds // 2] for record in times]


def main() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
    panorama = cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    turn = se3.yaw_pitch_roll(0.4, 0.05, -0.03)
    small = halved(halved(panorama))
    for name, image, shrink in (
        ("antialiased", panorama, 4),
        ("shrunk before", small, 1),
        ("aliased", panorama, 1),
    ):
        jobs = (
            partial(ours, image, turn, shrink),
            partial(opencv, image, turn.numpy(), shrink),
            partial(py360, image, shrink),
        )
        difference = (jobs[0]() - jobs[1]()).abs().mean() * 127.5
        a, b, c = milliseconds(*jobs)
        print(
            f"{name}: ours {a:.2f} ms, OpenCV {b:.2f} ms, py360convert {c:.2f} ms; "
            f"ours takes {a / b:.2f}x the time of OpenCV, py360convert {c / a:.1f}x ours; "
            f"mean difference to OpenCV {difference:.2f} grey levels"
        )


if __name__ == "__main__":
    main()
