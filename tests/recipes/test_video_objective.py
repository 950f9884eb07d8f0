"""What the video recipes are trained for: the loss against generative-models' formulas, its randomness, what learns."""

import math

import pytest
import torch
from tests.recipes.video_toys import CLOCK, NETWORK, base_with_weights, clips, floats, grids, part, sv4d, svd
from torch import Tensor
from torch.special import ndtri

from salticid.data.source import Batch
from salticid.diffusion.noise import keyed_normal, keyed_uniform
from salticid.engine.weights import saved, trainable
from salticid.errors import ConfigError
from salticid.nets.embedders import ClassEmbedder, ClipImageEmbedder, FourierEmbedder, LatentEmbedder, TextEmbedder
from salticid.nets.first_stage import FirstStageSettings
from salticid.nets.lora import Lora
from salticid.nets.stable_video import make_image_encoder
from salticid.recipes import Sv4dRecipe, SvdRecipe
from salticid.recipes.video.recipe import VideoRecipe
from salticid.recipes.video.settings import Diffusion, FrameNoise, Levels, Preconditioning, legacy_levels

MEAN, STD = 1.0, 1.6
PIXELS = FirstStageSettings(kind="identity")
"""The UNet then sees what the conditioning frame has become."""


# what it has to be -------------------------------------------------------------------------------------------------


