"""Table and figure of `check clients`: cost above the reference against decisions and against seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from edgemarl.launch.report.looks import MARKERS, PALETTE
from edgemarl.launch.report.style import STYLE, own_style
from edgemarl.marl.studies.clients import CLIENTS, NAMES, TOLD

if TYPE_CHECKING:
    from edgemarl.marl.studies.clients.job import ClientJob

FLAT = 0.2
"""Percent above the reference below which an axis is not logarithmic."""
SHARE_TICKS = (0, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)
SPENT = ("decisions", "processor time from the start of the process, s")
"""Labels of the two axes."""


def client_rows(
    trained: Sequence[tuple[int | None, ClientJob, list[dict[str, float]]]],
    references: Mapping[int | None, tuple[str, float]],
) -> pd.DataFrame:
    """A row per look: client, devices (0: the scenario's own), seed, budget of its training, what was spent, its cost.

    `above` is the share above the reference; `training_s` the processor time without the start of the process.
    """
    rows = []
    for size, job, looks in trained:
        name, cost = references[size]
        for look in looks:
            about = {"client": job.client, "scenario": job.scenario, "devices": size or 0, "seed": job.seed}
            rows.append(
                {**about, "budget": job.budget, **look, "training_s": look["processor_s"] - look["start_s"],
                 "reference": name, "reference_cost": cost, "above": look["cost"] / cost - 1.0}
            )  # fmt: skip
    return pd.DataFrame(rows)


def at_budget(rows: pd.DataFrame, steps: int) -> pd.DataFrame:
    """The looks that stand for a budget: what is told it, the end; of others the first look after so much."""
    told = rows["client"].isin(TOLD)
    these = rows[(rows["decisions"] >= steps) & (~told | (rows["budget"] == steps))]
    return these.groupby(["client", "devices", "seed"], sort=False).first().reset_index()


def client_table(rows: pd.DataFrame, budgets: Sequence[int]) -> str:
    """Markdown: per size and budget, each client's cost, share above the reference, seconds and times ours."""
    lines = []
    for devices in rows["devices"].unique():
        of_size = rows[rows["devices"] == devices]
        name, cost = of_size["reference"].iloc[0], of_size["reference_cost"].iloc[0]
        network = f"{devices} devices" if devices else "the scenario's own size"
        lines += [f"{of_size['scenario'].iloc[0]}, {network}; `{name}` costs {cost:.4g}:", ""]
        lines += ["| decisions | client | cost | above the reference, by seed | training, s | with its start, s |"]
        lines += ["|---|---|---|---|---|---|"]
        for steps in budgets:
            these = at_budget(of_size, steps)
            ours = these[these["client"] == "ours"]
            for client in (name for name in CLIENTS if name in set(these["client"])):
                lines.append(_line(steps, these[these["client"] == client], client, ours))
        lines.append("")
    return "\n".join(lines).rstrip()


def _line(steps: int, these: pd.DataFrame, client: str, ours: pd.DataFrame) -> str:
    shares = ", ".join(f"{100 * share:+.1f}%" for share in these["above"])
    training, whole = these["training_s"].mean(), these["processor_s"].mean()
    times = ("", "")
    if client != "ours" and len(ours):
        times = (f" ({training / ours['training_s'].mean():.1f} x)", f" ({whole / ours['processor_s'].mean():.1f} x)")
    return (
        f"| {steps:,} | {NAMES[client]} | {these['cost'].mean():.4g} | {100 * these['above'].mean():+.1f}% ({shares}) "
        f"| {training:.1f}{times[0]} | {whole:.1f}{times[1]} |"
    )


def draw_clients(rows: pd.DataFrame, path: Path) -> None:
    """Write PNG and SVG: a row of axes per size, left against decisions, right against seconds of a core."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from edgemarl.launch.report.figures import save

    sizes = list(rows["devices"].unique())
    with own_style(STYLE):
        figure = Figure(layout="constrained", figsize=(8.6, 0.9 + 3.0 * len(sizes)))
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(sizes), 2, squeeze=False, sharey="row")
        for line, devices in zip(axes, sizes, strict=True):
            of_size = rows[rows["devices"] == devices]
            for i, client in enumerate(CLIENTS):
                curve = _curve(of_size[of_size["client"] == client], client in TOLD)
                if len(curve):
                    _draw_curve(line, curve, NAMES[client], MARKERS[i], PALETTE[i])
            _label(line, of_size)
        named = {
            name: handle
            for place in axes[:, 0]
            for handle, name in zip(*place.get_legend_handles_labels(), strict=True)
        }
        shown = [NAMES[client] for client in CLIENTS if NAMES[client] in named]
        figure.legend([named[name] for name in shown], shown, loc="outside lower center", ncols=3, fontsize=9)
        save(figure, path)


def _curve(rows: pd.DataFrame, by_budget: bool) -> pd.DataFrame:
    """Means over seeds of what was spent and of the share above the reference, with its extremes.

    Of clients that are told their budget the ends of their trainings, one per budget.
    """
    if by_budget and len(rows):
        rows = rows.groupby(["budget", "seed"], sort=False).last().reset_index()
    groups = rows.groupby("decisions")
    these = groups[["processor_s", "above"]].mean()
    these["low"], these["high"] = groups["above"].min(), groups["above"].max()
    return these.reset_index()


def _draw_curve(axes: Any, curve: pd.DataFrame, name: str, marker: str, colour: str) -> None:
    shares = 100 * curve["above"]
    bars = 100 * np.stack([curve["above"] - curve["low"], curve["high"] - curve["above"]])
    for place, spent in zip(axes, ("decisions", "processor_s"), strict=True):
        place.errorbar(
            curve[spent], shares, yerr=bars, color=colour, marker=marker, ms=5, lw=1.6, elinewidth=1, label=name
        )


def _label(axes: Any, rows: pd.DataFrame) -> None:
    """Logarithmic axes with plain numbers; below 1% linear where a policy costs as little as the reference."""
    devices, scenario = int(rows["devices"].iloc[0]), rows["scenario"].iloc[0]
    least, most = 100 * float(rows["above"].min()), 100 * float(rows["above"].max())
    axes[0].set_title(f"{scenario}, {devices} devices" if devices else scenario, loc="left")
    axes[0].set_ylabel(f"% above {rows['reference'].iloc[0]}")
    if least > FLAT:
        axes[0].set_yscale("log")
        axes[0].set_ylim(0.8 * least, 1.25 * most)
    else:
        axes[0].set_yscale("symlog", linthresh=1.0)
        axes[0].set_ylim(min(0.0, 1.1 * least), 1.25 * most)
    _ticks(axes[0].yaxis, [tick for tick in SHARE_TICKS if least < tick < 1.25 * most])
    for place, spent, label in zip(axes, ("decisions", "processor_s"), SPENT, strict=True):
        place.set_xscale("log")
        low, high = 0.85 * float(rows[spent].min()), 1.15 * float(rows[spent].max())
        place.set_xlim(low, high)
        steps = (1, 3) if spent == "decisions" else (1, 2, 5)
        _ticks(place.xaxis, [t * 10**power for power in range(8) for t in steps if low < t * 10**power < high])
        place.set_xlabel(label)


def _ticks(axis: Any, ticks: Sequence[float]) -> None:
    axis.set_ticks(ticks, [f"{tick:,g}" if tick < 1000 else f"{tick:,.0f}" for tick in ticks])
    axis.set_ticks([], minor=True)
