"""The terminal: what is printed is text, whatever it holds."""

from __future__ import annotations

from rich.console import Console

from edgemarl.launch.surroundings import in_notebook

TABLE_WIDTH = 120
"""Columns of the terminal that a comparison table takes at most."""
WIDTH = 152
"""Columns that other tables need."""


def plain_console(stderr: bool = False) -> Console:
    """A console that prints `[/b]` and `:cat:` as they stand (names are no markup), and plain text in a notebook."""
    return Console(stderr=stderr, markup=False, emoji=False, force_terminal=False if in_notebook() else None)


def wide_console() -> Console:
    """The same, wide enough for a table also where the output goes to a file."""
    console = plain_console()
    return (
        console
        if console.width >= WIDTH
        else Console(width=WIDTH, markup=False, emoji=False, force_terminal=False if in_notebook() else None)
    )
