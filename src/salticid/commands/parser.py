"""Command-line parsing whose mistakes are answered in one line, with the nearest name."""

import argparse
from difflib import get_close_matches
from typing import NoReturn

from salticid.config import KEYS
from salticid.config.overrides import Override, split_overrides
from salticid.errors import UserError


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that raises `UserError` instead of printing its usage."""

    def __init__(self, command: str, description: str = "", epilog: str | None = None, add_help: bool = True) -> None:
        super().__init__(
            prog=f"salticid {command}",
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            add_help=add_help,
        )

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}; see {self.prog} --help")

    def add_allow(self) -> None:
        self.add_argument(
            "--allow",
            action="append",
            default=[],
            metavar="PACKAGE",
            help="a package of yours whose classes the configuration may name (also: SALTICID_ALLOW=a,b)",
        )

    def read(self, arguments: list[str]) -> argparse.Namespace:
        """Parse all of `arguments`.

        Raises:
            UserError: one is unknown or misses its value.
        """
        options, rest = self.parse_known_args(arguments)
        if rest:
            self.refuse(rest[0])
        return options

    def read_with_overrides(self, arguments: list[str]) -> tuple[argparse.Namespace, list[Override]]:
        """Parse `arguments` after taking the dotted overrides out of them."""
        rest, overrides = split_overrides(arguments, tuple(KEYS))
        return self.read(rest), overrides

    def refuse(self, argument: str) -> NoReturn:
        """Raise the error for an argument that nothing takes."""
        name = argument.partition("=")[0]
        flags = [flag for flag in self._option_string_actions if flag.startswith("--")]
        known = [flag for flag in flags if flag != "--help"]
        close = get_close_matches(name, known, n=1, cutoff=0.7)
        hint = f"did you mean {close[0]}?" if close else f"keys have dots (--trainer.steps); see {self.prog} --help"
        raise UserError(f"{self.prog}: unknown argument {argument}; {hint}")


def positive(text: str) -> int:
    """The type of an argument that counts something."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return int(text)


def natural(text: str) -> int:
    """The type of an argument that counts something there may be none of."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected 0 or a number above, got {text!r}")
    return int(text)
