"""The VAE of folders and of original files, beside what diffusers makes of the same weights."""

import json

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder
from tests.nets.stable_video.conftest import VAE, alive, as_original_vae, below, original_vae_layers

from salticid.errors import ConfigError
from salticid.nets.stable_video import make_vae
from salticid.nets.stable_video.names import original_vae_name, vae_as_diffusers_has_it

FULL = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "layers_per_block": 2,
}
PICTURES = torch.rand(6, 3, 16, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1
PLAIN = {key: value for key, value in VAE.items() if key != "scaling_factor"} | {
    "up_block_types": ("UpDecoderBlock2D",) * 2
}


@pytest.fixture(scope="module")
def kl():
    """An image VAE whose latents go straight into the decoder, as in SV3D and SV4D."""
    torch.manual_seed(5)
    return alive(AutoencoderKL(**PLAIN, use_post_quant_conv=False))


def close(found, expected, atol=1e-6):
    assert expected.std() > 0.05
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=atol)


def test_a_folder_with_a_temporal_decoder(base, vae):
    ours = make_vae(str(base))
    latents = vae.encode(PICTURES).latent_dist.mean
    close(ours.encode_mode(PICTURES), latents)
    close(ours.decode(latents, 3), vae.decode(latents, num_frames=3).sample)
    apart = (ours.decode(latents, 3) - ours.decode(latents, 2)).abs().max()
    assert apart > 1e-3, "frames depend on their neighbours"
    assert ours.temporal
    assert (ours.factor, ours.latent_channels, ours.scaling_factor) == (2, 4, 0.3)
    assert not ours.training
    assert {(p.requires_grad, p.dtype) for p in ours.parameters()} == {(False, torch.float32)}


def test_a_folder_with_an_image_vae(base, kl):
    kl.save_pretrained(base / "vae")
    ours = make_vae(str(base))
    latents = kl.encode(PICTURES).latent_dist.mean
    close(ours.encode_mode(PICTURES), latents)
    close(ours.decode(latents, 3), kl.decode(latents).sample)
    assert not ours.temporal


@pytest.mark.parametrize("kind", [AutoencoderKLTemporalDecoder, AutoencoderKL])
def test_the_map_of_names_covers_the_full_size(kind):
    """And the sizes are those of the published networks."""
    temporal = kind is AutoencoderKLTemporalDecoder
    options = {} if temporal else {"up_block_types": ("UpDecoderBlock2D",) * 4}
    with torch.device("meta"):
        network = kind(**FULL, **options)
    layers = original_vae_layers(temporal, 4, widens=(1, 2))
    names = {name: original_vae_name(name, 4) for name in network.state_dict()}
    assert len(set(names.values())) == len(names)
    for name, other in names.items():
        layer, _, parameter = name.rpartition(".")
        assert other == f"{layers[layer]}.{parameter}"
    if temporal:
        count = {half: sum(p.numel() for p in getattr(network, half).parameters()) for half in ("encoder", "decoder")}
        assert count == {"encoder": 34_163_592, "decoder": 63_579_183}
        in_time = [p.numel() for n, p in network.named_parameters() if "tempor" in n or "time_" in n]
        assert sum(in_time) == 14_089_004
        assert {"decoder.mid.block_1.time_stack.in_layers.0.weight", "decoder.up.3.block.0.mix_factor"} < set(
            names.values()
        )


def test_an_original_file(svd_tensors, write, vae):
    """Its encoder has no `quant_conv`: the mean is what the encoder says."""
    ours = make_vae(write(svd_tensors))
    mean = vae.encoder(PICTURES)[:, :4]
    close(ours.encode_mode(PICTURES), mean)
    close(ours.decode(mean, 3), vae.decode(mean, num_frames=3).sample)
    assert (ours.scaling_factor, ours.factor, ours.temporal) == (0.18215, 2, True)
    assert not any(tensor.is_meta for tensor in [*ours.parameters(), *ours.buffers()])


