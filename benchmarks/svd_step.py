"""A training step of the svd recipe against a plain loop on diffusers, with the same sizes and weights, from latents.

The peer is written as fine-tuning scripts of Stable Video Diffusion are: noise, a level for each clip and one for its
first frame are drawn, diffusers' UNet answers under autocast, the denoised latents' squared error is weighted, goes
backward, is clipped; AdamW, a learning-rate scheduler and diffusers' EMAModel step, the loss is fetched. It computes
and trains all of its layers, in eager mode, as the scripts do. Ours is the recipe under the engine's step with the
settings of `svd-14f`: clipping, fused AdamW, average of the weights. Latents of clip and first frame and the first
frame's CLIP embedding lie ready in memory for both. In float32, before anything is timed, both losses of the same noise
must agree.

    python benchmarks/svd_step.py [--base small] [--latents 16x16] [--frames 8] [--batch 1] [--train all]
        [--checkpointing no yes] [--compile no] [--rounds 3] [--steps 3] [--precision auto] [--device cpu]

`small` is tiny-video's UNet, `svd` SVD's, random: on a GPU it is the default, in 320×576 and 576×1024 pixels, eager and
compiled. Weights, gradients, AdamW's state and the average take 20 bytes a parameter in float32, 30 GB of `svd`, before
any activation; where that is too much, --train temporal trains the layers along time alone (both sides). On a CPU the
time is that which one core spends on this process. Each contestant is built, measured and dropped, in turns over the
rounds; ratios are medians over rounds. `of peak`: the UNet's matrix products and convolutions, forward and backward,
against the GPU's dense bf16 peak; what checkpointing computes twice, and what single tokens leave idle, counts for
neither.
"""

import argparse
import copy
import logging
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import UNetSpatioTemporalConditionModel
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from contest import Contest, Job, Makers, operations  # pyrefly: ignore[missing-import]
from marigold_full import ANSWERS  # pyrefly: ignore[missing-import]
from salticid.data.source import Batch
from salticid.diffusion.noise import keyed_normal
from salticid.engine.build import build, set_arithmetic
from salticid.engine.ema import EmaConfig
from salticid.engine.evaluation import to_device
from salticid.engine.optim import OptimizerConfig, ScheduleConfig
from salticid.engine.parallel import Ranks
from salticid.engine.precision import Precision, autocast, settled
from salticid.engine.recipe import Clock
from salticid.engine.settings import Settings, TrainerConfig
from salticid.engine.step import MicroBatch
from salticid.nets.video import VideoUNet, config_to_diffusers, to_diffusers
from salticid.nets.video.names import diffusers_names
from salticid.recipes import SvdRecipe
from salticid.recipes.video.freeze import Train, is_temporal
from svd_base import enliven, write_base  # pyrefly: ignore[missing-import]

STEPS = 10_000
"""Of the run that the schedule thinks it is in."""
LR, DECAY, CLIP, AVERAGE, WARMUP = 1e-5, 1e-2, 1.0, 0.9999, 500
LEVEL, FRAME_LEVEL = (1.0, 1.6), (-3.0, 0.5)
"""Mean and standard deviation of ln σ, of the clip and of its first frame."""
LATENT, TOKEN = "embedded.cond_frames.concat", "embedded.cond_frames_without_noise.crossattn"
SHRINK = 8
"""Pixels of SVD's latents along a side."""


# ---- networks and batches ---------------------------------------------------------------------------------------


def made(base: str, train: Train) -> SvdRecipe:
    torch.manual_seed(0)
    recipe = SvdRecipe(base, train=train)
    recipe.start(fresh=True)
    enliven(recipe.model.unet)
    return recipe


def twin(unet: VideoUNet, train: Train) -> UNetSpatioTemporalConditionModel:
    """diffusers' network with the same weights, of which those are trained that `train` says."""
    other = UNetSpatioTemporalConditionModel(**config_to_diffusers(unet.config))
    other.load_state_dict(to_diffusers(unet.config, unet.state_dict()))
    theirs = {name: ours for ours, name in diffusers_names(unet.config, unet.state_dict()).items()}
    for name, parameter in other.named_parameters():
        parameter.requires_grad_(train == "all" or is_temporal(theirs[name]) == (train == "temporal"))
    return other.train()


