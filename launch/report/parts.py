"""The cost in its weighted parts: a table, and bars that are stacked from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgemarl.launch.experiment.run import PointResult
from edgemarl.launch.report.marked import MarkedFigure
from edgemarl.launch.report.names import short_names
from edgemarl.launch.report.numerals import significant
from edgemarl.marl.evaluation.compare import Row

COLOURS = ("#0072B2", "#E69F00", "#332288", "#56B4E9", "#882255", "#5C4B00", "#D55E00")
"""Of the parts, in order; neighbours differ in lightness too, so that they are told apart without colour."""
HATCHES = ("", "//", "", "..", "", "xx", "")
ROWS_MAX = 40
"""Controllers of a panel, the cheapest ones."""
LONG = 4.0
"""Times the median length at which a bar is cut."""
_EDGE: Mapping[str, Any] = {"edgecolor": "white", "linewidth": 0.6}
_SUM = "cost, their sum"


def terms(result: PointResult) -> list[str]:
    """Parts of the cost, without those that no controller has."""
    rows = result.comparison.rows
    return [term for term in rows[0].parts if any(abs(row.parts[term]) > 0.0 for row in rows)]


def parts_table(result: PointResult) -> dict[str, Any] | None:
    """Headings and rows of the parts in the order of the comparison; None where the cost is a single term."""
    shown = terms(result)
    if not shown:
        return None
    rows = []
    for row in _sorted(result.comparison.rows):
        values = [*(row.parts[term] for term in shown), row.cost.value]
        cells = [(row.controller, row.controller), *((significant(v), v) for v in values)]
        rows.append({"kind": row.kind, "cells": cells})
    label = result.point.scenario.cost_label
    return {"title": result.point.label, "headings": ["controller", *shown, f"{label}: their sum"], "rows": rows}


def draw_parts(figure: MarkedFigure, results: Sequence[PointResult], panels: Sequence[Any]) -> str:
    """Stack the parts of every controller's cost, one panel per point; returns the caption."""
    from matplotlib.patches import Patch

    shown = list(dict.fromkeys(term for result in results for term in terms(result)))
    looks = {term: {"facecolor": COLOURS[i], "hatch": HATCHES[i], **_EDGE} for i, term in enumerate(shown)}
    for axes, result in zip(panels, results, strict=False):
        _stack(figure, axes, result, looks)
    handles = [Patch(label=term, **look) for term, look in looks.items()]
    handles += [line for line in panels[0].lines if line.get_label() == _SUM]
    figure.legend(handles=handles, loc="outside right center", fontsize=9)
    label = results[0].point.scenario.cost_label
    caption = f"What the {label} is made of, each part at its weight: {', '.join(shown)}."
    if len(handles) > len(shown):
        caption += " What is left of 0 is earned; the diamond is the cost, the sum of both sides."
    if any(axes.texts for axes in panels):
        caption += " A number with an arrow: where a bar ends that is cut."
    return caption


def _stack(figure: MarkedFigure, axes: Any, result: PointResult, looks: Mapping[str, Mapping[str, Any]]) -> None:
    """One panel: costs to the right of 0, what is earned to its left."""
    rows = _sorted(result.comparison.rows)[-ROWS_MAX:]
    reached = []
    for y, row in enumerate(rows):
        ends = [0.0, 0.0]  # where the next earned part and the next cost begin
        for term, look in looks.items():
            value = row.parts.get(term, 0.0)
            side = int(value >= 0.0)
            bar = axes.barh(y, value, left=ends[side], height=0.74, **look)
            ends[side] += value
            words = [f"{significant(value)} of {significant(row.cost.value)} ({row.controller})"] if value else [""]
            figure.mark(term, axes, bar, ends[side] - value / 2 if value else float("nan"), y, words)
        reached.append(ends[1])
    _cut_long_bars(axes, reached)
    if any(value < 0.0 for row in rows for value in row.parts.values()):
        axes.axvline(0.0, color="black", lw=0.8)
        costs = [row.cost.value for row in rows]
        axes.plot(costs, range(len(rows)), "D", color="black", mec="white", ms=6, ls="none", label=_SUM)
    names = short_names([row.controller for row in rows])
    axes.set_yticks(range(len(rows)), [names[row.controller] for row in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(result.point.scenario.cost_label)
    axes.set_title(result.point.label, loc="left")


def _cut_long_bars(axes: Any, reached: Sequence[float]) -> None:
    """End the axis where a few bars dwarf all others, and write there where they end."""
    limit = LONG * float(np.median(reached))
    if not 0.0 < limit < max(reached):
        return
    low = axes.get_xlim()[0]
    axes.set_xlim(max(low, -limit), limit)
    for y, end in enumerate(reached):
        if end > limit:
            box = {"fc": "white", "ec": "none", "pad": 1.5}
            axes.text(0.985 * limit, y, f"{significant(end)} →", ha="right", va="center", fontsize=8.5, bbox=box)


def _sorted(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: -row.cost.value)
