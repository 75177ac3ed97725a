"""The pictures of a replay: a panel per controller, and below them what each costs so far."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

import edgemarl.launch.replay.shapes as shapes
from edgemarl.envs.arrays import Array
from edgemarl.launch.replay.portraits import portrait_for
from edgemarl.launch.replay.recording import Recording

COLOURS = (shapes.BLUE, shapes.RED)
PANEL_INCHES, HEIGHT_INCHES, DPI = 4.6, 4.9, 100


class Film:
    """The pictures of one or two recordings on the same trace.

    Args:
        recordings: one per controller, equally long.
        first: slot of the first picture; earlier ones count in the cost so far.

    Raises:
        ValueError: none or more than two recordings, of different length, none of whose slots would be seen.
    """

    def __init__(self, recordings: Sequence[Recording], first: int = 0) -> None:
        if len(recordings) not in (1, 2):
            raise ValueError(f"a replay shows one controller or two side by side, got {len(recordings)}")
        slots = {len(recording.moments) for recording in recordings}
        if len(slots) > 1 or not 0 <= first < min(slots):
            raise ValueError(f"first = {first} is not legal: must be >= 0 and < {min(slots)} slots")
        self.recordings, self.first, self.slots = list(recordings), first, slots.pop()
        self.title = recordings[0].scenario.title
        self.portraits = [portrait_for(recording.scenario) for recording in recordings]
        self.caption = self.portraits[0].CAPTION
        self.costs = [recording.costs() for recording in recordings]

    def __len__(self) -> int:
        return self.slots - self.first

    def said(self, i: int) -> str:
        """What picture i shows, in words."""
        t = self.first + i
        costs = ", ".join(f"{r.controller} {c[t]:.4g}" for r, c in zip(self.recordings, self.costs, strict=True))
        return f"slot {t + 1} of {self.slots}; {self.recordings[0].scenario.cost_label} so far: {costs}"

    def pictures(self) -> Iterator[Array]:
        """RGB pictures (H, W, 3) uint8, one per slot."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        count = len(self.recordings)
        width = PANEL_INCHES * count if count > 1 else 6.2
        figure = Figure(figsize=(width, HEIGHT_INCHES), dpi=DPI, facecolor="white")
        canvas = FigureCanvasAgg(figure)
        for t in range(self.first, self.slots):
            figure.clear()
            self._draw(figure, t, width)
            canvas.draw()
            yield np.asarray(canvas.buffer_rgba())[..., :3].copy()

    def _draw(self, figure: Any, t: int, width: float) -> None:
        figure.text(0.02, 0.955, self.title, fontsize=11, weight="bold", color=shapes.INK, va="center")
        count = len(self.recordings)
        for i, (recording, portrait) in enumerate(zip(self.recordings, self.portraits, strict=True)):
            axes = figure.add_axes((i / count, 0.29, 1.0 / count, 0.61))
            axes.set(xlim=(0, 1), ylim=(0, 1))
            axes.set_axis_off()
            shapes.text(axes, 0.5, 1.0, recording.controller, size=10.5, colour=COLOURS[i], weight="bold")
            portrait.draw(axes, recording.moments[t], recording.scenario)
        self._draw_costs(figure, t)
        words = textwrap.wrap(self.caption, int(15.5 * width))
        figure.text(0.02, 0.012, "\n".join(words[:3]), fontsize=7.5, color=shapes.SOFT, va="bottom", linespacing=1.25)

    def _draw_costs(self, figure: Any, t: int) -> None:
        """The mean cost so far of every controller."""
        axes = figure.add_axes((0.07, 0.13, 0.62, 0.1))
        shown = np.concatenate([costs[self.first :] for costs in self.costs])
        low, high = float(shown.min()), float(shown.max())
        room = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
        axes.set(xlim=(self.first, max(self.slots, self.first + 2)), ylim=(low - room, high + room))
        for i, (recording, costs) in enumerate(zip(self.recordings, self.costs, strict=True)):
            slots = np.arange(self.first, t + 1)
            axes.plot(slots, costs[self.first : t + 1], color=COLOURS[i], lw=1.6, ls=("-", "--")[i])
            axes.plot(t, costs[t], "os"[i], color=COLOURS[i], ms=4)
            words = f"{recording.controller[:22]}: {costs[t]:.4g}"
            figure.text(
                0.715,
                0.21 - 0.045 * i,
                words,
                fontsize=8.5 if len(self.recordings) > 1 else 7.5,
                color=COLOURS[i],
                weight="bold",
                va="center",
            )
        figure.text(0.715, 0.115, f"slot {t + 1} of {self.slots}", fontsize=8.5, color=shapes.SOFT, va="center")
        axes.xaxis.get_major_locator().set_params(integer=True)
        label = f"{self.recordings[0].scenario.cost_label}, mean so far"
        axes.set_title(label, fontsize=8, color=shapes.INK, loc="left", pad=2)
        axes.tick_params(labelsize=7, length=2)
        axes.spines[["top", "right"]].set_visible(False)
