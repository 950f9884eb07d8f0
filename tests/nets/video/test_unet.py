"""The whole UNet: its size, what its rows mean, and that they are computed apart where they should be."""

import hashlib
from dataclasses import replace

import pytest
import torch

from salticid.nets.video import (
    SV3D_P,
    SV3D_U,
    SV4D,
    SVD,
    TINY,
    VideoUNet,
    blocks,
    checkpoint_activations,
    idle,
    sv4d_name,
)

SIZES = {
    "svd": (SVD, 1428, 1_524_623_082, "e4839abe34559fc1"),
    "sv3d_u": (SV3D_U, 1428, 1_523_967_722, None),
    "sv3d_p": (SV3D_P, 1428, 1_525_278_442, "7e667135db47908f"),
    "sv4d": (SV4D, 1908, 1_996_625_322, "ab8eb1b3a7367d28"),
}
"""Tensors and parameters of the published files, and the SHA-256 of their sorted names and shapes."""
FRAMES = 3


def inputs(unet, batch=2, frames=FRAMES, views=1, size=(6, 8)):
    rows = batch * frames * views
    given = {
        "x": torch.randn(rows, 8, *size),
        "time": torch.randn(batch),
        "context": torch.randn(rows, 1, unet.config.context),
        "vector": torch.randn(rows, unet.config.vector),
    }
    if unet.config.reference:
        given["reference"] = torch.randn(batch, views, 4, *size)
    return given | {"frames": frames, "views": views}


@pytest.mark.parametrize("name", SIZES)
def test_names_and_shapes_are_those_of_the_files(name):
    config, tensors, parameters, digest = SIZES[name]
    with torch.device("meta"):
        unet = VideoUNet(config)
    assert sum(p.numel() for p in unet.parameters()) == parameters
    shapes = {key: "x".join(map(str, value.shape)) for key, value in unet.state_dict().items()}
    assert len(shapes) == tensors
    if config.reference:
        shapes = {sv4d_name(key): shape for key, shape in shapes.items()}
    if digest:
        lines = "\n".join(sorted(f"{key} {shape}" for key, shape in shapes.items()))
        assert hashlib.sha256(lines.encode()).hexdigest()[:16] == digest


def test_the_temporal_part_of_svd_is_as_large_as_published():
    with torch.device("meta"):
        unet = VideoUNet(SVD)
    temporal = [p.numel() for name, p in unet.named_parameters() if ".time_" in name]
    assert sum(temporal) == 656_076_838


def test_a_new_network_answers_zero():
    unet = VideoUNet(TINY)
    assert not unet(**inputs(unet)).any()


