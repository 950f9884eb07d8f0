"""The command `salticid`. Subcommands are imported when they are asked for, so that `--help` answers at once."""

import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Iterator
from difflib import get_close_matches

from salticid import __version__
from salticid.engine.figures import printable
from salticid.errors import UserError

COMMANDS = {
    "train": "train a recipe from a preset or a configuration file, or go on with a run",
    "encode": "run the frozen parts of a recipe over its training samples once and for all",
    "evaluate": "judge a run or a checkpoint on samples that training never sees",
    "predict": "run a trained model on files",
    "export": "write a trained model in the format of others",
    "report": "write the HTML report of a run anew",
    "doctor": "tell what this machine can do and what is missing",
}
USAGE_ERROR = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return the exit status: 0, or 2 where the user can mend what went wrong.

    Anything unexpected is raised, so that it ends with its traceback and status 1. With SALTICID_DEBUG=1 the
    user's errors show their traceback as well.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    first_rank = os.environ.get("RANK", "0") == "0"
    with open(os.devnull, "w") as nowhere, contextlib.ExitStack() as stack:
        if not first_rank:
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        stack.enter_context(_remarks(logging.INFO if first_rank else logging.WARNING))
        try:
            status = _dispatch(arguments)
            sys.stdout.flush()  # so that a pipe that nobody reads is noticed here
            return status
        except UserError as error:
            if os.environ.get("SALTICID_DEBUG") == "1":
                raise
            _tell(f"salticid: error: {error}")
            return USAGE_ERROR
        except KeyboardInterrupt:
            _tell("salticid: interrupted")
            return INTERRUPTED
        except BrokenPipeError:  # `salticid … | head`: nobody reads on, and the interpreter must not flush again
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0
    if arguments[0] == "--version":
        print(f"salticid {__version__}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        close = get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {close[0]}?" if close else "see salticid --help"
        raise UserError(f"there is no command {name}; {hint}")
    command = importlib.import_module(f"salticid.commands.{name}")
    try:
        return command.run(rest) or 0
    except SystemExit as done:  # argparse, after printing a subcommand's help
        return int(done.code or 0)


def _help() -> str:
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:{width}}{text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: salticid COMMAND …",
            "",
            "Train, evaluate and run diffusion and geometry models of vision.",
            "",
            *lines,
            "",
            "salticid COMMAND --help says more; salticid train --help lists the presets.",
        ]
    )


class _Remark(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _tell(record.getMessage())


@contextlib.contextmanager
def _remarks(level: int) -> Iterator[None]:
    """Let what the package logs reach stderr."""
    logger, handler = logging.getLogger("salticid"), _Remark()
    before = logger.level
    logger.setLevel(level)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def _tell(message: str) -> None:
    """One line to stderr, with the rank where there are several. A message may quote a stranger's file, so nothing
    in it reaches the terminal but printable characters."""
    line = printable(" ".join(message.split()))
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    print(f"[rank {os.environ.get('RANK', '0')}] {line}" if several else line, file=sys.stderr)
