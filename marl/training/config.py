"""What a training run is told: the fields of its configuration, with their units and legal ranges, and their check."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import gymnasium
import numpy as np
import pydantic

from edgemarl.agents.registry import make_controller, message_entries, pricing
from edgemarl.agents.trained.hybrid import hybrid_action
from edgemarl.agents.trained.networks import network_spec
from edgemarl.agents.trained.policy import CENTRAL
from edgemarl.envs.api import Scenario
from edgemarl.envs.config import config_class, quantity, unknown_name
from edgemarl.envs.registry import make_scenario

Algorithm = Literal["ppo", "mappo", "counterfactual", "dqn", "sac", "ddpg", "td3", "priced_dqn", "hybrid_sac"]
OFF_POLICY = ("dqn", "sac", "ddpg", "td3", "priced_dqn", "hybrid_sac")
DETERMINISTIC = ("ddpg", "td3")
DISCRETE, CONTINUOUS = ("dqn", "priced_dqn"), ("sac", "ddpg", "td3")
"""Algorithms that need a role with choices, or with a Box."""


@config_class
class TrainConfig:
    """A training run; defaults are the recipe of docs/algorithms.md, `None` is the recipe's value for the control."""

    scenario: str = quantity("sequential_offloading", "-", "registered scenario")
    set: dict[str, Any] = pydantic.Field(default_factory=dict, description="config fields of the scenario to replace")
    algorithm: Algorithm = quantity("ppo", "-", "learning algorithm")
    control: Literal["decentralized", "central"] = quantity("decentralized", "-", "one policy per role, or one for all")
    policies: Literal["shared", "independent"] = quantity("shared", "-", "one network per role, or one per agent")
    central_policy: Literal["pooled", "joint"] = quantity(
        "pooled", "-", "central control: role networks that see pooled rows of all, or one network for the joint action"
    )
    reward: str | None = quantity(None, "-", "reward mode of the scenario: local, of central control team")
    fixed: dict[str, str] = pydantic.Field(default_factory=dict, description="role -> controller that is not learned")
    grid: dict[str, int | tuple[int, ...]] = pydantic.Field(
        default_factory=dict,
        description="role -> points per entry of its Box action, then one discrete choice",
    )
    agent_steps: int = quantity(500_000, "-", "budget: agents' decisions (central: of all agents)", ge=1)
    cells: int = quantity(8, "-", "cells stepped at once by a runner", ge=1)
    slots: int = quantity(50, "-", "slots per iteration", ge=1)
    minibatch: int = quantity(1000, "-", "agent-steps of a minibatch", ge=1)
    epochs: int = quantity(8, "-", "passes over a batch", ge=1)
    lr: float | None = quantity(
        None, "-", "first learning rate of Adam: 1e-3, joint central 3e-4; actor of ddpg 1e-4, of td3 3e-4", gt=0
    )
    critic_lr: float | None = quantity(None, "-", "the same of the critics of ddpg, 1e-3, and td3, 3e-4", gt=0)
    lr_final: float = quantity(0.1, "-", "share of the learning rate that is left at the end", gt=0, le=1)
    discount: float | None = quantity(None, "-", "per slot; default the scenario's own, else 0.99", ge=0, lt=1)
    gae_lambda: float = quantity(0.9, "-", "weight of longer returns", ge=0, le=1)
    foresight: int = quantity(
        0, "-", "slots ahead whose arrivals and channels the critic sees in training, the present one first (ppo)", ge=0
    )
    clip: float = quantity(0.2, "-", "clip range of the probability ratio", gt=0)
    entropy: float = quantity(0.0, "-", "entropy bonus", ge=0)
    entropy_until: float | None = quantity(
        None, "-", "share of the budget over which the entropy bonus falls linearly to 0; default: constant", gt=0, le=1
    )
    value_weight: float = quantity(0.5, "-", "weight of the value loss", ge=0)
    gradient_clip: float | None = quantity(0.5, "-", "largest norm of a gradient; null: any", gt=0)
    reward_offset: float = quantity(0.0, "-", "added to rewards before their factor")
    reward_scale: float | None = quantity(None, "-", "factor on rewards; default the scenario's scale", gt=0)
    hidden: tuple[int, ...] | None = quantity(None, "-", "widths of the policy's layers: 64, 64; joint 256, 256")
    network: Literal["plain", "parts"] = quantity(
        "plain", "-", "perceptron of the row, or (roles whose row divides into like parts) one for every part"
    )
    critic_hidden: tuple[int, ...] | None = quantity(None, "-", "widths of the critic's layers; default as the policy")
    activation: Literal["tanh", "relu"] | None = quantity(None, "-", "of hidden layers: tanh; ddpg, td3 relu")
    output_gain: float | None = quantity(None, "-", "gain of the policy's last layer at the start: .01; ddpg, td3 .1")
    replay: int = quantity(200_000, "-", "agent-steps that an off-policy algorithm remembers per role", ge=1)
    updates: int = quantity(50, "-", "gradient steps per iteration (off-policy)", ge=1)
    target_rate: float = quantity(0.005, "-", "rate at which target networks follow (off-policy)", gt=0, le=1)
    price_updates: int = quantity(30, "-", "gradient steps of the price network per iteration (priced_dqn)", ge=1)
    random_steps: int = quantity(1000, "-", "cell-slots with random actions, played first (ddpg, td3)", ge=0)
    noise: float = quantity(0.2, "-", "deviation of the noise on actions in [-1, 1] (ddpg, td3)", ge=0)
    noise_final: float | None = quantity(None, "-", "the same at the end of the budget, linear; default constant", ge=0)
    action_penalty: float = quantity(
        0.0, "-", "weight of the mean squared actor output before tanh in its loss (ddpg, td3)", ge=0
    )
    epsilon: float = quantity(0.05, "-", "final share of random actions (dqn)", ge=0, le=1)
    exploration: float = quantity(0.3, "-", "share of the budget over which epsilon falls from 1", gt=0, le=1)
    imitate: dict[str, str] = pydantic.Field(
        default_factory=dict, description="learned role -> controller whose actions its network first learns"
    )
    imitate_steps: int = quantity(300, "-", "gradient steps of imitation before training", ge=1)
    normalise: bool = quantity(False, "-", "scale observations by running moments")
    one_hot: dict[str, dict[int, int]] = pydantic.Field(
        default_factory=dict, description="role -> observation entry -> values on an even grid: seen as indicators too"
    )
    relaxation: Literal["concrete", "gaussian"] = quantity(
        "concrete", "-", "hybrid_sac: discrete parts drawn exactly, or as the paper's rounded Gaussians"
    )
    restrict: dict[str, float] = pydantic.Field(
        default_factory=dict, description="hybrid_sac: part of the action -> value that all its entries keep"
    )
    alpha: float | None = quantity(None, "-", "temperature of hybrid_sac; default: learned from 0.1", gt=0)
    soft_target: bool = quantity(True, "-", "hybrid_sac: the target holds the next action's entropy")
    log_std: float = quantity(-0.7, "-", "start of the log standard deviation of a Box action", ge=-3, le=1)
    first_action: dict[str, tuple[float, ...]] = pydantic.Field(
        default_factory=dict, description="role -> raw Box action that its policy starts from, whatever the row"
    )
    seed: int = quantity(0, "-", "seed of weights, traces and exploration", ge=0)
    threads: int = quantity(1, "-", "threads of the learning process; more pay for large networks only", ge=1)
    num_env_runners: int = quantity(0, "-", "remote runners; 0 samples in this process", ge=0)
    minutes: float | None = quantity(None, "min", "wall-clock time after which training ends below its budget", gt=0)
    checkpoint_s: float = quantity(60.0, "s", "time between checkpoints", gt=0)

    def make_scenario(self) -> Scenario:
        """The scenario of this run."""
        return make_scenario(self.scenario, **self.set)

    @property
    def joint(self) -> bool:
        """Whether one network decides the joint action from the global state."""
        return self.control == "central" and self.central_policy == "joint"

    @property
    def pooled(self) -> bool:
        """Whether networks see the pooled rows of all agents."""
        return self.control == "central" and self.central_policy == "pooled"

    @property
    def reward_mode(self) -> str:
        """The reward mode that agents learn from."""
        return self.reward or ("team" if self.control == "central" else "local")

    def learned_roles(self) -> tuple[str, ...]:
        """Roles that learn, in the scenario's order, or (CENTRAL,)."""
        if self.joint:
            return (CENTRAL,)
        return tuple(role for role in self.make_scenario().roles if role not in self.fixed)

    def learned_agents(self) -> int:
        """Agents of a cell whose decisions are learned; central control decides for all."""
        roles = self.make_scenario().roles
        return sum(roles[r].count for r in (roles if self.joint else self.learned_roles()))

    def finished_at(self, row: Any) -> bool:
        """Whether a row of the learning curve uses up the budget of agent-steps or of time."""
        late = self.minutes is not None and row["time_s"] >= 60.0 * self.minutes
        return bool(row["agent_steps"] >= self.agent_steps or late)

    def grid_of(self, role: str) -> tuple[int, ...]:
        """Points per entry of a role's action, () if it has no grid."""
        points = self.grid.get(role, ())
        entries = int(np.prod(self.make_scenario().roles[role].action_space.shape or ()))
        return (points,) * entries if isinstance(points, int) else points

    def to_dict(self) -> dict[str, Any]:
        """Plain values; settings that came later are left out at their default, so that older runs are recognised."""
        values = dataclasses.asdict(self)
        return {name: value for name, value in values.items() if name not in LATER or value != LATER[name]}


