"""What attention along views and along frames mixes, and what it does not."""

import pytest
import torch

from salticid.nets.video.blocks import Rows, VideoResBlock, VideoTransformer

BATCH, FRAMES, VIEWS, PLACES, WIDTH = 2, 3, 4, 5, 8
ROWS = Rows(outer=FRAMES, inner=VIEWS)
COUNT = BATCH * FRAMES * VIEWS


@pytest.fixture
def block(alive):
    return alive(VideoTransformer(WIDTH, 2, 6, reference=4))


@pytest.fixture
def tokens():
    return torch.randn(COUNT, PLACES, WIDTH)


@pytest.fixture
def context():
    """One for each frame, the same for all views."""
    return torch.randn(BATCH * FRAMES, 1, 6).repeat_interleave(VIEWS, 0)


@pytest.fixture
def reference():
    return torch.randn(BATCH * VIEWS, 4, 1, PLACES)


def forget_places(block):
    """All pictures of a group have the same place."""
    for embed in (block.time_pos_embed, block.time_mix_motion_embed):
        torch.nn.init.zeros_(embed[2].weight)


def grid(x):
    """(N, …) → (batch, frames, views, …)."""
    return x.unflatten(0, (BATCH, FRAMES, VIEWS))


def changed(before, after):
    """Where tokens differ: (batch, frames, views, places)."""
    return grid((before - after).abs().amax(-1) > 1e-5)


@torch.no_grad()
def test_view_attention_stays_in_its_frame_and_place(block, tokens, context):
    moved = tokens.clone()
    grid(moved)[1, 2, 0, 3] += torch.randn(WIDTH)  # a constant would be lost in normalisation
    differs = changed(block.along_inner(tokens, context, ROWS), block.along_inner(moved, context, ROWS))
    expected = torch.zeros_like(differs)
    expected[1, 2, :, 3] = True
    assert torch.equal(differs, expected)


@torch.no_grad()
def test_frame_attention_stays_in_its_view_and_place(block, tokens, reference):
    moved = tokens.clone()
    grid(moved)[1, 2, 0, 3] += torch.randn(WIDTH)  # a constant would be lost in normalisation
    differs = changed(block.along_outer(tokens, reference, ROWS), block.along_outer(moved, reference, ROWS))
    expected = torch.zeros_like(differs)
    expected[1, :, 0, 3] = True
    assert torch.equal(differs, expected)


@torch.no_grad()
def test_a_reference_reaches_all_frames_of_its_view_at_its_place(block, tokens, reference):
    moved = reference.clone()
    moved.unflatten(0, (BATCH, VIEWS))[0, 1, :, 0, 2] += 1
    differs = changed(block.along_outer(tokens, reference, ROWS), block.along_outer(tokens, moved, ROWS))
    expected = torch.zeros_like(differs)
    expected[0, :, 1, 2] = True
    assert torch.equal(differs, expected)


@torch.no_grad()
def test_a_frames_context_reaches_all_its_views(block, tokens, context):
    moved = context.clone()
    grid(moved)[0, 1] += 1
    differs = changed(block.along_inner(tokens, context, ROWS), block.along_inner(tokens, moved, ROWS))
    expected = torch.zeros_like(differs)
    expected[0, 1] = True
    assert torch.equal(differs, expected)


@torch.no_grad()
def test_a_group_attends_to_the_context_of_its_first_row(block, tokens):
    own = torch.randn(COUNT, 1, 6)
    first = own[::VIEWS].repeat_interleave(VIEWS, 0)
    assert torch.equal(block.along_inner(tokens, own, ROWS), block.along_inner(tokens, first, ROWS))


@torch.no_grad()
@pytest.mark.parametrize("places", [True, False])
def test_views_can_be_permuted_but_for_their_places(block, tokens, context, reference, places):
    """All of a transformer: views in another order give the answers in that order, once places are not embedded."""
    if not places:
        forget_places(block)
    order = torch.tensor([2, 0, 3, 1])
    x = tokens.transpose(1, 2).unflatten(2, (1, PLACES))
    turned = grid(x)[:, :, order].flatten(0, 2)
    looks = reference.unflatten(0, (BATCH, VIEWS))[:, order].flatten(0, 1)
    straight = grid(block(x, context, ROWS, None, reference))[:, :, order]
    assert torch.allclose(grid(block(turned, context, ROWS, None, looks)), straight, atol=1e-5) is not places


@torch.no_grad()
@pytest.mark.parametrize("places", [True, False])
def test_frames_can_be_permuted_but_for_their_places(block, tokens, context, reference, places):
    if not places:
        forget_places(block)
    order = torch.tensor([2, 0, 1])
    turned, told = (grid(part)[:, order].flatten(0, 2) for part in (tokens, context))
    x, y = (part.transpose(1, 2).unflatten(2, (1, PLACES)) for part in (tokens, turned))
    straight = grid(block(x, context, ROWS, None, reference))[:, order]
    assert torch.allclose(grid(block(y, told, ROWS, None, reference)), straight, atol=1e-5) is not places


@torch.no_grad()
def test_residual_blocks_reach_the_neighbours_in_the_sequence_of_all_rows(alive):
    """Twice a convolution over three rows: from view 0 of frame 1, which is row 4, to rows 2 to 6, views of all three
    frames. Normalisation, which would carry it further, is left out."""
    block = alive(VideoResBlock(WIDTH, WIDTH, 16))
    block.time_stack.in_layers[0] = block.time_stack.out_layers[0] = torch.nn.Identity()
    x, embedding = torch.randn(COUNT, WIDTH, 2, 2), torch.randn(COUNT, 16)
    moved = x.clone()
    moved[4] += torch.randn(WIDTH, 2, 2)
    before, after = (block(value, embedding, ROWS, None) for value in (x, moved))
    assert ((before - after).abs().amax((1, 2, 3)) > 1e-6).nonzero().flatten().tolist() == [2, 3, 4, 5, 6]
