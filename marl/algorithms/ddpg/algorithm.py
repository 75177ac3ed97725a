"""RLlib's classes of DDPG on the batched runner.

RLlib 2.60 has neither DDPG nor TD3 on its new API stack. Sampling, replay and hand-over are those of every off-policy
algorithm here; ours are actor and critics (`module`) and the losses (`learner`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ray.rllib.algorithms import dqn as rllib
from ray.rllib.utils.metrics import LEARNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME

from edgemarl.marl.algorithms.ddpg.learner import DDPGLearner
from edgemarl.marl.rllib.learners import learn
from edgemarl.marl.rllib.replay import OffPolicy, OffPolicyConfig


class BatchedDDPG(OffPolicy, rllib.DQN):
    """Deterministic policy gradients whose runners return arrays of transitions."""

    @classmethod
    def get_default_config(cls) -> DDPGConfig:
        return DDPGConfig()

    def _learn(self, rng: np.random.Generator, steps: int) -> None:
        """All updates of an iteration in one call of the Learner."""
        drawn = self._drawn(rng, self.config.updates_per_step)
        results = learn(self, drawn, timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: steps})
        self.metrics.aggregate(results, key=LEARNER_RESULTS)

    def _set_exploration(self, steps: int) -> None:
        """Noise falls linearly from its first to its last scale over `noise_steps` env steps."""
        share = min(1.0, steps / self.config.noise_steps)
        self._fill(
            noise_scale=self.config.noise + share * (self.config.noise_final - self.config.noise), random_share=0.0
        )


class DDPGConfig(OffPolicyConfig, rllib.DQNConfig):
    """Settings of DDPG beside RLlib's own (`gamma`, `tau`, `grad_clip`) and those of the replay.

    Attributes:
        actor_lr, critic_lr: learning rates of Adam, or schedules [[env step, rate], ...].
        action_penalty: weight of the mean square of the actor's outputs before tanh in its loss.
        noise, noise_final: standard deviation of the noise on actions in [-1, 1], first and last.
        noise_steps: env steps over which it changes.
        random_steps: env steps with uniformly random actions before anything is learned.

    Twin critics, delay and target noise (TD3) are entries of the module's config.
    """

    actor_lr: Any = 1e-4
    critic_lr: Any = 1e-3
    action_penalty = 0.0
    noise = 0.2
    noise_final = 0.2
    noise_steps = 1

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or BatchedDDPG)

    def get_default_learner_class(self) -> type[DDPGLearner]:
        return DDPGLearner
