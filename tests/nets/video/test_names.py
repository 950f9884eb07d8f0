"""Against diffusers' network: the same names, shapes and answers."""

from dataclasses import replace

import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel

from salticid.nets.blocks import sinusoids
from salticid.nets.video import (
    SV4D,
    SVD,
    VideoUNet,
    VideoUNetConfig,
    config_from_diffusers,
    config_to_diffusers,
    from_diffusers,
    to_diffusers,
)

SMALL = VideoUNetConfig(
    widths=(32, 64, 64),
    blocks=2,
    attention=(True, True, False),
    heads=(2, 4, 4),
    context=24,
    vector=48,
    diffusers_norms=True,
)
FRAMES = 3


@pytest.fixture(scope="module")
def pair():
    """Theirs with random weights, ours with theirs."""
    torch.manual_seed(0)
    theirs = UNetSpatioTemporalConditionModel(**config_to_diffusers(SMALL)).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "norm" in name or "mix_factor" in name:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    ours = VideoUNet(SMALL).eval()
    ours.load_state_dict(from_diffusers(SMALL, ours.state_dict(), theirs.state_dict()))
    return ours, theirs


@torch.no_grad()
@pytest.mark.parametrize("size", [(16, 8), (10, 14)])
def test_answers_are_those_of_diffusers(pair, size):
    """Two clips, so that frames of one must not meet the context of the other; a size that halves to odd ones, too."""
    ours, theirs = pair
    x, time, context = torch.randn(2, FRAMES, 8, *size), torch.randn(2), torch.randn(2, 1, 24)
    numbers = torch.tensor([[6.0, 127.0, 0.02], [13.0, 20.0, 0.3]])
    vector = sinusoids(numbers.flatten(), 16).view(2, -1)
    expected = theirs(x, time, context, numbers).sample.flatten(0, 1)
    given = {"context": context, "vector": vector, "frames": FRAMES}
    assert expected.std() > 0.1
    torch.testing.assert_close(ours(x.flatten(0, 1), time, **given), expected, rtol=1e-5, atol=1e-5)
    with torch.enable_grad():  # attention to a single token is computed only where it can learn
        torch.testing.assert_close(ours(x.flatten(0, 1), time, **given), expected, rtol=1e-5, atol=1e-5)


def test_gradients_are_those_of_diffusers(pair):
    ours, theirs = pair
    x, time, context, numbers = torch.randn(2, FRAMES, 8, 8, 8), torch.randn(2), torch.randn(2, 1, 24), torch.rand(2, 3)
    theirs(x, time, context, numbers).sample.square().mean().backward()
    vector = sinusoids(numbers.flatten(), 16).view(2, -1)
    ours(x.flatten(0, 1), time, context=context, vector=vector, frames=FRAMES).square().mean().backward()
    expected = from_diffusers(SMALL, ours.state_dict(), {n: p.grad for n, p in theirs.named_parameters()})
    found = {name: p.grad for name, p in ours.named_parameters()}
    ours.zero_grad()
    theirs.zero_grad()
    largest = max(value.abs().max() for value in expected.values())
    assert set(found) == set(expected)
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-5 * float(largest))


def test_the_norms_of_generative_models_are_a_little_different(pair):
    """Hence the switch: with ε = 1e-5 throughout the answers differ by more than rounding."""
    ours, _ = pair
    other = VideoUNet(replace(SMALL, diffusers_norms=False)).eval()
    other.load_state_dict(ours.state_dict())
    given = {"context": torch.randn(1, 1, 24), "vector": torch.randn(1, 48), "frames": FRAMES}
    x, time = torch.randn(FRAMES, 8, 8, 8), torch.randn(1)
    with torch.no_grad():
        difference = (ours(x, time, **given) - other(x, time, **given)).abs().max()
    assert 1e-5 < difference < 1e-2


def test_the_full_size_maps_both_ways():
    with torch.device("meta"):
        ours, theirs = VideoUNet(SVD).state_dict(), UNetSpatioTemporalConditionModel().state_dict()
    mapped = to_diffusers(SVD, ours)
    assert {name: value.shape for name, value in mapped.items()} == {n: v.shape for n, v in theirs.items()}
    back = from_diffusers(SVD, ours, theirs)
    assert {name: value.shape for name, value in back.items()} == {n: v.shape for n, v in ours.items()}


def test_a_round_trip_gives_the_same_tensors(svd):
    back = from_diffusers(svd.config, svd.state_dict(), to_diffusers(svd.config, svd.state_dict()))
    assert all(torch.equal(value, back[name]) for name, value in svd.state_dict().items())


def test_unknown_names_are_kept_or_refused():
    with torch.device("meta"):
        unet = VideoUNet(SMALL)
    assert set(from_diffusers(SMALL, unet.state_dict(), {"strange": torch.zeros(1)})) == {"strange"}
    with pytest.raises(ValueError, match="strange is no weight"):
        to_diffusers(SMALL, {"strange": torch.zeros(1)})


def test_diffusers_has_no_sv4d():
    for ask in (lambda: to_diffusers(SV4D, {}), lambda: config_to_diffusers(SV4D)):
        with pytest.raises(ValueError, match="no network of views and frames"):
            ask()


def test_configurations_map_both_ways(pair):
    assert config_from_diffusers(pair[1].config) == SMALL
    with torch.device("meta"):
        default = UNetSpatioTemporalConditionModel()
    assert config_from_diffusers(default.config) == replace(SVD, diffusers_norms=True)
    assert config_from_diffusers({"num_attention_heads": 5}).heads == (5,) * 4
    with pytest.raises(ValueError, match="5 numbers do not divide a vector of length 768"):
        config_to_diffusers(SVD, numbers=5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"down_block_types": ["DownBlock2D"] * 4}, "down_block_types has DownBlock2D"),
        ({"up_block_types": ["UpBlockSpatioTemporal"] * 4}, "not the mirror image"),
        ({"layers_per_block": [2, 2, 2, 1]}, "layers_per_block is"),
        ({"transformer_layers_per_block": 2}, "transformer_layers_per_block is 2; expected 1"),
    ],
)
def test_other_networks_of_diffusers_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        config_from_diffusers(given)
