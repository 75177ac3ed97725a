"""RLModule of deterministic policy gradients: a tanh actor, one or two critics, their targets, exploration noise.

Actions are in [-1, 1] here and in the replay buffer; `networks.environment_actions` maps them onto the bounds.
Rows are agent-steps, or cell-steps with an agent axis (M, n, ...) where every agent has networks of its own.
"""

from __future__ import annotations

from copy import deepcopy
from functools import cached_property
from typing import Any

import numpy as np
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import QNetAPI, TargetNetworkAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from torch import nn

from edgemarl.agents.trained.layers import Perceptron
from edgemarl.agents.trained.networks import PolicyNetwork
from edgemarl.agents.trained.spec import NetworkSpec
from edgemarl.envs.arrays import Array

QF_PREDS, QF_TWIN_PREDS, Q_CURRENT, Q_TARGET_NEXT = "qf_preds", "qf_twin_preds", "q_curr", "q_target_next"
ACTOR_OUTPUT = "actor_output"


class DDPGModule(TorchRLModule, QNetAPI, TargetNetworkAPI):
    """Actor mu(s) and critics Q(s, a).

    `model_config` entries: `spec` (of a deterministic `NetworkSpec`, as dict), `critic_hidden` (widths), and the
    settings `twin_q`, `policy_delay`, `target_noise`, `target_noise_clip` of `DDPGConfig`.
    """

    updates: torch.Tensor
    noise_scale: torch.Tensor
    random_share: torch.Tensor

    def setup(self) -> None:
        settings = self.model_config
        self.spec = NetworkSpec.from_dict(settings["spec"])
        self.policy = PolicyNetwork(self.spec)
        inputs = self.spec.observation_size + self.policy.head.outputs
        for name in self.critic_names:
            critic = Perceptron(inputs, settings["critic_hidden"], 1, self.spec.agents, activation=self.spec.activation)
            self.add_module(name, critic)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.register_buffer("noise_scale", torch.zeros(()))  # these two travel to the runners with the weights
        self.register_buffer("random_share", torch.ones(()))

    @property
    def has_agent_axis(self) -> bool:
        """Whether rows are cell-steps (M, n, ...) and not agent-steps."""
        return bool(self.spec.agents)

    @property
    def critic_names(self) -> tuple[str, ...]:
        return ("qf", "qf_twin") if self.model_config["twin_q"] else ("qf",)

    @property
    def policy_is_due(self) -> bool:
        """Whether the coming update moves the actor and the targets: every `policy_delay`-th one does."""
        return (int(self.updates) + 1) % int(self.model_config["policy_delay"]) == 0

    def make_target_networks(self) -> None:
        for name in ("policy", *self.critic_names):
            self.add_module(f"target_{name}", deepcopy(self.get_submodule(name)).requires_grad_(False))

    def get_target_network_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        names = ("policy", *self.critic_names)
        return [(self.get_submodule(name), self.get_submodule(f"target_{name}")) for name in names]

    @cached_property
    def target_parameters(self) -> list[torch.Tensor]:
        """Parameters of all targets, in the order of `followed_parameters`; listed once, not in every update."""
        return [p for _, target in self.get_target_network_pairs() for p in target.parameters()]

    @cached_property
    def followed_parameters(self) -> list[torch.Tensor]:
        return [p for network, _ in self.get_target_network_pairs() for p in network.parameters()]

    def _forward(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Actor's output (..., a) before tanh; what makes it an action is `explored` or the greedy choice."""
        return {Columns.ACTION_DIST_INPUTS: self.policy(batch[Columns.OBS])}

    def explored(self, outputs: Array, rng: np.random.Generator) -> Array:
        """Actions of actor outputs (..., a): tanh with Gaussian noise, kept in [-1, 1]; a share of rows uniform."""
        noise = float(self.noise_scale) * rng.standard_normal(outputs.shape, dtype=np.float32)
        actions: Array = np.clip(np.tanh(outputs) + noise, -1.0, 1.0)
        share = float(self.random_share)
        if share > 0.0:
            drawn = rng.random((*outputs.shape[:-1], 1)) < share
            actions = np.where(drawn, rng.uniform(-1.0, 1.0, outputs.shape).astype(np.float32), actions)
        return actions

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Critics' values of the batch and, if due, Q(s, mu(s)) with the actor's output; (M,) or (M, n)."""
        observations, taken = batch[Columns.OBS], batch[Columns.ACTIONS]
        output = {QF_PREDS: self._values(self.get_submodule("qf"), observations, taken)}
        if self.model_config["twin_q"]:
            output[QF_TWIN_PREDS] = self._values(self.get_submodule("qf_twin"), observations, taken)
        if self.policy_is_due:
            output[ACTOR_OUTPUT] = self.policy(observations)
            acted = torch.tanh(output[ACTOR_OUTPUT])
            critic = self.get_submodule("qf").requires_grad_(False)  # it judges here and does not learn
            output[Q_CURRENT] = self._values(critic, observations, acted)
            critic.requires_grad_(True)
        return output

    @torch.no_grad()
    def forward_target(self, batch: dict[str, Any], **_: Any) -> torch.Tensor:
        """Smallest target value of the target actor's smoothed actions at `NEXT_OBS`; (M,) or (M, n)."""
        following = batch[Columns.NEXT_OBS]
        actions = self.smoothed(torch.tanh(self.get_submodule("target_policy")(following)))
        values = [self._values(self.get_submodule(f"target_{n}"), following, actions) for n in self.critic_names]
        return values[0] if len(values) == 1 else torch.minimum(values[0], values[1])

    def smoothed(self, actions: torch.Tensor) -> torch.Tensor:
        """Target policy smoothing (Fujimoto et al., Eq. 14): clipped Gaussian noise; actions stay in [-1, 1]."""
        scale, limit = self.model_config["target_noise"], self.model_config["target_noise_clip"]
        if scale == 0:
            return actions
        noise = torch.clamp(scale * torch.randn_like(actions), -limit, limit)
        return torch.clamp(actions + noise, -1.0, 1.0)

    def compute_q_values(self, batch: dict[str, Any]) -> Any:
        """First critic's values of observations (..., d) and actions (..., a) in [-1, 1]."""
        return self._values(self.get_submodule("qf"), batch[Columns.OBS], batch[Columns.ACTIONS])

    @staticmethod
    def _values(critic: nn.Module, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        values: torch.Tensor = critic(torch.cat([observations, actions], dim=-1))[..., 0]
        return values
