"""Speed of the sampling-rate step, against a per-device Python loop of the same equations, and of its exact optimum."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgemarl.agents.sampling_rate.reference import JointMyopic
from edgemarl.envs.scenarios.sampling_rate import SamplingRate
from edgemarl.envs.scenarios.sampling_rate.config import default_config, scaled
from edgemarl.marl.benchmarks.sequential_offloading import best_seconds

SLOTS = 10


class SamplingSlots:
    """A few slots in mid-episode with random decisions, ready to be stepped and solved again and again.

    Args:
        cells: B.
        devices: N, half of them per service.
    """

    def __init__(self, cells: int, devices: int) -> None:
        self.scenario = SamplingRate(scaled(default_config(), (devices // 2, devices - devices // 2)))
        rng = np.random.default_rng(0)
        self.trace = self.scenario.sample_trace(rng, cells, SLOTS)
        state = self.scenario.initial_state(self.trace)
        self.parts: list[tuple[Any, Any, Any]] = []
        for t in range(SLOTS):
            exogenous = self.scenario.exogenous(self.trace, t)
            decisions = self.scenario.decisions_of(
                rng.integers(0, 2 * self.scenario.config.num_rates, (cells, devices))
            )
            self.parts.append((state, decisions, exogenous))
            state = self.scenario.step(state, decisions, exogenous).state

    def step(self) -> None:
        for state, decisions, exogenous in self.parts:
            self.scenario.step(state, decisions, exogenous)

    def loop(self) -> None:
        state, decisions, exogenous = self.parts[-1]
        for b in range(self.trace.cells):
            step_cell_by_loop(self.scenario, state, decisions, exogenous, b)

    def solve(self) -> None:
        controller, rng = JointMyopic(), np.random.default_rng(0)
        controller.reset(self.scenario, self.trace)
        for state, _, exogenous in self.parts:
            controller.decide(state, exogenous, rng)


def step_cell_by_loop(
    scenario: SamplingRate, state: Any, decisions: Any, exogenous: Any, b: int
) -> tuple[list[float], list[float], list[float]]:
    """One cell's slot with optimal shares, device by device in plain Python: device queues, server queues, costs."""
    c = scenario.config
    groups, first = [], 0
    for size in c.devices_per_service:
        groups.append(range(first, first + size))
        first += size
    band = c.bandwidth_hz / c.num_devices
    batch, sent, rate, accuracy = [], [], [], []
    for n in range(c.num_devices):
        m = int(scenario.service[n])
        level, local = int(decisions.rate_level[b, n]), int(decisions.local[b, n])
        batch.append(float(exogenous.arrival_rate[b, n]) * c.raw_task_bits[m] * level / c.num_rates)
        sent.append(0.0 if local else batch[n])
        snr = c.transmit_power_w * float(exogenous.channel_gain[b, n])
        rate.append(band * math.log2(1 + snr / (c.noise_figure * c.noise_density_w_per_hz * band)))
        factor = c.device_model_accuracy[m] if local else c.server_model_accuracy[m]
        accuracy.append(c.rate_accuracy[level - 1] * factor)
    offloaded = [sum(sent[n] for n in group) for group in groups]
    backlog = [float(q) for q in state.server_queue_bits[b]]
    roots = [
        math.sqrt(c.server_cycles_per_bit[m] * ((len(g) + 1) / 2 * offloaded[m] + len(g) * backlog[m]))
        for m, g in enumerate(groups)
    ]
    shares = [root / sum(roots) if sum(roots) else 1 / len(groups) for root in roots]
    device_queues, server_queues, costs, overflows = [], [], [], 0
    for m, group in enumerate(groups):
        seconds = c.server_cycles_per_bit[m] / (shares[m] * c.server_hz) if shares[m] else 0.0
        price = float(state.accuracy_deficit[b, m]) / len(group)
        for n in group:
            local, queue = int(decisions.local[b, n]), float(state.device_queue_bits[b, n])
            delay = local * c.device_cycles_per_bit[m] * (queue + batch[n]) / c.device_hz + sent[n] / rate[n]
            delay += seconds * (sent[n] + backlog[m] + (offloaded[m] - sent[n]) / 2)
            left = max(0.0, queue + local * batch[n] - c.device_hz * c.slot_s / c.device_cycles_per_bit[m])
            delay += c.overflow_penalty_s * (left > c.device_queue_limit_bits)
            device_queues.append(min(left, c.device_queue_limit_bits))
            costs.append(c.balance_per_s * delay + price * (c.accuracy_target[m] - accuracy[n]))
        left = max(0.0, backlog[m] + offloaded[m] - shares[m] * c.server_hz * c.slot_s / c.server_cycles_per_bit[m])
        overflows += left > c.server_queue_limit_bits
        server_queues.append(min(left, c.server_queue_limit_bits))
    costs.append(c.balance_per_s * c.overflow_penalty_s * overflows)
    return device_queues, server_queues, costs


def speeds() -> dict[str, float]:
    """Device-steps per second of the batched step with all metrics, and decisions per second of the exact optimum.

    Keys: `sampling_rate_device_steps_per_s` (64 cells x 100 devices), `sampling_rate_step_speedup_vs_loop` (64 x 100),
    `joint_myopic_decisions_per_s` (cells decided per second, 64 x 10), `joint_myopic_decisions_per_s_200_devices`
    (16 x 200).
    """
    batch, small, large = SamplingSlots(64, 100), SamplingSlots(64, 10), SamplingSlots(16, 200)
    batch_s = best_seconds(batch.step, 100) / SLOTS
    return {
        "sampling_rate_device_steps_per_s": 64 * 100 / batch_s,
        "sampling_rate_step_speedup_vs_loop": best_seconds(batch.loop, 3) / batch_s,
        "joint_myopic_decisions_per_s": 64 * SLOTS / best_seconds(small.solve, 30),
        "joint_myopic_decisions_per_s_200_devices": 16 * SLOTS / best_seconds(large.solve, 15),
    }