LATER: dict[str, Any] = {
    "grid": {}, "critic_lr": None, "reward_offset": 0.0, "activation": None, "output_gain": None, "price_updates": 30,
    "random_steps": 1000, "noise": 0.2, "noise_final": None, "action_penalty": 0.0, "network": "plain", "imitate": {},
    "imitate_steps": 300, "foresight": 0, "first_action": {},
    "entropy_until": None, "one_hot": {}, "relaxation": "concrete", "restrict": {}, "alpha": None, "soft_target": True,
}  # fmt: skip
"""Settings that earlier versions did not have, with their defaults."""


def check(config: TrainConfig) -> None:
    """Raise `ValueError` for what the fields' own checks cannot see."""
    scenario = config.make_scenario()
    if config.algorithm in OFF_POLICY and config.normalise:
        raise ValueError(f"normalise = True is not legal with {config.algorithm}: its target networks would lag behind")
    _check_actions(config, scenario)
    if config.joint and config.algorithm in DISCRETE:
        raise ValueError(f"{config.algorithm} does not decide a joint action: use central_policy='pooled'")
    if config.algorithm == "priced_dqn":
        _check_priced(config, scenario)
    if config.algorithm == "hybrid_sac":
        if not config.joint:
            raise ValueError("hybrid_sac decides a joint action: set control = central, central_policy = joint")
        hybrid_action(scenario.hybrid_space, config.relaxation, restrict=config.restrict)
    if config.algorithm == "counterfactual":
        _check_counterfactual(config, scenario)
    if config.reward_mode not in scenario.reward_modes:
        raise ValueError(unknown_name("reward mode", config.reward_mode, scenario.reward_modes))
    if config.joint and config.reward_mode != "team":
        raise ValueError(f"reward = '{config.reward}' is not legal: a joint action is judged by 'team'")
    central = config.control == "central"
    if central and (config.policies == "independent" or config.algorithm == "mappo" or (config.joint and config.fixed)):
        raise ValueError(
            "control = 'central' decides for all: no independent policies, no mappo, no fixed role of a joint action"
        )
    for role, name in config.fixed.items():
        if role not in scenario.roles:
            raise ValueError(unknown_name("role", role, scenario.roles))
        make_controller(scenario, role, name)
    _check_imitation(config, scenario)
    _check_foresight(config, scenario)
    _check_first_action(config, scenario)
    if config.network == "parts" and (config.normalise or config.policies == "independent"):
        raise ValueError("network = 'parts' is for shared policies without normalise")
    if central and any(message_entries(scenario, config.fixed).values()):
        raise ValueError("a fixed controller sends messages, which a central policy does not read")
    if not config.learned_roles():
        raise ValueError("fixed names every role: nothing is left to learn")