def scalings(kind: str, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """c_skip, c_out, c_in, c_noise of generative-models' denoiser_scaling.py."""
    if kind == "edm":
        whole = sigma**2 + 0.5**2
        return 0.5**2 / whole, sigma * 0.5 / whole**0.5, 1 / whole**0.5, sigma.log() / 4
    whole = sigma**2 + 1
    if kind == "v":
        return 1 / whole, -sigma / whole**0.5, 1 / whole**0.5, sigma.log() / 4
    return torch.ones_like(sigma), -sigma, 1 / whole**0.5, sigma


WEIGHTS = {
    "v": lambda sigma: (sigma**2 + 1) / sigma**2,
    "edm": lambda sigma: (sigma**2 + 0.25) / (sigma * 0.5) ** 2,
    "epsilon": lambda sigma: sigma**-2.0,
}
"""VWeighting, EDMWeighting and EpsWeighting of loss_weighting.py."""


def waves(number: Tensor, width: int) -> Tensor:
    angles = number[:, None] * 10_000 ** (-torch.arange(width // 2) / (width // 2))
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def drawn(keys: Tensor, stream: str, mean: float, std: float) -> Tensor:
    u = keyed_uniform(keys, (2,), seed=CLOCK.seed, stream=stream)[:, 1]
    return (mean + std * ndtri(u)).exp().float()


def expected_loss(recipe: VideoRecipe, batch: Batch, kind: str, offset: float = 0.0) -> Tensor:
    """Of SVD, clip by clip and frame by frame."""
    model, keys, video = recipe.model, batch["key"], floats(batch["video"])
    sigmas, levels = drawn(keys, "time", MEAN, STD), drawn(keys, "cond_aug", -3.0, 0.5)
    clip_network = make_image_encoder("tiny-video")
    vae = model.first_stage.vae.network.network
    losses = []
    for b, clip in enumerate(video.transpose(1, 2)):
        with torch.no_grad():
            x0 = vae.encode(clip).latent_dist.mean * vae.config.scaling_factor
            first = keyed_normal(keys[b : b + 1], (1, *clip[0].shape), seed=CLOCK.seed, stream="cond_noise")[0, 0]
            told = vae.encode((clip[0] + levels[b] * first)[None]).latent_dist.mean
            seen = clip_network(clip[:1])
        noise = keyed_normal(keys[b : b + 1], tuple(x0.shape), seed=CLOCK.seed)[0]
        if offset:
            own = keyed_normal(keys[b : b + 1], (1, 4, 1, 1), seed=CLOCK.seed, stream="noise/offset")[0]
            noise = noise + offset * own
        c_skip, c_out, c_in, c_noise = scalings(kind, sigmas[b])
        x = x0 + sigmas[b] * noise
        numbers = [batch["fps"][b] - 1, batch["motion_bucket"][b], levels[b]]
        vector = torch.cat([waves(number[None], 32) for number in numbers], dim=1)
        answer = model.unet(
            torch.cat([c_in * x, told.expand(len(x), -1, -1, -1)], dim=1),
            c_noise[None].expand(len(x)),
            context=seen[:, None].expand(len(x), -1, -1),
            vector=vector.expand(len(x), -1),
            frames=len(x),
        )
        losses.append(WEIGHTS[kind](sigmas[b]) * (answer * c_out + c_skip * x - x0) ** 2)
    return torch.stack(losses).mean()


@pytest.mark.parametrize(
    ("kind", "weighting", "clock", "offset"),
    [
        ("v", "unit", "quarter_log", 0.0),
        ("v", "unit", "quarter_log", 0.3),
        ("edm", "edm", "quarter_log", 0.0),
        ("edm", "unit", "quarter_log", 0.0),
        ("epsilon", "epsilon", "sigma", 0.0),
    ],
)
def test_the_loss_is_that_of_generative_models(kind, weighting, clock, offset):
    """To 1e-5; the noise alone is ours."""
    diffusion = Diffusion(Preconditioning(kind, clock), Levels(), weighting, offset_noise=offset)
    recipe, batch = svd(diffusion=diffusion), clips()
    found = recipe.loss("unet", batch, CLOCK)
    torch.testing.assert_close(found.total, expected_loss(recipe, batch, kind, offset), rtol=1e-5, atol=1e-6)
    found.total.backward()


def test_l1_is_the_distance_of_the_output():
    two, one = (svd(diffusion=Diffusion(loss=loss)) for loss in ("l2", "l1"))
    assert one.loss("unet", clips(), CLOCK).total < two.loss("unet", clips(), CLOCK).total
    assert one.objective.score.distance == "l1"


# randomness --------------------------------------------------------------------------------------------------------


class Spy:
    """Keeps what a recipe's UNet is asked and answers."""

    def __init__(self, recipe: VideoRecipe):
        self.calls: list[dict[str, Tensor]] = []
        recipe.model.unet.register_forward_hook(self._keep, with_kwargs=True)

    def _keep(self, module, arguments, named, answer) -> None:
        self.calls.append({"x": arguments[0], "time": arguments[1], "answer": answer} | named)


def asked(recipe: VideoRecipe, batch: Batch, clock=CLOCK) -> dict[str, Tensor]:
    spy = Spy(recipe)
    with torch.no_grad():
        recipe.loss("unet", batch, clock)
    return spy.calls[-1]


def test_all_frames_of_a_clip_share_a_level_and_clips_do_not():
    for recipe, batch in ((svd(), clips((3, 8, 9))), (sv4d(), grids((3, 8, 9)))):
        times = asked(recipe, batch)["time"]
        assert times.shape == (3,), "one for each clip, which the UNet repeats"
        assert len(set(times.tolist())) == 3
        torch.testing.assert_close(times, drawn(batch["key"], "time", MEAN, STD).log() / 4)


def test_levels_are_spread_as_asked():
    """5000 clips: mean and deviation of ln σ to 4 standard errors."""
    keys = torch.arange(5000)
    found = svd(diffusion=Diffusion(levels=Levels(mean=-1.0, std=0.7))).objective.levels(keys, seed=0).log()
    assert float(found.mean()) == pytest.approx(-1.0, abs=0.04)
    assert float(found.std()) == pytest.approx(0.7, abs=0.03)
    table = svd(diffusion=Diffusion(levels=Levels("discrete"))).objective.levels(keys, seed=0)
    index = (table[:, None] - legacy_levels()).abs().argmin(1)
    torch.testing.assert_close(table.double(), legacy_levels()[index], rtol=1e-6, atol=0)
    assert float(index.double().mean()) == pytest.approx(499.5, abs=17)


def test_a_network_can_be_told_the_index_of_a_level():
    diffusion = Diffusion(Preconditioning("v", "index"), Levels("discrete"))
    recipe, batch = svd(diffusion=diffusion), clips()
    levels = recipe.objective.levels(batch["key"], seed=CLOCK.seed)
    found = asked(recipe, batch)["time"]
    assert found.tolist() == [(legacy_levels() - level).abs().argmin().item() for level in levels]


def test_a_clip_s_loss_depends_on_nothing_but_itself():
    """Not on its batch, its order, or global random state; on the seed it does."""
    for recipe, batch in ((svd(), clips()), (sv4d(), grids())):
        alone = [recipe.loss("unet", part(batch, row), CLOCK).total for row in range(2)]
        torch.manual_seed(77)
        together = recipe.loss("unet", batch, CLOCK).total
        torch.testing.assert_close(together, torch.stack(alone).mean(), rtol=1e-5, atol=1e-6)
        other = recipe.loss("unet", batch, type(CLOCK)(0, 10, seed=6)).total
        assert (other - together).abs() > 1e-3
        later = recipe.loss("unet", batch, type(CLOCK)(step=7, steps=10, seed=CLOCK.seed)).total
        assert torch.equal(later, together), "the key alone tells the step"


def test_the_conditioning_frame_has_noise_of_its_own_level_and_stream():
    """With pixels for latents, the UNet sees it: level · noise on the first frame, the same for all frames."""
    recipe, batch = svd(first_stage=PIXELS), clips((3, 8), size=8)
    call = asked(recipe, batch)
    told = call["x"][:, 3:].unflatten(0, (2, 3))
    assert (told == told[:, :1]).all()
    levels = drawn(batch["key"], "cond_aug", -3.0, 0.5)
    noise = (told[:, 0] - floats(batch["video"][:, :, 0])) / levels.view(-1, 1, 1, 1)
    torch.testing.assert_close(
        noise,
        keyed_normal(batch["key"], (1, 3, 8, 8), seed=CLOCK.seed, stream="cond_noise")[:, 0],
        atol=1e-4,
        rtol=1e-4,
    )
    assert levels[0] != levels[1]
    torch.testing.assert_close(call["vector"][::3, 64:], waves(levels, 32), atol=1e-6, rtol=1e-5)


def test_grids_have_noise_on_each_frame_of_the_given_video_and_one_level():
    recipe, batch = sv4d(first_stage=PIXELS), grids(size=8)
    told = asked(recipe, batch)["x"][:, 3:].unflatten(0, (2, 3, 2))
    assert (told == told[:, :, :1]).all(), "all views see the frame of their moment"
    noise = told[:, :, 0] - floats(batch["context"])
    levels = drawn(batch["key"], "cond_aug", -3.0, 0.5)
    unit = keyed_normal(batch["key"], (3, 1, 3, 8, 8), seed=CLOCK.seed, stream="cond_noise")[:, :, 0]
    torch.testing.assert_close(noise, levels.view(-1, 1, 1, 1, 1) * unit, atol=1e-5, rtol=1e-4)


def test_frame_noise_is_as_strong_as_asked():
    recipe = svd(diffusion=Diffusion(frame_noise=FrameNoise(mean=-1.0, std=0.3)))
    batch = {"key": torch.arange(4000)}
    levels = recipe.diffusion.frame_noise.sampler()(batch["key"], seed=0, stream="cond_aug").log()
    assert float(levels.mean()) == pytest.approx(-1.0, abs=0.02)
    assert float(levels.std()) == pytest.approx(0.3, abs=0.02)
    sigmas = recipe.objective.levels(batch["key"], seed=0).log()
    assert abs(float(torch.corrcoef(torch.stack([levels, sigmas]))[0, 1])) < 0.06, "not one number for both"


def test_offset_noise_is_shared_by_the_frames_of_a_clip():
    def noise(offset: float) -> Tensor:
        recipe = svd(first_stage=PIXELS, diffusion=Diffusion(offset_noise=offset))
        batch = clips(size=8)
        x = asked(recipe, batch)["x"][:, :3].unflatten(0, (2, 3))
        sigma = drawn(batch["key"], "time", MEAN, STD).view(-1, 1, 1, 1, 1)
        return (x * (sigma**2 + 1) ** 0.5 - floats(batch["video"]).transpose(1, 2)) / sigma

    more = (noise(0.5) - noise(0.0)) / 0.5
    torch.testing.assert_close(more, more[:, :1, :, :1, :1].expand_as(more), atol=1e-4, rtol=1e-4)
    assert more[:, 0, :, 0, 0].std() > 0.3


def test_the_unet_is_told_fps_minus_one_motion_and_noise():
    batch = clips()
    vector = asked(svd(), batch)["vector"]
    assert vector.shape == (6, 96)
    torch.testing.assert_close(vector[::3, :32], waves(batch["fps"] - 1, 32), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(vector[::3, 32:64], waves(batch["motion_bucket"], 32), atol=1e-5, rtol=1e-5)
    assert (vector.unflatten(0, (2, 3)) == vector.unflatten(0, (2, 3))[:, :1]).all()
    unknown = {name: value for name, value in batch.items() if name not in ("fps", "motion_bucket", "image_only")}
    vector = asked(svd(), unknown)["vector"]
    torch.testing.assert_close(vector[:1, :32], waves(torch.tensor([6.0]), 32), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(vector[:1, 32:64], waves(torch.tensor([127.0]), 32), atol=1e-5, rtol=1e-5)


def test_cameras_are_told_view_by_view_and_pictures_frame_by_frame():
    recipe, batch = sv4d(), grids()
    call = asked(recipe, batch)
    vector = call["vector"].unflatten(0, (2, 3, 2))
    camera = batch["camera"]
    for t in range(3):
        for v in range(2):
            torch.testing.assert_close(vector[:, t, v, 256:768], waves(camera[:, v, 0], 512), atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(vector[:, t, v, 768:], waves(camera[:, v, 1], 512), atol=1e-5, rtol=1e-5)
    seen = make_image_encoder("tiny-video")(floats(batch["context"]).flatten(0, 1)).unflatten(0, (2, 3))
    context = call["context"].unflatten(0, (2, 3, 2))
    for v in range(2):
        torch.testing.assert_close(context[:, :, v, 0], seen, atol=1e-5, rtol=1e-5)
    vae = recipe.model.first_stage.vae.network.network
    views = vae.encode(floats(batch["reference"]).flatten(0, 1)).latent_dist.mean.unflatten(0, (2, 2))
    torch.testing.assert_close(call["reference"], views, atol=1e-5, rtol=1e-5)
    assert (call["frames"], call["views"]) == (3, 2)


def test_rows_are_frames_of_views_in_the_order_of_time():
    """With pixels for latents and little noise, x itself shows which place is where."""
    still = Diffusion(levels=Levels(mean=-12.0, std=0.1))
    batch = grids(size=8)
    x = asked(sv4d(first_stage=PIXELS, diffusion=still), batch)["x"][:, :3].unflatten(0, (2, 3, 2))
    torch.testing.assert_close(x, floats(batch["image"]).permute(0, 2, 3, 1, 4, 5), atol=1e-3, rtol=0)
    batch = clips(size=8)
    x = asked(svd(first_stage=PIXELS, diffusion=still), batch)["x"][:, :3].unflatten(0, (2, 3))
    torch.testing.assert_close(x, floats(batch["video"]).transpose(1, 2), atol=1e-3, rtol=0)


# shapes ------------------------------------------------------------------------------------------------------------


def test_clips_may_be_called_otherwise_and_be_floats():
    recipe, other, batch = svd(), svd(input_key="film"), clips()
    expected = recipe.loss("unet", batch, CLOCK).total
    renamed = {("film" if name == "video" else name): value for name, value in batch.items()}
    assert torch.equal(other.loss("unet", renamed, CLOCK).total, expected)
    bright = batch | {"video": floats(batch["video"])}
    torch.testing.assert_close(recipe.loss("unet", bright, CLOCK).total, expected, rtol=1e-5, atol=1e-6)


def test_pictures_are_clips_of_one_frame_without_neighbours():
    recipe, batch = svd(), clips(frames=1)
    pictures = {n: v for n, v in batch.items() if n != "image_only"} | {"video": batch["video"][:, :, 0]}
    alone = batch | {"image_only": torch.ones(2, 1, dtype=torch.bool)}
    found = recipe.loss("unet", pictures, CLOCK).total
    assert torch.equal(found, recipe.loss("unet", alone, CLOCK).total)
    assert not torch.equal(found, recipe.loss("unet", batch, CLOCK).total)
    recipe.check_sample({"video": pictures["video"][0]})
    assert recipe.usual.tolist() == [1, 16, 16, 7, 127]


def test_one_view_and_one_frame_may_leave_out_their_axes():
    batch = grids(frames=3, views=1)
    one_view = batch | {"image": batch["image"][:, :, :, 0], "camera": batch["camera"][:, 0]}
    recipe = sv4d()
    found = recipe.loss("unet", one_view, CLOCK).total
    assert torch.equal(found, recipe.loss("unet", batch, CLOCK).total)
    recipe.check_sample({name: value[0] for name, value in one_view.items() if isinstance(value, Tensor)})
    assert recipe.usual[:2].tolist() == [3, 1]
    batch = grids(frames=1, views=1)
    one = batch | {"image": batch["image"][:, :, 0, 0], "camera": batch["camera"][:, 0]}
    assert torch.equal(recipe.loss("unet", one, CLOCK).total, recipe.loss("unet", batch, CLOCK).total)
    recipe.check_sample({name: value[0] for name, value in one.items() if isinstance(value, Tensor)})


def test_grids_may_be_called_otherwise():
    from salticid.recipes.video.sv4d import Keys

    names = {"image": "targets", "context": "film", "camera": "angles", "reference": "firsts"}
    batch = grids()
    renamed = {names.get(name, name): value for name, value in batch.items()}
    found = sv4d(keys=Keys(**names)).loss("unet", renamed, CLOCK).total
    assert torch.equal(found, sv4d().loss("unet", batch, CLOCK).total)


def test_latents_depend_on_what_is_read():
    """A cache of the same data made from another key is of something else."""
    from salticid.recipes.video.sv4d import Keys

    plain, other = svd().encoding(), svd(input_key="film").encoding()
    assert plain != other
    assert plain == svd(diffusion=Diffusion(offset_noise=0.1)).encoding()
    found = [sv4d(**options).encoding() for options in ({}, {"keys": Keys(context="film")}, {"frames_apart": False})]
    assert found[0] != found[1]
    assert found[0] != found[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video": None}, r"data: samples have video of shape None; expected \(3, T, H, W\)"),
        ({"video": (2, 3, 3, 16, 16)}, r"video of shape \(2, 3, 3, 16, 16\)"),
        ({"video": (3, 3, 4, 16, 16)}, r"video of shape \(3, 3, 4, 16, 16\)"),
        ({"video": (1, 3, 16, 16)}, r"video of shape \(1, 3, 16, 16\)"),
        ({"video": (3, 3, 18, 16)}, "data: pictures of 18×16; expected multiples of 4"),
    ],
)
def test_clips_that_do_not_fit_are_refused(change, message):
    sample = {"video": torch.zeros(3, 3, 16, 16, dtype=torch.uint8)}
    (name, shape) = next(iter(change.items()))
    sample |= {name: torch.zeros(shape, dtype=torch.uint8) if shape else None}
    with pytest.raises(ConfigError, match=message):
        svd().check_sample(sample)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("image", (3, 16), r"image of shape \(3, 16\); expected \(3, T, V, H, W\)"),
        ("context", (2, 3, 16, 16), r"context of shape \(2, 3, 16, 16\); expected \(3, 3, 16, 16\)"),
        ("camera", (3, 3), r"camera of shape \(3, 3\); expected \(2, 3\)"),
        ("reference", None, r"reference of shape None; expected \(2, 3, 16, 16\)"),
        ("image", (3, 3, 2, 18, 16), "context of shape"),
    ],
)
def test_grids_that_do_not_fit_are_refused(name, shape, message):
    sample = {n: value[0] for n, value in grids().items() if isinstance(value, Tensor)}
    sample.pop(name)
    with pytest.raises(ConfigError, match=message):
        sv4d().check_sample(sample | ({name: torch.zeros(shape)} if shape else {}))


# pictures of their own ---------------------------------------------------------------------------------------------


def test_pictures_of_their_own_see_neither_neighbours_nor_the_given_frame():
    batch = clips()
    batch["image_only"][1] = True
    recipe = svd()
    mixed = asked(recipe, batch)
    found = mixed["answer"].unflatten(0, (2, 3))
    assert not mixed["context"].unflatten(0, (2, 3))[1].any()
    assert not mixed["x"][:, 4:].unflatten(0, (2, 3))[1].any()

    other = batch | {"video": batch["video"].clone()}
    other["video"][1, :, 0] = 255 - other["video"][1, :, 0]
    changed = asked(recipe, other)["answer"].unflatten(0, (2, 3))
    assert (changed[1, 0] - found[1, 0]).abs().max() > 1e-3
    torch.testing.assert_close(changed[1, 1:], found[1, 1:], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(changed[0], found[0], atol=1e-6, rtol=1e-5)

    with torch.no_grad():
        for name, parameter in recipe.model.unet.named_parameters():
            if "time_stack" in name or "time_pos_embed" in name or "time_mixer" in name:
                parameter.add_(0.3)
    changed = asked(recipe, batch)["answer"].unflatten(0, (2, 3))
    torch.testing.assert_close(changed[1], found[1], atol=1e-6, rtol=1e-5)
    assert (changed[0] - found[0]).abs().max() > 1e-3


def test_clips_among_pictures_are_as_alone():
    batch = clips()
    batch["image_only"][1] = True
    recipe = svd()
    found = asked(recipe, batch)["answer"].unflatten(0, (2, 3))
    for row in range(2):
        torch.testing.assert_close(asked(recipe, part(batch, row))["answer"], found[row], atol=1e-5, rtol=1e-4)


def test_pictures_do_not_teach_the_layers_along_time():
    recipe, batch = svd(), clips()
    batch["image_only"][:] = True
    recipe.loss("unet", batch, CLOCK).total.backward()
    temporal = [p for n, p in trainable(recipe).items() if "time_stack" in n or "time_mixer" in n or "time_pos" in n]
    assert temporal
    assert all(p.grad is None or not p.grad.any() for p in temporal)
    assert recipe.model.unet.out[2].weight.grad.any()


# what learns -------------------------------------------------------------------------------------------------------

IDLE = ("attn2.to_q.weight", "attn2.to_k.weight", "norm2.weight", "norm2.bias")
"""Ends of names: of a single token, everything is the value."""
ALONG = ("time_stack", "time_mixer", "time_pos_embed", "motion_blocks", "time_mix_motion_embed")


def learns(recipe: VideoRecipe) -> set[str]:
    return {name.removeprefix("model.unet.") for name in trainable(recipe)}


def everything(recipe: VideoRecipe) -> set[str]:
    return {name for name, _ in recipe.model.unet.named_parameters()}


@pytest.mark.parametrize("made", [svd, sv4d])
def test_what_learns_is_chosen(made):
    names = everything(made())
    busy = {name for name in names if not name.endswith(IDLE)}
    along = {name for name in names if any(word in name for word in ALONG)}
    assert len(busy) < len(names)
    assert busy & along
    assert busy - along
    assert learns(made()) == busy
    assert learns(made(train="temporal")) == busy & along
    assert learns(made(train="spatial")) == busy - along
    mixers = {name for name in busy if name.endswith("mix_factor")}
    assert mixers
    assert mixers <= along


def test_with_many_tokens_no_layer_is_idle():
    recipe = svd(conditioner=[TextEmbedder("tiny"), FourierEmbedder("cond_aug", 8)])
    assert learns(recipe) == everything(recipe)


def test_adapters_learn_alone_and_are_all_that_is_kept(tmp_path):
    from safetensors.torch import save_file

    from salticid.engine.weights import load_tensors

    base = base_with_weights(tmp_path / "base")
    recipe, whole = (svd(base=str(base), network=None, lora=lora) for lora in (Lora(rank=2), None))
    assert learns(recipe)
    assert all(".lora_" in name for name in learns(recipe))
    kept = saved(recipe)
    assert kept.keys() == trainable(recipe).keys() | {"usual"}
    size, full = (sum(v.numel() for v in saved(r).values()) for r in (recipe, whole))
    assert size < full / 10

    recipe.loss("unet", clips(), CLOCK).total.backward()
    with torch.no_grad():
        for p in trainable(recipe).values():
            p.sub_(0.1 * p.grad).add_(0.01)
    expected = asked(recipe, clips())["answer"]
    save_file({name: v.detach().contiguous() for name, v in saved(recipe).items()}, tmp_path / "kept.safetensors")
    torch.manual_seed(99)
    from salticid.recipes import SvdRecipe

    again = SvdRecipe(str(base), lora=Lora(rank=2)).eval()
    load_tensors(tmp_path / "kept.safetensors", saved(again))
    assert torch.equal(asked(again, clips())["answer"], expected)
    fresh = SvdRecipe(str(base), lora=Lora(rank=2)).eval()
    torch.testing.assert_close(asked(fresh, clips())["answer"], asked(started(base), clips())["answer"])


def test_adapters_beside_a_unet_that_no_base_has_are_kept_with_it():
    """What begins from nothing cannot be had again."""
    for options in ({}, {"network": None}):
        recipe = svd(lora=Lora(rank=2), **options)
        assert saved(recipe).keys() == recipe.state_dict().keys()


def started(base):
    from salticid.recipes import SvdRecipe

    recipe = SvdRecipe(str(base)).eval()
    recipe.start(fresh=True)
    return recipe


# other conditions --------------------------------------------------------------------------------------------------


def test_a_base_can_be_conditioned_on_texts_or_classes_and_on_no_picture():
    batch = clips() | {"label": torch.tensor([1, 4]), "caption": ["a room", "a toy that turns"]}
    texts = svd(conditioner=[TextEmbedder("tiny", ucg_rate=0.0), FourierEmbedder("fps_id", 8)])
    call = asked(texts, batch)
    assert call["x"].shape[1] == 4, "nothing beside the noisy latent"
    assert call["context"].shape == (6, 77, texts.model.conditioner.width("crossattn"))
    assert call["vector"].shape == (6, 8)
    said = asked(texts, batch | {"caption": ["a room", "something else that turns"]})["answer"].unflatten(0, (2, 3))
    torch.testing.assert_close(said[0], call["answer"][:3], atol=1e-5, rtol=1e-5)
    assert (said[1] - call["answer"][3:]).abs().max() > 1e-4

    classes = svd(conditioner=[ClassEmbedder(5, 6, ucg_rate=0.0)])
    call = asked(classes, batch)
    table = next(iter(classes.model.conditioner.all)).table.weight
    torch.testing.assert_close(call["vector"], table[[1, 1, 1, 4, 4, 4]])
    assert call["context"].shape == (6, 1, 1)
    classes.loss("unet", batch, CLOCK).total.backward()
    assert table.grad is None or not table.grad[[0, 2, 3]].any()
    assert classes.model.conditioner.embedders[0].table.weight.grad[[1, 4]].any()
    assert [phase.modules for phase in classes.phases()] == [("model.unet", "model.conditioner")]


def test_embeddings_are_left_out_in_their_share_of_the_clips():
    """Of 60 clips at a rate of ½, the latent is missing for some, CLIP for others: each by its own stream."""
    keys = tuple(range(60))
    embedders = [ClipImageEmbedder(ucg_rate=0.5), LatentEmbedder(ucg_rate=0.5), FourierEmbedder("cond_aug", 8)]
    recipe = svd(conditioner=embedders)
    call = asked(recipe, clips(keys, frames=1))
    for name, value in (
        ("cond_frames_without_noise.crossattn", call["context"]),
        ("cond_frames.concat", call["x"][:, 4:]),
    ):
        chance = keyed_uniform(torch.tensor(keys), seed=CLOCK.seed, stream=f"ucg {name}")
        assert torch.equal(~value.flatten(1).any(1), chance < 0.5)
    assert call["vector"].flatten(1).any(1).all()


def test_what_samples_lack_is_named():
    recipe = svd(conditioner=[ClassEmbedder(5, 6)])
    with pytest.raises(ConfigError, match="samples have no label, which ClassEmbedder reads"):
        recipe.loss("unet", clips(), CLOCK)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: svd(lora=Lora(), train="temporal"), "recipe.lora is .*; expected null, or recipe.train all"),
        (lambda: svd(base=""), "recipe.base.*; expected a folder"),
        (lambda: sv4d(frames_apart=False, conditioner=[LatentEmbedder("cond_view", kind="reference")]), "frames_apart"),
        (
            lambda: sv4d(conditioner=[LatentEmbedder()]),
            "recipe.frames_apart is True; expected true with an embedder of",
        ),
        (lambda: Preconditioning("edm", "sigma"), "clock is sigma; expected quarter_log for edm"),
        (lambda: Preconditioning("edm", sigma_data=0.0), "sigma_data is 0.0; expected above 0"),
        (lambda: Levels(std=0.0), "levels.std is 0.0; expected a number above 0"),
        (lambda: Levels(mean=math.inf), "levels.mean is inf; expected a finite number"),
        (lambda: FrameNoise(mean=math.nan), "frame_noise.mean is nan"),
        (lambda: FrameNoise(sampling=-1.0), r"frame_noise.sampling is -1.0; expected 0 or more"),
        (lambda: Diffusion(offset_noise=-0.1), r"offset_noise is -0.1; expected a number, 0 or more"),
    ],
)
def test_values_without_sense_are_refused(made, message):
    with pytest.raises(ConfigError, match=message):
        made()


def test_a_checkpoint_holds_the_unet_and_no_frozen_network(tmp_path):
    recipe = svd()
    names = saved(recipe).keys()
    assert names == {f"model.unet.{name}" for name in everything(recipe)} | {"usual"}


@pytest.mark.parametrize(("options", "key"), [({"train": "temporal"}, "train"), ({"lora": Lora(rank=2)}, "lora")])
def test_a_part_of_a_unet_that_begins_from_nothing_cannot_learn(options, key):
    """Its last convolution is zero, and would stay so."""
    recipe = SvdRecipe(network=NETWORK, **options)
    with pytest.raises(ConfigError, match=f"recipe.{key}: only a part of the UNet would learn"):
        recipe.start(fresh=True)


def test_adapters_of_another_base_leave_what_begins_anew_trainable(tmp_path):
    """What SV4D is told of and SVD is not: its embedding, and what frame attention looks at."""
    recipe = Sv4dRecipe(base=str(base_with_weights(tmp_path / "base")), lora=Lora(rank=2))
    learns = {name for name, p in recipe.model.unet.named_parameters() if p.requires_grad and ".lora_" not in name}
    assert "label_emb.0.0.weight" in learns
    assert any(".motion_blocks.0.attn2.to_v" in name for name in learns)
    assert not any(".attn1." in name for name in learns)
