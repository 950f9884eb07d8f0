"""Numbers, times and foreign text as people read them; shared by the progress display and the report."""

import math
from typing import Any


def number(value: Any, figures: int = 4) -> str:
    """A number with so many significant figures and as steady a width as can be: 0.5263, 45.10, 1.20e-05."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return printable(str(value))
    if isinstance(value, int) or not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if not -4 <= magnitude <= 5:
        return f"{value:.{figures - 2}e}"
    return f"{value:.{max(figures - 1 - magnitude, 0)}f}"


def duration(seconds: float) -> str:
    """3:12, 1:02:03 or 2d 03:04."""
    whole = round(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d {hours:02d}:{minutes:02d}"
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def memory(size: float) -> str:
    """Bytes as gigabytes, or megabytes where these are few."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.0f} MB"


def printable(text: str) -> str:
    """Without what could play with a terminal or break an encoding: control characters and half surrogates."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
