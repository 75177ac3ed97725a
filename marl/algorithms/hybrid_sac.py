"""Soft actor-critic for joint actions of discrete and continuous parts, on RLlib's SAC and the batched runner.

Losses, temperature, twin critics, target updates and optimisers are RLlib's (`SACTorchLearner`, Haarnoja et al.,
arXiv:1812.05905). Ours is the module: the policy's action is relaxed (`trained.hybrid`), critics see the relaxed action
so that the actor's gradient passes, the environment gets the executed one (JOPA: Niazmand and Ye, 2025, eqs. 24 to 27;
Delalleau et al., arXiv:1912.11077, for hybrid actions in general). With `groups` the networks treat like groups of the
action alike (`trained.groups`), and critics may learn each group's part of the reward.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import gymnasium
import numpy as np
import pydantic
import torch
from ray.rllib.core.columns import Columns

from edgemarl.agents.trained.groups import GroupsCritic, groups_of
from edgemarl.agents.trained.hybrid import LOG_STD_MIN, HybridAction, hybrid_action
from edgemarl.agents.trained.layers import Perceptron
from edgemarl.agents.trained.networks import PolicyNetwork
from edgemarl.agents.trained.spec import NetworkSpec
from edgemarl.envs.capabilities import GroupedActions, hybrid_space
from edgemarl.envs.config import config_class, quantity
from edgemarl.marl.algorithms.base import Algorithm, Needs, Run
from edgemarl.marl.algorithms.sac import BatchedSAC, BatchedSACConfig, SACModule, SACSettings, set_soft_training


@config_class
class HybridSACSettings(SACSettings):
    """Settings of hybrid SAC."""

    activation: Literal["tanh", "relu"] = quantity("relu", "-", "of hidden layers")
    relaxation: Literal["concrete", "gaussian"] = quantity(
        "concrete", "-", "discrete parts drawn exactly, or as the paper's rounded Gaussians"
    )
    restrict: dict[str, float] = pydantic.Field(
        default_factory=dict, description="part of the action -> value that all its entries keep"
    )
    share_logit_scale: float | None = quantity(
        None, "-", "bound c of the logits c tanh(y) of shares; default: unbounded, as printed", gt=0, le=1e6
    )
    share_centred: bool = quantity(False, "-", "bound what the y of a share is above the mean of all y")
    log_std_min: float = quantity(LOG_STD_MIN, "-", "least log standard deviation of Gaussians", ge=LOG_STD_MIN, le=1)
    groups: bool = quantity(
        False, "-", "networks that treat the groups of the action alike, and critics summed over them, where the "
        "scenario has groups; reward = group: a group's critic learns its part of the reward"
    )  # fmt: skip
    alpha: float | None = quantity(None, "-", "temperature; default: learned from 0.1", gt=0, le=1e6)
    soft_target: bool = quantity(True, "-", "the target holds the next action's entropy")


class HybridSAC(Algorithm):
    """One network for all parts of a joint action, discrete and continuous."""

    name = "hybrid_sac"
    meaning = "soft actor-critic of one network for a joint action of discrete and continuous parts (JOPA)"
    Settings = HybridSACSettings
    needs = Needs()
    output = "transitions"
    hybrid = True

    def check(self, run: Run) -> None:
        if not run.config.joint:
            raise ValueError("hybrid_sac decides a joint action: set control = central, central_policy = joint")
        if run.settings.groups and not isinstance(run.scenario, GroupedActions):
            raise ValueError(f"groups = True is not legal: the joint action of {run.scenario.name} has no like groups")
        super().check(run)
        self.action(run)
        self._groups(run)

    def joint_reward_modes(self, run: Run) -> tuple[str, ...]:
        own = super().joint_reward_modes(run)
        return (*own, "group") if run.settings.groups else own

    @staticmethod
    def _groups(run: Run) -> dict[str, Any] | None:
        """Plain values of the scenario's groups, if they are asked for."""
        if not (run.settings.groups and isinstance(run.scenario, GroupedActions)):
            return None
        return dataclasses.asdict(run.scenario.action_groups)

    @staticmethod
    def action(run: Run) -> HybridAction:
        """The relaxed joint action."""
        s = run.settings
        return hybrid_action(
            hybrid_space(run.scenario),
            s.relaxation,
            restrict=s.restrict,
            share_logit_scale=s.share_logit_scale,
            share_centred=s.share_centred,
            log_std_min=s.log_std_min,
        )

    def build(self, run: Run) -> HybridSACConfig:
        """SAC's settings; a fixed temperature is one that is not learned, and updates start with a full minibatch."""
        built = HybridSACConfig()
        set_soft_training(built, run)
        built.training(target_entropy=-float(self.action(run).learned_entries))
        if run.settings.alpha is not None:
            built.training(initial_alpha=run.settings.alpha, alpha_lr=0.0)
        built.random_steps = run.settings.minibatch
        return built

    def module_class(self) -> type:
        return HybridSACModule

    def module_class_of(self, run: Run, role: str) -> type:
        return GroupsSACModule if run.settings.groups else HybridSACModule

    def spec(self, run: Run, role: str, **kind: Any) -> NetworkSpec:
        return NetworkSpec(
            run.scenario.global_state_space.shape[0],
            "hybrid",
            hidden=run.hidden,
            activation=run.settings.activation,
            output_gain=run.settings.output_gain,
            hybrid=self.action(run).to_dict(),
            groups=self._groups(run),
        )

    def module_config(self, run: Run, role: str) -> dict[str, Any]:
        hidden = tuple(run.settings.critic_hidden or run.hidden)
        return {
            **super().module_config(run, role),
            "critic_hidden": hidden,
            "soft_target": run.settings.soft_target,
            "each_group": run.config.reward_mode == "group",
        }

    def spaces(self, run: Run, role: str) -> tuple[gymnasium.Space[Any], gymnasium.Space[Any]]:
        relaxed = gymnasium.spaces.Box(-1.0, 1.0, (self.action(run).relaxed_size,), np.float32)
        return run.scenario.global_state_space, relaxed


