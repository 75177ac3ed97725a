"""Speed of the sequential offloading step, against a per-agent Python loop of the same equations."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from edgemarl.envs.registry import make_scenario
from edgemarl.envs.scenario import Scenario

BLOCKS = 10
ROUNDS, REPEATS = 30, 10


def best_seconds(run: Callable[[], object], repeats: int) -> float:
    """Shortest computing time of several runs, in s of this thread: the least disturbed one."""
    shortest = math.inf
    for _ in range(repeats):
        start = time.thread_time()
        run()
        shortest = min(shortest, time.thread_time() - start)
    return shortest


class TimedBlocks:
    """A few blocks in mid-episode with fixed decisions, ready to be stepped again and again."""

    def __init__(self, cells: int, devices: int) -> None:
        self.scenario: Scenario = make_scenario("sequential_offloading", num_devices=devices)
        rng = np.random.default_rng(0)
        trace = self.scenario.sample_trace(rng, cells, BLOCKS)
        config = self.scenario.config
        state = self.scenario.initial_state(trace)
        self.parts: list[tuple[Any, Any, Any]] = []
        for t in range(BLOCKS):
            work = rng.uniform(0, config.device_work_cycles_max, (cells, devices))
            decisions = self.scenario.decisions_type(work, rng.uniform(0, config.server_cpu_hz_max, cells))
            exogenous = self.scenario.exogenous(trace, t)
            self.parts.append((state, decisions, exogenous))
            state = self.scenario.step(state, decisions, exogenous).state

    def step(self) -> None:
        for state, decisions, exogenous in self.parts:
            self.scenario.step(state, decisions, exogenous)

    def loop(self) -> None:
        for state, decisions, exogenous in self.parts[:1]:
            for b in range(len(state.server_queue_cycles)):
                step_cell_by_loop(self.scenario.config, state, decisions, exogenous, b)


def step_cell_by_loop(c: Any, state: Any, decisions: Any, exogenous: Any, b: int) -> tuple[list[float], list[float]]:
    """One cell's block, device by device in plain Python: next queues and costs (the server's last)."""
    w, tol = c.task_cycles, c.residual_tolerance
    queues, costs, offloaded = [], [], 0.0
    for k in range(c.num_devices):
        queue = float(state.device_queue_cycles[b, k])
        gain = float(exogenous.channel_gain_per_w[b, k])
        work = max(0.0, min(float(decisions.local_work_cycles[b, k]), queue, c.device_work_cycles_max))
        local_j = c.device_capacitance * work**3 / c.block_s**2
        left = queue - work
        residual = left - math.floor(left / w + tol) * w
        residual = residual if residual >= tol * w else 0.0
        power = c.snr_gap / gain * (2.0 ** (c.bits_per_s_per_hz_per_cycle * residual) - 1.0)
        if power > c.transmit_power_w_max * (1 + 1e-5):
            residual = power = 0.0
        kept = left - residual
        arrived = sum(int(a) for a in exogenous.task_arrivals[b, k])
        accepted = min(arrived, max(0, math.floor(c.device_queue_tasks_max - kept / w + tol)))
        queues.append(kept + accepted * w)
        energy = c.device_energy_weight * (local_j + c.slot_s * power)
        costs.append(c.device_queue_weight * queue + energy + c.drop_cost_per_task * (arrived - accepted))
        offloaded += residual
    queue = float(state.server_queue_cycles[b])
    served = min(c.block_s * max(0.0, min(float(decisions.server_cpu_hz[b]), c.server_cpu_hz_max)), queue)
    filled = queue - served + offloaded
    kept = min(filled, c.server_queue_tasks_per_device_max * c.num_devices * w)
    energy = c.server_energy_weight * c.server_capacitance * served**3 / c.block_s**2
    costs.append(c.server_queue_weight * queue + energy + c.drop_cost_per_task * (filled - kept) / w)
    return [*queues, kept], costs


def step_speeds() -> dict[str, float]:
    """Device-steps per second of the batched step with all metrics, and its ratio to the loop.

    Keys: `device_steps_per_s` (64 cells x 100 devices), `device_steps_per_s_single` (1 x 20), `step_speedup_vs_loop`
    (64 x 100), `growth_10_to_1000` (time per device-step, 6 x 1000 over 600 x 10).
    """
    batch, single = TimedBlocks(64, 100), TimedBlocks(1, 20)
    few, many = TimedBlocks(600, 10), TimedBlocks(6, 1000)
    runs = {"batch": batch.step, "single": single.step, "few": few.step, "many": many.step, "loop": batch.loop}
    best = dict.fromkeys(runs, math.inf)
    for _ in range(ROUNDS):  # in turns, so that other work on the machine slows all of them
        for name, run in runs.items():
            best[name] = min(best[name], best_seconds(run, REPEATS if name != "loop" else 1))
    batch_s = best["batch"] / BLOCKS
    return {
        "device_steps_per_s": 64 * 100 / batch_s,
        "device_steps_per_s_single": 20 * BLOCKS / best["single"],
        "step_speedup_vs_loop": best["loop"] / batch_s,
        "growth_10_to_1000": best["many"] / best["few"],
    }
