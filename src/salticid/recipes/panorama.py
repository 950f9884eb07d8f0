"""Multi-view SSDD: fisheye views → one latent → 360° panorama by flow matching (after arXiv 2510.04961).

Encode every view (KL encoder), fuse the latents into one of the panorama, decode by flow matching. Optionally the
decoder also sees what plain geometry can make of the views: warp-and-blend stitches at a few distances.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salticid.data.readers.pictures import read_picture
from salticid.data.source import Batch, Data
from salticid.diffusion.loss import DiffusionLoss
from salticid.diffusion.noise import keyed_normal
from salticid.diffusion.path import Flow
from salticid.diffusion.solve import Denoiser, first_order
from salticid.diffusion.target import Velocity
from salticid.diffusion.times import LogitNormal, power_grid
from salticid.engine.recipe import Clock, Loss, Phase, Recipe
from salticid.errors import ConfigError, UserError
from salticid.evaluate.image import eight_bit, mae, psnr, seam_error, ssim, ws_psnr
from salticid.evaluate.pictures import save_png, tile, to_bytes
from salticid.geometry.cameras import UCM, Equirectangular
from salticid.geometry.rig import Rig
from salticid.geometry.stitch import Stitcher, stitch
from salticid.geometry.views import views_from_panorama
from salticid.nets.fusion import ConcatConv, RayFusion
from salticid.nets.kl_encoder import KLEncoder
from salticid.nets.panorama_unet import Condition, PanoramaUNet


@dataclass(frozen=True)
class Sampler:
    """Euler steps on the time grid linspace(1, 0, steps + 1) ** power."""

    steps: int = 12
    power: float = 2.0


@dataclass(frozen=True)
class LossWeights:
    """What the terms of the training loss count."""

    flow: float = 1.0
    image: float = 1.0
    """Squared error of the image head, which draws the panorama from the latent without noise."""
    kl: float = 1e-6
    """KL divergence of a view's latent to N(0, 1), summed over the latent (nats)."""


