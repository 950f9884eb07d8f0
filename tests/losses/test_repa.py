"""Alignment with small random teachers that go through the real files: token parity, closed forms, refusals."""

import json
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from salticid.errors import ConfigError
from salticid.losses.repa import Repa

SIZE = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 70, "patch_size": 14}


def save(model: nn.Module, folder: Path) -> str:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    model.save_pretrained(folder)
    return str(folder)


def loaded(weights: str, channels: int, **options) -> Repa:
    repa = Repa(channels, 24, **options)
    repa.load(weights)
    return repa


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    return save(Dinov2Model(Dinov2Config(**SIZE)), tmp_path_factory.mktemp("dinov2"))


@pytest.fixture(scope="module")
def registers(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    config = Dinov2WithRegistersConfig(**SIZE, num_register_tokens=4)
    return save(Dinov2WithRegistersModel(config), tmp_path_factory.mktemp("registers"))


@pytest.fixture
def images() -> torch.Tensor:
    return 2 * torch.rand(2, 3, 128, 256, generator=torch.Generator().manual_seed(1)) - 1


@pytest.mark.parametrize(("name", "others"), [("dinov2", 1), ("registers", 5)])
def test_tokens_are_the_patches_of_the_normalised_resized_image(request, images, name, others):
    weights = request.getfixturevalue(name)
    repa = loaded(weights, 6)
    seen = []
    repa.teacher.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    tokens = repa.tokens(images, (16, 32))
    assert tokens.shape == (2, 16 * 32, 24)
    assert seen[0].shape == (2, 3, 224, 448)
    resized = F.interpolate(images, size=(224, 448), mode="bicubic", align_corners=False)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(seen[0] * std[:, None, None] + mean[:, None, None], (resized + 1) / 2)
    kind = Dinov2Model if name == "dinov2" else Dinov2WithRegistersModel
    with torch.no_grad():
        expected = kind.from_pretrained(weights).eval()(seen[0]).last_hidden_state
    assert expected.shape[1] == 16 * 32 + others
    torch.testing.assert_close(tokens, expected[:, others:])


def test_tokens_lie_where_the_features_do(dinov2):
    repa = loaded(dinov2, 6)
    network = repa.teacher.network
    with torch.no_grad():
        for layer in network.encoder.layer:  # without them, a token is its patch and its position
            layer.layer_scale1.lambda1.zero_()
            layer.layer_scale2.lambda1.zero_()
    image = torch.zeros(1, 3, 4 * 14, 8 * 14)
    spot = image.clone()
    spot[:, :, 1 * 14 : 2 * 14, 5 * 14 : 6 * 14] = 1
    changed = (repa.tokens(spot, (4, 8)) - repa.tokens(image, (4, 8))).abs().sum(dim=-1).reshape(4, 8)
    assert changed.nonzero().tolist() == [[1, 5]]


def test_images_that_shrink_are_filtered_first(dinov2):
    repa = loaded(dinov2, 6)
    stripes = torch.ones(1, 3, 112, 112)
    stripes[..., 1::2] = -1  # finer than the teacher's pixels: grey, but at the borders
    seen = []
    repa.teacher.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    repa.tokens(stripes, (2, 2))
    repa.tokens(0 * stripes, (2, 2))
    torch.testing.assert_close(seen[0][..., 2:-2], seen[1][..., 2:-2], rtol=0, atol=1e-5)


def test_the_loss_is_0_for_aligned_1_for_orthogonal_and_2_for_opposite_features(dinov2, images):
    repa = loaded(dinov2, 24)
    repa.projection = nn.Identity()
    tokens = repa.tokens(images, (16, 32))
    aligned = tokens.transpose(1, 2).reshape(2, 24, 16, 32)
    scale = 0.1 + torch.rand(2, 1, 16, 32, generator=torch.Generator().manual_seed(2))
    for features in (aligned, scale * aligned):
        torch.testing.assert_close(repa(features, images), torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(repa(-aligned, images), torch.full((2,), 2.0))
    turned = torch.stack([-aligned[:, 1::2], aligned[:, ::2]], dim=2).flatten(1, 2)  # (x, y) → (−y, x)
    torch.testing.assert_close(repa(turned, images), torch.ones(2))
    half = torch.cat([aligned[:, :, :8], -aligned[:, :, 8:]], dim=2)
    torch.testing.assert_close(repa(half, images), torch.ones(2))


def test_the_projection_learns_and_the_teacher_does_not(dinov2, images):
    repa = loaded(dinov2, 6)
    features = torch.randn(2, 6, 4, 8, generator=torch.Generator().manual_seed(3)).requires_grad_()
    pixels = images.clone().requires_grad_()
    loss = repa(features, pixels)
    assert loss.shape == (2,)
    assert ((loss > 0) & (loss < 2)).all()
    loss.mean().backward()
    assert features.grad.abs().max() > 0
    assert pixels.grad is None
    assert all(p.grad.abs().max() > 0 for p in repa.parameters())
    assert all(p.grad is None for p in repa.teacher.network.parameters())


def test_gradients_of_features_that_are_all_zero_are_finite(dinov2, images):
    repa = loaded(dinov2, 24)
    repa.projection = nn.Identity()
    features = torch.zeros(2, 24, 4, 8, requires_grad=True)
    repa(features, images).sum().backward()
    assert features.grad.isfinite().all()


def test_autocast_changes_nothing(dinov2, images):
    repa = loaded(dinov2, 6)
    features = torch.randn(2, 6, 4, 8, generator=torch.Generator().manual_seed(3))
    expected = repa(features, images)
    with torch.autocast("cpu", torch.bfloat16):
        loss = repa(features, images)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)
    assert repa(features.bfloat16(), images).dtype == torch.float32


def test_a_checkpoint_holds_the_projection_only(dinov2):
    repa = loaded(dinov2, 6, hidden=10)
    assert {name: tuple(t.shape) for name, t in repa.state_dict().items()} == {
        "projection.0.weight": (10, 6),
        "projection.0.bias": (10,),
        "projection.2.weight": (24, 10),
        "projection.2.bias": (24,),
    }
    assert {name for name, _ in repa.named_parameters()} == set(repa.state_dict())
    assert loaded(dinov2, 6).projection[0].out_features == 6
    repa.train()
    assert not repa.teacher.network.training
    repa.to("meta")
    assert {t.device.type for t in repa.teacher.network.state_dict().values()} == {"meta"}


def test_half_precision_models_are_read_into_float32(dinov2, tmp_path):
    folder = str(tmp_path)
    Dinov2Model.from_pretrained(dinov2).half().save_pretrained(folder)
    assert loaded(folder, 6).teacher.dtype == torch.float32


def refusal(weights: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(weights, 6)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("losses.repa")
    return str(caught.value)


def test_wrong_models_are_refused_in_one_line(dinov2, tmp_path):
    config = json.loads((Path(dinov2) / "config.json").read_text())
    assert "facebook/dinov2-base" in refusal(str(tmp_path / "none"))
    assert "config.json" in refusal(str(tmp_path))
    with pytest.raises(ConfigError, match="have 24 numbers, not 768"):
        Repa(6).load(dinov2)
    with pytest.raises(ValueError, match="no teacher"):
        Repa(6)(torch.zeros(1, 6, 2, 4), torch.zeros(1, 3, 16, 32))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    assert "is of type vit; expected" in refusal(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(config))
    torch.save(Dinov2Model.from_pretrained(dinov2).state_dict(), tmp_path / "pytorch_model.bin")
    assert "model.safetensors" in refusal(str(tmp_path))  # a pickle is not read
    (tmp_path / "model.safetensors").write_bytes(b"not safetensors")
    assert "expected a folder with" in refusal(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes((Path(dinov2) / "model.safetensors").read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    assert "has no encoder.layer.2." in refusal(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(config | {"hidden_size": 48}))
    assert "expected a folder with" in refusal(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    assert "expected a folder with" in refusal(str(tmp_path))


def test_a_hub_that_cannot_be_reached_and_a_package_that_is_missing(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "nobody/no-such-model: no such folder, nor from the hub (" in refusal("nobody/no-such-model")
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert refusal("x") == "losses.repa: transformers is not installed; pip install 'salticid[perceptual]'"
