"""What no controller of `model_placement` can do better than on a trace.

**Claim.** In every slot the mean accuracy of every controller is at most `reference.clairvoyant_bound`: every model is
present at once, at no delay, for the space that it takes in the caches, and band, CPU and caches of gateways and server
are bought at prices instead of being divided.

**Proof.** Whatever is in the caches, deadlines are no earlier and space no smaller than in this relaxation, so that the
value of each slot is bounded alone. By weak duality any non-negative prices bound it from above; the gain of an option
at given prices has a closed form, so that there is no discretisation error. What the bound gives away is the time and
the band of fetching models, and the integrality of tasks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgemarl.agents.model_placement.reference import clairvoyant_bound
from edgemarl.agents.playbook import Bound
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.scenarios.model_placement import ModelPlacement

ROUNDING = 1e-8
"""Relative; the relaxation itself keeps 1e-9 of every deadline."""
BINDS = "every controller, even one that knows the trace beforehand and has any models cached, on every single trace"


def bound(scenario: Scenario, trace: Any, warmup: int, discounted: bool = False) -> Bound:
    """Bounds of all networks on their traces; see `edgemarl.agents.playbook.Playbook.bound`."""
    assert isinstance(scenario, ModelPlacement)
    total = np.zeros(trace.cells)
    for t in range(warmup, trace.slots):
        total -= clairvoyant_bound(scenario, scenario.exogenous(trace, t))
    mean = total / (trace.slots - warmup)
    return Bound(mean - ROUNDING * np.abs(mean), each_trace=True, binds=BINDS)
