"""`salticid doctor`: what this machine can do and what is missing."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from salticid.commands.parser import Parser

if TYPE_CHECKING:
    from salticid.doctor import Finding

MARKS = {"ok": "[green]✓[/]", "note": "[cyan]·[/]", "warning": "[yellow]![/]"}


def parser() -> Parser:
    parser = Parser("doctor", "Tell versions, devices, precisions and disk speed, and what to install.")
    parser.add_argument("--folder", type=Path, default=Path("runs"), help="where runs are to be written (runs)")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    return parser


def run(arguments: list[str]) -> None:
    options = parser().read(arguments)
    from salticid.doctor import examine

    findings = examine(options.folder)
    if options.json:
        print(json.dumps([dataclasses.asdict(f) for f in findings], indent=2))
    else:
        _show(findings)


def _show(findings: list["Finding"]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    group = ""
    for finding in findings:
        if finding.group != group:
            group = finding.group
            table.add_row("", f"[bold]{group}[/]")
        advice = f"\n[dim]{escape(finding.advice)}[/]" if finding.advice else ""
        table.add_row(MARKS[finding.state], finding.name, escape(finding.value) + advice)
    console = Console()
    console.print(table)
    warnings = sum(f.state == "warning" for f in findings)
    console.print(f"\n{warnings} to look at (marked !)." if warnings else "\nNothing is wrong.")
