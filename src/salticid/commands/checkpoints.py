"""Find the checkpoint that a command is to use, and the configuration that it was made with."""

from pathlib import Path
from typing import TYPE_CHECKING

from salticid.commands.parser import Parser
from salticid.config.difference import Plain
from salticid.config.overrides import Override
from salticid.errors import UserError

if TYPE_CHECKING:
    import torch

    from salticid.engine.evaluation import Weights
    from salticid.engine.recipe import Recipe
    from salticid.engine.settings import TrainerConfig


WEIGHTS_HELP = "averaged, as trained (ema; raw where the run has no average)"


def add_checkpoint(parser: Parser) -> None:
    """The arguments by which a command is told which weights to use."""
    parser.add_argument("run", type=Path, metavar="RUN|CHECKPOINT", help="a run directory, or one of its checkpoints")
    parser.add_argument("--best", action="store_true", help="the best checkpoint of the run, not its newest valid one")
    parser.add_allow()


def find_checkpoint(target: Path, best: bool) -> Path:
    """The directory of a checkpoint: `target` itself, or the newest valid (or the best) one of the run there.

    Raises:
        UserError: there is none; the message says why newer ones were passed over.
    """
    from salticid.engine import checkpoint
    from salticid.engine.run import open_run

    if not target.is_dir():
        raise UserError(f"{target}: there is no such run or checkpoint")
    if (target / "manifest.json").is_file():
        return target
    folder = open_run(target) / "checkpoints"
    if best:
        record = checkpoint.read_best(folder)
        if record is None:
            raise UserError(f"{target}: no checkpoint is marked as the best; set checkpoint.best_metric when training")
        return checkpoint.place_of(folder, record["step"])
    found, rejected = checkpoint.newest(folder)
    if found is None:
        raise UserError(f"{target}: there is no valid checkpoint" + (f" ({rejected[0]})" if rejected else ""))
    for reason in rejected:
        print(f"passed over: {reason}")
    return found


def usual_weights(checkpoint: Path) -> "Weights":
    """The averaged ones, but for a run without an average. (One that has not begun is not passed over in silence.)"""
    from salticid.engine.manifest import read_manifest

    return "ema" if "ema.safetensors" in read_manifest(checkpoint)["files"] else "raw"


def load_trained(checkpoint: Path, overrides: list[Override], allowed: tuple[str, ...]) -> Plain:
    """The configuration that a checkpoint was made with, with overrides."""
    from salticid.config.run import load_config
    from salticid.engine.run import CONFIG

    if not (checkpoint / CONFIG).is_file():
        raise UserError(f"{checkpoint}: {CONFIG} is missing, so nobody knows which model it is")
    return load_config(checkpoint / CONFIG, overrides, allowed)


def prepare(recipe: "Recipe", trainer: "TrainerConfig") -> "torch.device":
    """Bring the recipe to the device of its run, with the arithmetic of its training."""
    from salticid.engine.build import set_arithmetic
    from salticid.engine.parallel import pick_device

    device = pick_device(trainer.device)
    set_arithmetic(trainer, device)
    recipe.to(device)
    return device


def run_of(checkpoint: Path) -> Path:
    """The run that a checkpoint belongs to; the folder it lies in, where it was taken out of its run."""
    folder = checkpoint.parent if checkpoint.parent.name else checkpoint.absolute().parent
    return folder.parent if folder.name == "checkpoints" else folder
