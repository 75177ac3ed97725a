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

PLANS_MAX = 1e6
"""Partial plans of a slot that are computed between two moments at which a Ctrl-C is heard: a second or two."""
ROUNDING = 1e-9
BINDS = "every controller, even one that knows the trace beforehand, on every single trace"


def bound(scenario: Scenario, trace: Any, warmup: int, discounted: bool = False) -> Bound:
    """Bounds of all networks on their traces; see `edgemarl.agents.playbook.Playbook.bound`.

    Raises:
        NoBound: dropped tasks count as utilisation, or a late task may be worth less than a dropped one; gateways of so
            many sensors that it would take hours.
    """
    assert isinstance(scenario, ModelPruning)
    c = scenario.config
    if c.count_dropped_in_utilisation:
        raise NoBound("count_dropped_in_utilisation = True: plans count completed tasks only")
    latest = c.delay_weight * float(scenario.deadline_s.max()) / c.slot_s
    if latest > c.drop_penalty:
        raise NoBound(f"delay_weight = {c.delay_weight:g}: a completed task may cost more than a dropped one")
    plans = c.num_devices**2 / c.num_gateways * (3.0 * c.num_criticality_levels + 2.0)
    if plans > PLANS_MAX:
        raise NoBound(
            f"num_devices = {c.num_devices}, num_gateways = {c.num_gateways}, num_criticality_levels = "
            f"{c.num_criticality_levels} take {plans:.0e} partial plans in a slot; up to {PLANS_MAX:.0e} are computed"
        )
    groups = np.array_split(np.arange(trace.cells), min(trace.cells, int(np.ceil(trace.cells * plans / PLANS_MAX))))
    total = np.zeros(trace.cells)
    state = scenario.initial_state(trace)
    for t in range(trace.slots):
        if t >= warmup:
            for cells in groups:
                one = ModelPruningState(state.channel_gain[cells], state.criticality_level[cells])
                total[cells] -= upper_bound(scenario, one)
        exogenous = scenario.exogenous(trace, t)
        state = ModelPruningState(exogenous.next_channel_gain, exogenous.next_criticality_level)
    mean = total / (trace.slots - warmup)
    return Bound(mean - ROUNDING * np.abs(mean), each_trace=True, binds=BINDS)
