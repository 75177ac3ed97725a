"""What no controller of `sequential_offloading` can do better than: certified lower bounds of its cost.

**Claim.** For every price lambda of a task's worth of offloaded work, 0 <= lambda <= `highest_price`, the long-run
mean cost per block of every causal controller, central or decentralized, with whatever memory, messages and randomness,
is at least

    sum_k g_k(lambda) + min over 0 <= v <= v_max of { w1 v + w2 E(v) - lambda v }.

g_k is the smallest long-run mean cost of device k alone if it pays lambda for what it offloads (`device_bound`), E(v)
the energy of v tasks served in a block, v_max the most that the server can serve. `best_price` looks for the largest
sum.

**Proof.** In every block the residuals r_k sum to the server's inflow a. Add lambda (sum_k r_k - a) = 0 to the cost: it
splits into a part per device and one of the server. (1) What the others do tells device k nothing of its own future
(fading and arrivals are independent over blocks and devices), so it cannot beat the optimum of its own Markov decision
process. (2) The server's queue satisfies q >= v, and its mean inflow is its mean service plus what a full buffer loses,
which costs no less than lambda; E is convex, so by Jensen's inequality constant service is at least as good.

The discounted sum from empty queues (`discounted_bound`) splits in the same way. There sum_t gamma^t a_t is
sum_t gamma^t v_t + (1/gamma - 1) sum_t gamma^t q_t, so that serving at once is best up to `highest_price`.

The bounds are expectations over the fading and arrivals of `sample_trace`, for given mean gains: they say nothing of a
measured trace, nor of controllers that know the future (`arrival_lookahead`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from edgemarl.agents.playbook import Bound, NoBound
from edgemarl.agents.sequential_offloading.device_bound import (
    COARSE,
    FINE,
    STOPPING,
    Potential,
    cost_after,
    device_bound,
    device_problem,
    sweep_operations,
)
from edgemarl.agents.sequential_offloading.model import ServerModel
from edgemarl.envs.arrays import Array
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.scenarios.sequential_offloading import SequentialOffloading
from edgemarl.envs.scenarios.sequential_offloading.config import SequentialOffloadingConfig

GAINS = 8
"""Devices that stand for all of a network where its price is looked for: any price gives a bound."""
PRICE_ERROR = 0.02
WARMUP_MIN = 50
"""Blocks after which a mean may be compared with the long run."""
RISING_MAX = 0.01
"""Share of the long-run cost by which the optimum itself may still be below it after the warm-up."""
PRICES_TRIED = 30
"""Devices at the fine resolution that take as long as the search of a network's price."""
OPERATIONS_MAX = 1e11
"""Numbers that a bound may touch: some minutes of one core. A network of 10,000 devices at the defaults takes 7e10."""
BINDS = (
    "the long-run mean of every causal controller, central or decentralized, in expectation over fading and arrivals "
    "for the mean gains of each network"
)


def server_bound(config: SequentialOffloadingConfig, price: float, discount: float = 1.0) -> float:
    """min over v of w1 v + w2 E(v) - price v / discount, the server's part per block (v: tasks served in a block).

    With a discount it is what the server pays in a block less what the offloads of the block before are worth, for
    tasks that are served as soon as they can be.

    Args:
        price: lambda in [0, `highest_price`].
    """
    model = ServerModel(config)
    most = min(model.serve_max_tasks, float(config.num_devices))
    earned = price / discount - model.hold_cost
    if earned <= 0.0:
        return 0.0
    cubic = float(model.serve_cost(np.asarray(1.0)))
    served = min(most, float(np.sqrt(earned / (3.0 * cubic)))) if cubic > 0.0 else most
    return cubic * served**3 - earned * served


def highest_price(config: SequentialOffloadingConfig, discount: float = 1.0) -> float:
    """Price up to which the server does better to serve than to hoard work or to lose it."""
    highest = config.drop_cost_per_task
    if discount < 1.0:
        highest = min(highest, ServerModel(config).hold_cost * discount / (1.0 - discount))
    return highest


def standing_for(mean_gain_per_w: Array) -> Array:
    """At most `GAINS` quantiles of mean gains (K,)."""
    count = min(len(mean_gain_per_w), GAINS)
    middle = (np.arange(count) + 0.5) / count * len(mean_gain_per_w)
    return np.asarray(np.sort(mean_gain_per_w)[middle.astype(np.int64)])


def best_price(config: SequentialOffloadingConfig, mean_gain_per_w: Array, discount: float = 1.0) -> float:
    """Price at which a coarse copy of the bound of a network with mean gains (K,) is largest."""
    from scipy.optimize import minimize_scalar

    gains = standing_for(mean_gain_per_w)
    start: list[Potential | None] = [None] * len(gains)
    blocks = 1.0 if discount == 1.0 else discount / (1.0 - discount)

    def loss(price: float) -> float:
        total = 0.0
        for i, gain in enumerate(gains):
            bound = device_bound(config, float(gain), price, discount, start[i], COARSE)
            start[i], total = bound.potential, total + bound.cost
        return -(total / len(gains) + blocks * server_bound(config, price, discount) / len(mean_gain_per_w))

    highest = highest_price(config, discount)
    least = minimize_scalar(loss, bounds=(0.0, highest), method="bounded", options={"xatol": PRICE_ERROR})
    return float(least.x)


