"""A training step of the marigold recipe against a plain loop on diffusers, and from latents against from pictures.

The peer is written as diffusers' training examples are: the VAE encodes picture and depth one after the other (cast to
the precision of the run), noise and times are drawn, the scheduler adds the noise, the UNet answers under autocast, the
mean squared error goes backward, AdamW and a learning-rate scheduler step, the loss is fetched. Ours is the recipe
under the engine's step, no clipping, no average. Both have the same weights and batch, which lies ready in memory,
coded depth for the peer, metres for ours. Bases:

    tiny    the package's own; its UNet costs less beside its VAE than Stable Diffusion's does
    small   Stable Diffusion 2.1's layout with an eighth of its widths, random weights: near its ratio of UNet to VAE
    sd      Stable Diffusion 2.1's shape, random weights
    FOLDER  any base of the recipe

    python benchmarks/marigold_step.py [--base tiny small] [--size H W] [--batch B] [--repeats 5] [--device cpu]
        [--precision auto] [--compile] [--channels-last] [--checkpointing]

--compile and --channels-last are for ours alone, as the examples have neither. Ratios are medians over rounds in which
all take turns. On the CPU it is the time that one core spends on this process, which neighbours on a busy machine
disturb least. `arithmetic` is the ratio by the operations of matrix products and convolutions.
"""

import argparse
import copy
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from importlib.resources import files
from pathlib import Path
from shutil import copytree
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from diffusers.optimization import get_scheduler
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from salticid.data.source import Batch
from salticid.engine.build import build
from salticid.engine.evaluation import to_device
from salticid.engine.optim import OptimizerConfig, ScheduleConfig
from salticid.engine.parallel import Ranks
from salticid.engine.precision import Precision, autocast, settled
from salticid.engine.recipe import Clock
from salticid.engine.settings import Settings, TrainerConfig
from salticid.engine.step import MicroBatch
from salticid.nets.stable_diffusion import scheduler_config
from salticid.recipes import MarigoldRecipe

STEPS = 1000
"""Of the run that the schedule thinks it is in."""
LR, DECAY, WARMUP, FINAL = 3e-5, 1e-2, 100, 0.01
SHAPES = {"tiny": (64, 64, 16), "small": (192, 256, 3), "sd": (480, 640, 2)}
"""Height, width and batch where nothing else is said."""


# ---- bases ------------------------------------------------------------------------------------------------------