def _check_actions(config: TrainConfig, scenario: Scenario) -> None:
    """Whether the algorithm can decide the roles' actions."""
    if config.joint and config.algorithm in CONTINUOUS and not isinstance(scenario.central_space, gymnasium.spaces.Box):
        raise ValueError(
            f"{config.algorithm} needs continuous (Box) actions; the joint one has {scenario.central_space}: use ppo"
        )
    learned = () if config.joint else config.learned_roles()
    for role in config.grid:
        if role not in learned:
            raise ValueError(unknown_name("learned role", role, learned))
    for role in learned:
        space, grid = scenario.roles[role].action_space, config.grid_of(role)
        network_spec(1, space, grid)  # raises for a grid that does not fit
        discrete = bool(grid) or isinstance(space, gymnasium.spaces.Discrete)
        box = isinstance(space, gymnasium.spaces.Box) and not grid
        if (config.algorithm in CONTINUOUS and not box) or (config.algorithm in DISCRETE and not discrete):
            needed = "continuous (Box)" if config.algorithm in CONTINUOUS else "Discrete"
            raise ValueError(
                f"{config.algorithm} needs {needed} actions; role '{role}' has {space}: name a controller for it in "
                + ("fixed, or points for it in grid, or use ppo" if box else "fixed, or use ppo")
            )


