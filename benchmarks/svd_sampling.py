"""Sampling a film from a picture: our recipe against diffusers' `StableVideoDiffusionPipeline` from the folder that our
export writes, with the same weights, steps, guidance and noise.

Timed is the whole way from the picture in bytes to frames: CLIP, the VAE's encoder, Euler's method with guidance that
grows along the film, the VAE's decoder, in chunks of as many frames. In float32, before anything is timed, both make
the same latents. In bf16 ours has float32 weights under autocast, as `salticid predict`; the pipeline has bf16 weights.

    python benchmarks/svd_sampling.py [--base small] [--size 64 64] [--frames 8] [--sampling-steps 5] [--chunk 8]
        [--precision fp32] [--rounds 2] [--repeats 1] [--device cpu]

`small` is tiny-video with a random UNet, `svd` all of SVD, random: on a GPU it is the default, 14 frames of 576×1024 in
25 steps. Each contestant is built, measured and dropped, in turns over the rounds; ratios are medians over rounds. On a
CPU the time is that which one core spends on this process. `of peak`: the matrix products and convolutions of the UNet
alone, against the GPU's dense bf16 peak.
"""

import argparse
import copy
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from diffusers import StableVideoDiffusionPipeline
from diffusers.pipelines.stable_video_diffusion import pipeline_stable_video_diffusion as theirs
from diffusers.utils.logging import disable_progress_bar
from PIL import Image
from torch import Tensor
from transformers.utils import logging as transformers_logging

from contest import Contest, Job, operations  # pyrefly: ignore[missing-import]
from salticid.data.source import Batch
from salticid.diffusion.noise import keyed_normal
from salticid.engine.build import set_arithmetic
from salticid.engine.evaluation import judging
from salticid.engine.precision import Precision
from salticid.engine.settings import TrainerConfig
from salticid.nets.first_stage import FirstStageSettings
from salticid.recipes import SvdRecipe
from salticid.recipes.video.settings import Guider, Sampler
from svd_base import enliven, write_base  # pyrefly: ignore[missing-import]

