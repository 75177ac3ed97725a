"""Draws one cell: devices around the base station, their backlog, their links, the server's queue."""

from __future__ import annotations

from typing import Any

import numpy as np

from envs.api import Array, Scenario


class Canvas:
    """A figure that is drawn anew for every slot.

    Args:
        scenario: what to draw.
        window: show a window beside returning the picture.
    """

    def __init__(self, scenario: Scenario, window: bool = False) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.scenario, self.window = scenario, window
        self.figure = Figure(figsize=(8, 6), dpi=100)
        self.agg = FigureCanvasAgg(self.figure)

    def draw(self, episode: Any, step: Any) -> Array:
        """RGB array (H, W, 3) uint8 of the episode's present slot."""
        self.figure.clear()
        axes = self.figure.add_subplot()
        rows = self.scenario.observe(episode.state, episode.exogenous)
        for name, values in rows.items():
            axes.plot(values[0, :, 0], "o", label=name)
        axes.set_title(f"{self.scenario.title}, slot {episode.t}")
        axes.legend()
        self.agg.draw()
        return np.asarray(self.agg.buffer_rgba())[..., :3].copy()

    def close(self) -> None:
        self.figure.clear()
