"""FVD against scipy and an eager network; its TorchScript file with what may be wrong with one."""

import copy
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salticid.errors import ConfigError, UserError
from salticid.evaluate.fvd import FVD_ENOUGH, VideoFeatures, fvd, fvd_remark, to_and_fro

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")


class Toy(nn.Module):
    """Called like I3D, and like it without an answer to fewer than 10 frames."""

    def __init__(self, features: int = 400):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv3d(3, 16, (3, 3, 3))
        self.norm = nn.BatchNorm3d(16)
        self.head = nn.Linear(16, features)

    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        if rescale:
            x = 2 * (x / 255) - 1
        if resize:
            x = F.interpolate(x, [x.shape[2], 12, 12], mode="trilinear", align_corners=False)
        x = F.avg_pool3d(F.relu(self.norm(self.conv(x))), [8, 1, 1], stride=[8, 1, 1])
        logits = self.head(x.mean(dim=[2, 3, 4]))
        return logits if return_features else logits.softmax(dim=1)


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 400)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.mean(dim=[2, 3, 4]))


class Thief(Toy):
    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        torch.save(x, "stolen.pt")
        return self.head(x.mean(dim=[2, 3, 4]).repeat(1, 6)[:, :16])


def script(network: nn.Module, file: Path) -> Path:
    torch.jit.script(network).save(str(file))
    return file


