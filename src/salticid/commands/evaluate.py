"""`salticid evaluate`: judge a checkpoint on samples that training never sees."""

import csv
import hashlib
import json
import math
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from salticid.commands.checkpoints import (
    WEIGHTS_HELP,
    add_checkpoint,
    find_checkpoint,
    load_trained,
    prepare,
    run_of,
    usual_weights,
)
from salticid.commands.parser import Parser, positive
from salticid.config.classes import allowed_packages
from salticid.config.difference import Plain
from salticid.config.overrides import Override
from salticid.errors import UserError
from salticid.presets import protocol, protocols

if TYPE_CHECKING:
    from rich.table import Table

    from salticid.config.run import RunConfig
    from salticid.engine.evaluation import Evaluation, Spheres
    from salticid.engine.parallel import Ranks

EPILOG = """
Keys of the run's configuration can be set, for instance to judge it on other data:
  salticid evaluate runs/panorama/panorama-tiny-1 --data.root more-panoramas
  salticid evaluate runs/marigold/depth-1 --protocol nyu --data.root /data/nyu

It writes, for each kind of weights, into evaluation/ of the run (or --output):
  step-00001000-ema.json   the metrics with their 95 % intervals (bootstrap), and how they came about
  step-00001000-ema.csv    the metrics of every sample
  step-00001000-ema.png    a picture of some samples
  step-00001000-ema-extremes.png   one of the best, then the worst samples by checkpoint.best_metric
  step-00001000-ema-360/   panoramas of these samples, if the recipe makes any; the report lets you look around in them
With other data or another number of samples, a code that stands for them follows in the names."""


def parser() -> Parser:
    parser = Parser("evaluate", "Judge a run or a checkpoint on samples that training never sees.", EPILOG)
    add_checkpoint(parser)
    parser.add_argument("--weights", choices=("ema", "raw", "both"), help=WEIGHTS_HELP)
    parser.add_argument(
        "--protocol", choices=protocols(), help="data set and settings by which published models are compared"
    )
    parser.add_argument("--samples", type=positive, metavar="N", help="judge N samples spread over all (default: all)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where the results go")
    return parser


def run(arguments: list[str]) -> None:
    options, overrides = parser().read_with_overrides(arguments)
    known = protocol(options.protocol) if options.protocol else None
    if known:
        overrides = known.settings + overrides
    allowed = allowed_packages(options.allow)
    from salticid.config.run import build_config
    from salticid.engine.parallel import joined

    checkpoint = find_checkpoint(options.run, options.best)
    plain = load_trained(checkpoint, overrides, allowed)
    config = build_config(plain, allowed)
    device = prepare(config.recipe, config.trainer)
    config.recipe.check(config.data)
    kinds = ("ema", "raw") if options.weights == "both" else (options.weights or usual_weights(checkpoint),)
    folder = options.output or run_of(checkpoint) / "evaluation"
    results: dict[str, Evaluation] = {}
    with joined(device, config.trainer.timeout) as ranks:
        for weights in kinds:
            stem = folder / (f"{checkpoint.name}-{weights}" + _code(options, overrides))
            results[weights] = _evaluate(checkpoint, weights, config, ranks, options, overrides, plain, stem)
    first = results[kinds[0]]
    _show(
        {weights: found.metrics for weights, found in results.items()}, f"{checkpoint.name}, {len(first.ids)} samples"
    )
    if first.skipped:
        print(f"{len(first.skipped)} samples could not be read; the first: {first.skipped[0]}")
    if known and options.samples is None and len(first.ids) != known.samples:
        judged = f"{len(first.ids)} samples are judged"
        print(f"published numbers on {options.protocol} are of {known.samples} samples; here {judged} (data.val_list)")
    print(f"written to {folder}")


