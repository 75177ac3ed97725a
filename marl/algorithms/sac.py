"""Soft actor-critic on the batched runner: RLlib's Learner and losses, fed from a replay buffer of whole arrays.

Source: Haarnoja et al., arXiv:1812.05905, as RLlib implements it.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from ray.rllib.algorithms import sac as rllib
from ray.rllib.algorithms.sac.torch.sac_torch_learner import SACTorchLearner
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchSquashedGaussian
from ray.rllib.core.rl_module.apis import QNetAPI, TargetNetworkAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from torch import nn

from edgemarl.agents.trained.layers import Perceptron
from edgemarl.agents.trained.networks import PolicyNetwork
from edgemarl.agents.trained.spec import NetworkSpec
from edgemarl.envs.config import config_class, quantity
from edgemarl.marl.algorithms.base import Algorithm, Needs, Run, off_policy_training, set_replay
from edgemarl.marl.algorithms.settings import OffPolicySettings, Width
from edgemarl.marl.rllib.replay import OffPolicy, OffPolicyConfig, ReplayUpdates

TEMPERATURE = "log_alpha"


@config_class
class SACSettings(OffPolicySettings):
    """Settings of SAC."""

    critic_hidden: tuple[Width, ...] | None = quantity(
        None, "-", "widths of the critics' layers; default as the policy"
    )


class SAC(Algorithm):
    """Squashed Gaussian policies with a standard deviation that depends on the state, twin critics, a temperature."""

    name = "sac"
    meaning = "soft actor-critic, for Box actions"
    Settings = SACSettings
    needs = Needs(actions="box")
    output = "transitions"

    def build(self, run: Run) -> Any:
        built = BatchedSACConfig()
        set_soft_training(built, run)
        return built

    def module_class(self) -> type:
        return SACModule

    def spec(self, run: Run, role: str, **kind: Any) -> NetworkSpec:
        return super().spec(run, role, state_std=True, squash="tanh", log_std_min=-5.0, log_std_max=1.0, **kind)

    def module_config(self, run: Run, role: str) -> dict[str, Any]:
        hidden = tuple(run.settings.critic_hidden or run.hidden)
        return {**super().module_config(run, role), "critic_hidden": hidden}


def set_soft_training(config: Any, run: Run) -> None:
    """Rates, temperature, critics and replay of soft actor-critics."""
    rate = run.falling(run.lr)
    config.training(
        **off_policy_training(run),
        actor_lr=rate,
        critic_lr=rate,
        alpha_lr=rate,
        initial_alpha=0.1,
        twin_q=True,
        lr=None,
    )
    set_replay(config, run)


class SACModule(TorchRLModule, QNetAPI, TargetNetworkAPI):
    """Squashed Gaussian policy and twin critics of a Box role; RLlib's Learner finds its parts by these names."""

    def setup(self) -> None:
        self.spec = NetworkSpec.from_dict(self.model_config["spec"])
        self.policy = PolicyNetwork(self.spec)
        inputs, hidden = self.spec.observation_size + self.policy.head.outputs, self.model_config["critic_hidden"]
        self.qf: nn.Module = Perceptron(inputs, hidden, 1, self.spec.agents)
        self.qf_twin: nn.Module = Perceptron(inputs, hidden, 1, self.spec.agents)
        self.pi_encoder, self.qf_encoder, self.qf_twin_encoder = nn.Identity(), nn.Identity(), nn.Identity()

    @property
    def pi(self) -> PolicyNetwork:
        return self.policy

    @property
    def has_agent_axis(self) -> bool:
        return bool(self.spec.agents)

    def make_target_networks(self) -> None:
        self.target_qf = deepcopy(self.qf).requires_grad_(False)
        self.target_qf_twin = deepcopy(self.qf_twin).requires_grad_(False)

    def get_target_network_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        return [(self.qf, self.target_qf), (self.qf_twin, self.target_qf_twin)]

    def forward_target(self, batch: dict[str, Any], **_: Any) -> torch.Tensor:
        inputs = torch.cat([batch[Columns.OBS], batch[Columns.ACTIONS]], dim=-1)
        return torch.min(self.target_qf(inputs), self.target_qf_twin(inputs))[..., 0]

    def compute_q_values(self, batch: dict[str, Any]) -> Any:
        inputs = torch.cat([batch[Columns.OBS], batch[Columns.ACTIONS]], dim=-1)
        return torch.min(self.qf(inputs), self.qf_twin(inputs))[..., 0]

    def value_of(self, observations: torch.Tensor, actions: torch.Tensor) -> Any:
        """Values of actions for the actor's loss, whose gradient passes through the critics without moving them."""
        critics = [*self.qf.parameters(), *self.qf_twin.parameters()]
        for p in critics:
            p.requires_grad = False
        value = self.compute_q_values({Columns.OBS: observations, Columns.ACTIONS: actions})
        for p in critics:
            p.requires_grad = True
        return value

    def _forward(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {Columns.ACTION_DIST_INPUTS: self.policy(batch[Columns.OBS])}

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        taken = torch.cat([batch[Columns.OBS], batch[Columns.ACTIONS]], dim=-1)
        now = self.policy(batch[Columns.OBS])
        drawn, logp = TorchSquashedGaussian.from_logits(now).rsample_and_logp()
        value = self.value_of(batch[Columns.OBS], drawn)
        with torch.no_grad():
            next_drawn, next_logp = TorchSquashedGaussian.from_logits(
                self.policy(batch[Columns.NEXT_OBS])
            ).sample_and_logp()
            target = self.forward_target({Columns.OBS: batch[Columns.NEXT_OBS], Columns.ACTIONS: next_drawn})
        return {
            Columns.ACTION_DIST_INPUTS: now,
            "qf_preds": self.qf(taken)[..., 0],
            "qf_twin_preds": self.qf_twin(taken)[..., 0],
            "logp_resampled": logp,
            "q_curr": value,
            "q_target_next": target,
            "logp_next_resampled": next_logp,
        }

    def get_inference_action_dist_cls(self) -> Any:
        return TorchSquashedGaussian


class BatchedSACLearner(ReplayUpdates, SACTorchLearner):
    """RLlib's SAC losses on whole arrays; the temperature is part of the state, which RLlib leaves out."""

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        state: dict[str, Any] = super().get_state(*args, **kwargs)
        return {**state, TEMPERATURE: {m: value.detach().numpy().copy() for m, value in self.curr_log_alpha.items()}}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        for module, value in state.get(TEMPERATURE, {}).items():
            self.curr_log_alpha[module].data.copy_(torch.as_tensor(value))


class BatchedSAC(OffPolicy, rllib.SAC):
    """SAC whose runners return arrays of transitions."""

    @classmethod
    def get_default_config(cls) -> Any:
        return BatchedSACConfig()


class BatchedSACConfig(OffPolicyConfig, rllib.SACConfig):
    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or BatchedSAC)

    def get_default_learner_class(self) -> Any:
        return BatchedSACLearner
