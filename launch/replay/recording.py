"""What happened in an episode of one network, slot by slot: all that a picture of it needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgemarl.agents.api import Policy, Team
from edgemarl.envs.arrays import Array
from edgemarl.envs.scenario import Scenario, Step, total_cost


@dataclass(frozen=True)
class Moment:
    """One slot of one network (arrays have B = 1).

    Attributes:
        t: slot, from 0 on.
        state, exogenous: what was there when the agents decided.
        decisions: what they decided.
        step: what the slot did.
        messages: (sending role, receiving role) -> (m,) the newest message, the mean over its receivers.
        mean_cost: cost from the first slot to this one, in the unit of comparison tables.
    """

    t: int
    state: Any
    exogenous: Any
    decisions: Any
    step: Step
    messages: Mapping[tuple[str, str], Array]
    mean_cost: float

    def detail(self, name: str) -> Array:
        """An array of `Step.details`, of the one network."""
        return np.asarray(self.step.details[name][0])

    def metric(self, name: str) -> float:
        """A number of `Step.metrics`."""
        return float(self.step.metrics[name][0])


@dataclass(frozen=True)
class Recording:
    """An episode of one network under one controller.

    Attributes:
        controller: its name.
        scenario: the scenario that was played, with the settings that the controller brings along.
        moments: the slots.
    """

    controller: str
    scenario: Scenario
    moments: list[Moment]

    def costs(self) -> Array:
        """(L,) mean cost so far, in the unit of comparison tables."""
        return np.array([moment.mean_cost for moment in self.moments])


def record(scenario: Scenario, policy: Policy, trace: Any, seed: int = 0) -> Recording:
    """Play a policy on the first cell of a trace and keep every slot.

    Args:
        scenario: what is played.
        policy: who plays.
        trace: a trace of the scenario; its first cell is played to the end.
        seed: of the policy's own randomness.

    Raises:
        ValueError: a trace that does not fit.
    """
    one = trace.select(slice(0, 1))
    scenario.check_trace(one)
    policy.reset(scenario, one)
    world = policy.world(scenario)
    rng = np.random.default_rng(np.random.SeedSequence([seed, 2, 0])).spawn(1)[0]  # as a comparison plays it
    return Recording(policy.name, world, list(_moments(world, policy, one, rng)))


def _moments(scenario: Scenario, policy: Policy, trace: Any, rng: np.random.Generator) -> Iterator[Moment]:
    state = scenario.initial_state(trace)
    sums: dict[str, Array] = {}
    for t in range(trace.slots):
        exogenous = scenario.exogenous(trace, t)
        decisions = policy.decide(state, exogenous, rng)
        step = scenario.step(state, decisions, exogenous)
        policy.feedback(step.costs)
        sums = {name: sums.get(name, 0.0) + np.asarray(values, np.float64) for name, values in step.metrics.items()}
        cost = _mean_cost(scenario, {name: total / (t + 1) for name, total in sums.items()}, step)
        yield Moment(t, state, exogenous, decisions, step, _messages(policy), cost)
        state = step.state


def _mean_cost(scenario: Scenario, means: dict[str, Array], step: Step) -> float:
    """The compared number of the slots so far; some scenarios have it of whole episodes only."""
    known = {**means, **scenario.episode_metrics(means)}
    cost = known.get(scenario.cost_metric)
    return float((total_cost(step) if cost is None else cost)[0]) / scenario.cost_divisor


def _messages(policy: Policy) -> dict[tuple[str, str], Array]:
    if not isinstance(policy, Team):
        return {}
    return {
        (sender, receiver): np.array(message[0].mean(axis=0))
        for receiver, by_sender in policy.inbox.items()
        for sender, message in by_sender.items()
        if message.size
    }
