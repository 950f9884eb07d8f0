"""The pictures of an evaluation to look around in. Without the page's script they are shown flat."""

from salticid.engine.pictures import Embedded, Picture, embed
from salticid.engine.report.files import Evaluation, RunFiles
from salticid.engine.report.html import text
from salticid.engine.report.spheres import Sphere

SAMPLES = 4
"""Samples of one evaluation."""
NAMES = 8
"""Pictures of one sample."""
BUDGET = 4_000_000
"""Bytes for the pictures of all viewers, before base64 makes them a third larger."""
SLACK = 0.125
"""Relative to twice its height, by how much a picture's width may miss it: small ones are rounded to whole pixels."""


def viewer(evaluation: Evaluation, files: RunFiles, budget: int) -> str:
    """The viewer of one evaluation, in at most about `budget` bytes; nothing where it has no such pictures."""
    chosen = shown(evaluation.spheres)
    frames = [(sphere, _embed(sphere, budget // len(chosen))) for sphere in chosen]
    if lost := sum(frame is None for _, frame in frames):
        plural = "s" * (lost > 1)
        files.problems.append(f"evaluation: {lost} 360° picture{plural} of {evaluation.name} not readable")
    pictures = "".join(_flat(sphere, frame) for sphere, frame in frames if frame is not None)
    if not pictures:
        return ""
    name = text(evaluation.name)
    return f'<div class="sphere" role="group" aria-label="360° pictures of the evaluation {name}">{pictures}</div>'


def shown(spheres: list[Sphere]) -> list[Sphere]:
    """The first pictures of the first samples."""
    samples = list(dict.fromkeys(sphere.sample for sphere in spheres))[:SAMPLES]
    return [s for number in samples for s in [s for s in spheres if s.sample == number][:NAMES]]


def _embed(sphere: Sphere, budget: int) -> Embedded | None:
    frame = embed(Picture(0, sphere.name, sphere.path), budget)
    return frame if frame is not None and abs(frame.width / frame.height / 2 - 1) <= SLACK else None


def _flat(sphere: Sphere, frame: Embedded) -> str:
    """One picture as it is in the file; the page's script reads its name and sample from it."""
    sample = f"sample {sphere.sample}" + (f": {sphere.id}" if sphere.id else "")
    return (
        f'<figure><img src="{frame.address}" width="{frame.width}" height="{frame.height}" '
        f'data-sample="{sphere.sample}" data-title="{text(sample)}" data-name="{text(sphere.name)}" '
        f'alt="{text(sphere.name)}, {text(sample)}, equirectangular">'
        f"<figcaption><b>{text(sphere.name)}</b><span>{text(sample)}</span></figcaption></figure>"
    )
