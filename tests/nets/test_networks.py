"""The panorama networks: shapes, and the symmetries that the sphere demands of them."""

import math

import pytest
import torch

from salticid.geometry import se3
from salticid.geometry.cameras import UCM, Equirectangular, pixel_grid
from salticid.geometry.rig import Rig
from salticid.geometry.stitch import look_from
from salticid.nets.blocks import Conv, ResBlock, TimeEmbedding
from salticid.nets.fusion import AttentionFusion, Average, ConcatConv, RayFusion
from salticid.nets.kl_encoder import DiagonalGaussian, KLEncoder
from salticid.nets.panorama_unet import PanoramaUNet, Sketch


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def ring(radius=0.15):
    return Rig.ring(4, UCM.centred(64, 64, f=18.0, xi=0.9), radius=radius)


def randomised(module):
    """Zero-initialised layers hide mistakes: fill them."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return module.eval()


@pytest.mark.parametrize("shift", [1, 5])
def test_a_wrapping_convolution_commutes_with_turning(shift):
    conv, image = Conv(3, 5, wrap=True), torch.randn(2, 3, 8, 16)
    torch.testing.assert_close(conv(image.roll(shift, -1)), conv(image).roll(shift, -1))
    plain = Conv(3, 5)
    assert not torch.allclose(plain(image.roll(shift, -1)), plain(image).roll(shift, -1), atol=1e-3)


def test_a_new_residual_block_is_the_identity():
    block, image = ResBlock(16, 16, time=8), torch.randn(2, 16, 4, 8)
    torch.testing.assert_close(block(image, torch.randn(2, 8)), image)


def test_time_embedding_tells_times_apart():
    times = torch.tensor([0.0, 1.0, 500.0, 999.0, 1000.0])
    embedding = TimeEmbedding(32)(times)
    distance = torch.cdist(embedding, embedding) + torch.eye(5)
    assert distance.min() > 1e-3


def test_kl_of_the_prior_is_zero_and_of_a_shifted_gaussian_half_its_square():
    zero = torch.zeros(2, 4, 3, 3)
    assert DiagonalGaussian(zero, zero).kl().tolist() == [0, 0]
    torch.testing.assert_close(DiagonalGaussian(zero + 2, zero).kl(), torch.full((2,), 2.0 * 36))


def test_kl_agrees_with_torch_distributions():
    mean, log_variance = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    ours = DiagonalGaussian(mean, log_variance).kl()
    normal = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    theirs = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).flatten(1).sum(1)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_the_encoder_reduces_by_its_levels():
    posterior = KLEncoder((8, 16, 16), 4)(torch.randn(2, 3, 32, 32))
    assert posterior.mean.shape == posterior.log_variance.shape == (2, 4, 4, 4)


def test_ray_fusion_does_not_care_about_the_order_of_views():
    fusion, rig, latents = (
        randomised(RayFusion(4, hidden=16, inverse_distances=(0.0, 0.5))),
        ring(),
        torch.randn(2, 4, 4, 8, 8),
    )
    order = [2, 0, 3, 1]
    shuffled = Rig(tuple(rig.cameras[i] for i in order), rig.poses[order], tuple(rig.names[i] for i in order))
    torch.testing.assert_close(
        fusion(latents, rig, 8, 16), fusion(latents[:, order], shuffled, 8, 16), rtol=1e-4, atol=1e-5
    )


def test_turning_the_views_of_a_ring_turns_the_fused_latent():
    """Panorama turned by a quarter = views moved on by one: exact, because both go through the same cameras."""
    fusion, latents = (
        randomised(RayFusion(4, hidden=16, inverse_distances=(0.0, 0.5))),
        torch.randn(2, 4, 4, 8, 8),
    )
    turned = fusion(latents.roll(1, dims=1), ring(), 8, 16)
    torch.testing.assert_close(turned, fusion(latents, ring(), 8, 16).roll(4, -1), rtol=1e-3, atol=1e-4)


def test_ray_fusion_takes_any_number_of_views_and_says_where_it_saw_nothing():
    fusion = RayFusion(4, hidden=16)
    front = Rig.ring(1, UCM.centred(64, 64, f=60.0, xi=0.9))
    latents = torch.randn(1, 1, 4, 8, 8, requires_grad=True)
    found, seen = fusion.look(latents[:, 0], front, 0, 16, 32)
    assert seen[0, 0, 8, 16]
    assert not seen[0, 0, 8, 0]  # behind the camera
    assert not found[0, :, 8, 0].any()
    fusion(latents, front, 16, 32).sum().backward()
    assert latents.grad is not None
    assert latents.grad.isfinite().all()


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("jittered", [False, True])
def test_rays_look_where_the_stitch_looks(jittered, autocast):
    """A latent of its own pixel coordinates tells where it was read; so do a linear solver and the camera."""
    batch, distances = 3, (math.inf, 2.0, 0.5)
    rig = ring(0.15)
    if jittered:
        turns = se3.pose(se3.axis_angle_to_matrix(0.2 * torch.randn(batch, 4, 3)))
        camera = UCM.centred(64, 64, f=torch.tensor([17.0, 18.0, 19.0]), xi=torch.tensor([0.8, 0.9, 1.0]))
        rig = Rig((camera,) * 4, se3.compose(rig.poses, turns), rig.names)
    fusion = RayFusion(2, inverse_distances=tuple(1 / d for d in distances))
    latent = pixel_grid(8, 8).permute(2, 0, 1).expand(batch, -1, -1, -1)
    rays, _ = Equirectangular(8, 16).rays()
    for i in range(4):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found, seen = fusion.look(latent, rig, i, 8, 16)
        assert found.dtype == torch.float32
        covered = torch.zeros(batch, 8, 16, dtype=torch.bool)
        for distance, read in zip(distances, found.unflatten(1, (3, 6)).unbind(1), strict=True):
            pixels, weight = look_from(rig.resized(8, 8), i, rays, distance)
            to_rig = rig.poses[..., i, :, :].double().reshape(-1, 1, 1, 4, 4)
            homogeneous = torch.cat((rays, torch.full((8, 16, 1), 1 / distance)), dim=-1).double()
            points = torch.linalg.solve(to_rig, homogeneous[..., None])[..., :3, 0]
            moved, valid = rig.cameras[i].resized(8, 8).project(points)
            torch.testing.assert_close(pixels[valid], moved[valid].float(), atol=1e-4, rtol=0)
            assert torch.equal(weight > 0, valid)
            inside = valid.expand(batch, 8, 16)
            expected = pixels.clamp(0, 7).expand(batch, 8, 16, 2)
            torch.testing.assert_close(read[:, :2].permute(0, 2, 3, 1)[inside], expected[inside], atol=1e-4, rtol=0)
            direction = (points / points.norm(dim=-1, keepdim=True)).float().expand(batch, 8, 16, 3)
            torch.testing.assert_close(read[:, 2:5].permute(0, 2, 3, 1)[inside], direction[inside], atol=1e-5, rtol=0)
            assert torch.equal(read[:, 5] > 0, inside)
            covered |= inside
        assert torch.equal(seen[:, 0], covered)


def test_concat_conv_has_the_public_shape():
    fusion = ConcatConv(4, 4, final_norm=True)
    out = fusion(torch.randn(3, 4, 4, 8, 8), ring(), 8, 16)
    assert out.shape == (3, 4, 8, 16)
    assert out.min() >= -0.2785  # SiLU's lower bound: what the public last layer does to a latent
    convolutions = [m for m in fusion.modules() if isinstance(m, Conv)]
    assert [(m.in_channels, m.out_channels) for m in convolutions] == [(16, 8), (8, 4), (4, 4)]


@pytest.mark.parametrize("stitches", [0, 3])
def test_the_decoder_commutes_with_turning(stitches):
    """Shifts by whole latent cells go straight through a decoder without a seam."""
    sketch = randomised(Sketch(4, stitches=stitches))
    decoder = randomised(PanoramaUNet(stitches=stitches, widths=(16, 16, 16), time=16))
    latent, noisy = torch.randn(1, 4, 4, 8), torch.randn(1, 3, 32, 64)
    guides = (torch.randn(1, stitches, 3, 32, 64), torch.ones(1, 1, 32, 64)) if stitches else (None, None)

    def decode(cells):
        moved = [None if g is None else g.roll(8 * cells, -1) for g in guides]
        drawn = sketch(latent.roll(cells, -1), 32, *moved)
        return decoder(noisy.roll(8 * cells, -1), torch.tensor([500.0]), drawn, *moved)[0]

    torch.testing.assert_close(decode(3), decode(0).roll(24, -1), rtol=1e-3, atol=1e-4)


def test_the_image_head_starts_between_its_stitches():
    sketch = Sketch(4, stitches=2)
    last = sketch.image_head.leave[2]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)
    stitches = torch.stack([torch.full((1, 3, 32, 64), -0.5), torch.full((1, 3, 32, 64), 0.25)], dim=1)
    drawn = sketch(torch.randn(1, 4, 4, 8), 32, stitches, torch.ones(1, 1, 32, 64))
    torch.testing.assert_close(drawn.estimate, torch.full((1, 3, 32, 64), -0.125))


def test_a_coarser_latent_draws_a_panorama_of_the_same_size():
    drawn = Sketch(4)(torch.randn(1, 4, 2, 4), 32, None, None)
    assert drawn.estimate.shape == (1, 3, 32, 64)
    assert Sketch(4, image_head=False)(torch.randn(1, 4, 4, 8), 32, None, None).estimate is None


@pytest.mark.parametrize("kind", [Average, AttentionFusion, RayFusion])
def test_these_fusions_take_views_in_any_number_and_order(kind):
    fusion = randomised(kind(4))
    rig = ring(0.1)
    latents = torch.randn(2, 4, 4, 8, 8)
    made = fusion(latents, rig, 8, 16)
    assert made.shape == (2, 4, 8, 16)
    order = [2, 0, 3, 1]
    turned = Rig(tuple(rig.cameras[i] for i in order), rig.poses[order], tuple(rig.names[i] for i in order))
    torch.testing.assert_close(fusion(latents[:, order], turned, 8, 16), made, rtol=1e-4, atol=1e-4)
    few = Rig(rig.cameras[:3], rig.poses[:3], rig.names[:3])
    assert fusion(latents[:, :3], few, 8, 16).shape == made.shape


def test_attention_does_not_see_beyond_the_image_circle():
    camera = UCM.centred(64, 64, f=18.0, xi=0.9, max_angle=math.radians(60))
    rig = Rig.ring(4, camera)
    fusion, latents = randomised(AttentionFusion(4)), torch.randn(1, 4, 4, 8, 8)
    _, valid = camera.resized(8, 8).rays()
    assert 0 < valid.sum() < 64
    changed = torch.where(valid, latents, 100.0)
    torch.testing.assert_close(fusion(changed, rig, 8, 16), fusion(latents, rig, 8, 16))


def test_attention_knows_where_views_look():
    """Another direction of the same views gives another panorama; a rig for each sample is looked through."""
    fusion, latents = randomised(AttentionFusion(4)), torch.randn(2, 4, 4, 8, 8)
    rig = ring(0.1)
    turned = Rig(rig.cameras, rig.poses.roll(1, 0), rig.names)
    straight, other = fusion(latents, rig, 8, 16), fusion(latents, turned, 8, 16)
    assert (straight - other).abs().max() > 1e-3
    both = Rig(rig.cameras, torch.stack([rig.poses, turned.poses]), rig.names)
    torch.testing.assert_close(fusion(latents, both, 8, 16), torch.cat([straight[:1], other[1:]]), rtol=1e-4, atol=1e-4)
