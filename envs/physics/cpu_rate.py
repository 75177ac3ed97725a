"""The CPU rate at which waiting and energy of a stream of requests cost least, compiled."""

from __future__ import annotations

import numpy as np

from edgemarl.envs.compiled import compiled, vectorized
from edgemarl.envs.physics.elementary import near_inverse_cube_root

HALLEY_STEPS = 2


@compiled(inline="always", error_model="numpy")
def best_cpu_hz(
    work_cycles: float, arrival_rate_hz: float, energy_weight: float, delay_weight: float, hz_min: float, hz_max: float
) -> float:
    """The minimiser of `allocation.local_cpu_hz`, whose docstring explains it, for one stream."""
    unit = 1.0 / hz_max  # so that no power leaves the range of floats
    a = arrival_rate_hz * work_cycles * unit
    # a price below this one has its root beyond 1000 hz_max, and beyond any load that fits: the end hz_max either way
    price = max(energy_weight * (2.0 * (hz_max * hz_max * hz_max) / delay_weight), 1e-9)
    alone = near_inverse_cube_root(price)  # the root without load
    over = alone + 2.1336735 * a
    gap = alone * np.sqrt(alone * over / (2.0 * a * over + alone * (alone + 1.4260481 * a)))
    for _ in range(HALLEY_STEPS):
        f = a + gap
        p, f2, gap2 = f * gap, f * f, gap * gap
        p2 = p * p
        # g'/d, its slope and its bend, times p^2, p^3 and p^4: one division for the step
        value, slope = price * f * p2 - 0.5 * (f2 + gap2), price * p2 * p + (f2 * f + gap2 * gap)
        bend = -3.0 * (f2 * f2 + gap2 * gap2)
        gap -= 2.0 * value * slope * p / (2.0 * slope * slope - value * bend)
    best: float = min(max((a + gap) * hz_max, hz_min), hz_max)
    return best


@vectorized(["float64(float64, float64, float64, float64, float64, float64)"], cache=True)
def local_cpu_hz(
    work_cycles: float, arrival_rate_hz: float, energy_weight: float, delay_weight: float, hz_min: float, hz_max: float
) -> float:
    """`best_cpu_hz` of arrays that broadcast."""
    return best_cpu_hz(work_cycles, arrival_rate_hz, energy_weight, delay_weight, hz_min, hz_max)
