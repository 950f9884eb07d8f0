"""Options of the sfm recipe: teacher, learnt lenses, stereo, velocity, consistency, order of frames, shared encoder,
fisheyes, means in place of minima; and the metric of snippets."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.recipes.test_sfm import plain_photometric
from torch import Tensor

from salticid.data.source import collate
from salticid.engine.recipe import Clock
from salticid.geometry import se3
from salticid.losses.photometric import photometric
from salticid.recipes import SfmRecipe
from salticid.recipes.sfm.frames import Frames
from salticid.recipes.sfm.model import LensHead, Motions
from salticid.recipes.sfm.objective import DepthObjective
from salticid.recipes.sfm.score import chain_record, trajectory_metrics
from salticid.recipes.sfm.settings import Networks, Photometric, Weights
from salticid.recipes.sfm.supervision import travel_error
from salticid.recipes.sfm.synthesis import Synthesis, synthesise
from salticid.world import WorldMotion

BACKBONE = "test_resnet"
OFFSETS = (0, -1, 1)
SIZE = (48, 64)
CLOCK = Clock(0, 10, 0)


def networks(**options) -> Networks:
    return Networks(**({"backbone": BACKBONE, "norm": "group"} | options))


def made(**options) -> SfmRecipe:
    torch.manual_seed(0)
    return SfmRecipe(**({"networks": networks()} | options))


def films(**options) -> WorldMotion:
    return WorldMotion(**({"size": SIZE, "val_scenes": 1, "kind": "room"} | options))


def batch_of(data: WorldMotion, count: int = 2) -> dict:
    samples = collate([data.train().sample(i, None) for i in range(count)])
    return samples | {"id": [str(i) for i in range(count)], "key": torch.arange(count)}


@pytest.fixture(scope="module")
def batch() -> dict:
    return batch_of(films())


# ---- the teacher


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> str:
    """A folder with a Depth Anything of some thousand parameters."""
    transformers = pytest.importorskip("transformers")
    backbone = transformers.Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        mlp_ratio=2,
        image_size=56,
        patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
    )
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=14,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
    )
    torch.manual_seed(0)
    network = transformers.DepthAnythingForDepthEstimation(config)
    for parameter in network.parameters():  # so that its answer varies …
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    for parameter in network.head.parameters():  # … and is not cut off at 0
        parameter.data.abs_()
    folder = tmp_path_factory.mktemp("teacher")
    network.save_pretrained(folder)
    return str(folder)


def seen_by_teacher(folder: str, images: Tensor) -> np.ndarray:
    """Its disparity (B, H·W) of mean 0 and mean |deviation| 1, with its own preprocessing: sides of multiples of 14,
    ImageNet's mean and deviation."""
    from transformers import AutoModelForDepthEstimation

    network = AutoModelForDepthEstimation.from_pretrained(folder).eval()
    small = F.interpolate(images, (42, 70), mode="bicubic", antialias=True)  # of 48 × 64
    mean, deviation = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        found = network(pixel_values=(small - mean) / deviation).predicted_depth
    found = F.interpolate(found[:, None], SIZE, mode="bilinear").flatten(1).double().numpy()
    found = found - found.mean(axis=1, keepdims=True)
    return found / np.abs(found).mean(axis=1, keepdims=True)


def test_a_teacher_is_matched_up_to_scale_and_shift(batch, teacher):
    recipe = made(teacher=teacher, weights=Weights(distillation=0.5))
    before = set(recipe.state_dict())
    recipe.start(fresh=True)
    loss = recipe.loss("motion", batch, CLOCK)
    images = batch["frames"][:, 0].float() / 255
    wanted = seen_by_teacher(teacher, images)
    assert np.abs(wanted).max() > 1.5  # it is not flat
    ours = recipe.model.disparities(images)[0].detach().flatten(1).double().numpy()
    errors = []
    for x, y in zip(ours, wanted, strict=True):
        design = np.stack([x, np.ones_like(x)], axis=1)
        errors.append(np.abs(design @ np.linalg.lstsq(design, y, rcond=None)[0] - y).mean())
    assert loss.terms["distillation"].item() == pytest.approx(np.mean(errors), abs=1e-4)
    parts = {"photometric": 1.0, "smoothness": 1e-3, "distillation": 0.5}
    total = sum(weight * loss.terms[name] for name, weight in parts.items())
    torch.testing.assert_close(loss.total.detach(), total)
    assert set(recipe.state_dict()) == before
    taught = recipe.teacher
    perfect = torch.from_numpy(3 * wanted - 7).float().view(2, 1, *SIZE)
    assert taught.error(perfect, images) < 1e-4
    taught.error(recipe.model.disparities(images)[0], images).backward()
    assert recipe.model.depth.decoder.heads[0].weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in taught.network.network.parameters())


