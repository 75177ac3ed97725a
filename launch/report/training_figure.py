"""The figure of training: what learned controllers reach, exploration included, over the episodes they have played."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.launch.report.marked import MarkedFigure, name_lines
from edgemarl.marl.evaluation.compare import Row

POINTS = 50
"""Points of a curve: an iteration is too short for a mean."""


def training_curves(folders: Sequence[Path], metric: str, horizon: int) -> tuple[Array, Array, Array, Array]:
    """Episodes played, and mean, least and largest value over training seeds of a column of the runs' learning curves.

    Args:
        folders: of the runs of one controller, a training seed each.
        metric: column of `curve.parquet`.
        horizon: slots of an episode.

    Raises:
        ValueError: the curves have no such column.
    """

    from edgemarl.marl.training.folder import RunFolder  # needs PyTorch: only where something was trained

    curves = []
    last = np.inf
    for folder in folders:
        curve = RunFolder(folder).curve()
        if metric not in curve:
            raise ValueError(
                f"figure of training: the curves have no column '{metric}', only {', '.join(map(str, curve))}"
            )
        curves.append((curve["env_steps"].to_numpy() / horizon, curve[metric].to_numpy()))
        last = min(last, curves[-1][0][-1])
    edges = np.linspace(0.0, last, min(POINTS, *(len(episodes) for episodes, _ in curves)) + 1)
    values = np.stack([_binned(episodes, curve, edges) for episodes, curve in curves])
    middles = (edges[1:] + edges[:-1]) / 2.0
    return middles, values.mean(axis=0), values.min(axis=0), values.max(axis=0)


def _binned(episodes: Array, values: Array, edges: Array) -> Array:
    """Means over the iterations that end in each bin; an empty bin takes its value by interpolation."""
    index = np.clip(np.searchsorted(edges, episodes, side="left") - 1, 0, len(edges) - 2)
    count = np.bincount(index, minlength=len(edges) - 1)
    total = np.bincount(index, weights=values, minlength=len(edges) - 1)
    middles, filled = (edges[1:] + edges[:-1]) / 2.0, count > 0
    return np.asarray(np.interp(middles, middles[filled], total[filled] / count[filled]))


def draw_training(
    figure: MarkedFigure,
    runs: Mapping[str, Sequence[Path]],
    rows: Sequence[Row],
    looks: Mapping[str, Any],
    metric: str,
    label: str,
    horizon: int,
) -> str:
    """Draw a line per learned controller and a level for every other controller, where the table has the column.

    Args:
        runs: learned controller -> folders of its runs.
        rows: the comparison's table.
        looks: controller -> colour, marker and line.
        metric: column of the curves.
        label: the table's column that is the mean of this metric, or "".
        horizon: slots of an episode.
    """
    figure.set_size_inches(8.4, 4.6)
    axes = figure.subplots()
    for name, folders in runs.items():
        if not all(_has_curve(folder) for folder in folders):
            continue  # its runs were removed, its results are kept
        episodes, mean, low, high = training_curves(folders, metric, horizon)
        lines = axes.plot(episodes, mean, color=looks[name].colour, ls=looks[name].line, lw=1.6, label=name)
        band = axes.fill_between(episodes, low, high, color=looks[name].colour, alpha=0.15, lw=0)
        words = [
            f"episode {e:.0f}: {m:.4g} [{a:.4g}, {b:.4g}]" for e, m, a, b in zip(episodes, mean, low, high, strict=True)
        ]
        figure.mark(name, axes, [*lines, band], episodes, mean, words)
    for row in rows:
        if row.controller not in runs and label in row.columns:
            style = looks[row.controller]
            level = axes.axhline(
                row.columns[label].value, color=style.colour, ls=style.line, lw=1.2, label=row.controller
            )
            figure.mark(row.controller, axes, [level])
    axes.set_xlabel("episode of training")
    axes.set_ylabel(label or metric.replace("_", " "))
    axes.set_xlim(left=0)
    name_lines(figure, *axes.get_legend_handles_labels())
    what = label or metric.replace("_", " ")
    return f"{what.capitalize()} while training, exploration included: mean and range over training seeds."


def _has_curve(run: Path) -> bool:
    from edgemarl.marl.training.folder import RunFolder

    return RunFolder(run).has_curve
