"""What a run's directory holds, read as far as it can be read."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from salticid.engine.journal import Journal, is_number, read_log
from salticid.engine.pictures import Picture, find_pictures
from salticid.engine.report.spheres import Sphere, find_spheres

Metrics = dict[str, float]

FACTS = ("step", "weights", "ema_updates", "samples", "overrides")
"""What an evaluation tells about itself."""


@dataclass(frozen=True)
class Extremes:
    """`evaluation/*-extremes.png`: the best and the worst samples."""

    picture: Picture
    note: str
    """Which they are, in words."""


@dataclass(frozen=True)
class Evaluation:
    """One file `evaluation/*.json`. Baselines are among the metrics, as `metric/baseline`."""

    name: str
    facts: dict[str, Any]
    """step, weights, ema_updates, samples, overrides: as far as given."""
    metrics: Metrics
    baselines: frozenset[str]
    picture: Picture | None = None
    """`evaluation/*.png` of the same name."""
    spheres: list[Sphere] = field(default_factory=list)
    """Pictures to look around in."""
    extremes: Extremes | None = None


@dataclass
class RunFiles:
    """Everything that a report is made of."""

    run_dir: Path
    journal: Journal = field(default_factory=Journal)
    config: str = ""
    environment: dict[str, Any] = field(default_factory=dict)
    """That of the last process."""
    evaluations: list[Evaluation] = field(default_factory=list)
    pictures: dict[str, list[Picture]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    """What could not be read, in words."""

    @property
    def best_metric(self) -> tuple[str | None, str | None]:
        """The metric that picks the best checkpoint, and its mode ("max" or "min"), from the configuration."""
        try:
            settings = yaml.safe_load(self.config)["checkpoint"]
            return settings.get("best_metric"), settings.get("best_mode")
        except (yaml.YAMLError, TypeError, KeyError, AttributeError, RecursionError):
            return None, None


def read_run(run_dir: Path) -> RunFiles:
    """Read a run's directory; what is missing stays empty, what is broken is listed in `problems`."""
    files = RunFiles(run_dir, journal=read_log(run_dir), pictures=find_pictures(run_dir))
    if broken := files.journal.broken:
        files.problems.append(f"log.jsonl: {broken} broken line{'s' * (broken > 1)} left out")
    files.config = _text(run_dir / "config.yaml", files.problems)
    environment = _json(run_dir / "env.json", files.problems)
    sessions = environment if isinstance(environment, list) else [environment]
    files.environment = sessions[-1] if sessions and isinstance(sessions[-1], dict) else {}
    for path in sorted((run_dir / "evaluation").glob("*.json")):
        content = _json(path, files.problems)
        if isinstance(content, dict) and isinstance(content.get("metrics"), dict):
            files.evaluations.append(_evaluation(path, content, files.problems))
        elif content is not None:
            files.problems.append(f"{path.relative_to(run_dir)}: no metrics in it")
    return files


def numbers(values: Any) -> Metrics:
    """The entries of a line that are numbers, those written as "nan" or "inf" among them."""
    if not isinstance(values, dict):
        return {}
    named = {"nan", "inf", "-inf"}
    return {k: float(v) for k, v in values.items() if is_number(v) or (isinstance(v, str) and v in named)}


def higher_is_better(metric: str) -> bool | None:
    """By the name of a metric; None where that does not tell."""
    stem = metric.split("/")[0].lower()
    if any(word in stem for word in ("psnr", "ssim", "accuracy", "delta", "iou", "coverage", "inlier")):
        return True
    worse = ("loss", "error", "mae", "mse", "lpips", "fid", "fvd", "rel", "epe", "ate", "rpe", "log")
    return False if any(word in stem for word in worse) else None


def split_name(name: str) -> tuple[str, str]:
    """`ws_psnr/1-step` → metric and variant; the variant is empty where there is none."""
    metric, _, variant = name.partition("/")
    return metric, variant


def unchanging(validations: Sequence[Metrics]) -> frozenset[str]:
    """Variants whose metrics are the same in all of several validations: baselines, not the model."""
    if len(validations) < 2:
        return frozenset()
    first = validations[0]
    variants = {split_name(name)[1] for name in first} - {""}
    moving = {split_name(k)[1] for metrics in validations for k, v in metrics.items() if first.get(k) != v}
    return frozenset(variants - moving)


def _evaluation(path: Path, content: dict[str, Any], problems: list[str]) -> Evaluation:
    given = content.get("baselines")
    baselines = given if isinstance(given, dict) else {}
    metrics = numbers(content["metrics"])
    for baseline, values in baselines.items():
        metrics |= {f"{metric}/{baseline}": value for metric, value in numbers(values).items()}
    facts = {key: content[key] for key in FACTS if content.get(key) not in (None, {}, [])}
    picture = Picture(0, path.stem, path.with_suffix(".png"))
    still = picture if picture.path.is_file() else None
    spheres = find_spheres(path.with_suffix(""), problems)
    extremes = _extremes(path, content.get("extremes"))
    return Evaluation(path.stem, facts, metrics, frozenset(baselines), still, spheres, extremes)


def _extremes(path: Path, told: Any) -> Extremes | None:
    """The picture of the best and the worst samples, where the evaluation tells which they are."""
    picture = Picture(0, f"{path.stem}-extremes", path.with_name(f"{path.stem}-extremes.png"))
    if not isinstance(told, dict) or not picture.path.is_file():
        return None
    lists = {side: ids for side in ("best", "worst") if isinstance(ids := told.get(side), list)}
    named = "; ".join(f"{side}: {', '.join(map(str, ids))}" for side, ids in lists.items() if ids)
    return Extremes(picture, f"by {told.get('metric')}, {named}")


def _text(path: Path, problems: list[str]) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        problems.append(f"{path.name}: {error.strerror}")
        return ""


def _json(path: Path, problems: list[str]) -> Any:
    text = _text(path, problems)
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        problems.append(f"{path.parent.name}/{path.name}: not readable as JSON")
        return None