def test_an_original_file_with_a_quant_conv(svd_tensors, write, vae):
    whole = svd_tensors | below("first_stage_model.", as_original_vae(vae.state_dict()))
    close(make_vae(write(whole)).encode_mode(PICTURES), vae.encode(PICTURES).latent_dist.mean)


def test_sv3ds_encoder_is_that_of_the_conditioner(write, kl):
    """Its first stage is a decoder of pictures; the conditioner's VAE, whose decoder nobody needs, has a `quant_conv`
    and a `post_quant_conv`."""
    weights = as_original_vae(kl.state_dict())
    torch.manual_seed(6)
    other = as_original_vae(alive(AutoencoderKL(**PLAIN)).state_dict())
    encoder = {n: v for n, v in weights.items() if not n.startswith("decoder.")}
    decoder = {n: v for n, v in weights.items() if n.startswith("decoder.")}
    tensors = below("first_stage_model.", decoder) | below("conditioner.embedders.1.encoder.", other | encoder)
    ours = make_vae(write(tensors))
    latents = kl.encode(PICTURES).latent_dist.mean
    close(ours.encode_mode(PICTURES), latents)
    close(ours.decode(latents, 3), kl.decode(latents).sample)
    assert not ours.temporal


def test_only_matrices_of_attention_change_their_shape():
    tensors = {"decoder.mid.attn_1.q.weight": torch.zeros(2, 2, 1, 1), "quant_conv.weight": torch.zeros(2, 2, 1, 1)}
    shapes = [tuple(value.shape) for value in vae_as_diffusers_has_it(tensors).values()]
    assert shapes == [(2, 2), (2, 2, 1, 1)]


def refusal(base) -> str:
    with pytest.raises(ConfigError) as caught:
        make_vae(str(base), key="recipe.start")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("recipe.start: ")
    return str(caught.value)


def test_broken_bases_are_refused_in_one_line(base, svd_tensors, write, tmp_path):
    assert "no such folder; expected a folder in the format of diffusers" in refusal("nowhere/svd.safetensors")
    for name in ("decoder.conv_in.weight", "encoder.down.0.block.0.conv1.weight"):
        less = {n: v for n, v in svd_tensors.items() if n != f"first_stage_model.{name}"}
        assert "has no VAE (" in refusal(write(less))
    less = {n: v for n, v in svd_tensors.items() if not n.endswith("mid.block_1.mix_factor")}
    assert "has no decoder.mid.block_1.mix_factor; expected the first stage of SVD" in refusal(write(less))
    more = svd_tensors | {"first_stage_model.decoder.strange": torch.zeros(1)}
    assert "decoder.strange, which does not belong there" in refusal(write(more))
    (tmp_path / "broken.safetensors").write_bytes(b"x" * 100)
    assert "not a file of weights that can be read safely" in refusal(tmp_path / "broken.safetensors")
    config = json.loads((base / "vae" / "config.json").read_text())
    (base / "vae" / "config.json").write_text(json.dumps(config | {"_class_name": "VQModel"}))
    assert "is a VQModel; expected a AutoencoderKLTemporalDecoder or AutoencoderKL" in refusal(base)


def test_a_pickled_file_is_read_without_running_it(svd_tensors, tmp_path, vae):
    torch.save(svd_tensors, tmp_path / "video.ckpt")
    close(make_vae(str(tmp_path / "video.ckpt")).encode_mode(PICTURES), vae.encoder(PICTURES)[:, :4])


@pytest.mark.gpu
def test_on_a_gpu(base):
    ours = make_vae(str(base))
    latents = ours.encode_mode(PICTURES)
    made, there = ours.decode(latents, 3), ours.to("cuda")
    close(there.encode_mode(PICTURES.cuda()).cpu(), latents, atol=1e-2)
    close(there.decode(latents.cuda(), 3).cpu(), made, atol=2e-2)
