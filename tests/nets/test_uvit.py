"""SSDD's networks: exact sizes and names, the closed forms behind the fast ones, and the circle."""

import pytest
import torch
import torch.nn.functional as F

from salticid.nets import uvit
from salticid.nets.ldm_encoder import LDMEncoder
from salticid.nets.uvit import FAR, SIZES, RelativePositionBias, Size, SpatialAdaGroupNorm, UViT

SMALL = Size((32, 32, 64, 64), 3, 2)
COUNTS = {"S": 14_057_059, "B": 21_140_459, "M": 50_280_147, "L": 90_759_939, "XL": 161_272_835, "H": 362_688_003}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def randomised(module):
    """Zero-initialised layers hide mistakes: fill them."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return module.eval()


def parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", SIZES)
def test_decoders_have_the_sizes_of_the_paper(name):
    with torch.device("meta"):
        assert parameters(UViT(SIZES[name])) == COUNTS[name]


@pytest.mark.parametrize(("downsampling", "count"), [(8, 34_163_664), (16, 45_966_800), (32, 57_769_936)])
def test_encoders_have_the_sizes_of_the_public_code(downsampling, count):
    with torch.device("meta"):
        assert parameters(LDMEncoder(downsampling)) == count


def test_the_parts_of_size_m_have_the_counts_that_are_known():
    with torch.device("meta"):
        decoder = UViT(SIZES["M"])
    counts = {name: parameters(child) for name, child in decoder.named_children()}
    assert counts == {
        "conv_in": 6_144,
        "time_embedding": 185_088,
        "ada_ctx_proj": 86_592,
        "down_blocks": 10_087_584,
        "mid_block": 16_815_024,
        "up_blocks": 23_096_928,
        "conv_norm_out": 192,
        "conv_out": 2_595,
    }
    assert parameters(decoder.mid_block.transformer_blocks[0]) == 1_387_332


def test_the_encoder_is_that_of_latent_diffusion():
    """Against diffusers' encoder with the same weights, 1e-5 relative."""
    from diffusers.models.autoencoders.vae import Encoder

    theirs = Encoder(
        out_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        double_z=True,
    ).eval()
    ours = LDMEncoder(8).eval()
    state = {name: rename(name, ours) for name in theirs.state_dict()}
    with torch.no_grad():
        for name, tensor in theirs.state_dict().items():
            tensor.copy_(ours.state_dict()[state[name]].reshape(tensor.shape))
        image = torch.rand(1, 3, 32, 64) * 2 - 1
        expected = ours.out_proj(theirs(image))
        got = ours(image)
    torch.testing.assert_close(torch.cat([got.mean, got.log_variance], 1), expected, rtol=1e-5, atol=1e-5)


def rename(name, ours):
    """diffusers' name of an encoder parameter → that of latent diffusion."""
    for theirs, mine in (
        ("down_blocks.", "down."),
        (".resnets.", ".block."),
        ("conv_shortcut", "nin_shortcut"),
        (".downsamplers.0.", ".downsample."),
        ("mid_block.block.0", "mid.block_1"),
        ("mid_block.block.1", "mid.block_2"),
        ("mid_block.attentions.0.group_norm", "mid.attn_1.norm"),
        ("mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out"),
        ("mid_block.attentions.0.to_", "mid.attn_1."),
        ("conv_norm_out", "norm_out"),
    ):
        name = name.replace(theirs, mine)
    assert name in ours.state_dict()
    return name