# ---- a lens that is learnt


def test_a_learnt_lens_is_taught_by_the_loss(batch):
    """The derivative by the logarithm of the focal length is that of finite differences."""
    recipe = made(
        networks=networks(intrinsics="learnt", pose_scale=0.2), photometric=Photometric(automask=False, minimum=False)
    )
    bias = recipe.model.lens_head.last.bias

    def loss(change: float) -> float:
        with torch.no_grad():
            bias[:2] = change
            return recipe.loss("motion", batch, CLOCK).terms["photometric"].item()

    ahead, behind = loss(0.01), loss(-0.01)
    loss(0.0)
    recipe.loss("motion", batch, CLOCK).total.backward()
    assert bias.grad[:2].sum().item() == pytest.approx((ahead - behind) / 0.02, rel=0.05)
    assert recipe.model.lens_head.last.weight.grad.abs().sum() > 0


def test_a_wrong_focal_length_is_mended():
    """With true depth and motion, photometric loss alone brings a lens that is 15 % too long back."""
    data = films(turn=(5.0, 10.0), sideways=1.0, step=(0.1, 0.2))
    batch = batch_of(data, 4)
    frames = Frames.of(batch, OFFSETS)
    head = LensHead(8)
    wrong = batch["intrinsics"] * torch.tensor([1.15, 1.15, 1, 1])
    optimiser = torch.optim.Adam(head.parameters(), lr=0.01)
    true, nothing = se3.inverse(batch["poses"][:, 1:]), torch.zeros(8, 8, 2, 2)
    for _ in range(40):
        lens = head(nothing, wrong, SIZE)
        images = synthesise(frames.sources, batch["depth"], Motions(true, lens), "depth").images[:, 0]
        optimiser.zero_grad()
        photometric(images.flatten(0, 1), frames.target).mean().backward()
        optimiser.step()
    found = (head(nothing, wrong, SIZE)[:, :2] / batch["intrinsics"][:, :2]).mean(dim=1)
    assert (found - 1).abs().max() < 0.05


# ---- stereo


def test_a_stereo_partner_is_looked_up_at_its_known_pose():
    batch = batch_of(films(baseline=0.2))
    recipe = made()
    asked = []
    inner = recipe.model._motion
    recipe.model._motion = lambda first, second, *rest: (asked.append(first), inner(first, second, *rest))[1]
    frames = Frames.of(batch, OFFSETS)
    assert frames.offsets == (-1, 1, 0)
    motions = recipe.model.motions(frames, batch["stereo_pose"])
    assert [len(first) for first in asked] == [2 * 2]  # of four pairs; the partners are no pairs
    assert motions.to_source.shape == (2, 3, 4, 4)
    # What is 3 m ahead of the left camera is 3 m ahead and 0.2 m to the left of the right one.
    point = se3.transform(motions.to_source[:, 2], torch.tensor([0.0, 0.0, 3.0]).expand(2, 3))
    torch.testing.assert_close(point, torch.tensor([-0.2, 0.0, 3.0]).expand(2, 3))
    partner = frames.sources[:, 2:]
    errors = {}
    for name, move in (("true", motions.to_source[:, 2:]), ("wrong way", batch["stereo_pose"][:, None])):
        images = synthesise(partner, batch["depth"], Motions(move, batch["intrinsics"]), "depth").images[:, 0, 0]
        errors[name] = photometric(images, frames.target).mean()
    still = photometric(partner[:, 0], frames.target).mean()
    assert errors["true"] < 0.6 * still
    assert errors["true"] < 0.5 * errors["wrong way"]
    assert recipe.loss("motion", batch, CLOCK).total.isfinite()


# ---- velocity and consistency


