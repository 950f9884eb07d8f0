"""Options of the sfm recipe: learnt lenses, stereo, order of frames, shared encoder; and the metric of snippets."""

import numpy as np
import pytest
import torch
from tests.recipes.films import CLOCK, OFFSETS, SIZE, batch_of, films, made, networks
from torch import Tensor

from salticid.geometry import se3
from salticid.losses.photometric import photometric
from salticid.recipes.sfm.frames import Frames
from salticid.recipes.sfm.model import LensHead, Motions
from salticid.recipes.sfm.score import chain_record, trajectory_metrics
from salticid.recipes.sfm.settings import Photometric, Weights
from salticid.recipes.sfm.synthesis import synthesise


@pytest.fixture(scope="module")
def batch() -> dict:
    return batch_of(films())


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
