"""Where an evaluation keeps its pictures to look around in: `evaluation/<its name>-360/01-truth.png`, by the number
of the sample, with the samples' ids and the order of the names in `index.json`."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from salticid.errors import UserError

INDEX = "index.json"
NAME = r"[a-z0-9][a-z0-9.-]{0,47}"
"""What a picture may be called: it becomes part of a file's name."""
FILE = re.compile(rf"([0-9]{{2,6}})-({NAME})\.png")


@dataclass(frozen=True)
class Sphere:
    """One equirectangular picture of an evaluation."""

    sample: int
    """From 1."""
    id: str
    """Of the sample; empty where the index does not tell."""
    name: str
    """What made it: "truth", "12-step" …"""
    path: Path


def folder_of(stem: Path) -> Path:
    """The folder of the evaluation whose results are `stem`.json."""
    return stem.with_name(f"{stem.name}-360")


def path_of(folder: Path, sample: int, name: str) -> Path:
    """The file of one picture.

    Raises:
        UserError: the name cannot be part of a file's name.
    """
    if not re.fullmatch(NAME, name):
        raise UserError(f"pictures to look around in: {name!r} is no name of lower-case letters, digits, '-' and '.'")
    return folder / f"{sample:02d}-{name}.png"


def index_of(ids: Sequence[str], names: Sequence[str]) -> str:
    """The content of `index.json`."""
    return json.dumps({"ids": list(ids), "names": list(names)}) + "\n"


def clear(folder: Path) -> None:
    """Remove what an earlier evaluation left in the folder, and nothing else.

    Raises:
        OSError: it cannot be removed.
    """
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.name == INDEX or FILE.fullmatch(path.name):
            path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()


def find_spheres(stem: Path, problems: list[str]) -> list[Sphere]:
    """The pictures of an evaluation, sample by sample, in the recipe's order; what is broken is said in `problems`."""
    folder = folder_of(stem)
    files = [(parts, path) for path in folder.glob("*.png") if (parts := FILE.fullmatch(path.name))]
    if not files:
        return []
    ids, names = _index(folder, problems)
    known = {name: place for place, name in enumerate(names)}
    found = [
        Sphere(int(parts[1]), ids.get(int(parts[1]), ""), parts[2], path) for parts, path in files if path.is_file()
    ]
    return sorted(found, key=lambda s: (s.sample, known.get(s.name, len(known)), s.name))


def _index(folder: Path, problems: list[str]) -> tuple[dict[int, str], list[str]]:
    """Ids by number of the sample, and names in their order; without an index, none."""
    try:
        content = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        ids = {number: str(name) for number, name in enumerate(content["ids"], 1)}
        return ids, [str(name) for name in content["names"]]
    except FileNotFoundError:
        return {}, []
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        problems.append(f"evaluation/{folder.name}/{INDEX}: not readable")
        return {}, []
