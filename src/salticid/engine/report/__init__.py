"""`report.html`: one self-contained page about a run, made of nothing but the files in its directory."""

import base64
import hashlib
import os
from pathlib import Path

from salticid.engine.journal import writing
from salticid.engine.report.curves import training, validation
from salticid.engine.report.files import RunFiles, read_run
from salticid.engine.report.film import pictures
from salticid.engine.report.html import text
from salticid.engine.report.summary import header, headline, history, incidents, problems
from salticid.engine.report.tables import configuration, environment, results
from salticid.errors import UserError

__all__ = ["write_report"]

ASSETS = Path(__file__).parent
STYLES = "page.css", "page.viewer.css"
SCRIPTS = "page.js", "page.viewer.js"


def write_report(run_dir: Path) -> Path:
    """Write `report.html` into a run's directory, of a finished run or of one under way.

    The page asks for nothing from outside, and its content policy forbids all but its own script and the pictures
    in it. What is missing in the directory is missing in the page; what is broken is said on it.

    Returns:
        The path of the page.

    Raises:
        UserError: there is no such directory, or the page cannot be written.
    """
    if not run_dir.is_dir():
        raise UserError(f"{run_dir}: no such run directory")
    path = run_dir / "report.html"
    aside = path.with_name("report.html.tmp")
    with writing(path):
        aside.write_text(page(read_run(run_dir)), encoding="utf-8")
        os.replace(aside, path)
    return path


def page(files: RunFiles) -> str:
    """The whole page."""
    sections = [
        pictures(files),
        results(files),
        validation(files),
        training(files),
        incidents(files),
        history(files),
        configuration(files),
        environment(files),
    ]
    style, script = (
        "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in names) for names in (STYLES, SCRIPTS)
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{text(files.run_dir.resolve().name)} · salticid</title>",
            f"<style>{style}</style>\n</head>\n<body>\n<main>",
            header(files),
            problems(files),
            headline(files),
            *(part for part in sections if part),
            f"</main>\n<script>{script}</script>\n</body>\n</html>\n",
        ]
    )
