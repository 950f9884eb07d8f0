"""Sampling: clips against a hand-written Euler loop, and frames × views of any number against a known function."""

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.recipes.video_toys import clips, floats, grids, part, sv4d, svd
from torch import Tensor

from salticid.data.source import Batch
from salticid.diffusion.noise import keyed_normal
from salticid.diffusion.sigma import v_scaling
from salticid.errors import ConfigError
from salticid.nets.conditioner import Conditioner, Conditions, Embedder, Kind
from salticid.nets.first_stage import FirstStage, FirstStageSettings
from salticid.recipes.video.matrix import Matrix, anchors
from salticid.recipes.video.model import VideoModel
from salticid.recipes.video.recipe import VideoRecipe
from salticid.recipes.video.settings import FrameNoise, Guider, Sampler

SEED = 2


# a clip ------------------------------------------------------------------------------------------------------------


def karras(sampler: Sampler) -> list[float]:
    n, low, high = sampler.steps, sampler.sigma_min ** (1 / 7), sampler.sigma_max ** (1 / 7)
    return [(high + i / (n - 1) * (low - high)) ** 7 for i in range(n)] + [0.0]


def euler(recipe: VideoRecipe, batch: Batch, rows: dict[str, Tensor], zeroed: tuple[str, ...], scale: Tensor) -> Tensor:
    """Pictures (P, 3, H, W) of a single clip, by the formulas of the papers: what the UNet is told as rows, of which
    some are zero in the unconditional pass.

    Args:
        scale: of guidance, for each row.
    """
    model, sigmas = recipe.model, karras(recipe.sampler)
    latent = (len(scale), 4, *(side // 4 for side in batch["video" if "video" in batch else "image"].shape[-2:]))
    x = keyed_normal(batch["key"], latent, seed=SEED, stream="sample")[0] * (sigmas[0] ** 2 + 1) ** 0.5

    def denoised(x: Tensor, sigma: float, free: bool) -> Tensor:
        told = {name: torch.zeros_like(v) if free and name in zeroed else v for name, v in rows.items()}
        concat, extra = told.pop("concat"), {name: told.pop(name) for name in ("reference",) if name in told}
        time = torch.tensor(sigma).log() / 4
        shape = {"frames": recipe.grid(batch)[0], "views": recipe.grid(batch)[1]} if extra else {"frames": len(x)}
        seen = torch.cat([x / (sigma**2 + 1) ** 0.5, concat], 1)
        answer = model.unet(seen, time.expand(len(x)), **told, **extra, **shape)
        return x / (sigma**2 + 1) - sigma / (sigma**2 + 1) ** 0.5 * answer

    scale = scale.view(-1, 1, 1, 1)
    for sigma, following in pairwise(sigmas):
        free = denoised(x, sigma, True)
        x0 = free + scale * (denoised(x, sigma, False) - free)
        x = x + (following - sigma) * (x - x0) / sigma
    vae = model.first_stage.vae.network.network
    return vae.decode(x / vae.config.scaling_factor).sample


def waves(number: Tensor, width: int) -> Tensor:
    angles = number[:, None] * 10_000 ** (-torch.arange(width // 2) / (width // 2))
    return torch.cat([angles.cos(), angles.sin()], dim=1)


@torch.no_grad()
def test_a_clip_is_sampled_as_by_hand():
    """Euler's method from √(1 + σ²) of unit noise; guidance from 1 in the first frame to 2.5 in the last, away from
    the same numbers with neither the picture's latent nor its CLIP embedding. To 1e-4 of pixels in [−1, 1]."""
    recipe = svd(sampler=Sampler(steps=4, guider=Guider("linear", 1.0, 2.5)))
    whole = clips(frames=3)
    found = recipe.sampled(whole | recipe.encode(whole), SEED)
    for row in range(2):
        batch = part(whole, row)
        first, level = floats(batch["video"])[:, :, 0], torch.tensor([0.02])
        vae = recipe.model.first_stage.vae.network.network
        noise = keyed_normal(batch["key"], (1, 3, 16, 16), seed=SEED, stream="cond_noise")[:, 0]
        encoder = next(iter(recipe.model.conditioner.all)).network
        told = [waves(number, 32) for number in (batch["fps"] - 1, batch["motion_bucket"], level)]
        rows = {
            "concat": vae.encode(first + level * noise).latent_dist.mean.expand(3, -1, -1, -1),
            "context": encoder(first)[:, None].expand(3, -1, -1),
            "vector": torch.cat(told, dim=1).expand(3, -1),
        }
        expected = euler(recipe, batch, rows, ("concat", "context"), torch.tensor([1.0, 1.75, 2.5]))
        torch.testing.assert_close(found[row], expected, atol=1e-4, rtol=0)
    assert found.std() > 0.05


@torch.no_grad()
def test_a_grid_is_sampled_as_by_hand():
    """Half of the guidance's rise along frames, half to the middle of the views and back; rows frame by frame."""
    recipe = sv4d(sampler=Sampler(steps=3, guider=Guider("spatiotemporal", 1.0, 3.0)))
    batch = grids((5,), frames=2, views=3)
    found = recipe.sampled(batch | recipe.encode(batch), SEED)[0]
    vae, encoder = recipe.model.first_stage.vae.network.network, recipe.model.conditioner.all[0].network
    frames, angles = floats(batch["context"])[0], batch["camera"][0]
    noise = keyed_normal(batch["key"], (2, 1, 3, 16, 16), seed=SEED, stream="cond_noise")[0, :, 0]
    latents = vae.encode(frames + 0.02 * noise).latent_dist.mean
    level = waves(torch.tensor([0.02]), 256)[0]
    vector = [torch.cat([level, *waves(angles[v, :2], 512)]) for _ in range(2) for v in range(3)]
    rows = {
        "concat": latents.repeat_interleave(3, 0),
        "context": encoder(frames).repeat_interleave(3, 0)[:, None],
        "vector": torch.stack(vector),
        "reference": vae.encode(floats(batch["reference"])[0]).latent_dist.mean[None],
    }
    scale = torch.tensor([1.0, 2.0, 1.0, 2.0, 3.0, 2.0])
    expected = euler(recipe, batch, rows, ("concat", "context", "reference"), scale)
    # Each view is a film of its own to the decoder, which here looks at pictures one by one.
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_samples_do_not_depend_on_their_batch():
    for recipe, batch in ((svd(), clips()), (sv4d(), grids())):
        together = recipe.sampled(batch | recipe.encode(batch), SEED)
        for row in range(2):
            one = part(batch, row)
            alone = recipe.sampled(one | recipe.encode(one), SEED)[0]
            torch.testing.assert_close(alone, together[row], atol=1e-4, rtol=0)
        assert not torch.allclose(recipe.sampled(batch | recipe.encode(batch), SEED + 1), together, atol=1e-2)


def test_guidance_is_by_place():
    def scale(kind: Any, frames: int, views: int = 1, low: float = 1.0, high: float = 3.0) -> list[float] | None:
        found = Guider(kind, low, high).scale(frames, views)
        return None if found is None else found.tolist()

    assert scale("linear", 3) == [1, 2, 3]
    assert scale("linear", 2, 2) == [1, 1, 3, 3]
    assert scale("triangle", 1, 5) == [1, 2, 3, 2, 1]
    assert scale("spatiotemporal", 2, 3) == [1, 2, 1, 2, 3, 2]
    assert scale("constant", 2, 2) == [3, 3, 3, 3]
    assert scale("none", 3) is None
    assert scale("linear", 3, low=1.0, high=1.0) is None


@torch.no_grad()
def test_without_guidance_there_is_no_second_pass():
    recipe, batch = svd(sampler=Sampler(steps=2, guider=Guider("none"))), clips()
    rows = []
    recipe.model.unet.register_forward_hook(lambda module, arguments, answer: rows.append(len(arguments[0])))
    recipe.sampled(batch | recipe.encode(batch), SEED)
    assert rows == [6, 6]


@torch.no_grad()
def test_what_guidance_leaves_out_can_be_named():
    recipe, batch = svd(sampler=Sampler(guider=Guider(unconditional=["fps_id"]))), clips()
    conditions, free = recipe.sampling_conditions(batch | recipe.encode(batch), SEED)
    assert conditions.vector is not None
    assert free.vector is not None
    assert not free.vector[:, :32].any()
    assert torch.equal(free.vector[:, 32:], conditions.vector[:, 32:])
    assert torch.equal(free.concat, conditions.concat)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"recipe\.sampler\.guider\.unconditional is \['fps'\]; expected some of"):
        svd(sampler=Sampler(guider=Guider(unconditional=["fps"])))


@torch.no_grad()
def test_evaluation_is_of_each_sample_alone():
    """Losses at fixed levels, metrics of samples and of the given frame standing still."""
    recipe, batch = svd(), clips()
    together = recipe.evaluate(batch, seed=SEED)
    assert {"loss", "loss/blank", "psnr/2-step", "ssim/2-step", "psnr/repeat", "second_difference"} <= together.keys()
    assert len([name for name in together if name.startswith("loss/σ=")]) == recipe.scoring.levels
    for row in range(2):
        alone = recipe.evaluate(part(batch, row), seed=SEED)
        for name, value in together.items():
            torch.testing.assert_close(alone[name][0], value[row], atol=2e-3, rtol=1e-3, msg=name)
    levels = [float(name.removeprefix("loss/σ=")) for name in together if name.startswith("loss/σ=")]
    # The quartiles of exp(N(1, 1.6²)).
    assert levels == pytest.approx([0.924, 8.0], rel=0.01)
    mean = torch.stack([together[f"loss/σ={level:.3g}"] for level in levels]).mean(0)
    torch.testing.assert_close(together["loss"], mean)


@torch.no_grad()
def test_discrete_levels_are_judged_at_their_own():
    from salticid.recipes.video.settings import Diffusion, Levels, legacy_levels

    recipe = svd(diffusion=Diffusion(levels=Levels("discrete")))
    records = recipe.evaluate(clips(frames=2), seed=SEED)
    levels = [float(name.removeprefix("loss/σ=")) for name in records if name.startswith("loss/σ=")]
    assert levels == pytest.approx([float(legacy_levels()[250]), float(legacy_levels()[750])], rel=0.01)


# a matrix ----------------------------------------------------------------------------------------------------------

SCALE = 0.5
SHAPE = 4, 2, 2


def truth(frames: Tensor, views: Tensor) -> Tensor:
    """The latent of each place, a function of its frame and view."""
    cells = torch.arange(16.0).view(SHAPE)
    return (0.3 * frames + 1.7 * views + 0.01 * frames * views).view(-1, 1, 1, 1) + 0.1 * cells


class Place(Embedder):
    """The number itself; of views, their latents."""

    def __init__(self, input_key: str, kind: Kind = "vector"):
        super().__init__(input_key, kind)

    @property
    def width(self) -> int:
        return 4 if self.kind == "reference" else 1

    def embed(self, value: Tensor, step: int) -> Tensor:
        return value if self.kind == "reference" else value[:, None]


class Oracle:
    """A model that knows the latent of every place it is told of, and remembers what it was asked."""

    sample = VideoModel.sample
    scaling = v_scaling()

    def __init__(self) -> None:
        stage = FirstStage("", FirstStageSettings(kind="identity"))
        self.conditioner = Conditioner([Place("frame"), Place("view"), Place("first", "reference")], "", stage)
        self.first_stage = SimpleNamespace(scale=SCALE)
        self.asked: list[tuple[float, list[int], list[int], int, Tensor, Tensor]] = []

    def embedded(self, frames: int, views: int) -> Any:
        values = {
            "frame": torch.arange(frames).float()[None, :, None],
            "view": torch.arange(views).float()[None, None],
            "first": truth(torch.zeros(views), torch.arange(views))[None, None] / SCALE,
        }
        found = self.conditioner.embed(values, dims=3)
        return found, self.conditioner.without(found)

    def guided(self, conditions: Conditions, free: Conditions, scale: Tensor | None) -> Any:
        assert conditions.vector is not None
        assert conditions.reference is not None
        assert free.reference is not None
        assert not free.reference.any()
        frames, views = conditions.vector.unbind(1)
        t, v = conditions.grid
        assert scale is not None
        assert len(scale) == t * v
        assert torch.equal(frames, frames.view(t, v)[:, :1].expand(t, v).flatten())
        assert torch.equal(views, views[:v].repeat(t))
        (reference,) = self._frames(conditions.reference[0] * SCALE, views[:v])

        def denoise(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
            order = frames.view(t, v)[:, 0].int().tolist()
            self.asked.append((float(sigma), order, views[:v].int().tolist(), reference, x[0].clone(), scale))
            x0 = truth(frames, views)[None]
            return x0, (x - x0) / sigma.to(x)

        return denoise

    def _frames(self, latents: Tensor, views: Tensor) -> list[int]:
        """Those whose latents these are."""
        near = [(latents - truth(torch.full_like(views, frame), views)).abs().max() < 0.01 for frame in range(30)]
        return [frame for frame, found in enumerate(near) if found]


def matrix(
    frames: int, views: int, window: tuple[int, int], steps: int = 3, **options: Any
) -> tuple[Tensor, Oracle, Matrix]:
    model = Oracle()
    sampler = Sampler(steps=steps, guider=Guider("spatiotemporal", 1.0, 2.0), **options)
    first = truth(torch.zeros(views), torch.arange(views))
    made = Matrix(model, sampler, model.embedded(frames, views), window, first, frames, seed=SEED)  # type: ignore[arg-type]
    return made(), model, made


@pytest.mark.parametrize(
    ("frames", "views", "window", "solver"),
    [
        (1, 3, (5, 3), "euler"),
        (2, 1, (5, 3), "euler"),
        (5, 2, (5, 2), "euler"),
        (6, 2, (5, 2), "heun"),
        (7, 2, (5, 2), "dpmpp_2m"),
        (21, 3, (5, 3), "euler"),
        (9, 7, (3, 3), "dpmpp_2m"),
        (8, 5, (4, 2), "heun"),
        (4, 6, (1, 4), "euler"),
        (24, 2, (3, 2), "euler"),
    ],
)
def test_every_place_becomes_what_the_model_says_it_is(frames, views, window, solver):
    """For any number of frames and views, above and below those of the window. To 1e-3 of numbers up to 10."""
    found, model, _ = matrix(frames, views, window, solver=solver)
    places = [truth(torch.full((views,), frame), torch.arange(views)) for frame in range(frames)]
    torch.testing.assert_close(found, torch.stack(places), atol=1e-3, rtol=1e-4)
    for _, order, shown, _, _, _ in model.asked:
        assert len(order) <= window[0]
        assert len(shown) <= window[1]
        assert len(set(shown)) == len(shown)


def test_21_frames_have_the_anchors_of_the_paper():
    assert anchors(21, 5) == [0, 4, 8, 12, 16, 20]
    assert anchors(6, 5) == [0, 1, 2, 3, 4, 5]
    assert anchors(1, 5) == [0]
    for frames in range(1, 60):
        for window in range(1, 9):
            found = anchors(frames, window)
            assert found[0] == 0
            assert found[-1] == frames - 1
            assert found == sorted(set(found))
            if frames - 1 > window > 1:
                assert max(b - a for a, b in pairwise(found)) <= window - 1


def test_anchors_come_first_then_windows_that_take_turns():
    """21 × 8 with windows of 5 × 8, as published: even steps backward, odd ones forward."""
    _, model, _ = matrix(21, 8, (5, 8), steps=4)
    calls = [(order, shown, reference) for _, order, shown, reference, _, _ in model.asked]
    whole = list(range(8))
    assert calls[:4] == [([4, 8, 12, 16, 20], whole, 0)] * 4
    marks = [0, 4, 8, 12, 16, 20]
    for step in range(4):
        found = calls[4 + 5 * step : 9 + 5 * step]
        for (order, shown, reference), a, b in zip(found, marks, marks[1:], strict=False):
            ahead = list(range(a, b + 1))
            assert shown == whole
            assert (order, reference) == ((ahead, a) if step % 2 else (ahead[::-1], b))
    assert len(calls) == 4 + 4 * 5


@pytest.mark.parametrize(("frames", "views", "window"), [(21, 3, (5, 3)), (9, 7, (3, 3)), (8, 5, (4, 2))])
def test_every_step_covers_all_that_is_to_be_made(frames, views, window):
    _, model, _ = matrix(frames, views, window, steps=3)
    steps: dict[float, set[tuple[int, int]]] = {}
    for sigma, order, shown, _, _, _ in model.asked:
        steps.setdefault(sigma, set()).update((frame, view) for frame in order for view in shown)
    everything = {(frame, view) for frame in range(1, frames) for view in range(views)}
    assert len(steps) == 3
    assert all(places >= everything for places in steps.values())


def test_windows_go_around_the_orbit_and_start_elsewhere_in_every_second_step():
    _, model, _ = matrix(2, 6, (5, 4), steps=2)
    assert [shown for _, _, shown, _, _, _ in model.asked] == [
        [0, 1, 2, 3],
        [4, 5, 0, 1],
        [2, 3, 4, 5],
        [0, 1, 2, 3],
    ]


def test_what_is_known_has_the_noise_of_the_level():
    """Anchors and the first frame stand in windows as they would be there."""
    found, model, made = matrix(9, 2, (5, 2), steps=2)
    for sigma, order, shown, _, x, _ in model.asked:
        for row, frame in zip(x.unflatten(0, (len(order), len(shown))), order, strict=True):
            if len(order) == 5 and frame in (0, 4, 8):
                torch.testing.assert_close(row, found[frame] + sigma * made.noise[frame], atol=1e-3, rtol=1e-4)


def test_noise_is_of_each_frame_by_itself():
    short, long = (matrix(frames, 2, (5, 2))[2].noise for frames in (3, 9))
    assert torch.equal(long[:3], short)
    assert not torch.equal(long[1], long[2])


@torch.no_grad()
@pytest.mark.parametrize("solver", ["euler", "dpmpp_2m"])
def test_what_fits_into_one_window_is_sampled_directly(solver):
    """With the real network: three frames behind the first one, in a window of three."""
    sampler = Sampler(steps=3, solver=solver, guider=Guider("spatiotemporal", 1.0, 2.0))
    recipe, batch = sv4d(sampler=sampler), grids((5,), frames=4, views=2)
    model = recipe.model
    encoded = batch | recipe.encode(batch)
    embedded = recipe.sampling_embeddings(encoded, SEED)
    first = model.first_stage.encode(floats(batch["reference"])[0])
    made = Matrix(model, sampler, embedded, (3, 2), first, 4, seed=SEED)
    found = made()
    assert torch.equal(found[0], first)

    after = {name: value[:, 1:] if value.shape[1] == 4 else value for name, value in embedded[0].items()}
    conditions, free = (model.conditioner.assemble(e, (3, 2)) for e in (after, model.conditioner.without(after)))
    noise = made.noise[1:].flatten(0, 1)[None]
    direct = model.sample(model.guided(conditions, free, sampler.guider.scale(3, 2)), noise, sampler)
    torch.testing.assert_close(found[1:].flatten(0, 1)[None], direct, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_frame_noise_can_be_chosen():
    from salticid.recipes.video.settings import Diffusion

    recipe, batch = svd(diffusion=Diffusion(frame_noise=FrameNoise(sampling=0.0))), clips()
    encoded = batch | recipe.encode(batch)
    clean, _ = recipe.sampling_conditions(encoded, SEED)
    first = recipe.model.first_stage.encode(floats(batch["video"])[:, :, 0], scaled=False)
    torch.testing.assert_close(clean.concat[::3], first)  # type: ignore[index]
    noisy, _ = recipe.sampling_conditions(encoded, SEED, level=0.5)
    assert (noisy.concat[::3] - first).abs().max() > 0.05  # type: ignore[index]
