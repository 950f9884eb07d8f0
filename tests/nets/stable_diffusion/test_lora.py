"""Adapters: what is trained, how it is called, what loading and merging make of it."""

import pytest
import torch
from diffusers import UNet2DConditionModel

from salticid.errors import ConfigError
from salticid.nets.lora import Lora, add_lora, has_lora, merge_lora
from salticid.nets.stable_diffusion import load_unet, make_unet

X = torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(1))
TEXT = torch.randn(2, 2, 24, generator=torch.Generator().manual_seed(2))
TIMES = torch.tensor([3, 700])


@torch.no_grad()
def answer(unet):
    return unet.eval()(X, TIMES, TEXT).sample


@pytest.fixture
def adapted(base):
    """As a recipe does it: the adapters first, so that the names are there, then the weights of the base."""
    unet = make_unet(str(base))
    add_lora(unet, Lora(rank=3, alpha=6.0))
    load_unet(unet, str(base))
    return unet


def test_adapters_are_trained_and_nothing_else(adapted):
    trained = {name for name, p in adapted.named_parameters() if p.requires_grad}
    block = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
    assert {f"{block}.to_q.lora_A.default.weight", f"{block}.to_out.0.lora_B.default.weight"} < trained
    assert all(".lora_" in name for name in trained)
    assert f"{block}.to_q.base_layer.weight" in adapted.state_dict()
    assert adapted.get_parameter(f"{block}.to_q.lora_A.default.weight").shape == (3, 16)
    assert len([name for name in trained if ".lora_" in name]) == 2 * 4 * 2 * 4  # A, B; layers; attentions; blocks


def test_a_fresh_adapter_changes_nothing(adapted, base):
    plain = make_unet(str(base))
    load_unet(plain, str(base))
    torch.testing.assert_close(answer(adapted), answer(plain), rtol=1e-5, atol=1e-5)
    assert has_lora(adapted)
    assert not has_lora(plain)
    assert merge_lora(plain) is plain


def test_merged_weights_answer_as_the_adapters_do(adapted, base, tmp_path):
    before = answer(adapted)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for p in adapted.parameters():
            if p.requires_grad:
                p.add_(0.3 * torch.randn(p.shape, generator=generator))
    expected = answer(adapted)
    assert (expected - before).abs().max() > 0.05
    merged = merge_lora(adapted)
    torch.testing.assert_close(answer(merged), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(answer(adapted), expected, rtol=0, atol=0)
    layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    a, b = (adapted.get_parameter(f"{layer}.lora_{x}.default.weight") for x in "AB")
    formula = adapted.get_parameter(f"{layer}.base_layer.weight") + 6 / 3 * b @ a
    torch.testing.assert_close(merged.get_parameter(f"{layer}.weight"), formula, rtol=1e-6, atol=1e-6)
    merged.save_pretrained(tmp_path / "merged")
    again = UNet2DConditionModel.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(answer(again), expected, rtol=1e-5, atol=1e-5)


def test_targets_that_no_layer_has_are_refused(base):
    unet = make_unet(str(base))
    for targets, message in [
        (("to_qkv",), "recipe.lora.targets: the UNet has no layer to_qkv"),
        (("conv_in",), "recipe.lora.targets: conv_in is the first convolution, which is trained as a whole or not"),
        (("norm1",), "recipe.lora: Target module"),
    ]:
        with pytest.raises(ConfigError) as caught:
            add_lora(unet, Lora(targets=targets))
        assert str(caught.value).startswith(message)
        assert "\n" not in str(caught.value)
