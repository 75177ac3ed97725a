"""Static configurations of the sampling-rate scenario: options chosen once from the stationary means, then kept."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from itertools import combinations_with_replacement

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.physics.processes import stationary_distribution
from edgemarl.envs.scenarios.sampling_rate import SamplingRate

PATTERN_MAX = 5
"""Devices of a service over which options may differ; larger services repeat the pattern."""
SLACK = 1e-12


@dataclass(frozen=True)
class Candidates:
    """Possible configurations of one service.

    Attributes:
        options: action indices, (C, p), repeated over the service.
        delay_s: local and upload delay of the whole service, (C,).
        load_cycles: L_m of the whole service, (C,).
    """

    options: Array
    delay_s: Array
    load_cycles: Array


def static_uniform(scenario: SamplingRate) -> Array:
    """Options (N,), the same within a service: the cheapest pair that meets the targets (docs, baseline 5)."""
    return _best(scenario, pattern_max=1)


def static_mixed(scenario: SamplingRate) -> Array:
    """Options (N,) that may differ within a service: the cheapest that meets the targets on average (baseline 6).

    A service of more than five devices repeats the pattern of the largest number up to five that divides it.
    """
    return _best(scenario, pattern_max=PATTERN_MAX)


def _best(scenario: SamplingRate, pattern_max: int) -> Array:
    candidates = [_candidates(scenario, m, pattern_max) for m in range(scenario.config.num_services)]
    delay = reduce(np.add.outer, [c.delay_s for c in candidates])
    if scenario.config.shares_by_theorem:
        server = reduce(np.add.outer, [np.sqrt(c.load_cycles) for c in candidates]) ** 2
    else:
        loads = [c.load_cycles / share for c, share in zip(candidates, scenario.fixed_share, strict=True)]
        server = reduce(np.add.outer, loads)
    chosen = np.unravel_index(np.argmin(delay + server / scenario.config.server_hz), delay.shape)
    patterns = [c.options[i] for c, i in zip(candidates, chosen, strict=True)]
    sizes = scenario.config.devices_per_service
    return np.concatenate([np.tile(p, size // len(p)) for p, size in zip(patterns, sizes, strict=True)])


def _candidates(scenario: SamplingRate, m: int, pattern_max: int) -> Candidates:
    """Multisets of options of service m that meet its target and are not dominated, in lexicographic order."""
    c = scenario.config
    size = c.devices_per_service[m]
    length = max(p for p in range(1, min(size, pattern_max) + 1) if size % p == 0)
    options = np.asarray(list(combinations_with_replacement(range(2 * c.num_rates), length)))
    delay, bits, waiting = _stationary_estimate(scenario, m, options)
    delay, bits, waiting = (values * (size / length) for values in (delay, bits, waiting))
    accuracy = scenario.accuracy_of_options[m][options].mean(axis=1)
    feasible = accuracy >= min(c.accuracy_target[m], accuracy.max()) - SLACK
    keep = np.flatnonzero(feasible)
    better = (delay[keep][:, None] <= delay[keep]) & (bits[keep][:, None] <= bits[keep])
    strict = (delay[keep][:, None] < delay[keep]) | (bits[keep][:, None] < bits[keep])
    keep = keep[~(better & strict).any(axis=0)]
    charged = np.full(len(keep), float(size)) if c.wait_mode == "literal" else waiting[keep]
    cycles = c.server_cycles_per_bit[m] * (charged + 1.0) / 2.0 * bits[keep]
    return Candidates(options[keep], delay[keep], cycles)


def _stationary_estimate(scenario: SamplingRate, m: int, options: Array) -> tuple[Array, Array, Array]:
    """Local and upload delay in s, offloaded bits and offloading devices of each configuration (C, p), summed over p.

    Arrivals at their mean, the mean of 1/R under the stationary channel, no backlog.
    """
    c = scenario.config
    states = stationary_distribution(np.asarray(c.channel_transition))
    harmonic_rate = 1.0 / (states @ (1.0 / scenario.link_rate_bps(np.asarray(c.channel_gains))))
    raw_bits = np.asarray([c.arrival_mean * c.raw_task_bits[m]])
    zero = np.zeros(1)
    cost, bits = scenario.option_costs_s(zero, np.full(1, harmonic_rate), raw_bits, zero, np.asarray([m]))
    return (
        cost[0][options].sum(axis=1),
        bits[0][options].sum(axis=1),
        (options < c.num_rates).sum(axis=1).astype(np.float64),
    )
