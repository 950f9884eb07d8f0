"""Rendering speed of the world on one core: `python benchmarks/world.py`.

Prints milliseconds (best of several, averaged over scenes) for a 128×256 panorama with shadows, and for a whole sample
of the panorama recipe (four 64×64 fisheye views from their own centres and a 64×128 panorama, the scene's making
included).
"""

import time
from collections.abc import Callable

import torch

from salticid.geometry.cameras import Equirectangular
from salticid.world import WorldPanoramas, make_scene, render

SCENES, REPEATS = 16, 7


def best(function: Callable[[], object]) -> float:
    """Seconds of the fastest of a few calls: other processes disturb the others."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    torch.set_num_threads(1)
    camera = Equirectangular(128, 256)
    for kind in ("room", "outdoors"):
        scenes = [make_scene(0, index, kind) for index in range(SCENES)]
        times = [1e3 * best(lambda s=scene: render(s, camera, torch.eye(4))) for scene in scenes]
        print(f"panorama 128×256, {kind:8}  mean {sum(times) / SCENES:5.1f} ms   worst scene {max(times):5.1f} ms")
    source = WorldPanoramas().train()
    times = [1e3 * best(lambda i=index: source.sample(i, None)) for index in range(SCENES)]
    print(f"sample, 4 views 64×64 and panorama 64×128  mean {sum(times) / SCENES:5.1f} ms")


if __name__ == "__main__":
    main()
