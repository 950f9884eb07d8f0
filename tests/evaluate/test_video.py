"""Metrics of clips and grids against numpy, closed forms and rendered worlds."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from salticid.data.motion import lens_parameters
from salticid.evaluate.image import eight_bit
from salticid.evaluate.video import clip_metrics, flicker, repeat_first, second_difference, view_consistency
from salticid.geometry.cameras import Pinhole
from salticid.world import flow, make_scene, orbit, render
from salticid.world.studio import CENTRE


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def clips() -> tuple[Tensor, Tensor]:
    truth = eight_bit((0.4 * noise(2, 3, 5, 12, 16)).clamp(-1, 1))
    made = (truth + 0.1 * noise(2, 3, 5, 12, 16, seed=1)).clamp(0, 1)
    made[:, :, 0] = truth[:, :, 0]
    return made, truth


def test_psnr_and_ssim_are_means_over_the_frames_that_were_made(clips: tuple[Tensor, Tensor]):
    made, truth = clips
    found = clip_metrics(made, truth, given=1)
    assert set(found) == {"psnr", "ssim"}
    for i in range(2):
        pairs = [(made[i, :, t].numpy(), truth[i, :, t].numpy()) for t in range(1, 5)]
        psnr = [-10 * np.log10(((a - b) ** 2).mean()) for a, b in pairs]
        ssim = [structural_similarity(a, b, channel_axis=0, data_range=1) for a, b in pairs]
        assert found["psnr"][i].item() == pytest.approx(np.mean(psnr), rel=1e-12)
        assert found["ssim"][i].item() == pytest.approx(np.mean(ssim), rel=1e-10)
    assert clip_metrics(made, truth)["psnr"].tolist() == [math.inf, math.inf]  # the given frame is perfect
    nothing = clip_metrics(made, truth, given=5)
    assert all(value.isnan().all() and value.shape == (2,) for value in nothing.values())
    assert all(value.dtype == torch.float64 for value in (found | nothing).values())


def test_lpips_sees_each_frame_in_its_own_range(clips: tuple[Tensor, Tensor]):
    made, truth = clips

    def distance(a: Tensor, b: Tensor) -> Tensor:
        assert a.dtype == b.dtype == torch.float32
        return (a - b).abs().flatten(1).amax(dim=1)

    found = clip_metrics(made, truth, given=1, lpips=distance)["lpips"]
    expected = 2 * (made - truth)[:, :, 1:].abs().amax(dim=(1, 3, 4)).mean(dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_second_difference_is_relative_to_the_truth():
    steady = torch.linspace(0, 1, 6, dtype=torch.float64)[:, None, None].expand(1, 3, 6, 4, 4)
    truth = steady.square()
    assert second_difference(truth, truth)["second_difference"].item() == 1
    assert second_difference(0.5 * truth, truth)["second_difference"].item() == pytest.approx(0.5)
    assert second_difference(steady, truth)["second_difference"].item() == pytest.approx(0, abs=1e-12)
    assert second_difference(repeat_first(truth[:, :, 0], 6), truth)["second_difference"].item() == 0
    assert second_difference(truth[:, :, :2], truth[:, :, :2])["second_difference"].isnan().all()


def translated(frames: int, step: tuple[int, int], height: int = 40, width: int = 50) -> tuple[Tensor, Tensor, Tensor]:
    """A clip (2, 3, T, H, W) that moves by whole pixels, its flow and where the flow stays inside."""
    dx, dy = step
    large = torch.rand(2, 3, 100, 120, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    crops = [large[..., 30 - t * dy :, 30 - t * dx :][..., :height, :width] for t in range(frames)]
    motion = torch.tensor([dx, dy], dtype=torch.float32)[:, None, None].expand(2, frames - 1, 2, height, width)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    inside = (x + dx >= 0) & (x + dx < width) & (y + dy >= 0) & (y + dy < height)
    return torch.stack(crops, dim=2), motion, inside.expand(2, frames - 1, 1, height, width)


def test_a_translation_with_its_flow_does_not_flicker():
    truth, motion, inside = translated(6, (3, -2))
    found = flicker(truth, truth, motion, inside)
    assert set(found) == {"flicker", "flicker/truth"}
    assert all(value.shape == (2,) and value.dtype == torch.float64 and value.max() < 1e-5 for value in found.values())
    still = flicker(repeat_first(truth[:, :, 0], 6), truth, motion, inside)["flicker"]
    torch.testing.assert_close(still, torch.full_like(still, 1 / 3), rtol=0.05, atol=0)  # of two uniform numbers


def test_noise_flickers_by_its_size():
    truth, motion, inside = translated(6, (3, -2))
    scale = torch.tensor([0.01, 0.05], dtype=torch.float64)
    made = truth + scale[:, None, None, None, None] * noise(*truth.shape, seed=3).double()
    found = flicker(made, truth, motion, inside)["flicker"]
    expected = scale * math.sqrt(2) * math.sqrt(2 / math.pi)  # mean |N(0, 2 s²)|
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0)


def test_flicker_looks_at_valid_pixels_only_and_compares_nothing_without_any():
    truth, motion, inside = translated(3, (1, 0))
    made, motion, inside = truth.clone(), motion.clone(), inside.clone()
    made[0, :, 0, :10], inside[0, 0, :, :10], motion[0, 0, :, :10] = 9.0, False, torch.nan
    inside[1] = False
    found = flicker(made, truth, motion, inside)["flicker"]
    assert found[0] < 1e-5
    assert found[1].isnan()
    assert flicker(made[:, :, :1], truth[:, :, :1], motion[:, :0], inside[:, :0])["flicker"].isnan().all()


@pytest.fixture(scope="module")
def film() -> tuple[Tensor, Tensor, Tensor]:
    """A film of the world (1, 3, 4, 48, 64) with its flow."""
    scene, lens = make_scene(2, 0, "room"), Pinhole.centred(48, 64, 40.0)
    shots = [(scene.path(0.1 * t), 0.1 * t) for t in range(4)]
    clip = torch.stack([render(scene, lens, *shot, 3).rgb for shot in shots], dim=1)[None]
    moves = [flow(scene, lens, *a, lens, *b) for a, b in pairwise(shots)]
    motion = torch.stack([move.flow.permute(2, 0, 1) for move in moves])[None]
    return eight_bit(clip), motion, torch.stack([(m.valid & ~m.occluded)[None] for m in moves])[None]


def test_a_film_of_the_world_flickers_less_than_its_first_frame_or_its_noise(film: tuple[Tensor, Tensor, Tensor]):
    truth, motion, valid = film
    still, shaken = repeat_first(truth[:, :, 0], 4), truth + 0.05 * noise(*truth.shape)
    floor = flicker(truth, truth, motion, valid)["flicker"].item()
    assert floor < 0.03
    assert flicker(still, truth, motion, valid)["flicker"].item() > 1.5 * floor
    assert flicker(shaken, truth, motion, valid)["flicker"].item() > 2 * floor


VIEWS = 12


@pytest.fixture(scope="module")
def grid() -> dict[str, Tensor]:
    """Two moments of two studios (2, 3, 2, V, 48, 48), seen from an orbit."""
    lens = Pinhole.centred(48, 48, 50.0)
    samples = []
    for number in range(2):
        scene = make_scene(3, number, "studio")
        poses = orbit(torch.tensor([CENTRE[0], 0.7, CENTRE[2]]), 2.2, VIEWS, elevation=0.2)
        frames = [[render(scene, lens, pose, time, 3) for pose in poses] for time in (0.0, 0.4)]
        samples.append(
            {
                "truth": torch.stack([torch.stack([f.rgb for f in row], 1) for row in frames], 1),
                "depth": torch.stack([torch.stack([f.depth for f in row]) for row in frames]),
                "intrinsics": lens_parameters(lens),
                "poses": poses,
            }
        )
    batch = {name: torch.stack([s[name] for s in samples]) for name in samples[0]}
    return batch | {"truth": eight_bit(batch["truth"])}


def consistency(grid: dict[str, Tensor], made: Tensor) -> Tensor:
    found = view_consistency(made, **grid)
    torch.testing.assert_close(
        found["view_consistency/truth"], view_consistency(**grid, made=grid["truth"])["view_consistency"]
    )
    return found["view_consistency"]


def test_renders_of_one_world_are_consistent_and_a_shifted_or_darker_view_is_not(grid: dict[str, Tensor]):
    truth = grid["truth"]
    floor = consistency(grid, truth)
    assert floor.dtype == torch.float64
    assert floor.max() < 0.04
    shifted, darker = truth.clone(), truth.clone()
    shifted[0, :, :, 3] = shifted[0, :, :, 3].roll(4, dims=-1)
    darker[1, :, :, 5] *= 0.5
    assert consistency(grid, shifted)[0] > 1.1 * floor[0]
    assert consistency(grid, shifted)[1] == floor[1]
    assert consistency(grid, darker)[1] > 1.1 * floor[1]
    other = truth.roll(1, dims=3)  # every view shown where the next one is
    assert (consistency(grid, other) > 2 * floor).all()


def test_a_colour_of_one_s_own_in_each_view_is_the_difference_of_colours(grid: dict[str, Tensor]):
    level = 0.1 * (torch.arange(VIEWS) % 2)
    made = level[:, None, None].expand_as(grid["truth"]).double()
    torch.testing.assert_close(consistency(grid, made), torch.full((2,), 0.1, dtype=torch.float64))


def test_what_is_hidden_or_has_no_depth_does_not_count(grid: dict[str, Tensor]):
    made = grid["truth"].clone()
    known = grid["depth"].clone()
    known[..., :20, :] = 0
    made[..., :19, :] = 5.0  # a row away, so that no pixel that counts is mixed with it
    cut = grid | {"depth": known}
    torch.testing.assert_close(consistency(cut, made), consistency(cut, grid["truth"]))
    nothing = view_consistency(made, **grid | {"depth": torch.zeros_like(known)})
    assert all(value.isnan().all() for value in nothing.values())
    one = {name: grid[name][:, :, :1] if name == "depth" else grid[name][:, :1] for name in ("depth", "poses")}
    single = grid | one | {"truth": grid["truth"][:, :, :, :1]}
    assert view_consistency(single["truth"], **single)["view_consistency"].isnan().all()


def test_the_first_frame_is_repeated():
    frame = noise(2, 3, 4, 5)
    clip = repeat_first(frame, 7)
    assert clip.shape == (2, 3, 7, 4, 5)
    assert all(torch.equal(clip[:, :, t], frame) for t in range(7))


@pytest.mark.gpu
def test_a_gpu_gives_what_a_cpu_does(grid: dict[str, Tensor], film: tuple[Tensor, Tensor, Tensor]):
    truth, motion, valid = film
    made = truth + 0.05 * noise(*truth.shape)
    on_gpu = flicker(made.cuda(), truth.cuda(), motion.cuda(), valid.cuda()) | clip_metrics(made.cuda(), truth.cuda())
    for name, expected in (flicker(made, truth, motion, valid) | clip_metrics(made, truth)).items():
        torch.testing.assert_close(on_gpu[name].cpu(), expected, rtol=1e-6, atol=1e-8)
    shifted = grid["truth"].roll(3, dims=-1)
    found = view_consistency(shifted.cuda(), **{name: value.cuda() for name, value in grid.items()})
    for name, expected in view_consistency(shifted, **grid).items():
        torch.testing.assert_close(found[name].cpu(), expected, rtol=1e-3, atol=1e-5)  # of a few pixels at edges
