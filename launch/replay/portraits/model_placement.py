"""Which models are cached where, where each task runs and with which model, and whether it makes its deadline."""

from __future__ import annotations

from typing import Any

import numpy as np

import edgemarl.launch.replay.shapes as shapes
from edgemarl.envs.scenarios.model_placement import ModelPlacement
from edgemarl.launch.replay.recording import Moment

CAPTION = (
    "Bottom: a column per device, tall: heavy model, short: light one; blue: run at its gateway, orange: at the "
    "server, red: missed. Grids: models in the caches of gateways (and how full they are) and server, a column per "
    "device, dark: heavy."
)
GATEWAY = 0.42
"""Height at which gateways stand."""


def draw(axes: Any, moment: Moment, scenario: ModelPlacement) -> None:
    """One slot."""
    c = scenario.config
    local = (np.asarray(moment.decisions.local[0]) != 0).reshape(-1)
    heavy = (np.asarray(moment.decisions.heavy[0]) != 0).reshape(-1)
    done = moment.detail("done").reshape(-1)
    x, width = shapes.places(c.num_devices)
    colours = np.where(done, np.where(local, shapes.BLUE, shapes.ORANGE), shapes.RED)
    shapes.boxes(axes, x - width / 2, shapes.FLOOR, width, np.where(heavy, 0.16, 0.08), colours)
    shapes.numbers(axes, x, shapes.FLOOR - 0.025)
    middles = x.reshape(c.num_gateways, -1).mean(axis=1)
    for mine, middle in zip(x.reshape(c.num_gateways, -1), middles, strict=True):
        shapes.fan(axes, mine, 0.30, (middle, GATEWAY))
    relayed = (~local).reshape(c.num_gateways, -1).sum(axis=1)
    efficiency = scenario.gateway_efficiency(moment.exogenous)[0] / c.spectral_efficiency_scale
    shapes.beams(axes, middles, GATEWAY + 0.12, efficiency, (0.5, 0.72), shapes.ORANGE, relayed > 0)
    _caches(axes, moment, scenario, x, width)
    words = f"{done.sum()} of {c.num_devices} tasks in time, mean accuracy {moment.metric('mean_accuracy'):.3f}"
    shapes.text(axes, 0.5, 0.945, words, size=8.5)
    shapes.key(axes, [(shapes.BLUE, "at the gateway"), (shapes.ORANGE, "at the server"), (shapes.RED, "missed")])


def _caches(axes: Any, moment: Moment, scenario: ModelPlacement, x: Any, width: float) -> None:
    """A cell per device and level, light below heavy: full where the model is in the cache."""
    c = scenario.config
    used_gateway, used_edge = scenario.used_bits(moment.state, moment.exogenous)
    grids = (
        (moment.state.cached_gateway[0].reshape(-1, 2), GATEWAY + 0.01),
        (moment.state.cached_edge[0].reshape(-1, 2), 0.79),
    )
    for cached, bottom in grids:
        for level, colour in ((0, shapes.SKY), (1, shapes.INK)):
            colours = np.where(cached[:, level] != 0, colour, shapes.EMPTY)
            shapes.boxes(axes, x - width / 2, bottom + 0.04 * level, width, 0.036, colours, edgecolors=shapes.PALE)
    for g, middle in enumerate(x.reshape(c.num_gateways, -1).mean(axis=1)):
        filled = f"{100 * used_gateway[0, g] / c.gateway_cache_bits:.0f}%"
        words = f"gateway {g}: cache {filled} full" if c.num_gateways <= 3 else filled
        shapes.text(axes, float(middle), GATEWAY + 0.105, words, size=7)
    filled = 100 * used_edge[0] / c.edge_cache_bits
    shapes.text(axes, 0.5, 0.89, f"edge server: cache {filled:.0f}% full", size=8)
