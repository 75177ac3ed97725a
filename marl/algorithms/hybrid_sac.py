"""Soft actor-critic for joint actions of discrete and continuous parts, on RLlib's SAC and the batched runner.

Losses, temperature, twin critics, target updates and optimisers are RLlib's (`SACTorchLearner`, Haarnoja et al.,
arXiv:1812.05905). Ours is the module: the policy's action is relaxed (`trained.hybrid`), critics see the relaxed action
so that the actor's gradient passes, the environment gets the executed one (JOPA: Niazmand and Ye, 2025, eqs. 24 to 27;
Delalleau et al., arXiv:1912.11077, for hybrid actions in general).
"""

from __future__ import annotations

from typing import Any, Literal

import gymnasium
import numpy as np
import pydantic
import torch
from ray.rllib.core.columns import Columns

from edgemarl.agents.trained.hybrid import HybridAction, hybrid_action
from edgemarl.agents.trained.networks import Perceptron, PolicyNetwork
from edgemarl.agents.trained.spec import NetworkSpec
from edgemarl.envs.capabilities import hybrid_space
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
        super().check(run)
        self.action(run)

    @staticmethod
    def action(run: Run) -> HybridAction:
        """The relaxed joint action."""
        s = run.settings
        return hybrid_action(
            hybrid_space(run.scenario), s.relaxation, restrict=s.restrict, share_logit_scale=s.share_logit_scale
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

    def spec(self, run: Run, role: str, **kind: Any) -> NetworkSpec:
        return NetworkSpec(
            run.scenario.global_state_space.shape[0],
            "hybrid",
            hidden=run.hidden,
            activation=run.settings.activation,
            output_gain=run.settings.output_gain,
            hybrid=self.action(run).to_dict(),
        )

    def module_config(self, run: Run, role: str) -> dict[str, Any]:
        hidden = tuple(run.settings.critic_hidden or run.hidden)
        return {**super().module_config(run, role), "critic_hidden": hidden, "soft_target": run.settings.soft_target}

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
        inputs, hidden = self.spec.observation_size + self.action.relaxed_size, self.model_config["critic_hidden"]
        self.qf = Perceptron(inputs, hidden, 1, activation=self.spec.activation)
        self.qf_twin = Perceptron(inputs, hidden, 1, activation=self.spec.activation)
        self.pi_encoder, self.qf_encoder, self.qf_twin_encoder = (torch.nn.Identity() for _ in range(3))

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
        return {
            "qf_preds": self.qf(taken)[..., 0],
            "qf_twin_preds": self.qf_twin(taken)[..., 0],
            "logp_resampled": log_probability,
            "q_curr": value,
            "q_target_next": target,
            "logp_next_resampled": next_log_probability,
        }


class HybridSACConfig(BatchedSACConfig):
    """RLlib's SAC config; the module is a `HybridSACModule`."""

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or BatchedHybridSAC)


class BatchedHybridSAC(BatchedSAC):
    """SAC whose runners return relaxed actions."""

    @classmethod
    def get_default_config(cls) -> Any:
        return HybridSACConfig()
