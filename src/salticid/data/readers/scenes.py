"""Which scene a file belongs to, and which scenes are kept out for validation."""

import hashlib
import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path

from salticid.errors import ConfigError


def scene_rule(rule: str) -> Callable[[Path], str]:
    """The function path → scene name of a `scene` setting: `stem`, `folder`, or a regular expression with a group
    named `scene`. The function raises ConfigError for a path in which the expression finds no scene.

    Raises:
        ConfigError: none of the three.
    """
    if rule == "stem":
        return lambda path: path.stem
    if rule == "folder":
        return lambda path: path.parent.as_posix()
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise ConfigError(f"data.scene: {rule!r} is neither stem, folder nor a regular expression ({error})") from None
    if "scene" not in pattern.groupindex:
        raise ConfigError(f"data.scene: {rule!r} has no group named scene: (?P<scene>…)")

    def search(path: Path) -> str:
        match = pattern.search(path.as_posix())
        if not match or not match["scene"]:
            # Any name made up here could put one scene on both sides.
            raise ConfigError(f"data.scene: {rule!r} finds no scene in {path.as_posix()}; or leave it to data.exclude")
        return match["scene"]

    return search


def kept_out(scenes: set[str], val_scenes: Sequence[str], val_share: float) -> set[str]:
    """The scenes for validation: `val_scenes`, or those whose `hash_share` is below `val_share`. A share that is
    neither 0 nor 1 leaves one scene or more on each side, whatever the hashes.

    Raises:
        ConfigError: a name of no scene, or one scene to be shared out.
    """
    for name in val_scenes:
        if name not in scenes:
            close = get_close_matches(name, scenes, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"data.val_scenes: no scene named {name!r}{hint}")
    if val_scenes:
        return set(val_scenes)
    ordered = sorted(scenes, key=hash_share)
    count = sum(hash_share(scene) < val_share for scene in ordered)
    if 0 < val_share < 1:
        if len(scenes) == 1:
            raise ConfigError(
                f"data.val_share is {val_share}, but all files are of one scene, {ordered[0]!r}; tell scenes apart by "
                "data.scene (folder, or a regular expression), or use them all on one side: data.val_share 0 or 1"
            )
        count = min(max(count, 1), len(scenes) - 1)
    return set(ordered[:count])


def hash_share(name: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") / 2**64