@torch.no_grad()
@pytest.mark.parametrize("views", [1, 2])
def test_clips_do_not_see_each_other(svd, sv4d, views):
    unet = svd if views == 1 else sv4d
    given = inputs(unet, views=views)
    both = unet(**given).chunk(2)
    for clip in range(2):
        alone = {k: v.chunk(2)[clip] if isinstance(v, torch.Tensor) else v for k, v in given.items()}
        torch.testing.assert_close(unet(**alone), both[clip], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_frames_see_each_other_through_temporal_layers_alone(svd):
    given = inputs(svd, batch=1)
    moved = given["x"].clone()
    moved[1] += 1
    for single, reached in ((torch.zeros(1, FRAMES), FRAMES), (torch.ones(1, FRAMES), 1)):
        before = svd(**given, image_only=single)
        after = svd(**given | {"x": moved}, image_only=single)
        assert ((before - after).abs().amax((1, 2, 3)) > 1e-5).sum() == reached


@torch.no_grad()
def test_temporal_layers_attend_to_the_context_of_the_first_frame(svd):
    given = inputs(svd, batch=1)
    for frame, single, reached in ((0, 0, FRAMES), (0, 1, 1), (2, 1, 1)):
        moved = given["context"].clone()
        moved[frame] += 1
        indicator = torch.full((1, FRAMES), single)
        before = svd(**given, image_only=indicator)
        after = svd(**given | {"context": moved}, image_only=indicator)
        assert ((before - after).abs().amax((1, 2, 3)) > 1e-5).sum() == reached


@torch.no_grad()
def test_videos_and_single_pictures_in_one_batch(svd):
    """Each as if it were alone; no indicator is an indicator of zeros."""
    given = inputs(svd)
    single = torch.tensor([[0] * FRAMES, [1] * FRAMES])
    mixed = svd(**given, image_only=single).chunk(2)
    torch.testing.assert_close(mixed[0], svd(**given).chunk(2)[0])
    pictures = {k: v[FRAMES:] for k, v in given.items() if k in ("x", "context", "vector")}
    alone = svd(**pictures, time=given["time"][1:], frames=1, image_only=torch.ones(FRAMES, 1))
    torch.testing.assert_close(mixed[1], alone, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_what_is_said_of_a_clip_or_a_frame_is_said_of_its_rows(sv4d):
    given = inputs(sv4d, views=2)
    short = given | {"context": given["context"][::2], "vector": given["vector"][:: FRAMES * 2]}
    full = short | {
        "time": short["time"].repeat_interleave(FRAMES * 2),
        "context": short["context"].repeat_interleave(2, 0),
        "vector": short["vector"].repeat_interleave(FRAMES * 2, 0),
    }
    assert torch.equal(sv4d(**short), sv4d(**full))


@torch.no_grad()
def test_view_attention_of_one_frame_is_frame_attention_of_svd(alive):
    """SV4D of one frame, its own frame attention idle, is the SVD of as many frames as there are views."""
    config = replace(TINY, reference=4)
    unet, plain = alive(VideoUNet(config)).eval(), VideoUNet(TINY).eval()
    for name, parameter in unet.named_parameters():
        ends = ("to_out.0", "ff_in.net.2", "ff.net.2")
        if "motion_embed.2" in name or ("motion_blocks" in name and any(end in name for end in ends)):
            parameter.zero_()
    plain.load_state_dict({name: value for name, value in unet.state_dict().items() if "motion" not in name})
    given = inputs(unet, frames=1, views=4)
    expected = plain(**{k: v for k, v in given.items() if k not in ("reference", "views")} | {"frames": 4})
    torch.testing.assert_close(unet(**given), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("views", [1, 2])
def test_checkpointed_activations_give_the_same_gradients(svd, sv4d, views):
    unet = svd if views == 1 else sv4d
    given = inputs(unet, views=views)

    def gradients():
        unet.zero_grad()
        unet(**given).square().sum().backward()
        found = {name: p.grad for name, p in unet.named_parameters()}
        unet.zero_grad()
        return found

    kept = gradients()
    assert all(value is not None for value in kept.values())
    checkpoint_activations(unet)
    try:
        computed = gradients()
    finally:
        for block in blocks(unet):
            block.recompute = False
    assert all(torch.equal(value, computed[name]) for name, value in kept.items())


def test_blocks_hold_all_but_the_embeddings_and_convolutions_between(svd):
    inside = {id(p) for block in blocks(svd) for p in block.parameters()}
    outside = {name.split(".")[0] for name, p in svd.named_parameters() if id(p) not in inside}
    assert outside == {"time_embed", "label_emb", "input_blocks", "output_blocks", "out"}
    down, middle, up = 3, 3, 6
    assert len(blocks(svd)) == down + middle + up


@pytest.mark.parametrize("views", [1, 2])
def test_idle_layers_may_be_frozen_or_left_out(svd, sv4d, views):
    """With one context token: their gradients are rounding, the others' the same without them, and so is the answer."""
    unet = svd if views == 1 else sv4d
    given, resting = inputs(unet, views=views), {id(p) for layer in idle(unet) for p in layer.parameters()}

    def learn():
        answer = unet(**given)
        unet.zero_grad()
        answer.square().sum().backward()
        found = {id(p): p.grad for p in unet.parameters()}
        unet.zero_grad()
        return answer.detach(), found

    answer, gradients = learn()
    largest = float(max(value.abs().max() for value in gradients.values()))
    noise = max(float(value.abs().max()) for key, value in gradients.items() if key in resting)
    assert noise < 1e-6 * largest
    assert all(value.any() for key, value in gradients.items() if key not in resting)
    try:
        for layer in idle(unet):
            layer.requires_grad_(False)
        frozen, others = learn()
    finally:
        unet.requires_grad_(True)
    torch.testing.assert_close(frozen, answer, rtol=1e-5, atol=1e-5)
    for key, value in others.items():
        if key in resting:
            assert value is None
        else:
            torch.testing.assert_close(value, gradients[key], rtol=1e-3, atol=1e-6 * largest)
    with torch.no_grad():
        assert torch.equal(unet(**given), frozen)


@torch.no_grad()
def test_of_several_context_tokens_queries_choose(svd):
    given = inputs(svd)
    pair = given | {"context": torch.cat([given["context"], torch.randn(6, 1, TINY.context)], dim=1)}
    twice = given | {"context": given["context"].expand(-1, 2, -1)}
    torch.testing.assert_close(svd(**twice), svd(**given), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(svd(**pair), svd(**given), atol=1e-3)


@torch.no_grad()
def test_it_runs_in_half_precision(svd):
    unet = VideoUNet(TINY).bfloat16()
    unet.load_state_dict(svd.state_dict())
    given = inputs(svd)
    half = {k: v.bfloat16() if isinstance(v, torch.Tensor) else v for k, v in given.items()}
    answer = unet(**half, image_only=torch.zeros(2, FRAMES))
    assert answer.dtype == torch.bfloat16
    expected = svd(**given)
    assert (answer.float() - expected).abs().mean() < 0.05 * expected.abs().mean()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 4}, "6 rows are no clips of 4 frames × 1 views"),
        ({"frames": 0}, "6 rows are no clips of 0 frames"),
        ({"views": 3, "frames": 1}, "no frame attention"),
        ({"reference": torch.zeros(2, 1, 4, 6, 8)}, "no frame attention"),
        ({"image_only": torch.zeros(2, 4)}, r"image_only is \(2, 4\); expected \(2, 3\)"),
        ({"time": torch.zeros(4)}, "time has 4 rows; expected 6, or one per clip or frame"),
        ({"context": torch.zeros(0, 1, 24)}, "context has 0 rows"),
        ({"vector": torch.zeros(12, 48)}, "vector has 12 rows"),
    ],
)
def test_rows_that_do_not_fit_are_refused(svd, change, message):
    with pytest.raises(ValueError, match=message):
        svd(**inputs(svd) | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference": None}, r"reference is None; expected \(2, 2, 4, h, w\)"),
        ({"reference": torch.zeros(2, 1, 4, 6, 8)}, r"reference is \(2, 1, 4, 6, 8\); expected \(2, 2, 4, h, w\)"),
        ({"image_only": torch.zeros(2, FRAMES)}, "image_only: SV4D has no blend"),
    ],
)
def test_views_without_their_reference_are_refused(sv4d, change, message):
    with pytest.raises(ValueError, match=message):
        sv4d(**inputs(sv4d, views=2) | change)
