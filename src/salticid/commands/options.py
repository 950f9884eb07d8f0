"""Options of a command that come from the recipe: the keyword arguments of one of its methods become flags."""

import argparse
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from salticid.commands.checkpoints import add_checkpoint, find_checkpoint, load_trained
from salticid.commands.parser import Parser
from salticid.config.classes import allowed_packages, find_class
from salticid.config.difference import Plain
from salticid.config.leaves import describe, typed
from salticid.config.overrides import split_overrides
from salticid.config.schema import MISSING, Field, fields_of
from salticid.errors import UserError

if TYPE_CHECKING:
    from salticid.engine.recipe import Recipe

OWN = ("seed",)
"""Arguments that the command itself has a flag for."""


@dataclass
class Request:
    """A trained model, and what is wanted of it."""

    checkpoint: Path
    config: Plain
    """With overrides."""
    allowed: tuple[str, ...]
    options: argparse.Namespace
    keywords: dict[str, Any]
    """For the recipe's method, where they were given."""


def read_request(parser: Parser, arguments: list[str], method: str) -> Request:
    """Parse the arguments of a command that hands a trained model to the `method` of its recipe.

    Args:
        parser: knows the arguments of the command; those of the recipe are added.

    Raises:
        UserError: there is no such run, or an argument is unknown, wrong or missing.
    """
    arguments, overrides = split_overrides(arguments, ())
    if not arguments or arguments[0].startswith("-"):
        parser.read(arguments)  # prints the help that was asked for
        raise UserError(f"{parser.prog}: expected a run or a checkpoint as the first argument")
    early = Parser(parser.prog.removeprefix("salticid "), add_help=False)  # the recipe must be known before its options
    add_checkpoint(early)
    target, _ = early.parse_known_args(arguments)
    allowed = allowed_packages(target.allow)
    from salticid.engine.recipe import Recipe

    checkpoint = find_checkpoint(target.run, target.best)
    config = load_trained(checkpoint, overrides, allowed)
    recipe = find_class(config["recipe"]["class_path"], Recipe, allowed, "recipe.class_path")
    fields = options_of(getattr(recipe, method))
    _add_options(parser, recipe, getattr(recipe, method), fields)
    options = parser.read(arguments)
    keywords = {
        name: typed(text, field.hint, f"--{_flag(name)}")
        for name, field in fields.items()
        if (text := getattr(options, name)) is not None
    }
    return Request(checkpoint, config, allowed, options, keywords)


def options_of(method: Callable[..., Any]) -> dict[str, Field]:
    """The keyword options of a recipe's method, but for those that the command has itself."""
    parameters = inspect.signature(method).parameters
    return {
        name: field
        for name, field in fields_of(method).items()
        if parameters[name].kind is inspect.Parameter.KEYWORD_ONLY and name not in OWN
    }


def _add_options(parser: Parser, recipe: type["Recipe"], method: Callable[..., Any], fields: dict[str, Field]) -> None:
    group = parser.add_argument_group(f"options of {recipe.__name__}")
    for name, field in fields.items():
        help = _help(method, name, field)
        if field.hint is bool:
            group.add_argument(f"--{_flag(name)}", dest=name, action=argparse.BooleanOptionalAction, help=help)
        else:
            required = field.default is MISSING
            group.add_argument(f"--{_flag(name)}", dest=name, required=required, metavar="VALUE", help=help)


def _help(method: Callable[..., Any], name: str, field: Field) -> str:
    """A sentence from the docstring of the method, the type and the default."""
    said = re.search(rf"\b{name}: ([^.]+)", inspect.getdoc(method) or "")
    words = " ".join(said[1].split()) if said else ""
    default = "" if field.default is MISSING else f", default {field.default}"
    return f"{words} ({describe(field.hint)}{default})".strip().replace("%", "%%")


def _flag(name: str) -> str:
    return name.replace("_", "-")
