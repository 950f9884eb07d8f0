"""Random stand-ins for pretrained weights, which no test downloads."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

LAYERS = {  # features.N of torchvision: (outputs, inputs, kernel)
    "alex": {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)},
    "vgg": {
        n: (o, i, 3)
        for n, i, o in [
            (0, 3, 64), (2, 64, 64), (5, 64, 128), (7, 128, 128), (10, 128, 256), (12, 256, 256), (14, 256, 256),
            (17, 256, 512), (19, 512, 512), (21, 512, 512), (24, 512, 512), (26, 512, 512), (28, 512, 512),
        ]
    },
}  # fmt: skip


def backbone(net: str) -> dict[str, torch.Tensor]:
    """Weights that keep the size of the features (He et al. 2015), under torchvision's names."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for n, (outputs, inputs, kernel) in LAYERS[net].items():
        scale = (2 / (inputs * kernel**2)) ** 0.5
        tensors[f"features.{n}.weight"] = scale * torch.randn(outputs, inputs, kernel, kernel, generator=generator)
        tensors[f"features.{n}.bias"] = 0.1 * torch.randn(outputs, generator=generator)
    return tensors


@pytest.fixture(scope="session")
def alex(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An AlexNet in a file as torchvision publishes it, classifier included."""
    file = tmp_path_factory.mktemp("weights") / "alexnet.pth"
    torch.save({**backbone("alex"), "classifier.6.bias": torch.zeros(1000)}, file)
    return file


@pytest.fixture(scope="session")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VGG16 in a file as timm publishes it."""
    file = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file({**backbone("vgg"), "head.fc.bias": torch.zeros(1000)}, file)
    return file


@pytest.fixture
def images() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    a = 2 * torch.rand(2, 3, 40, 48, generator=generator) - 1
    return a, (a + 0.2 * torch.randn(a.shape, generator=generator)).clamp(-1, 1)
