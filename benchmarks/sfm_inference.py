"""Time of the motion networks on one picture, at the sizes of the document: encoder, depth decoder, pose decoder.

    python benchmarks/sfm_inference.py [--device cuda] [--precision bf16] [--compile] [--sizes 256x320 512x640]

The document: 2.1, 1.8 and 0.3 ms at 256×320 on an RTX 3080, four times as much at each further size (512×640,
1024×1280). On a GPU, --compile replays CUDA graphs (`reduce-overhead`), as a loop over frames would.
Medians over --repeats, all parts in turn; `all` is one call of the three.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from salticid.nets.motion import DepthDecoder, FrameEncoder, PoseDecoder

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Whole(nn.Module):
    """Disparity of a picture, and the pose that its map and that of the picture before make."""

    def __init__(self, encoder: FrameEncoder, depth: DepthDecoder, pose: PoseDecoder):
        super().__init__()
        self.encoder, self.depth, self.pose = encoder, depth, pose

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps = self.encoder(image)
        size = image.shape[-2], image.shape[-1]
        return (self.depth(maps, size)[0], *self.pose(maps[-1]))


def timed(job: Callable[[], object], device: torch.device) -> float:
    """Milliseconds."""
    if device.type == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        job()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end)
    start = time.perf_counter()
    job()
    return 1e3 * (time.perf_counter() - start)


def measure(size: tuple[int, int], options: argparse.Namespace) -> dict[str, float]:
    torch.manual_seed(0)
    device, dtype = torch.device(options.device), DTYPES[options.precision]
    encoder = FrameEncoder(options.backbone)
    whole = Whole(encoder, DepthDecoder(encoder.channels), PoseDecoder(encoder.channels)).eval().to(device, dtype)
    parts: dict[str, nn.Module] = {"encoder": whole.encoder, "depth": whole.depth, "pose": whole.pose, "all": whole}
    if options.compile:
        mode = "reduce-overhead" if device.type == "cuda" else "default"
        parts = {name: torch.compile(part, mode=mode) for name, part in parts.items()}  # type: ignore[misc]
    image = torch.rand(1, 3, *size, device=device, dtype=dtype)
    with torch.inference_mode():
        maps = [level.clone() for level in encoder(image)]
        jobs: dict[str, Callable[[], object]] = {
            "encoder": lambda: parts["encoder"](image),
            "depth": lambda: parts["depth"](maps, size),
            "pose": lambda: parts["pose"](maps[-1]),
            "all": lambda: parts["all"](image),
        }
        for _ in range(3):
            for job in jobs.values():
                job()
        rows = [[timed(job, device) for job in jobs.values()] for _ in range(options.repeats)]
    return dict(zip(jobs, map(statistics.median, zip(*rows, strict=True)), strict=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["256x320", "512x640", "1024x1280"])
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=DTYPES, default="bf16" if torch.cuda.is_available() else "fp32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--repeats", type=int, default=100 if torch.cuda.is_available() else 5)
    chosen = parser.parse_args()
    print(f"{chosen.device}, {chosen.precision}, {'compiled' if chosen.compile else 'eager'}, milliseconds")
    print(f"{'size':>10}" + "".join(f"{name:>10}" for name in ("encoder", "depth", "pose", "all")))
    for text in chosen.sizes:
        height, width = map(int, text.split("x"))
        found = measure((height, width), chosen)
        print(f"{text:>10}" + "".join(f"{value:10.2f}" for value in found.values()))
