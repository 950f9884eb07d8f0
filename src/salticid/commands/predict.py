"""`salticid predict`: run a trained model on files."""

import argparse
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from salticid.commands.checkpoints import add_checkpoint, find_checkpoint, load_trained, prepare
from salticid.commands.parser import Parser
from salticid.config.classes import allowed_packages, find_class
from salticid.config.leaves import describe, typed
from salticid.config.overrides import split_overrides
from salticid.config.schema import MISSING, Field, fields_of
from salticid.errors import UserError

if TYPE_CHECKING:
    from salticid.engine.recipe import Recipe

EPILOG = "Recipes have options of their own: salticid predict RUN --help lists them."
OWN = ("seed",)
"""Options of a recipe that every recipe shares."""


def parser() -> Parser:
    parser = Parser("predict", "Run a trained model on files.", EPILOG)
    add_checkpoint(parser)
    parser.add_argument("--input", type=Path, nargs="+", required=True, metavar="FILE", help="what to run it on")
    parser.add_argument("--output", type=Path, required=True, metavar="PATH", help="where the result goes")
    parser.add_argument("--weights", choices=("ema", "raw"), default="ema", help="averaged, as trained (ema)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise that the model starts from (0)")
    return parser


def run(arguments: list[str]) -> None:
    base = parser()
    arguments, overrides = split_overrides(arguments, ())
    if not arguments or arguments[0].startswith("-"):
        base.read(arguments)  # prints the help that was asked for
        raise UserError("salticid predict: expected a run or a checkpoint as the first argument")
    early = Parser("predict", add_help=False)  # the recipe must be known before its options can be
    add_checkpoint(early)
    target, _ = early.parse_known_args(arguments)
    allowed = allowed_packages(target.allow)
    from salticid.engine.recipe import Recipe

    checkpoint = find_checkpoint(target.run, target.best)
    config = load_trained(checkpoint, overrides, allowed)
    recipe = find_class(config["recipe"]["class_path"], Recipe, allowed, "recipe.class_path")
    fields = options_of(recipe)
    _add_options(base, recipe, fields)
    options = base.read(arguments)
    keywords = {
        name: typed(text, field.hint, f"--{_flag(name)}")
        for name, field in fields.items()
        if (text := getattr(options, name)) is not None
    }
    _check_inputs(options.input)
    for path in _predict(checkpoint, config, allowed, options, keywords):
        print(path)


def options_of(recipe: type["Recipe"]) -> dict[str, Field]:
    """The keyword options of a recipe's `predict`, but for those that every recipe shares."""
    parameters = inspect.signature(recipe.predict).parameters
    return {
        name: field
        for name, field in fields_of(recipe.predict).items()
        if parameters[name].kind is inspect.Parameter.KEYWORD_ONLY and name not in OWN
    }


def _add_options(parser: Parser, recipe: type["Recipe"], fields: dict[str, Field]) -> None:
    group = parser.add_argument_group(f"options of {recipe.__name__}")
    for name, field in fields.items():
        help = _help(recipe, name, field)
        if field.hint is bool:
            group.add_argument(f"--{_flag(name)}", dest=name, action=argparse.BooleanOptionalAction, help=help)
        else:
            required = field.default is MISSING
            group.add_argument(f"--{_flag(name)}", dest=name, required=required, metavar="VALUE", help=help)


def _help(recipe: type["Recipe"], name: str, field: Field) -> str:
    """A sentence from the docstring of `predict`, the type and the default."""
    said = re.search(rf"\b{name}: ([^.]+)", inspect.getdoc(recipe.predict) or "")
    words = " ".join(said[1].split()) if said else ""
    default = "" if field.default is MISSING else f", default {field.default}"
    return f"{words} ({describe(field.hint)}{default})".strip().replace("%", "%%")


def _flag(name: str) -> str:
    return name.replace("_", "-")


def _check_inputs(paths: list[Path]) -> None:
    for path in paths:
        if not path.exists():
            raise UserError(f"--input {path}: there is no such file")


def _predict(
    checkpoint: Path,
    config: dict[str, Any],
    allowed: tuple[str, ...],
    options: argparse.Namespace,
    keywords: dict[str, Any],
) -> list[Path]:
    from salticid.config.run import build_model
    from salticid.engine.evaluation import judging, load_for_inference
    from salticid.engine.precision import for_inference

    recipe, trainer = build_model(config, allowed)
    device = prepare(recipe, trainer)
    load_for_inference(checkpoint, recipe, options.weights)
    if "seed" in inspect.signature(recipe.predict).parameters:
        keywords = keywords | {"seed": options.seed}
    try:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        with judging(recipe, device, for_inference(trainer.precision, device), options.seed):
            return recipe.predict(options.input, options.output, **keywords)
    except OSError as error:
        if error.filename is None:
            raise
        raise UserError(f"{error.filename}: {error.strerror}") from error
