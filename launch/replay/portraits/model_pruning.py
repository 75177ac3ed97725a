"""Critical tasks, which pruned network each gateway runs, who offloads, the server's shares, and what is dropped."""

from __future__ import annotations

from typing import Any

import numpy as np

import edgemarl.launch.replay.shapes as shapes
from edgemarl.envs.scenarios.model_pruning import ModelPruning
from edgemarl.launch.replay.recording import Moment

CAPTION = (
    "Bottom: a column per device, higher for a more critical task; blue: at its gateway, orange: offloaded, red: "
    "dropped. Middle: gateways and how much of their network is pruned away. Top: the server's shares. Beams: channel."
)
GATEWAY = 0.50
"""Height at which gateways stand."""


def draw(axes: Any, moment: Moment, scenario: ModelPruning) -> None:
    """One slot."""
    c = scenario.config
    offload = np.asarray(moment.decisions.offload[0]) != 0
    dropped = moment.detail("dropped") != 0
    x, width = shapes.places(c.num_devices)
    critical = scenario.criticality[moment.state.criticality_level[0]]
    colours = np.where(dropped, shapes.RED, np.where(offload, shapes.ORANGE, shapes.BLUE))
    shapes.boxes(axes, x - width / 2, shapes.FLOOR, width, 0.03 + 0.15 * critical, colours)
    shapes.numbers(axes, x, shapes.FLOOR - 0.025)
    size = scenario.blocks.size
    places = np.array([x[scenario.blocks.gateway == g].mean() if size[g] else np.nan for g in range(c.num_gateways)])
    _gateways(axes, moment, scenario, places, x)
    share = moment.detail("edge_share")
    shapes.stack(axes, 0.2, 0.82, 0.6, 0.07, list(share), shapes.ORANGE)
    at = 0.2 + 0.6 * (np.cumsum(share) - share / 2.0)
    for g in np.flatnonzero(share > 0.06):
        shapes.text(axes, float(at[g]), 0.855, f"{100 * share[g]:.0f}%", size=7)
    shapes.text(axes, 0.5, 0.925, "edge server, shared by the gateways that offload", size=8)
    words = f"{dropped.sum()} of {c.num_devices} tasks dropped, {offload.sum()} offloaded"
    shapes.text(axes, 0.5, 0.785, words, size=8, colour=shapes.RED if dropped.any() else shapes.INK)
    shapes.key(axes, [(shapes.BLUE, "at the gateway"), (shapes.ORANGE, "offloaded"), (shapes.RED, "dropped")])


def _gateways(axes: Any, moment: Moment, scenario: ModelPruning, places: Any, x: Any) -> None:
    c = scenario.config
    offload = np.asarray(moment.decisions.offload[0]) != 0
    there = np.flatnonzero(np.isfinite(places))
    sending = np.array([bool(offload[scenario.blocks.gateway == g].any()) for g in there])
    gain = moment.state.channel_gain[0][there] / max(c.channel_gains)
    shapes.beams(axes, places[there], GATEWAY + 0.07, gain, (0.5, 0.74), shapes.ORANGE, sending)
    half = min(0.09, 0.4 / max(len(there), 1))
    pruned = np.asarray(c.model_pruning_rates)[moment.decisions.model[0]]
    few = len(there) <= 12
    for g in there:
        mine = x[scenario.blocks.gateway == g]
        shapes.fan(axes, mine, 0.335, (float(places[g]), GATEWAY))
        shapes.boxes(axes, places[g] - half, GATEWAY, 2 * half, 0.06, shapes.EMPTY, edgecolors=shapes.PALE)
        shapes.boxes(axes, places[g] - half, GATEWAY, 2 * half * (1.0 - pruned[g]), 0.06, shapes.SKY)
        if few:
            shapes.text(axes, float(places[g]), GATEWAY + 0.03, f"-{100 * pruned[g]:.0f}%", size=7)
