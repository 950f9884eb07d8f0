"""The U-Net decoders: sizes, heads, precision and export."""

import pytest
import torch
from torch import nn

from salticid.errors import UserError
from salticid.nets.motion import DepthDecoder, PoseDecoder, PositionDecoder, TransformDecoder

RESNET18, RESNET50 = (64, 64, 128, 256, 512), (64, 256, 512, 1024, 2048)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("decoder", "channels", "count"),
    [
        (DepthDecoder, RESNET18, 3_152_724),
        (PositionDecoder, RESNET18, 3_154_888),
        (TransformDecoder, RESNET18, 3_157_052),
        (DepthDecoder, RESNET50, 9_014_100),
    ],
)
def test_decoders_have_the_sizes_of_the_originals(decoder, channels, count):
    assert parameters(decoder(channels)) == count


def test_convolutions_have_the_channels_of_the_originals():
    with torch.device("meta"):
        levels = DepthDecoder(RESNET18).levels
    channels = [(c.in_channels, c.out_channels) for level in levels for c in (level.before, level.after)]
    expected = [(32, 16), (16, 16), (64, 32), (96, 32), (128, 64), (128, 64), (256, 128), (256, 128)]
    assert channels == [*expected, (512, 256), (512, 256)]


def maps(height, width, batch=2):
    sizes = [(-(-height // s), -(-width // s)) for s in (2, 4, 8, 16, 32)]
    return [torch.randn(batch, n, *size) for n, size in zip(RESNET18, sizes, strict=True)]


@pytest.mark.parametrize(("height", "width"), [(190, 318), (64, 96), (33, 33)])
@pytest.mark.parametrize(("decoder", "channels"), [(DepthDecoder, 1), (PositionDecoder, 2), (TransformDecoder, 3)])
def test_scales_are_halves_of_the_image_rounded_up(decoder, channels, height, width):
    outputs = decoder(RESNET18)(maps(height, width, batch=1), (height, width))
    assert [tuple(x.shape) for x in outputs] == [(1, channels, -(-height // s), -(-width // s)) for s in (1, 2, 4, 8)]


def test_levels_stay_aligned_at_odd_sizes():
    """What lies far from the cut border does not depend on it."""
    decoder, whole = DepthDecoder(RESNET18).double(), [level.double() for level in maps(448, 64, batch=1)]
    cut = [level[..., : -(-447 // s), :] for level, s in zip(whole, (2, 4, 8, 16, 32), strict=True)]
    even, odd = decoder(whole, (448, 64)), decoder(cut, (447, 64))
    for x, y in zip(even, odd, strict=True):
        rows = y.shape[-2] * 3 // 8
        torch.testing.assert_close(x[..., :rows, :], y[..., :rows, :], rtol=0, atol=1e-12)


def test_too_small_images_are_refused():
    with pytest.raises(UserError, match=r"^images of 32×96 pixels; motion networks need more than 32 on each side$"):
        DepthDecoder(RESNET18)(maps(32, 96), (32, 96))


def test_heads_end_where_they_should():
    given = [100 * level for level in maps(64, 96)]
    depth, appearance = DepthDecoder(RESNET18)(given, (64, 96)), TransformDecoder(RESNET18)(given, (64, 96))
    assert all(x.min() >= 0 and x.max() <= 1 and x.std() > 0 for x in depth)
    assert all(x.min() >= -1 and x.max() <= 1 and x.min() < 0 < x.max() for x in appearance)


def test_flow_starts_at_almost_nothing():
    decoder = PositionDecoder(RESNET18)
    weights = torch.cat([head.weight.flatten() for head in decoder.heads])
    assert weights.std().item() == pytest.approx(1e-5, rel=0.05)
    assert all(head.bias.abs().max() == 0 and head.padding_mode == "zeros" for head in decoder.heads)
    assert all(0 < x.abs().max() < 0.01 for x in decoder(maps(64, 96), (64, 96)))


def test_outputs_are_float32_under_autocast():
    """Flow of tens of pixels in bf16 would be known to a quarter of a pixel."""
    decoder = PositionDecoder(RESNET18)
    nn.init.constant_(decoder.heads[0].bias, 40.1)
    with torch.autocast("cpu", torch.bfloat16):
        flow = decoder(maps(64, 64), (64, 64))
    assert {x.dtype for x in flow} == {torch.float32}
    torch.testing.assert_close(flow[0].mean(), torch.tensor(40.1), rtol=1e-4, atol=0)


def test_recomputation_gives_the_same_gradients():
    decoder, given = DepthDecoder(RESNET18), maps(64, 64)
    results = []
    for recompute in (False, True):
        decoder.zero_grad()
        if recompute:
            decoder.checkpoint_activations()
        sum(x.mean() for x in decoder(given, (64, 64))).backward()
        results.append([p.grad.clone() for p in decoder.parameters()])
    assert all(torch.equal(kept, again) for kept, again in zip(*results, strict=True))


class Everything(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        self.depth, self.flow = DepthDecoder(encoder.channels), PositionDecoder(encoder.channels)
        self.pose = PoseDecoder(encoder.channels)

    def forward(self, images):
        found = self.encoder(images)
        size = images.shape[-2:]
        return *self.depth(found, size), *self.flow(found, size), *self.pose(found[-1])


@pytest.mark.parametrize(("height", "width"), [(64, 96), (70, 101)])
def test_export_leaves_the_batch_open(resnet, height, width):
    """torch.export from a batch of 2, run on 3 images; 1e-5."""
    network = Everything(resnet).eval()
    dynamic = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(network, (torch.rand(2, 3, height, width),), dynamic_shapes=dynamic)
    images = torch.rand(3, 3, height, width)
    with torch.no_grad():
        for got, expected in zip(program.module()(images), network(images), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
