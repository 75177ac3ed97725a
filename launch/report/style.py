"""How figures look, whatever Matplotlib settings the user has (LaTeX that is not installed, dark styles)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

STYLE: Mapping[str, Any] = {
    "font.size": 10, "axes.titlesize": 11, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.color": "#E4E4E4", "grid.linewidth": 0.8, "axes.axisbelow": True, "legend.frameon": False,
    "svg.hashsalt": "edgemarl",
}  # fmt: skip
"""Of a report's figures."""


@contextmanager
def own_style(style: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Matplotlib's defaults and a style on top, for the block; texts are typeset when a figure is saved: save in it."""
    from matplotlib import style as styles

    with styles.context(["default", dict(style or {})]):
        yield
