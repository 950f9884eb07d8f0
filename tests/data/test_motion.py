"""Augmentation of samples of moving cameras."""

import torch

from salticid.data.motion import Augmentation, Jitter, mirrored, no_jitter


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_jitter_stays_in_its_ranges_and_is_drawn_half_of_the_time():
    jitter = Jitter()
    g = generator()
    drawn = torch.stack([jitter.draw(g) for _ in range(2000)])
    changed = (drawn != no_jitter()).any(1)
    assert 0.46 < changed.float().mean() < 0.54
    factors, hue, order = drawn[changed][:, :3], drawn[changed][:, 3], drawn[changed][:, 4]
    assert ((factors >= 0.8) & (factors <= 1.2)).all()
    assert factors.min() < 0.81
    assert factors.max() > 1.19
    assert (hue.abs() <= 0.1).all()
    assert set(order.tolist()) == set(range(24))
    assert torch.equal(Jitter(probability=0.0).draw(generator()), no_jitter())


def test_a_sample_mirrored_twice_is_itself():
    sample = {
        "frames": torch.randint(0, 256, (2, 3, 4, 6), dtype=torch.uint8, generator=generator()),
        "intrinsics": torch.tensor([5.0, 5.0, 2.0, 1.5]),
        "poses": torch.rand(2, 4, 4, generator=generator(1)),
        "flow": torch.rand(1, 2, 4, 6, generator=generator(2)),
        "depth": torch.rand(1, 4, 6, generator=generator(3)),
    }
    once = mirrored(sample)
    assert once["intrinsics"].tolist() == [5.0, 5.0, 3.0, 1.5]
    assert torch.equal(once["frames"], sample["frames"].flip(-1))
    assert torch.equal(once["flow"][0, 0], -sample["flow"][0, 0].flip(-1))
    assert torch.equal(once["poses"][:, 0, 3], -sample["poses"][:, 0, 3])
    assert torch.equal(once["poses"][:, 2, 3], sample["poses"][:, 2, 3])
    for name, value in mirrored(once).items():
        assert torch.equal(value, sample[name]), name


def test_augmentation_mirrors_as_often_as_it_is_told_and_never_in_evaluation():
    frames = torch.arange(12, dtype=torch.uint8).reshape(1, 1, 3, 4)
    sample = {"frames": frames, "intrinsics": torch.tensor([1.0, 1.0, 1.0, 1.0])}
    assert torch.equal(Augmentation(1.0)(sample, None)["frames"], frames)
    assert torch.equal(Augmentation(0.0)(sample, generator())["frames"], frames)
    g = generator()
    flips = [not torch.equal(Augmentation()(sample, g)["frames"], frames) for _ in range(400)]
    assert 160 < sum(flips) < 240
