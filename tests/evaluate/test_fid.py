"""Fréchet distances against closed forms, scipy and torch-fidelity; Inception against torch-fidelity's own loading."""

import io
import sys

import pytest
import scipy.linalg
import torch
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from salticid.errors import ConfigError, UserError
from salticid.evaluate.fid import FID_ENOUGH, Inception, fid_remark, frechet_distance


def gaussian(n, mean, deviation, seed):
    """Samples whose mean and unbiased covariance, diag(deviation²), are exact."""
    noise = torch.randn(n, len(mean), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    orthonormal = torch.linalg.qr(noise - noise.mean(dim=0)).Q
    return mean + orthonormal * (n - 1) ** 0.5 * deviation


def mixed(n, d, seed):
    """Correlated features, as networks make them."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, d, dtype=torch.float64, generator=generator)
    return noise @ torch.randn(d, d, dtype=torch.float64, generator=generator) / d**0.5 + 0.1 * seed


def test_diagonal_gaussians_have_their_closed_form():
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(2, 20, dtype=torch.float64, generator=generator)
    deviations = 0.1 + torch.rand(2, 20, dtype=torch.float64, generator=generator)
    a, b = (gaussian(n, means[i], deviations[i], seed=i + 1) for i, n in enumerate((100, 57)))
    expected = float((means[0] - means[1]).square().sum() + (deviations[0] - deviations[1]).square().sum())
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-12)


def test_it_is_the_distance_of_torch_fidelity_and_of_a_matrix_square_root():
    a, b = mixed(300, 48, 1), mixed(200, 48, 2)
    statistics = [fid_features_to_statistics(x) for x in (a, b)]
    theirs = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(a, b) == pytest.approx(theirs, rel=1e-6)
    root = scipy.linalg.sqrtm(statistics[0]["sigma"] @ statistics[1]["sigma"]).real
    traces = sum(s["sigma"].trace() for s in statistics) - 2 * root.trace()
    expected = ((statistics[0]["mu"] - statistics[1]["mu"]) ** 2).sum() + traces
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(a.float(), b.float()) == pytest.approx(expected, rel=1e-5)


def test_fewer_images_than_features_lose_no_digits():
    a = mixed(20, 64, 3)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(a, a + 0.5) == pytest.approx(64 * 0.25, rel=1e-12)
    wider = a.mean(dim=0) + 3 * (a - a.mean(dim=0))
    assert frechet_distance(a, wider) == pytest.approx(4 * float(a.var(dim=0).sum()), rel=1e-12)


def test_one_image_has_no_covariance():
    with pytest.raises(UserError, match="FID of 1 and 5 images; it needs at least 2 of each"):
        frechet_distance(torch.zeros(1, 4), torch.zeros(5, 4))


def test_the_remark_tells_what_an_fid_is_worth():
    assert fid_remark(FID_ENOUGH) == ""
    assert "of 2,048 images, too few for a regular covariance (2,049)" in fid_remark(2048)
    assert "of 2,049 images, hence too high" in fid_remark(2049)
    assert "10,000" in fid_remark(9999)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights in a file as published, without the counters that old versions of torch did not have."""
    with torch.device("meta"):
        network = Skeleton()
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, tensor in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        if tensor.ndim > 1:
            value = torch.randn(tensor.shape, generator=generator) * (2 / tensor[0].numel()) ** 0.5
        else:
            value = (
                torch.ones(tensor.shape) if name.endswith(("bn.weight", "running_var")) else torch.zeros(tensor.shape)
            )
        tensors[name] = value
    file = tmp_path_factory.mktemp("weights") / "pt_inception-2015-12-05-6726825d.pth"
    torch.save(tensors, file)
    return file


class Skeleton(FeatureExtractorInceptionV3):
    """The package's network with whatever weights."""

    def __init__(self):
        nothing = io.BytesIO()
        torch.save({}, nothing)
        nothing.seek(0)
        super().__init__("skeleton", ["2048"], feature_extractor_weights_path=nothing)

    def load_state_dict(self, *args, **kwargs):
        pass


@pytest.fixture(scope="module")
def inception(weights):
    return Inception(str(weights))


@pytest.fixture
def images():
    return torch.randint(0, 256, (2, 3, 40, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_features_are_those_of_torch_fidelity(weights, inception, images):
    theirs = FeatureExtractorInceptionV3("theirs", ["2048"], feature_extractor_weights_path=str(weights))
    features = inception(images)
    assert features.shape == (2, 2048)
    assert features.std() > 0
    assert torch.equal(features, theirs(images)[0])


def test_eight_bit_doubles_are_the_same_images_and_autocast_changes_nothing(inception, images):
    features = inception(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(inception(images.double() / 255), features)
    with pytest.raises(ValueError, match="not in \\[0, 1\\]"):
        inception(images.float() / 127.5 - 1)


def test_the_network_is_no_part_of_the_model(inception):
    model = nn.ModuleList([inception])
    assert not model.state_dict()
    assert not list(model.parameters())
    model.train()
    assert not inception.judge.network.training


def refusal(weights) -> str:
    with pytest.raises(ConfigError) as caught:
        Inception(str(weights))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_wrong_files_and_a_missing_package_are_refused_in_one_line(weights, tmp_path, monkeypatch):
    assert refusal(tmp_path / "none.pth").startswith(f"metrics.fid: {tmp_path}/none.pth: no such file; expected")
    tensors = torch.load(weights)
    torch.save({**tensors, "fc.weight": torch.zeros(1000, 2048)}, tmp_path / "torchvision.pth")
    assert "fc.weight in" in (message := refusal(tmp_path / "torchvision.pth"))
    assert "has shape (1000, 2048), not (1008, 2048); expected torch-fidelity's" in message
    torch.save({"Conv2d_1a_3x3.conv.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "less.pth")
    assert "has no Conv2d_1a_3x3.bn.weight" in refusal(tmp_path / "less.pth")
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    monkeypatch.delitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3")
    assert refusal(weights) == "metrics.fid: torch_fidelity is not installed; pip install 'salticid[perceptual]'"
