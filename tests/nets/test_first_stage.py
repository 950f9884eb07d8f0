"""The first stage: chunks and their blends in closed form, what a decoder is called with, precision, identity."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from salticid.errors import ConfigError
from salticid.losses.frozen import Frozen
from salticid.nets.first_stage import FirstStage, FirstStageSettings
from salticid.nets.stable_video import make_vae

SCALE = 0.25


class Counting(nn.Module):
    """Decodes the n-th chunk to the number n, and remembers what it was called with."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[int, int]] = []
        self.seen: list[Tensor] = []
        self.autocast: list[torch.dtype | None] = []

    def decode(self, latents: Tensor, frames: int) -> Tensor:
        self.calls.append((len(latents), frames))
        self.seen.append(latents)
        return torch.full((len(latents), 3, 2, 2), float(len(self.calls)))

    def encode_mode(self, pictures: Tensor) -> Tensor:
        self.calls.append((len(pictures), 0))
        inside = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
        self.autocast.append(inside)
        return pictures[:, :1, ::2, ::2].to(inside or torch.bfloat16)


def stage(**settings) -> tuple[FirstStage, Counting]:
    made = FirstStage("", FirstStageSettings(kind="identity"))
    made.settings = FirstStageSettings(**settings)
    vae = Counting()
    made.vae, made.channels, made.factor, made.scale = Frozen(vae), 1, 2, SCALE
    return made, vae


def decoded(frames: int, **settings) -> list[float]:
    """What a clip's frames become."""
    found = stage(**settings)[0].decode(torch.zeros(frames, 1, 1, 1), frames)
    assert found.shape == (frames, 3, 2, 2)
    assert (found == found[:, :1, :1, :1]).all()
    return found[:, 0, 0, 0].tolist()


def test_chunks_that_share_nothing_follow_one_another():
    assert decoded(7, decode_frames=3) == [1, 1, 1, 2, 2, 2, 3]
    assert decoded(6, decode_frames=3) == [1, 1, 1, 2, 2, 2]
    assert decoded(2, decode_frames=3) == [1, 1]
    assert decoded(5, decode_frames=0) == [1] * 5


def test_frames_that_chunks_share_lie_on_the_line_between_them():
    """Chunks of 5 frames, 2 of which are shared: 0…4, 3…7, 6…8. In the middle of what n frames share, ⅓ and ⅔."""
    third = pytest.approx([1, 1, 1, 4 / 3, 5 / 3, 2, 7 / 3, 8 / 3, 3])
    assert decoded(9, decode_frames=5, decode_overlap=2) == third
    assert decoded(8, decode_frames=5, decode_overlap=2) == pytest.approx([1, 1, 1, 4 / 3, 5 / 3, 2, 2, 2])
    assert decoded(5, decode_frames=4, decode_overlap=2) == pytest.approx([1, 1, 4 / 3, 5 / 3, 2])
    assert decoded(7, decode_frames=4, decode_overlap=1) == pytest.approx([1, 1, 1, 1.5, 2, 2, 2])
    # Where every frame is shared, ¾ of one chunk and ¼ of the next are neighbours.
    whole = decoded(40, decode_frames=6, decode_overlap=3)
    assert max(b - a for a, b in pairwise(whole)) == pytest.approx(0.5)
    assert min(b - a for a, b in pairwise(whole)) >= 0


def test_clips_are_decoded_one_by_one_in_latents_that_are_not_scaled():
    made, vae = stage(decode_frames=3, decode_overlap=1)
    latents = torch.randn(8, 1, 2, 2)
    before = latents.clone()
    found = made.decode(latents, 4)
    assert vae.calls == [(3, 3), (2, 2)] * 2, "a chunk is told how many frames it has, and holds no other clip's"
    torch.testing.assert_close(vae.seen[2], latents[4:7] / SCALE)
    torch.testing.assert_close(vae.seen[3], latents[6:8] / SCALE)
    assert found.shape == (8, 3, 2, 2)
    assert torch.equal(latents, before)


@pytest.mark.parametrize(("batch", "calls"), [(0, [5]), (2, [2, 2, 1]), (9, [5])])
def test_pictures_are_encoded_so_many_at_a_time(batch, calls):
    made, vae = stage(encode_batch=batch)
    pictures = torch.randn(5, 3, 4, 4)
    found = made.encode(pictures)
    assert [count for count, _ in vae.calls] == calls
    assert found.dtype == torch.float32
    mode = pictures[:, :1, ::2, ::2].bfloat16().float()
    assert torch.equal(found, mode * SCALE)
    assert torch.equal(made.encode(pictures, scaled=False), mode)


def test_its_precision_is_the_trainer_s_or_its_own():
    for precision, inside in (("auto", torch.bfloat16), ("fp32", None), ("fp16", torch.float16)):
        made, vae = stage(precision=precision)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            made.encode(torch.zeros(1, 3, 4, 4))
        assert vae.autocast == [inside], precision
    for precision, inside in (("auto", None), ("bf16", torch.bfloat16)):
        made, vae = stage(precision=precision)
        made.encode(torch.zeros(1, 3, 4, 4))
        assert vae.autocast == [inside], precision


def test_the_base_s_vae_encodes_to_its_mode_and_scales():
    made, vae = FirstStage("tiny-video", FirstStageSettings()), make_vae("tiny-video")
    pictures = torch.rand(3, 3, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = made.encode(pictures)
    assert latents.shape == (3, made.channels, 16 // made.factor, 24 // made.factor)
    mode = vae.network.encode(pictures).latent_dist.mode()
    torch.testing.assert_close(latents, mode * vae.scaling_factor)
    torch.testing.assert_close(made.decode(latents, 3), vae.network.decode(mode).sample, atol=1e-5, rtol=1e-5)
    assert not made.state_dict()
    assert len(made.networks()) == 1


def test_pixels_can_be_the_latents():
    made = FirstStage("nowhere", FirstStageSettings(kind="identity"))
    pictures = torch.randn(2, 3, 5, 7)
    assert torch.equal(made.encode(pictures), pictures)
    assert torch.equal(made.decode(pictures, 2), pictures)
    assert (made.channels, made.factor, made.scale, list(made.networks())) == (3, 1, 1.0, [])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encode_batch": -1}, r"recipe\.first_stage\.encode_batch is -1; expected 0 or more"),
        ({"decode_frames": -1}, r"recipe\.first_stage\.decode_frames is -1; expected 0 or more"),
        ({"decode_overlap": -1}, r"decode_overlap is -1; expected 0 to 7, half of decode_frames"),
        ({"decode_frames": 5, "decode_overlap": 3}, r"decode_overlap is 3; expected 0 to 2, half of decode_frames"),
        ({"decode_frames": 0, "decode_overlap": 1}, r"decode_overlap is 1; expected 0 to 0"),
    ],
)
def test_numbers_without_sense_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        FirstStageSettings(**values)
