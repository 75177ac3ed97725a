"""What the weight of a share is multiplied with: what a task needs, or the share that it has by its deadline."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.physics.caching import admit_in_order
from edgemarl.envs.physics.deadlines import deadline_shares
from edgemarl.envs.scenarios.model_placement.config import ModelPlacementConfig

FIRST_HOP = 0.67
"""Part of a relayed task's deadline that its first hop may take."""
BAND_BURDEN = 3.0
"""Weight of band against CPU in the order in which tasks are given up."""
LIGHT, HEAVY = 0, 1
"""Levels of a device's two models."""


def at_level(values: Array, heavy: Array) -> Array:
    """Of (..., 2) values by level, those of the chosen level (...)."""
    return np.where(heavy, values[..., HEAVY], values[..., LIGHT])


def needs(task_bits: Array, deadline_s: Array, cycles: Array, g: Array, relay_g: Array) -> dict[str, Array]:
    """What a task needs of each pool to make its deadline, up to a common factor; 0 without a channel.

    Args:
        task_bits, deadline_s, cycles: (B, G, K).
        g: (B, G, K) spectral efficiency of the devices.
        relay_g: (B, G) of the gateways.
    """
    per_s, cpu = task_bits / deadline_s, cycles / deadline_s
    relay_g = np.broadcast_to(relay_g[..., None], per_s.shape)
    first = np.divide(per_s, g, out=np.zeros_like(per_s), where=g > 0)
    second = np.divide(per_s, relay_g, out=np.zeros_like(per_s), where=relay_g > 0)
    return {"band": first, "gateway_cpu": cpu, "relay": second, "edge_cpu": cpu}


def shares_by_deadline(
    config: ModelPlacementConfig, need: dict[str, Array], deadline_s: Array, fetch_s: Array, ready: Array, local: Array
) -> dict[str, Array]:
    """Shares of the four pools that serve as many tasks in time as possible, 0 for those that are given up.

    Relayed tasks have the first part of their deadline for the gateway's band, the rest for the server.

    Args:
        config: bands and CPUs.
        need: of `needs`.
        deadline_s: (B, G, K).
        fetch_s: (B, G, K) time until the model of a task is where it runs.
        ready: (B, G, K) bool, tasks whose model is there or comes in time.
        local: (B, G, K) bool, tasks that run at their gateway.
    """
    c = config
    hz = {"band": c.gateway_band_hz, "gateway_cpu": c.gateway_cpu_hz, "relay": c.relay_bandwidth_hz}
    hz["edge_cpu"] = c.edge_cpu_hz
    alone_s = {pool: np.where(need[pool] > 0, need[pool] * deadline_s / hz[pool], np.inf) for pool in hz}
    first_s = np.where(local, deadline_s, FIRST_HOP * deadline_s)
    burden = BAND_BURDEN * alone_s["band"] / deadline_s + np.where(local, alone_s["gateway_cpu"] / deadline_s, 0.0)
    here = ready & (local | c.first_hop_counted_for_relayed)
    model_s = np.where(local, fetch_s, 0.0)
    own: Any = (alone_s["band"], alone_s["gateway_cpu"], first_s, model_s, here, local, burden)
    gateways = deadline_shares(*(values.reshape(-1, local.shape[2]) for values in own))
    burden = (BAND_BURDEN * alone_s["relay"] + alone_s["edge_cpu"]) / deadline_s
    rest_s, nothing = (1.0 - FIRST_HOP) * deadline_s, np.zeros(local.shape)
    sent: Any = (alone_s["relay"], alone_s["edge_cpu"], rest_s, nothing, ready & ~local, ~local, burden)
    server = deadline_shares(*(values.reshape(len(local), -1) for values in sent))
    shares = {"band": gateways.band, "gateway_cpu": gateways.cpu, "relay": server.band, "edge_cpu": server.cpu}
    return {pool: values.reshape(local.shape) for pool, values in shares.items()}


def deadline_priors(scenario: Any, state: Any, decisions: Any, exogenous: Any) -> Array:
    """`shares_by_deadline` of a slot as its compiled form takes them: (3, B N) band, CPU where it runs, relay."""
    c, local, heavy = scenario.config, decisions.local != 0, decisions.heavy != 0
    ready, fetch_s = admission(scenario, state, decisions, exogenous)
    cycles = at_level(exogenous.model_cycles, heavy)
    efficiencies = scenario.device_efficiency(exogenous), scenario.gateway_efficiency(exogenous)
    need = needs(exogenous.task_bits, exogenous.deadline_s, cycles, *efficiencies)
    share = shares_by_deadline(c, need, exogenous.deadline_s, fetch_s, ready, local)
    cpu = np.where(local, share["gateway_cpu"], share["edge_cpu"])
    return np.ascontiguousarray(np.stack([share["band"], cpu, share["relay"]]).reshape(3, -1), np.float64)


def admission(scenario: Any, state: Any, decisions: Any, exogenous: Any) -> tuple[Array, Array]:
    """Tasks whose model is there or is fetched, bool, and the time until it is there in s, (B, G, K) each.

    A missing model is late, refused for space in index order, or fetched: the first two parts of a slot.
    """
    c, local, heavy = scenario.config, decisions.local != 0, decisions.heavy != 0
    bits = at_level(exogenous.model_bits, heavy)
    at_gateway = at_level(state.cached_gateway, heavy) != 0
    at_edge = at_level(state.cached_edge, heavy) != 0
    hit = np.where(local, at_gateway, at_edge)
    fetch_s = np.where(local, scenario.gateway_fetch_s(bits, at_gateway, at_edge), scenario.edge_fetch_s(bits, at_edge))
    asking = ~hit & (fetch_s <= exogenous.deadline_s)
    used_gateway, used_edge = scenario.used_bits(state, exogenous)
    fetched = np.zeros(local.shape, bool)
    pools = ((local, used_gateway.reshape(-1), c.gateway_cache_bits), (~local, used_edge, c.edge_cache_bits))
    for at, used, space in pools:
        rows = (len(used), -1)
        fetched |= admit_in_order(bits.reshape(rows), (asking & at).reshape(rows), used, space).reshape(local.shape)
    return hit | fetched, fetch_s
