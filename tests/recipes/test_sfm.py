"""The sfm recipe: losses against straightforward formulas, stages, what is refused, files of others."""

from pathlib import Path

import pytest
import torch
import torchvision.transforms.v2.functional as colours
from safetensors.torch import save_file
from torch import Tensor

from salticid.data.motion import lens_of
from salticid.data.source import collate
from salticid.engine.recipe import Clock
from salticid.errors import ConfigError
from salticid.geometry import se3
from salticid.recipes import SfmRecipe
from salticid.recipes.sfm.frames import Frames
from salticid.recipes.sfm.jitter import ORDERS, jittered
from salticid.recipes.sfm.model import Motions
from salticid.recipes.sfm.score import chain_record, motion_records, trajectory_metrics
from salticid.recipes.sfm.settings import DepthRange, Networks, Photometric, Weights
from salticid.recipes.sfm.synthesis import synthesise
from salticid.world import WorldDepth, WorldMotion

SMALL = Networks(norm="group", pose="cost_volume")
DATA = WorldMotion(size=(48, 64), train_scenes=4, val_scenes=2, sequence=8, kind="room", flow="always")


def made(**options) -> SfmRecipe:
    torch.manual_seed(0)
    return SfmRecipe(**({"networks": SMALL} | options))


@pytest.fixture(scope="module")
def batch():
    return with_keys(collate([DATA.train().sample(i, None) for i in range(2)]))


def with_keys(batch):
    size = len(batch["frames"])
    return batch | {"id": [str(i) for i in range(size)], "key": torch.arange(size)}


def test_jitter_is_that_of_torchvision():
    torch.manual_seed(0)
    frames = torch.rand(4, 2, 3, 9, 11)
    jitter = torch.tensor(
        [[1.2, 0.8, 1.1, 0.07, 5], [0.9, 1.2, 0.8, -0.1, 23], [1, 1, 1, 0, 0], [0.8, 0.9, 1.2, 0.1, 0]]
    )
    apply = (colours.adjust_brightness, colours.adjust_contrast, colours.adjust_saturation, colours.adjust_hue)
    expected = frames.clone()
    for i, (*amounts, order) in enumerate(jitter.tolist()):
        for k in range(frames.shape[1]):
            for op in ORDERS[int(order)]:
                expected[i, k] = apply[op](expected[i, k], amounts[op])
    torch.testing.assert_close(jittered(frames, jitter), expected, atol=5e-6, rtol=0)
    assert jittered(frames, jitter)[2].equal(frames[2])


@pytest.mark.parametrize("camera", ["pinhole", "ucm", "kannala_brandt", "double_sphere"])
def test_the_truth_puts_the_target_together(camera):
    """With true depth and poses, what two frames both show is alike, for every lens; and the way of each pixel is the
    true flow, to a hundredth of a pixel."""
    measure = "depth" if camera == "pinhole" else "distance"
    data = WorldMotion(size=(64, 80), camera=camera, kind="room", flow="always", measure=measure)
    sample = collate([data.train().sample(3, None)])
    frames = Frames.of(sample, (0, -1, 1))
    motions = Motions(se3.inverse(sample["poses"][:, 1:]), sample["intrinsics"])
    far = sample["depth"].where(sample["valid"], 1.0)
    found = synthesise(frames.sources, far, motions, measure)
    seen = sample["flow_valid"][:, :, 0] & sample["valid"]
    error = (found.images[:, 0] - frames.clean[:, :1]).abs().mean(dim=2)[seen].mean()
    still = (frames.sources - frames.clean[:, :1]).abs().mean(dim=2)[seen].mean()
    assert error < 0.85 * still  # the rest is the coarse sampling of fine texture
    grid = torch.stack(torch.meshgrid(torch.arange(80.0), torch.arange(64.0), indexing="xy"), dim=-1)
    flow = (found.pixels[:, 0] - grid).movedim(-1, 2)
    assert (flow - sample["flow"]).abs().amax(dim=2)[seen].max() < 0.01


