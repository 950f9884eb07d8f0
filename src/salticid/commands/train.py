"""`salticid train`: start a run, go on with one, or only show what it would be."""

import argparse
import glob
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from salticid import presets
from salticid.commands.costs import show_costs
from salticid.commands.parser import Parser
from salticid.config import KEYS
from salticid.config.classes import allowed_packages
from salticid.config.overrides import Override
from salticid.errors import UserError

if TYPE_CHECKING:
    from salticid.config.difference import Plain
    from salticid.config.run import RunConfig
    from salticid.engine.trainer import Trainer

INTERRUPTED = 130
"""Exit status of a run that a signal has stopped: it is saved, but `train && evaluate` must not go on."""


def parser() -> Parser:
    parser = Parser("train", "Train a recipe, or go on with a run (--resume).", _epilog())
    parser.add_argument("source", nargs="?", metavar="PRESET|FILE.yaml", help="what to train; see below")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--run-dir", type=Path, metavar="DIR", help="where the run lives")
    place.add_argument("--name", help="the run lives in runs/<recipe>/NAME (default: PRESET-1, -2, …)")
    parser.add_argument(
        "--resume",
        nargs="?",
        type=Path,
        const=True,
        metavar="RUN_DIR",
        help="go on with a run from its newest valid checkpoint (default: the run written last; of that name, or of "
        "that preset, where one is given)",
    )
    parser.add_argument("--dry-run", action="store_true", help="one step of everything: its memory and its time")
    parser.add_argument("--print-config", action="store_true", help="print the whole configuration and stop")
    parser.add_allow()
    return parser


def run(arguments: list[str]) -> int:
    options, overrides = parser().read_with_overrides(arguments)
    allowed = allowed_packages(options.allow)
    if options.resume is None and options.source is None:
        known = ", ".join(presets.names())
        raise UserError(f"salticid train: expected a preset, a .yaml file or --resume; presets: {known}")
    if "/" in (options.name or "") or (options.name or "x").startswith("."):
        raise UserError(f"--name {options.name}: expected a plain name; use --run-dir for a folder elsewhere")
    source = presets.find(options.source) if options.source else None
    from salticid.config.run import build_config, load_config
    from salticid.config.writer import to_yaml

    directory = _run_to_resume(options) if options.resume is not None else None
    if directory:
        config = _resumed(directory, source, overrides, allowed)
    else:
        config = load_config(presets.find(options.source), overrides, allowed)
    if options.print_config:
        print(to_yaml(config), end="")
        return 0
    _settle_precision(config)
    place = directory or _new_directory(options, config)
    built = build_config(config, allowed, with_data=config["trainer"]["steps"] > 0)
    if options.dry_run:
        show_costs(_trainer(built, config, place).dry_run())
        return 0
    return _train(built, config, place, resume=directory is not None)


def _run_to_resume(options: argparse.Namespace) -> Path:
    from salticid.engine.run import newest_run, open_run

    given = options.run_dir if options.resume is True else options.resume
    if given:
        return open_run(given)
    if options.name:
        return newest_run(glob.escape(options.name))
    return newest_run(glob.escape(Path(options.source).stem) + "-[0-9]*" if options.source else "*")


def _resumed(directory: Path, source: Path | None, overrides: list[Override], allowed: tuple[str, ...]) -> "Plain":
    """The configuration with which the run in `directory` goes on: its own, but for harmless changes."""
    from salticid.config.difference import check_resumable
    from salticid.config.run import load_config
    from salticid.engine.run import CONFIG

    saved = load_config(directory / CONFIG, [], allowed)
    wanted = load_config(source or directory / CONFIG, overrides, allowed)
    if wanted["trainer"]["precision"] == "auto":
        wanted["trainer"]["precision"] = saved["trainer"]["precision"]  # what `auto` was where the run began
    for change in check_resumable(saved, wanted):
        print(f"{directory}: goes on with {change}")
    return wanted


def _settle_precision(config: "Plain") -> None:
    """Put down what `auto` is on this machine: a run keeps it wherever it goes on."""
    from salticid.engine.parallel import pick_device
    from salticid.engine.precision import settle

    trainer = config["trainer"]
    if trainer["precision"] == "auto":
        trainer["precision"] = settle("auto", pick_device(trainer["device"]))


def _new_directory(options: argparse.Namespace, config: "Plain") -> Path:
    from salticid.engine.run import RUNS, numbered, recipe_folder

    if options.run_dir:
        return options.run_dir
    folder = RUNS / recipe_folder(config["recipe"]["class_path"])
    return folder / options.name if options.name else numbered(folder, Path(options.source).stem)


def _trainer(built: "RunConfig", config: "Plain", directory: Path) -> "Trainer":
    from salticid.config.difference import samples_of
    from salticid.config.writer import to_yaml
    from salticid.engine.latents import Latents
    from salticid.engine.trainer import Trainer

    latents = Latents(built.latents, samples_of(config)) if built.latents else None
    return Trainer(built.recipe, built.data, directory, built.settings(), to_yaml(config), latents)


def _train(built: "RunConfig", config: "Plain", directory: Path, resume: bool) -> int:
    """Train to the end or to a signal; the exit status says which."""
    from salticid.engine.log import RunLog
    from salticid.engine.parallel import pick_device
    from salticid.engine.report import write_report
    from salticid.engine.run import agree, first_rank, locked

    directory = agree(directory)
    trainer = built.trainer
    run = _trainer(built, config, directory)
    run.start(resume)
    device = str(pick_device(trainer.device))
    with locked(directory) if first_rank() else nullcontext():
        if first_rank():
            _prepare(directory, run.config, device, resume)
        log = RunLog(directory, built.log, steps=trainer.steps, batch=trainer.batch, quiet=not first_rank())
        status = run.fit(log, resume=resume)
        if first_rank():
            print(f"report: {write_report(directory)}")
            if status == "interrupted":
                print(f"interrupted; go on with: salticid train --resume {directory}")
    return 0 if status == "finished" else INTERRUPTED


def _prepare(directory: Path, text: str, device: str, resume: bool) -> None:
    """Write down what the run is, and what this process runs with."""
    from salticid.engine.run import create_run, note_environment, update_config

    if resume:
        update_config(directory, text)
        note_environment(directory, device)
    else:
        create_run(directory, text, device)


def _epilog() -> str:
    width = max(map(len, [*presets.names(), *KEYS])) + 2
    listed = [f"  {name:{width}}{presets.summary(name)}" for name in presets.names()]
    keys = [f"  {name:{width}}{text}" for name, text in KEYS.items()]
    return "\n".join(
        [
            "presets:",
            *listed,
            "",
            "Any key can be set by its dotted name, as in --trainer.steps 500 --optimizer.lr 1e-4 --ema null",
            "(see them all with --print-config):",
            *keys,
        ]
    )
