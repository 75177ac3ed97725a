"""A figure that knows which of its parts are of which controller, so that a page can hide parts and name points."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from edgemarl.launch.report.names import short_names
from edgemarl.launch.report.style import STYLE, own_style, write_svg


@dataclass(frozen=True)
class Mark:
    """What a figure shows of one controller in one panel.

    Attributes:
        name: the controller.
        axes: the panel.
        artists: what is hidden with it.
        x, y: places of points, data coordinates.
        words: what is said of each point.
    """

    name: str
    axes: Any
    artists: tuple[Any, ...]
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()
    words: tuple[str, ...] = ()


class MarkedFigure(Figure):
    """A figure with its marks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.marks: list[Mark] = []
        self.shortened: dict[str, str] = {}  # what a legend says -> the name that it stands for

    def mark(
        self, name: str, axes: Any, artists: Iterable[Any], x: Any = (), y: Any = (), words: Sequence[str] = ()
    ) -> None:
        """Say that artists of a panel are a controller's, and what its points mean; NaN points are left out."""
        there = [
            (float(a), float(b), word)
            for a, b, word in zip(np.atleast_1d(x), np.atleast_1d(y), words, strict=True)
            if np.isfinite([a, b]).all()
        ]
        places = tuple(zip(*there, strict=True)) or ((), (), ())
        self.marks.append(Mark(name, axes, tuple(artists), *places))


def name_lines(figure: Figure, handles: Sequence[Any], names: Sequence[str]) -> None:
    """The legend beside a figure, with names that leave room for it."""
    short = short_names(list(dict.fromkeys(names)))
    if isinstance(figure, MarkedFigure):
        figure.shortened.update({word: name for name, word in short.items()})
    figure.legend(handles, [short[name] for name in names], loc="outside right center", fontsize=9)


@dataclass(frozen=True)
class InlineFigure:
    """A figure inside a page.

    Attributes:
        svg: the drawing, whose ids begin with the figure's own prefix.
        parts: controller -> ids of what is hidden with it.
        points: (controller, x, y, words), in the drawing's units from its top left corner.
        swatches: controller -> colour.
    """

    svg: str
    parts: dict[str, list[str]]
    points: list[tuple[str, float, float, str]]
    swatches: dict[str, str]


def inline(figure: Figure, prefix: str) -> InlineFigure:
    """The figure as SVG for a page that holds several; letters stay letters, so that they can be found and read out.

    Args:
        figure: a figure; without marks it is a plain picture.
        prefix: unique on the page.
    """
    marks = figure.marks if isinstance(figure, MarkedFigure) else []
    parts: dict[str, list[str]] = {}
    names = list(dict.fromkeys(mark.name for mark in marks))
    labelled = [(mark.name, artist) for mark in marks for artist in mark.artists]
    if isinstance(figure, MarkedFigure):
        labelled += _legend(figure, names)
    for i, (name, artist) in enumerate(labelled):
        artist.set_gid(f"part-{i}")
        parts.setdefault(name, []).append(f"{prefix}-part-{i}")
    data = io.StringIO()
    with own_style({**STYLE, "svg.fonttype": "none"}):
        write_svg(figure, data)
    height = float(figure.bbox.height)
    points = []
    for mark in marks:
        if mark.x:
            places = mark.axes.transData.transform(np.stack([mark.x, mark.y], axis=1))
            points += [
                (mark.name, round(float(px), 1), round(height - float(py), 1), words)
                for (px, py), words in zip(places, mark.words, strict=True)
            ]
    swatches = {name: _colour(next(m for m in marks if m.name == name)) for name in names}
    return InlineFigure(_own_ids(data.getvalue(), prefix), parts, points, swatches)


def _legend(figure: MarkedFigure, names: Sequence[str]) -> list[tuple[str, Any]]:
    """Legend entries of marked controllers: handle and words."""
    entries = []
    for legend in [*figure.legends, *(axes.get_legend() for axes in figure.axes)]:
        if legend is not None:
            for handle, words in zip(legend.legend_handles, legend.get_texts(), strict=True):
                name = figure.shortened.get(words.get_text(), words.get_text())
                if name in names:
                    entries += [(name, words), *((name, artist) for artist in _leaves(handle))]
    return entries


def _leaves(handle: Any) -> list[Any]:
    """A legend handle, or its parts where it is a container of artists."""
    return [handle] if hasattr(handle, "set_gid") else [part for part in handle.get_children() if part is not None]


def _colour(mark: Mark) -> str:
    from matplotlib.colors import to_hex

    for artist in mark.artists:
        if hasattr(artist, "get_color") and isinstance(artist.get_color(), str):
            return to_hex(artist.get_color())
        if hasattr(artist, "get_facecolor") and not hasattr(artist, "get_segments"):
            return to_hex(artist.get_facecolor())
    return "#000000"


def _own_ids(svg: str, prefix: str) -> str:
    """The <svg> element alone, its ids made the page's own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'(xlink:href|href)="#([^"]+)"', rf'\1="#{prefix}-\2"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", svg)
    return re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
