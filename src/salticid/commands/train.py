"""`salticid train`: start a run, go on with one, or only show what it would be."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from salticid import presets
from salticid.commands.parser import Parser
from salticid.config import KEYS
from salticid.config.classes import allowed_packages
from salticid.config.overrides import Override
from salticid.errors import UserError

if TYPE_CHECKING:
    from salticid.config.difference import Plain
    from salticid.config.run import RunConfig

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
        const=Path(),
        metavar="RUN_DIR",
        help="go on with a run from its newest valid checkpoint (default: the run written last)",
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
    from salticid.config.run import build_config
    from salticid.config.writer import to_yaml

    directory = _run_to_resume(options) if options.resume is not None else None
    config = _resumed(directory, options, overrides, allowed) if directory else _fresh(options, overrides, allowed)
    if options.print_config:
        print(to_yaml(config), end="")
        return 0
    built = build_config(config, allowed)
    if options.dry_run:
        return _dry_run(built)
    resume = directory is not None
    return _train(built, to_yaml(config), directory or _new_directory(options, config), resume)


def _fresh(options: argparse.Namespace, overrides: list[Override], allowed: tuple[str, ...]) -> "Plain":
    from salticid.config.run import load_config

    return load_config(presets.find(options.source), overrides, allowed)


def _run_to_resume(options: argparse.Namespace) -> Path:
    from salticid.engine.run import RUNS, newest_run, open_run

    if options.resume != Path():
        return open_run(options.resume)
    if options.run_dir:
        return open_run(options.run_dir)
    return newest_run(RUNS)


def _resumed(
    directory: Path, options: argparse.Namespace, overrides: list[Override], allowed: tuple[str, ...]
) -> "Plain":
    """The configuration with which the run in `directory` goes on: its own, but for harmless changes."""
    from salticid.config.difference import check_resumable
    from salticid.config.run import load_config
    from salticid.engine.run import CONFIG

    saved = load_config(directory / CONFIG, [], allowed)
    source = presets.find(options.source) if options.source else directory / CONFIG
    wanted = load_config(source, overrides, allowed)
    for change in check_resumable(saved, wanted):
        print(f"{directory}: goes on with {change}")
    return wanted


def _new_directory(options: argparse.Namespace, config: "Plain") -> Path:
    from salticid.engine.run import RUNS, numbered, recipe_folder

    if options.run_dir:
        return options.run_dir
    folder = RUNS / recipe_folder(config["recipe"]["class_path"])
    return folder / options.name if options.name else numbered(folder, Path(options.source).stem)


def _train(config: "RunConfig", text: str, directory: Path, resume: bool) -> int:
    """Train to the end or to a signal; the exit status says which."""
    from salticid.engine.log import RunLog
    from salticid.engine.parallel import pick_device
    from salticid.engine.report import write_report
    from salticid.engine.run import agree, create_run, first_rank, update_config
    from salticid.engine.trainer import Trainer

    directory = agree(directory)
    trainer = config.trainer
    log = RunLog(directory, config.log, steps=trainer.steps, batch=trainer.batch, quiet=not first_rank())
    run = Trainer(config.recipe, config.data, directory, config.settings(), log, text)
    device = str(pick_device(trainer.device))
    if first_rank():
        update_config(directory, text) if resume else create_run(directory, text, device)
    status = run.fit(resume=resume)
    if first_rank():
        print(f"report: {write_report(directory)}")
        if status == "interrupted":
            print(f"interrupted; go on with: salticid train --resume {directory}")
    return 0 if status == "finished" else INTERRUPTED


def _dry_run(config: "RunConfig") -> int:
    raise NotImplementedError


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
