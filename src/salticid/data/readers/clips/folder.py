"""A folder of video clips as training data, at one size or at several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from salticid.data.readers.clips.buckets import bucketed, joined, mixed
from salticid.data.readers.clips.clip import Clip, PictureClip, VideoClip
from salticid.data.readers.clips.found import (
    check_rates,
    check_size,
    clips_under,
    divided_by_scene,
    report_skipped,
    surveyed,
)
from salticid.data.readers.clips.notes import Captions, Labels, captions_of, labels_of
from salticid.data.readers.clips.samples import ClipSamples
from salticid.data.readers.clips.window import Windows
from salticid.data.source import Data, Source
from salticid.data.video import Motion, check_motion
from salticid.errors import ConfigError, UnreadableSample, require


@dataclass(kw_only=True, eq=False)
class ClipFolder(Data):
    """All videos (MP4, MKV, MOV, WebM, GIF) and folders of numbered frames below a folder, each a clip. What samples
    hold says `salticid.data.video`.

    Args:
        root: the folder, searched recursively. Pictures beside videos are no frames. Links to folders are not followed.
        frames: T, of a sample.
        size: height and width; frames are resized to cover them and cut evenly to them.
        sizes: several instead: a clip gets the one that is nearest in aspect ratio, by the logarithm. Training then
            needs a `trainer.micro_batch` of `group`, validation `validation.batch: 1` and `validation.previews: 1`.
        group: how many training samples in a row are of one size.
        fps: lowest and highest frame rate; every training window draws its own, of which frames are those nearest in
            time. Not above the clip's own rate. Validation takes the middle. Null: every frame, at the clip's rate.
        folder_fps: rate of folders of frames, where numbers one apart are one frame apart.
        windows: how many windows a clip has, fixed by its id; the first is its middle. Null: endlessly many, drawn
            anew in every epoch, which cannot be encoded in advance.
        flip: probability that a training sample is mirrored.
        motion: how `motion_bucket` is told: `difference`, `flow` or a number; see `salticid.data.video.motion_bucket`.
        captions: `sidecar` (a text file of the clip's name beside it), a JSON object or CSV file of captions by the
            clip's path in root, or null: samples have none.
        labels: `folder` (the clip's folder is its class), a JSON object or CSV file as above, or null. Classes that are
            not all numbers are numbered in the order of their names: `classes`.
        scene: what makes a scene: `stem`, `folder`, or a regular expression with a group named `scene`, searched in the
            clip's path.
        val_share: share of the scenes kept out for validation, chosen by a hash of their names.
        val_scenes: names of the scenes kept out instead.
        exclude: glob patterns of files to leave out without a word.
        keep: how many clips a process holds in memory, all frames at their size, the first that it reads.

    All files are read through once when a run begins, for their time stamps; of each one frame is decoded. Clips that
    cannot be decoded, are too short or slow, or lack a caption or label that is asked for are left out, named in the
    log and kept in `skipped`: id → reason. Later damage is for the loader, which takes another clip.

    Raises:
        ConfigError: a value out of range, no such folder or table, no usable clip, or scenes that cannot be told apart.
    """

    root: Path = field(kw_only=False)
    frames: int = 14
    size: tuple[int, int] | None = None
    sizes: tuple[tuple[int, int], ...] = ()
    group: int = 1
    fps: tuple[float, float] | None = None
    folder_fps: float = 25.0
    windows: int | None = None
    flip: float = 0.5
    motion: Motion = "difference"
    captions: Captions = None
    labels: Labels = None
    scene: str = "stem"
    val_share: float = 0.1
    val_scenes: Sequence[str] = ()
    exclude: Sequence[str] = ()
    keep: int = 0
    skipped: dict[str, str] = field(init=False, repr=False, default_factory=dict)
    classes: list[str] = field(init=False, repr=False)
    train_clips: list[Clip] = field(init=False, repr=False)
    val_clips: list[Clip] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.root = Path(self.root)
        self._check_values()
        self.window = Windows(self.frames, self.fps)
        self._files = clips_under(self.root, self.exclude)
        self.caption_of = captions_of(self.root, list(self._files), self.captions)
        self.label_of, self.classes = labels_of(self.root, list(self._files), self.labels)
        clips = {clip.id: clip for clip in surveyed(self._files, self._survey, self.skipped)}
        report_skipped(self.root, self.skipped, len(clips), "clip")
        train, val = divided_by_scene(list(clips), self.scene, self.val_scenes, self.val_share)
        self.train_clips, self.val_clips = [clips[id] for id in train], [clips[id] for id in val]

    def train(self) -> Source:
        return mixed(self._sources(self.train_clips, training=True), self.group)

    def val(self) -> Source:
        return joined(self._sources(self.val_clips, training=False))

    def _sources(self, clips: Sequence[Clip], training: bool) -> dict[tuple[int, int], Source]:
        """By size; sizes without clips have none, unless it is the only one."""
        groups = bucketed(clips, self.sizes) if self.sizes else {self.size or (0, 0): clips}
        return {size: ClipSamples(self, mine, size, training) for size, mine in groups.items()}

    def _survey(self, id: str) -> Clip:
        """Raises UnreadableSample where it cannot be used."""
        for what, wanted, known in (("caption", self.captions, self.caption_of), ("label", self.labels, self.label_of)):
            if wanted is not None and id not in known:
                raise UnreadableSample(f"has no {what} (data.{what}s)")
        path, files = self.root / id, self._files[id]
        clip = PictureClip.surveyed(id, path, files, self.folder_fps) if files else VideoClip.surveyed(id, path)
        if lack := self.window.lack(clip):
            raise UnreadableSample(lack)
        return clip

    def _check_values(self) -> None:
        if (self.size is None) == (not self.sizes):
            raise ConfigError("data.size: expected height and width here, or several of them in data.sizes, not both")
        for key, sizes in (("size", [self.size] if self.size else []), ("sizes", self.sizes)):
            for size in sizes:
                check_size(f"data.{key}", size)
        if self.fps is not None:
            check_rates("data.fps", self.fps)
        check_rates("data.folder_fps", (self.folder_fps, self.folder_fps))
        for key, expected, met in (
            ("frames", "at least 2", self.frames >= 2),
            ("sizes", "sizes that differ", len(set(self.sizes)) == len(self.sizes)),
            ("group", "at least 1", self.group >= 1),
            ("windows", "at least 1, or null", self.windows is None or self.windows >= 1),
            ("flip", "0 to 1", 0 <= self.flip <= 1),
            ("keep", "0 or more", self.keep >= 0),
        ):
            require(f"data.{key}", getattr(self, key), met, expected)
        check_motion(self.motion)