def test_velocity_makes_the_translation_as_long_as_the_way():
    """Mean |‖t‖ − way|, and its derivative: ± t/‖t‖ over the number of motions."""
    moves = torch.eye(4).repeat(1, 2, 1, 1)
    moves[0, :, :3, 3] = torch.tensor([[0.3, 0.0, 0.4], [0.0, 0.6, 0.8]])
    moves.requires_grad_()
    loss = travel_error(moves, torch.tensor([[0.2, 1.5]]))
    assert loss.item() == pytest.approx((0.3 + 0.5) / 2)
    loss.backward()
    expected = torch.tensor([[0.6, 0.0, 0.8], [0.0, -0.6, -0.8]]) / 2
    torch.testing.assert_close(moves.grad[0, :, :3, 3], expected)
    assert moves.grad[0, :, :3, :3].abs().max() == 0
    # A partner, which comes last, has no way.
    more = torch.cat([moves.detach(), 9 * torch.eye(4).expand(1, 1, 4, 4)], dim=1)
    assert travel_error(more, torch.tensor([[0.2, 1.5]])).item() == pytest.approx(0.4)


def consistency(far: Tensor, frames: Frames, own: Tensor, motions: Motions) -> float:
    """Of depths (B, 1, H, W) of the target and (B·K, 1, H, W) of its sources."""
    model = SimpleNamespace(disparities=lambda images: [own], to_depth=lambda disparity: disparity)
    made_ = synthesise(frames.sources, far, motions, "depth")
    objective = DepthObjective(Weights(), Photometric())
    return objective.consistency(model, frames, made_).item()  # type: ignore[arg-type]


def test_true_depths_of_neighbours_agree():
    """Three frames of a film, each with its true depth: they agree but where one hides something."""
    source = films(sequence=5, flow="always").val()
    before, middle, after = (source.sample(i, None) for i in range(3))
    batch = collate([middle])
    frames = Frames.of(batch, OFFSETS)
    own = torch.stack([before["depth"], after["depth"]])
    motions = Motions(se3.inverse(batch["poses"][:, 1:]), batch["intrinsics"])
    true = consistency(batch["depth"], frames, own, motions)
    assert 0 < true < 0.02
    turned = Motions(batch["poses"][:, 1:], batch["intrinsics"])
    assert consistency(batch["depth"], frames, own, turned) > 1.5 * true
    assert consistency(batch["depth"], frames, 1.5 * own, motions) == pytest.approx(0.2, abs=0.02)  # 0.5/2.5


def test_consistency_is_a_mean_over_samples_of_what_is_seen(batch):
    """Standing still before walls at 2 m, of which sources think that they are at 6 m and at 2 m."""
    frames = Frames.of(batch, OFFSETS)
    still = Motions(torch.eye(4).expand(2, 2, 4, 4), batch["intrinsics"])
    far, own = torch.full((2, 1, *SIZE), 2.0), torch.full((4, 1, *SIZE), 2.0)
    own[0] = 6.0
    assert consistency(far, frames, own, still) == pytest.approx((4 / 8 / 2 + 0) / 2, rel=1e-5)
    away = torch.eye(4).repeat(2, 2, 1, 1)
    away[0, 1, 2, 3] = -9.0  # behind the camera of this source, which therefore does not count
    assert consistency(far, frames, own, Motions(away, batch["intrinsics"])) == pytest.approx(4 / 8 / 2, rel=1e-5)


# ---- pose networks


@pytest.mark.parametrize("order", ["temporal", "source_target"])
def test_frames_are_shown_to_the_pose_network_in_the_order_that_is_told(batch, order):
    model = made(networks=networks(pose_order=order, pose_scale=0.5)).eval().model
    frames = Frames.of(batch, OFFSETS)
    target, before, after = frames.seen.unbind(1)

    def answer(first: Tensor, second: Tensor) -> Tensor:
        angle, shift = model.pose.decoder(model.pose.encoder(torch.cat([first, second], dim=1))[-1])
        out = torch.eye(4).repeat(len(first), 1, 1)
        skew = torch.zeros(len(first), 3, 3)
        x, y, z = angle[:, 0].unbind(1)
        skew[:, 0, 1], skew[:, 0, 2], skew[:, 1, 2] = -z, y, -x
        out[:, :3, :3], out[:, :3, 3] = torch.linalg.matrix_exp(skew - skew.mT), shift[:, 0]
        return out

    with torch.no_grad():
        found = model.motions(frames).to_source
        if order == "temporal":  # (t − 1, t) and (t, t + 1), the first from the source to the target
            expected = [torch.linalg.inv(answer(before, target)), answer(target, after)]
        else:
            expected = [answer(before, target), answer(after, target)]
    assert (expected[0][:, :3, 3].norm(dim=1) > 1e-3).all()
    torch.testing.assert_close(found, torch.stack(expected, dim=1), atol=1e-5, rtol=0)


