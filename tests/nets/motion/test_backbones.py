"""Which networks of timm are taken, and how they get weights."""

import pytest
import timm
import torch

from salticid.errors import ConfigError
from salticid.nets.motion import FrameEncoder


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(7)
    network = timm.create_model("resnet18", zero_init_last=False)
    return network.state_dict()


@pytest.fixture
def file(tmp_path, weights):
    torch.save(weights, tmp_path / "resnet18.pth")
    return tmp_path / "resnet18.pth"


@pytest.mark.parametrize("images", [2, 3])
def test_equal_images_give_what_one_of_them_gives(file, weights, images):
    one, many = FrameEncoder(pretrained=file).eval(), FrameEncoder(images=images, pretrained=str(file)).eval()
    copies = many.backbone.conv1.weight.chunk(images, dim=1)
    assert all(torch.equal(copy, weights["conv1.weight"] / images) for copy in copies)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for got, expected in zip(many(image.repeat(1, images, 1, 1)), one(image), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_random_weights_tell_images_apart():
    first, second = FrameEncoder(images=2).backbone.conv1.weight.chunk(2, dim=1)
    assert (first - second).abs().max() > 0.01


def test_the_weights_of_timm_go_the_same_way(monkeypatch, weights):
    create = timm.create_model

    def offline(name, pretrained=False, **options):
        network = create(name, **options)
        if pretrained:
            network.load_state_dict({k: v for k, v in weights.items() if not k.startswith("fc.")})
        return network

    monkeypatch.setattr(timm, "create_model", offline)
    encoder = FrameEncoder(images=2, pretrained=True)
    assert torch.equal(encoder.backbone.conv1.weight, weights["conv1.weight"].repeat(1, 2, 1, 1) / 2)
    assert torch.equal(encoder.backbone.layer4[1].conv2.weight, weights["layer4.1.conv2.weight"])


def test_a_file_of_a_whole_network_fits_the_part_in_use(tmp_path):
    """timm renames layers when it cuts a ConvNeXt open."""
    torch.manual_seed(7)
    whole = timm.create_model("convnext_atto")
    torch.save(whole.state_dict(), tmp_path / "convnext.pth")
    encoder = FrameEncoder("convnext_atto", images=2, pretrained=tmp_path / "convnext.pth").backbone.state_dict()
    assert torch.equal(encoder["stages_3.blocks.1.mlp.fc1.weight"], whole.stages[3].blocks[1].mlp.fc1.weight)
    assert torch.equal(encoder["stem_0.weight"], whole.stem[0].weight.repeat(1, 2, 1, 1) / 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer1.2.conv1.weight": torch.zeros(64, 64, 3, 3)}, "has layer1.2.conv1.weight, which does not belong"),
        ({"layer4.1.conv2.weight": None}, "has no layer4.1.conv2.weight; expected the weights of a resnet18"),
        ({"conv1.weight": torch.zeros(64, 4, 7, 7)}, "conv1.weight in .* has shape \\(64, 4, 7, 7\\), not"),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path, weights, change, message):
    tensors = {name: value for name, value in {**weights, **change}.items() if value is not None}
    torch.save(tensors, tmp_path / "other.pth")
    with pytest.raises(ConfigError, match=f"^sfm.depth.pretrained: .*{message}"):
        FrameEncoder(images=2, pretrained=tmp_path / "other.pth", key="sfm.depth")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet81", "timm has no resnet81 \\(did you mean resnet"),
        ("hf-hub:timm/resnet18", "timm has no hf-hub"),
        ("vit_tiny_patch16_224", "vit_tiny_patch16_224 has maps at strides \\[16\\]; expected a convolutional or"),
        ("efficientformer_l1", "efficientformer_l1 does not take images of any size"),
    ],
)
def test_networks_without_the_levels_are_refused(name, message):
    with pytest.raises(ConfigError, match=f"^recipe.encoder.backbone: {message}") as refusal:
        FrameEncoder(name)
    assert "\n" not in str(refusal.value)
