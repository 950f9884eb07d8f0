"""AF-SfMLearner's losses as wholes, against its formulas written down plainly, frame by frame and scale by scale."""

import pytest
import torch
import torch.nn.functional as F
from tests.recipes.test_sfm import plain_photometric
from torch import Tensor

from salticid.engine.recipe import Clock
from salticid.recipes import SfmRecipe
from salticid.recipes.sfm.settings import DepthRange, Networks, Weights

HEIGHT, WIDTH = 40, 48
NETWORKS = Networks(backbone="test_resnet", norm="group", normalise=False, pose_order="source_target", pose_scale=0.05)
WEIGHTS = Weights(smoothness=1e-4)


@pytest.fixture(scope="module")
def recipe() -> SfmRecipe:
    torch.manual_seed(0)
    made = SfmRecipe(stage="alternating", networks=NETWORKS, range=DepthRange(0.1, 150.0), weights=WEIGHTS)
    for head in made.model.flow.decoder.heads:  # flows of some pixels, so that pixels are hidden
        torch.nn.init.normal_(head.weight, std=1.0)
    return made.requires_grad_(False)


@pytest.fixture(scope="module")
def batch() -> dict:
    coarse = torch.rand(2, 9, 10, 12, generator=torch.Generator().manual_seed(0))
    frames = F.interpolate(coarse, (HEIGHT, WIDTH), mode="bilinear").mul(255).byte().unflatten(1, (3, 3))
    intrinsics = torch.tensor([[40.0, 42.0, 23.0, 20.0], [50.0, 50.0, 25.0, 19.0]])
    jitter = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0]).expand(2, 5)
    return {"frames": frames, "intrinsics": intrinsics, "jitter": jitter, "id": ["a", "b"], "key": torch.arange(2)}


def pictures(batch) -> tuple[Tensor, list[Tensor]]:
    """Target and two sources, (B, 3, H, W) in [0, 1]."""
    target, *sources = (batch["frames"].float() / 255).unbind(1)
    return target, sources


def full(level: Tensor) -> Tensor:
    return F.interpolate(level, (HEIGHT, WIDTH), mode="bilinear", align_corners=False)


