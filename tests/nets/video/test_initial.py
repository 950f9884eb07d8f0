"""Weights from files of three formats, and SV4D from SVD and SV3D."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from salticid.errors import ConfigError
from salticid.nets.video import SVD, TINY, VideoUNet, adopt, load_unet, sv4d_name, to_diffusers

PREFIX = "model.diffusion_model."
TINY4D = replace(TINY, vector=80, reference=4)


def equal(first, second):
    first, second = first.state_dict(), second.state_dict()
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("kind", ["published", "plain", "diffusers"])
def test_svd_is_loaded(svd, tmp_path, kind):
    tensors = {name: value.clone() for name, value in svd.state_dict().items()}
    if kind == "diffusers":
        tensors = to_diffusers(TINY, tensors)
    elif kind == "published":
        tensors = {PREFIX + name: value for name, value in tensors.items()}
        tensors |= {"first_stage_model.encoder.conv_in.weight": torch.zeros(3), "conditioner.a": torch.zeros(1)}
    save_file(tensors, tmp_path / "svd.safetensors")
    with torch.device("meta"):
        unet = VideoUNet(TINY)
    load_unet(unet, tmp_path / "svd.safetensors")
    assert equal(unet, svd)


def test_sv4d_is_loaded(sv4d, tmp_path):
    tensors = {PREFIX + sv4d_name(name): value.clone() for name, value in sv4d.state_dict().items()}
    assert not any("time_stack" in name or "time_pos_embed" in name for name in tensors)
    save_file(tensors, tmp_path / "sv4d.safetensors")
    unet = VideoUNet(sv4d.config)
    load_unet(unet, tmp_path / "sv4d.safetensors")
    assert equal(unet, sv4d)


def test_a_file_of_another_network_is_refused(svd, sv4d, tmp_path):
    file = tmp_path / "weights.safetensors"
    save_file({name: value.clone() for name, value in svd.state_dict().items()}, file)
    with pytest.raises(ConfigError, match=r"^base: .*weights.safetensors has no .*time_mix_blocks"):
        load_unet(VideoUNet(sv4d.config), file, "base")
    with pytest.raises(ConfigError, match=r"label_emb.0.0.weight .* has shape \(128, 48\), not \(128, 16\)"):
        load_unet(VideoUNet(replace(TINY, vector=16)), file)
    with pytest.raises(ConfigError, match="no such file"):
        load_unet(VideoUNet(TINY), tmp_path / "nothing.safetensors")


def test_sv4d_starts_from_svd_where_it_fits(svd, alive):
    unet = alive(VideoUNet(TINY4D))
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    left = adopt(unet, svd.state_dict())
    middle = "middle_block.1.motion_blocks.0.attn2.to_k.weight"
    assert {name.split(".", 3)[-1] for name in left if "motion" not in name} == {"weight"}
    assert [name for name in left if "motion" not in name] == ["label_emb.0.0.weight"]
    assert {name.partition("motion_blocks.0.")[2] for name in left} == {"", "attn2.to_k.weight", "attn2.to_v.weight"}
    assert left["label_emb.0.0.weight"] == "label_emb.0.0.weight has shape (128, 48), not (128, 80)"
    assert left[middle] == "middle_block.1.time_stack.0.attn2.to_k.weight has shape (32, 24), not (32, 4)"
    source = svd.state_dict()
    for name, value in unet.state_dict().items():
        theirs = name.replace("motion_blocks", "time_stack").replace("time_mix_motion_embed", "time_pos_embed")
        assert torch.equal(value, before[name] if name in left else source[theirs])


def test_views_and_frames_may_start_from_two_networks(svd, alive):
    """As SV4D did, from SV3D and SVD-XT."""
    orbits, unet = alive(VideoUNet(replace(TINY, vector=80))), VideoUNet(TINY4D)
    left = adopt(unet, orbits.state_dict(), svd.state_dict())
    assert all("motion_blocks.0.attn2.to_" in name for name in left)
    weights = unet.state_dict()
    name = "middle_block.1.{}.0.norm1.weight"
    assert torch.equal(weights[name.format("time_stack")], orbits.state_dict()[name.format("time_stack")])
    assert torch.equal(weights[name.format("motion_blocks")], svd.state_dict()[name.format("time_stack")])


def test_of_a_smaller_network_the_missing_tensors_are_named(svd):
    unet = VideoUNet(replace(TINY4D, blocks=2))
    left = adopt(unet, svd.state_dict())
    assert left["input_blocks.4.0.in_layers.0.weight"] == "there is no input_blocks.4.0.in_layers.0.weight"


def test_a_start_that_means_nothing_is_refused():
    with pytest.raises(ValueError, match="no weight fits"):
        adopt(VideoUNet(TINY4D), {"strange": torch.zeros(1)})


def test_what_is_left_at_full_size():
    """Of 1908 tensors; on the meta device, where copying costs nothing."""
    with torch.device("meta"):
        source, unet = VideoUNet(SVD).state_dict(), VideoUNet(replace(SVD, vector=1280, reference=4))
    left = adopt(unet, source)
    assert len(left) == 1 + 2 * 16
