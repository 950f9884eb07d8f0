"""The pictures of a report: one picture at a time, with a slider through the run."""

from salticid.engine.pictures import Embedded, Picture, embed, spread_out
from salticid.engine.report.files import RunFiles
from salticid.engine.report.html import section, text

MOST = 40
"""Pictures in a report, all names together."""
BUDGET = 5_000_000
"""Bytes for the pictures of training, before base64 makes them a third larger."""
STILL = 200_000
"""Bytes for the picture of one evaluation."""


def pictures(files: RunFiles) -> str:
    """For each name of pictures: those of some steps, evenly chosen, first and last among them."""
    films = files.pictures
    if not films:
        return ""
    chosen = {name: spread_out(found, max(2, MOST // len(films))) for name, found in list(films.items())[:MOST]}
    each = BUDGET // sum(len(found) for found in chosen.values())
    legends = {line.get("file"): line.get("legend") for line in files.journal.of("picture")}
    parts = []
    for name, found in chosen.items():
        frames = [frame for picture in found if (frame := embed(picture, each)) is not None]
        if lost := len(found) - len(frames):
            files.problems.append(f"samples: {lost} picture{'s' * (lost > 1)} of {name} not readable")
        if frames:
            parts.append(film(name, frames, str(legends.get(_key(found[-1])) or ""), len(films[name])))
    return section("pictures", "Pictures", *parts)


def still(picture: Picture, files: RunFiles, note: str | None = None) -> str:
    """One picture, of an evaluation.

    Args:
        note: what is said below it; None: the legend of the recipe's pictures.
    """
    frame = embed(picture, STILL)
    if frame is None:
        files.problems.append(f"evaluation: {picture.path.name} not readable")
        return ""
    if note is None:
        legends = [line.get("legend") for line in files.journal.of("picture")]
        note = (legends or [""])[-1] or ""
    size = f'width="{frame.width}" height="{frame.height}"'
    image = f'<img src="{frame.address}" {size} alt="pictures of the evaluation {text(picture.name)}">'
    return f'<div class="still">{image}</div><p class="note">{text(note)}</p>'


def film(name: str, frames: list[Embedded], legend: str, total: int) -> str:
    """All frames of one name; the page's script shows one at a time."""
    steps = [frame.picture.step for frame in frames]
    images = "".join(
        f'<img src="{frame.address}" width="{frame.width}" height="{frame.height}" data-step="{step}" '
        f'alt="{text(name)} at step {step}" title="step {step}">'
        for frame, step in zip(frames, steps, strict=True)
    )
    slider = (
        f'<div class="slider"><input type="range" min="0" max="{len(frames) - 1}" value="{len(frames) - 1}" '
        f'aria-label="step"><output>step {steps[-1]}</output></div>'
        if len(frames) > 1
        else f'<p class="slider">step {steps[0]}</p>'
    )
    count = f"{len(frames)} of {total} pictures" if len(frames) < total else ""
    return (
        f'<figure class="card film"><figcaption><b>{text(name)}</b><span>{count}</span></figcaption>'
        f'<div class="frames">{images}</div>{slider}<p class="note">{text(legend)}</p></figure>'
    )


def _key(picture: Picture) -> str:
    return f"samples/{picture.path.name}"