def test_a_shared_encoder_sees_each_frame_alone(batch):
    recipe = made(
        networks=networks(pose="shared", pose_scale=0.5), weights=Weights(photometric=0, smoothness=0, pose=1)
    )
    model, frames = recipe.model, Frames.of(batch, OFFSETS)
    target, before, after = (model.depth.encoder(images)[-1] for images in frames.seen.unbind(1))
    found = model.motions(frames).to_source
    for k, pair in enumerate(((before, target), (target, after))):
        angle, shift = model.pose(*pair)
        move = se3.pose(se3.axis_angle_to_matrix(angle[:, 0]), shift[:, 0])
        torch.testing.assert_close(found[:, k], se3.inverse(move) if k == 0 else move, atol=1e-5, rtol=0)
    assert sum(p.numel() for p in model.pose.parameters()) < sum(p.numel() for p in model.depth.parameters())
    recipe.loss("motion", batch, CLOCK).total.backward()
    assert next(model.depth.encoder.parameters()).grad.abs().sum() > 0  # taught by motion alone


@pytest.mark.parametrize(
    "options",
    [
        {"networks": networks()},
        {"networks": networks(pose="shared", intrinsics="learnt")},
        {"networks": networks(pose="cost_volume")},
        {"stage": "alternating"},
    ],
    ids=["pair", "shared, learnt lens", "cost volume", "alternating"],
)
def test_blocks_hold_all_parameters_and_are_called_as_modules(batch, options):
    """So that `trainer.compile` compiles them, and FSDP gathers them."""
    recipe = made(**options)
    blocks, called = list(recipe.blocks()), set()
    held = [id(p) for block in blocks for p in block.parameters()]
    assert sorted(held) == sorted(id(p) for p in recipe.parameters())
    for block in blocks:
        block.register_forward_hook(lambda module, *_: called.add(module))
    for phase in recipe.phases():
        recipe.loss(phase.name, batch, CLOCK)
    assert called == set(blocks)


# ---- what is compared


def loss_and_synthesis(batch, measure: str, options: Photometric) -> tuple[float, Synthesis, Frames]:
    """The photometric loss of true depth, at one scale, with true motion."""
    frames = Frames.of(batch, OFFSETS)
    motions = Motions(se3.inverse(batch["poses"][:, 1:]), batch["intrinsics"])
    far = batch["depth"].where(batch["valid"], 1.0)
    made_ = synthesise(frames.sources, far, motions, measure)  # type: ignore[arg-type]
    loss, _ = DepthObjective(Weights(), options).match(frames, made_, batch["key"], CLOCK)
    return loss.item(), made_, frames


@pytest.mark.parametrize("valid_only", [False, True])
@pytest.mark.parametrize("minimum", [False, True])
def test_candidates_of_a_pixel_are_joined_as_told(minimum, valid_only):
    """Minimum or mean over sources; with `valid_only` of those that show it, over the pixels that any shows. A fisheye
    of 165° whose points are found by the UCM's own formula."""
    batch = batch_of(films(camera="ucm", measure="distance", view=(160.0, 165.0), step=(0.2, 0.3)))
    options = Photometric(minimum=minimum, valid_only=valid_only, automask=False)
    loss, made_, frames = loss_and_synthesis(batch, "distance", options)
    samples = []
    for b in range(2):
        errors, seen = [], []
        for k in range(2):
            x, y = in_the_source(batch, b, k)
            seen.append((x >= -0.5) & (x <= SIZE[1] - 0.5) & (y >= -0.5) & (y <= SIZE[0] - 0.5))
            np.testing.assert_allclose(made_.pixels[b, 0, k][seen[-1]], np.stack([x, y], -1)[seen[-1]], atol=2e-3)
            errors.append(plain_photometric(made_.images[b, :, k], frames.target[b : b + 1])[0, 0].numpy())
        samples.append((np.stack(errors), np.stack(seen)))
    expected = []
    for errors, seen in samples:
        counted = seen if valid_only else np.ones_like(seen)
        any_, best = counted.any(axis=0), np.where(counted, errors, np.inf).min(axis=0)
        mean = np.where(counted, errors, 0).sum(axis=0) / np.maximum(counted.sum(axis=0), 1)
        expected.append((best if minimum else mean)[any_].mean())
    assert 0.5 < np.mean([seen for _, seen in samples]) < 0.999
    assert loss == pytest.approx(np.mean(expected), abs=1e-5)