def plain_depth_loss(recipe: SfmRecipe, batch, smoothness: float) -> Tensor:
    """Monodepth2's loss for a pinhole, scale by scale, with grid_sample on pixels of K·T·K⁻¹."""
    frames = batch["frames"].float() / 255
    target, sources, (height, width) = frames[:, 0], frames[:, 1:], frames.shape[-2:]
    maps = recipe.model.disparities(target)
    motions = recipe.model.motions(Frames.of(batch, (0, -1, 1))).to_source
    fx, fy, cx, cy = batch["intrinsics"].unbind(-1)
    k = torch.zeros(len(fx), 3, 3)
    k[:, 0, 0], k[:, 1, 1], k[:, 0, 2], k[:, 1, 2], k[:, 2, 2] = fx, fy, cx, cy, 1
    v, u = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    pixels = torch.stack([u, v, torch.ones_like(u)]).flatten(1)
    total = torch.zeros(())
    for scale, disparity in enumerate(maps):
        full = torch.nn.functional.interpolate(disparity, (height, width), mode="bilinear", align_corners=False)
        depth = 1 / (0.01 + (10 - 0.01) * full)
        points = torch.linalg.inv(k) @ pixels * depth.flatten(2)
        errors = []
        for n in range(2):
            moved = k @ (motions[:, n, :3, :3] @ points + motions[:, n, :3, 3:])
            x, y = (moved[:, i] / moved[:, 2] for i in (0, 1))
            grid = torch.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], dim=-1).view(-1, height, width, 2)
            warped = torch.nn.functional.grid_sample(sources[:, n], grid, padding_mode="border", align_corners=True)
            errors.append(plain_photometric(warped, target))
        total = total + torch.cat(errors, dim=1).amin(dim=1).mean()
        small = torch.nn.functional.interpolate(target, disparity.shape[-2:], mode="area")
        normal = disparity / (disparity.mean(dim=(2, 3), keepdim=True) + 1e-7)
        edges = [
            (normal.diff(dim=d).abs() * torch.exp(-small.diff(dim=d).abs().mean(dim=1, keepdim=True))).mean()
            for d in (2, 3)
        ]
        total = total + smoothness * sum(edges) / 2**scale
    return total / len(maps)


def plain_photometric(x: Tensor, y: Tensor) -> Tensor:
    mean = lambda image: torch.nn.functional.avg_pool2d(  # noqa: E731
        torch.nn.functional.pad(image, (1, 1, 1, 1), mode="reflect"), 3, stride=1
    )
    a, b = mean(x), mean(y)
    va, vb, vab = mean(x * x) - a * a, mean(y * y) - b * b, mean(x * y) - a * b
    ssim = (2 * a * b + 1e-4) * (2 * vab + 9e-4) / ((a * a + b * b + 1e-4) * (va + vb + 9e-4))
    return (0.85 * ((1 - ssim) / 2).clamp(0, 1) + 0.15 * (x - y).abs()).mean(dim=1, keepdim=True)


def test_the_loss_of_monodepth2(batch):
    recipe = made(photometric=Photometric(automask=False), weights=Weights(smoothness=1e-3))
    ours = recipe.loss("motion", batch, Clock(0, 10, 0))
    expected = plain_depth_loss(recipe, batch, 1e-3)
    torch.testing.assert_close(ours.total, expected, atol=2e-5, rtol=0)
    ours.total.backward()
    grads = [p.grad for p in recipe.model.parameters()]
    assert all(g is not None and g.isfinite().all() for g in grads)


def test_automasking_is_late_keyed_and_lowers_the_loss(batch):
    recipe = made(photometric=Photometric(automask_start=0.5))
    early, late = (recipe.loss("motion", batch, Clock(step, 10, 0)) for step in (4, 5))
    again = recipe.loss("motion", batch, Clock(5, 10, 0))
    assert late.terms["photometric"] < early.terms["photometric"]
    assert early.terms["automask"] == 1
    assert late.terms["automask"] < 1
    assert late.total.item() == again.total.item()


TERMS = Weights(depth=0.1, pose=0.1, velocity=0.1, consistency=0.1)


@pytest.mark.parametrize(
    "options",
    [
        {"networks": Networks(norm="group", pose="pair", pose_scale=0.001, pose_order="source_target")},
        {"networks": Networks(norm="frozen", pose="shared", intrinsics="learnt")},
        {"weights": TERMS, "photometric": Photometric(minimum=False, valid_only=True)},
        {"stage": "flow"},
        {"stage": "alternating", "range": DepthRange(far=150.0)},
    ],
    ids=["pair", "shared, learnt lens", "all terms", "flow", "alternating"],
)
def test_every_stage_teaches_all_that_it_owns_and_nothing_else(batch, options):
    recipe = made(**options)
    for phase in recipe.phases():
        recipe.zero_grad()
        loss = recipe.loss(phase.name, batch, Clock(0, 10, 0))
        assert loss.total.isfinite()
        loss.total.backward()
        for name, parameter in recipe.named_parameters():
            own = any(name.startswith(f"{module}.") for module in phase.modules)
            taught = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
            # A pose network's second answer and a new lens head's and flow's inner layers see no gradient at first.
            assert taught <= own, name
    with torch.no_grad():
        found = recipe.eval().evaluate(batch, seed=0)
        picture = recipe.preview(batch, seed=0)
    assert all(values.isfinite().all() for values in found.values())
    assert picture.dtype == torch.uint8


