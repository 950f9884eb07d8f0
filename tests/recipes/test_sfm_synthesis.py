"""All maps and sources together are what each of them is alone."""

import pytest
import torch
from torch import Tensor

from salticid.data.motion import lens_of
from salticid.geometry import se3
from salticid.geometry.warp import reproject, sample
from salticid.recipes.sfm.model import Motions
from salticid.recipes.sfm.synthesis import Synthesis, synthesise

LENSES = {
    "pinhole": [],
    "ucm": [0.9],
    "double_sphere": [-0.2, 0.6],
    "kannala_brandt": [0.05, -0.01, 0.002, -0.001],
}


def one_by_one(sources: Tensor, depth: Tensor, motions: Motions, measure: str) -> Synthesis:
    """Rays, motion and look-up anew for every map and source."""
    camera, rows = lens_of(motions.intrinsics, *depth.shape[-2:]), []
    for s in range(depth.shape[1]):
        for k in range(sources.shape[1]):
            found = reproject(depth[:, s : s + 1], camera, motions.to_source[:, k], camera, measure=measure)
            image = sample(sources[:, k], found.pixels)
            rows.append((image, found.valid[:, 0], found.pixels, found.distance_b[:, 0]))
    shape = (depth.shape[1], sources.shape[1])
    return Synthesis(*(torch.stack(field, dim=1).unflatten(1, shape) for field in zip(*rows, strict=True)))


@pytest.mark.parametrize("measure", ["depth", "distance"])
@pytest.mark.parametrize("lens", LENSES)
def test_maps_and_sources_share_without_a_difference(lens: str, measure: str) -> None:
    """Learnt intrinsics among what has gradients."""
    draw = torch.Generator().manual_seed(0)
    sources = torch.rand(2, 3, 3, 8, 10, generator=draw, dtype=torch.float64)
    depth = (1 + torch.rand(2, 4, 8, 10, generator=draw, dtype=torch.float64)).requires_grad_()
    twists = (0.05 * torch.randn(2, 3, 6, generator=draw, dtype=torch.float64)).requires_grad_()
    values = torch.tensor([[6.0, 6.5, 4.5, 3.5, *LENSES[lens]], [7.0, 6.0, 4.0, 4.0, *LENSES[lens]]])
    leaves = (depth, twists, values.double().requires_grad_())
    poses = se3.pose(se3.axis_angle_to_matrix(twists[..., :3]), twists[..., 3:])
    both = [make(sources, depth, Motions(poses, leaves[2]), measure) for make in (synthesise, one_by_one)]
    for ours, theirs in zip(*both, strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=0)
    weights = torch.randn(both[0].images.shape, generator=draw, dtype=torch.float64)
    losses = [(made.images * weights).sum() + made.far.where(made.valid, 0.0).sum() for made in both]
    for ours, theirs in zip(*(torch.autograd.grad(loss, leaves, retain_graph=True) for loss in losses), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)
        assert ours.abs().max() > 0