def in_the_source(batch, b: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Where source k shows the points of target b: the UCM (Mei & Rives 2007), forth and back."""
    fx, fy, cx, cy, xi = batch["intrinsics"][b].double().tolist()
    v, u = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]), indexing="ij")
    mx, my = (u - cx) / fx, (v - cy) / fy
    square = mx**2 + my**2
    eta = (xi + np.sqrt(1 + (1 - xi**2) * square)) / (1 + square)
    rays = np.stack([eta * mx, eta * my, eta - xi], axis=-1)
    points = rays * batch["depth"][b, 0].where(batch["valid"][b, 0], 1.0).double().numpy()[..., None]
    pose = np.linalg.inv(batch["poses"][b, 1 + k].double().numpy())
    x, y, z = np.moveaxis(points @ pose[:3, :3].T + pose[:3, 3], -1, 0)
    down = z + xi * np.sqrt(x**2 + y**2 + z**2)
    return fx * x / down + cx, fy * y / down + cy


def test_pixels_that_no_source_shows_do_not_teach():
    """The camera goes back far: the border of the target is beyond that of the sources."""
    batch = batch_of(films())
    frames = Frames.of(batch, OFFSETS)
    moves = torch.eye(4).repeat(2, 2, 1, 1)
    moves[:, :, 2, 3] = -0.5  # towards the points: they move outwards
    depth = torch.full((2, 1, *SIZE), 2.0, requires_grad=True)
    made_ = synthesise(frames.sources, depth, Motions(moves, batch["intrinsics"]), "depth")
    DepthObjective(Weights(), Photometric(valid_only=True, automask=False)).match(frames, made_, batch["key"], CLOCK)[
        0
    ].backward()
    shown = made_.valid[:, 0].any(dim=1)
    assert 0.4 < shown.float().mean() < 0.7
    # An SSIM window reaches one pixel beyond what is shown.
    near = F.max_pool2d(shown[:, None].float(), 3, stride=1, padding=1)[:, 0] > 0
    assert depth.grad[:, 0][~near].abs().max() == 0
    assert (depth.grad[:, 0][shown] != 0).float().mean() > 0.9


# ---- the metric of snippets


def test_snippets_are_monodepth2s():
    """From motions, target to source, of consecutive frames to the mean over snippets of five: local coordinates by
    products of those motions, one factor a snippet, ‖difference‖/5, shorter snippets at the tail."""
    generator = torch.Generator().manual_seed(0)
    count = 9

    def drawn() -> Tensor:
        turn = se3.axis_angle_to_matrix(0.05 * torch.randn(count, 3, generator=generator))
        return se3.pose(turn, torch.tensor([0.0, 0.0, 1.0]) + 0.2 * torch.randn(count, 3, generator=generator))

    true, ours = drawn(), 0.4 * drawn()
    ours[:, :3, :3] /= 0.4
    ours[:, 3, 3] = 1
    # Of three frames, the one before is not looked at. `to_source` takes points from t to t + 1, `poses` back.
    sources = torch.stack([torch.full_like(ours, torch.nan), ours], dim=1)
    batch = {
        "poses": torch.stack([torch.eye(4).expand(count, 4, 4), sources[:, 0], se3.inverse(true)], dim=1),
        "place": torch.stack([torch.zeros(count, dtype=torch.int64), torch.arange(3, 3 + count)], dim=1),
    }
    metrics = trajectory_metrics(chain_record(sources, batch, OFFSETS)["chain"])
    errors = []
    for start in range(count):
        local = []
        for motions in (ours.double().numpy(), true.double().numpy()):
            reached, places = np.eye(4), [np.zeros(3)]
            for motion in motions[start : start + 4]:
                reached = reached @ motion
                places.append(reached[:3, 3])
            local.append(np.array(places))
        scale = (local[0] * local[1]).sum() / (local[0] ** 2).sum()
        errors.append(np.sqrt(((scale * local[0] - local[1]) ** 2).sum()) / len(local[0]))
    assert metrics["snippet/model"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert metrics["snippet/model"] > 0.01
    # Two films of which one is too short: its frames are left out, and no snippet goes across.
    other = batch["place"] + torch.tensor([1, 0])
    more = {name: torch.cat([batch[name], extra[:3]]) for name, extra in (("poses", batch["poses"]), ("place", other))}
    both = trajectory_metrics(chain_record(torch.cat([sources, sources[:3]]), more, OFFSETS)["chain"])
    assert both == metrics
