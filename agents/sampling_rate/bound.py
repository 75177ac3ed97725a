"""What no controller of `sampling_rate` can do better than on a trace: the Lagrangian dual of its accuracy targets.

**Claim.** For all prices 0 <= nu_m <= mu_m, mu being the prices of `priced_delay_s`, the priced delay of every
controller on a trace, even one that knows it beforehand, is at least the mean over the slots after warm-up of

    min over options of { D(B = 0, Q = 0) + sum_m nu_m (A_m^th - A_m) }.

**Proof.** `priced_delay_s` is the mean delay plus sum_m mu_m max(0, missed_m), no less than sum_m nu_m missed_m for
every such nu, and missed_m is a mean over slots: the slots separate. Delay grows with both backlogs, so empty queues
bound it from below, and the server's square-root shares are the best of any rule.

The minimum of a slot is exact (`reference.solve_slot`), so that there is no discretisation error. What the bound gives
away are backlogs, shares that are not the best ones (`share_mode` "fixed") and, per network, the step from one common
price to the best one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgemarl.agents.playbook import Bound, NoBound
from edgemarl.agents.sampling_rate.reference import dual_value
from edgemarl.envs.arrays import Array
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.scenarios.sampling_rate import SamplingRate, SamplingRateTrace

STEPS = 12
"""Supergradient steps down from the prices of `priced_delay_s`; every step is a bound of its own."""
PAIRS_MAX, PAIRS_AT_ONCE = 1e8, 2e7
"""Pairs of devices of a network, over all slots, that a bound may compare at a step, some ten seconds of one core; and
those compared between two moments at which a Ctrl-C is heard."""
ROUNDING = 1e-9
BINDS = "every controller, even one that knows the trace beforehand, on every single trace"


def counted_slots(trace: SamplingRateTrace, warmup: int) -> SamplingRateTrace:
    """The trace from the end of the warm-up on."""
    return SamplingRateTrace(trace.channel_gain[warmup:], trace.arrival_rate[warmup:])


def bound(scenario: Scenario, trace: Any, warmup: int, discounted: bool = False) -> Bound:
    """Bounds of all networks on their traces; see `edgemarl.agents.playbook.Playbook.bound`.

    Raises:
        NoBound: another `wait_mode`, or more than two services, for which a slot's minimum is not exact; so many
            devices that it would take hours.
    """
    assert isinstance(scenario, SamplingRate)
    c = scenario.config
    if c.wait_mode != "literal" or c.num_services > 2:
        raise NoBound("the minimum of a slot is exact for wait_mode = 'literal' and at most two services only")
    counted, most = counted_slots(trace, warmup), scenario.accuracy_price_s
    pairs = float(max(c.devices_per_service)) ** 2 * counted.slots
    if pairs > PAIRS_MAX:
        raise NoBound(
            f"devices_per_service = {', '.join(map(str, c.devices_per_service))} over {counted.slots} slots have "
            f"{pairs:.0e} pairs of devices; up to {PAIRS_MAX:.0e} are computed"
        )
    price, best = most, np.full(trace.cells, -np.inf)
    for i in range(STEPS):
        value, missed = _dual_values(scenario, counted, price, max(1, int(PAIRS_AT_ONCE / pairs)))
        best = np.maximum(best, value)
        price = _next_price(price, most, missed.mean(axis=0), i)
    return Bound(best - ROUNDING * np.abs(best), each_trace=True, binds=BINDS)


def _dual_values(scenario: SamplingRate, trace: SamplingRateTrace, price: Array, cells: int) -> tuple[Array, Array]:
    """`dual_value`, so many networks at once."""
    parts = [dual_value(scenario, trace.select(slice(b, b + cells)), price) for b in range(0, trace.cells, cells)]
    return np.concatenate([value for value, _ in parts]), np.concatenate([missed for _, missed in parts])


def _next_price(price: Array, most: Array, missed: Array, step: int) -> Array:
    """Prices (M,) one step along the supergradient, inside their box."""
    length = most.max() / np.sqrt(step + 1.0)
    return np.asarray(np.clip(price + length * missed, 0.0, most))
