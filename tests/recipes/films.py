"""Small recipes, and batches of films of the embedded world, for tests of the sfm recipe."""

import torch

from salticid.data.source import collate
from salticid.engine.recipe import Clock
from salticid.recipes import SfmRecipe
from salticid.recipes.sfm.settings import Networks
from salticid.world import WorldMotion

BACKBONE = "test_resnet"
OFFSETS = (0, -1, 1)
SIZE = (48, 64)
CLOCK = Clock(0, 10, 0)


def networks(**options) -> Networks:
    return Networks(**({"backbone": BACKBONE, "norm": "group"} | options))


def made(**options) -> SfmRecipe:
    torch.manual_seed(0)
    return SfmRecipe(**({"networks": networks()} | options))


def films(**options) -> WorldMotion:
    return WorldMotion(**({"size": SIZE, "val_scenes": 1, "kind": "room"} | options))


def batch_of(data: WorldMotion, count: int = 2) -> dict:
    samples = collate([data.train().sample(i, None) for i in range(count)])
    return samples | {"id": [str(i) for i in range(count)], "key": torch.arange(count)}
