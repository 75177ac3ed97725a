"""Double DQN on the batched runner: RLlib's Learner and loss, fed from a replay buffer of whole arrays.

Sources: Mnih et al. (Nature 2015) with double Q-learning (arXiv:1509.06461), as RLlib implements them.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pydantic
import torch
from ray.rllib.algorithms import dqn as rllib
from ray.rllib.algorithms.dqn.torch.dqn_torch_learner import DQNTorchLearner
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchCategorical
from ray.rllib.core.rl_module.apis import QNetAPI, TargetNetworkAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from torch import nn

from edgemarl.agents.trained.networks import PolicyNetwork
from edgemarl.agents.trained.spec import NetworkSpec
from edgemarl.envs.config import config_class, quantity
from edgemarl.marl.algorithms.base import Algorithm, Needs, Run, off_policy_training, set_replay
from edgemarl.marl.algorithms.settings import OffPolicySettings
from edgemarl.marl.rllib.learner import IndependentNetworks
from edgemarl.marl.rllib.modules import ACTION_MASK, NEXT_ACTION_MASK
from edgemarl.marl.rllib.replay import OffPolicy, OffPolicyConfig, ReplayUpdates


@config_class
class DQNSettings(OffPolicySettings):
    """Settings of DQN."""

    epsilon: float = quantity(0.05, "-", "final share of random actions", ge=0, le=1)
    exploration: float = quantity(0.3, "-", "share of the budget over which epsilon falls from 1", gt=0, le=1)
    grid: dict[str, int | tuple[int, ...]] = pydantic.Field(
        default_factory=dict, description="role -> points per entry of its Box action, then one discrete choice"
    )


class DQN(Algorithm):
    """Action values of a role with choices, or of a Box on a grid."""

    name = "dqn"
    meaning = "double deep Q-learning, for roles with choices, or a grid over a Box"
    Settings = DQNSettings
    needs = Needs(actions="discrete", joint=False)
    output = "transitions"
    shares_minibatches = True

    def build(self, run: Run) -> Any:
        built = BatchedDQNConfig().training(
            **off_policy_training(run),
            lr=run.falling(run.settings.lr or 1e-3),
            double_q=True,
            dueling=False,
            num_atoms=1,
        )
        set_replay(built, run)
        set_exploration(built, run)
        return built

    def module_class(self) -> type:
        return QModule


def set_exploration(config: Any, run: Run) -> None:
    """How the share of random actions falls."""
    config.exploration_steps = max(1, int(run.settings.exploration * run.env_steps))
    config.epsilon_final = run.settings.epsilon


class QModule(TorchRLModule, QNetAPI, TargetNetworkAPI):
    """Action values of a Discrete role; explores by epsilon-greedy, epsilon travels with the weights."""

    epsilon: torch.Tensor

    def setup(self) -> None:
        self.spec = NetworkSpec.from_dict(self.model_config["spec"])
        self.policy = PolicyNetwork(self.spec)
        self.register_buffer("epsilon", torch.ones(()))

    @property
    def has_agent_axis(self) -> bool:
        return bool(self.spec.agents)

    def make_target_networks(self) -> None:
        self.target = deepcopy(self.policy).requires_grad_(False)

    def get_target_network_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        return [(self.policy, self.target)]

    def forward_target(self, batch: dict[str, Any], **_: Any) -> torch.Tensor:
        return self.target(batch[Columns.NEXT_OBS], batch.get(NEXT_ACTION_MASK))

    def compute_q_values(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        return {"qf_preds": self.policy(batch[Columns.OBS])}

    def _forward(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {Columns.ACTION_DIST_INPUTS: self.policy(batch[Columns.OBS], batch.get(ACTION_MASK))}

    @torch.no_grad()
    def _forward_exploration(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Log-probabilities of the epsilon-greedy choice."""
        values = self.policy(batch[Columns.OBS], batch.get(ACTION_MASK))
        allowed = batch[ACTION_MASK].to(values.dtype) if ACTION_MASK in batch else torch.ones_like(values)
        best = nn.functional.one_hot(values.argmax(dim=-1), values.shape[-1])
        spread = allowed / allowed.sum(dim=-1, keepdim=True)
        return {Columns.ACTION_DIST_INPUTS: torch.log((1.0 - self.epsilon) * best + self.epsilon * spread + 1e-30)}

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        with torch.no_grad():
            following = self.policy(batch[Columns.NEXT_OBS], batch.get(NEXT_ACTION_MASK))
            target = self.forward_target(batch)
        return {**self.compute_q_values(batch), "qf_next_preds": following, "qf_target_next_preds": target}

    def get_inference_action_dist_cls(self) -> Any:
        return TorchCategorical


class BatchedDQNLearner(ReplayUpdates, IndependentNetworks, DQNTorchLearner):
    """RLlib's double-DQN loss on whole arrays."""


class BatchedDQN(OffPolicy, rllib.DQN):
    """DQN whose runners return arrays of transitions."""

    @classmethod
    def get_default_config(cls) -> Any:
        return BatchedDQNConfig()


class BatchedDQNConfig(OffPolicyConfig, rllib.DQNConfig):
    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or BatchedDQN)

    def get_default_learner_class(self) -> Any:
        return BatchedDQNLearner
