"""Training samples a second and core of a folder of frames against the work that Monodepth2's loader does.

The peer, for each of three frames: decode, reduce by Lanczos filters in a cascade of four sizes, turn the picture at
the size of its file and all four into floats twice, once jittered in colour (half of the time; else the same again),
and throw the largest away. Ours: decode, reduce once, bytes; the jitter is drawn, and a recipe applies it to the batch
where the networks are. "+ jitter" applies it here, to float copies, as the peer does but at the one size that is used.

Pictures are rendered, with noise as of a sensor, so that files are as large as those of a camera. One thread; the ways
take turns; the processor's time counts, the best of all rounds.

    python benchmarks/motion_loader.py [--samples 8] [--rounds 5]
"""

import argparse
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from salticid.data.motion import Augmentation
from salticid.data.readers.motion import FrameFolder
from salticid.geometry.cameras import Pinhole
from salticid.world import make_scene, render

CASES = (
    ("JPEG 375×1242 → 192×640", (375, 1242), (192, 640), ".jpg"),
    ("PNG 375×1242 → 192×640", (375, 1242), (192, 640), ".png"),
    ("JPEG 1024×1280 → 256×320", (1024, 1280), (256, 320), ".jpg"),
    ("PNG 1024×1280 → 256×320", (1024, 1280), (256, 320), ".png"),
)


def floats(image: Image.Image) -> Tensor:
    """float32 (3, h, w) in [0, 1]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)


def jittered(image: Image.Image, factors: tuple[float, float, float, float]) -> Image.Image:
    """Brightness, contrast, saturation, and hue in turns."""
    for enhance, factor in zip(
        (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), factors, strict=False
    ):
        image = enhance(image).enhance(factor)
    hue, saturation, value = image.convert("HSV").split()
    turned = np.asarray(hue) + np.uint8(round(factors[3] * 255) % 256)
    return Image.merge("HSV", (Image.fromarray(turned), saturation, value)).convert("RGB")


def drawn(random: Random) -> tuple[float, float, float, float] | None:
    if random.random() < 0.5:
        return None
    return random.uniform(0.8, 1.2), random.uniform(0.8, 1.2), random.uniform(0.8, 1.2), random.uniform(-0.1, 0.1)


def peer_sample(paths: list[Path], size: tuple[int, int], random: Random) -> dict[str, Tensor]:
    """What the networks are given of three frames, and what else the original makes."""
    factors, flip = drawn(random), random.random() < 0.5
    pyramids = {}
    for name, path in enumerate(paths):
        with Image.open(path) as file:
            image = file.convert("RGB")
        images = [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else image]
        for scale in range(4):
            images.append(images[-1].resize((size[1] >> scale, size[0] >> scale), Image.Resampling.LANCZOS))
        pyramids[name] = images
    sample = {}
    for name, images in pyramids.items():
        for scale, image in enumerate(images, -1):
            sample[f"colour {name} {scale}"] = floats(image)
            sample[f"jittered {name} {scale}"] = floats(jittered(image, factors) if factors else image)
    return {name: value for name, value in sample.items() if not name.endswith("-1")}


def with_jitter(sample: dict[str, Tensor], random: Random) -> list[Tensor]:
    """Float copies of the frames of one of our samples, and the same jittered."""
    factors = drawn(random)
    images = [Image.fromarray(frame.permute(1, 2, 0).numpy()) for frame in sample["frames"]]
    return [floats(image) for image in images] + [floats(jittered(i, factors) if factors else i) for i in images]


def write_frames(folder: Path, size: tuple[int, int], suffix: str) -> list[Path]:
    """Three frames of a walk."""
    folder.mkdir()
    scene = make_scene(0, 5, "outdoors" if size[1] > 2 * size[0] else "room")
    noise = np.random.default_rng(0)
    paths = []
    for number in range(3):
        frame = render(scene, Pinhole.centred(*size, 0.6 * size[1]), scene.path(0.2 * number))
        pixels = frame.rgb.permute(1, 2, 0).numpy() * 127.5 + 127.5 + noise.normal(0, 2.5, (*size, 3))
        paths.append(folder / f"{number}{suffix}")
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=92)
    return paths


def milliseconds(native: tuple[int, int], size: tuple[int, int], suffix: str, samples: int, rounds: int) -> list[float]:
    """Of the peer, of ours, and of ours with jitter: the best of all rounds, of the processor's time."""
    with tempfile.TemporaryDirectory() as scratch:
        paths = write_frames(Path(scratch) / "frames", native, suffix)
        height, width = native
        intrinsics = (0.6 * width, 0.6 * width, (width - 1) / 2, (height - 1) / 2)
        data = FrameFolder(
            paths[0].parent, intrinsics=intrinsics, size=size, val_share=0.0, augmentation=Augmentation()
        )
        source, random, generator = data.train(), Random(0), torch.Generator().manual_seed(0)
        ways: tuple[Callable[[], object], ...] = (
            lambda: peer_sample([paths[i] for i in (1, 0, 2)], size, random),
            lambda: source.sample(0, generator),
            lambda: with_jitter(source.sample(0, generator), random),
        )
        taken = [[timed(way, samples) for way in ways] for _ in range(rounds)]
    return [1e3 * min(column) for column in zip(*taken, strict=True)]


def timed(work: Callable[[], object], count: int) -> float:
    start = time.process_time()
    for _ in range(count):
        work()
    return (time.process_time() - start) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    print(f"{'ms a sample (3 frames)':26}{'peer':>10}{'ours':>10}{'ratio':>8}{'+ jitter':>10}{'ratio':>8}")
    for name, native, size, suffix in CASES:
        peer, ours, jitter = milliseconds(native, size, suffix, arguments.samples, arguments.rounds)
        print(f"{name:26}{peer:10.1f}{ours:10.1f}{peer / ours:8.2f}{jitter:10.1f}{peer / jitter:8.2f}", flush=True)


if __name__ == "__main__":
    main()
