"""Threshold table of `model_pruning`: a device knows its own criticality and its gateway's channel state, no more.

The table holds an offload probability per channel state and level, and a model per channel state. It is tuned
beforehand by coordinate ascent on sampled cells; gateways of one channel state are scored together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from edgemarl.agents.api import Act
from edgemarl.agents.model_pruning.rules import PruningRule, static_shares
from edgemarl.envs.arrays import Array
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.scenarios.model_pruning import (
    ModelPruning,
    ModelPruningDecisions,
    ModelPruningExogenous,
    ModelPruningState,
)
from edgemarl.envs.scenarios.model_pruning.config import ModelPruningConfig

PROBABILITIES = (0.0, 0.5, 1.0)
TUNING_GATEWAYS = 1500
PASSES = 6


@dataclass(frozen=True)
class ThresholdTable:
    offload_probability: Array  # (S, K) by channel state and level
    model: Array  # (S,)


@lru_cache(maxsize=16)
def tuned_table(config: ModelPruningConfig, fraction: float | None, seed: int = 0) -> ThresholdTable:
    """The table tuned for a config under the share rule `static(fraction)`, on common random numbers."""
    samples = _Samples(ModelPruning(config), fraction, np.random.default_rng(seed))
    states, levels = len(config.channel_gains), config.num_criticality_levels
    best: tuple[Array, ThresholdTable] | None = None
    for start in (0.5, 1.0):
        table = ThresholdTable(np.full((states, levels), start), np.zeros(states, int))
        cost, table = samples.ascend(table)
        if best is None:
            best = cost, table
        else:  # channel states do not interact: take the better start of each
            old_cost, old = best
            keep = old_cost <= cost
            best = (
                np.minimum(cost, old_cost),
                ThresholdTable(
                    np.where(keep[:, None], old.offload_probability, table.offload_probability),
                    np.where(keep, old.model, table.model),
                ),
            )
    assert best is not None
    return best[1]


class _Samples:
    """Sampled gateways, channel states equally frequent, on which tables are scored."""

    def __init__(self, network: ModelPruning, fraction: float | None, rng: np.random.Generator) -> None:
        c = network.config
        cells = -(-TUNING_GATEWAYS // c.num_gateways)
        gains = np.asarray(c.channel_gains)
        self.network, self.channel = network, rng.integers(0, len(gains), (cells, c.num_gateways))
        level = rng.integers(0, c.num_criticality_levels, (cells, c.num_devices))
        self.state = ModelPruningState(gains[self.channel], level)
        self.coin = rng.random(level.shape)
        self.share = static_shares(network, self.state.channel_gain, fraction)
        self.exogenous = ModelPruningExogenous(self.state.channel_gain, level)

    def cost(self, table: ThresholdTable) -> Array:
        """(S,) mean cost of a gateway in each channel state."""
        seen = self.channel[:, self.network.blocks.gateway]
        bits = self.coin < table.offload_probability[seen, self.state.criticality_level]
        decisions = ModelPruningDecisions(bits.astype(int), table.model[self.channel], self.share)
        cost = self.network.step(self.state, decisions, self.exogenous).details["cell_cost"]
        return np.array([cost[self.channel == s].mean() for s in range(len(table.model))])

    def ascend(self, table: ThresholdTable) -> tuple[Array, ThresholdTable]:
        """Change one entry of every channel state at a time until nothing improves."""
        cost = self.cost(table)
        for _ in range(PASSES):
            before = cost
            for level in range(table.offload_probability.shape[1]):
                for probability in PROBABILITIES:
                    trial = table.offload_probability.copy()
                    trial[:, level] = probability
                    cost, table = self._better(cost, table, ThresholdTable(trial, table.model))
            for model in range(self.network.config.num_models):
                trial_model = ThresholdTable(table.offload_probability, np.full_like(table.model, model))
                cost, table = self._better(cost, table, trial_model)
            if (cost >= before - 1e-12).all():
                break
        return cost, table

    def _better(self, cost: Array, table: ThresholdTable, trial: ThresholdTable) -> tuple[Array, ThresholdTable]:
        new = self.cost(trial)
        pick = new < cost
        return np.where(pick, new, cost), ThresholdTable(
            np.where(pick[:, None], trial.offload_probability, table.offload_probability),
            np.where(pick, trial.model, table.model),
        )


class ThresholdRole(PruningRule):
    """Devices or gateways that follow the table tuned for the server's share rule."""

    def __init__(self, role: str, fraction: float | None) -> None:
        self.role, self.fraction = role, fraction

    def reset(self, scenario: Scenario, cells: int) -> None:
        super().reset(scenario, cells)
        self.table = tuned_table(self.network.config, self.fraction)

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        if self.role == "gateway":
            return Act(self.table.model[self.channel_state(observations[..., 0])])
        seen = self.channel_state(observations[..., 1])
        probability = self.table.offload_probability[seen, self.level(observations)]
        return Act((rng.random(probability.shape) < probability).astype(int))
