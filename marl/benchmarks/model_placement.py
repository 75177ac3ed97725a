"""Speed of the model placement step and of its reference plan."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgemarl.agents.model_placement.reference import PlanController
from edgemarl.envs.scenarios.model_placement import ModelPlacement, ModelPlacementConfig, scaled
from edgemarl.marl.benchmarks.sequential_offloading import best_seconds

SLOTS = 8


class PlacementSlots:
    """A few slots in mid-episode under random decisions, ready to be stepped again and again."""

    def __init__(self, config: ModelPlacementConfig, cells: int) -> None:
        self.scenario = ModelPlacement(config)
        self.cells = cells
        rng = np.random.default_rng(0)
        self.trace = self.scenario.sample_trace(rng, cells, SLOTS)
        state = self.scenario.initial_state(self.trace)
        self.parts: list[tuple[Any, Any, Any]] = []
        n, g = config.num_devices, config.num_gateways
        for t in range(SLOTS):
            exogenous = self.scenario.exogenous(self.trace, t)
            raw = {
                "device": rng.integers(0, 2, (cells, n, 2)),
                "gateway": rng.uniform(-1.0, 1.0, (cells, g, 4 * config.devices_per_gateway)),
                "server": rng.uniform(-1.0, 1.0, (cells, 1, 4 * n)),
            }
            decisions = self.scenario.decode(state, raw, exogenous)
            self.parts.append((state, decisions, exogenous))
            state = self.scenario.step(state, decisions, exogenous).state

    def step(self) -> None:
        for state, decisions, exogenous in self.parts:
            self.scenario.step(state, decisions, exogenous)

    def device_step_s(self, repeats: int) -> float:
        """Seconds per device and slot, the shortest of several runs."""
        return best_seconds(self.step, repeats) / (SLOTS * self.cells * self.scenario.config.num_devices)


def plan_seconds(config: ModelPlacementConfig, repeats: int) -> float:
    """Seconds in which the plan decides one slot of one cell."""
    scenario = ModelPlacement(config)
    rng = np.random.default_rng(0)
    trace = scenario.sample_trace(rng, 1, 1)
    controller = PlanController("used")
    controller.reset(scenario, trace)
    state, exogenous = scenario.initial_state(trace), scenario.exogenous(trace, 0)
    return best_seconds(lambda: controller.decide(state, exogenous, rng), repeats)


def placement_speeds() -> dict[str, float]:
    """Keys: `placement_device_steps_per_s` (16 cells x 350 devices, metrics included),
    `placement_growth_10_to_700` (time per device-step, 4 x 700 devices over 280 x 10), `placement_plan_ms_per_slot`
    (one cell of 350 devices)."""
    growth = PlacementSlots(scaled(20, 35), 4).device_step_s(20) / PlacementSlots(scaled(2, 5), 280).device_step_s(20)
    return {
        "placement_device_steps_per_s": 1.0 / PlacementSlots(ModelPlacementConfig(), 16).device_step_s(20),
        "placement_growth_10_to_700": growth,
        "placement_plan_ms_per_slot": 1e3 * plan_seconds(ModelPlacementConfig(), 10),
    }
