"""`salticid report`: write the HTML report of a run anew."""

from pathlib import Path

from salticid.commands.parser import Parser


def parser() -> Parser:
    parser = Parser("report", "Write the HTML report of a run anew, from its log and its pictures.")
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory")
    return parser


def run(arguments: list[str]) -> None:
    options = parser().read(arguments)
    from salticid.engine.report import write_report
    from salticid.engine.run import open_run

    print(write_report(open_run(options.run)))