def clips(batch: int, frames: int, size: tuple[int, int], context: int, device: torch.device) -> Batch:
    """What a latent cache would hold of a batch, with the latent of the first frame, which it does not."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=generator)

    first = torch.randint(0, 256, (batch, 3, SHRINK * size[0], SHRINK * size[1]), generator=generator)
    tensors = {
        "key": torch.arange(batch),
        "latent": normal(frames, 4, *size),
        "first": first.to(torch.uint8),
        "fps": torch.full((batch,), 7.0),
        "motion_bucket": torch.full((batch,), 127.0),
        "image_only": torch.zeros(batch, frames, dtype=torch.bool),
        TOKEN: normal(1, 1, context),
        LATENT: normal(1, 4, *size),
    }
    return to_device({"id": [str(i) for i in range(batch)]} | tensors, device)


# ---- the two ----------------------------------------------------------------------------------------------------


class Ours:
    """The recipe under the engine's step."""

    def __init__(self, recipe: SvdRecipe, trainer: TrainerConfig, device: torch.device):
        optimizer = OptimizerConfig("adamw", lr=LR, weight_decay=DECAY)
        schedule = ScheduleConfig("linear", warmup=WARMUP, final_ratio=0.1)
        self.settings = Settings(trainer, optimizer, schedule, EmaConfig(AVERAGE))
        self.recipe, self.device = recipe, device
        self.state = build(recipe, self.settings, Ranks(device), trainer.batch)

    def step(self, batch: Batch) -> None:
        number, trainer = self.state.step, self.settings.trainer
        lr = LR * self.settings.schedule.factor(number, trainer.steps)
        given = [MicroBatch(to_device(batch, self.device), 0, last=True)]
        report = self.state.runners[0].run(given, Clock(number, trainer.steps, trainer.seed), lr)
        if report.outcome != "updated":
            raise SystemExit(f"the step made no update ({report.outcome})")
        self.state.follow()


class Diffusers:
    """A plain loop."""

    def __init__(self, unet: Any, precision: Precision, device: torch.device, *, checkpointing: bool):
        self.unet = unet.to(device)
        if checkpointing:
            unet.enable_gradient_checkpointing()
        self.trained = [p for p in unet.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=LR, weight_decay=DECAY)
        self.rate = get_scheduler("linear", self.optimizer, num_warmup_steps=WARMUP, num_training_steps=STEPS)
        self.average = EMAModel(self.trained, decay=AVERAGE)
        self.autocast = autocast(device, precision)

    def step(self, batch: Batch) -> float:
        x0 = batch["latent"]
        sigma, level = (
            torch.exp(mean + std * torch.randn(len(x0), device=x0.device)) for mean, std in (LEVEL, FRAME_LEVEL)
        )
        loss = self.loss(batch, torch.randn_like(x0), sigma, level)
        loss.backward()
        nn.utils.clip_grad_norm_(self.trained, CLIP)
        self.optimizer.step()
        self.rate.step()
        self.optimizer.zero_grad()
        self.average.step(self.trained)
        return loss.item()

    def loss(self, batch: Batch, noise: Tensor, sigma: Tensor, level: Tensor) -> Tensor:
        """`sigma`, `level`: of the noise on clips and on their first frames, (B,)."""
        x0, s = batch["latent"], sigma.view(-1, 1, 1, 1, 1)
        noisy, spread = x0 + s * noise, torch.sqrt(s**2 + 1)
        rows = torch.cat([noisy / spread, batch[LATENT].expand_as(x0)], dim=2)
        told = torch.stack([batch["fps"] - 1, batch["motion_bucket"], level], dim=1)
        with self.autocast:
            output = self.unet(rows, sigma.log() / 4, batch[TOKEN][:, 0], added_time_ids=told, return_dict=False)[0]
        denoised = noisy / spread**2 - s / spread * output.float()
        return (spread**2 / s**2 * (denoised - x0) ** 2).mean()


