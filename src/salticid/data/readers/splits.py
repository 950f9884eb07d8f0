"""How the pictures of a folder are divided into training and validation."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from salticid.data.readers.scenes import kept_out, scene_rule
from salticid.data.readers.survey import pictures_under, survey, without_excluded
from salticid.errors import ConfigError

log = logging.getLogger(__name__)

DEFAULT_SHARE = 0.2


@dataclass(frozen=True)
class Split:
    """One way of four: scenes by name, a share of the scenes, folders, or list files. Of folders and of lists one
    side may be left out; it then gets all other pictures.

    Raises:
        ConfigError: more than one way, or a share out of range.
    """

    val_scenes: Sequence[str] = ()
    val_share: float | None = None
    train_folders: Sequence[str] = ()
    val_folders: Sequence[str] = ()
    train_list: Path | None = None
    val_list: Path | None = None

    def __post_init__(self) -> None:
        if self.val_share is not None and not 0 <= self.val_share <= 1:
            raise ConfigError(f"data.val_share is {self.val_share}; expected 0 to 1")
        if len(self.ways) > 1:
            given = [name for way in self.ways for name in way]
            raise ConfigError(
                f"data.{' and data.'.join(given)} contradict each other; expected one way to split: val_share, "
                "val_scenes, folders or lists"
            )

    @property
    def ways(self) -> list[list[str]]:
        """The keys that are given, those of one way together."""
        groups = ["val_scenes"], ["val_share"], ["train_folders", "val_folders"], ["train_list", "val_list"]
        given = [[name for name in group if getattr(self, name) not in (None, (), [])] for group in groups]
        return [group for group in given if group]

    def sides(self, root: Path) -> tuple[set[Path], set[Path]] | None:
        """The pictures of training and of validation, relative to `root`, by folders or lists; None if it is scenes
        that decide. Listed files need not exist.

        Raises:
            ConfigError: a folder or list is missing, empty or leads out of `root`, or a picture is on both sides.
        """
        split = self if self.ways else (by_layout(root) or self)
        train = members(root, "train", split.train_folders, split.train_list)
        val = members(root, "val", split.val_folders, split.val_list)
        if train is None and val is None:
            return None
        if train is None or val is None:
            given = train or val or set()
            rest = set(pictures_under(root)) - given
            return (rest, given) if train is None else (given, rest)
        if both := train & val:
            keys = " and data.".join(split.ways[0])
            raise ConfigError(f"data.{keys}: {min(both)} is on both sides, one of {len(both)} files")
        return train, val

    def val_files(self, scenes: Mapping[Path, str]) -> set[Path]:
        """The files for validation, where it is `scenes` (path → scene) that decide.

        Raises:
            ConfigError: a name of no scene, or one scene to be shared out.
        """
        share = DEFAULT_SHARE if self.val_share is None else self.val_share
        out = kept_out(set(scenes.values()), self.val_scenes, share)
        return {path for path, scene in scenes.items() if scene in out}


def divided(
    root: Path, split: Split, scene: str, exclude: Sequence[str]
) -> tuple[list[Path], list[Path], dict[str, str]]:
    """The usable panoramas for training and for validation, relative to `root` and sorted, and the reason for every
    file that is left out.

    Args:
        scene: see `scene_rule`.
        exclude: glob patterns of files to leave out without a word.

    Raises:
        ConfigError: a side has files, but none can be used; or as `Split.sides`, `Split.val_files`, `survey`.
    """
    scene_of = scene_rule(scene)
    sides = split.sides(root)
    candidates = set(pictures_under(root)) if sides is None else sides[0] | sides[1]
    files, skipped = survey(root, without_excluded(root, candidates, exclude))
    scenes = {path: scene_of(path) for path in files}
    if sides is None:
        val = split.val_files(scenes)
    else:
        for name, side in zip(("training", "validation"), sides, strict=True):
            if side and side.isdisjoint(files):
                raise ConfigError(f"data.root: none of the {len(side)} files for {name} under {root} can be used")
        val = sides[1] & scenes.keys()
        remark_on_shared_scenes(scenes, val)
    return [path for path in files if path not in val], [path for path in files if path in val], skipped


def by_layout(root: Path) -> Split | None:
    """The split that is laid out in folders, as in 360SP: `train` beside `val` or else `test`, all with pictures. To
    divide such a folder at random would train on its test set."""
    if not any(pictures_under(root, "train")):
        return None
    for name in ("val", "test"):
        if any(pictures_under(root, name)):
            log.info(
                "data.root: %s is laid out in train/ and %s/: the first is trained on, the second validates, all else "
                "is left out (data.val_share, data.val_scenes or folders of your own say otherwise)",
                root,
                name,
            )
            return Split(train_folders=("train",), val_folders=(name,))
    return None


def members(root: Path, side: str, folders: Sequence[str], list_file: Path | None) -> set[Path] | None:
    """The pictures that `folders` or `list_file` give to a side, relative to `root`; None if neither is given."""
    if list_file is not None:
        return listed(root, list_file, f"data.{side}_list")
    if not folders:
        return None
    found: set[Path] = set()
    for folder in folders:
        key = f"data.{side}_folders"
        inner = inside(root, root / folder)
        if Path(folder).is_absolute() or inner is None:
            raise ConfigError(f"{key}: {folder!r} leads out of {root}; expected folders in it")
        if not (root / inner).is_dir():
            raise ConfigError(f"{key}: {root / inner} is not a folder")
        pictures = set(pictures_under(root, inner))
        if not pictures:
            raise ConfigError(f"{key}: no picture under {root / inner}")
        found |= pictures
    return found


def listed(root: Path, list_file: Path, key: str) -> set[Path]:
    """The files that a list names, relative to `root`: one path per line, relative to `root` or to the list's own
    folder; `root` goes first. Blank lines and lines that begin with # are comments.

    Raises:
        ConfigError: no such list, no text, no entry, or one that is absolute or leads out of `root`.
    """
    try:
        lines = Path(list_file).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigError(f"{key}: {list_file} cannot be read ({reason}); expected a text file of paths") from None
    found: set[Path] = set()
    for number, line in enumerate(lines, 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        places = [place for folder in (root, Path(list_file).parent) if (place := inside(root, folder / entry))]
        if Path(entry).is_absolute() or not places:
            raise ConfigError(f"{key}: line {number} of {list_file}, {entry!r}, is not a path inside {root}")
        found.add(next((place for place in places if os.path.isfile(root / place)), places[0]))
    if not found:
        raise ConfigError(f"{key}: {list_file} names no file")
    return found


def inside(root: Path, path: Path) -> Path | None:
    """`path` relative to `root`, or None if its `..` lead out of it; links are not looked at."""
    relative = Path(os.path.relpath(path, root))
    return None if relative.parts[:1] == ("..",) else relative


def remark_on_shared_scenes(scenes: Mapping[Path, str], val_files: set[Path]) -> None:
    """Say in the log how many scenes (of path → scene) have files on both sides."""
    val = {scenes[path] for path in val_files}
    shared = val & {scene for path, scene in scenes.items() if path not in val_files}
    if shared:
        log.warning(
            "data: %d of %d scenes of validation are trained on too, such as %r; if that is but a name in common, "
            "say by data.scene what tells scenes apart",
            len(shared),
            len(val),
            min(shared),
        )
