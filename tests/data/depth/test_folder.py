"""Own folders: what is paired, how values become metres, how pairs are split."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from salticid.config.schema import build, resolve
from salticid.data.readers.depth import DepthFolder, Stereo
from salticid.data.readers.depth.templates import Template, by_stem
from salticid.data.source import Data
from salticid.errors import ConfigError, UnreadableSample


def pair(write, image, depth, values=None):
    values = np.full((4, 6), 1500) if values is None else values
    write.picture(image, *values.shape)
    write.npy(depth, values) if depth.endswith(".npy") else write.png16(depth, values)


def ids(data):
    return sorted(pair.id for pair in (*data.train_pairs, *data.val_pairs))


@pytest.mark.parametrize(
    ("patterns", "files"),
    [
        ({}, [("rgb/a.jpg", "depth/a.png"), ("rgb/run/b.png", "depth/run/b.npy")]),
        ({"image": "./{n}", "depth": "./{n}_depth"}, [("1.png", "1_depth.png"), ("x/2.png", "x/2_depth.png")]),
        ({"image": "{n}_rgb", "depth": "{n}"}, [("1_rgb.png", "1.png"), ("2_rgb.jpg", "2.npy")]),
        ({"image": "{n}.jpg", "depth": "{n}.png"}, [("1.jpg", "1.png"), ("2.jpg", "2.png")]),
        ({"image": "rgb/rgb_{n}", "depth": "depth/sync_{n}"}, [("rgb/rgb_0.png", "depth/sync_0.png")] * 2),
        (
            {"image": "{scene}/rgb/{n}", "depth": "{scene}/depth/{n}.png"},
            [("a/rgb/1.v2.PNG", "a/depth/1.v2.png"), ("b/c/rgb/1.png", "b/c/depth/1.png")],
        ),
        ({"image": "{s}/{s}_{n}.png", "depth": "d/{n}/{s}"}, [("a/a_1.png", "d/1/a.npy"), ("b/b_1.png", "d/1/b.png")]),
        ({"image": "rgb.png", "depth": "./depth.png"}, [("rgb.png", "depth.png")] * 2),
    ],
)
def test_patterns_pair_files(write, patterns, files):
    for image, depth in files:
        pair(write, image, depth)
    data = DepthFolder(write.root, **patterns, val_share=0.5 if len(set(files)) > 1 else 1.0)
    assert ids(data) == sorted({image for image, _ in files})
    assert data.skipped == {}
    assert {pair.image: pair.depth for pair in (*data.train_pairs, *data.val_pairs)} == dict(files)


def test_pictures_without_depth_are_named_and_a_wrong_pattern_says_what_is_there(write, caplog):
    pair(write, "rgb/a.png", "depth/a.png")
    write.picture("rgb/b.png", 4, 6)
    data = DepthFolder(write.root, val_share=1.0)
    assert data.skipped == {"rgb/b.png": "no file depth/b.* (data.depth)"}
    assert "skipped rgb/b.png" in caplog.text
    with pytest.raises(ConfigError, match=r"matches 'color/\{name\}'; there are depth/a\.png, rgb/a\.png, rgb/b\.png"):
        DepthFolder(write.root, image="color/{name}")
    with pytest.raises(ConfigError, match=r"has the depth that data\.depth says; 2 left out \(no file z/a\.exr"):
        DepthFolder(write.root, depth="z/{name}.exr")
    with pytest.raises(ConfigError, match=r"^data\.depth: 'd/\{frame\}' has \{frame\}, which data\.image has not"):
        DepthFolder(write.root, depth="d/{frame}")
    with pytest.raises(ConfigError, match=r"^data\.image is 'rgb/\{a b\}'; expected a path with placeholders"):
        DepthFolder(write.root, image="rgb/{a b}")
    write.npy("depth/a.npy", np.ones((4, 6)))
    with pytest.raises(ConfigError, match=r"^data\.depth: both depth/a\.npy and depth/a\.png are there"):
        DepthFolder(write.root)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no picture under .* matches 'rgb/\{name\}'; it is empty"):
        DepthFolder(tmp_path)


@given(st.lists(st.text("ab/._{", min_size=1), min_size=2, max_size=2))
def test_a_template_finds_what_it_is_filled_with(values):
    template = Template("x/{one}-{two}-{one}", {".png"}, "data.image")
    named = dict(zip(("one", "two"), values, strict=True))
    path = template.filled(named) + ".png"
    match = template.matcher().fullmatch(path)
    assert match
    assert template.filled(match.groupdict()) + ".png" == path
    assert template.find(match.groupdict(), by_stem([path])) in (path, None)


def only(data):
    return data.val().sample(0, None)["depth"][0]


def test_integers_are_millimetres_and_floats_metres_unless_a_scale_is_given(write):
    values = np.array([[0, 1500], [2250, 65535]])
    pair(write, "rgb/a.png", "depth/a.png", values)
    pair(write, "rgb/b.png", "metres/b.npy", values / 1000)
    for options in ({}, {"depth": "metres/{name}"}):
        torch.testing.assert_close(
            only(DepthFolder(write.root, val_share=1.0, **options)), torch.tensor([[0, 1.5], [2.25, 65.535]])
        )
    scaled = only(DepthFolder(write.root, val_share=1.0, scale=5000))
    torch.testing.assert_close(scaled, torch.tensor([[0, 0.3], [0.45, 13.107]]))
    scaled = only(DepthFolder(write.root, val_share=1.0, depth="metres/{name}", scale=0.5))
    torch.testing.assert_close(scaled, torch.tensor([[0, 3.0], [4.5, 131.07]]))


def test_disparity_becomes_depth_by_the_calibration(write):
    # Middlebury's way: depth = f·B / (d + doffs); unknown is infinite, or 0 in files of integers.
    stereo = Stereo(focal=1000.0, baseline=0.2, doffs=30.0)
    pair(write, "rgb/a.png", "depth/a.npy", np.array([[20.0, 70.0, np.inf], [np.nan, 0.0, -3.0]]))
    depth = only(DepthFolder(write.root, stereo=stereo, val_share=1.0))
    torch.testing.assert_close(depth, torch.tensor([[4.0, 2.0, 0.0], [0.0, 0.0, 0.0]]))
    pair(write, "rgb/b.png", "disparity/b.png", np.array([[2560, 0, 5120]]))
    options = {"depth": "disparity/{name}", "stereo": Stereo(1000.0, 0.2), "scale": 256, "val_share": 1.0}
    torch.testing.assert_close(only(DepthFolder(write.root, **options)), torch.tensor([[20.0, 0.0, 10.0]]))
    moved = only(DepthFolder(write.root, **options, offset=-5.0))
    torch.testing.assert_close(moved, torch.tensor([[40.0, 0.0, 200 / 15]]))
    nothing = only(DepthFolder(write.root, **options, offset=-15.0))  # 10 − 15 is behind the cameras
    torch.testing.assert_close(nothing, torch.tensor([[0.0, 0.0, 40.0]]))


def test_masks_take_away(write):
    pair(write, "rgb/a.png", "depth/a.png", np.full((2, 2), 1000))
    write.npy("mask/a.npy", np.array([[True, False], [True, True]]))
    data = DepthFolder(write.root, mask="mask/{name}", val_share=1.0)
    assert only(data).tolist() == [[1.0, 0.0], [1.0, 1.0]]
    write.text("list.txt", "rgb/a.png depth/a.png mask/a.npy")
    assert only(DepthFolder(write.root, val_list=write.root / "list.txt")).tolist() == [[1.0, 0.0], [1.0, 1.0]]
    write.npy("mask/a.npy", np.ones((2, 3)))
    with pytest.raises(UnreadableSample, match="picture and mask differ in size, 2×2 and 2×3"):
        data.val().sample(0, None)


def test_larger_pictures_are_fitted_to_their_depth_if_asked_for(write):
    pixels = write.picture("rgb/a.png", 8, 12)
    write.png16("depth/a.png", np.full((4, 6), 1000))
    with pytest.raises(UnreadableSample, match="differ in size, 8×12 and 4×6"):
        DepthFolder(write.root, val_share=1.0).val().sample(0, None)
    image = DepthFolder(write.root, val_share=1.0, fit_picture=True).val().sample(0, None)["image"]
    expected = torch.from_numpy(pixels.reshape(4, 2, 6, 2, 3).mean(axis=(1, 3))).permute(2, 0, 1) / 127.5 - 1
    torch.testing.assert_close(image, expected.float(), atol=1.01 / 127.5, rtol=0)


def test_scenes_are_folders_where_there_are_several_else_stems(write):
    for scene in "abcdef":
        for i in range(2):
            pair(write, f"{scene}/rgb/{i}.png", f"{scene}/depth/{i}.png")
    options = {"image": "{scene}/rgb/{name}", "depth": "{scene}/depth/{name}"}
    data = DepthFolder(write.root, **options)
    train, val = ({pair.id[0] for pair in pairs} for pairs in (data.train_pairs, data.val_pairs))
    assert train | val == set("abcdef")
    assert train.isdisjoint(val)
    assert val
    named = DepthFolder(write.root, **options, val_scenes=["c/rgb"])
    assert [pair.id for pair in named.val_pairs] == ["c/rgb/0.png", "c/rgb/1.png"]
    one = DepthFolder(write.root, image="a/rgb/{name}", depth="a/depth/{name}")  # one folder: every picture a scene
    assert (len(one.train_pairs), len(one.val_pairs)) == (1, 1)
    by_folder = DepthFolder(write.root, **options, val_folders=["a", "f/rgb"])
    assert {pair.id[0] for pair in by_folder.val_pairs} == {"a", "f"}
    assert {pair.id[0] for pair in by_folder.train_pairs} == set("bcde")
    without = DepthFolder(write.root, **options, exclude=["*/rgb/1.png"])
    assert len(ids(without)) == 6


def test_train_beside_val_is_a_split(write):
    for side in ("train", "val"):
        pair(write, f"{side}/rgb/a.png", f"{side}/depth/a.png")
    data = DepthFolder(write.root, image="{side}/rgb/{name}", depth="{side}/depth/{name}")
    assert [pair.id for pair in data.train_pairs] == ["train/rgb/a.png"]
    assert [pair.id for pair in data.val_pairs] == ["val/rgb/a.png"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"scale": 0.0}, r"data\.scale is 0\.0; expected a finite number above 0"),
        ({"scale": float("inf")}, r"data\.scale is inf"),
        ({"offset": 1.0}, r"data\.offset is 1\.0, but without data\.stereo files hold depth"),
        ({"val_share": 0.5, "val_scenes": ["a"]}, r"data\.val_scenes and data\.val_share contradict each other"),
    ],
)
def test_contradictions_are_refused(tmp_path, options, reason):
    with pytest.raises(ConfigError, match=reason):
        DepthFolder(tmp_path, **options)


@pytest.mark.parametrize("values", [{"focal": 0.0}, {"baseline": -1.0}, {"focal": float("nan")}])
def test_a_calibration_needs_positive_numbers(values):
    with pytest.raises(ConfigError, match=r"data\.stereo\.(focal|baseline) is .*; expected a finite number above 0"):
        Stereo(**{"focal": 1.0, "baseline": 1.0} | values)


def test_it_is_configured_by_plain_values(write):
    pair(write, "rgb/a.png", "depth/a.npy", np.full((4, 6), 50.0))
    arguments = {
        "root": str(write.root),
        "size": [2, 3],
        "limits": [0.1, ".inf"],
        "stereo": {"focal": 100, "baseline": 0.5},
        "jitter": {"brightness": 0.1},
        "val_share": 1,
    }
    raw = {"class_path": "salticid.data.readers.DepthFolder", "init_args": arguments}
    plain = resolve(raw, Data, "data", ("salticid",))
    assert plain["init_args"]["image"] == "rgb/{name}"
    assert plain["init_args"]["jitter"] == {"brightness": 0.1, "contrast": 0.0, "saturation": 0.0}
    assert "skipped" not in plain["init_args"]
    data = build(plain, Data, "data", ("salticid",))
    assert isinstance(data, DepthFolder)
    assert float(only(data)[0, 0]) == 1.0