def _check_counterfactual(config: TrainConfig, scenario: Scenario) -> None:
    """Whether the scenario says what every choice of the learned roles pays."""
    for role in config.learned_roles():
        if role not in scenario.counterfactual_roles:
            raise ValueError(
                f"counterfactual needs to know what every choice of a role pays; {config.scenario} says it for "
                f"{', '.join(scenario.counterfactual_roles) or 'no role'}, not for '{role}'"
            )


def _check_priced(config: TrainConfig, scenario: Scenario) -> None:
    """Whether the scenario has something to price, and the run is of the kind that learns it."""
    pricing(scenario)
    if config.control == "central" or config.policies == "independent" or config.discount != 0.0 or config.fixed:
        raise ValueError("priced_dqn is decentralized, shared and without discount: set discount = 0, fix no role")


def _check_foresight(config: TrainConfig, scenario: Scenario) -> None:
    """Whether there is a critic of rows, and something that it can foresee."""
    if not config.foresight:
        return
    if config.algorithm != "ppo" or config.joint or config.network == "parts" or config.reward_mode == "cell":
        raise ValueError("foresight is for ppo with a critic of an agent's own row (no joint action, parts or cells)")
    if not set(config.learned_roles()) & set(scenario.foreseen_roles):
        raise ValueError(
            f"foresight = {config.foresight} is not legal: {config.scenario} tells what a slot brings for "
            f"{', '.join(scenario.foreseen_roles) or 'no role'}, and {', '.join(config.learned_roles())} learns"
        )


def _check_first_action(config: TrainConfig, scenario: Scenario) -> None:
    """Whether a Gaussian policy of the role can start from the action."""
    if not config.first_action:
        return
    if config.algorithm not in ("ppo", "mappo") or config.network == "parts" or config.imitate:
        raise ValueError("first_action is for ppo and mappo, without network = 'parts' or imitate")
    learned = () if config.joint else config.learned_roles()
    for role, action in config.first_action.items():
        if role not in learned:
            raise ValueError(unknown_name("learned role", role, learned))
        space = scenario.roles[role].action_space
        if not isinstance(space, gymnasium.spaces.Box) or config.grid_of(role):
            raise ValueError(f"first_action is for Box actions without a grid; role '{role}' has {space}")
        values = np.asarray(action, float)
        if values.shape != space.shape or not ((values >= space.low) & (values <= space.high)).all():
            raise ValueError(f"first_action = {action} of role '{role}' is not legal: must lie in {space}")


def _check_imitation(config: TrainConfig, scenario: Scenario) -> None:
    if not config.imitate:
        return
    if config.algorithm not in ("ppo", "mappo", "counterfactual") or config.grid:
        raise ValueError("imitate is for ppo, mappo and counterfactual, without a grid")
    if sorted(config.imitate) != sorted(config.learned_roles()):
        raise ValueError(
            f"imitate = {config.imitate} is not legal: must name a controller for each of "
            f"{', '.join(config.learned_roles())}, the roles that learn"
        )
    for role, name in config.imitate.items():
        make_controller(scenario, role, name)
