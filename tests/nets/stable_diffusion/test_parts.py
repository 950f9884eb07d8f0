"""VAE, empty prompt and scheduler of a base, beside what diffusers and transformers make of the same files."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from salticid.errors import ConfigError
from salticid.nets.stable_diffusion import empty_prompt, load_unet, make_unet, make_vae, scheduler_config

IMAGES = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1
OLD = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}


def old_name(name: str) -> str:
    for new, old in OLD.items():
        name = name.replace(new, old)
    return name


@torch.no_grad()
def there_and_back(vae):
    return vae.decode(vae.encode(IMAGES).latent_dist.mean).sample


def test_the_vae_is_frozen_and_that_of_diffusers(base):
    vae = make_vae(str(base))
    expected = there_and_back(AutoencoderKL.from_pretrained(base / "vae").eval())
    torch.testing.assert_close(there_and_back(vae), expected, rtol=0, atol=0)
    assert not vae.training
    assert not any(p.requires_grad for p in vae.parameters())
    assert {p.dtype for p in vae.parameters()} == {torch.float32}
    assert vae.config["scaling_factor"] == 0.18215


@pytest.mark.parametrize("half", [False, True])
def test_old_names_and_half_precision(base, half):
    """Files of 2022, with `query` and `proj_attn`; diffusers, which renames them too, is the oracle."""
    file = base / "vae" / "diffusion_pytorch_model.safetensors"
    weights = {old_name(name): value.half() if half else value for name, value in load_file(file).items()}
    assert any(".query." in name for name in weights)
    save_file(weights, file, metadata={"format": "pt"})
    vae = make_vae(str(base))
    expected = there_and_back(AutoencoderKL.from_pretrained(base / "vae").float().eval())
    torch.testing.assert_close(there_and_back(vae), expected, rtol=0, atol=0)


@pytest.mark.parametrize(("padded", "n"), [(False, 2), (True, 77)])
def test_the_empty_prompt_is_what_transformers_makes_of_it(base, padded, n):
    embedded = empty_prompt(str(base), padded)
    tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer")
    length = {"padding": "max_length", "max_length": 77, "truncation": True} if padded else {"padding": "do_not_pad"}
    tokens = tokenizer("", return_tensors="pt", **length).input_ids
    assert tokens[0, :2].tolist() == [1, 2]
    with torch.no_grad():
        expected = CLIPTextModel.from_pretrained(base / "text_encoder").eval()(tokens)[0]
    assert embedded.shape == (1, n, 24)
    assert embedded.dtype == torch.float32
    torch.testing.assert_close(embedded, expected, rtol=1e-6, atol=1e-6)
    assert not embedded.requires_grad


def test_text_encoders_of_transformers_4(base):
    """Their names began with `text_model.`, and very old files hold a table of positions."""
    expected = empty_prompt(str(base))
    file = base / "text_encoder" / "model.safetensors"
    weights = {f"text_model.{name.removeprefix('text_model.')}": value for name, value in load_file(file).items()}
    weights["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    file.unlink()
    torch.save(weights, base / "text_encoder" / "pytorch_model.bin")
    torch.testing.assert_close(empty_prompt(str(base)), expected, rtol=0, atol=0)


def test_configurations_alone_are_random_from_torchs_generator(base):
    for file in base.glob("*/*.safetensors"):
        file.unlink()
    torch.manual_seed(2)
    vae, embedded = make_vae(str(base)), empty_prompt(str(base))
    torch.manual_seed(2)
    expected = AutoencoderKL.from_config(AutoencoderKL.load_config(base / "vae"))
    torch.testing.assert_close(there_and_back(vae), there_and_back(expected.eval()), rtol=0, atol=0)
    encoder = CLIPTextModel(CLIPTextConfig.from_pretrained(base / "text_encoder")).eval()
    with torch.no_grad():
        torch.testing.assert_close(embedded, encoder(torch.tensor([[1, 2]]))[0], rtol=1e-6, atol=1e-6)


def test_the_scheduler_is_the_file(base):
    assert scheduler_config(str(base)) == json.loads((base / "scheduler" / "scheduler_config.json").read_text())


def refusal(function, base: Path | str) -> str:
    with pytest.raises(ConfigError) as caught:
        function(str(base), key="recipe.start")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("recipe.start: ")
    return str(caught.value)


def test_broken_parts_are_refused_in_one_line(base):
    text, vae = base / "text_encoder", base / "vae"
    (base / "scheduler" / "scheduler_config.json").unlink()
    assert "has no scheduler/scheduler_config.json" in refusal(scheduler_config, base)
    weights = load_file(text / "model.safetensors")
    save_file({name: value for name, value in weights.items() if "layers.1" not in name}, text / "model.safetensors")
    assert "has no encoder.layers.1." in refusal(empty_prompt, base)
    settings = json.loads((text / "config.json").read_text())
    (text / "config.json").write_text(json.dumps(settings | {"model_type": "bert"}))
    assert "is a bert; expected a clip_text_model" in refusal(empty_prompt, base)
    (text / "config.json").write_text(json.dumps(settings | {"num_attention_heads": 5}))
    assert "text_encoder of" in refusal(empty_prompt, base)
    (text / "config.json").write_text(json.dumps(settings | {"vocab_size": 2}))
    (text / "model.safetensors").unlink()
    assert "does not fit its text encoder" in refusal(empty_prompt, base)
    (base / "tokenizer" / "vocab.json").write_text("{")
    assert "the tokenizer of" in refusal(empty_prompt, base)
    shutil.rmtree(base / "tokenizer")
    assert "has no tokenizer/vocab.json" in refusal(empty_prompt, base)
    (vae / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    assert "not a file of weights that can be read safely" in refusal(make_vae, base)


def test_a_hub_that_cannot_be_reached_and_packages_that_are_missing(monkeypatch, base):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "nobody/no-such-model: no such folder, nor from the hub (" in refusal(make_vae, "nobody/no-such-model")
    monkeypatch.setitem(sys.modules, "transformers", None)
    missing = "transformers is not installed; pip install 'salticid[marigold]'"
    assert refusal(empty_prompt, base) == f"recipe.start: {missing}"


class Hub:
    """Stands for `snapshot_download`: repositories are folders, and what is asked for is noted."""

    def __init__(self, repository: Path, cache: Path) -> None:
        self.repository, self.cache, self.asked = repository, cache, []

    def __call__(self, repository: str, allow_patterns: list[str]) -> str:
        self.asked += allow_patterns
        for name in allow_patterns:
            if (self.repository / name).is_file():
                (self.cache / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(self.repository / name, self.cache / name)
        return str(self.cache)


def test_only_what_is_needed_comes_from_the_hub(monkeypatch, base, tmp_path):
    hub = Hub(base, tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub)
    unet, name = "unet/diffusion_pytorch_model", "some/model"
    load_unet(make_unet(name), name)
    assert hub.asked == ["unet/config.json", f"{unet}.safetensors"]
    empty_prompt(name)
    assert {file for file in hub.asked if not file.startswith(("unet", "tokenizer"))} == {
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
    }
    assert len(hub.asked) == len(set(hub.asked))


def test_a_repository_without_safetensors_is_refused_not_made_up(monkeypatch, base, tmp_path):
    weights = load_file(base / "vae" / "diffusion_pytorch_model.safetensors")
    (base / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(weights, base / "vae" / "diffusion_pytorch_model.bin")
    hub = Hub(base, tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub)
    assert "some/model has no vae/diffusion_pytorch_model.safetensors" in refusal(make_vae, "some/model")
    assert not any(name.endswith(".bin") for name in hub.asked)
    save_file({n: v.half() for n, v in weights.items()}, base / "vae" / "diffusion_pytorch_model.fp16.safetensors")
    monkeypatch.setattr("huggingface_hub.snapshot_download", Hub(base, tmp_path / "cache"))
    assert make_vae("some/model").encoder.conv_in.weight.dtype == torch.float32
