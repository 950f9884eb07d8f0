"""The frame encoder against torchvision's ResNet; sizes, norms and recomputation."""

import pytest
import torch
import torchvision
from torch import nn

from salticid.errors import ConfigError
from salticid.nets.motion import FrameEncoder


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def by_hand(network, x):
    """The five levels of torchvision's ResNet."""
    levels = [network.relu(network.bn1(network.conv1(x)))]
    x = network.maxpool(levels[0])
    for layer in (network.layer1, network.layer2, network.layer3, network.layer4):
        x = layer(x)
        levels.append(x)
    return levels


@pytest.mark.parametrize("normalise", [True, False])
def test_levels_are_those_of_torchvision(tmp_path, normalise):
    """1e-5 relative, and the normalisation is Monodepth2's."""
    theirs = torchvision.models.resnet18().eval()
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    ours = FrameEncoder(pretrained=tmp_path / "resnet18.pth", normalise=normalise).eval()
    assert ours.channels == (64, 64, 128, 256, 512)
    assert parameters(ours) == parameters(theirs) - parameters(theirs.fc)
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        expected = by_hand(theirs, (images - 0.45) / 0.225 if normalise else images)
        for got, level in zip(ours(images), expected, strict=True):
            torch.testing.assert_close(got, level, rtol=1e-5, atol=1e-5)


def test_a_new_resnet_starts_as_torchvisions():
    """No residual branch is silent."""
    assert all(bool((block.bn2.weight == 1).all()) for block in FrameEncoder().backbone.layer2)


@pytest.mark.parametrize(("height", "width"), [(190, 318), (33, 65), (64, 96)])
def test_levels_of_any_size_are_halves_rounded_up(resnet, height, width):
    with torch.no_grad():
        maps = resnet(torch.rand(1, 3, height, width))
    assert [tuple(level.shape[-2:]) for level in maps] == [(-(-height // s), -(-width // s)) for s in (2, 4, 8, 16, 32)]


def test_an_odd_image_is_extended_by_its_border(resnet):
    images = torch.rand(1, 3, 64, 96)
    images[..., 60:, :] = images[..., 60:61, :]
    with torch.no_grad():
        whole, cut = resnet(images), resnet(images[..., :61, :])
    for level, part in zip(whole, cut, strict=True):
        torch.testing.assert_close(part, level[..., : part.shape[-2], :])


def test_a_backbone_that_starts_at_stride_four_gets_a_first_level():
    """MambaOut's maps also have their channels last."""
    encoder = FrameEncoder("mambaout_femto", images=2)
    assert encoder.channels == (64, 48, 96, 192, 288)
    maps = encoder(torch.rand(1, 6, 70, 101))
    assert [tuple(level.shape[1:]) for level in maps] == [
        (64, 35, 51), (48, 18, 26), (96, 9, 13), (192, 5, 7), (288, 3, 4)
    ]  # fmt: skip
    sum(level.square().mean() for level in maps).backward()
    assert encoder.stem[0].weight.grad.abs().max() > 0


def test_frozen_statistics_stay_in_training():
    encoder = FrameEncoder(norm="frozen").train()
    before = {name: value.clone() for name, value in encoder.named_buffers()}
    images = torch.rand(2, 3, 64, 64)
    maps = encoder(images)
    assert all(torch.equal(value, before[name]) for name, value in encoder.named_buffers())
    # samples do not mix
    torch.testing.assert_close(maps[4][:1], encoder(images[:1])[4], rtol=1e-4, atol=1e-4)
    maps[4].mean().backward()
    assert encoder.backbone.bn1.weight.grad is not None


def test_group_norm_is_wanted_of_networks_with_batch_norm():
    with pytest.raises(ConfigError, match=r"^recipe.encoder.norm: group, but pvt_v2_b0 has no BatchNorm; expected ba"):
        FrameEncoder("pvt_v2_b0", norm="group")


@pytest.mark.parametrize(("backbone", "staged"), [("resnet18", True), ("mobilenetv3_small_050", False)])
def test_recomputation_changes_neither_gradients_nor_statistics(backbone, staged):
    """Bit for bit: dropout is drawn again the same, BatchNorm sees the batch once. Of the ResNet, little is kept."""
    encoder = FrameEncoder(backbone, images=2)
    if staged:
        encoder.backbone.layer2.append(nn.Dropout(0.5))
    state = {name: value.clone() for name, value in encoder.state_dict().items()}
    images = torch.rand(2, 6, 64, 96)
    results, kept = [], []
    for recompute in (False, True):
        encoder.load_state_dict(state)
        encoder.zero_grad()
        if recompute:
            encoder.checkpoint_activations()
        torch.manual_seed(1)
        sizes: list[int] = []

        def pack(tensor, sizes=sizes):
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            total = sum(level.square().mean() for level in encoder(images))
        kept.append(sum(sizes))
        total.backward()
        gradients = {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}
        results.append({**{name: g.clone() for name, g in gradients.items()}, **dict(encoder.named_buffers())})
        results[-1] = {name: value.clone() for name, value in results[-1].items()}
    plain, again = results
    assert plain.keys() == again.keys()
    assert all(torch.equal(plain[name], again[name]) for name in plain)
    assert any(not torch.equal(state[name], again[name]) for name, _ in encoder.named_buffers())
    assert kept[1] < 0.5 * kept[0]


def test_no_gradient_no_recomputation(resnet):
    images = torch.rand(1, 3, 64, 64)
    encoder = FrameEncoder().eval()
    encoder.load_state_dict(resnet.state_dict())
    encoder.checkpoint_activations()
    with torch.no_grad():
        for got, level in zip(encoder(images), resnet(images), strict=True):
            torch.testing.assert_close(got, level, rtol=0, atol=0)
