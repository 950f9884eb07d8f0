"""Flow against NumPy, OpenCV (.flo) and torchvision (colours)."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from salticid.errors import UserError
from salticid.evaluate.flow import colour_wheel, flow_metrics, flow_picture, read_flo, write_flo


@pytest.fixture
def flow() -> torch.Tensor:
    return 20 * torch.randn(3, 2, 11, 17, generator=torch.Generator().manual_seed(0))


def test_metrics_are_those_of_the_definition(flow: torch.Tensor):
    g = torch.Generator().manual_seed(1)
    truth = flow + 4 * torch.rand(flow.shape, generator=g)
    truth[:, :, :3] *= 10
    flow[:, :, :3] = truth[:, :, :3] + 3
    valid = torch.rand(3, 1, 11, 17, generator=g) < 0.6
    valid[1] = False
    broken = torch.where(valid, flow, torch.nan)
    found = flow_metrics(broken, torch.where(valid, truth, torch.nan), valid)
    for sample in (0, 2):
        seen = valid[sample, 0].numpy()
        f, t = (m[sample].double().numpy()[:, seen] for m in (flow, truth))
        error = np.sqrt(((f - t) ** 2).sum(0))
        outlier = (error > 3) & (error > 0.05 * np.sqrt((t**2).sum(0)))
        assert 0.05 < outlier.mean() < 0.95
        assert found["epe"][sample].item() == pytest.approx(error.mean(), rel=1e-12)
        assert found["fl"][sample].item() == pytest.approx(outlier.mean(), rel=1e-12)
    assert found["epe"].isnan().tolist() == found["fl"].isnan().tolist() == [False, True, False]


def test_an_outlier_is_beyond_both_limits():
    truth = torch.tensor([[10.0, 0], [100, 0], [100, 0], [10, 0]]).T.reshape(1, 2, 2, 2)
    flow = truth + torch.tensor([[0.0, 3.1], [0, 4.9], [0, 5.1], [0, 2.9]]).T.reshape(1, 2, 2, 2)
    everywhere = torch.ones(1, 1, 2, 2, dtype=torch.bool)
    assert flow_metrics(flow, truth, everywhere)["fl"].item() == 0.5
    flow[0, 0, 1, 1] = torch.nan
    found = flow_metrics(flow, truth, everywhere)
    assert found["fl"].item() == 0.75
    assert found["epe"].isnan().item()


def test_flo_files_are_those_of_opencv(tmp_path: Path, flow: torch.Tensor):
    write_flo(tmp_path / "a/x.flo", flow[0])
    np.testing.assert_array_equal(cv2.readOpticalFlow(str(tmp_path / "a/x.flo")), flow[0].permute(1, 2, 0))
    cv2.writeOpticalFlow(str(tmp_path / "y.flo"), flow[1].permute(1, 2, 0).numpy())
    found, valid = read_flo(tmp_path / "y.flo")
    assert (found.dtype, found.shape, valid.shape) == (torch.float32, (2, 11, 17), (1, 11, 17))
    torch.testing.assert_close(found, flow[1], atol=0, rtol=0)
    assert valid.all()
    assert (tmp_path / "a/x.flo").read_bytes()[:4] == b"PIEH"
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["x.flo"]


def test_unknown_flow_stays_unknown(tmp_path: Path, flow: torch.Tensor):
    known = torch.rand(1, 11, 17, generator=torch.Generator().manual_seed(2)) < 0.5
    one = flow[0].clone()
    one[1, 2, 3] = torch.nan
    known[0, 2, 3] = True
    write_flo(tmp_path / "x.flo", one, known)
    raw = cv2.readOpticalFlow(str(tmp_path / "x.flo"))
    known[0, 2, 3] = False
    np.testing.assert_array_equal((np.abs(raw) > 1e9).all(-1), ~known[0])
    found, valid = read_flo(tmp_path / "x.flo")
    torch.testing.assert_close(valid, known)
    torch.testing.assert_close(found, torch.where(known, flow[0], 0.0), atol=0, rtol=0)
    write_flo(tmp_path / "x.flo", one)
    assert read_flo(tmp_path / "x.flo")[1].sum().item() == 11 * 17 - 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "x.flo: is not a .flo file"),
        (b"PIEX" + struct.pack("<ii2f", 1, 1, 0, 0), "x.flo: is not a .flo file"),
        (b"PIEH" + struct.pack("<ii2f", 0, 1, 0, 0), "x.flo: says that it is 0×1; expected sides from 1"),
        (b"PIEH" + struct.pack("<ii2f", -5, 2**30, 0, 0), "x.flo: says that it is -5×1073741824"),
        (b"PIEH" + struct.pack("<ii2f", 2, 1, 0, 0), "x.flo: has 20 bytes; expected 28 for 2×1 pixels"),
        (b"PIEH" + struct.pack("<ii3f", 1, 1, 0, 0, 0), "x.flo: has 24 bytes; expected 20"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "x.flo").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_flo(tmp_path / "x.flo")
    with pytest.raises(UserError, match=r"no\.flo: cannot be read"):
        read_flo(tmp_path / "no.flo")


def test_a_real_file_is_read(real_data: Path):
    file = real_data / "references/middlebury_flow_rubberwhale/other-gt-flow/RubberWhale/flow10.flo"
    if not file.is_file():
        pytest.skip("SALTICID_TEST_DATA has no references/middlebury_flow_rubberwhale")
    flow, valid = read_flo(file)
    raw = torch.from_numpy(cv2.readOpticalFlow(str(file)))
    assert flow.shape == (2, 388, 584)
    torch.testing.assert_close(valid[0], (raw.abs() <= 1e9).all(dim=-1))
    assert 0.9 < valid.float().mean() < 1
    assert flow.abs().max() < 10
    picture = flow_picture(flow[None], valid[None])[0]
    assert (picture[:, ~valid[0]] == 0).all()


def test_the_wheel_has_55_hues():
    wheel = colour_wheel()
    assert wheel.shape == (55, 3)
    corners = {
        0: (255, 0, 0),
        15: (255, 255, 0),
        21: (0, 255, 0),
        25: (0, 255, 255),
        36: (0, 0, 255),
        49: (255, 0, 255),
    }
    assert {i: tuple(wheel[i].int().tolist()) for i in corners} == corners
    assert wheel[[1, 14, 16, 54]].int().tolist() == [[255, 17, 0], [255, 238, 0], [213, 255, 0], [255, 0, 43]]
    assert (wheel.amax(dim=1) == 255).all()
    assert (wheel.amin(dim=1) == 0).all()


def test_colours_are_those_of_torchvision(flow: torch.Tensor):
    utils = pytest.importorskip("torchvision.utils")
    for one in flow:
        difference = flow_picture(one[None])[0].int() - utils.flow_to_image(one).int()
        assert difference.abs().max() <= 1  # it adds an epsilon to the greatest length


def test_pictures_show_direction_length_and_what_is_unknown():
    flow = torch.tensor([[0, 0], [10, 0], [5, 0], [20, 0], [torch.nan, 0], [0, 10], [-10, 0]]).T.reshape(1, 2, 1, 7)
    known = torch.tensor([True] * 7).reshape(1, 1, 1, 7)
    colours = flow_picture(flow, known, limit=10)[0, :, 0].T.tolist()
    assert colours[0] == [255, 255, 255]
    assert colours[1] == [255, 0, 0]
    assert colours[2] == [255, 127, 127]  # half the length, half the saturation
    assert colours[3] == [191, 0, 0]  # longer than the limit
    assert colours[4] == [0, 0, 0]
    assert colours[5][0] > 200 > colours[5][2]  # down is yellow
    assert colours[6][2] > 200 > colours[6][0]  # left is blue
    known[..., 1] = False
    assert flow_picture(flow, known)[0, :, 0, 1].tolist() == [0, 0, 0]
    assert flow_picture(torch.zeros(2, 2, 3, 4)).eq(255).all()


def test_each_sample_has_its_own_scale(flow: torch.Tensor):
    torch.testing.assert_close(
        flow_picture(flow * torch.tensor([1.0, 4, 0.25])[:, None, None, None]), flow_picture(flow)
    )
