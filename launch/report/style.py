"""How figures look, whatever Matplotlib settings the user has (LaTeX that is not installed, dark styles)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

STYLE: Mapping[str, Any] = {
    "font.size": 10, "axes.titlesize": 11, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.color": "#E4E4E4", "grid.linewidth": 0.8, "axes.axisbelow": True, "legend.frameon": False,
    "svg.hashsalt": "edgemarl",
}  # fmt: skip
"""Of a report's figures."""
DPI, SVG_DPI = 160, 72


@contextmanager
def own_style(style: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Matplotlib's defaults and a style on top, for the block; texts are typeset when a figure is saved: save in it."""
    from matplotlib import style as styles

    with styles.context(["default", dict(style or {})]):
        yield


def write_png(figure: Figure, target: Any) -> None:
    """Write a figure to a path or a binary file."""
    _lay_out(figure)
    figure.set_dpi(DPI)
    FigureCanvasAgg(figure).print_png(target)


def write_svg(figure: Figure, target: Any) -> None:
    """Write a figure to a path or a text file; afterwards its display coordinates are those of the drawing."""
    _lay_out(figure)
    figure.set_dpi(SVG_DPI)
    FigureCanvasSVG(figure).print_svg(target, metadata={"Date": None})


def _lay_out(figure: Figure) -> None:
    """Place what a figure holds, once: `Figure.savefig` places it anew for every file, and draws it for that."""
    engine = figure.get_layout_engine()
    if engine is not None:
        figure.set_dpi(DPI)
        FigureCanvasAgg(figure)
        engine.execute(figure)
        figure.set_layout_engine("none")