LOW, HIGH = 1.0, 2.5
"""Guidance at the first frame and the last."""
FPS, MOTION, NOISE, SEED = 7, 127, 0.02, 0
CHECKED, TOLERANCE = 3, 1e-3
"""Steps of the comparison, and by how much latents of about unit variance may differ."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Task:
    """A picture that is to become a film, with the noise of both sides."""

    def __init__(self, options: argparse.Namespace, factor: int, device: torch.device):
        height, width = options.size
        self.frames, self.size, self.chunk = options.frames, (height, width), options.chunk
        first = torch.randint(0, 256, (1, 3, height, width), generator=torch.Generator().manual_seed(1))
        self.first, self.key = first.byte().to(device), torch.zeros(1, dtype=torch.int64, device=device)
        self.shape = (self.frames, 4, height // factor, width // factor)
        self.noise = keyed_normal(self.key, self.shape, seed=SEED, stream="sample", device=device)
        frame = (1, 3, height, width)
        self.frame_noise = keyed_normal(self.key, frame, seed=SEED, stream="cond_noise", device=device)[:, 0]

    def encoded(self) -> Batch:
        told = {"fps": self.key + float(FPS), "motion_bucket": self.key + float(MOTION)}
        return {"first": self.first, "latent": torch.zeros_like(self.noise), "key": self.key} | told

    def ours(self, recipe: SvdRecipe, steps: int, precision: Precision) -> Tensor:
        """Frames (T, 3, H, W)."""
        with judging(recipe, self.key.device, precision, SEED):
            return recipe.sampled(self.encoded(), SEED, steps, NOISE)[0]

    def theirs(self, pipeline: Any, steps: int, kind: str = "pt") -> Tensor:
        """Frames (T, 3, H, W), or latents where that is the kind."""
        picture = Image.fromarray(self.first[0].permute(1, 2, 0).cpu().numpy())
        with patch.object(theirs, "randn_tensor", lambda *_, **__: self.frame_noise):  # that of the frame alone
            return pipeline(
                picture,
                height=self.size[0],
                width=self.size[1],
                num_frames=self.frames,
                num_inference_steps=steps,
                min_guidance_scale=LOW,
                max_guidance_scale=HIGH,
                fps=FPS,
                motion_bucket_id=MOTION,
                noise_aug_strength=NOISE,
                decode_chunk_size=self.chunk,
                latents=self.noise.to(pipeline.unet.dtype),
                output_type=kind,
            ).frames[0]


def made(base: str, options: argparse.Namespace) -> SvdRecipe:
    torch.manual_seed(0)
    sampler = Sampler(options.sampling_steps, guider=Guider("linear", LOW, HIGH))
    recipe = SvdRecipe(base, first_stage=FirstStageSettings(decode_frames=options.chunk), sampler=sampler)
    recipe.start(fresh=True)
    enliven(recipe.model.unet)
    recipe.check_sample({"video": torch.zeros(3, options.frames, *options.size, dtype=torch.uint8)})
    return recipe.eval()


def loaded(folder: Path, precision: Precision, device: torch.device) -> Any:
    pipeline: Any = StableVideoDiffusionPipeline.from_pretrained(folder).to(device, DTYPES[precision])
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def check(recipe: SvdRecipe, folder: Path, task: Task, device: torch.device) -> None:
    """Both make the same latents, in float32."""
    set_arithmetic(TrainerConfig(tf32=False), device)
    recipe.to(device)
    with patch.object(recipe.model, "decode", lambda latents, views: latents):
        mine = task.ours(recipe, CHECKED, "fp32")
    recipe.to("cpu")
    other = task.theirs(loaded(folder, "fp32", device), CHECKED, "latent")
    apart, spread = float((mine - other).abs().max()), float(other.std())
    print(f"latents of {CHECKED} steps differ by {apart:.1e} at most, their standard deviation is {spread:.2f}")
    if not apart <= TOLERANCE:
        raise SystemExit("the latents differ")


def compare(recipe: SvdRecipe, folder: Path, task: Task, options: argparse.Namespace, contest: Contest) -> None:
    """A block of the table for each precision."""
    device, steps = contest.device, options.sampling_steps
    # Guidance has every row twice.
    work = 2 * steps * operations(recipe.model.unet.config, task.frames, task.shape[-2:], None)
    print(f"{task.frames}×{task.size[0]}×{task.size[1]}, {steps} steps, {device.type}, {work / 1e12:.3f} T operations")

    def they(precision: Precision) -> Job:
        pipeline = loaded(folder, precision, device)
        return lambda: task.theirs(pipeline, steps)

    def we(precision: Precision) -> Job:
        mine = copy.deepcopy(recipe).to(device)
        return lambda: task.ours(mine, steps, precision)

    for precision in options.precision:
        makers: dict[str, Callable[[], Job]] = {
            "diffusers": lambda kind=precision: they(kind),
            "ours": lambda kind=precision: we(kind),
        }
        contest.run(precision, makers, clips=1, work=work)


def main() -> None:
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if gpu else "cpu")
    parser.add_argument("--base", choices=("small", "svd"), default="svd" if gpu else "small")
    parser.add_argument("--size", nargs=2, type=int, default=[576, 1024] if gpu else [64, 64], metavar=("H", "W"))
    parser.add_argument("--frames", type=int, default=14 if gpu else 8)
    parser.add_argument("--sampling-steps", type=int, default=25 if gpu else 5)
    parser.add_argument("--chunk", type=int, default=7 if gpu else 8, help="frames that are decoded at a time")
    parser.add_argument("--precision", nargs="+", choices=DTYPES, default=["bf16"] if gpu else ["fp32"])
    parser.add_argument("--rounds", type=int, default=1 if gpu else 2)
    parser.add_argument("--repeats", type=int, default=3 if gpu else 1)
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    disable_progress_bar(), transformers_logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as scratch:
        base = "tiny-video" if options.base == "small" else write_base(Path(scratch) / "base", whole=True)
        recipe, folder = made(base, options), Path(scratch) / "pipeline"
        recipe.export(folder)
        task = Task(options, recipe.model.first_stage.factor, device)
        check(recipe, folder, task, device)
        set_arithmetic(TrainerConfig(), device)
        compare(recipe, folder, task, options, Contest(device, options.rounds, options.repeats, before=1))


if __name__ == "__main__":
    main()
