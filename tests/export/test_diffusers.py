"""Exported pipelines, loaded by diffusers with no network, beside our own sampling from the same noise."""

import itertools
import json
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, MarigoldDepthPipeline
from safetensors.torch import load_file

from salticid.diffusion import VP, X0, Denoiser, Epsilon, V, first_order, spaced_grid
from salticid.errors import UserError
from salticid.export.diffusers import MarigoldSettings, export_marigold
from salticid.nets import stable_diffusion
from salticid.nets.lora import Lora
from salticid.nets.stable_diffusion.base import Base

pytestmark = pytest.mark.filterwarnings("ignore:`torch_dtype` is deprecated:FutureWarning")

TARGETS = {"epsilon": Epsilon(), "x0": X0(), "v": V()}
IMAGE = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(1))
NOISE = torch.randn(1, 4, 6, 8, generator=torch.Generator().manual_seed(2))


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(3)
    return stable_diffusion.make_vae("tiny")


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(4)
    return stable_diffusion.make_unet("tiny").eval()


@torch.no_grad()
def ours(unet, vae, settings: MarigoldSettings, steps: int) -> torch.Tensor:
    """Depth in [0, 1], (1, 1, H, W), from the parts of this package."""
    scheduler = stable_diffusion.scheduler_config("tiny")
    path = VP.from_scheduler(scheduler | {"rescale_betas_zero_snr": settings.zero_terminal_snr})
    offset = scheduler["steps_offset"] if settings.spacing == "leading" else 0
    prompt, scale = stable_diffusion.empty_prompt("tiny"), vae.config["scaling_factor"]
    image = vae.encode(2 * IMAGE - 1).latent_dist.mean * scale
    network = lambda x, t: unet(torch.cat([image, x], dim=1), t, prompt).sample  # noqa: E731
    denoise = Denoiser(network, path, TARGETS[settings.target])
    latent = first_order(denoise, NOISE, path, spaced_grid(1000, steps, settings.spacing, offset=offset))
    return (vae.decode(latent / scale).sample.mean(dim=1, keepdim=True).clamp(-1, 1) + 1) / 2


def theirs(folder: Path, steps: int) -> torch.Tensor:
    pipeline = MarigoldDepthPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": steps, "processing_resolution": 0, "ensemble_size": 1, "output_type": "pt"}
    return pipeline(IMAGE, latents=NOISE, **options).prediction


CASES = [
    (target, zero, spacing, steps)
    for target, (zero, spacing), steps in itertools.product(
        TARGETS, [(True, "trailing"), (False, "leading"), (False, "trailing")], (1, 4)
    )
    if not (zero and target == "epsilon")  # refused: the target cannot tell x0 from noise
]


@pytest.mark.parametrize(("target", "zero", "spacing", "steps"), CASES)
def test_the_pipeline_makes_what_we_make(unet, vae, tmp_path, target, zero, spacing, steps):
    settings = MarigoldSettings(target=target, zero_terminal_snr=zero, spacing=spacing)
    export_marigold(unet, vae, "tiny", tmp_path / "out", settings)
    made, expected = theirs(tmp_path / "out", steps), ours(unet, vae, settings, steps)
    assert expected.std() > 1e-3
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-4)


def test_the_folder_is_complete_and_says_what_it_is(unet, vae, tmp_path):
    settings = MarigoldSettings(steps=4, resolution=64)
    files = export_marigold(unet, vae, "tiny", tmp_path / "new" / "out", settings)
    folder = tmp_path / "new" / "out"
    assert files == sorted(p for p in folder.rglob("*") if p.is_file())
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["out"]
    pipeline = MarigoldDepthPipeline.from_pretrained(folder)
    assert pipeline.default_denoising_steps == 4
    assert pipeline.default_processing_resolution == 64
    assert pipeline.config["prediction_type"] == "depth"
    assert pipeline.scale_invariant
    assert pipeline.shift_invariant
    assert isinstance(pipeline.scheduler, DDIMScheduler)
    wanted = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "prediction_type": "v_prediction"}
    assert wanted.items() <= dict(pipeline.scheduler.config).items()
    assert "do otherwise" not in (folder / "README.md").read_text()
    text = "".join(p.read_text() for p in files if p.suffix in (".json", ".md"))
    assert str(tmp_path) not in text
    assert "salticid/" not in text
    again = Base(str(folder), "recipe.base").weights("text_encoder")
    assert all(name.startswith("text_model.") for name in load_file(again))


