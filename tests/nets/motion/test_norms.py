"""What takes the place of BatchNorm."""

import torch
from timm.layers import BatchNormAct2d, GroupNormAct
from torch import nn

from salticid.nets.motion import FrameEncoder, norms


def network():
    return nn.Sequential(nn.Conv2d(3, 48, 1), nn.BatchNorm2d(48), BatchNormAct2d(48, act_layer=nn.SiLU))


def test_groups_take_over_scales_offsets_and_activations():
    old = network()
    for norm in norms.batch_norms(old):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    plain, active = old[1], old[2]
    new = norms.with_group_norm(old)
    assert norms.batch_norms(new) == []
    assert type(new[1]) is nn.GroupNorm
    assert isinstance(new[2], GroupNormAct)
    assert new[1].num_groups == 16  # what 32 and 48 have in common
    x = torch.randn(2, 48, 5, 7)
    expected = nn.functional.group_norm(x, 16, plain.weight, plain.bias)
    torch.testing.assert_close(new[1](x), expected)
    expected = nn.functional.silu(nn.functional.group_norm(x, 16, active.weight, active.bias))
    torch.testing.assert_close(new[2](x), expected)


def test_unrecorded_batches_are_normalised_all_the_same():
    net = network()
    x = torch.randn(4, 3, 5, 7)
    expected = net(x)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with norms.unrecorded(norms.batch_norms(net)):
        assert torch.equal(net(x), expected)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    net(x)
    assert net[1].num_batches_tracked == 2
    assert not torch.equal(net[1].running_mean, before["1.running_mean"])


def test_synchronised_statistics_are_batch_statistics_where_there_is_one_process():
    torch.manual_seed(0)
    plain = FrameEncoder("resnet18")
    shared = FrameEncoder("resnet18", norm="sync")
    shared.load_state_dict(plain.state_dict())
    assert any(isinstance(module, norms.SharedBatchNorm) for module in shared.modules())
    images = torch.rand(2, 3, 64, 64)
    for ours, theirs in zip(shared(images), plain(images), strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(shared.eval()(images), plain.eval()(images), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_synchronised_norms_keep_activations_and_are_recomputed_unrecorded():
    plain, shared = network(), norms.converted(network(), "sync")
    shared.load_state_dict(plain.state_dict())
    x = torch.randn(4, 3, 5, 7)
    assert torch.equal(shared(x), plain(x))  # SiLU after the second
    before = {name: value.clone() for name, value in shared.state_dict().items()}
    with norms.unrecorded(norms.batch_norms(shared)):
        shared(x)
    assert all(torch.equal(value, before[name]) for name, value in shared.state_dict().items())
    encoder = FrameEncoder("test_resnet", norm="sync")
    encoder.checkpoint_activations()
    sum(level.mean() for level in encoder(torch.rand(2, 3, 64, 64))).backward()
    counts = [norm.num_batches_tracked.item() for norm in norms.batch_norms(encoder)]
    assert set(counts) == {1}
