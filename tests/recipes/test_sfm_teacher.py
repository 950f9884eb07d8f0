"""The depth teacher of the sfm recipe."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.recipes.films import CLOCK, SIZE, batch_of, films, made
from torch import Tensor

from salticid.recipes.sfm.settings import Weights


@pytest.fixture(scope="module")
def batch() -> dict:
    return batch_of(films())


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> str:
    """A folder with a Depth Anything of some thousand parameters."""
    transformers = pytest.importorskip("transformers")
    backbone = transformers.Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        mlp_ratio=2,
        image_size=56,
        patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
    )
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=14,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
    )
    torch.manual_seed(0)
    network = transformers.DepthAnythingForDepthEstimation(config)
    for parameter in network.parameters():  # so that its answer varies …
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    for parameter in network.head.parameters():  # … and is not cut off at 0
        parameter.data.abs_()
    folder = tmp_path_factory.mktemp("teacher")
    network.save_pretrained(folder)
    return str(folder)


def seen_by_teacher(folder: str, images: Tensor) -> np.ndarray:
    """Its disparity (B, H·W) of mean 0 and mean |deviation| 1, with its own preprocessing: sides of multiples of 14,
    ImageNet's mean and deviation."""
    from transformers import AutoModelForDepthEstimation

    network = AutoModelForDepthEstimation.from_pretrained(folder).eval()
    small = F.interpolate(images, (42, 70), mode="bicubic", antialias=True)  # of 48 × 64
    mean, deviation = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        found = network(pixel_values=(small - mean) / deviation).predicted_depth
    found = F.interpolate(found[:, None], SIZE, mode="bilinear").flatten(1).double().numpy()
    found = found - found.mean(axis=1, keepdims=True)
    return found / np.abs(found).mean(axis=1, keepdims=True)


def test_a_teacher_is_matched_up_to_scale_and_shift(batch, teacher):
    recipe = made(teacher=teacher, weights=Weights(distillation=0.5))
    before = set(recipe.state_dict())
    recipe.start(fresh=True)
    loss = recipe.loss("motion", batch, CLOCK)
    images = batch["frames"][:, 0].float() / 255
    wanted = seen_by_teacher(teacher, images)
    assert np.abs(wanted).max() > 1.5  # it is not flat
    ours = recipe.model.disparities(images)[0].detach().flatten(1).double().numpy()
    errors = []
    for x, y in zip(ours, wanted, strict=True):
        design = np.stack([x, np.ones_like(x)], axis=1)
        errors.append(np.abs(design @ np.linalg.lstsq(design, y, rcond=None)[0] - y).mean())
    assert loss.terms["distillation"].item() == pytest.approx(np.mean(errors), abs=1e-4)
    parts = {"photometric": 1.0, "smoothness": 1e-3, "distillation": 0.5}
    total = sum(weight * loss.terms[name] for name, weight in parts.items())
    torch.testing.assert_close(loss.total.detach(), total)
    assert set(recipe.state_dict()) == before
    taught = recipe.teacher
    perfect = torch.from_numpy(3 * wanted - 7).float().view(2, 1, *SIZE)
    assert taught.error(perfect, images) < 1e-4
    taught.error(recipe.model.disparities(images)[0], images).backward()
    assert recipe.model.depth.decoder.heads[0].weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in taught.network.network.parameters())
