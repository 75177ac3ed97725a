"""What it costs that a device does not know the others' fading and load when it chooses its cut."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from edgemarl.agents.model_partitioning.reference import CutProblem, slot_optimum
from edgemarl.envs.arrays import Array
from edgemarl.envs.scenarios.model_partitioning import (
    ModelPartitioning,
    ModelPartitioningDecisions,
    ModelPartitioningExogenous,
)
from edgemarl.envs.scenarios.model_partitioning.config import ModelPartitioningConfig

DRAWS, OTHERS, SWEEPS, SLOTS = 160, 100, 5, 1200


def price_of_locality(config: ModelPartitioningConfig, queue: float) -> dict[str, float]:
    """One-slot objective of local policies that are best replies to each other, above the exact slot optimum.

    All queues are fixed and known to everybody; a device sees its own fading and load, the slot optimum sees all. Each
    device in turn takes, for each of 160 draws of its own, the cut with the least mean objective over 100 draws of the
    others under their present policies, five times round. Best replies need not be the best team, and what others did
    in past slots tells nothing here, since fading and loads are drawn anew: whoever does better in a slot knows more.

    Args:
        config: the cell, at most six devices.
        queue: energy queues as devices see them, in multiples of the queue at which the budget costs as much as the
            delay of local execution.

    Returns:
        `queue`; `local` and `central` objectives per slot; `excess` of the local one and `error`, half its 95%
        interval; `offload_ratio` and `central_offload_ratio`.
    """
    cell = _Cell(ModelPartitioning(config), queue)
    rng = np.random.default_rng(0)
    pool = cell.draw(rng, DRAWS)
    rows = rng.integers(0, DRAWS, (SLOTS, config.num_devices))  # a device's draw each: independent, as in the scenario
    slots = _picked(pool, rows)
    best, central = slot_optimum(CutProblem.of(cell.scenario, cell.state(SLOTS), slots))
    policies = np.broadcast_to(cell.scenario.layers, (DRAWS, config.num_devices)).copy()
    choices = [np.unique(best[:, n]) for n in range(config.num_devices)]
    for _ in range(SWEEPS):
        for n, cuts in enumerate(choices):
            policies[:, n] = cell.best_reply(pool, policies, n, cuts, rng)
    cut = np.take_along_axis(policies, rows, axis=0)
    local = cell.objective(cut, slots)
    difference = local - central
    return {
        "queue": queue,
        "local": float(local.mean()),
        "central": float(central.mean()),
        "excess": float(difference.mean() / central.mean()),
        "error": float(1.96 * difference.std(ddof=1) / np.sqrt(SLOTS) / central.mean()),
        "offload_ratio": float((cut < cell.scenario.layers).mean()),
        "central_offload_ratio": float((best < cell.scenario.layers).mean()),
    }


def _picked(pool: Any, rows: Array) -> ModelPartitioningExogenous:
    """Slots whose device n has draw rows[:, n] of the pool."""
    return ModelPartitioningExogenous(
        *(np.take_along_axis(values, rows, axis=0) for values in (pool.channel_gain, pool.arrival_rate_hz))
    )


class _Cell:
    """One-slot objectives of a cell with fixed queues."""

    def __init__(self, scenario: ModelPartitioning, queue: float) -> None:
        self.scenario = scenario
        self.energy_queue = queue * scenario.queue_reference[0]
        self._first = scenario.initial_state(scenario.sample_trace(np.random.default_rng(0), 1, 1))

    def draw(self, rng: np.random.Generator, slots: int) -> Any:
        return self.scenario.exogenous(self.scenario.sample_trace(rng, slots, 1), 0)

    def state(self, slots: int) -> Any:
        """The cell in a slot with these queues, `slots` times."""
        one = dataclasses.replace(self._first, energy_queue=self.energy_queue[None])
        fields = {f.name: getattr(one, f.name) for f in dataclasses.fields(one)}
        return type(one)(**{name: np.broadcast_to(v, (slots, *v.shape[1:])) for name, v in fields.items()})

    def objective(self, cut: Array, exogenous: Any) -> Array:
        """(B,) objectives of cuts (B, N)."""
        step = self.scenario.step(self.state(len(cut)), ModelPartitioningDecisions(cut), exogenous)
        return np.asarray(step.metrics["objective"])

    def best_reply(self, pool: Any, policies: Array, n: int, cuts: Array, rng: np.random.Generator) -> Array:
        """(DRAWS,) the cut of device n for each of its draws that is best on average over draws of the others."""
        if len(cuts) == 1:
            return np.full(DRAWS, cuts[0])
        devices = policies.shape[1]
        others = rng.integers(0, DRAWS, (OTHERS, devices))
        rows = np.broadcast_to(others, (DRAWS, OTHERS, devices)).copy()
        rows[..., n] = np.arange(DRAWS)[:, None]
        rows = rows.reshape(-1, devices)
        slots, taken = _picked(pool, rows), np.take_along_axis(policies, rows, axis=0)
        means = []
        for cut in cuts:
            taken[:, n] = cut
            means.append(self.objective(taken, slots).reshape(DRAWS, OTHERS).mean(axis=1))
        return np.asarray(cuts[np.argmin(means, axis=0)])
