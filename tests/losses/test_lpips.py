"""LPIPS against the package it takes its heads from, and what the package does not promise: gradients, float32."""

import copy
import sys
from pathlib import Path

import lpips
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from salticid.errors import ConfigError, UserError
from salticid.losses.lpips import Lpips

pytestmark = pytest.mark.filterwarnings("ignore:The parameter 'pretrained'", "ignore:Arguments other than a weight")


def package(file: Path, net: str, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """The package's own network with the backbone of the file."""
    for name in ("normal_", "kaiming_normal_", "kaiming_uniform_"):  # seconds for weights that are overwritten
        monkeypatch.setattr(nn.init, name, lambda tensor, *args, **kwargs: tensor)
    network = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    tensors = load_file(file) if file.suffix == ".safetensors" else torch.load(file)
    with torch.no_grad():
        for name, parameter in network.net.named_parameters():
            parameter.copy_(tensors["features." + name.split(".", 1)[1]])
    return network


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_values_are_those_of_the_package(request, images, net, monkeypatch):
    file = request.getfixturevalue(net)
    ours, theirs = Lpips(str(file), net), package(file, net, monkeypatch)
    with torch.no_grad():
        distance = ours(*images)
        expected = theirs(*images).flatten()
    assert distance.shape == (2,)
    assert (expected > 1e-3).all()
    torch.testing.assert_close(distance, expected, rtol=1e-6, atol=1e-7)


def test_the_gradient_is_the_package_s_where_that_is_finite(alex, images, monkeypatch):
    a, b = images
    ours, theirs = a.clone().requires_grad_(), a.clone().requires_grad_()
    Lpips(str(alex), "alex")(ours, b).sum().backward()
    package(alex, "alex", monkeypatch)(theirs, b).sum().backward()
    assert theirs.grad.abs().max() > 1e-4
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-8)


def test_gradients_are_finite_where_images_are_equal_and_where_features_are_dead(alex, images, tmp_path, monkeypatch):
    a, b = images
    x = a.clone().requires_grad_()
    distance = Lpips(str(alex), "alex")(x, a)
    distance.sum().backward()
    assert distance.tolist() == [0, 0]
    assert x.grad.count_nonzero() == 0
    tensors = torch.load(alex)
    tensors["features.10.bias"] -= 100  # as in dark, flat regions: no feature at all
    torch.save(tensors, tmp_path / "dead.pth")
    half = package(tmp_path / "dead.pth", "alex", monkeypatch).half()
    assert half(a.half(), b.half()).isnan().all()  # what this is about
    x.grad = None
    Lpips(str(tmp_path / "dead.pth"), "alex").half()(x, b).sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad.abs().max() > 0


def test_autocast_changes_nothing(alex, images):
    metric = Lpips(str(alex), "alex")
    expected = metric(*images)
    with torch.autocast("cpu", torch.bfloat16):
        distance = metric(*images)
    assert distance.dtype == torch.float32
    assert torch.equal(distance, expected)


def test_the_network_is_no_part_of_the_model_but_moves_with_it(alex, images):
    model = nn.ModuleDict({"net": nn.Linear(2, 2), "loss": Lpips(str(alex), "alex")})
    assert set(model.state_dict()) == {"net.weight", "net.bias"}
    assert {name for name, _ in model.named_parameters()} == {"net.weight", "net.bias"}
    assert not list(model["loss"].buffers())
    model.load_state_dict(nn.ModuleDict({"net": nn.Linear(2, 2)}).state_dict())  # strict
    network = model["loss"].judge.network
    model.train().requires_grad_(True)
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    whole = model["loss"](*images)
    model.bfloat16()
    assert model["net"].weight.dtype == torch.bfloat16
    assert torch.equal(model["loss"](*images), whole)  # never in half precision
    model.double()
    assert model["loss"].judge.dtype == torch.float64
    torch.testing.assert_close(model["loss"](*images), whole.double(), rtol=1e-4, atol=1e-7)
    copied = copy.deepcopy(model)
    model.to("meta")
    assert {t.device.type for t in network.state_dict().values()} == {"meta"}
    assert {t.device.type for t in copied["loss"].judge.network.state_dict().values()} == {"cpu"}