def looked_up(image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Bilinear, the border repeated; x and y (B, H, W) in pixels."""
    grid = torch.stack([2 * x / (WIDTH - 1) - 1, 2 * y / (HEIGHT - 1) - 1], dim=-1)
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=True)


def grid() -> tuple[Tensor, Tensor]:
    y, x = torch.meshgrid(torch.arange(HEIGHT).float(), torch.arange(WIDTH).float(), indexing="ij")
    return x, y


def moved(source: Tensor, flow: Tensor) -> Tensor:
    x, y = grid()
    return looked_up(source, x + flow[:, 0], y + flow[:, 1])


def variation(field: Tensor, guide: Tensor | None = None, seen: Tensor | None = None) -> Tensor:
    """Σ over x and y of the mean |difference of neighbours| · exp(−|difference in the guide|); with `seen`, over pairs
    of such pixels, sample by sample."""
    total = torch.zeros(())
    for axis in (2, 3):
        values = field.diff(dim=axis).abs()
        if guide is not None:
            values = values * torch.exp(-guide.diff(dim=axis).abs().mean(dim=1, keepdim=True))
        if seen is None:
            total = total + values.mean()
            continue
        first, second = (seen.narrow(axis, k, seen.shape[axis] - 1) for k in (0, 1))
        total = total + torch.stack([v[:, m[0]].mean() for v, m in zip(values, first & second, strict=True)]).mean()
    return total


def over(values: Tensor, seen: Tensor) -> Tensor:
    """Mean over samples of means over the pixels seen."""
    return torch.stack([v[:, m[0]].mean() for v, m in zip(values, seen, strict=True)]).mean()


def covered(reverse: Tensor) -> Tensor:
    """Where pixels moved by a flow (B, 2, H, W) arrive with more than 0.95 of a pixel: bool (B, 1, H, W)."""
    x, y = grid()
    out = torch.zeros(len(reverse), HEIGHT, WIDTH)
    for b, (u, v) in enumerate(reverse):
        for column, row in zip((x + u).flatten().tolist(), (y + v).flatten().tolist(), strict=True):
            left, top = int(column // 1), int(row // 1)
            for i, across in ((left, 1 - (column - left)), (left + 1, column - left)):
                for j, down in ((top, 1 - (row - top)), (top + 1, row - top)):
                    if 0 <= i < WIDTH and 0 <= j < HEIGHT:
                        out[b, j, i] += across * down
    return out[:, None] > 0.95


def smallness(disparity: Tensor, target: Tensor) -> Tensor:
    """Edge-aware smoothness of disparity over its mean."""
    picture = F.interpolate(target, disparity.shape[-2:], mode="area")
    return variation(disparity / (disparity.mean(dim=(2, 3), keepdim=True) + 1e-7), picture)


def moved_by_motion(model, source: Tensor, target: Tensor, depth: Tensor, intrinsics: Tensor) -> Tensor:
    """The source looked up at K (R K⁻¹ p·z + t), with the pose of [source, target]."""
    answer = model.pose.decoder(model.pose.encoder(torch.cat([source, target], dim=1))[-1])
    angle, shift = answer[0][:, 0], answer[1][:, 0]
    x, y = grid()
    out = []
    for b in range(len(source)):
        fx, fy, cx, cy = intrinsics[b]
        a, c, d = angle[b].tolist()
        turn = torch.linalg.matrix_exp(torch.tensor([[0, -d, c], [d, 0, -a], [-c, a, 0]]))
        points = torch.stack([(x - cx) / fx, (y - cy) / fy, torch.ones_like(x)]) * depth[b]
        px, py, pz = (turn @ points.flatten(1) + shift[b][:, None]).unflatten(1, (HEIGHT, WIDTH))
        out.append(looked_up(source[b : b + 1], (fx * px / pz + cx)[None], (fy * py / pz + cy)[None]))
    return torch.cat(out)


def flows(model, source: Tensor, target: Tensor) -> list[Tensor]:
    return model.flow(torch.cat([source, target], dim=1))


def test_stage_one_as_a_whole(recipe, batch):
    """The better of two frames at each pixel, and total variation of the flow as it leaves the network, halved at each
    scale."""
    target, sources = pictures(batch)
    first = SfmRecipe(stage="flow", networks=NETWORKS, weights=Weights())
    first.model.flow.load_state_dict(recipe.model.flow.state_dict())
    ours = first.loss("flow", batch, Clock(0, 10, 0))
    maps = [flows(recipe.model, source, target) for source in sources]
    expected = torch.zeros(())
    for s in range(4):
        errors = [plain_photometric(moved(source, full(m[s])), target) for source, m in zip(sources, maps, strict=True)]
        expected = expected + torch.cat(errors, dim=1).amin(dim=1).mean() / 4
        expected = expected + 1e-3 / 2**s * 0.5 * sum(variation(m[s]) for m in maps) / 4
    assert maps[0][0].abs().mean() > 0.3
    torch.testing.assert_close(ours.total, expected, atol=1e-5, rtol=0)


def test_stage_two_as_a_whole(recipe, batch):
    """Half the sum over two frames: no minimum, no auto-mask."""
    target, sources = pictures(batch)
    model = recipe.model
    ours = recipe.loss("motion", batch, Clock(0, 10, 0))
    disparities = model.depth(target)
    terms = dict.fromkeys(("photometric", "appearance", "appearance_smoothness"), torch.zeros(()))
    for source in sources:
        warped = moved(source, flows(model, source, target)[0])
        seen = covered(flows(model, target, source)[0])
        assert 0.2 < seen.float().mean() < 0.98
        changes = model.appearance(torch.cat([warped, target], dim=1))
        for s in range(4):
            change = full(changes[s])
            refined = (target + change * seen).clamp(0, 1)
            depth = 1 / (1 / 150 + (1 / 0.1 - 1 / 150) * full(disparities[s]))
            made = moved_by_motion(model, source, target, depth, batch["intrinsics"])
            terms["photometric"] = terms["photometric"] + 0.5 * over(plain_photometric(made, refined), seen) / 4
            terms["appearance"] = terms["appearance"] + 0.5 * over((refined - warped).abs(), seen) / 4
            smooth = variation(change, target - warped, seen)
            terms["appearance_smoothness"] = terms["appearance_smoothness"] + 0.5 * smooth / 4
    terms["smoothness"] = sum(smallness(d, target) / 2**s for s, d in enumerate(disparities)) / 4
    for name, value in terms.items():
        torch.testing.assert_close(ours.terms[name], value, atol=1e-5, rtol=0)
    expected = terms["photometric"] + 0.01 * terms["appearance"] + 0.01 * terms["appearance_smoothness"]
    torch.testing.assert_close(ours.total, expected + 1e-4 * terms["smoothness"], atol=1e-5, rtol=0)


def test_the_flow_of_the_alternating_stage_as_a_whole(recipe, batch):
    """It matches the refined target where both frames show it, and is smooth but at the edges of the picture."""
    target, sources = pictures(batch)
    model = recipe.model
    ours = recipe.loss("flow", batch, Clock(0, 10, 0))
    expected = torch.zeros(())
    for source in sources:
        maps = flows(model, source, target)
        warped = moved(source, maps[0])
        seen = covered(flows(model, target, source)[0])
        refined = (target + model.appearance(torch.cat([warped, target], dim=1))[0] * seen).clamp(0, 1)
        for s, level in enumerate(maps):
            matched = over(plain_photometric(moved(source, full(level)), refined), seen)
            smooth = variation(level, F.interpolate(target, level.shape[-2:], mode="area"))
            expected = expected + 0.5 * (matched + 1e-3 / 2**s * smooth) / 4
    torch.testing.assert_close(ours.total, expected, atol=1e-5, rtol=0)


def test_the_refined_target_is_taught_by_the_photometric_loss(batch):
    """In stage II it is not detached: with the photometric term alone, the appearance network learns. The flow, which
    registers the frames, does not."""
    torch.manual_seed(0)
    alone = Weights(appearance=0.0, appearance_smoothness=0.0, smoothness=0.0)
    made = SfmRecipe(stage="alternating", networks=NETWORKS, weights=alone)
    made.loss("motion", batch, Clock(0, 10, 0)).total.backward()
    assert made.model.appearance.decoder.heads[0].weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in made.model.flow.parameters())
    made.zero_grad()
    made.loss("flow", batch, Clock(0, 10, 0)).total.backward()
    assert made.model.flow.decoder.heads[0].weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in made.model.appearance.parameters())
