"""A picture of a trace file: what was measured over time, and how often each value came."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.trace import trace_fields
from edgemarl.launch.experiment.store import replacing
from edgemarl.launch.report.style import own_style

POINTS_MAX = 1500


def check_ending(path: Path) -> None:
    """Raise `ValueError` unless a picture can be written under this name."""
    if path.suffix not in (".png", ".svg"):
        raise ValueError(f"picture {path} must end in .png or .svg")


@own_style()
def draw_trace(trace: Any, step_s: float, origins: Mapping[str, str], title: str, path: Path) -> Path:
    """Every per-slot field: the middle and the middle 80% of its entries over time, and its values' distribution."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    check_ending(path)
    kinds = {n: meta for n, meta in trace_fields(type(trace)).items() if meta["kind"] == "slot"}
    figure = Figure(figsize=(10.0, 0.8 + 2.3 * len(kinds)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(kinds), 2, squeeze=False, gridspec_kw={"width_ratios": (3.0, 1.0)})
    for (name, meta), (over_time, often) in zip(kinds.items(), grid, strict=True):
        values = getattr(trace, name).astype(float)
        shown, colour = _in_decibels(name, values), "#0072B2" if origins[name] != "drawn" else "#8A94A0"
        low, middle, high = np.quantile(_thinned(shown), (0.1, 0.5, 0.9), axis=1)
        time_s = np.linspace(0.0, trace.slots * step_s, len(middle))
        over_time.fill_between(time_s, low, high, color=colour, alpha=0.2, lw=0)
        over_time.plot(time_s, middle, color=colour, lw=1.2)
        of = "" if meta["unit"] in ("-", "power ratio") else f" over 1 {meta['unit']}"
        unit = meta["unit"] if shown is values else f"dB{of}"
        over_time.set_title(f"{name} [{unit}], {_words(origins[name])}", loc="left", fontsize=10)
        often.hist(shown[np.isfinite(shown)], bins=40, color=colour, orientation="horizontal")
        often.set_xticks([])
        often.sharey(over_time)
        for axes in (over_time, often):
            axes.spines[["top", "right"]].set_visible(False)
    grid[-1, 0].set_xlabel("time [s]")
    figure.suptitle(title.replace("$", r"\$"), x=0.01, ha="left", fontsize=11)
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=110)
    return path


def _words(origin: str) -> str:
    return {"file": "from the file", "derived": "derived", "drawn": "drawn (not in the file)"}[origin]


def _in_decibels(name: str, values: Array) -> Array:
    """Gains, which spread over decades, in dB; a gain of 0 has none."""
    if "gain" not in name:
        return values
    return np.asarray(10.0 * np.log10(np.where(values > 0.0, values, values[values > 0.0].min(initial=1.0))))


def _thinned(values: Array) -> Array:
    """(T, n) with at most `POINTS_MAX` slots: means of neighbours."""
    flat = values.reshape(len(values), -1)
    width = -(-len(flat) // POINTS_MAX)
    return flat[: len(flat) // width * width].reshape(-1, width, flat.shape[1]).mean(axis=1)
