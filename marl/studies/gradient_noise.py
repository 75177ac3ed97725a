"""How many decisions a policy gradient needs to rise from its noise, by what agents are rewarded for."""

from __future__ import annotations

import dataclasses

import numpy as np

from edgemarl.agents.sequential_offloading.q_server import ParametricQServer
from edgemarl.envs.arrays import Array
from edgemarl.envs.scenarios.sequential_offloading import SequentialOffloading
from edgemarl.envs.scenarios.sequential_offloading.config import SequentialOffloadingConfig, scaled_server

DEVICES = 6400
"""Devices played in all, in as many cells as that takes."""
WARMUP_BLOCKS, SAMPLED_BLOCKS, HORIZON_BLOCKS = 80, 60, 30
MEAN, DEVIATION = (0.8, 0.5), 0.25
"""Effort and power that devices choose in the mean, and the exploration that PPO starts with (e^-0.7 / 2)."""
GAE_LAMBDA = 0.9


def gradient_noise(config: SequentialOffloadingConfig, num_devices: float) -> dict[str, float]:
    """Decisions after which the policy gradient of a Gaussian policy is as large as its noise, for each reward mode.

    All devices draw their action around a fixed one; the server learns online and grows with the network, so that an
    offloaded task costs the others the same at every size. A decision's advantage is the sum of the following rewards,
    weighted (gamma lambda)^k, less its regression on what a central critic sees: the own row, the mean row of all
    devices and the server's. With the score z of an action, the gradient is E[z A] and a decision's noise is the trace
    of Cov[z A]; their ratio is the number of decisions.

    Args:
        config: every field but the number of devices, the action and the server's size is kept.
        num_devices: devices K.

    Returns:
        `num_devices`, and the number of decisions with reward `local`, `coupled` and `team`. `coupled` and `team` have
        the same gradient in expectation; it is estimated from `coupled`.
    """
    changed = dataclasses.replace(config, num_devices=int(num_devices), device_action="split")
    default = SequentialOffloadingConfig()
    changed = dataclasses.replace(
        changed, server_cpu_hz_max=default.server_cpu_hz_max, server_capacitance=default.server_capacitance
    )
    scores, rows, rewards = _played(SequentialOffloading(scaled_server(changed)))
    gradients = {}
    for mode, values in rewards.items():
        returns = _returns(values, config.discount * GAE_LAMBDA)
        advantages = returns - rows @ np.linalg.lstsq(rows, returns, rcond=None)[0]
        gradients[mode] = scores * advantages[:, None]
    means = {mode: gradients["coupled" if mode == "team" else mode].mean(axis=0) for mode in gradients}
    noise = {mode: values.var(axis=0).sum() / np.square(means[mode]).sum() for mode, values in gradients.items()}
    return {"num_devices": float(num_devices), **{mode: float(value) for mode, value in noise.items()}}


def _played(scenario: SequentialOffloading) -> tuple[Array, Array, dict[str, Array]]:
    """Scores (N, 2) and critic's rows (N, d) of N decisions; mode -> rewards (T + horizon, N / T)."""
    cells = max(1, DEVICES // scenario.config.num_devices)
    rng = np.random.default_rng(scenario.config.num_devices)
    trace = scenario.sample_trace(rng, cells, WARMUP_BLOCKS + SAMPLED_BLOCKS + HORIZON_BLOCKS)
    server = ParametricQServer()
    server.reset(scenario, cells)
    state = scenario.initial_state(trace)
    scores: list[Array] = []
    rows: list[Array] = []
    rewards: dict[str, list[Array]] = {"local": [], "coupled": [], "team": []}
    for t in range(trace.slots):
        exogenous = scenario.exogenous(trace, t)
        seen = scenario.observe(state, exogenous)
        noise = rng.standard_normal((*seen["device"].shape[:2], 2))
        act = server.act(seen["server"], rng)
        raw = {"device": MEAN + DEVIATION * noise, "server": np.zeros((cells, 1, 1))}
        decisions = dataclasses.replace(scenario.decode(state, raw, exogenous), **act.decisions)
        step = scenario.step(state, decisions, exogenous)
        if t >= WARMUP_BLOCKS:
            for mode, series in rewards.items():
                series.append(scenario.rewards(step, mode)["device"].ravel())
            if len(rows) < SAMPLED_BLOCKS:
                scores.append(noise.reshape(-1, 2))
                rows.append(_critic_rows(seen))
        state = step.state
    return np.concatenate(scores), np.concatenate(rows), {mode: np.stack(series) for mode, series in rewards.items()}


def _critic_rows(seen: dict[str, Array]) -> Array:
    """(B K, d): a constant, the own row and its squares, the mean row of all devices, the server's row."""
    device = seen["device"].astype(np.float64)
    shared = np.concatenate([device.mean(axis=1), seen["server"][:, 0]], axis=1)
    everybody = np.broadcast_to(shared[:, None], (*device.shape[:2], shared.shape[1]))
    whole = np.concatenate([np.ones((*device.shape[:2], 1)), device, device**2, everybody], axis=2)
    return whole.reshape(-1, whole.shape[2])


def _returns(rewards: Array, weight: float) -> Array:
    """Sums of the next rewards (T + horizon, M), weighted weight^k, of the first T blocks: (T M,)."""
    sums = sum(weight**k * rewards[k : k + SAMPLED_BLOCKS] for k in range(HORIZON_BLOCKS))
    return np.asarray(sums).ravel()
