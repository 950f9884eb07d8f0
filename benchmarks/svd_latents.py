"""Training the svd recipe from a cache of latents against encoding on the fly, by the pieces of the engine.

Steps take their batches from the loader. On the fly these are clips that lie in memory, and the VAE and CLIP encode
them in the step. From the cache, what `salticid encode` has written is read from the disk and checked; only the first
frame, whose noise is drawn anew every time, goes through the VAE. `bound` is what a cache that is read in no time would
bring: 1 + the time of encoding / that of a step from latents.

    python benchmarks/svd_latents.py [--base small] [--size 64 64] [--frames 8] [--batch 2] [--train all] [--compile]
        [--checkpointing] [--rounds 3] [--steps 3] [--precision auto] [--device cpu]

`small` is tiny-video with a random UNet, `svd` all of SVD, random: on a GPU it is the default, with 14 frames of
576×1024 and with checkpointing, as in `svd-14f`. Each contestant is built, measured and dropped, in turns over the
rounds; ratios are medians over rounds. On a CPU the time is that which one core spends on this process. `of peak`: the
UNet's matrix products and convolutions, forward and backward, against the GPU's dense bf16 peak.
"""

import argparse
import copy
import logging
import tempfile
from pathlib import Path

import torch
from torch import Generator

from contest import Contest, Job, operations  # pyrefly: ignore[missing-import]
from salticid.data.loader import Batches, train_batches
from salticid.data.source import Data, Sample, Source
from salticid.engine.evaluation import judging, to_device
from salticid.engine.latents import Latents
from salticid.engine.latents.encode import Encoder, begin
from salticid.engine.latents.fingerprint import fingerprint
from salticid.engine.latents.worker import Worker
from salticid.engine.precision import Precision, settled
from salticid.engine.progress import Progress
from salticid.engine.settings import TrainerConfig
from salticid.nets.first_stage import FirstStageSettings
from salticid.recipes import SvdRecipe
from svd_base import enliven, write_base  # pyrefly: ignore[missing-import]
from svd_step import CLIP, STEPS, Ours  # pyrefly: ignore[missing-import]

SAMPLES = 8
ENCODED = 7
"""Frames that go through the VAE at a time, as in `svd-14f`."""


class Clips(Source):
    """Clips without content: what they show costs nothing."""

    def __init__(self, frames: int, size: tuple[int, int]):
        generator = torch.Generator().manual_seed(0)
        shape = SAMPLES, 3, frames, *size
        self.videos = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)

    def __len__(self) -> int:
        return SAMPLES

    def id(self, index: int) -> str:
        return str(index)

    @property
    def outcomes(self) -> int:
        return 1

    def sample(self, index: int, augment: Generator | None) -> Sample:
        return self.outcome(index, 0)

    def outcome(self, index: int, which: int) -> Sample:
        video = self.videos[index]
        still = torch.zeros(video.shape[1], dtype=torch.bool)
        return {"video": video, "fps": torch.tensor(7.0), "motion_bucket": torch.tensor(127.0), "image_only": still}


class ClipData(Data):
    def __init__(self, source: Source):
        self.source = source

    def train(self) -> Source:
        return self.source

    val = train


def cached(recipe: SvdRecipe, source: Source, folder: Path, precision: Precision, device: torch.device) -> Source:
    """What `salticid encode` makes of a source."""
    recipe.to(device)
    encoder = Encoder(recipe, device, precision, batch=1, workers=0)
    index = begin(folder, fingerprint(recipe, source, {}, precision), encoder.probe(source), command="this script")
    progress = Progress(len(source), unit="sample")
    worker = Worker(encoder, source, folder, index, progress)
    worker.run()
    progress.close()
    recipe.to("cpu")
    print(f"{worker.figures.bytes / len(source) / 1e6:.2f} MB a clip in the cache", end="")
    return Latents(folder, {}).replace(recipe, ClipData(source), precision).train()


def endless(source: Source, batch: int) -> Batches:
    return train_batches(source, source.order(batch, 0), range(STEPS), micro_batch=batch, seed=0)


def made(base: str, options: argparse.Namespace) -> SvdRecipe:
    torch.manual_seed(0)
    recipe = SvdRecipe(base, first_stage=FirstStageSettings(encode_batch=ENCODED), train=options.train)
    recipe.start(fresh=True)
    enliven(recipe.model.unet)
    return recipe


def compare(recipe: SvdRecipe, folder: Path, options: argparse.Namespace, contest: Contest) -> None:
    device, batch, size = contest.device, options.batch, tuple(options.size)
    precision = settled(options.precision, device)
    source = Clips(options.frames, size)
    latents = cached(recipe, source, folder, precision, device)
    print(f", {source.videos[0].nbytes / 1e6:.2f} MB of pixels")
    factor = recipe.model.first_stage.factor
    work = operations(recipe.model.unet.config, options.frames, (size[0] // factor, size[1] // factor), options.train)

    def training(data: Source) -> Job:
        trainer = TrainerConfig(
            steps=STEPS,
            batch=batch,
            precision=precision,
            clip=CLIP,
            compile=options.compile,
            checkpoint_activations=options.checkpointing,
        )
        loop, batches = Ours(copy.deepcopy(recipe), trainer, device), endless(data, batch)
        return lambda: loop.step(next(batches))

    def encoding() -> Job:
        mine, loaded = copy.deepcopy(recipe).to(device), to_device(next(endless(source, batch)), device)

        def job() -> None:
            with judging(mine, device, precision, seed=0):
                mine.encode(loaded)

        return job

    makers = {"on the fly": lambda: training(source), "from latents": lambda: training(latents)}
    told = f"{options.frames}×{size[0]}×{size[1]}, batch {batch}, {precision}"
    steps = contest.run(told, makers, clips=batch, work=work)
    alone = contest.run("the frozen networks", {"encoding": encoding}, clips=batch, work=0)
    if steps.get("from latents") and alone.get("encoding"):
        print(f"bound {1 + alone['encoding'] / steps['from latents']:.2f}×")


def main() -> None:
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if gpu else "cpu")
    parser.add_argument("--base", choices=("small", "svd"), default="svd" if gpu else "small")
    parser.add_argument("--size", nargs=2, type=int, default=[576, 1024] if gpu else [64, 64], metavar=("H", "W"))
    parser.add_argument("--frames", type=int, default=14 if gpu else 8)
    parser.add_argument("--batch", type=int, default=1 if gpu else 2)
    parser.add_argument("--train", choices=("all", "temporal", "spatial"), default="all")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--checkpointing", action=argparse.BooleanOptionalAction, default=gpu)
    parser.add_argument("--rounds", type=int, default=1 if gpu else 3)
    parser.add_argument("--steps", type=int, default=5 if gpu else 3, help="that are timed in a round")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as scratch:
        base = "tiny-video" if options.base == "small" else write_base(Path(scratch) / "base", whole=True)
        recipe = made(base, options)
        compare(recipe, Path(scratch) / "latents", options, Contest(device, options.rounds, options.steps))


if __name__ == "__main__":
    main()