def _evaluate(
    checkpoint: Path,
    weights: str,
    config: "RunConfig",
    ranks: "Ranks",
    options: Namespace,
    overrides: list[Override],
    plain: Plain,
    stem: Path,
) -> "Evaluation":
    """Judge one kind of weights and write what was found."""
    from salticid.config.writer import to_yaml
    from salticid.engine.evaluation import evaluate, load_for_inference, preview, spheres
    from salticid.engine.extremes import extremes_picture, find_extremes
    from salticid.engine.precision import for_inference
    from salticid.evaluate.intervals import intervals
    from salticid.evaluate.pictures import save_png

    manifest = load_for_inference(checkpoint, config.recipe, weights)  # pyrefly: ignore[bad-argument-type]
    trainer, validation, source = config.trainer, config.validation, config.data.val()
    precision = for_inference(trainer.precision, ranks.device)
    common: dict[str, Any] = {"device": ranks.device, "seed": trainer.seed, "precision": precision}
    progress: Any = manifest["progress"]
    # `auto` and null: what the run took. The whole batch of several ranks need not fit into the memory of one.
    micro_batch = trainer.micro_batch if isinstance(trainer.micro_batch, int) else progress["micro_batch"]
    batch, workers = validation.batch or micro_batch, trainer.workers
    found = evaluate(config.recipe, source, batch=batch, workers=workers, limit=options.samples, ranks=ranks, **common)
    if ranks.first:
        summary = {
            "checkpoint": str(checkpoint),
            "step": manifest["step"],
            "weights": weights,
            "ema_updates": progress["ema_updates"],
            "precision": precision,
            "samples": len(found.ids),
            "skipped": found.skipped,
            "overrides": dict(overrides),
            "settings": to_yaml({name: plain[name] for name in ("recipe", "data")}),
            "metrics": found.metrics,
            "intervals": intervals(found.ids, found.records),
        }
        extremes = find_extremes(found, config.checkpoint, validation.previews) if validation.previews else None
        _write(stem, summary | ({"extremes": asdict(extremes)} if extremes else {}), found)
        if validation.previews:
            count = min(validation.previews, len(source))
            save_png(preview(config.recipe, source, count, **common), stem.with_name(stem.name + ".png"))
            _save_spheres(spheres(config.recipe, source, count, **common), stem)
        if extremes:
            picture = extremes_picture(config.recipe, source, extremes, **common)
            save_png(picture, stem.with_name(stem.name + "-extremes.png"))
    return found


def _write(stem: Path, summary: dict[str, Any], found: "Evaluation") -> None:
    """`stem`.json and `stem`.csv."""
    finite = {name: value if math.isfinite(value) else None for name, value in found.metrics.items()}
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(summary | {"metrics": finite}, indent=2, ensure_ascii=False, allow_nan=False)
        stem.with_name(stem.name + ".json").write_text(text + "\n", encoding="utf-8")
        with stem.with_name(stem.name + ".csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["id", *found.records])
            columns = [values.tolist() for values in found.records.values()]
            table.writerows(zip(found.ids, *columns, strict=True))
    except OSError as error:
        raise UserError(f"{stem.parent}: cannot be written: {error.strerror}") from error


def _save_spheres(found: "Spheres", stem: Path) -> None:
    """The pictures to look around in, in place of those of an earlier evaluation."""
    from salticid.engine.report.spheres import INDEX, clear, folder_of, index_of, path_of
    from salticid.evaluate.gpano import save_panorama

    folder = folder_of(stem)
    paths = {name: [path_of(folder, i + 1, name) for i in range(len(p))] for name, p in found.pictures.items()}
    try:
        clear(folder)
        for name, pictures in found.pictures.items():
            for picture, path in zip(pictures, paths[name], strict=True):
                save_panorama(picture, path)
        if paths:
            (folder / INDEX).write_text(index_of(found.ids, list(paths)), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from error


def _show(metrics: dict[str, dict[str, float]], title: str) -> None:
    """For each kind of weights a table: a row a variant, a column a metric; then the metrics without variants."""
    from rich.console import Console

    from salticid.engine.figures import number

    console = Console(width=max(Console().width, 120))  # a narrower table would lose its columns' names
    console.print(title, highlight=False)
    for weights, values in metrics.items():
        table = _table(weights, {name: value for name, value in values.items() if "/" in name})
        if table.row_count:
            console.print(table, crop=False)
        for name in (name for name in values if "/" not in name):
            console.print(f"{weights}  {name} {number(values[name])}", highlight=False)


def _table(title: str, values: dict[str, float]) -> "Table":
    from rich.table import Table

    from salticid.engine.figures import number
    from salticid.engine.report.files import split_name

    names = [split_name(name) for name in values]
    columns = list(dict.fromkeys(metric for metric, _ in names))
    table = Table(title, *columns, box=None, padding=(0, 2, 0, 0))
    for column in table.columns[1:]:
        column.justify = "right"
    for variant in dict.fromkeys(variant for _, variant in names):
        cells = {metric: values[f"{metric}/{variant}"] for metric, v in names if v == variant}
        table.add_row(variant, *(number(cells[metric]) if metric in cells else "" for metric in columns))
    return table


def _code(options: Namespace, overrides: list[Override]) -> str:
    """What tells this evaluation from the plain one of the checkpoint; nothing, where it is the plain one."""
    if not overrides and options.samples is None:
        return ""
    text = json.dumps([sorted(overrides), options.samples])
    named = f"-{options.protocol}" if options.protocol else ""
    return f"{named}-" + hashlib.blake2b(text.encode(), digest_size=3).hexdigest()