def test_true_motion_has_no_error_and_makes_the_true_trajectory():
    source = DATA.val()
    samples = with_keys(collate([source.sample(i, None) for i in range(len(source))]))
    true = se3.inverse(samples["poses"][:, 1:])
    found = motion_records(true, samples["poses"])
    assert found["direction/model"].max() < 0.1
    assert found["rotation/model"].max() < 0.05
    chain = chain_record(true, samples, (0, -1, 1))["chain"]
    metrics = trajectory_metrics(chain)
    assert metrics["ate/model"] < 1e-4
    assert metrics["snippet/model"] < 1e-4
    assert trajectory_metrics(chain[::2]) == {}


def test_a_checkpoint_and_the_second_stage(batch, tmp_path: Path):
    first = made(stage="flow")
    file = tmp_path / "model.safetensors"
    save_file(first.state_dict(), file)
    second = made(stage="appearance", initial=tmp_path)
    second.start(fresh=True)
    wanted = first.model.flow.state_dict()
    assert all(value.equal(wanted[name]) for name, value in second.model.flow.state_dict().items())
    second.loss("motion", batch, Clock(0, 10, 0)).total.backward()
    assert all(p.grad is None for p in second.model.flow.parameters())
    assert second.model.appearance.decoder.heads[0].weight.grad.abs().sum() > 0
    bare = tmp_path / "bare"
    bare.mkdir()
    save_file(made().state_dict(), bare / "model.safetensors")
    with pytest.raises(ConfigError, match="has no flow; this stage needs one"):
        made(stage="appearance", initial=bare).start(fresh=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stage": "appearance"}, r"recipe\.stage is appearance; expected recipe\.initial"),
        ({"weights": Weights(distillation=1.0)}, r"recipe\.teacher"),
        ({"teacher": "x"}, r"recipe\.teacher"),
        (
            {"range": DepthRange(relative=True), "weights": Weights(velocity=1.0)},
            r"recipe\.weights\.velocity is 1\.0; expected 0 with range\.relative",
        ),
    ],
)
def test_what_cannot_work_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        made(**options)


def test_data_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="samples have no frames"):
        made().check(WorldDepth(size=(32, 32)))
    with pytest.raises(ConfigError, match=r"2 frames a sample; expected those of recipe\.offsets"):
        made().check(WorldMotion(size=(48, 64), offsets=(0, 1)))
    for wrong in ({"near": 0.0}, {"near": 200.0}):
        with pytest.raises(ConfigError, match=r"recipe\.range\.near"):
            DepthRange(**wrong)
    with pytest.raises(ConfigError, match=r"recipe\.weights\.flow is -1"):
        Weights(flow=-1)


def test_relative_depth_has_no_scale():
    """Neither for whoever reads it, nor for the loss to move."""
    model = made(range=DepthRange(relative=True)).model
    logits = torch.randn(2, 1, 6, 8, dtype=torch.float64, requires_grad=True)
    depth = model.to_depth(logits.sigmoid())
    torch.testing.assert_close((1 / depth).mean(dim=(2, 3)), torch.ones(2, 1))
    torch.testing.assert_close(model.to_depth((logits + 1.5).sigmoid()), depth)
    torch.testing.assert_close(model.linear(logits.sigmoid()), 1 / depth)
    torch.testing.assert_close(depth / depth[..., :1, :1], (logits[..., :1, :1] - logits).exp().float())
    (depth * torch.randn_like(depth)).sum().backward()
    assert logits.grad.sum(dim=(2, 3)).abs().max() < 1e-5 * logits.grad.abs().max()


def test_the_pose_network_has_its_own_rate():
    recipe = made(networks=Networks(norm="group", pose="cost_volume", pose_rate=10))
    (phase,) = recipe.phases()
    rates = {name.split(".")[1]: phase.rate(name) for name, _ in recipe.named_parameters()}
    assert rates == {"depth": 1.0, "pose": 10.0}


def test_a_lens_that_is_learnt_starts_from_the_given_one(batch):
    recipe = made(networks=Networks(norm="group", pose="cost_volume", intrinsics="learnt"))
    found = recipe.model.motions(Frames.of(batch, (0, -1, 1)))
    assert found.intrinsics.equal(batch["intrinsics"])
    assert lens_of(found.intrinsics, 48, 64).fx.requires_grad


def test_a_mean_map_is_a_baseline_only_where_it_is_known():
    recipe = made()
    assert set(recipe.baselines((6, 8))) == {"constant"}
    recipe.mean_disparity.fill_(0.5)
    depths = recipe.baselines((6, 8))
    for name, depth in (("mean-map", 2.0), ("constant", 1.0)):
        torch.testing.assert_close(depths[name], torch.full((1, 1, 6, 8), depth))
