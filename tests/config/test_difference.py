"""Which changes a run may be resumed with."""

from typing import Any

import pytest

from salticid import presets
from salticid.config.classes import allowed_packages
from salticid.config.difference import CHANGEABLE, SAME_FILES, Change, check_resumable, difference, samples_of
from salticid.config.run import load_config
from salticid.errors import ConfigError


def test_differences_are_listed_key_by_key(load):
    changes = difference(load(), load(trainer__steps="9", ema="{decay: 0.5}", recipe__title="x"))
    assert Change("trainer.steps", 4, 9) in changes
    assert Change("recipe.init_args.title", "toy", "x") in changes
    assert [c.key for c in changes] == ["recipe.init_args.title", "trainer.steps", "ema.decay"]
    assert difference(load(), load()) == []


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("trainer.steps", "9", "trainer.steps: 4 → 9"),
        ("trainer.seed", "9", "trainer.seed: 0 → 9"),
        ("trainer.batch", "2", "trainer.batch: 4 → 2"),
        ("trainer.precision", "bf16", "trainer.precision: 'fp32' → 'bf16'"),
        ("optimizer.lr", "0.5", "optimizer.lr: 0.0001 → 0.5"),
        ("data.count", "9", "data.init_args.count: 32 → 9"),
        ("ema", "null", "→ null"),
        ("checkpoint.best_metric", "error", "checkpoint.best_metric: null → 'error'"),
    ],
)
def test_a_run_is_not_resumed_with_another_result(load, key: str, value: str, message: str):
    with pytest.raises(ConfigError) as caught:
        check_resumable(load(), load(**{key.replace(".", "__"): value}))
    assert message in str(caught.value)


def test_a_run_is_resumed_with_what_does_not_change_it(load):
    changed = {
        "log.every": "3",
        "log.tensorboard": "true",
        "checkpoint.every": "2",
        "checkpoint.keep_last": "5",
        "trainer.workers": "2",
        "trainer.micro_batch": "1",
        "trainer.parallel": "fsdp",
        "trainer.on_nonfinite": "skip",
        "latents": "folder",
    }
    changes = check_resumable(load(), load(**{key.replace(".", "__"): value for key, value in changed.items()}))
    assert {c.key for c in changes} == set(changed)


def test_a_run_is_resumed_where_its_data_have_moved():
    def config(root, val_scenes=2):
        return {"data": {"class_path": "a.B", "init_args": {"root": root, "val_scenes": val_scenes}}}

    (change,) = check_resumable(config("a"), config("/b/c"))
    assert str(change) == "data.init_args.root: 'a' → '/b/c'"
    with pytest.raises(ConfigError, match=r"\(data.init_args.val_scenes: 2 → 3\)"):
        check_resumable(config("a"), config("b", 3))


def mixture(root="a", size=8, weight=1.0, group=1, name="near"):
    inner = {"class_path": "a.B", "init_args": {"root": root, "size": size}}
    parts = {name: {"data": inner, "weight": weight}, "far": {"data": inner, "weight": 2.0}}
    return {"data": {"class_path": "a.Mixture", "init_args": {"parts": parts, "group": group}}}


def test_a_run_is_resumed_where_the_parts_of_its_mixture_have_moved():
    changes = check_resumable(mixture(), mixture("/b"))
    prefix = "data.init_args.parts"
    assert [c.key for c in changes] == [f"{prefix}.{name}.data.init_args.root" for name in ("near", "far")]
    for other in (mixture(size=9), mixture(weight=3.0), mixture(group=2), mixture(name="close")):
        with pytest.raises(ConfigError, match=r"data\.init_args\."):
            check_resumable(mixture(), other)
    outer = [{"data": {"class_path": "M", "init_args": {"parts": {"x": mixture(root)}}}} for root in "ab"]
    assert len(check_resumable(*outer)) == 2


def test_samples_depend_on_neither_their_place_nor_their_share():
    same = samples_of(mixture("/b", weight=3.0, group=2))
    assert same == samples_of(mixture())
    assert same["init_args"]["parts"]["near"]["data"]["init_args"] == {"size": 8}
    assert samples_of(mixture(size=9)) != same
    assert samples_of(mixture(name="close")) != same


def test_changeable_keys_exist(load):
    config = load()
    for key in set(CHANGEABLE) - set(SAME_FILES):  # the toy has no files
        inner: Any = config
        for part in key.split("."):
            inner = inner[part]


def test_files_that_may_move_are_keys_of_presets():
    """`initial.path` is where it is named at all."""
    path = presets.find("panorama-base")
    config = load_config(path, [("recipe.initial.path", "run"), ("data.val_list", "val.txt")], allowed_packages())
    for key in SAME_FILES:
        inner: Any = config
        for part in key.split("."):
            inner = inner[part]
