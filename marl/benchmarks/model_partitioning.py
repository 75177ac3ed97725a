"""Speed of the model partitioning step, of its bandwidth solver against cvxpy, and of the exact slot optimum."""

from __future__ import annotations

import dataclasses

import numpy as np

from edgemarl.agents.registry import make_policy
from edgemarl.envs.arrays import Array
from edgemarl.envs.physics.allocation import fdma_shares
from edgemarl.envs.physics.radio import fdma_rate_bps
from edgemarl.envs.registry import make_scenario
from edgemarl.marl.benchmarks.sequential_offloading import best_seconds

ALLOCATIONS = 2000
DEVICES = 5
CVXPY_SOLVES = 20


def bandwidth_instances(count: int, devices: int) -> tuple[Array, Array]:
    """Weights and signal-to-noise ratios (count, devices) as the scenario meets them: psi of any cut, any fading."""
    rng = np.random.default_rng(0)
    weight = 10.0 * rng.uniform(6e4, 5e6, (count, devices)) * (1.0 + rng.exponential(1.0, (count, devices)))
    return weight, 80.0 * np.maximum(rng.exponential(1.0, (count, devices)), 0.01)


def allocation_speeds() -> dict[str, float]:
    """`bandwidth_allocations_per_s` of 5 devices, and `bandwidth_speedup_vs_cvxpy`, the ratio to cvxpy with Clarabel.

    cvxpy gets its best case: the problem is compiled once with parameters (DPP) and scaled to the unit of its weights.
    The largest relative difference of the two objectives is `bandwidth_cvxpy_difference`.
    """
    import cvxpy  # an extra of the tests and benchmarks

    weight, snr = bandwidth_instances(ALLOCATIONS, DEVICES)
    c, s = cvxpy.Parameter(DEVICES, pos=True), cvxpy.Parameter(DEVICES, pos=True)
    share, filled = cvxpy.Variable(DEVICES, pos=True), cvxpy.Variable(DEVICES, pos=True)
    nats = -cvxpy.rel_entr(share, filled)  # alpha ln((alpha + s)/alpha)
    problem = cvxpy.Problem(
        cvxpy.Minimize(cvxpy.sum(cvxpy.multiply(c, cvxpy.inv_pos(nats)))),
        [cvxpy.sum(share) == 1, filled == share + s],
    )
    optimum = np.empty(CVXPY_SOLVES)

    def solve_all() -> None:
        for i in range(CVXPY_SOLVES):
            scale = weight[i].mean()
            c.value, s.value = weight[i] / scale, snr[i]
            problem.solve(solver=cvxpy.CLARABEL)
            optimum[i] = problem.value * scale

    solve_all()
    ours_s = best_seconds(lambda: fdma_shares(weight, snr), 30) / ALLOCATIONS
    cvxpy_s = best_seconds(solve_all, 3) / CVXPY_SOLVES
    few = weight[:CVXPY_SOLVES], snr[:CVXPY_SOLVES]
    ours = (few[0] / fdma_rate_bps(fdma_shares(*few), 1.0, few[1])).sum(axis=1)
    return {
        "bandwidth_allocations_per_s": 1.0 / ours_s,
        "bandwidth_speedup_vs_cvxpy": cvxpy_s / ours_s,
        "bandwidth_cvxpy_difference": float(np.abs(ours / (optimum * np.log(2.0)) - 1.0).max()),
    }


def step_speed(cells: int = 64, devices: int = 100) -> float:
    """Device-steps per second of the step with all metrics, optimal resource rules, mixed cuts and filled queues."""
    scenario = make_scenario(
        "model_partitioning", num_devices=devices, bandwidth_hz=1e6 * devices, edge_cpu_hz=3e9 * devices
    )
    rng = np.random.default_rng(0)
    trace = scenario.sample_trace(rng, cells, 1)
    state = dataclasses.replace(scenario.initial_state(trace), energy_queue=rng.exponential(25.0, (cells, devices)))
    exogenous = scenario.exogenous(trace, 0)
    decisions = make_policy(scenario, "random")
    decisions.reset(scenario, trace)
    cut = decisions.decide(state, exogenous, rng)
    return cells * devices / best_seconds(lambda: scenario.step(state, cut, exogenous), 100)


def slot_optimal_ms(cells: int = 1, slots: int = 30) -> float:
    """Milliseconds per slot and cell of the exact optimum for five devices at 2.5 requests/s, queues as they come."""
    scenario = make_scenario("model_partitioning", mean_arrival_rate_hz=2.5)
    trace = scenario.sample_trace(np.random.default_rng(0), cells, slots)
    policy, rng = make_policy(scenario, "slot_optimal"), np.random.default_rng(0)

    def play() -> float:
        policy.reset(scenario, trace)
        state, seconds = scenario.initial_state(trace), 0.0
        for t in range(slots):
            exogenous, current = scenario.exogenous(trace, t), state
            seconds += best_seconds(lambda s=current, e=exogenous: policy.decide(s, e, rng), 2)  # type: ignore[misc]
            state = scenario.step(state, policy.decide(state, exogenous, rng), exogenous).state
        return seconds

    return 1e3 * play() / (cells * slots)


def speeds() -> dict[str, float]:
    """All numbers of this file."""
    return {
        **allocation_speeds(),
        "partitioning_device_steps_per_s": step_speed(),
        "slot_optimal_ms_per_slot": slot_optimal_ms(),
        "slot_optimal_ms_per_slot_batched": slot_optimal_ms(cells=64, slots=10),
    }