def write_base(folder: Path, name: str) -> str:
    """The configurations of a base, without weights: `sd` in Stable Diffusion 2.1's shape, `small` with an eighth of
    its widths. The text encoder is a token one: what it makes of the empty prompt is computed once."""
    share = 8 if name == "small" else 1
    unet = {
        "_class_name": "UNet2DConditionModel",
        "sample_size": 96,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": [320 // share, 640 // share, 1280 // share, 1280 // share],
        "attention_head_dim": [1, 2, 4, 4] if share > 1 else [5, 10, 20, 20],  # in truth the number of heads
        "cross_attention_dim": 1024 // share,
        "norm_num_groups": 32 // share,
        "layers_per_block": 2,
        "down_block_types": [*3 * ["CrossAttnDownBlock2D"], "DownBlock2D"],
        "up_block_types": ["UpBlock2D", *3 * ["CrossAttnUpBlock2D"]],
        "use_linear_projection": True,
    }
    vae = {
        "_class_name": "AutoencoderKL",
        "sample_size": 768,
        "latent_channels": 4,
        "block_out_channels": [128 // share, 256 // share, 512 // share, 512 // share],
        "norm_num_groups": 32 // share,
        "layers_per_block": 2,
        "down_block_types": 4 * ["DownEncoderBlock2D"],
        "up_block_types": 4 * ["UpDecoderBlock2D"],
        "scaling_factor": 0.18215,
    }
    source = Path(str(files("salticid") / "bases" / "tiny"))
    text = json.loads((source / "text_encoder" / "config.json").read_text(encoding="utf-8"))
    text |= {"hidden_size": unet["cross_attention_dim"]}
    for part, config in (("unet", unet), ("vae", vae), ("text_encoder", text)):
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for part in ("tokenizer", "scheduler"):
        copytree(source / part, folder / part)
    return str(folder)


def pictures(batch: int, size: tuple[int, int], device: torch.device) -> Batch:
    """A batch of training samples without content: what they show costs nothing."""
    generator = torch.Generator().manual_seed(0)
    image, depth = (torch.rand(batch, c, *size, generator=generator).to(device) for c in (3, 1))
    valid = torch.ones_like(depth, dtype=torch.bool)
    names = [str(i) for i in range(batch)]
    key = torch.arange(batch, device=device)
    return {"id": names, "key": key, "image": 2 * image - 1, "depth": 1 + 9 * depth, "valid": valid}


# ---- the two ----------------------------------------------------------------------------------------------------


class Ours:
    """The recipe under the engine's step."""

    def __init__(self, base: str, trainer: TrainerConfig, device: torch.device):
        torch.manual_seed(0)
        self.recipe = MarigoldRecipe(base=base)
        self.recipe.start(fresh=True)
        optimizer = OptimizerConfig("adamw", lr=LR, weight_decay=DECAY)
        schedule = ScheduleConfig("exponential", warmup=WARMUP, final_ratio=FINAL)
        self.settings = Settings(trainer, optimizer, schedule, ema=None)
        self.state = build(self.recipe, self.settings, Ranks(device), trainer.batch)
        self.device = device

    def step(self, *batches: Batch) -> None:
        """Of one or several micro-batches."""
        number, trainer = self.state.step, self.settings.trainer
        lr = LR * self.settings.schedule.factor(number, trainer.steps)
        last = len(batches) - 1
        given = [
            MicroBatch(to_device(b, self.device, trainer.channels_last), 0, i == last) for i, b in enumerate(batches)
        ]
        report = self.state.runners[0].run(given, Clock(number, trainer.steps, trainer.seed), lr)
        if report.outcome != "updated":
            raise SystemExit(f"the step made no update ({report.outcome})")
        self.state.follow()

    def encoded(self, batch: Batch) -> Batch:
        """What a latent cache holds in place of a batch."""
        with torch.no_grad(), autocast(self.device, self.state.runners[0].precision):
            return {"id": batch["id"], "key": batch["key"]} | self.recipe.encode(batch)


class Diffusers:
    """A plain loop."""

    def __init__(self, ours: Ours, base: str, precision: Precision, device: torch.device, checkpointing: bool):
        model, config = ours.recipe.model, scheduler_config(base)
        self.unet = copy.deepcopy(model.unet).to(device, memory_format=torch.contiguous_format)
        if checkpointing:
            self.unet.enable_gradient_checkpointing()
        self.dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self.vae = copy.deepcopy(model.vae.network).to(device, self.dtype, memory_format=torch.contiguous_format)
        self.prompt = model.prompt.to(device)
        known = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "rescale_betas_zero_snr")
        self.scheduler: Any = DDPMScheduler(prediction_type="v_prediction", **{name: config[name] for name in known})
        self.optimizer = torch.optim.AdamW(self.unet.parameters(), lr=LR, weight_decay=DECAY)
        self.rate = get_scheduler("cosine", self.optimizer, num_warmup_steps=WARMUP, num_training_steps=STEPS)
        self.autocast = autocast(device, precision)

    def encode(self, image: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
        scale = self.vae.config["scaling_factor"]
        with torch.no_grad():
            latents = [self.vae.encode(x.to(self.dtype)).latent_dist.mode() * scale for x in (image, depth)]
        return latents[0], latents[1]

    def step(self, image: Tensor, depth: Tensor) -> float:
        """`depth`: coded, three channels."""
        latent, x0 = self.encode(image, depth)
        noise = torch.randn_like(x0)
        times = torch.randint(0, self.scheduler.config["num_train_timesteps"], (len(x0),), device=x0.device)
        noisy = self.scheduler.add_noise(x0, noise, times)
        target = self.scheduler.get_velocity(x0, noise, times)
        prompt = self.prompt.to(self.dtype).expand(len(x0), -1, -1)
        with self.autocast:
            output = self.unet(torch.cat([latent, noisy], dim=1), times, prompt, return_dict=False)[0]
        loss = F.mse_loss(output.float(), target.float())
        loss.backward()
        self.optimizer.step()
        self.rate.step()
        self.optimizer.zero_grad()
        return loss.item()


# ---- measuring --------------------------------------------------------------------------------------------------


def seconds(job: Callable[[], object], device: torch.device) -> float:
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    start = clock()
    job()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def flops(job: Callable[[], object], device: torch.device) -> int:
    """Operations of matrix products and convolutions; the CPU's fused attention would not be counted."""
    plain = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
    with plain, FlopCounterMode(display=False) as counter:
        job()
    return counter.get_total_flops()


def peak_memory(job: Callable[[], object], beside: int) -> int:
    """Bytes on the GPU during a job, but for those that lie there for another."""
    torch.cuda.reset_peak_memory_stats()
    job()
    return torch.cuda.max_memory_allocated() - beside


def compare(name: str, base: str, options: argparse.Namespace, device: torch.device) -> None:
    *size, count = SHAPES.get(name, SHAPES["sd"])
    height, width = options.size or size
    count = options.batch or count
    precision = settled(options.precision, device)
    trainer = TrainerConfig(
        steps=STEPS,
        batch=count,
        precision=precision,
        compile=options.compile,
        channels_last=options.channels_last,
        checkpoint_activations=options.checkpointing,
    )
    ours = Ours(base, trainer, device)
    batch = pictures(count, (height, width), device)
    coded = ours.recipe.coding(batch["depth"], batch["valid"]).expand(-1, 3, -1, -1)
    latents = ours.encoded(batch)
    jobs: dict[str, Callable[[], object]] = {
        "ours": lambda: ours.step(batch),
        "ours from latents": lambda: ours.step(latents),
    }
    memory = {}
    for job in jobs.values():  # compiled here, where they are; and the optimiser's state is made
        job(), job()
    if device.type == "cuda":
        memory = {key: peak_memory(job, 0) for key, job in jobs.items()}
    beside = torch.cuda.memory_allocated() if device.type == "cuda" else 0
    theirs = Diffusers(ours, base, precision, device, options.checkpointing)
    jobs["diffusers"] = lambda: theirs.step(batch["image"], coded)
    jobs["diffusers"]()
    if device.type == "cuda":
        memory["diffusers"] = peak_memory(jobs["diffusers"], beside)
    whole = flops(jobs["diffusers"], device)
    first = flops(lambda: theirs.encode(batch["image"], coded), device)

    rounds = [[seconds(job, device) for job in jobs.values()] for _ in range(options.repeats)]  # in turns
    parameters = sum(p.numel() for p in ours.state.parameters.values()) / 1e6
    print(f"{name}: {parameters:.1f} M parameters, {height}×{width}, batch {count}, {device.type}, {precision}")
    for key, took in zip(jobs, map(statistics.median, zip(*rounds, strict=True)), strict=True):
        kept = f", {memory[key] / 1e9:.2f} GB" if memory else ""
        print(f"  {key:17} {1e3 * took:8.1f} ms a step, {count / took:7.2f} samples/s{kept}")
    faster = statistics.median(row[2] / row[0] for row in rounds)
    cached = statistics.median(row[0] / row[1] for row in rounds)
    print(f"  ours against diffusers {faster:.2f}×, from latents against from pictures {cached:.2f}× ", end="")
    print(f"(arithmetic {whole / (whole - first):.2f}×)", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", nargs="+", default=["tiny", "small"], metavar="tiny|small|sd|FOLDER")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", nargs=2, type=int, metavar=("H", "W"))
    parser.add_argument("--batch", type=int)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    for flag in ("--compile", "--channels-last", "--checkpointing"):
        parser.add_argument(flag, action="store_true")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.set_num_threads(1)
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.base:
            base = write_base(Path(scratch) / name, name) if name in ("small", "sd") else name
            compare(name, base, options, device)


if __name__ == "__main__":
    main()
