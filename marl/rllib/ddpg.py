"""DDPG on RLlib's new API stack, and TD3 as the same algorithm with three settings.

Sampling, replay buffer, target networks, checkpoints and distribution are RLlib's (its DQN's `training_step`). Ours are
the actor and critics (`ddpg_module`) and the losses (`ddpg_learner`). How to run it and what it reaches: the section
"DDPG and TD3" of docs/algorithms.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.algorithms.dqn import DQN, DQNConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.tune.registry import register_env

from envs.central import CentralEnv
from marl.rllib.ddpg_learner import DDPGLearner
from marl.rllib.ddpg_module import DDPGModule

NOISES = ("gaussian", "ornstein_uhlenbeck")
BUFFER = "replay_buffer"
CENTRAL_ENV = "edgemarl_central"
"""Name under which RLlib finds `envs.central.CentralEnv`; `env_config` holds its arguments."""

register_env(CENTRAL_ENV, lambda settings: CentralEnv(**settings))


class DDPGConfig(DQNConfig):
    """Settings of DDPG; defaults are those of Lillicrap et al. (arXiv:1509.02971) for low-dimensional observations."""

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or DDPG)
        self.actor_lr: Any = 1e-4
        self.critic_lr: Any = 1e-3
        self.actor_hidden: Sequence[int] = (400, 300)
        self.critic_hidden: Sequence[int] = (400, 300)
        self.actor_output_gain = 0.1
        self.noise = "ornstein_uhlenbeck"
        self.noise_scale: Any = 0.2
        self.noise_theta = 0.15
        self.random_steps = 0
        self.twin_q = False
        self.policy_delay = 1
        self.target_noise = 0.0
        self.target_noise_clip = 0.5
        self.tau = 0.001
        self.gamma = 0.99
        self.td_error_loss_fn = "mse"
        self.grad_clip = None
        self.train_batch_size_per_learner = 64
        self.num_steps_sampled_before_learning_starts = 1000
        self.replay_buffer_config = {"type": "EpisodeReplayBuffer", "capacity": 1_000_000}
        # a step without the actor leaves its parameters out of the backward pass
        self.torch_ddp_kwargs = {"find_unused_parameters": True}

    def training(
        self,
        *,
        actor_lr: Any = NotProvided,
        critic_lr: Any = NotProvided,
        actor_hidden: Any = NotProvided,
        critic_hidden: Any = NotProvided,
        actor_output_gain: Any = NotProvided,
        noise: Any = NotProvided,
        noise_scale: Any = NotProvided,
        noise_theta: Any = NotProvided,
        random_steps: Any = NotProvided,
        twin_q: Any = NotProvided,
        policy_delay: Any = NotProvided,
        target_noise: Any = NotProvided,
        target_noise_clip: Any = NotProvided,
        **kwargs: Any,
    ) -> DDPGConfig:
        """Set what trains; further arguments are those of RLlib's `DQNConfig.training`.

        Args:
            actor_lr, critic_lr: learning rates of Adam, or schedules [[env step, rate], ...].
            actor_hidden, critic_hidden: widths of the hidden layers (ReLU).
            actor_output_gain: gain of the actor's last layer at the start; small, so that tanh is not saturated.
            noise: "gaussian" or "ornstein_uhlenbeck".
            noise_scale: its scale in units of half the action's range, or a schedule [[env step, scale], ...].
            noise_theta: rate of return of the Ornstein-Uhlenbeck process, per step, in (0, 1].
            random_steps: env steps with uniformly random actions at the start.
            twin_q: two critics, the smaller target value counts (TD3).
            policy_delay: critic updates per update of actor and targets (TD3: 2).
            target_noise, target_noise_clip: standard deviation and limit of noise on the target actor's actions.
        """
        own = {name: value for name, value in locals().items() if name not in ("self", "kwargs", "__class__")}
        super().training(**kwargs)
        for name, value in own.items():
            if value is not NotProvided:
                setattr(self, name, value)
        return self

    def validate(self) -> None:
        super().validate()
        if self.noise not in NOISES:
            raise ValueError(f"noise = {self.noise!r} is not known; known: {', '.join(NOISES)}")
        if not (isinstance(self.policy_delay, int) and self.policy_delay >= 1):
            raise ValueError(f"policy_delay = {self.policy_delay!r} updates is not legal: must be an integer >= 1")
        for name in ("target_noise", "target_noise_clip"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} = {getattr(self, name)} is not legal: must be >= 0")
        if not 0 < self.noise_theta <= 1:
            raise ValueError(f"noise_theta = {self.noise_theta} per step is not legal: must be in (0, 1]")
        if not self.normalize_actions:
            raise ValueError("normalize_actions = False is not legal: the actor puts out actions in [-1, 1]")

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        return RLModuleSpec(module_class=DDPGModule, model_config=self.model_config)

    def get_default_learner_class(self) -> type[DDPGLearner]:
        return DDPGLearner

    @property
    def _model_config_auto_includes(self) -> dict[str, Any]:
        names = (
            "actor_hidden", "critic_hidden", "actor_output_gain", "noise", "noise_scale", "noise_theta",
            "random_steps", "twin_q", "policy_delay", "target_noise", "target_noise_clip",
        )  # fmt: skip
        return AlgorithmConfig._model_config_auto_includes.fget(self) | {name: getattr(self, name) for name in names}


class TD3Config(DDPGConfig):
    """DDPG with twin critics, delayed policy and target smoothing, and the values of Fujimoto et al. (1802.09477)."""

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class)
        self.twin_q, self.policy_delay, self.target_noise, self.target_noise_clip = True, 2, 0.2, 0.5
        self.noise, self.noise_scale = "gaussian", 0.1
        self.actor_lr = self.critic_lr = 3e-4
        self.actor_hidden = self.critic_hidden = (256, 256)
        self.tau, self.train_batch_size_per_learner, self.random_steps = 0.005, 256, 1000


class DDPG(DQN):
    """Deterministic policy gradients; `training_step` is DQN's."""

    @classmethod
    def get_default_config(cls) -> DDPGConfig:
        return DDPGConfig()

    def _create_local_replay_buffer_if_necessary(self, config: Any) -> Any:
        """RLlib's buffer; its draws follow the run's seed, which RLlib leaves out."""
        buffer = super()._create_local_replay_buffer_if_necessary(config)
        if buffer is not None and self.config.seed is not None:
            buffer.rng = np.random.default_rng(self.config.seed)
        return buffer

    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        """RLlib's state; with `store_buffer_in_checkpoints` the buffer too, which RLlib 2.60 leaves out here."""
        state: dict[str, Any] = super().get_state(components, not_components=not_components, **kwargs)
        if self.config.store_buffer_in_checkpoints and self._check_component(BUFFER, components, not_components):
            buffer = self.local_replay_buffer
            state[BUFFER] = {"rows": buffer.get_state(), "draws": buffer.rng.bit_generator.state}
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        if BUFFER in state:
            self.local_replay_buffer.set_state(state[BUFFER]["rows"])
            self.local_replay_buffer.rng.bit_generator.state = state[BUFFER]["draws"]


def wu_2021_config(num_env_runners: int = 0, **scenario: Any) -> DDPGConfig:
    """Centralized DDPG of Wu et al. (IEEE TII 2021), Algorithm 1 and Table III, on `sampling_rate`.

    Args:
        num_env_runners: remote runners; 0 samples in this process.
        **scenario: config fields of the scenario to replace.

    Warm-up of 1000 transitions and the small first actor layer output are ours. One update per slot.
    """
    return (
        DDPGConfig()
        .environment(CENTRAL_ENV, env_config={"scenario": "sampling_rate", **scenario})
        .env_runners(num_env_runners=num_env_runners)
        .training(
            actor_hidden=(64, 32),
            critic_hidden=(64, 32),
            actor_lr=1e-4,
            critic_lr=1e-3,
            train_batch_size_per_learner=64,
            gamma=0.85,
            tau=0.005,
            noise="gaussian",
            noise_scale=0.2,
            replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": 100_000},
            num_steps_sampled_before_learning_starts=1000,
        )
    )
