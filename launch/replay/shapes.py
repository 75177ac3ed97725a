"""Shapes of which portraits are made. A portrait's plane runs from 0 to 1 both ways: devices stand at the bottom, what
they share is at the top; a beam leads from one to the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgemarl.envs.arrays import Array

INK, SOFT, PALE, EMPTY = "#1c2430", "#5b6675", "#dfe4ea", "#f1f4f7"
BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
"""Colours that people with any colour vision tell apart (M. Okabe, K. Ito, 2008)."""
MANY = 60
"""Agents above which single ones are too narrow for edges and for lines of their own."""
GAUGE_BAR = 0.3
"""Share of a gauge's height that its bar takes; the label has the rest."""
FLOOR, ROOF = 0.13, 0.70
"""Where columns of devices begin, and where beams end."""


def places(n: int, low: float = 0.06, high: float = 0.94) -> tuple[Array, float]:
    """(n,) centres of n columns side by side, and their width."""
    pitch = (high - low) / n
    return low + pitch * (np.arange(n) + 0.5), float(min((0.74 if n <= MANY else 1.0) * pitch, 0.07))


def boxes(axes: Any, left: Any, bottom: Any, width: Any, height: Any, colour: Any, **further: Any) -> None:
    """Rectangles, all arguments broadcast; a colour for all or one each."""
    from matplotlib.collections import PolyCollection

    left, bottom, width, height = np.broadcast_arrays(*np.atleast_1d(left, bottom, width, height))
    x = np.stack([left, left + width, left + width, left], axis=1)
    y = np.stack([bottom, bottom, bottom + height, bottom + height], axis=1)
    many = len(left) > MANY
    style = {"edgecolors": "white", "linewidths": 0.6, "zorder": 3, **further}
    if many:  # edges would cover what they surround
        style |= {"edgecolors": "none", "linewidths": 0.0, "antialiased": False}
    corners: Any = np.stack([x, y], axis=2)
    axes.add_collection(PolyCollection(corners, facecolors=colour, **style))


def beams(axes: Any, x: Array, y: Any, strength: Array, to: Any, colour: Any, shown: Array | None = None) -> None:
    """Lines from (x, y) up to `to`, (2,) or (n, 2); strength 0 to 1 is their width."""
    from matplotlib.collections import LineCollection

    start = np.stack([x, np.broadcast_to(y, np.shape(x))], axis=1)
    lines: Any = np.stack([start, np.broadcast_to(to, start.shape)], axis=1)
    chosen = np.ones(len(lines), bool) if shown is None else np.asarray(shown, bool)
    colours: Any = colour if isinstance(colour, str) else np.asarray(colour)[chosen]
    widths = (0.6 + 5.0 * np.clip(strength, 0.0, 1.0))[chosen]
    seen = 0.75 if len(lines) <= MANY else 0.45
    axes.add_collection(LineCollection(lines[chosen], linewidths=widths, colors=colours, alpha=seen, zorder=2))


def fan(axes: Any, x: Array, y: Any, to: Any) -> None:
    """Thin lines that say which agents belong to which: a wedge where there are many."""
    from matplotlib.collections import LineCollection, PolyCollection

    if len(x) <= 12:
        lines: Any = np.stack([np.stack(np.broadcast_arrays(x, y), axis=1), np.broadcast_to(to, (len(x), 2))], axis=1)
        axes.add_collection(LineCollection(lines, linewidths=0.7, colors=SOFT, alpha=0.75, zorder=2))
    else:
        bottom = float(np.max(y))
        wedge = [(float(x.min()), bottom), (float(x.max()), bottom), tuple(to)]
        axes.add_collection(PolyCollection([wedge], facecolors=PALE, edgecolors="none", zorder=1))


def stack(axes: Any, left: float, bottom: float, width: float, height: float, shares: Sequence[float], colours: Any,
          outline: bool = True) -> None:  # fmt: skip
    """A horizontal bar that is divided into shares of its whole width; what is left stays empty."""
    if outline:
        boxes(axes, left, bottom, width, height, EMPTY, edgecolors=PALE)
    widths = width * np.asarray(shares, float)
    boxes(axes, left + np.concatenate([[0.0], np.cumsum(widths)[:-1]]), bottom, widths, height, colours)


def gauge(axes: Any, left: float, bottom: float, width: float, height: float, level: float, label: str,
          colour: str = BLUE) -> None:  # fmt: skip
    """A horizontal bar that is filled to a level from 0 to 1 (RED above), below its label; both within the height."""
    bar = GAUGE_BAR * height
    boxes(axes, left, bottom, width, bar, EMPTY, edgecolors=PALE)
    boxes(axes, left, bottom, width * min(max(level, 0.0), 1.0), bar, RED if level > 1.0 else colour, alpha=0.75)
    text(axes, left + width / 2, bottom + (height + bar) / 2, label, size=7.5)


def text(axes: Any, x: float, y: float, words: str, size: float = 8.0, colour: str = INK, side: str = "center",
         **further: Any) -> None:  # fmt: skip
    """Words on the plane."""
    axes.text(x, y, words, fontsize=size, color=colour, ha=side, va="center", zorder=6, **further)


def numbers(axes: Any, x: Array, y: float) -> None:
    """The devices' numbers below them, as many as there is room for."""
    every = 1 if len(x) <= 20 else 5 if len(x) <= MANY else 20 if len(x) <= 200 else 50
    for i in range(0, len(x), every):
        text(axes, float(x[i]), y, str(i), size=6.5, colour=SOFT)


def key(axes: Any, entries: Sequence[tuple[str, str]], y: float = 0.02) -> None:
    """A line that says what colours mean: (colour, words)."""
    at = 0.06
    for colour, words in entries:
        boxes(axes, at, y - 0.012, 0.022, 0.024, colour)
        text(axes, at + 0.03, y, words, size=7.5, side="left")
        at += 0.055 + 0.0148 * len(words)
