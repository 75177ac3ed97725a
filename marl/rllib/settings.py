"""What a runner is told."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edgemarl.envs.registry import make_scenario, register_scenario, scenario_target
from edgemarl.envs.scenario import Scenario


@dataclass(frozen=True)
class RunnerSettings:
    """What a runner samples; plain values, so that it travels in `env_config` and into checkpoints.

    Attributes:
        scenario: name or target of the scenario.
        target: what stands behind a name that is registered in this process only, so that a runner elsewhere can too.
        overrides: config fields.
        roles: learned roles, or (CENTRAL,).
        fixed: role -> name of the controller that plays it (`edgemarl.agents.registry.make_controller`).
        reward: reward mode of the scenario.
        scales: learned role -> factor on its reward.
        hybrid: the central action is one of the scenario's `hybrid_space`.
        offset: added to every reward before its factor.
        cells: cells B per runner.
        slots: slots T per sample.
        stagger: start the cells at different slots of their first episode.
        critic_pool: put the pooled rows of all agents beside every row (for a centralized critic).
        pooled: append the pooled rows of all agents to every row (central control with shared networks).
        foresight: slots ahead whose arrivals and channels a critic sees beside the row (`Foreseeing.outlook`).
        trace, trace_digest, trace_ignore, train_share: a trace file whose first slots are the episodes, what it must
            hold, columns to leave out, share of its slots.
        output: "advantages" (on-policy batch), "transitions" (for a replay buffer) or "choices" (what every choice of
            an agent would have paid).
    """

    scenario: str
    target: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    roles: tuple[str, ...] = ()
    fixed: Mapping[str, str] = field(default_factory=dict)
    reward: str = "local"
    scales: Mapping[str, float] = field(default_factory=dict)
    hybrid: bool = False
    offset: float = 0.0
    cells: int = 8
    slots: int = 50
    stagger: bool = True
    critic_pool: bool = False
    pooled: bool = False
    foresight: int = 0
    trace: str = ""
    trace_digest: str = ""
    trace_ignore: tuple[str, ...] = ()
    train_share: float = 1.0
    output: Literal["advantages", "transitions", "choices"] = "advantages"

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunnerSettings:
        names = {f.name for f in dataclasses.fields(cls)}
        known: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in names}
        return cls(**known)

    def make(self) -> Scenario:
        """The scenario."""
        if self.target != self.scenario:
            register_scenario(self.scenario, self.target)
        return make_scenario(self.scenario, **self.overrides)


def settings_for(scenario: str, **values: Any) -> RunnerSettings:
    """Settings for a scenario by name or target; further values as in `RunnerSettings`."""
    return RunnerSettings(scenario, scenario_target(scenario), **values)
