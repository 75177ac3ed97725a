"""How good the policy of a running training is: its cost above the scenario's reference, on traces of their own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from edgemarl.agents.api import Policy
from edgemarl.agents.registry import make_policy, playbook_of
from edgemarl.agents.trained.policy import ActingNetwork, TrainedPolicy
from edgemarl.envs.scenario import Scenario
from edgemarl.marl.algorithms.base import Run
from edgemarl.marl.evaluation.rollout import SampledTraces, rollout
from edgemarl.marl.training.trained import trained_policy

AGENTS, CELLS_MIN, SLOTS_MAX = 400, 4, 300
"""Devices of all cells that are played together, cells at least, slots at most."""
AGENTS_OF_A_LOOK, SLOTS_OF_A_LOOK = 100, 100
"""The same where the best policies are kept: all looks meet the same traces."""
POINTS = 40
"""Points of a run's budget at which it is looked at."""
LOOKS = 10
"""The same where the best policies are kept."""


class Yardstick:
    """Traces that no training draws, and what the scenario's reference costs on them.

    Args:
        scenario: what is played; the first quarter of the slots is left out.
        seed: of the traces.
        against: whether policies are compared with the reference.
        agents: devices of all cells; default: `AGENTS`.
        slots: slots at most.
        reference: controller of the playbook to compare with, in place of the scenario's reference.

    Raises:
        ValueError: the scenario has no reference to compare with.
    """

    def __init__(
        self,
        scenario: Scenario,
        seed: int = 0,
        against: bool = True,
        agents: int | None = None,
        slots: int = SLOTS_MAX,
        reference: str | None = None,
    ) -> None:
        self.scenario, self.reference = scenario, reference or playbook_of(scenario).reference
        if against and not self.reference:
            raise ValueError(f"scenario '{scenario.name}' has no reference to measure a policy against")
        devices = max(role.count for role in scenario.roles.values())
        self.seed, self.cells = seed, max(CELLS_MIN, math.ceil((agents or AGENTS) / devices))
        self.slots = min(scenario.horizon, slots)

    def cost(self, policy: Policy) -> float:
        """Mean of the cost metric over slots after warm-up and cells."""
        entropy = np.random.SeedSequence([self.seed, 18])
        source = SampledTraces(self.scenario, entropy, self.cells, self.slots)
        played = rollout(policy, self.scenario, source, np.random.default_rng(self.seed), warmup=self.slots // 4)
        return float(played.means[self.scenario.cost_metric].mean())

    @cached_property
    def reference_cost(self) -> float:
        """What the reference costs."""
        return self.cost(make_policy(self.scenario, self.reference))

    def above(self, policy: Policy) -> float:
        """Share by which a policy's cost is above the reference's, on the same traces."""
        return (self.cost(policy) - self.reference_cost) / abs(self.reference_cost)


def live_policy(algorithm: Any, run: Run) -> Policy:
    """The greedy policy that an RLlib algorithm holds at this moment, of the roles that learn."""
    from edgemarl.marl.training.curve import policy_networks  # Ray takes seconds to import

    return _acting(policy_networks(algorithm), run)


def _acting(networks: Mapping[str, ActingNetwork], run: Run) -> Policy:
    """The greedy policy of networks."""
    information = {"train": run.to_dict(), "pooled": run.config.pooled, "message_entries": run.heard}
    policies = {
        role: TrainedPolicy(network, run.scenario.name, role, information)
        for role, network in networks.items()
        if role in run.roles
    }
    return trained_policy(policies, run.config, run.scenario, True, run.algorithm.name)


class Best:
    """The policies of a run that cost least so far, the start included: training cannot end behind an imitated rule.

    Attributes:
        cost: their mean cost metric when they act greedily on traces that no training draws; infinite before a look.
        networks: role -> policy network.
    """

    def __init__(self, run: Run) -> None:
        self.run, self.cost, self.networks = run, math.inf, dict[str, ActingNetwork]()
        self._yardstick = Yardstick(run.scenario, run.config.seed, False, AGENTS_OF_A_LOOK, SLOTS_OF_A_LOOK)
        self._part = 0

    def look(self, algorithm: Any) -> float:
        """Cost of the policies as they are now; they are kept if none cost less."""
        from edgemarl.marl.training.curve import policy_networks

        networks = policy_networks(algorithm)
        cost = self._yardstick.cost(_acting(networks, self.run))
        if cost < self.cost:
            self.cost, self.networks = cost, networks
        return cost

    def look_if_due(self, algorithm: Any, row: Mapping[str, float]) -> float:
        """`look` if another part of the budget is used, else NaN."""
        part = int(LOOKS * row["agent_steps"] / self.run.config.agent_steps)
        if part <= self._part:
            return math.nan
        self._part = part
        return self.look(algorithm)

    def resume(self, networks: Mapping[str, ActingNetwork], row: Mapping[str, float]) -> None:
        """Go on from what was kept when a row of the learning curve was written."""
        self.networks, self.cost = dict(networks), row["kept_cost"]
        self._part = int(LOOKS * row["agent_steps"] / self.run.config.agent_steps)


class Watch:
    """Looks at a run whenever another part of its budget is used, for `until`."""

    def __init__(self, run: Run) -> None:
        self.run, self._yardstick, self._part = run, Yardstick(run.scenario, run.config.seed), 0

    def above(self, algorithm: Any, row: Mapping[str, float]) -> float:
        """Share above the reference, NaN between the looks."""
        part = int(POINTS * row["agent_steps"] / self.run.config.agent_steps)
        if part <= self._part:
            return math.nan
        self._part = part
        return self._yardstick.above(live_policy(algorithm, self.run))