def test_an_exported_pipeline_is_a_base(unet, vae, tmp_path):
    export_marigold(unet, vae, "tiny", tmp_path / "out", MarigoldSettings())
    base = str(tmp_path / "out")
    again = stable_diffusion.make_unet(base)
    stable_diffusion.load_unet(again, base)
    assert all(torch.equal(p, q) for p, q in zip(unet.parameters(), again.parameters(), strict=True))
    assert torch.equal(stable_diffusion.empty_prompt(base), stable_diffusion.empty_prompt("tiny"))
    assert VP.from_scheduler(stable_diffusion.scheduler_config(base)).alpha(torch.tensor(999)) == 0


def test_adapters_are_merged_and_the_network_is_left_alone(unet, vae, tmp_path):
    torch.manual_seed(5)
    adapted = stable_diffusion.make_unet("tiny").eval()
    stable_diffusion.add_lora(adapted, Lora(rank=2))
    with torch.no_grad():
        for p in adapted.parameters():
            if p.requires_grad:
                p.add_(0.1 * torch.randn_like(p))
    expected = ours(adapted, vae, MarigoldSettings(), 2)
    export_marigold(adapted, vae, "tiny", tmp_path / "out", MarigoldSettings())
    torch.testing.assert_close(theirs(tmp_path / "out", 2), expected, rtol=0, atol=1e-4)
    assert stable_diffusion.has_lora(adapted)
    torch.testing.assert_close(ours(adapted, vae, MarigoldSettings(), 2), expected, rtol=0, atol=0)


@pytest.mark.parametrize(("half", "dtype", "tolerance"), [("fp16", torch.float16, 0.01), ("bf16", torch.bfloat16, 0.1)])
def test_half_precision(unet, vae, tmp_path, half, dtype, tolerance):
    export_marigold(unet, vae, "tiny", tmp_path / "out", MarigoldSettings(), half=half)
    for file in (tmp_path / "out").rglob("*.safetensors"):
        assert {value.dtype for value in load_file(file).values()} == {dtype}
    assert next(unet.parameters()).dtype == torch.float32
    expected = ours(unet, vae, MarigoldSettings(), 1)
    torch.testing.assert_close(theirs(tmp_path / "out", 1), expected, rtol=0, atol=tolerance)
    asked = MarigoldDepthPipeline.from_pretrained(tmp_path / "out", torch_dtype=dtype)
    assert {part.dtype for part in (asked.unet, asked.vae, asked.text_encoder)} == {dtype}


def test_what_the_pipeline_does_otherwise_is_said(unet, vae, tmp_path):
    settings = MarigoldSettings(padded_prompt=True, start="zeros", affine_invariant=False, quantity="disparity")
    export_marigold(unet, vae, "tiny", tmp_path / "out", settings)
    text = (tmp_path / "out" / "README.md").read_text()
    assert "trained with 77" in text
    assert "start from zeros" in text
    assert "mapped from metres" in text
    index = json.loads((tmp_path / "out" / "model_index.json").read_text())
    assert index["prediction_type"] == "disparity"
    assert index["scale_invariant"] is False


def refusal(*arguments, **options) -> str:
    with pytest.raises(UserError) as caught:
        export_marigold(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_exported_leaves_nothing(unet, vae, tmp_path):
    output, settings = tmp_path / "out", MarigoldSettings()
    assert "expected at least 1 step, and a multiple of 4" in refusal(
        unet, vae, "tiny", output, MarigoldSettings(resolution=30)
    )
    large = stable_diffusion.make_unet("tiny")
    with torch.no_grad():
        large.conv_out.bias.fill_(1e6)
    assert refusal(large, vae, "tiny", output, settings, half="fp16") == "unet: conv_out.bias is not finite in float16"
    base = tmp_path / "base"
    for name in ("scheduler", "tokenizer", "text_encoder"):
        (base / name).mkdir(parents=True)
    source = Base("tiny", "").folder
    (base / "text_encoder" / "config.json").write_text((source / "text_encoder" / "config.json").read_text())
    assert "has no text_encoder/model.safetensors to export" in refusal(unet, vae, str(base), output, settings)
    assert [p.name for p in tmp_path.iterdir()] == ["base"]
    assert "exists; expected a new or an empty folder" in refusal(unet, vae, "tiny", base, settings)
    (tmp_path / "file").write_text("mine")
    assert "exists; expected a new" in refusal(unet, vae, "tiny", tmp_path / "file", settings)
    assert "cannot be written" in refusal(unet, vae, "tiny", tmp_path / "file" / "out", settings)
    output.mkdir()
    export_marigold(unet, vae, "tiny", output, settings)
    assert (output / "model_index.json").is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["base", "file", "out"]