def test_context_is_projected_once_a_cell_as_if_at_every_pixel():
    """Against the straightforward way: enlarge the context, project, normalise, scale and shift; 1e-12 in float64."""
    norm = randomised(SpatialAdaGroupNorm(64, 8)).double()
    x, context = torch.randn(2, 64, 8, 16, dtype=torch.float64), torch.randn(2, 8, 2, 4, dtype=torch.float64)
    scale, shift = norm.ctx_proj(F.interpolate(context, scale_factor=4.0)).chunk(2, dim=1)
    torch.testing.assert_close(norm(x, context), F.group_norm(x, 32) * (1 + scale) + shift, rtol=0, atol=1e-12)
    scale, shift = norm.ctx_proj(context).chunk(2, dim=1)
    small = x[..., :2, :4]
    torch.testing.assert_close(norm(small, context), F.group_norm(small, 32) * (1 + scale) + shift)


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize(("height", "width"), [(16, 32), (4, 8), (9, 15)])
def test_position_bias_is_a_lookup_of_the_offset(height, width, wrap):
    bias = RelativePositionBias(2, wrap=wrap).double()
    torch.nn.init.normal_(bias.relative_bias_table)
    made = bias(height, width).detach()
    table = bias.relative_bias_table.detach()
    for _ in range(200):
        (y, v), (x, u) = torch.randint(height, (2,)).tolist(), torch.randint(width, (2,)).tolist()
        down, across = v - y, u - x
        if wrap:
            across = (across + width // 2) % width - width // 2
        near = abs(down) < 8 and abs(across) < 8
        expected = table[down + 7, across + 7] if near else torch.full((2,), FAR, dtype=torch.float64)
        torch.testing.assert_close(made[:, y * width + x, v * width + u], expected)


def test_position_bias_hands_gradients_to_the_table():
    bias = RelativePositionBias(1, wrap=True).double()
    torch.nn.init.normal_(bias.relative_bias_table)
    weights = torch.randn(1, 20, 20, dtype=torch.float64)

    def total(table):
        return (torch.func.functional_call(bias, {"relative_bias_table": table}, (2, 10)) * weights).sum()

    assert torch.autograd.gradcheck(total, bias.relative_bias_table.detach().requires_grad_())


def test_an_optimiser_step_changes_the_position_bias():
    """Nothing that depends on a parameter is remembered between forward passes."""
    bias = RelativePositionBias(2, wrap=True)
    before = bias(8, 16).detach().clone()
    with torch.no_grad():
        bias.relative_bias_table += 1
    assert ((bias(8, 16) - before).amax() - 1).abs() < 1e-3


@pytest.mark.parametrize(("downsampling", "extra"), [(8, 0), (16, 4), (32, 0)])
def test_decoders_take_grids_that_are_not_square(downsampling, extra):
    net = randomised(UViT(SMALL, extra=extra))
    z = torch.randn(2, 4, 64 // downsampling, 128 // downsampling)
    beside = torch.randn(2, extra, 64, 128) if extra else None
    out, features = net(torch.randn(2, 3, 64, 128), torch.tensor([10.0, 900.0]), z, beside)
    assert out.shape == (2, 3, 64, 128)
    assert features.shape == (2, net.feature_channels, 8, 16)
    assert out.dtype == torch.float32


@pytest.mark.parametrize(("wrap", "same"), [(True, True), (False, False)])
def test_turning_the_world_turns_the_panorama(wrap, same):
    """A turn by whole latent cells: exact with wrap (1e-4), and not at all without."""
    net = randomised(UViT(SMALL, wrap=wrap))
    x, z, t = torch.randn(1, 3, 32, 64), torch.randn(1, 4, 4, 8), torch.tensor([300.0])
    straight, turned = net(x, t, z)[0].roll(16, -1), net(x.roll(16, -1), t, z.roll(2, -1))[0]
    difference = (straight - turned).abs().max() / straight.abs().max()
    assert bool(difference < 1e-4) == same


def test_a_new_decoder_is_blind_to_nothing_it_should_see():
    """Picture, time and latent all change the output once weights are not zero; samples do not mix."""
    net = randomised(UViT(SMALL))
    x, t, z = torch.randn(2, 3, 32, 64), torch.tensor([100.0, 700.0]), torch.randn(2, 4, 4, 8)
    out, _ = net(x, t, z)
    for change in ((x + 0.1, t, z), (x, t + 100, z), (x, t, z + 0.1)):
        assert (net(*change)[0] - out).abs().max() > 1e-3
    torch.testing.assert_close(net(x[1:], t[1:], z[1:])[0], out[1:], rtol=1e-3, atol=1e-3)


def test_new_residual_branches_are_silent():
    net = UViT(SMALL)
    block = net.down_blocks[1].resnets[1]
    x = torch.randn(1, 32, 8, 16)
    torch.testing.assert_close(block(x, torch.randn(1, 128), torch.randn(1, 32, 2, 4)), x)
    layer = net.mid_block.transformer_blocks[0]
    assert layer.ff.proj_out.weight.abs().max() == 0
    assert net.conv_in.weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_recomputing_gives_the_same_gradients():
    net = randomised(UViT(SMALL))
    x, t, z = torch.randn(1, 3, 32, 64), torch.tensor([500.0]), torch.randn(1, 4, 4, 8)
    grads = []
    for recompute in (False, True):
        for module in net.modules():
            if isinstance(module, uvit.Recomputable):
                module.recompute = recompute
        net.zero_grad()
        net(x, t, z)[0].square().mean().backward()
        grads.append([p.grad.clone() for p in net.parameters()])
    for kept, again in zip(*grads, strict=True):
        torch.testing.assert_close(kept, again)


@pytest.mark.gpu
def test_a_gpu_agrees_with_the_cpu():
    net = randomised(UViT(SMALL))
    x, t, z = torch.randn(1, 3, 32, 64), torch.tensor([500.0]), torch.randn(1, 4, 4, 8)
    expected, _ = net(x, t, z)
    torch.backends.cudnn.allow_tf32 = False
    got, _ = net.cuda()(x.cuda(), t.cuda(), z.cuda())
    torch.testing.assert_close(got.cpu(), expected, rtol=1e-3, atol=1e-3)
