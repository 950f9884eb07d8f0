"""The UNet of a base: exact size, the widened convolution in closed form, every way of keeping weights."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0
from safetensors.torch import save_file

from salticid.errors import ConfigError
from salticid.nets.stable_diffusion import blocks, checkpoint_activations, load_unet, make_unet

SD21 = {
    "_class_name": "UNet2DConditionModel",
    "attention_head_dim": [5, 10, 20, 20],
    "block_out_channels": [320, 640, 1280, 1280],
    "cross_attention_dim": 1024,
    "sample_size": 96,
    "use_linear_projection": True,
}
X = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
TEXT = torch.randn(2, 2, 24, generator=torch.Generator().manual_seed(2))
TIMES = torch.tensor([3, 700])


def loaded(base: Path, in_channels: int = 8) -> UNet2DConditionModel:
    unet = make_unet(str(base), in_channels)
    load_unet(unet, str(base))
    return unet.eval()


def answer(unet, x):
    with torch.no_grad():
        return unet(x, TIMES, TEXT).sample


@pytest.mark.parametrize(("channels", "count"), [(4, 865_910_724), (8, 865_922_244)])
def test_a_full_unet_has_the_parameters_of_stable_diffusion_2(tmp_path, channels, count):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text(json.dumps(SD21))
    with torch.device("meta"):
        unet = make_unet(str(tmp_path), channels)
    assert sum(p.numel() for p in unet.parameters()) == count
    assert {type(m.processor) for m in unet.modules() if hasattr(m, "processor")} == {AttnProcessor2_0}
    assert len(blocks(unet)) == 4 + 1 + 4
    inside = {p for block in blocks(unet) for p in block.parameters()}
    assert sum(p.numel() for p in inside) > 0.99 * count


def test_the_first_convolution_is_repeated_and_halved(base, unet_weights):
    unet = loaded(base)
    weight = unet_weights.pop("conv_in.weight")
    torch.testing.assert_close(unet.conv_in.weight, torch.cat([weight, weight], dim=1) / 2, rtol=0, atol=0)
    state = unet.state_dict()
    assert state.keys() - {"conv_in.weight"} == unet_weights.keys()
    assert all(torch.equal(state[name], value) for name, value in unet_weights.items())
    assert unet.config["in_channels"] == 8
    assert all(p.requires_grad for p in unet.parameters())


def test_two_equal_inputs_are_answered_like_one(base):
    expected = answer(UNet2DConditionModel.from_pretrained(base / "unet").eval(), X)
    torch.testing.assert_close(answer(loaded(base, 4), X), expected, rtol=0, atol=0)
    torch.testing.assert_close(answer(loaded(base), torch.cat([X, X], dim=1)), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(answer(loaded(base, 12), torch.cat([X, X, X], 1)), expected, rtol=1e-5, atol=1e-5)
    assert (answer(loaded(base), torch.cat([X, -X], dim=1)) - expected).abs().max() > 0.01


def test_a_base_whose_first_convolution_fits_is_taken_as_it_is(base, tmp_path):
    wide = loaded(base)
    with torch.no_grad():
        wide.conv_in.weight.normal_()
    wide.save_pretrained(tmp_path / "marigold" / "unet")
    again = loaded(tmp_path / "marigold")
    assert all(torch.equal(p, q) for p, q in zip(wide.parameters(), again.parameters(), strict=True))


def test_before_it_is_loaded_it_is_zero_and_took_no_random_number(base):
    torch.manual_seed(3)
    unet = make_unet(str(base))
    assert all(not p.any() for p in unet.parameters())
    assert torch.initial_seed() == 3
    expected = torch.Generator().manual_seed(3)
    assert torch.equal(torch.rand(4), torch.rand(4, generator=expected))


def test_a_configuration_alone_is_random_from_torchs_generator(base, caplog):
    (base / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.manual_seed(5)
    unet = make_unet(str(base))
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    with caplog.at_level("INFO", "salticid"):
        load_unet(unet, str(base))
    assert "has no weights" in caplog.text
    torch.manual_seed(5)
    expected = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(base / "unet"), in_channels=8)
    assert all(torch.equal(before[name], value) for name, value in expected.state_dict().items())
    assert all(torch.equal(before[name], value) for name, value in unet.state_dict().items())


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.bin"])
def test_other_files_of_weights(base, unet_weights, name):
    (base / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    half = {name: value.half() for name, value in unet_weights.items()}
    torch.save(half, base / "unet" / name) if name.endswith(".bin") else save_file(half, base / "unet" / name)
    unet = loaded(base, 4)
    assert {p.dtype for p in unet.parameters()} == {torch.float32}
    assert all(torch.equal(p, half[name].float()) for name, p in unet.named_parameters())


def test_gradient_checkpointing_changes_no_gradient(base):
    gradients = []
    for recompute in (False, True):
        unet = loaded(base).train()
        if recompute:
            checkpoint_activations(unet)
            assert all(block.gradient_checkpointing for block in blocks(unet) if hasattr(block, "attentions"))
        unet(torch.cat([X, X], dim=1), TIMES, TEXT).sample.square().mean().backward()
        gradients.append([p.grad for p in unet.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed, rtol=1e-5, atol=1e-7)


class Evil:
    def __reduce__(self):
        return print, ("code has run",)


def refusal(base: Path | str, in_channels: int = 8) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(base, in_channels)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("recipe.base")
    return str(caught.value)


def test_broken_bases_are_refused_in_one_line(base, unet_weights, tmp_path):
    file, config = base / "unet" / "diffusion_pytorch_model.safetensors", base / "unet" / "config.json"
    settings = json.loads(config.read_text())
    assert "no such folder; expected a folder in the format of diffusers" in refusal(tmp_path / "none")
    assert "has no unet/config.json" in refusal(tmp_path)
    assert "has 4 input channels, no divisor of 6" in refusal(base, 6)
    save_file(unet_weights | {"extra.weight": torch.zeros(1)}, file)
    assert "has extra.weight, which does not belong there" in refusal(base)
    save_file(unet_weights | {"conv_out.bias": torch.zeros(5)}, file)
    assert "conv_out.bias" in (line := refusal(base))
    assert "has shape (5,), not (4,)" in line
    save_file(unet_weights | {"conv_in.weight": torch.zeros(16, 3, 3, 3)}, file)
    assert "has shape (16, 3, 3, 3), not (16, 8, 3, 3)" in refusal(base)
    save_file({name: value for name, value in unet_weights.items() if name != "conv_in.weight"}, file)
    assert "has no conv_in.weight; expected the weights of its UNet" in refusal(base)
    file.write_bytes(b"not safetensors")
    assert "not a file of weights that can be read safely" in refusal(base)
    file.rename(base / "unet" / "model.ckpt")
    assert "has no unet/diffusion_pytorch_model.safetensors, only model.ckpt" in refusal(base)
    (base / "unet" / "model.ckpt").unlink()
    for wrong, message in [
        ({"_class_name": "UNet3DConditionModel"}, "unet of .* is a UNet3DConditionModel; expected a UNet2D"),
        ({"down_block_types": ["os.system"] * 2}, "config.json describes no UNet2DConditionModel .*os.system"),
        ({"block_out_channels": "many"}, "config.json describes no UNet2DConditionModel"),
        ({"addition_embed_type": "text_time"}, "addition_embed_type: text_time; expected text alone"),
    ]:
        config.write_text(json.dumps(settings | wrong))
        with pytest.raises(ConfigError, match=message):
            make_unet(str(base))
    config.write_text("[]")
    assert "holds a list; expected a mapping" in refusal(base)
    config.write_text("{")
    assert "cannot be read as JSON" in refusal(base)


def test_a_pickle_with_code_is_not_run(base, unet_weights, capsys):
    (base / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(unet_weights | {"conv_out.bias": Evil()}, base / "unet" / "diffusion_pytorch_model.bin")
    assert "not a file of weights that can be read safely" in refusal(base)
    assert "code has run" not in capsys.readouterr().out