class HybridSACModule(SACModule):
    """Policy over relaxed actions and twin critics.

    `model_config` entries: `spec` (a `NetworkSpec` of kind "hybrid"), `critic_hidden`, `soft_target` (whether the
    target holds the entropy of the next action; JOPA's eq. (25) has none).
    """

    def setup(self) -> None:
        self.spec = NetworkSpec.from_dict(self.model_config["spec"])
        assert self.spec.hybrid is not None
        self.policy = PolicyNetwork(self.spec)
        self.action = HybridAction.from_dict(self.spec.hybrid)
        self.qf = self._critic()
        self.qf_twin = self._critic()
        self.pi_encoder, self.qf_encoder, self.qf_twin_encoder = (torch.nn.Identity() for _ in range(3))

    def _critic(self) -> torch.nn.Module:
        inputs, hidden = self.spec.observation_size + self.action.relaxed_size, self.model_config["critic_hidden"]
        return Perceptron(inputs, hidden, 1, activation=self.spec.activation)

    def predicted(self, critic: torch.nn.Module, taken: torch.Tensor) -> torch.Tensor:
        """What a critic is taught of states and relaxed actions (M, ..): (M,), or what broadcasts with rewards."""
        value: torch.Tensor = critic(taken)[..., 0]
        return value

    def drawn(self, observations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Relaxed actions (M, r) of the present policy and their log-probability (M,)."""
        parameters = self.policy(observations)
        noise = self._noise(parameters.shape[:-1])
        return self.action.relax(parameters, noise), self.action.log_probability(parameters, noise)

    def _noise(self, lead: torch.Size) -> torch.Tensor:
        """As `HybridAction.noise`, from torch's generator, which RLlib seeds."""
        uniform = torch.rand(*lead, self.action.logits).clamp(1e-7, 1.0 - 1e-7)
        pieces, start = [], 0
        for kind, width in self.action.logit_parts:
            u = uniform[..., start : start + width]
            pieces.append(torch.logit(u) if kind == "binary" else -torch.log(-torch.log(u)))
            start += width
        return torch.cat([*pieces, torch.randn(*lead, self.action.relaxed_size - self.action.logits)], dim=-1)

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        taken = torch.cat([batch[Columns.OBS], batch[Columns.ACTIONS]], dim=-1)
        relaxed, log_probability = self.drawn(batch[Columns.OBS])
        value = self.value_of(batch[Columns.OBS], relaxed)
        with torch.no_grad():
            following, next_log_probability = self.drawn(batch[Columns.NEXT_OBS])
            target = self.forward_target({Columns.OBS: batch[Columns.NEXT_OBS], Columns.ACTIONS: following})
        if not self.model_config["soft_target"]:
            next_log_probability = torch.zeros_like(next_log_probability)
        if target.dim() > next_log_probability.dim():  # every group bears its share of the entropy
            next_log_probability = next_log_probability[..., None] / target.shape[-1]
        return {
            "qf_preds": self.predicted(self.qf, taken),
            "qf_twin_preds": self.predicted(self.qf_twin, taken),
            "logp_resampled": log_probability,
            "q_curr": value,
            "q_target_next": target,
            "logp_next_resampled": next_log_probability,
        }


class GroupsSACModule(HybridSACModule):
    """The same for like groups: critics (M, G) whose values are summed.

    `model_config` entry `each_group`: rewards are (M, G), a part for each group, and so is what critics are taught.
    """

    def _critic(self) -> torch.nn.Module:
        assert self.spec.groups is not None
        groups, hidden = groups_of(self.spec.groups), self.model_config["critic_hidden"]
        return GroupsCritic(groups, self.action, hidden, self.spec.activation)

    def predicted(self, critic: torch.nn.Module, taken: torch.Tensor) -> torch.Tensor:
        values: torch.Tensor = critic(taken)
        return values if self.model_config["each_group"] else values.sum(dim=-1)

    def compute_q_values(self, batch: dict[str, Any]) -> Any:
        inputs = torch.cat([batch[Columns.OBS], batch[Columns.ACTIONS]], dim=-1)
        least = torch.min(self.predicted(self.qf, inputs), self.predicted(self.qf_twin, inputs))
        return least.sum(dim=-1) if self.model_config["each_group"] else least

    def forward_target(self, batch: dict[str, Any], **_: Any) -> torch.Tensor:
        inputs = torch.cat([batch[Columns.OBS], batch[Columns.ACTIONS]], dim=-1)
        return torch.min(self.predicted(self.target_qf, inputs), self.predicted(self.target_qf_twin, inputs))


class HybridSACConfig(BatchedSACConfig):
    """RLlib's SAC config; the module is a `HybridSACModule`."""

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or BatchedHybridSAC)


class BatchedHybridSAC(BatchedSAC):
    """SAC whose runners return relaxed actions."""

    @classmethod
    def get_default_config(cls) -> Any:
        return HybridSACConfig()
