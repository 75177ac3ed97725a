"""Figure of `check memory`: resident memory and open descriptors against time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgemarl.launch.report.looks import PALETTE
from edgemarl.launch.report.style import STYLE, own_style

if TYPE_CHECKING:
    import pandas as pd


HEADROOM = 1.2
"""Height of an axis over the largest value that it shows."""


def draw_memory(rows: pd.DataFrame, file: Path) -> None:
    """Two panels, one below the other."""
    from matplotlib.figure import Figure

    with own_style(STYLE):
        figure = Figure(figsize=(7.0, 4.0), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True)
        minutes = rows["time_s"] / 60.0
        above.plot(minutes, rows["resident_mib"], color=PALETTE[0])
        above.set(ylabel="resident memory [MiB]", ylim=(0.0, HEADROOM * rows["resident_mib"].max()))
        below.plot(minutes, rows["descriptors"], color=PALETTE[1], label="open descriptors")
        below.plot(minutes, rows["threads"], color=PALETTE[2], label="threads")
        below.set(xlabel="time [min]", ylim=(0.0, HEADROOM * rows[["descriptors", "threads"]].to_numpy().max()))
        below.legend()
        figure.savefig(file)