@pytest.fixture(scope="module")
def i3d(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return script(Toy().train(), tmp_path_factory.mktemp("weights") / "i3d_torchscript.pt")


def videos(n: int, frames: int = 12, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    level = 60 + 120 * torch.rand(n, 3, 1, 1, 1, generator=generator)
    drift = 8 * torch.randn(n, 1, frames, 1, 1, generator=generator).cumsum(dim=2)
    noise = 20 * torch.randn(n, 3, frames, 14, 18, generator=generator)
    return (level + drift + noise).clamp(0, 255).byte()


def test_the_distance_is_that_of_numpy_and_a_matrix_square_root(i3d: Path):
    network, eager = VideoFeatures(str(i3d)), Toy().eval()
    sides = []
    for seed in (0, 1):
        x = videos(30, seed=seed)
        with torch.no_grad():
            expected = eager(x.float(), True, True, True)
        features = network(x)
        assert features.shape == (30, 400)
        torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-5)
        sides.append(features)
    a, b = (x.double().numpy() for x in sides)
    covariances = [np.cov(x, rowvar=False) for x in (a, b)]
    ridge = 1e-12 * np.eye(400)  # which the root of singular matrices needs
    root = scipy.linalg.sqrtm((covariances[0] + ridge) @ (covariances[1] + ridge)).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + sum(np.trace(c) for c in covariances) - 2 * np.trace(root)
    assert expected > 1e-4
    assert fvd(*sides) == pytest.approx(expected, rel=1e-3)
    assert fvd(sides[0], sides[0]) == pytest.approx(0, abs=1e-9)


def test_gaussians_have_their_closed_form_and_samples_may_hold_several_videos():
    noise = torch.randn(600, 400, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    a = torch.linalg.qr(noise - noise.mean(dim=0)).Q * 599**0.5  # mean 0, covariance 1, exactly
    b = 3 * a + 0.1
    assert fvd(a, b) == pytest.approx(400 * (0.1**2 + (3 - 1) ** 2), rel=1e-10)
    assert fvd(a.reshape(100, 6 * 400), b) == pytest.approx(fvd(a, b), rel=1e-12)
    with pytest.raises(UserError, match="FVD of 600 and 1 videos; it needs at least 2 of each"):
        fvd(a, b[:1])


def test_a_batch_is_its_videos_and_autocast_changes_nothing(i3d: Path):
    network, x = VideoFeatures(str(i3d)), videos(3)
    whole = network(x)
    assert torch.equal(torch.cat([network(one[None]) for one in x]), whole)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(network(x), whole)
    with pytest.raises(ValueError, match=r"torch\.float32; expected uint8"):
        network(x.float())


@pytest.mark.parametrize(
    ("frames", "played"),
    [
        (1, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (2, [0, 1, 0, 1, 0, 1, 0, 1, 0, 1]),
        (5, [0, 1, 2, 3, 4, 3, 2, 1, 0, 1]),
        (8, [0, 1, 2, 3, 4, 5, 6, 7, 6, 5]),
        (12, list(range(12))),
    ],
)
def test_short_videos_are_played_to_and_fro(i3d: Path, frames: int, played: list[int]):
    x = torch.arange(frames, dtype=torch.uint8)[None, None, :, None, None].expand(2, 3, -1, 4, 5)
    assert to_and_fro(x, 10)[1, 2, :, 0, 0].tolist() == played
    x = videos(2, frames)
    network = VideoFeatures(str(i3d))
    assert torch.equal(network(x), network(x[:, :, played]))


def test_the_network_is_no_part_of_the_model(i3d: Path):
    model = nn.ModuleDict({"net": nn.Linear(2, 2), "fvd": VideoFeatures(str(i3d))})
    assert set(model.state_dict()) == {"net.weight", "net.bias"}
    assert {name for name, _ in model.named_parameters()} == {"net.weight", "net.bias"}
    model.train().requires_grad_(True)
    network = model["fvd"].judge.network
    assert not any(module.training for module in network.modules())
    x = videos(2)
    whole = model["fvd"](x)
    assert not whole.requires_grad
    model.bfloat16()
    assert torch.equal(model["fvd"](x), whole)  # never in half precision
    assert torch.equal(copy.deepcopy(model)["fvd"](x), whole)


def test_the_remark_tells_what_an_fvd_is_worth():
    assert fvd_remark(FVD_ENOUGH, 16) == ""
    assert fvd_remark(400, 16).startswith("of 400 videos of 16 frames; too few videos for a regular covariance (401)")
    assert "hence too high" in fvd_remark(401, 16)
    assert "to and fro up to 10 frames" in fvd_remark(5000, 8)
    assert "of as many frames only" in fvd_remark(5000, 25)
    assert "2,048" in fvd_remark(5000, 25)


def refusal(file: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        VideoFeatures(str(file), key="recipe.judges.i3d")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"recipe.judges.i3d: {file}")
    return message


def test_files_that_are_no_such_network_are_refused_in_one_line(i3d: Path, tmp_path: Path):
    assert "no such file; expected the I3D of FVD as TorchScript" in refusal(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("not a network")
    assert "is not a TorchScript archive" in refusal(tmp_path / "text.pt")
    torch.save(Toy().state_dict(), tmp_path / "weights.pt")
    assert "is not a TorchScript archive" in refusal(tmp_path / "weights.pt")
    (tmp_path / "half.pt").write_bytes(i3d.read_bytes()[:5000])
    assert "is not a TorchScript archive" in refusal(tmp_path / "half.pt")
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("bomb/code/__torch__.py", bytes(2**24 + 1))
    assert "is not a TorchScript archive" in refusal(tmp_path / "bomb.pt")
    assert "has no option rescale" in refusal(script(Plain(), tmp_path / "plain.pt"))
    message = refusal(script(Toy(64), tmp_path / "small.pt"))
    assert "fails on a video (64 features a video instead of 400)" in message


def test_a_damaged_archive_is_refused_in_one_line(i3d: Path, tmp_path: Path):
    with zipfile.ZipFile(i3d) as whole, zipfile.ZipFile(tmp_path / "less.pt", "w") as less:
        for name in whole.namelist():
            if not name.endswith("data.pkl"):
                less.writestr(name, whole.read(name))
    assert "cannot be loaded" in refusal(tmp_path / "less.pt")


def test_code_that_reaches_for_files_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert "has code that calls save" in refusal(script(Thief(), tmp_path / "thief.pt"))
    assert not (tmp_path / "stolen.pt").exists()


@pytest.mark.gpu
def test_a_gpu_gives_what_a_cpu_does(i3d: Path):
    network, x = VideoFeatures(str(i3d)), videos(3, 8)
    expected = network(x)
    network.cuda()
    first = network(x.cuda())
    torch.testing.assert_close(first.cpu(), expected, atol=1e-3, rtol=1e-3)
    assert all(torch.equal(network(x.cuda()), first) for _ in range(3))
