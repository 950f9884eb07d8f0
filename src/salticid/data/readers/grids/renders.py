"""Renderings of objects of one's own: a folder an object, with a film or a picture of every view."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from salticid.data.readers.depth.files import Files
from salticid.data.readers.grids.base import GridData
from salticid.data.readers.grids.cameras import read_cameras
from salticid.data.readers.grids.subject import Film, Footage, Pictures, Subject, natural
from salticid.data.readers.pictures import is_picture
from salticid.data.readers.video import is_video
from salticid.errors import UserError


@dataclass(kw_only=True, eq=False)
class MultiViewRenders(GridData):
    """`OBJECT/VIEW/FRAME.png` (in the order of the numbers in their names), `OBJECT/VIEW.mp4`, or, of an object that
    stands still, `OBJECT/VIEW.png`, with `OBJECT/cameras.json`; other formats of pictures and videos as well. See
    `GridData` for what is not said here.

    Frame n of all views is of the same moment. `cameras.json` says where the cameras of the views stand, which are
    named as their files are; the first is the context camera. Either by angles, in degrees,

        {"views": {"front": {"azimuth": 0, "elevation": 10, "distance": 2.0},
                   "right": {"azimuth": 90, "elevation": 10, "distance": 2.0}, …},
         "camera_angle_x": 0.5906, "fps": 24}

    where azimuths grow counterclockwise as seen from above, from anywhere, and `polar` (0 to 180, from straight above)
    may stand for `elevation`; or by matrices, camera to world, of cameras whose y points up and that look along −z
    (OpenGL, Blender, NeRF):

        {"views": {"front": {"transform_matrix": [[1, 0, 0, 0], [0, 0, -1, -2], [0, 1, 0, 0], [0, 0, 0, 1]]}, …},
         "centre": [0, 0, 0], "up": [0, 0, 1], "camera_angle_x": 0.5906, "fps": 24}

    Distances are in any unit. May be left out: `centre`, the point of the world that azimuths go around; `up`, the
    vertical (if so, both as above); `camera_angle_x`, the horizontal field of view of all cameras, rad; `fps` of the
    films (then that of video files, or else the argument). Other keys are refused.
    """

    marker = "cameras.json"
    layout = "cameras.json, with VIEW/FRAME.png or VIEW.mp4, in folders of objects"

    def sides(self) -> tuple[list[Subject], list[Subject]]:
        return self.divided(self.usable(self.subjects("cameras.json", self._subject)))

    def _subject(self, name: str, path: Path) -> Subject:
        """Raises UserError where cameras.json is wrong or no view has files."""
        cameras = read_cameras(path)
        files = Files(path.parent)
        by_stem = {Path(entry).stem: entry for entry in sorted(files.names("."))}
        films = [self._film(files, view, by_stem.get(view)) for view in cameras.names]
        for view, film in zip(cameras.names, films, strict=True):
            if film is None:
                self.skipped[f"{name}/{view}"] = f"{path.parent / view}: no frames"
        kept = [place for place, film in enumerate(films) if film is not None]
        if not kept:
            raise UserError(f"{path.parent}: no files of the views that cameras.json names")
        found = [film for film in films if film is not None]
        return Subject(name, [cameras.names[place] for place in kept], found, cameras.poses[kept], *cameras[2:])

    def _film(self, files: Files, view: str, file: str | None) -> Film | None:
        """A folder named as the view, or else a `file` of that stem."""
        names = sorted((name for name in files.names(view) if is_picture(Path(name))), key=natural)
        if names:
            return Pictures([files.root / view / name for name in names], self.background)
        if file and is_video(Path(file)):
            return Footage(files.root / file)
        return Pictures([files.root / file], self.background) if file and is_picture(Path(file)) else None