class PanoramaRecipe(Recipe):
    """Four fisheye views (any number for `rays`) → a panorama of height × 2·height.

    Args:
        height: rows of the panorama; a multiple of 8.
        views, view_size: the rig's number of views and their (square) size; the size is a multiple of 8.
        fusion: `concat_conv` stacks the views' latents as the public code does; `rays` looks through the cameras.
        fusion_distances: metres at which `rays` looks into the views (.inf allowed).
        stitch_distances: metres of the warp-and-blend stitches that guide the decoder; empty: no guide, the
            decoder sees the latent alone.
        baseline_distances: evaluation reports warp-and-blend at the best of these distances.
        latent, encoder_widths, decoder_widths: channels of the latent and of the networks' levels.
        residual: standard deviation that is left to the flow once the image head has drawn its picture; the
            network's input and output are scaled for it (preconditioning).
        noisy_share: share of training times drawn next to t = 1, where one-step sampling starts and the
            logit-normal distribution hardly ever goes.
    """

    def __init__(
        self,
        height: int = 64,
        views: int = 4,
        view_size: int = 64,
        fusion: Literal["concat_conv", "rays"] = "rays",
        fusion_distances: Sequence[float] = (1.0, 2.5, math.inf),
        stitch_distances: Sequence[float] = (),
        baseline_distances: Sequence[float] = (1.5, 2.0, 2.5, 3.0, 4.0, 6.0, math.inf),
        latent: int = 4,
        encoder_widths: Sequence[int] = (32, 64, 96),
        decoder_widths: Sequence[int] = (40, 64, 96),
        residual: float = 0.35,
        noisy_share: float = 0.1,
        sampler: Sampler = Sampler(),
        weights: LossWeights = LossWeights(),
    ):
        super().__init__()
        self.encoder = KLEncoder(encoder_widths, latent)
        down = self.encoder.downsampling
        if height % down or view_size % down or down != 8:
            raise ConfigError(f"recipe: height {height} and view_size {view_size} must be multiples of 8, "
                              f"with three encoder widths (got {len(encoder_widths)})")  # fmt: skip
        self.height, self.views, self.view_size = height, views, view_size
        self.fusion: nn.Module
        if fusion == "concat_conv":
            self.fusion = ConcatConv(views, latent)
        else:
            self.fusion = RayFusion(latent, inverse_distances=tuple(1 / d for d in fusion_distances))
        self.decoder = PanoramaUNet(latent, stitches=len(stitch_distances), widths=decoder_widths)
        self.stitch_distances = tuple(stitch_distances)
        self.baseline_distances = tuple(baseline_distances)
        self.residual, self.sampler, self.weights = residual, sampler, weights
        self.sphere = Equirectangular(height, 2 * height)
        self.path, self.target = Flow(), Velocity()
        self.times = LogitNormal(noisy_share=noisy_share)
        self.flow_loss = DiffusionLoss(self.path, self.target)
        # What prediction from other rigs has to imitate; set from the data, saved with the weights.
        self.register_buffer("rig_intrinsics", torch.zeros(views, 5))
        self.register_buffer("rig_poses", torch.eye(4).repeat(views, 1, 1))

    # --- training -----------------------------------------------------------------------------------------------

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("flow", ("encoder", "fusion", "decoder")),)

    def check(self, data: Data) -> None:
        sample = data.train().sample(0, None)
        expected = {
            "views": (self.views, 3, self.view_size, self.view_size),
            "panorama": (3, self.height, 2 * self.height),
            "intrinsics": (self.views, 5),
            "poses": (self.views, 4, 4),
        }
        for name, shape in expected.items():
            got = tuple(sample[name].shape) if name in sample else None
            if got != shape:
                raise ConfigError(f"data: samples have {name} of shape {got}, the recipe expects {shape}")
        self.rig_intrinsics.copy_(sample["intrinsics"])
        self.rig_poses.copy_(sample["poses"])

    def loss(self, phase: str, batch: Batch, clock: Clock) -> Loss:
        truth, keys = batch["panorama"], batch["key"]
        views = batch["views"]
        posterior = self.encoder(views.flatten(0, 1))
        shape = views.shape[1], *posterior.mean.shape[1:]
        jitter = keyed_normal(keys, shape, seed=clock.seed, stream="latent", device=truth.device)
        condition = self.condition(posterior.sample(jitter.flatten(0, 1)), views, self.rig(batch))
        noise = keyed_normal(keys, truth.shape[1:], seed=clock.seed, stream="noise", device=truth.device)
        times = self.times(keys, seed=clock.seed, device=truth.device)
        output = self.denoiser(condition).output(self.path.mix(truth, noise, times), times)
        flow = self.flow_loss(output, truth, noise, times)
        image = F.mse_loss(condition.estimate.float(), truth)
        kl = posterior.kl().mean()
        total = self.weights.flow * flow.loss + self.weights.image * image + self.weights.kl * kl
        terms = {"flow": flow.loss, "image": image, "kl": kl}
        return Loss(total, {name: value.detach() for name, value in terms.items()})

    # --- the model ----------------------------------------------------------------------------------------------

    def rig(self, batch: Batch) -> Rig:
        """The cameras of the batch; those of one sample where all are the same, so that maps are made once."""
        numbers, poses = batch["intrinsics"], batch["poses"]
        if (numbers == numbers[:1]).all() and (poses == poses[:1]).all():
            numbers, poses = numbers[:1], poses[:1]
        size = self.view_size, self.view_size
        cameras = tuple(UCM(*size, *numbers[:, i].unbind(-1)[:4], xi=numbers[:, i, 4]) for i in range(numbers.shape[1]))
        return Rig(cameras, poses, tuple(str(i) for i in range(len(cameras))))

    def condition(self, latents: Tensor, views: Tensor, rig: Rig) -> Condition:
        """From the latents (B·N, C, h, w) and pictures (B, N, 3, H, W) of the views to all that the decoder needs."""
        latents = latents.unflatten(0, views.shape[:2])
        latent = self.fusion(latents, rig, self.height // 8, self.height // 4)
        stitches = coverage = None
        if self.stitch_distances:
            made = [stitch(views, rig, self.sphere, distance=d) for d in self.stitch_distances]
            stitches = torch.stack([picture for picture, _ in made], dim=1)
            coverage = made[-1][1].expand(len(views), -1, -1, -1)
        return self.decoder.condition(latent, stitches, coverage)

    def velocity(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The flow x₀ − ε that the network predicts at x_t.

        With x₀ = estimate + r and r ~ N(0, s²), y = x_t − (1−t)·estimate = (1−t)·r + t·ε has variance
        d = (1−t)²s² + t², and estimate + ((1−t)s² − t)/d·y is the best linear guess of x₀ − ε; what is left has
        standard deviation s/√d. The network is given y/√d and predicts what is left, both of unit scale (the
        preconditioning of EDM, Karras et al. 2022, for a flow around an estimate).
        """
        s2 = self.residual**2
        estimate = condition.estimate.detach()
        time = t.float().reshape(-1, 1, 1, 1)
        variance = (1 - time) ** 2 * s2 + time**2
        y = x.float() - (1 - time) * estimate
        left = self.decoder(y * variance.rsqrt(), 1000 * t, condition).float()
        return estimate + ((1 - time) * s2 - time) / variance * y + self.residual * variance.rsqrt() * left

    def denoiser(self, condition: Condition) -> Denoiser:
        return Denoiser(lambda x, t: self.velocity(x, t, condition), self.path, self.target)

    def generate(self, condition: Condition, noise: Tensor, steps: int) -> Tensor:
        """A panorama (B, 3, H, W) from noise by `steps` Euler steps."""
        times = power_grid(steps, self.sampler.power)
        return first_order(self.denoiser(condition), noise, self.path, times)

    def look(self, batch: Batch) -> tuple[Condition, Rig]:
        """The condition of a batch in evaluation: the mode of the latent, no noise."""
        rig = self.rig(batch)
        posterior = self.encoder(batch["views"].flatten(0, 1))
        return self.condition(posterior.mean, batch["views"], rig), rig

    def noise(self, batch: Batch, seed: int) -> Tensor:
        """Starting noise of every sample, a function of (seed, sample) alone."""
        shape = 3, self.height, 2 * self.height
        return keyed_normal(batch["key"], shape, seed=seed, stream="sample", device=batch["views"].device)

    # --- evaluation ---------------------------------------------------------------------------------------------

    def evaluate(self, batch: Batch, *, seed: int) -> dict[str, Tensor]:
        """Per sample: PSNR, WS-PSNR, SSIM, MAE and seam error of 1 and n Euler steps, and the baselines."""
        condition, rig = self.look(batch)
        noise = self.noise(batch, seed)
        truth = eight_bit(batch["panorama"])
        records: dict[str, Tensor] = {}
        made = {f"{n}-step": self.generate(condition, noise, n) for n in dict.fromkeys((1, self.sampler.steps))}
        for name, panorama in made.items():
            records |= {f"{metric}/{name}": value for metric, value in self.score(eight_bit(panorama), truth).items()}
        for distance in self.baseline_distances:
            blend, coverage = stitch(batch["views"], rig, self.sphere, distance=distance)
            scores = self.score(eight_bit(blend), truth)
            records |= {f"{metric}/stitch@{distance:g}": value for metric, value in scores.items()}
        one = eight_bit(made["1-step"])
        seen = coverage.expand(len(one), -1, -1, -1).double()
        records["ws_psnr_seen/1-step"] = ws_psnr(one, truth, seen)
        records["ws_psnr_unseen/1-step"] = ws_psnr(one, truth, 1 - seen)
        mean = truth.mean(dim=(2, 3), keepdim=True).expand_as(truth)
        records |= {f"{metric}/mean-colour": value for metric, value in self.score(mean, truth).items()}
        return records

    @staticmethod
    def score(image: Tensor, truth: Tensor) -> dict[str, Tensor]:
        return {
            "psnr": psnr(image, truth),
            "ws_psnr": ws_psnr(image, truth),
            "ssim": ssim(image, truth),
            "mae": mae(image, truth),
            "seam": seam_error(image, truth),
        }

    def summarise(self, records: dict[str, Tensor]) -> dict[str, float]:
        """Means over samples (over those that have the value: a view may leave nothing unseen), and
        warp-and-blend at whichever single distance does best by WS-PSNR."""
        means = {name: float(values.nanmean()) for name, values in records.items()}
        distances = [f"stitch@{d:g}" for d in self.baseline_distances]
        if distances:
            best = max(distances, key=lambda d: means[f"ws_psnr/{d}"])
            stitched = {name.replace(best, "stitch"): v for name, v in means.items() if name.endswith("/" + best)}
            means = {n: v for n, v in means.items() if "/stitch@" not in n} | stitched
            means["stitch_distance"] = float(best.removeprefix("stitch@"))
        return {name: value for name, value in means.items() if not math.isnan(value)}

    def preview(self, batch: Batch, *, seed: int) -> Tensor:
        condition, rig = self.look(batch)
        noise = self.noise(batch, seed)
        blend, _ = stitch(batch["views"], rig, self.sphere, distance=3.0)
        columns = [views_side_by_side(batch["views"], self.height), blend]
        columns += [self.generate(condition, noise, n) for n in dict.fromkeys((1, self.sampler.steps))]
        columns.append(batch["panorama"])
        return tile(torch.stack([to_bytes(c) for c in columns], dim=1))

    def legend(self) -> str:
        steps = " · ".join(f"model, {n} step{'s' * (n > 1)}" for n in dict.fromkeys((1, self.sampler.steps)))
        return f"columns: views · warp-and-blend · {steps} · truth"

    # --- prediction ---------------------------------------------------------------------------------------------

    @torch.no_grad()
    def predict(
        self,
        inputs: list[Path],
        output: Path,
        *,
        rig: Path,
        steps: int = 1,
        distance: float = math.inf,
        seed: int = 0,
    ) -> list[Path]:
        """One panorama from one picture per camera of a rig.

        A rig like the one the model was trained on is used as it is. From any other, the trained rig's views are
        rendered first, through a stitch at `distance` metres.

        Args:
            rig: calibration file: the project's own YAML, OpenCV fisheye, or a Kalibr camchain.
            steps: Euler steps. distance: metres at which the pictures are stitched.
        """
        calibration = load_rig(rig)
        pictures = [read_picture(path) for path in inputs]
        calibration.check_images([(p.shape[1], p.shape[2]) for p in pictures], source=str(rig))
        views = self.trained_views(pictures, calibration, distance).to(self.rig_poses.device)
        batch = {
            "views": views[None],
            "key": torch.zeros(1, dtype=torch.int64),
            "intrinsics": self.rig_intrinsics[None],
            "poses": self.rig_poses[None],
        }
        condition, _ = self.look(batch)
        panorama = self.generate(condition, self.noise(batch, seed), steps)
        save_png(to_bytes(panorama)[0], output)
        return [output]

    def trained_views(self, pictures: list[Tensor], calibration: Rig, distance: float) -> Tensor:
        """The pictures as the trained rig would have taken them: (N, 3, h, w) in [−1, 1]."""
        if not self.rig_intrinsics[:, 0].all():
            raise UserError("this checkpoint does not know the rig that it was trained on")
        trained = self.rig({"intrinsics": self.rig_intrinsics[None].cpu(), "poses": self.rig_poses[None].cpu()})
        images = [p[None].float() / 127.5 - 1 for p in pictures]
        if same_rig(calibration.resized(self.view_size, self.view_size), trained):
            return torch.cat([F.interpolate(image, (self.view_size,) * 2, mode="area") for image in images])
        sphere = Equirectangular(8 * self.height, 16 * self.height)
        panorama = Stitcher(calibration, sphere, distance=distance)(images)[0]
        single = Rig(tuple(first_of(c) for c in trained.cameras), trained.poses[0], trained.names)
        return views_from_panorama(panorama, single, supersample=4)


def first_of(camera: UCM) -> UCM:
    """The camera of the first sample of a batch."""
    values = {
        name: float(value[0]) if isinstance(value, Tensor) else value for name, value in camera.parameters.items()
    }
    return UCM(camera.height, camera.width, **values)


def same_rig(rig: Rig, trained: Rig, tolerance: float = 1e-3) -> bool:
    """Whether two rigs have the same UCM cameras in the same places."""
    if len(rig) != len(trained) or not all(isinstance(camera, UCM) for camera in rig.cameras):
        return False
    numbers = [[float(c.parameters[n]) for n in ("fx", "fy", "cx", "cy", "xi")] for c in rig.cameras]
    wanted = [[float(first_of(c).parameters[n]) for n in ("fx", "fy", "cx", "cy", "xi")] for c in trained.cameras]  # type: ignore[arg-type]
    close = torch.allclose(torch.tensor(numbers), torch.tensor(wanted), rtol=tolerance)
    return close and torch.allclose(rig.poses.float(), trained.poses[0], atol=tolerance)


def views_side_by_side(views: Tensor, height: int) -> Tensor:
    """(B, N, 3, h, w) → one picture (B, 3, height, 2·height) with the views in two rows."""
    batch, count = views.shape[:2]
    columns = math.ceil(count / 2)
    padded = F.pad(views, (0, 0, 0, 0, 0, 0, 0, 2 * columns - count), value=-1.0)
    rows = padded.unflatten(1, (2, columns)).permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
    scale = min(height / rows.shape[2], 2 * height / rows.shape[3])
    size = round(rows.shape[2] * scale), round(rows.shape[3] * scale)
    rows = F.interpolate(rows, size, mode="bilinear", antialias=True)
    right, bottom = 2 * height - size[1], height - size[0]
    return F.pad(rows, (right // 2, right - right // 2, bottom // 2, bottom - bottom // 2), value=-1.0)
