"""Layers of the video UNet against torch's own, and their limits."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from salticid.nets.video import layers
from salticid.nets.video.layers import Attention, Mixer, TimeBlock, TimeConv


@pytest.mark.parametrize("context", [None, 5])
def test_attention_is_that_of_torch(context):
    ours = Attention(12, 3, context)
    theirs = nn.MultiheadAttention(12, 3, bias=True, kdim=context or 12, vdim=context or 12, batch_first=True)
    inner = torch.cat([ours.to_q.weight, ours.to_k.weight, ours.to_v.weight]) if context is None else None
    own = {"in_proj_weight": inner, "in_proj_bias": torch.zeros(36)}
    if context:
        own = {f"{k}_proj_weight": getattr(ours, f"to_{k}").weight for k in "qkv"} | {"in_proj_bias": torch.zeros(36)}
    own |= {f"out_proj.{k}": v for k, v in ours.to_out[0].state_dict().items()}
    theirs.load_state_dict(own)
    x, other = torch.randn(2, 7, 12), None if context is None else torch.randn(2, 4, context)
    y = x if other is None else other
    torch.testing.assert_close(ours(x, other), theirs(x, y, y)[0])


def test_attention_of_many_sequences_is_computed_in_parts(monkeypatch):
    attention, x, other = Attention(8, 2, 3), torch.randn(7, 5, 8), torch.randn(7, 2, 3)
    whole = attention(x, other)
    monkeypatch.setattr(layers, "MOST", 3)
    torch.testing.assert_close(attention(x, other), whole)


def test_context_for_all_places_is_that_for_each(alive):
    """Queries of all places in one sequence give the same as a copy of the context for each place."""
    block = alive(TimeBlock(8, 2, 6))
    x, context = torch.randn(3, 4, 5, 8), torch.randn(3, 2, 6)
    torch.testing.assert_close(block(x, context), block(x, context[:, None].expand(-1, 5, -1, -1)))


def test_time_convolution_is_the_3d_one():
    layer, x = TimeConv(4, 6), torch.randn(2, 4, 5, 3 * 7)
    expected = F.conv3d(x.unflatten(3, (3, 7)), layer.weight, layer.bias, padding=(1, 0, 0)).flatten(3)
    torch.testing.assert_close(layer(x), expected)


def test_mixer_weighs_and_leaves_single_pictures_alone():
    mixer, spatial, temporal = Mixer(), torch.randn(3, 2, 4), torch.randn(3, 2, 4)
    share = torch.tensor(0.5).sigmoid()
    torch.testing.assert_close(mixer(spatial, temporal), share * spatial + (1 - share) * temporal)
    mixed = mixer(spatial, temporal, torch.tensor([False, True, False]))
    assert torch.equal(mixed[1], spatial[1])
    assert torch.equal(mixed[0], mixer(spatial, temporal)[0])


def test_single_pictures_do_not_teach_temporal_layers():
    mixer, temporal = Mixer(), torch.randn(2, 3, requires_grad=True)
    mixer(torch.randn(2, 3), temporal, torch.tensor([True, False])).sum().backward()
    assert temporal.grad is not None
    assert not temporal.grad[0].any()
    assert temporal.grad[1].all()
