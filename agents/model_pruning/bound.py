"""What no controller of `model_pruning` can do better than on a trace.

**Claim.** In every slot the reward of every controller is at most `reference.upper_bound`: each gateway is planned as
if the edge server were its own, but for one of them, which has at most the share 1/G that some gateway must live with.

Channel and criticality follow the trace whatever is decided, so that a sum of bounds of slots binds controllers with
memory and foresight too. Plans are exact dynamic programmes over whole tasks, and edge times are the finitely many at
which a plan changes: there is no discretisation error. What the bound gives away is that gateways other than one do not
compete for the server.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgemarl.agents.model_pruning.reference import upper_bound
from edgemarl.agents.playbook import Bound, NoBound
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.scenarios.model_pruning import ModelPruning, ModelPruningState

ROUNDING = 1e-9
BINDS = "every controller, even one that knows the trace beforehand, on every single trace"


def bound(scenario: Scenario, trace: Any, warmup: int, discounted: bool = False) -> Bound:
    """Bounds of all networks on their traces; see `edgemarl.agents.playbook.Playbook.bound`.

    Raises:
        NoBound: dropped tasks count as utilisation, or a late task may be worth less than a dropped one.
    """
    assert isinstance(scenario, ModelPruning)
    c = scenario.config
    if c.count_dropped_in_utilisation:
        raise NoBound("count_dropped_in_utilisation = True: plans count completed tasks only")
    latest = c.delay_weight * float(scenario.deadline_s.max()) / c.slot_s
    if latest > c.drop_penalty:
        raise NoBound(f"delay_weight = {c.delay_weight:g}: a completed task may cost more than a dropped one")
    total = np.zeros(trace.cells)
    state = scenario.initial_state(trace)
    for t in range(trace.slots):
        if t >= warmup:
            total -= upper_bound(scenario, state)
        exogenous = scenario.exogenous(trace, t)
        state = ModelPruningState(exogenous.next_channel_gain, exogenous.next_criticality_level)
    mean = total / (trace.slots - warmup)
    return Bound(mean - ROUNDING * np.abs(mean), each_trace=True, binds=BINDS)