def check(recipe: SvdRecipe, unet: Any, device: torch.device) -> None:
    """Both losses of a small clip are the same, in float32."""
    set_arithmetic(TrainerConfig(tf32=False), device)
    batch = clips(2, 3, (8, 16), recipe.model.unet.config.context, device)
    keys, x0 = batch["key"], batch["latent"]
    noise = keyed_normal(keys, tuple(x0.shape[1:]), seed=0, device=device)
    sigma = recipe.objective.levels(keys, seed=0, device=device)
    level = recipe.diffusion.frame_noise.sampler()(keys, seed=0, stream="cond_aug", device=device)
    recipe.to(device), unet.to(device)
    with torch.no_grad():
        mine = recipe.loss("unet", batch, Clock(0, STEPS, 0)).total.item()
        other = Diffusers(unet, "fp32", device, checkpointing=False).loss(batch, noise, sigma, level).item()
    recipe.to("cpu"), unet.to("cpu")
    print(f"loss {mine:.6f}, diffusers {other:.6f}")
    if not abs(mine - other) <= 1e-4 * abs(other):
        raise SystemExit("the losses differ")


# ---- measuring --------------------------------------------------------------------------------------------------


def compare(recipe: SvdRecipe, unet: Any, size: tuple[int, int], options: argparse.Namespace, contest: Contest) -> None:
    """With latents of one size: the peer beside ours, eager and compiled, with and without checkpointing."""
    config, device, count = recipe.model.unet.config, contest.device, options.batch
    precision = settled(options.precision, device)
    batch = clips(count, options.frames, size, config.context, device)
    work = operations(config, options.frames, size, options.train)
    told = f"{options.frames}×{size[0]}×{size[1]} latents, batch {count}, {device.type}, {precision}"
    print(f"\n{told}, {work / 1e12:.3f} T operations a clip")

    def theirs(checkpointing: bool) -> Job:
        loop = Diffusers(copy.deepcopy(unet), precision, device, checkpointing=checkpointing)
        return lambda: loop.step(batch)

    def ours(checkpointing: bool, compiled: bool) -> Job:
        trainer = TrainerConfig(
            steps=STEPS,
            batch=count,
            precision=precision,
            clip=CLIP,
            compile=compiled,
            checkpoint_activations=checkpointing,
        )
        loop = Ours(copy.deepcopy(recipe), trainer, device)
        return lambda: loop.step(batch)

    for checkpointing in (ANSWERS[a] for a in options.checkpointing):
        makers: Makers = {"diffusers": partial(theirs, checkpointing)} | {
            f"ours{', compiled' * ANSWERS[a]}": partial(ours, checkpointing, ANSWERS[a]) for a in options.compile
        }
        contest.run(f"checkpointing: {checkpointing}", makers, clips=count, work=work)


def main() -> None:
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if gpu else "cpu")
    parser.add_argument("--base", choices=("small", "svd"), default="svd" if gpu else "small")
    parser.add_argument("--latents", nargs="+", default=["40x72", "72x128"] if gpu else ["16x16"], metavar="HxW")
    parser.add_argument("--frames", type=int, default=14 if gpu else 8)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--train", choices=("all", "temporal", "spatial"), default="all")
    parser.add_argument("--rounds", type=int, default=1 if gpu else 3)
    parser.add_argument("--steps", type=int, default=5 if gpu else 3, help="that are timed in a round")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--checkpointing", nargs="+", choices=ANSWERS, default=["no", "yes"])
    parser.add_argument("--compile", nargs="+", choices=ANSWERS, default=["no", "yes"] if gpu else ["no"])
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as scratch:
        base = "tiny-video" if options.base == "small" else write_base(Path(scratch) / "svd", whole=False)
        recipe = made(base, options.train)
    unet = twin(recipe.model.unet, options.train)
    trained = sum(p.numel() for p in recipe.model.unet.parameters() if p.requires_grad)
    whole = sum(p.numel() for p in unet.parameters())
    print(f"{options.base}: {whole / 1e6:.1f} M parameters, {trained / 1e6:.1f} M trained (diffusers: ", end="")
    print(f"{sum(p.numel() for p in unet.parameters() if p.requires_grad) / 1e6:.1f} M)")
    check(recipe, unet, device)
    set_arithmetic(TrainerConfig(), device)
    for text in options.latents:
        height, width = map(int, text.split("x"))
        compare(recipe, unet, (height, width), options, Contest(device, options.rounds, options.steps))


if __name__ == "__main__":
    main()
