"""The image encoder beside diffusers' pipeline, and OpenCLIP's weights beside their forward pass written out."""

import json

import pytest
import torch
import torch.nn.functional as F
from diffusers.pipelines.stable_video_diffusion import pipeline_stable_video_diffusion as pipeline
from PIL import Image
from tests.nets.stable_video.conftest import CLIP, alive, as_open_clip
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from salticid.errors import ConfigError
from salticid.nets.stable_video import ImageEncoder, make_image_encoder
from salticid.nets.stable_video.image_encoder import feature_extractor, resize_smoothed
from salticid.nets.stable_video.names import clip_from_open_clip

PICTURES = torch.rand(2, 3, 40, 52, generator=torch.Generator().manual_seed(1)) * 2 - 1
SIZES = [(40, 52), (20, 28), (28, 200), (17, 300), (28, 28), (5, 9), (143, 91)]


@pytest.mark.parametrize("size", SIZES)
def test_pictures_are_resized_as_diffusers_does_it(size):
    pictures = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(2)) * 2 - 1
    expected = pipeline._resize_with_antialiasing(pictures, (28, 28))
    assert expected.std() > 0.02
    torch.testing.assert_close(resize_smoothed(pictures, 28), expected, rtol=0, atol=1e-5)


def test_embeddings_are_those_of_diffusers_pipeline():
    """Its `_encode_image` on a PIL picture, which it brings to 224×224."""
    torch.manual_seed(3)
    clip = alive(CLIPVisionModelWithProjection(CLIPVisionConfig(**CLIP | {"image_size": 224, "patch_size": 56})))
    video = pipeline.StableVideoDiffusionPipeline(None, clip, None, None, CLIPImageProcessor(**feature_extractor(224)))
    rough = torch.randint(0, 256, (300, 260, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
    expected = video._encode_image(Image.fromarray(rough.numpy()), "cpu", 1, False)[:, 0]
    found = ImageEncoder(clip)(rough.permute(2, 0, 1)[None] / 127.5 - 1)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def by_hand(weights, pictures):
    """OpenCLIP's vision transformer (Dosovitskiy et al. 2021; Radford et al. 2021) on 28×28 pixels."""

    def norm(name, x):
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])

    def linear(name, x):
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    patches = F.conv2d(pictures, weights["conv1.weight"], stride=7).flatten(2).transpose(1, 2)
    first = weights["class_embedding"].expand(len(patches), 1, -1)
    x = norm("ln_pre", torch.cat([first, patches], 1) + weights["positional_embedding"])
    for number in range(2):
        layer = f"transformer.resblocks.{number}"
        joint = weights[f"{layer}.attn.in_proj_weight"], weights[f"{layer}.attn.in_proj_bias"]
        q, k, v = F.linear(norm(f"{layer}.ln_1", x), *joint).unflatten(2, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        seen = ((q @ k.transpose(2, 3)) / q.shape[-1] ** 0.5).softmax(-1) @ v
        x = x + linear(f"{layer}.attn.out_proj", seen.transpose(1, 2).flatten(2))
        x = x + linear(f"{layer}.mlp.c_proj", F.gelu(linear(f"{layer}.mlp.c_fc", norm(f"{layer}.ln_2", x))))
    return norm("ln_post", x[:, 0]) @ weights["proj"]


def test_an_original_file(svd_tensors, write):
    encoder = make_image_encoder(write(svd_tensors))
    prefix = "conditioner.embedders.0.open_clip.model.visual."
    weights = {n.removeprefix(prefix): v for n, v in svd_tensors.items() if n.startswith(prefix)}
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    small = (pipeline._resize_with_antialiasing(PICTURES, (28, 28)) + 1) / 2
    expected = by_hand(weights, (small - mean[:, None, None]) / std[:, None, None])
    found = encoder(PICTURES)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (encoder.width, encoder.size, found.shape) == (24, 28, (2, 24))
    assert not encoder.training
    assert not any(p.requires_grad for p in encoder.parameters())


def test_a_folder_normalises_as_its_feature_extractor_says(base, clip):
    small = (resize_smoothed(PICTURES, 28) + 1) / 2
    given = (small - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / torch.tensor([0.2, 0.3, 0.4])[:, None, None]
    expected = clip(given).image_embeds
    torch.testing.assert_close(make_image_encoder(str(base))(PICTURES), expected, rtol=1e-5, atol=1e-6)


def test_the_map_of_names_covers_openclips_vit_h_14():
    """Names and shapes as in `svd.safetensors`; 632,076,800 parameters, as of OpenCLIP's image half."""
    full = {"hidden_size": 1280, "intermediate_size": 5120, "projection_dim": 1024, "num_hidden_layers": 32}
    sizes = {"num_attention_heads": 16, "image_size": 224, "patch_size": 14, "hidden_act": "gelu"}
    with torch.device("meta"):
        network = CLIPVisionModelWithProjection(CLIPVisionConfig(**full, **sizes))
    theirs = {name.removeprefix("vision_model."): value for name, value in network.state_dict().items()}
    original = as_open_clip(theirs)
    assert original["transformer.resblocks.31.attn.in_proj_weight"].shape == (3840, 1280)
    assert sum(value.numel() for value in original.values()) == 632_076_800
    found = clip_from_open_clip(original)
    assert {name: value.shape for name, value in found.items()} == {n: v.shape for n, v in theirs.items()}


def refusal(base) -> str:
    with pytest.raises(ConfigError) as caught:
        make_image_encoder(str(base), key="recipe.start")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("recipe.start: ")
    return str(caught.value)


def test_broken_bases_are_refused_in_one_line(base, svd_tensors, write):
    visual = "conditioner.embedders.0.open_clip.model.visual."
    assert "has no image encoder" in refusal(write({"first_stage_model.a": torch.zeros(1)}))
    less = {n: v for n, v in svd_tensors.items() if n != f"{visual}ln_post.bias"}
    assert "has no post_layernorm.bias" in refusal(write(less))
    assert "has no conditioner.embedders.0.open_clip.model.visual.proj" in refusal(
        write({n: v for n, v in svd_tensors.items() if n != f"{visual}proj"})
    )
    flat = svd_tensors | {f"{visual}conv1.weight": torch.zeros(160)}
    assert "conv1.weight" in refusal(write(flat))
    normal = base / "feature_extractor" / "preprocessor_config.json"
    for wrong in ([1, 2], "abc", 3, None):
        normal.write_text(json.dumps({"image_mean": wrong}))
        assert f"image_mean of {base}/feature_extractor is {wrong}; expected three numbers" in refusal(base)
    (base / "image_encoder" / "config.json").write_text(json.dumps({"model_type": "siglip"}))
    assert "is a siglip; expected a clip_vision_model" in refusal(base)


@pytest.mark.gpu
def test_on_a_gpu(base):
    encoder = make_image_encoder(str(base))
    expected = encoder(PICTURES)
    torch.testing.assert_close(encoder.to("cuda")(PICTURES.cuda()).cpu(), expected, rtol=0, atol=2e-2)
