"""The base that ships with the package: made by its command, whole, and usable by the libraries themselves."""

from importlib.resources import files
from pathlib import Path

import pytest
import torch
from diffusers import EulerDiscreteScheduler, UNetSpatioTemporalConditionModel
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from salticid.nets import stable_diffusion
from salticid.nets.stable_video import fill_unet, make_image_encoder, make_vae, tiny, unet_config
from salticid.nets.video import VideoUNet
from salticid.world import WorldDepth

SHIPPED = Path(str(files("salticid") / "bases" / "tiny_video"))


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_command_makes_what_ships(tmp_path, capsys):
    tiny.main([str(tmp_path)])
    assert content(tmp_path) == content(SHIPPED)
    assert capsys.readouterr().out == f"{tmp_path}\n"
    assert sum(map(len, content(SHIPPED).values())) < 100_000


def test_its_networks_fit_together(caplog):
    torch.manual_seed(0)
    config, vae, encoder = unet_config("tiny-video"), make_vae("tiny-video"), make_image_encoder("tiny-video")
    unet = VideoUNet(config)
    with caplog.at_level("INFO", "salticid"):
        fill_unet(unet, "tiny-video")
    assert not caplog.records
    assert 5_000_000 < sum(p.numel() for p in unet.parameters()) < 5_300_000
    pictures = torch.rand(2, 3, 48, 64) * 2 - 1
    latents = vae.encode_mode(pictures)
    assert latents.shape == (2, 4, 12, 16)
    assert encoder.width == config.context
    with torch.no_grad():
        given = {"context": encoder(pictures)[:1, None], "vector": torch.zeros(1, config.vector), "frames": 2}
        answer = unet(torch.cat([latents, latents], 1), torch.zeros(1), **given)
    assert answer.shape == latents.shape
    assert vae.decode(latents, 2).shape == pictures.shape


def test_its_vae_is_that_of_tiny_but_for_the_scale():
    ours, other = make_vae("tiny-video"), stable_diffusion.make_vae("tiny")
    weights = other.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in ours.network.state_dict().items())
    source = WorldDepth().train()
    pictures = torch.stack([source.sample(index, None)["image"] for index in range(24)])
    # Of 200 pictures it is 1 to four digits (see tiny.SCALING_FACTOR).
    assert 0.93 < ours.scaling_factor * float(ours.encode_mode(pictures).std()) < 1.07


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_it_is_read_by_diffusers_and_transformers():
    network = UNetSpatioTemporalConditionModel.from_config(tiny.UNET)
    with torch.device("meta"):
        ours = VideoUNet(unet_config("tiny-video"))
    assert sum(p.numel() for p in network.parameters()) == sum(p.numel() for p in ours.parameters())
    encoder, report = CLIPVisionModelWithProjection.from_pretrained(
        SHIPPED / "image_encoder", dtype=torch.float32, output_loading_info=True
    )
    assert not any(report.values())
    prepare = CLIPImageProcessor.from_pretrained(SHIPPED / "feature_extractor")
    pictures = torch.rand(3, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    given = prepare(images=list(pictures), do_rescale=False, do_resize=False, return_tensors="pt").pixel_values
    with torch.no_grad():
        expected = encoder.eval()(given).image_embeds
    found = make_image_encoder("tiny-video")(2 * pictures - 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    scheduler = EulerDiscreteScheduler.from_pretrained(SHIPPED / "scheduler")
    scheduler.set_timesteps(3)
    assert float(scheduler.sigmas[0]) == 700
    assert abs(float(scheduler.sigmas[2]) - 0.002) < 1e-6


def test_its_image_encoder_tells_pictures_apart():
    source = WorldDepth().train()
    pictures = torch.stack([source.sample(index, None)["image"] for index in range(8)])
    assert float(make_image_encoder("tiny-video")(pictures).std(0).mean()) > 0.2
