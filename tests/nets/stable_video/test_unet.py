"""Sizes and weights of a base's UNet."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from salticid.errors import ConfigError
from salticid.nets.stable_video import fill_unet, make_image_encoder, make_vae, unet_config
from salticid.nets.video import SV3D_P, SV3D_U, SV4D, SVD, TINY, VideoUNet, to_diffusers

PREFIX = "model.diffusion_model."


@pytest.mark.parametrize("config", [SVD, SV3D_U, SV3D_P, SV4D])
def test_sizes_of_original_files(config, write):
    """Read off the two shapes in which they differ."""
    tensors = {f"{PREFIX}label_emb.0.0.weight": torch.zeros(1280, config.vector)}
    if config.reference:
        tensors[f"{PREFIX}middle_block.1.motion_blocks.0.attn2.to_k.weight"] = torch.zeros(1280, config.reference)
    assert unet_config(write(tensors)) == config


def test_a_folder(base):
    config = unet_config(str(base))
    assert config == replace(TINY, diffusers_norms=True)
    with torch.device("meta"):
        unet = VideoUNet(config)
    fill_unet(unet, str(base))
    expected = load_file(base / "unet" / "diffusion_pytorch_model.safetensors")
    found = to_diffusers(config, unet.state_dict())
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


def test_an_original_file(svd_tensors, write):
    unet = VideoUNet(TINY)
    fill_unet(unet, write(svd_tensors))
    assert all(torch.equal(value, svd_tensors[PREFIX + name]) for name, value in unet.state_dict().items())


def test_a_configuration_alone_leaves_the_unet_as_it_is(base, caplog):
    (base / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    unet = VideoUNet(TINY)
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    with caplog.at_level("INFO", "salticid"):
        fill_unet(unet, str(base))
    assert "unet of" in caplog.text
    assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items())


def refusal(function, *arguments) -> str:
    with pytest.raises(ConfigError) as caught:
        function(*arguments, key="recipe.start")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("recipe.start: ")
    return str(caught.value)


def test_broken_bases_are_refused_in_one_line(base, svd_tensors, write):
    assert "has no model.diffusion_model.label_emb.0.0.weight" in refusal(unet_config, write({"a": torch.zeros(1)}))
    odd = write({f"{PREFIX}label_emb.0.0.weight": torch.zeros(3)})
    assert "has shape (3,)" in refusal(unet_config, odd)
    assert "no such folder" in refusal(unet_config, "nothing/there.safetensors")
    assert "has no " in refusal(fill_unet, VideoUNet(replace(TINY, blocks=2)), write(svd_tensors))
    file = base / "unet" / "config.json"
    given = json.loads(file.read_text())
    for wrong, message in (
        ({"layers_per_block": [1, 2]}, "layers_per_block is [1, 2]; expected one number"),
        ({"num_attention_heads": 5}, "5 heads do not divide the width 32"),
        ({"block_out_channels": 3}, "config.json ("),
        ({"_class_name": "UNet2DConditionModel"}, "is a UNet2DConditionModel; expected a UNetSpatioTemporal"),
    ):
        file.write_text(json.dumps(given | wrong))
        assert message in refusal(unet_config, str(base))


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
    unet_config("some/video")
    assert hub.asked == ["unet/config.json"]
    fill_unet(VideoUNet(TINY), "some/video")
    assert hub.asked[1:] == ["unet/diffusion_pytorch_model.safetensors"]
    make_vae("some/video")
    make_image_encoder("some/video")
    assert {name.partition("/")[0] for name in hub.asked[2:]} == {"vae", "image_encoder", "feature_extractor"}
    assert len(hub.asked) == len(set(hub.asked))
