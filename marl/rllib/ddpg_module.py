"""RLModule of deterministic policy gradients: a tanh actor, one or two critics, their targets, exploration noise.

Actions are in [-1, 1] here and in the replay buffer; RLlib's connector maps them onto the bounds of the action space.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.utils import make_target_network
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, QNetAPI, TargetNetworkAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.utils.schedules.scheduler import Scheduler
from torch import nn

from agents.networks import Perceptron

QF_PREDS, QF_TWIN_PREDS, Q_CURRENT, Q_TARGET_NEXT = "qf_preds", "qf_twin_preds", "q_curr", "q_target_next"


class ExplorationNoise:
    """Noise that is added to actions: independent Gaussian, or an Ornstein-Uhlenbeck process per environment.

    The latter is scale x u with u' = (1 - theta) u + n, n standard Gaussian and u = 0 first (Lillicrap et al.,
    arXiv:1509.02971, Sec. 7, time step 1); its standard deviation settles at scale / sqrt(2 theta - theta^2). It runs
    on over the ends of episodes.

    Args:
        kind: "gaussian" or "ornstein_uhlenbeck".
        scale: a number, or [[env step, scale], ...] from step 0 on, linear in between.
        theta: rate of return to zero, per step.
    """

    def __init__(self, kind: str, scale: Any, theta: float) -> None:
        self.kind, self.theta = kind, theta
        self.schedule = Scheduler(fixed_value_or_schedule=scale, framework="torch")
        self._process = torch.zeros(0)

    def draw(self, shape: torch.Size, env_steps: int) -> torch.Tensor:
        """Noise of a shape (environments, entries of the action) after so many steps of all environments."""
        scale = float(self.schedule.update(env_steps))
        fresh = torch.randn(shape)
        if self.kind == "gaussian":
            return scale * fresh
        if self._process.shape != shape:
            self._process = torch.zeros(shape)
        self._process = (1.0 - self.theta) * self._process + fresh
        return scale * self._process


class DDPGModule(TorchRLModule, InferenceOnlyAPI, QNetAPI, TargetNetworkAPI):
    """Actor mu(s) and critics Q(s, a).

    `model_config` entries are the settings of the same names of `DDPGConfig`.

    Raises:
        ValueError: observations that are not a flat Box, actions that are not a flat bounded Box.
    """

    updates: torch.Tensor

    def setup(self) -> None:
        settings, observations, actions = self.model_config, self.observation_space, self.action_space
        if not isinstance(observations, Box) or len(observations.shape) != 1:
            raise ValueError(f"observation space {observations} is not supported: must be a Box of one dimension")
        bounded = isinstance(actions, Box) and np.isfinite([actions.low, actions.high]).all()
        if not bounded or len(actions.shape) != 1:
            raise ValueError(f"action space {actions} is not supported: must be a bounded Box of one dimension")
        size, entries = observations.shape[0], actions.shape[0]
        self.actor = Perceptron(
            size, settings["actor_hidden"], entries, output_gain=settings["actor_output_gain"], activation="relu"
        )
        self.noise = ExplorationNoise(settings["noise"], settings["noise_scale"], settings["noise_theta"])
        self.random_steps = int(settings["random_steps"])
        self.twin_q = bool(settings["twin_q"])
        if self.inference_only:
            return
        for name in self.critic_names:
            self.add_module(name, Perceptron(size + entries, settings["critic_hidden"], 1, activation="relu"))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @property
    def critic_names(self) -> tuple[str, ...]:
        return ("qf", "qf_twin") if self.twin_q else ("qf",)

    @property
    def policy_is_due(self) -> bool:
        """Whether the coming update moves the actor and the targets: every `policy_delay`-th one does."""
        return (int(self.updates) + 1) % int(self.model_config["policy_delay"]) == 0

    def make_target_networks(self) -> None:
        for name in ("actor", *self.critic_names):
            self.add_module(f"target_{name}", make_target_network(self.get_submodule(name)))

    def get_target_network_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        names = ("actor", *self.critic_names)
        return [(self.get_submodule(name), self.get_submodule(f"target_{name}")) for name in names]

    def get_non_inference_attributes(self) -> list[str]:
        critics = self.critic_names
        return [*critics, "updates", "target_actor", *(f"target_{name}" for name in critics)]

    def _forward(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {Columns.ACTIONS: torch.tanh(self.actor(batch[Columns.OBS]))}

    @torch.no_grad()
    def _forward_exploration(self, batch: dict[str, Any], t: int = 0, **_: Any) -> dict[str, Any]:
        """Actions with noise, clipped to [-1, 1]; uniform ones in the first `random_steps` env steps."""
        actions = torch.tanh(self.actor(batch[Columns.OBS]))
        if t < self.random_steps:
            return {Columns.ACTIONS: 2.0 * torch.rand_like(actions) - 1.0}
        noise = self.noise.draw(actions.shape, t).to(actions.device)
        return {Columns.ACTIONS: torch.clamp(actions + noise, -1.0, 1.0)}

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Critics' values (M,) of the batch, target values (M,) of the next states, and, if due, Q(s, mu(s))."""
        observations, taken = batch[Columns.OBS], batch[Columns.ACTIONS]
        output = {Q_TARGET_NEXT: self.forward_target({Columns.OBS: batch[Columns.NEXT_OBS]})}
        output[QF_PREDS] = self._values(self.get_submodule("qf"), observations, taken)
        if self.twin_q:
            output[QF_TWIN_PREDS] = self._values(self.get_submodule("qf_twin"), observations, taken)
        if self.policy_is_due:
            first = self.get_submodule("qf")
            first.requires_grad_(False)  # the actor's loss passes through the critic without moving it
            output[Q_CURRENT] = self._values(first, observations, torch.tanh(self.actor(observations)))
            first.requires_grad_(True)
        return output

    @torch.no_grad()
    def forward_target(self, batch: dict[str, Any], **_: Any) -> torch.Tensor:
        """Smallest target value (M,) of the target actor's smoothed actions at observations (M, d)."""
        actions = self.smoothed(torch.tanh(self.get_submodule("target_actor")(batch[Columns.OBS])))
        critics = [self.get_submodule(f"target_{name}") for name in self.critic_names]
        return torch.stack([self._values(critic, batch[Columns.OBS], actions) for critic in critics]).amin(dim=0)

    def smoothed(self, actions: torch.Tensor) -> torch.Tensor:
        """Target policy smoothing (Fujimoto et al., Eq. 14): clipped Gaussian noise; actions stay in [-1, 1]."""
        scale, limit = self.model_config["target_noise"], self.model_config["target_noise_clip"]
        if scale == 0:
            return actions
        noise = torch.clamp(scale * torch.randn_like(actions), -limit, limit)
        return torch.clamp(actions + noise, -1.0, 1.0)

    def compute_q_values(self, batch: dict[str, Any]) -> Any:
        """First critic's values (M,) of observations (M, d) and actions (M, a) in [-1, 1]."""
        return self._values(self.get_submodule("qf"), batch[Columns.OBS], batch[Columns.ACTIONS])

    @staticmethod
    def _values(critic: nn.Module, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        values: torch.Tensor = critic(torch.cat([observations, actions], dim=-1))[..., 0]
        return values
