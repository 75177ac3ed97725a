"""Exhaustive search of `model_pruning` over shares on a grid: the optimum that Fig. 8 of the paper compares with.

All offload patterns, models and splits of the server in whole units are covered: given its units, a gateway is planned
exactly, and the units are handed out by a dynamic programme over the gateways.
"""

from __future__ import annotations

import numpy as np

from edgemarl.agents.api import CentralController
from edgemarl.agents.model_pruning.gateway_plans import CellPlanner, GatewayTasks, offload_bits
from edgemarl.envs.arrays import Array
from edgemarl.envs.physics.layout import rank_within
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.scenarios.model_pruning import (
    ModelPruning,
    ModelPruningDecisions,
    ModelPruningExogenous,
    ModelPruningState,
    ModelPruningTrace,
)


class ShareGridSearch(CentralController):
    """The best decisions with shares in multiples of 1/units, a sum of 1, and none for a gateway that sends nothing.

    Args:
        units: parts of the server.
        models: indices of the pruned models that may be used; default all of them.
        name: name in tables.
    """

    def __init__(self, units: int = 20, models: tuple[int, ...] | None = None, name: str = "share_grid") -> None:
        if units < 1:
            raise ValueError(f"units = {units} is not legal: must be an integer >= 1")
        self.units, self.models, self.name = units, models, name

    def reset(self, scenario: Scenario, trace: ModelPruningTrace) -> None:
        super().reset(scenario, trace)
        assert isinstance(scenario, ModelPruning)
        self.network, self.planner = scenario, CellPlanner(scenario, self.models)

    def decide(
        self, state: ModelPruningState, exogenous: ModelPruningExogenous, rng: np.random.Generator
    ) -> ModelPruningDecisions:
        network, units = self.network, np.arange(self.units + 1)
        histogram, uplink = network.histogram(state.criticality_level), network.uplink(state.channel_gain)
        edge_s = np.broadcast_to(network.edge_task_s(units / self.units), (*histogram.shape[:2], len(units)))
        busy = (units > 0) & (not network.config.allow_idle_edge_share)
        plans = self.planner.plan(GatewayTasks.of(histogram, uplink, edge_s, busy))
        value = plans.value.reshape(edge_s.shape).copy()
        value[..., 1:][~histogram.any(axis=2) & bool(busy.any())] = -np.inf  # nothing to send: no share
        chosen = _handed_out(value)[..., None]
        model = np.take_along_axis(plans.model.reshape(edge_s.shape), chosen, axis=2)[..., 0]
        sent = plans.sent.reshape(*edge_s.shape, -1)
        sent = np.take_along_axis(sent, chosen[..., None], axis=2)[:, :, 0]
        level = state.criticality_level
        rank = rank_within(network.blocks.class_key(level, histogram.shape[2]))
        return ModelPruningDecisions(offload_bits(network, level, rank, sent), model, chosen[..., 0] / self.units)


def _handed_out(value: Array) -> Array:
    """(B, G) units per gateway that maximise the sum of value (B, G, U+1) when all U units, or none, are handed out."""
    cells, gateways, choices = value.shape
    total = np.full((cells, choices), -np.inf)
    total[:, 0] = 0.0
    steps = []
    for g in range(gateways):
        trial = np.full((cells, choices, choices), -np.inf)  # (units so far, of which to g)
        for n in range(choices):
            trial[:, n:, n] = total[:, : choices - n] + value[:, g, n : n + 1]
        steps.append(trial.argmax(axis=2))
        total = trial.max(axis=2)
    left = np.where(total[:, -1] >= total[:, 0], choices - 1, 0)
    taken = np.zeros((cells, gateways), int)
    for g in range(gateways - 1, -1, -1):
        taken[:, g] = steps[g][np.arange(cells), left]
        left = left - taken[:, g]
    return taken
