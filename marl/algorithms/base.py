"""What a learning algorithm is to this project: its settings, what it needs, and how RLlib runs it.

An algorithm is one file of this folder (or one class elsewhere, named as module:Class or by an entry point) with a
subclass of `Algorithm` whose `name` is the file's.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import gymnasium
import numpy as np

from edgemarl.agents.pooling import pool_size, row_size
from edgemarl.agents.registry import check_fixed, make_controller, message_entries
from edgemarl.agents.trained.policy import CENTRAL
from edgemarl.agents.trained.spec import NetworkSpec, network_spec
from edgemarl.envs.config import unknown_name
from edgemarl.envs.joint import learner_reward_scale
from edgemarl.envs.scenario import Scenario
from edgemarl.marl.algorithms.settings import RunFields, Settings

Output = Literal["advantages", "transitions", "choices"]
"""What runners hand over: an on-policy batch, rows for a replay buffer, or what every choice would have paid."""


@dataclass(frozen=True)
class Needs:
    """What an algorithm asks of a run.

    Attributes:
        actions: kinds of action spaces that it can decide.
        joint: it can decide the joint action of central control.
        pooled: it can learn central control by role networks that see pooled rows.
        sets: it can learn one network of the set of all agents of a role.
        independent: it can learn a network per agent.
    """

    actions: Literal["any", "box", "discrete"] = "any"
    joint: bool = True
    pooled: bool = True
    sets: bool = False
    independent: bool = True


@dataclass(frozen=True)
class Run:
    """A training run with everything resolved once: what algorithms, runners and folders read.

    Attributes:
        config: the run's own fields.
        algorithm: what learns.
        settings: its settings.
        scenario: the network.
    """

    config: RunFields
    algorithm: Algorithm
    settings: Any
    scenario: Scenario

    @cached_property
    def roles(self) -> tuple[str, ...]:
        """Roles that learn, in the scenario's order, or (CENTRAL,)."""
        if self.config.joint:
            return (CENTRAL,)
        return tuple(role for role in self.scenario.roles if role not in self.config.fixed)

    @cached_property
    def agents(self) -> int:
        """Agents of a cell whose decisions are learned; central control decides for all."""
        return sum(self.scenario.roles[r].count for r in (self.scenario.roles if self.config.joint else self.roles))

    @cached_property
    def heard(self) -> dict[str, int]:
        """Role -> entries that messages of fixed controllers add to each of its rows."""
        return message_entries(self.scenario, self.config.fixed)

    @property
    def env_steps(self) -> int:
        """The budget in cell-slots."""
        return max(1, self.config.agent_steps // self.agents)

    @property
    def independent(self) -> bool:
        return self.config.policies == "independent"

    @property
    def discount(self) -> float:
        """The run's discount, else the scenario's own, else 0.99."""
        own = self.settings.discount
        return float(own if own is not None else getattr(self.scenario.config, "discount", 0.99))

    @property
    def lr(self) -> float:
        """First learning rate."""
        return float(self.settings.lr or (3e-4 if self.config.joint else 1e-3))

    @property
    def hidden(self) -> tuple[int, ...]:
        """Widths of the policy's layers."""
        return self.settings.hidden or ((256, 256) if self.config.joint else (64, 64))

    def to_dict(self) -> dict[str, Any]:
        """The run's fields and its algorithm's settings, plain values."""
        return dataclasses.asdict(self.config)

    def falling(self, lr: float) -> list[list[float]]:
        """A learning rate that falls linearly over the budget, as RLlib writes a schedule."""
        return [[0, lr], [self.env_steps, lr * self.settings.lr_final]]

    def grid_of(self, role: str) -> tuple[int, ...]:
        """Points per entry of a role's action, () if it has no grid."""
        points = getattr(self.settings, "grid", {}).get(role, ())
        if not isinstance(points, int):
            return tuple(points)
        return (points,) * int(np.prod(self.scenario.roles[role].action_space.shape or ()))

    def reward_scales(self) -> dict[str, float]:
        """Learned role -> factor on its reward: the given one, or the scenario's, divided where many share a reward."""
        scales = {role: float(self.scenario.learner_scale[role]) for role in self.scenario.ledger}
        given = self.settings.reward_scale
        if self.config.joint:
            return {CENTRAL: given or learner_reward_scale(self.scenario)}
        divisor = self.scenario.reward_divisor(self.config.reward_mode)
        return {role: given or scales[role] / divisor for role in self.roles}


class Algorithm(ABC):
    """A learning algorithm.

    Class attributes:
        name: by which it is asked for.
        meaning: one line for lists.
        Settings: the fields that it takes.
        needs: what it asks of a run.
        output: what its runners hand over.
        critic_pool: whether its critic sees the pooled rows of all agents beside the own one.
        shares_minibatches: whether several Learners learn what one does: its losses are means over rows and draw
            nothing, its Learner is one of `edgemarl.marl.rllib.learners.SharedMinibatches`.
    """

    name: ClassVar[str]
    meaning: ClassVar[str]
    Settings: ClassVar[type[Settings]]
    needs: ClassVar[Needs] = Needs()
    output: ClassVar[Output]
    critic_pool: ClassVar[bool] = False
    hybrid: ClassVar[bool] = False
    shares_minibatches: ClassVar[bool] = False

    def check(self, run: Run) -> None:
        """Raise `ValueError` for what the fields' own checks cannot see; subclasses add theirs."""
        self._check_processes(run)
        self._check_control(run)
        self._check_actions(run)
        self._check_imitation(run)

    @abstractmethod
    def build(self, run: Run) -> Any:
        """RLlib's `AlgorithmConfig` of a run, without what every run has alike (`edgemarl.marl.rllib.setup`)."""

    @abstractmethod
    def module_class(self) -> type:
        """The RLModule of a role."""

    def module_class_of(self, run: Run, role: str) -> type:
        """The RLModule of one role, where it differs."""
        return self.module_class()

    def runner_class(self) -> type | None:
        """An EnvRunner of the algorithm's own; None: `edgemarl.marl.rllib.env_runner.BatchedEnvRunner`."""
        return None

    def joint_reward_modes(self, run: Run) -> tuple[str, ...]:
        """Reward modes that may judge a joint action."""
        return run.scenario.joint_reward_modes

    def foresight(self, run: Run) -> int:
        """Slots ahead whose arrivals and channels runners put beside the rows, for critics in training."""
        return 0

    def module_config(self, run: Run, role: str) -> dict[str, Any]:
        """`model_config` of a role's module."""
        return {"spec": self.spec(run, role).to_dict()}

    def spec(self, run: Run, role: str, **kind: Any) -> NetworkSpec:
        """The policy network of a role; `kind` are further fields of `NetworkSpec`.

        One that reads a row in parts takes it as it is: the normaliser has a moment for every entry of a row, and
        parts that are alike would be scaled apart.
        """
        settings, scenario = run.settings, run.scenario
        if run.config.joint:
            size, action_space, agents = scenario.global_state_space.shape[0], scenario.central_space, 1
        else:
            played = scenario.roles[role]
            size = row_size(scenario, role, run.config.pooled) + run.heard.get(role, 0)
            action_space, agents = played.action_space, played.count
        parts = None if run.config.joint or settings.network != "parts" else scenario.roles[role].parts
        if parts is not None and kind.get("normalise"):
            kind["normalise"] = False
        return network_spec(
            size,
            action_space,
            hidden=run.hidden,
            agents=agents if run.independent and agents > 1 else 0,
            grid=() if run.config.joint else run.grid_of(role),
            activation=settings.activation,
            output_gain=settings.output_gain,
            one_hot=tuple(sorted((int(c), int(n)) for c, n in settings.one_hot.get(role, {}).items())),
            parts=() if parts is None else dataclasses.astuple(parts),
            pool=pool_size(scenario) if run.config.pooled else 0,
            sets=run.config.sets and agents > 1,
            **kind,
        )

    def spaces(self, run: Run, role: str) -> tuple[gymnasium.Space[Any], gymnasium.Space[Any]]:
        """Observation and action space that a role's module is told."""
        if run.config.joint:
            return run.scenario.global_state_space, run.scenario.central_space
        played = run.scenario.roles[role]
        return played.observation_space, played.action_space

    # --- checks ------------------------------------------------------------------------------------------------------

    def _check_processes(self, run: Run) -> None:
        """Whether the run can be spread over the processes that it asks for."""
        config = run.config
        if config.num_learners and not self.shares_minibatches:
            raise ValueError(
                f"num_learners = {config.num_learners} is not legal: updates of {self.name} draw random numbers, and "
                "several Learners would draw others than one: must be 0"
            )
        if config.overlap and not config.num_env_runners:
            raise ValueError("overlap = True is not legal without remote runners: num_env_runners must be 1 or more")

    def _check_control(self, run: Run) -> None:
        config, scenario = run.config, run.scenario
        if config.reward_mode not in scenario.reward_modes:
            raise ValueError(unknown_name("reward mode", config.reward_mode, scenario.reward_modes))
        judging = self.joint_reward_modes(run)
        if config.joint and config.reward_mode not in judging:
            judges = " or ".join(f"'{mode}'" for mode in judging)
            raise ValueError(f"reward = '{config.reward}' is not legal: a joint action is judged by {judges}")
        if config.joint and not self.needs.joint:
            raise ValueError(f"{self.name} does not decide a joint action: use central_policy='pooled'")
        central = config.control == "central"
        alone = run.independent or (not self.needs.pooled and config.pooled) or (config.joint and config.fixed)
        if central and alone:
            raise ValueError(
                "control = 'central' decides for all: no independent policies, no mappo, no fixed role of a joint "
                "action"
            )
        check_fixed(scenario, config.fixed)
        if not run.roles:
            raise ValueError("fixed names every role: nothing is left to learn")
        if run.settings.network == "parts" and run.independent:
            raise ValueError("network = 'parts' is for shared policies")
        if config.sets and (not self.needs.sets or run.settings.network == "parts"):
            raise ValueError("central_policy = 'sets' is for ppo and counterfactual, without network = 'parts'")

    def _check_actions(self, run: Run) -> None:
        """Whether the algorithm can decide the roles' actions."""
        needed = {"box": "continuous (Box)", "discrete": "Discrete"}.get(self.needs.actions)
        if run.config.joint:
            space = run.scenario.central_space
            if self.needs.actions == "box" and not isinstance(space, gymnasium.spaces.Box):
                raise ValueError(f"{self.name} needs {needed} actions; the joint one has {space}: use ppo")
            return
        for role in getattr(run.settings, "grid", {}):
            if role not in run.roles:
                raise ValueError(unknown_name("learned role", role, run.roles))
        for role in run.roles:
            space, grid = run.scenario.roles[role].action_space, run.grid_of(role)
            network_spec(1, space, grid)  # raises for a grid that does not fit
            discrete = bool(grid) or isinstance(space, gymnasium.spaces.Discrete)
            box = isinstance(space, gymnasium.spaces.Box) and not grid
            if not {"any": True, "box": box, "discrete": discrete}[self.needs.actions]:
                raise ValueError(
                    f"{self.name} needs {needed} actions; role '{role}' has {space}: name a controller for it in "
                    + ("fixed, or points for it in grid, or use ppo" if box else "fixed, or use ppo")
                )

    def _check_imitation(self, run: Run) -> None:
        imitate: Mapping[str, str] = getattr(run.settings, "imitate", {})
        if not imitate:
            return
        if getattr(run.settings, "grid", {}):
            raise ValueError("imitate is for policies without a grid")
        if sorted(imitate) != sorted(run.roles):
            raise ValueError(
                f"imitate = {imitate} is not legal: must name a controller for each of {', '.join(run.roles)}, the "
                "roles that learn"
            )
        for role, name in imitate.items():
            make_controller(run.scenario, role, name)


# --- what RLlib's `training` is told -------------------------------------------------------------------------------


def on_policy_training(run: Run) -> dict[str, Any]:
    """What every on-policy algorithm tells RLlib's `training`."""
    s = run.settings
    return {
        "lr": run.falling(run.lr),
        "gamma": run.discount,
        "entropy_coeff": entropy_schedule(run),
        "grad_clip": s.gradient_clip,
        "grad_clip_by": "global_norm",
        "num_epochs": s.epochs,
        "minibatch_size": s.minibatch,
        "train_batch_size_per_learner": max(s.minibatch, run.config.cells * run.config.slots * run.agents),
    }


def entropy_schedule(run: Run) -> float | list[list[float]]:
    """The entropy bonus: constant, or linear to 0 over a share of the budget."""
    s = run.settings
    if s.entropy_until is None:
        return float(s.entropy)
    return [[0, s.entropy], [max(1, round(s.entropy_until * run.env_steps)), 0.0]]


def off_policy_training(run: Run) -> dict[str, Any]:
    """What every off-policy algorithm tells RLlib's `training`."""
    return {
        "gamma": run.discount,
        "tau": run.settings.target_rate,
        "target_network_update_freq": 0,
        "grad_clip": run.settings.gradient_clip,
        "grad_clip_by": "global_norm",
        "num_steps_sampled_before_learning_starts": 0,
    }


def set_replay(config: Any, run: Run) -> None:
    """Capacity, minibatch and updates of an iteration, from a run's settings."""
    largest = max(1 if run.config.joint else run.scenario.roles[role].count for role in run.roles)
    config.replay_rows = max(run.settings.replay // (largest if run.independent else 1), 1)
    config.replay_batch, config.updates_per_step = run.settings.minibatch, run.settings.updates
