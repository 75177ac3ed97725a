"""Draws one cell: devices around the base station, their backlog, their links, the server's queue, the cost."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.capabilities import Portrait, portrait_of
from edgemarl.envs.scenario import Scenario

WINDOW_BACKENDS = ("QtAgg", "TkAgg", "GTK4Agg", "GTK3Agg", "WXAgg", "MacOSX")
_INK, _SOFT, _LINK = "#1c2430", "#8b95a1", "#0072b2"
_BACKLOG = "YlOrRd"


class Canvas:
    """A figure that is drawn anew for every slot.

    Args:
        scenario: what to draw.
        window: show a window beside returning the picture.

    Raises:
        RuntimeError: a window is wanted where none can be opened.
    """

    def __init__(self, scenario: Scenario, window: bool = False) -> None:
        self.scenario, self.window = scenario, window
        self._costs: list[tuple[int, float]] = []
        size: Any = {"figsize": (9, 6), "dpi": 100, "facecolor": "white"}
        if window:
            self.figure = _window(size)
        else:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure

            self.figure = Figure(**size)
            FigureCanvasAgg(self.figure)

    def draw(self, episode: Any, step: Any) -> Array:
        """RGB array (H, W, 3) uint8 of the episode's present slot; `step` is the one that led to it, or None."""
        self._remember(episode.t, step)
        self.figure.clear()
        portraits = portrait_of(self.scenario, episode.state, episode.exogenous)
        cell = self.figure.add_axes((0.02, 0.10, 0.60, 0.80))
        self._draw_cell(cell, portraits)
        self._draw_server(self.figure.add_axes((0.80, 0.51, 0.05, 0.27)), portraits.get("server"))
        self._draw_costs(self.figure.add_axes((0.70, 0.10, 0.27, 0.27)), episode)
        self.figure.text(0.03, 0.945, self.scenario.title, fontsize=13, weight="bold", color=_INK)
        cost = f"   cost {self._costs[-1][1]:.4g}" if self._costs else ""
        self.figure.text(0.68, 0.895, f"slot {episode.t} of {episode.trace.slots}{cost}", fontsize=11, color=_INK)
        canvas: Any = self.figure.canvas
        canvas.draw()
        if self.window:
            canvas.flush_events()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()

    def close(self) -> None:
        if self.window:
            from matplotlib import pyplot

            pyplot.close(self.figure)
        self.figure.clear()

    def _remember(self, t: int, step: Any) -> None:
        self._costs = [(slot, cost) for slot, cost in self._costs if slot < t]  # a new episode starts anew
        if step is not None:
            self._costs.append((t, float(sum(cost[0].sum() for cost in step.costs.values()))))

    def _draw_cell(self, axes: Any, portraits: dict[str, Portrait]) -> None:
        from matplotlib.collections import LineCollection

        axes.set(xlim=(-1.3, 1.3), ylim=(-1.22, 1.22), aspect="equal")
        axes.set_axis_off()
        places = _places(portraits)
        for role, (points, towards) in places.items():
            portrait = portraits[role]
            strength = np.full(len(points), 0.4) if portrait.link is None else np.clip(portrait.link[0], 0.0, 1.0)
            lines: Any = np.stack([points, towards], axis=1)
            few = 1.0 if len(points) <= 60 else 0.5
            axes.add_collection(
                LineCollection(
                    lines, linewidths=few * (0.4 + 4.0 * strength), colors=_LINK, alpha=0.15 + 0.65 * strength, zorder=1
                )
            )
            # an area that leaves room between neighbours on the ring
            area = float(np.clip(6000.0 / len(points), 14.0, 320.0))
            drawn = axes.scatter(
                *points.T, c=portrait.level[0], s=area, cmap=_BACKLOG, vmin=0.0, vmax=portrait.level_full,
                marker="s" if role == "gateway" else "o", edgecolors=_INK, linewidths=0.8, zorder=3,
            )  # fmt: skip
            if len(points) <= 40:
                for i, (x, y) in enumerate(points):  # the number stands behind its agent
                    behind = 1.0 + (0.0 if role == "gateway" else 0.12 / np.hypot(x, y))
                    axes.annotate(
                        str(i), (x * behind, y * behind), ha="center", va="center", fontsize=7.5, color=_SOFT, zorder=4
                    )
            self._legend(axes, role, portrait, drawn, list(places).index(role))
        axes.scatter(0, 0, s=520, marker="^", color=_INK, zorder=4)
        back = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.8}
        axes.annotate("base station", (0, -0.15), ha="center", va="center", fontsize=8, color=_INK, zorder=5, bbox=back)

    def _legend(self, axes: Any, role: str, portrait: Portrait, drawn: Any, row: int) -> None:
        """A colour bar below the cell for each role."""
        place = self.figure.add_axes((0.05 + 0.33 * row, 0.045, 0.17, 0.018))
        bar = self.figure.colorbar(drawn, cax=place, orientation="horizontal")
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=7, length=2)
        place.set_title(f"{role}: {portrait.level_label}", fontsize=8, color=_INK, loc="left", pad=3)
        if portrait.link is not None:
            text = f"line of a {role}: {portrait.link_label}"
            self.figure.text(0.03, 0.91 - 0.025 * row, text, fontsize=8, color=_LINK)

    def _draw_server(self, axes: Any, portrait: Portrait | None) -> None:
        if portrait is None:
            axes.set_axis_off()
            return
        level = float(portrait.level[0, 0])
        top = max(portrait.level_full, level)
        axes.bar([0], [level], width=1.0, color="#d55e00" if level > portrait.level_full else _LINK)
        axes.set(xlim=(-0.5, 0.5), ylim=(0, top), xticks=[])
        axes.tick_params(labelsize=8)
        axes.set_title(f"{portrait.level_label}\n{level:.3g}", fontsize=9, color=_INK)

    def _draw_costs(self, axes: Any, episode: Any) -> None:
        slots, costs = zip(*self._costs, strict=True) if self._costs else ((), ())
        axes.plot(slots, costs, color=_LINK, lw=1.4, marker="." if len(costs) < 30 else "")
        axes.set_xlim(0, episode.trace.slots)
        if costs:
            axes.set_ylim(min(0.0, *costs), 1.1 * max(1e-9, *costs))
        axes.set_title("cost of the slot", fontsize=9, color=_INK, loc="left")
        axes.set_xlabel("slot", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e4e4e4", lw=0.7)


def _places(portraits: dict[str, Portrait]) -> dict[str, tuple[Array, Array]]:
    """Role -> (n, 2) places of its agents and (n, 2) what their links lead to; gateways stand on an inner ring."""
    places = {}
    gateways = None
    if "gateway" in portraits:
        gateways = _ring(portraits["gateway"].level.shape[1], np.full(portraits["gateway"].level.shape[1], 0.5))
        places["gateway"] = (gateways, np.zeros_like(gateways))
    if "device" in portraits:
        portrait = portraits["device"]
        n = portrait.level.shape[1]
        distance = np.ones(n) if portrait.distance is None else np.clip(portrait.distance[0], 0.0, 1.0)
        inner = 0.32 if gateways is None else 0.75
        points = _ring(n, inner + (1.08 - inner) * distance)
        # devices belong to gateways in index order, equally many to each
        towards = np.zeros_like(points) if gateways is None else gateways[np.arange(n) * len(gateways) // n]
        places["device"] = (points, towards)
    return places


def _ring(n: int, radius: Array) -> Array:
    """(n, 2) points at equal angles, half a step from the horizontal, clockwise from the right."""
    angle = -2.0 * np.pi * (np.arange(n) + 0.5) / n
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _window(size: Any) -> Any:
    """A figure in a window of whatever toolkit there is."""
    from matplotlib import pyplot

    for backend in WINDOW_BACKENDS:
        try:
            pyplot.switch_backend(backend)
        except (ImportError, RuntimeError):
            continue
        figure = pyplot.figure(**size)
        pyplot.show(block=False)
        return figure
    raise RuntimeError(
        "render_mode='human' needs a screen and one of the window toolkits Qt, Tk, GTK or wx; "
        "render_mode='rgb_array' draws without them"
    )
