"""One training of one client: what it is told, and the looks at it while it trains."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from edgemarl.agents.api import Policy
from edgemarl.agents.registry import make_policy, playbook_of
from edgemarl.envs.registry import make_scenario
from edgemarl.envs.scenario import Scenario
from edgemarl.marl.benchmarks.quality import Clock
from edgemarl.marl.evaluation.rollout import SampledTraces, rollout
from edgemarl.marl.studies.clients import TOLD

NETWORKS, SEED = 20, 0
"""Of the traces that policies are looked at on: those of `edgemarl compare --networks 20`."""
PARTS = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
"""Of the largest budget, at which a policy is looked at besides the budgets."""

At = Callable[[int, Callable[[], Policy]], None]
"""Called after every iteration with the decisions so far and what gives the greedy policy."""


@dataclass(frozen=True)
class ClientJob:
    """What a client is told.

    Attributes:
        client: a name of `CLIENTS`.
        scenario: its name.
        config: config fields of the scenario, the same for every client.
        fixed: role -> controller that plays it beside the learned ones.
        budgets: decisions (agents x slots) at which the policy is looked at, ascending; the last one ends it.
        seed: of training.
        settings: the client's own: fields of `TrainConfig` for ours, else as in `SETTINGS`.
        reward: reward mode that agents learn from, the same for every client.
    """

    client: str
    scenario: str
    config: Mapping[str, Any]
    fixed: Mapping[str, str]
    budgets: tuple[int, ...]
    seed: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    reward: str = "local"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClientJob:
        return cls(**{**values, "budgets": tuple(values["budgets"])})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, by which a finished training is known; the usual reward is left out, as before it was told."""
        return {name: value for name, value in asdict(self).items() if (name, value) != ("reward", "local")}

    def make(self) -> Scenario:
        """The scenario."""
        return make_scenario(self.scenario, **self.config)

    @property
    def budget(self) -> int:
        """Decisions of the whole training."""
        return self.budgets[-1]

    @property
    def points(self) -> list[int]:
        """Decisions at which the policy is looked at; before the end only where it does not know of an end."""
        if self.client in TOLD:
            return list(self.budgets)
        return sorted({*self.budgets, *(int(part * self.budget) for part in PARTS)})


@dataclass(frozen=True)
class LearnedRole:
    """The one role that learns, as outside clients need to know it."""

    role: str
    agents: int
    discount: float
    reward_scale: float

    @classmethod
    def of(cls, job: ClientJob) -> LearnedRole:
        """Raises ValueError: more than one role is left to learn."""
        scenario = job.make()
        roles = [role for role in scenario.roles if role not in job.fixed]
        if len(roles) != 1:
            raise ValueError(f"clients learn one role, here are left {', '.join(roles)}: name the others in fixed")
        discount = getattr(scenario.config, "discount", None)
        scale = float(scenario.learner_scale[roles[0]]) / scenario.reward_divisor(job.reward)
        return cls(roles[0], scenario.roles[roles[0]].count, 0.99 if discount is None else float(discount), scale)


def cost_of(policy: Policy, scenario: Scenario) -> float:
    """Mean cost after warm-up (a quarter) over the networks, divided by `Scenario.cost_divisor`, as in tables."""
    source = SampledTraces(scenario, np.random.SeedSequence([SEED, 1]), NETWORKS, scenario.horizon)
    rng = np.random.default_rng(np.random.SeedSequence([SEED, 2, 0]))
    played = rollout(policy, scenario, source, rng, warmup=scenario.horizon // 4)
    return float(played.means[scenario.cost_metric].mean() / scenario.cost_divisor)


def reference_cost(job: ClientJob) -> tuple[str, float]:
    """The scenario's reference and what it costs on the same traces."""
    scenario = job.make()
    name = playbook_of(scenario).reference
    if not name:
        raise ValueError(f"scenario '{job.scenario}' has no reference to measure clients against")
    return name, cost_of(make_policy(scenario, name), scenario)


class Looks:
    """Rows of a training: decisions, cost, seconds; what a look takes is not counted.

    Args:
        job: the training.
        clock: processor time of this process, which has started with it.
    """

    def __init__(self, job: ClientJob, clock: Clock) -> None:
        self.rows: list[dict[str, float]] = []
        self._scenario, self._points, self._clock = job.make(), job.points, clock
        self._started_s, self._aside_s, self._first_s = time.perf_counter(), 0.0, 0.0

    def begin(self) -> None:
        """Training begins: what was spent so far is the start (imports, building)."""
        self._first_s = self._clock.now_s()

    def __call__(self, decisions: int, policy: Callable[[], Policy]) -> None:
        passed = [point for point in self._points if point <= decisions]
        if not passed:
            return
        del self._points[: len(passed)]
        processor_s, wall_s = self._clock.now_s(), time.perf_counter() - self._started_s - self._aside_s
        looked_s = time.perf_counter()
        cost = self._clock.aside(lambda: cost_of(policy(), self._scenario))
        self._aside_s += time.perf_counter() - looked_s
        self.rows.append(
            {
                "decisions": decisions, "cost": cost, "processor_s": processor_s, "start_s": self._first_s,
                "wall_s": wall_s,
            }
        )  # fmt: skip
