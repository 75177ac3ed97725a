"""DDPG on the batched runner, and TD3 as the same algorithm with three settings.

RLlib 2.60 has neither on its new API stack. Sampling, replay and hand-over are those of `off_policy`; ours are actor
and critics (`ddpg_module`) and the losses (`ddpg_learner`). How to run it and what it reaches: docs/algorithms.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ray.rllib.algorithms.dqn import DQN, DQNConfig
from ray.rllib.utils.metrics import LEARNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME

from edgemarl.marl.rllib.ddpg_learner import DDPGLearner
from edgemarl.marl.rllib.off_policy import OffPolicy, OffPolicySettings

TD3_EXTRAS: dict[str, Any] = {"twin_q": True, "policy_delay": 2, "target_noise": 0.2, "target_noise_clip": 0.5}
"""What TD3 adds to DDPG, with the values of Fujimoto et al. (arXiv:1802.09477); entries of the module's config."""
DDPG_EXTRAS: dict[str, Any] = {"twin_q": False, "policy_delay": 1, "target_noise": 0.0, "target_noise_clip": 0.0}


class DDPG(OffPolicy, DQN):
    """Deterministic policy gradients whose runners return arrays of transitions."""

    @classmethod
    def get_default_config(cls) -> DDPGConfig:
        return DDPGConfig()

    def _learn(self, rng: np.random.Generator, steps: int) -> None:
        """All updates of an iteration in one call of the Learner."""
        results = self.learner_group.update(
            batch=self._drawn(rng, self.config.updates_per_step), timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: steps}
        )
        self.metrics.aggregate(results, key=LEARNER_RESULTS)

    def _set_exploration(self, steps: int) -> None:
        """Noise falls linearly from its first to its last scale over `noise_steps` env steps."""
        share = min(1.0, steps / self.config.noise_steps)
        self._fill(
            noise_scale=self.config.noise + share * (self.config.noise_final - self.config.noise), random_share=0.0
        )


class DDPGConfig(OffPolicySettings, DQNConfig):
    """Settings of DDPG beside RLlib's own (`gamma`, `tau`, `grad_clip`) and those of the replay.

    Attributes:
        actor_lr, critic_lr: learning rates of Adam, or schedules [[env step, rate], ...].
        action_penalty: weight of the mean square of the actor's outputs before tanh in its loss.
        noise, noise_final: standard deviation of the noise on actions in [-1, 1], first and last.
        noise_steps: env steps over which it changes.
        random_steps: env steps with uniformly random actions before anything is learned.

    The module's config holds TD3_EXTRAS or DDPG_EXTRAS.
    """

    actor_lr: Any = 1e-4
    critic_lr: Any = 1e-3
    action_penalty = 0.0
    noise = 0.2
    noise_final = 0.2
    noise_steps = 1

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or DDPG)

    def get_default_learner_class(self) -> type[DDPGLearner]:
        return DDPGLearner
