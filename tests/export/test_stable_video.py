"""Exported pipelines, loaded by diffusers with no network, beside our own sampling from the same noise; read back."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder, StableVideoDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file

from salticid.diffusion import VE, classifier_free, first_order, karras_grid, linear_scale, v_scaling
from salticid.errors import UserError
from salticid.export.stable_video import SvdSettings, export_svd
from salticid.nets.blocks import sinusoids
from salticid.nets.stable_video import Vae, fill_unet, make_image_encoder, make_vae, unet_config
from salticid.nets.video import VideoUNet

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch_dtype` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

FRAMES, STEPS = 3, 4
SETTINGS = SvdSettings(frames=FRAMES, size=(32, 40), fps=10, motion_bucket=90, noise_aug=0.05, steps=STEPS)
PIXELS = torch.randint(0, 256, (32, 40, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
NOISE = torch.randn(1, FRAMES, 4, 8, 10, generator=torch.Generator().manual_seed(2))
GUIDANCE = (1.0, 3.0)


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def alive(module):
    """Makes every weight count, those that begin as 0 or 1 among them."""
    with torch.no_grad():
        for parameter in module.parameters():
            spread = 0.5 * parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.2
            parameter.add_(torch.randn_like(parameter) * spread)
    return module.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(3)
    small = replace(unet_config("tiny-video"), widths=(32, 64), attention=(True, False), heads=(2, 4))
    return alive(VideoUNet(small))


@pytest.fixture(scope="module")
def temporal_vae():
    torch.manual_seed(4)
    levels = {"block_out_channels": (32, 32, 64), "down_block_types": ("DownEncoderBlock2D",) * 3}
    return Vae(alive(AutoencoderKLTemporalDecoder(**levels, layers_per_block=2, scaling_factor=0.4)))


@pytest.fixture(scope="module")
def encoder():
    return make_image_encoder("tiny-video")


@torch.no_grad()
def ours(unet, vae, encoder) -> torch.Tensor:
    """Scaled latents of the film, (1, FRAMES, 4, h, w)."""
    picture = PIXELS.permute(2, 0, 1)[None] / 127.5 - 1
    noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(5))
    latent = vae.encode_mode(picture + SETTINGS.noise_aug * noise)[:, None].expand(-1, FRAMES, -1, -1, -1)
    told = torch.tensor([SETTINGS.fps - 1, SETTINGS.motion_bucket, SETTINGS.noise_aug])
    vector = sinusoids(told, unet.config.vector // 3).flatten()[None]
    seen = encoder(picture)[:, None]
    given = {"context": torch.cat([0 * seen, seen]), "vector": torch.cat([vector, vector]), "frames": FRAMES}
    looks = torch.cat([0 * latent, latent])

    def network(x, time):
        rows = torch.cat([x, looks], dim=2).flatten(0, 1)
        return unet(rows, time, **given).unflatten(0, x.shape[:2])

    scaling = v_scaling()
    guided = classifier_free(scaling.denoiser(network), linear_scale(FRAMES, *GUIDANCE), frame_axis=1)
    levels = karras_grid(STEPS, 0.002, 700)
    return first_order(guided, scaling.start(NOISE, 700), VE(), levels)


def theirs(folder: Path, kind: str):
    pipeline = StableVideoDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        Image.fromarray(PIXELS.numpy()),
        height=SETTINGS.size[0],
        width=SETTINGS.size[1],
        num_frames=FRAMES,
        num_inference_steps=STEPS,
        min_guidance_scale=GUIDANCE[0],
        max_guidance_scale=GUIDANCE[1],
        fps=SETTINGS.fps,
        motion_bucket_id=SETTINGS.motion_bucket,
        noise_aug_strength=SETTINGS.noise_aug,
        latents=NOISE,
        generator=torch.Generator().manual_seed(5),
        output_type=kind,
    ).frames


@pytest.mark.parametrize("temporal", [False, True])
def test_the_pipeline_makes_what_we_make(unet, temporal_vae, encoder, tmp_path, temporal):
    vae = temporal_vae if temporal else make_vae("tiny-video")
    files = export_svd(unet, vae, encoder, tmp_path / "out", SETTINGS)
    assert tmp_path / "out" / "unet" / "diffusion_pytorch_model.safetensors" in files
    expected = ours(unet, vae, encoder)
    assert expected.std() > 0.5
    torch.testing.assert_close(theirs(tmp_path / "out", "latent"), expected, rtol=0, atol=1e-4)
    film = vae.decode(expected.flatten(0, 1) / vae.scaling_factor, FRAMES).clamp(-1, 1) / 2 + 0.5
    torch.testing.assert_close(theirs(tmp_path / "out", "pt")[0], film, rtol=0, atol=1e-4)


@pytest.mark.parametrize("temporal", [False, True])
def test_what_was_exported_is_a_base(unet, temporal_vae, encoder, tmp_path, temporal):
    vae = temporal_vae if temporal else make_vae("tiny-video")
    export_svd(unet, vae, encoder, tmp_path / "out", SETTINGS)
    base = str(tmp_path / "out")
    config = unet_config(base)
    assert config == unet.config
    again = VideoUNet(config)
    fill_unet(again, base)
    read = [(again, unet), (make_vae(base).network, vae.network), (make_image_encoder(base), encoder)]
    for found, expected in read:
        weights = expected.state_dict()
        assert found.state_dict().keys() == weights.keys()
        assert all(torch.equal(value, weights[name]) for name, value in found.state_dict().items())
    assert make_vae(base).scaling_factor == vae.scaling_factor
    assert make_vae(base).temporal == temporal
    picture = torch.rand(1, 3, 40, 30) * 2 - 1
    torch.testing.assert_close(make_image_encoder(base)(picture), encoder(picture), rtol=1e-5, atol=1e-6)
    scheduler = json.loads((tmp_path / "out" / "scheduler" / "scheduler_config.json").read_text())
    assert (scheduler["sigma_min"], scheduler["sigma_max"]) == (0.002, 700)
    assert json.loads((tmp_path / "out" / "unet" / "config.json").read_text())["num_frames"] == FRAMES


def test_half_precision(unet, encoder, tmp_path):
    export_svd(unet, make_vae("tiny-video"), encoder, tmp_path / "out", SETTINGS, half="fp16")
    for file in (tmp_path / "out").rglob("*.safetensors"):
        assert {value.dtype for value in load_file(file).values()} == {torch.float16}
    assert next(unet.parameters()).dtype == torch.float32
    pipeline = StableVideoDiffusionPipeline.from_pretrained(tmp_path / "out")
    assert {part.dtype for part in (pipeline.unet, pipeline.vae, pipeline.image_encoder)} == {torch.float32}


def readme(unet, encoder, folder: Path, settings: SvdSettings) -> str:
    export_svd(unet, make_vae("tiny-video"), encoder, folder, settings)
    return (folder / "README.md").read_text()


def test_what_the_pipeline_does_otherwise_is_said(unet, encoder, tmp_path):
    usual = readme(unet, encoder, tmp_path / "usual", SETTINGS)
    assert "fps=10,\n    motion_bucket_id=90,\n    noise_aug_strength=0.05," in usual
    assert "max_guidance_scale=2.5," in usual
    assert "decodes every frame by itself" in usual
    assert not any(word in usual for word in ("Euler", "ρ", "halfway", "ε"))
    odd = replace(SETTINGS, solver="heun", rho=5.0, guider="triangle")
    torch.manual_seed(6)
    plain = VideoUNet(replace(unet.config, diffusers_norms=False))
    text = readme(plain, encoder, tmp_path / "odd", odd)
    assert all(word in text for word in ("by heun", "have 5.", "halfway", "ε = 1e-6"))
    snippet = text.split("```python\n")[1].split("```")[0]
    compile(snippet, "README.md", "exec")
    constant = readme(unet, encoder, tmp_path / "constant", replace(SETTINGS, guider="constant", guidance=(1.0, 3.0)))
    assert "min_guidance_scale=3,\n    max_guidance_scale=3," in constant
    none = readme(unet, encoder, tmp_path / "none", replace(SETTINGS, guider="none"))
    assert "max_guidance_scale=1," in none


def refusal(*arguments, **options) -> str:
    with pytest.raises(UserError) as caught:
        export_svd(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_exported_leaves_nothing(unet, encoder, tmp_path):
    vae, output = make_vae("tiny-video"), tmp_path / "out"
    for change, message in (
        ({"reference": 4}, "export: reference views 4; diffusers' pipeline expects a model of one film"),
        ({"in_channels": 4}, "export: input channels 4; diffusers' pipeline expects 8"),
        ({"out_channels": 8}, "export: output channels 8; diffusers' pipeline expects 4"),
        ({"context": 48}, "export: a context 48; diffusers' pipeline expects one embedding of 32"),
        ({"vector": 64}, "export: a vector 64; diffusers' pipeline expects fps, motion bucket and noise, equally wide"),
    ):
        with torch.device("meta"):
            other = VideoUNet(replace(unet.config, **change))
        assert refusal(other, vae, encoder, output, SETTINGS).startswith(message)
    films = refusal(unet, vae, encoder, output, replace(SETTINGS, size=(32, 36)))
    assert films == "export: films of (32, 36); diffusers' pipeline expects multiples of 8"
    torch.manual_seed(7)
    large = VideoUNet(unet.config)
    with torch.no_grad():
        large.out[2].bias.fill_(1e6)
    message = refusal(large, vae, encoder, output, SETTINGS, half="fp16")
    assert message == "unet: conv_out.bias is not finite in float16"
    assert not any(tmp_path.iterdir())
    (tmp_path / "file").write_text("mine")
    assert "exists; expected a new" in refusal(unet, vae, encoder, tmp_path / "file", SETTINGS)
