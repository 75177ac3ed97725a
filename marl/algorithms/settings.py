"""What a training run is told: the fields of every run, and the settings that algorithms share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic

from edgemarl.envs.config import config_class, quantity
from edgemarl.envs.registry import make_scenario
from edgemarl.envs.scenario import Scenario

Width = Annotated[int, pydantic.Field(ge=1, le=16_384)]
"""Numbers of a layer."""


@config_class
class RunFields:
    """Fields of a training run beside the settings of its algorithm."""

    scenario: str = quantity("sequential_offloading", "-", "scenario, by name or module:Class")
    set: dict[str, Any] = pydantic.Field(default_factory=dict, description="config fields of the scenario to replace")
    algorithm: str = quantity("ppo", "-", "learning algorithm, by name or module:Class")
    control: Literal["decentralized", "central"] = quantity("decentralized", "-", "one policy per role, or one for all")
    policies: Literal["shared", "independent"] = quantity("shared", "-", "one network per role, or one per agent")
    central_policy: Literal["pooled", "sets", "joint"] = quantity(
        "pooled", "-", "central control: role networks that also see pooled rows of all; such networks that decide for "
        "the set of a role's agents; or one network for the joint action"
    )  # fmt: skip
    reward: str | None = quantity(None, "-", "reward mode of the scenario: local, of central control team")
    fixed: dict[str, str] = pydantic.Field(default_factory=dict, description="role -> controller that is not learned")
    agent_steps: int = quantity(500_000, "-", "budget: agents' decisions (central: of all agents)", ge=1, le=10**15)
    minutes: float | None = quantity(
        None, "min", "wall-clock time after which training ends below its budget", gt=0, le=1e7
    )
    until: float | None = quantity(
        None, "-", "training ends once the greedy policy's cost is above the scenario's reference by no more than this "
        "share, looked at 40 times over the budget", ge=0, le=1e6
    )  # fmt: skip
    keep: Literal["last", "best"] = quantity(
        "last", "-", "policies that a save holds: those of the last update, or those with the lowest cost when they "
        "act greedily on traces that no training draws, looked at 10 times over the budget and before the first update"
    )  # fmt: skip
    cells: int = quantity(8, "-", "cells stepped at once by a runner", ge=1, le=100_000)
    slots: int = quantity(50, "-", "slots per iteration", ge=1, le=10_000_000)
    iteration_steps: int | None = quantity(
        None, "-", "agent-steps of an iteration: as many cells, 1 to 64, as come nearest; none: cells as given",
        ge=1, le=10**12,
    )  # fmt: skip
    seed: int = quantity(0, "-", "seed of weights, traces and exploration", ge=0, le=2**31 - 1)
    threads: int = quantity(1, "-", "threads of the learning process; more pay for large networks only", ge=1, le=4096)
    num_env_runners: int = quantity(0, "-", "remote runners; 0 samples in this process", ge=0, le=100_000)
    num_learners: int = quantity(
        0, "-", "Learners in processes of their own that share every minibatch; 0: one, in this process", ge=0, le=1000
    )
    overlap: bool = quantity(
        False, "-", "remote runners sample the next batch while this one is learned from, with the weights before it"
    )
    checkpoint_s: float = quantity(60.0, "s", "time between checkpoints", gt=0, le=1e9)
    trace: str = quantity("", "-", "trace file whose stretches are the episodes; none: they are drawn")
    trace_digest: str = quantity("", "-", "SHA-256 of that file")
    trace_ignore: tuple[str, ...] = quantity((), "-", "columns of that file to leave out")
    train_share: float = quantity(0.7, "-", "share of its slots, from the first on, that are trained on", gt=0, le=1)

    @property
    def remote_processes(self) -> int:
        """Processes of one CPU each beside the one that trains: runners and Learners."""
        return self.num_env_runners + self.num_learners

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
        return self.control == "central" and self.central_policy != "joint"

    @property
    def sets(self) -> bool:
        """Whether a network decides for the set of all agents of its role."""
        return self.control == "central" and self.central_policy == "sets"

    @property
    def reward_mode(self) -> str:
        """The reward mode that agents learn from."""
        return self.reward or ("team" if self.control == "central" else "local")

    def finished_at(self, row: Any) -> bool:
        """Whether a row of the learning curve uses up the budget of agent-steps or of time."""
        late = self.minutes is not None and row["time_s"] >= 60.0 * self.minutes
        good = self.until is not None and row.get("above_reference", float("nan")) <= self.until
        return bool(row["agent_steps"] >= self.agent_steps or late or good)


@config_class
class Settings:
    """What every learner is told; `None` is the recipe's value for the control."""

    minibatch: int = quantity(1000, "-", "agent-steps of a minibatch", ge=1, le=10**9)
    lr: float | None = quantity(None, "-", "first learning rate of Adam: 1e-3, joint central 3e-4", gt=0, le=1e6)
    lr_final: float = quantity(0.1, "-", "share of the learning rate that is left at the end", gt=0, le=1)
    discount: float | None = quantity(None, "-", "per slot; default the scenario's own, else 0.99", ge=0, lt=1)
    gradient_clip: float | None = quantity(0.5, "-", "largest norm of a gradient; null: any", gt=0, le=1e12)
    reward_offset: float = quantity(0.0, "-", "added to rewards before their factor", ge=-1e12, le=1e12)
    reward_scale: float | None = quantity(None, "-", "factor on rewards; default the scenario's scale", gt=0, le=1e12)
    hidden: tuple[Width, ...] | None = quantity(None, "-", "widths of the policy's layers: 64, 64; joint 256, 256")
    activation: Literal["tanh", "relu"] = quantity("tanh", "-", "of hidden layers")
    output_gain: float = quantity(0.01, "-", "gain of the policy's last layer at the start", gt=0, le=1e3)
    network: Literal["plain", "parts"] = quantity(
        "plain", "-", "perceptron of the row, or (roles whose row divides into like parts) one for every part"
    )
    one_hot: dict[str, dict[int, int]] = pydantic.Field(
        default_factory=dict, description="role -> observation entry -> values on an even grid: seen as indicators too"
    )


@config_class
class OnPolicySettings(Settings):
    """What learns from what it has just sampled."""

    epochs: int = quantity(8, "-", "passes over a batch", ge=1, le=100_000)
    entropy: float = quantity(0.0, "-", "entropy bonus", ge=0, le=1e6)
    entropy_until: float | None = quantity(
        None, "-", "share of the budget over which the entropy bonus falls linearly to 0; default: constant", gt=0, le=1
    )
    normalise: bool = quantity(
        False, "-", "scale observations by running moments, but for rows that a network reads in parts"
    )
    imitate: dict[str, str] = pydantic.Field(
        default_factory=dict, description="learned role -> controller whose actions its network first learns"
    )
    imitate_steps: int = quantity(300, "-", "gradient steps of imitation before training", ge=1, le=10**9)
    imitate_rows: int | None = quantity(
        None,
        "-",
        "agent-steps that every imitated role is shown at least; default 8192, at most an episode",
        ge=1,
        le=10**7,
    )


@config_class
class OffPolicySettings(Settings):
    """What learns from a replay buffer."""

    replay: int = quantity(200_000, "-", "agent-steps that are remembered per role", ge=1, le=10**9)
    updates: int = quantity(50, "-", "gradient steps per iteration", ge=1, le=10**7)
    target_rate: float = quantity(0.005, "-", "rate at which target networks follow", gt=0, le=1)
