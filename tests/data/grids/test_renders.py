"""Renderings of one's own: which views and frames make a sample, and which objects are left out."""

import math
from fractions import Fraction

import pytest
import torch

from salticid.data.loader import train_batches
from salticid.data.readers.grids import MultiViewRenders
from salticid.errors import ConfigError, UnreadableSample

from .conftest import colour

WHITE = (255, 255, 255)


def read(root, **options):
    values = {"frames": 3, "views": 4, "size": (6, 8), "val_share": 0.0} | options
    return MultiViewRenders(root, **values)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def origins(pictures):
    """(view, frame) of pictures (..., 3, H, W), of one colour each."""
    flat = pictures.flatten(-2)
    assert (flat == flat[..., :1]).all()
    return torch.stack((flat[..., 0, 0] // 20, flat[..., 1, 0] // 10), dim=-1)


def test_a_sample_holds_the_views_by_azimuth_with_the_context_camera_apart(studio):
    studio.renders("cup", fps=12)
    sample = read(studio.root).train().sample(0, None)
    assert {name: (tuple(value.shape), value.dtype) for name, value in sample.items()} == {
        "image": ((3, 3, 4, 6, 8), torch.uint8),
        "context": ((3, 3, 6, 8), torch.uint8),
        "reference": ((4, 3, 6, 8), torch.uint8),
        "camera": ((4, 3), torch.float32),
        "fps": ((), torch.float32),
    }
    views = origins(sample["image"].permute(1, 2, 0, 3, 4))
    assert origins(sample["context"]).tolist() == [[0, 0], [0, 1], [0, 2]]
    assert views[..., 1].tolist() == [[0] * 4, [1] * 4, [2] * 4]
    chosen = views[0, :, 0].tolist()
    assert chosen == [1, 2, 4, 5]  # spread over 1 to 5
    assert origins(sample["reference"])[:, 0].tolist() == chosen
    expected = [(math.radians(90 - 5 * n), math.radians(50 * n), 2) for n in chosen]
    torch.testing.assert_close(sample["camera"], torch.tensor(expected), atol=1e-6, rtol=0)
    assert sample["fps"].item() == 12


def test_views_frames_and_context_are_drawn_in_training_alone(studio):
    studio.renders("cup", frames=11)
    studio.renders("jug", frames=11)
    data = read(studio.root, context="random", stride=2, fps=10.0, val_share=None, val_scenes=("jug",))
    samples = [data.train().sample(0, generator(seed)) for seed in range(30)]
    starts, contexts, others = set(), set(), set()
    for sample in samples:
        (context, start), *_ = found = origins(sample["context"]).tolist()
        assert [frame for _, frame in found] == [start, start + 2, start + 4]
        views = origins(sample["image"].permute(1, 2, 0, 3, 4))[0, :, 0].tolist()
        assert context not in views
        azimuths = [math.radians(50 * (view - context) % 360) for view in views]
        assert azimuths == sorted(azimuths)
        torch.testing.assert_close(sample["camera"][:, 1], torch.tensor(azimuths), atol=1e-6, rtol=0)
        assert origins(sample["reference"]).tolist() == [[view, 0] for view in views]
        starts.add(start)
        contexts.add(context)
        others |= set(views)
    assert (starts, contexts, others) == (set(range(7)), set(range(6)), set(range(6)))
    assert sample["fps"].item() == 5
    again = data.train().sample(0, generator(29))
    assert all(torch.equal(again[name], sample[name]) for name in sample)
    plain, drawn = (data.val().sample(0, g) for g in (None, generator(3)))
    assert all(torch.equal(plain[name], drawn[name]) for name in plain)
    assert origins(plain["context"])[0].tolist() == [0, 0]


def test_each_view_in_turn_may_be_the_context_cameras(studio):
    studio.renders("cup")
    source = read(studio.root, context="each").train()
    assert [source.id(n) for n in range(len(source))] == [f"cup/v{n}" for n in range(6)]
    for index in range(6):
        assert origins(source.sample(index, generator())["context"])[0, 0] == index


def test_outcomes_are_counted_where_windows_are_and_a_sample_is_one_of_them(studio):
    studio.renders("cup", frames=9)
    data = read(studio.root, context="random", windows=5)
    source = data.train()
    assert (source.outcomes, data.val().outcomes, read(studio.root).train().outcomes) == (5, 1, None)
    outcomes = [source.outcome(0, which) for which in range(5)]
    assert all(torch.equal(outcomes[0][name], value) for name, value in source.sample(0, None).items())
    assert sum(not torch.equal(outcomes[0]["image"], other["image"]) for other in outcomes[1:]) >= 3
    found = set()
    for seed in range(40):
        sample = source.sample(0, generator(seed))
        found |= {n for n, o in enumerate(outcomes) if all(torch.equal(o[name], sample[name]) for name in o)}
    assert found == set(range(5))
    with pytest.raises(NotImplementedError):
        read(studio.root).train().outcome(0, 0)


def test_transparent_pictures_get_a_background_and_others_are_cut_to_size(studio):
    studio.renders("cup", frames=1)
    studio.picture("cup/v1/0.png", (200, 100, 0), alpha=51)
    studio.picture("cup/v2/0.png", (200, 100, 0), size=(12, 40))
    options = {"frames": 1, "views": 5}
    image = read(studio.root, **options).train().sample(0, None)["image"][:, 0]
    assert image[:, 0, 3, 4].tolist() == [244, 224, 204]  # a fifth of the colour, four of white
    assert image[:, 1, 3, 4].tolist() == [200, 100, 0]
    black = read(studio.root, background=(0, 0, 255), **options).train().sample(0, None)["image"][:, 0]
    assert black[:, 0, 3, 4].tolist() == [40, 20, 204]


def test_validation_tells_poses_and_intrinsics(studio):
    studio.renders("cup", camera_angle_x=math.radians(90))
    sample = read(studio.root, val_share=1.0).val().sample(0, None)
    assert sample["intrinsics"].tolist() == pytest.approx([4, 4, 3.5, 2.5])
    polar, _, distance = sample["camera"].T
    places = sample["poses"][:, :3, 3]
    torch.testing.assert_close(places.norm(dim=-1), distance, atol=1e-5, rtol=0)
    torch.testing.assert_close(-places[:, 1], distance * polar.cos(), atol=1e-5, rtol=0)
    studio.renders("jug")
    assert "intrinsics" not in read(studio.root, val_share=1.0).val().sample(0, None)


def film(path, view, frames=5):
    pytest.importorskip("av")
    from salticid.evaluate.video_files import VideoWriter

    with VideoWriter(path, Fraction(10)) as writer:
        for frame in range(frames):
            writer.write(torch.tensor(colour(view, 4 * frame), dtype=torch.uint8)[:, None, None].repeat(1, 32, 32))


def test_videos_are_views_as_well_with_a_rate_of_their_own(studio):
    studio.renders("cup", frames=0)
    for view in range(6):
        film(studio.path(f"cup/v{view}.mp4"), view)
    data = read(studio.root, size=(16, 16))
    sample = data.train().sample(0, None)
    assert sample["fps"].item() == pytest.approx(10)
    expected = torch.tensor([[colour(view, 4 * frame) for view in (1, 2, 4, 5)] for frame in range(3)])
    found = sample["image"].permute(1, 2, 0, 3, 4)[..., 8, 8]
    assert (found.int() - expected).abs().max() <= 6  # of the codec
    late = next(s for seed in range(9) if (s := data.train().sample(0, generator(seed)))["context"][0, 1, 8, 8] > 60)
    assert late["reference"][:, 1].max() <= 6
    studio.path("cup/v1.mp4").write_bytes(b"no video")
    with pytest.raises(UnreadableSample, match=r"v1\.mp4: not a readable video"):
        read(studio.root).train().sample(0, None)
    film(studio.path("cup/v1.mp4"), 1, frames=2)
    with pytest.raises(UnreadableSample, match="cup: 2 frames; expected 3"):
        read(studio.root).train().sample(0, None)


def test_pictures_without_folders_are_objects_that_stand_still(studio):
    studio.renders("cup", frames=0)
    for view in range(6):
        studio.picture(f"cup/v{view}.png", colour(view, 0))
    sample = read(studio.root, frames=1).train().sample(0, None)
    assert origins(sample["image"].permute(1, 2, 0, 3, 4))[0, :, 0].tolist() == [1, 2, 4, 5]
    alone = read(studio.root / "cup", frames=1).train()
    assert (len(alone), alone.id(0)) == (1, "cup")


def test_broken_objects_are_left_out_by_name(studio, caplog):
    for name in ("cup", "jug", "pan", "pot"):
        studio.renders(name)
    studio.json("jug/cameras.json", "{")
    studio.renders("lid", views=3)
    studio.renders("mug", frames=2)
    studio.path("notes/readme.txt").write_text("nothing")
    for frame in range(5):
        (studio.root / f"pan/v3/{frame}.png").unlink()
    data = read(studio.root, val_share=None, val_scenes=("pot",))
    assert [s.name for s in data.train_subjects] == ["cup", "pan"]
    assert [s.name for s in data.val_subjects] == ["pot"]
    assert data.train_subjects[1].views == ["v0", "v1", "v2", "v4", "v5"]
    reasons = {name: reason.removeprefix(str(studio.root)) for name, reason in data.skipped.items()}
    assert reasons.pop("jug").startswith("/jug/cameras.json: not a JSON file")
    assert reasons == {
        "lid": "3 views of 3 frames or more; data.views needs 5 with the context camera's",
        "mug": "0 views of 3 frames or more; data.views needs 5 with the context camera's",
        "notes": "/notes/cameras.json: cannot be read (No such file or directory)",
        "pan/v3": "/pan/v3: no frames",
    }
    assert "skipped jug" in caplog.text
    (studio.root / "cup/v0/1.png").write_bytes(b"no picture")
    with pytest.raises(UnreadableSample, match=r"v0/1\.png: not a readable picture"):
        data.train().sample(0, None)


def test_frames_are_in_the_order_of_their_numbers(studio):
    studio.renders("cup", frames=12)  # 0.png, 1.png, 10.png, 11.png, 2.png …
    sample = read(studio.root, frames=12).train().sample(0, None)
    assert origins(sample["context"])[:, 1].tolist() == list(range(12))


def test_a_loader_reads_batches(studio):
    for name in ("cup", "jug"):
        studio.renders(name)
    source = read(studio.root, windows=3).train()
    batch = next(iter(train_batches(source, source.order(2, seed=3), range(1), micro_batch=2, seed=3)))
    assert batch["image"].shape == (2, 3, 3, 4, 6, 8)
    assert sorted(batch["id"]) == ["cup", "jug"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 0}, r"data\.frames is 0"),
        ({"views": 0}, r"data\.views is 0"),
        ({"views": 6}, "6 views of 3 frames or more; data.views needs 7"),
        ({"stride": 0}, r"data\.stride is 0"),
        ({"stride": 3}, "0 views of 7 frames or more"),
        ({"windows": 0}, r"data\.windows is 0"),
        ({"fps": 0.0}, r"data\.fps is 0"),
        ({"size": (0, 8)}, r"data\.size is"),
        ({"background": (0, 0, 256)}, r"data\.background is"),
        ({"val_share": 1.5}, r"data\.val_share is 1.5"),
        ({"val_share": 0.5}, r"data\.val_share is 0\.5, but cup is the only object"),
        ({"val_share": None, "val_scenes": ("cap",)}, "no scene named 'cap'; did you mean 'cup'"),
    ],
)
def test_settings_that_make_no_data_are_refused(studio, options, message):
    studio.renders("cup")
    with pytest.raises(ConfigError, match=message) as caught:
        read(studio.root, **options)
    assert "\n" not in str(caught.value)


def test_folders_without_objects_are_refused(studio):
    with pytest.raises(ConfigError, match="is not a folder"):
        read(studio.root / "none")
    with pytest.raises(ConfigError, match=r"no object under .*: expected cameras\.json"):
        read(studio.root)
    studio.json("cup/cameras.json", {"views": {"a": {"azimuth": 0, "elevation": 95, "distance": 1}}})
    with pytest.raises(ConfigError, match=r"can be used; cup: .*cameras\.json: views\.a\.elevation: expected degrees"):
        read(studio.root)


def test_the_context_camera_can_be_the_last_view(studio):
    studio.renders("cup")
    sample = read(studio.root, views=4, context_view=True).train().sample(0, None)
    assert sample["image"].shape[2] == 4
    assert torch.equal(sample["image"][:, :, -1].transpose(0, 1), sample["context"])
    assert torch.equal(sample["reference"][-1], sample["context"][0])
    assert sample["camera"][-1, 1] == 0
    assert (sample["camera"][:-1, 1].diff() > 0).all()
