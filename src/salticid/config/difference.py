"""How two configurations differ, and which differences a run may be resumed with."""

import dataclasses
import re
from typing import Any

from salticid.config.leaves import short
from salticid.errors import ConfigError

Plain = dict[str, Any]
"""A configuration as YAML holds it."""

SAME_RESULT = (
    "log",
    "checkpoint.every",
    "checkpoint.keep_last",
    "trainer.workers",
    "trainer.timeout",
    "validation.batch",
    "validation.previews",
)
"""Keys that neither a weight nor a metric depends on: what is written, how often, and who reads the samples."""

SAME_MATHEMATICS = (
    "latents",
    "trainer.micro_batch",
    "trainer.device",
    "trainer.parallel",
    "trainer.compile",
    "trainer.channels_last",
    "trainer.checkpoint_activations",
    "trainer.deterministic",
)
"""Keys that change how a step is computed but not what it computes: the run goes on to rounding error, no longer
bit for bit. What a run needs to move to another machine, or to fit into its memory."""

SAME_FILES = (
    "data.init_args.root",
    "data.init_args.train_list",
    "data.init_args.val_list",
    "recipe.init_args.initial.path",
    "recipe.init_args.judges",
)
"""Where the same data and pretrained networks lie: a run may move with them. That they are the same is the user's
word."""

SAME_SAMPLES = (
    "data.init_args.group",
    "data.init_args.val_part",
    "data.init_args.parts.*.weight",
    "data.init_args.cache_mb",
)
"""What decides which samples are seen how often, but not what any of them is. (What decides which samples there are
need not be told apart: they are known by their ids.)"""

FROM_NOW_ON = ("trainer.on_nonfinite",)
"""A policy for what has not happened yet; a run that a non-finite step has stopped can go on with another."""

CHANGEABLE = SAME_RESULT + SAME_MATHEMATICS + SAME_FILES + FROM_NOW_ON


@dataclasses.dataclass(frozen=True)
class Change:
    """A key whose value differs between two configurations; None where one lacks it."""

    key: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.key}: {short(self.old)} → {short(self.new)}"

    def within(self, keys: tuple[str, ...]) -> bool:
        """Whether it lies in one of `keys`, or is one of them."""
        return within(self.key, keys)


def within(key: str, keys: tuple[str, ...]) -> bool:
    """Whether a dotted key lies in one of `keys`, or is one of them. The data of a part of a mixture are judged as
    data that stand alone; `parts.*` is any part."""
    while part := _PART.match(key):
        key = ("data." if part[1] else "data.init_args.parts.*.") + key[part.end() :]
    return any(key == other or key.startswith(other + ".") for other in keys)


_PART = re.compile(r"data\.init_args\.parts\.[^.*]+\.(data\.)?")


def difference(old: Plain, new: Plain, prefix: str = "") -> list[Change]:
    """The leaves in which two resolved configurations differ, by dotted key."""
    changes: list[Change] = []
    for name in old | new:
        key, a, b = prefix + name, old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            changes += difference(a, b, key + ".")
        elif a != b:
            changes.append(Change(key, a, b))
    return changes


def check_resumable(saved: Plain, wanted: Plain) -> list[Change]:
    """The changes with which a run goes on; all are among `CHANGEABLE`.

    `trainer.steps` is not: schedules, EMA and the mixture of noise levels depend on the length of the run.

    Raises:
        ConfigError: another key differs; the message gives each with its old and new value.
    """
    changes = difference(saved, wanted)
    refused = [str(c) for c in changes if not c.within(CHANGEABLE)]
    if refused:
        raise ConfigError(
            f"the run was started with another configuration ({'; '.join(refused)}); resume it without these "
            "changes, or start a new run"
        )
    return changes


def samples_of(config: Plain) -> Plain:
    """Of a resolved configuration, the data's keys that a sample depends on: neither where they lie nor how often
    they are seen."""
    return _without(config["data"], "data", SAME_FILES + SAME_SAMPLES)


def _without(value: Plain, key: str, keys: tuple[str, ...]) -> Plain:
    kept = {name: inner for name, inner in value.items() if not within(f"{key}.{name}", keys)}
    return {n: _without(v, f"{key}.{n}", keys) if isinstance(v, dict) else v for n, v in kept.items()}
