"""Pieces of HTML. Everything that comes from a run's files goes through `text`."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any


def text(value: Any) -> str:
    """Any value, safe inside an element and inside a quoted attribute."""
    return escape(str(value).encode("utf-8", "backslashreplace").decode("utf-8"), quote=True)


def section(anchor: str, title: str, *content: str) -> str:
    """A titled section; nothing where it has no content."""
    body = "".join(content)
    return f'<section id="{anchor}"><h2>{text(title)}</h2>{body}</section>' if body else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], style: str = "") -> str:
    """A table whose cells are HTML already; the first column is a heading."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>' for first, *rest in rows
    )
    head_row = f"<thead><tr>{top}</tr></thead>" if head else ""
    return f'<div class="scroll"><table class="{style}">{head_row}<tbody>{body}</tbody></table></div>'


def card(content: str, style: str = "") -> str:
    return f'<div class="card {style}">{content}</div>'


def folded(title: str, content: str, *, opened: bool = False) -> str:
    """Content behind a line to click on."""
    return f'<details class="card"{" open" * opened}><summary>{text(title)}</summary>{content}</details>'