def _devices_bound(config: SequentialOffloadingConfig, gains: Array, price: float, discount: float) -> float:
    total, start = 0.0, None
    for gain in np.sort(gains):  # each device starts from its neighbour's potential
        bound = device_bound(config, float(gain), price, discount, start)
        start, total = bound.potential, total + bound.cost
    return total


def network_bound(config: SequentialOffloadingConfig, mean_gain_per_w: Array, price: float | None = None) -> float:
    """Certified lower bound of the long-run mean cost per block of a network.

    Args:
        config: the network.
        mean_gain_per_w: (K,) of its devices.
        price: lambda >= 0; default: `best_price`.
    """
    at = best_price(config, mean_gain_per_w) if price is None else price
    return _devices_bound(config, mean_gain_per_w, at, 1.0) + server_bound(config, at)


def discounted_bound(config: SequentialOffloadingConfig, mean_gain_per_w: Array, blocks: int) -> float:
    """Certified lower bound of the expected discounted cost of the first `blocks` blocks of a network, queues empty.

    From the sum over all blocks two things are taken away that a controller who knows the end may save: the sum from
    the last block on of a device that does nothing with a full buffer, and the price of a full buffer of the server.
    """
    discount = config.discount
    if not 0.0 < discount < 1.0:
        raise NoBound(f"discount = {discount:g} is not legal here: must be > 0 and < 1")
    price = best_price(config, mean_gain_per_w, discount)
    d = device_problem(config, price, discount, FINE.parts)
    idle = d.hold * (d.tasks_max + 1) + d.drop * config.slots_per_block
    hoarded = price * config.server_queue_tasks_per_device_max / discount
    saved = len(mean_gain_per_w) * discount**blocks * (idle / (1.0 - discount) + hoarded)
    server = discount / (1.0 - discount) * server_bound(config, price, discount)
    return _devices_bound(config, mean_gain_per_w, price, discount) + server - saved


def still_rising(config: SequentialOffloadingConfig, mean_gain_per_w: Array, price: float, warmup: int) -> float:
    """Share by which the optimum under a price, started with empty queues, is below its long-run cost after warm-up.

    An estimate from a few devices that tells where a mean over a window is no long-run mean; no bound.
    """
    costs = [cost_after(config, float(gain), price, warmup) for gain in standing_for(mean_gain_per_w)]
    after, steady = np.sum(costs, axis=0)
    return float(1.0 - after / steady)


def bound(scenario: Scenario, trace: Any, warmup: int, discounted: bool = False) -> Bound:
    """Bounds of all networks of a trace, from their mean gains; see `edgemarl.agents.playbook.Playbook.bound`.

    Raises:
        NoBound: devices know arrivals beforehand; a warm-up after which even the optimum still rises; queues so long
            that computing it would take hours.
    """
    assert isinstance(scenario, SequentialOffloading)
    config = scenario.config
    if config.arrival_lookahead:
        raise NoBound("arrival_lookahead = True: the bound is for devices that do not know the coming arrivals")
    if warmup < WARMUP_MIN:
        raise NoBound(f"it is one of long-run means and needs a warm-up of {WARMUP_MIN} blocks, got {warmup}")
    gains = trace.mean_gain_per_w
    _check_size(config, gains)
    prices = _of_each(lambda gain: best_price(config, gain), gains)
    rising = float(np.mean(_of_each(lambda gain, price: still_rising(config, gain, price, warmup), gains[:2], prices)))
    if rising > RISING_MAX:
        raise NoBound(f"queues still fill after a warm-up of {warmup} blocks: the optimum is {100 * rising:.1f}% below")
    values = np.array(_of_each(lambda gain, price: network_bound(config, gain, price), gains, prices))
    if values.mean() <= 0.0:
        raise NoBound(f"what was computed, {values.mean():.3g}, is below 0, which no cost is: it says nothing")
    sums = np.array(_of_each(lambda g: discounted_bound(config, g, trace.slots), gains)) if discounted else None
    return Bound(values, each_trace=False, binds=BINDS, discounted=sums)


def _check_size(config: SequentialOffloadingConfig, mean_gain_per_w: Array) -> None:
    """Refuse what would take hours: value iteration on long queues has both large sweeps and many of them."""
    networks, devices = mean_gain_per_w.shape
    sweeps = min(float(FINE.sweeps), 30.0 + config.device_queue_tasks_max / 3.0)
    try:
        operations = sweeps * sweep_operations(config) * networks * (devices + PRICES_TRIED)
    except ValueError as error:  # more work in a block than any table of ours holds
        raise NoBound(str(error)) from None
    if operations > OPERATIONS_MAX:
        raise NoBound(
            f"device_queue_tasks_max = {config.device_queue_tasks_max:g} tasks with slots_per_block = "
            f"{config.slots_per_block} in {networks} networks of {devices} devices would take {operations:.0e} "
            f"operations; up to {OPERATIONS_MAX:.0e} are done"
        )


def _of_each(function: Callable[..., float], *arguments: Any) -> list[float]:
    """A number of each network, several networks at once: the compiled part runs beside other threads.

    What ends the main thread's wait, such as a Ctrl-C, ends the others after a few sweeps.
    """
    stop = threading.Event()

    def one(*given: Any) -> float:
        STOPPING.event = stop
        return function(*given)

    pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1)
    try:
        return list(pool.map(one, *arguments))
    except BaseException:
        stop.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