def test_making_one_draws_no_random_numbers(alex):
    state = torch.get_rng_state()
    Lpips(str(alex), "alex")
    assert torch.equal(torch.get_rng_state(), state)


def test_dynamo_traces_it_whole(alex, images):
    metric = Lpips(str(alex), "alex")
    compiled = torch.compile(metric, backend="eager", fullgraph=True)
    assert torch.equal(compiled(*images), metric(*images))


def test_half_precision_files_are_read_into_float32(alex, images, tmp_path):
    torch.save({name: tensor.half() for name, tensor in torch.load(alex).items()}, tmp_path / "half.pth")
    metric = Lpips(str(tmp_path / "half.pth"), "alex")
    assert metric.judge.dtype == torch.float32
    torch.testing.assert_close(metric(*images), Lpips(str(alex), "alex")(*images), rtol=1e-2, atol=1e-4)


def test_images_that_vanish_in_the_backbone_are_refused(alex):
    metric = Lpips(str(alex), "alex", key="metrics.lpips")
    assert metric(torch.zeros(1, 3, 31, 31), torch.zeros(1, 3, 31, 31)).item() == 0
    with pytest.raises(UserError, match=r"metrics\.lpips: images of 30×64 pixels; alex needs at least 31×31"):
        metric(torch.zeros(1, 3, 30, 64), torch.zeros(1, 3, 30, 64))


def refusal(*arguments: str) -> str:
    with pytest.raises(ConfigError) as caught:
        Lpips(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Code:
    def __reduce__(self):
        return print, ("code that must not run",)


def test_wrong_files_are_refused_in_one_line(alex, vgg, tmp_path, capsys):
    assert refusal(str(alex), "squeeze") == "losses.lpips: net is squeeze; expected vgg or alex"
    missing = refusal(str(tmp_path / "none.pth"))
    assert missing.startswith(f"losses.lpips: {tmp_path}/none.pth: no such file; expected the state dict of")
    assert "is a folder; expected the state dict" in refusal(str(tmp_path))
    assert "features.0.weight in" in (message := refusal(str(alex)))
    assert "has shape (64, 3, 11, 11), not (64, 3, 3, 3); expected the state dict of torchvision's VGG16" in message
    tensors = torch.load(alex)
    (tmp_path / "damaged.pth").write_bytes(alex.read_bytes()[:5000])
    torch.save({**tensors, "classifier.0.weight": Code()}, tmp_path / "code.pth")
    torch.save([1], tmp_path / "list.pth")
    torch.save({k: v for k, v in tensors.items() if k != "features.6.bias"}, tmp_path / "less.pth")
    torch.save({**tensors, "features.12.weight": torch.zeros(1)}, tmp_path / "more.pth")
    assert "cannot" not in capsys.readouterr().out
    for name in ("damaged", "code"):
        assert f"{name}.pth is not a file of weights that can be read safely" in refusal(str(tmp_path / f"{name}.pth"))
    assert "list.pth holds a list; expected a state dict" in refusal(str(tmp_path / "list.pth"), "alex")
    assert "less.pth has no features.6.bias; expected" in refusal(str(tmp_path / "less.pth"), "alex")
    assert "more.pth has features.12.weight, which does not belong there" in refusal(str(tmp_path / "more.pth"), "alex")
    assert "code that must not run" not in capsys.readouterr().out


def test_a_hub_that_cannot_be_reached_and_a_package_that_is_missing(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = refusal("nobody/no-such-model.at-all")
    assert message.startswith("losses.lpips: nobody/no-such-model.at-all: no such file, nor from the hub (")
    assert message.endswith("expected the state dict of torchvision's VGG16 (.pth or .safetensors)")
    monkeypatch.setitem(sys.modules, "lpips", None)
    assert refusal("vgg.pth") == "losses.lpips: lpips is not installed; pip install 'salticid[perceptual]'"


def test_weights_come_from_the_hub_where_it_has_them(vgg, images, monkeypatch):
    asked = []
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *args: asked.append(args) or str(vgg))
    metric = Lpips("timm/vgg16.tv_in1k")
    assert asked == [("timm/vgg16.tv_in1k", "model.safetensors")]
    assert torch.equal(metric(*images), Lpips(str(vgg))(*images))
