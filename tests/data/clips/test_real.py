"""Real clips, where SALTICID_TEST_DATA has them."""

import pytest
import torch

from salticid.data.readers.clips import ClipFolder


def test_all_clips_are_read(real_data):
    folder = real_data / "clips"
    if not folder.exists():
        pytest.skip("SALTICID_TEST_DATA has no clips")
    data = ClipFolder(folder, frames=8, size=(48, 80), fps=(5.0, 10.0), val_share=0.0, motion="flow")
    assert (len(data.train_clips), data.skipped) == (14, {})
    assert {clip.id for clip in data.train_clips} >= {"davis_bmx_trees", "imageio/cockatoo.mp4"}
    source = data.train()
    for index, clip in enumerate(data.train_clips):
        if len(clip) * clip.shape[0] * clip.shape[1] > 1e8:
            continue  # to decode a hundred large frames takes a second
        sample = source.sample(index, torch.Generator().manual_seed(index))
        assert sample["video"].shape == (3, 8, 48, 80)
        assert 5 <= sample["fps"] <= 10.001
        assert 0 < sample["motion_bucket"] < 255
        assert sample["video"].float().std() > 5
