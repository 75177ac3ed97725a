"""Where each network is cut, who holds the band and the edge CPU, and how near the energy budgets are."""

from __future__ import annotations

from typing import Any

import numpy as np

import edgemarl.launch.replay.shapes as shapes
from edgemarl.envs.scenarios.model_partitioning import ModelPartitioning
from edgemarl.launch.replay.recording import Moment

CAPTION = (
    "Columns: layers of each device's network; blue: on the device, orange: at the server, cut where they meet. Beams: "
    "share of the band. Strip: shares of the edge CPU. Below: energy queue, red above its reference."
)


def draw(axes: Any, moment: Moment, scenario: ModelPartitioning) -> None:
    """One slot."""
    n = scenario.config.num_devices
    x, width = shapes.places(n)
    cut, layers = moment.detail("partition_layer"), scenario.layers
    unit = (0.46 - shapes.FLOOR - 0.05) / layers.max()
    floor = shapes.FLOOR + 0.05
    for layer in range(int(layers.max())):
        here = layers > layer
        colours = np.where(cut > layer, shapes.BLUE, shapes.ORANGE)[here]
        shapes.boxes(axes, x[here] - width / 2, floor + unit * layer, width, unit, colours)
    band = moment.detail("bandwidth_share")
    shapes.beams(axes, x, floor + unit * layers + 0.01, band, (0.5, shapes.ROOF), shapes.ORANGE, band > 0.0)
    full = np.minimum(moment.state.energy_queue[0] / scenario.queue_reference[0], 2.0) / 2.0
    shapes.boxes(axes, x - width / 2, shapes.FLOOR, width, 0.036, shapes.EMPTY, edgecolors=shapes.PALE)
    colours = np.where(full > 0.5, shapes.RED, shapes.GREEN)
    shapes.boxes(axes, x - width / 2, shapes.FLOOR, width, 0.036 * full, colours)
    shapes.numbers(axes, x, shapes.FLOOR - 0.025)
    _server(axes, moment)
    shapes.key(
        axes, [(shapes.BLUE, "layers here"), (shapes.ORANGE, "layers at the server"), (shapes.GREEN, "energy queue")]
    )


def _server(axes: Any, moment: Moment) -> None:
    share = moment.detail("edge_cpu_share")
    taking = np.flatnonzero(share > 0.0)
    shapes.stack(axes, 0.2, 0.80, 0.6, 0.07, list(share[taking]), shapes.ORANGE)
    at = 0.2 + 0.6 * (np.cumsum(share[taking]) - share[taking] / 2.0)
    for i, place in zip(taking, at, strict=True):
        if share[i] > 0.05:
            shapes.text(axes, float(place), 0.835, str(i), size=7)
    shapes.text(axes, 0.5, 0.90, f"edge CPU, shared by {len(taking)}", size=8)
    band, cpu = moment.metric("bandwidth_price"), moment.metric("edge_cpu_price")
    prices = f"price of the band {band:.3g}, of the edge CPU {cpu:.3g}"
    shapes.text(axes, 0.5, 0.95, prices, size=7.5, colour=shapes.PURPLE)
    shapes.text(axes, 0.5, 0.755, f"mean delay {1e3 * moment.metric('mean_delay_s'):.3g} ms", size=8)
