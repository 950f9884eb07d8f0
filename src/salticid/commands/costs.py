"""What a dry run found, in words."""

from collections.abc import Mapping

from salticid.engine.figures import duration, memory

WORDS = {
    "parameters": "parameters",
    "trainable": "… of which trained",
    "micro_batch": "micro-batch",
    "memory": "memory, at most",
    "first_step_s": "first step",
    "step_s": "a step",
    "data_wait": "… of which waiting for data",
    "validation_s": "validation of one micro-batch",
    "save_s": "saving a checkpoint",
    "load_s": "loading it",
    "checkpoint_bytes": "its size",
    "total_h": "all steps (h:mm:ss), without validation and saving",
}


def show_costs(figures: Mapping[str, float]) -> None:
    """Print the figures of `Trainer.dry_run` as a table; those that it could not take are left out."""
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, words in WORDS.items():
        if name in figures:
            table.add_row(words, in_units(name, figures[name]))
    Console().print(table)


def in_units(name: str, value: float) -> str:
    """A figure with the unit that its name stands for: `_s` seconds, `_h` hours, bytes, a share, or a number."""
    if name.endswith("_s"):
        return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"
    if name.endswith("_h"):
        return duration(3600 * value)
    if name in ("memory", "checkpoint_bytes"):
        return memory(value)
    return f"{value:.0%}" if name == "data_wait" else f"{value:,.0f}"
