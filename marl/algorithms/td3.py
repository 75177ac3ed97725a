"""DDPG with twin critics, a delayed actor and smoothed targets (TD3): Fujimoto et al., arXiv:1802.09477."""

from __future__ import annotations

from typing import Any

from edgemarl.envs.config import config_class, quantity
from edgemarl.marl.algorithms.base import Run
from edgemarl.marl.algorithms.ddpg import DDPG, DDPGSettings


@config_class
class TD3Settings(DDPGSettings):
    """Settings of TD3; defaults are the paper's."""

    lr: float = quantity(3e-4, "-", "first learning rate of the actor", gt=0, le=1e6)
    critic_lr: float = quantity(3e-4, "-", "first learning rate of the critics", gt=0, le=1e6)
    policy_delay: int = quantity(2, "-", "updates of the critics for one of actor and targets", ge=1, le=10**9)
    target_noise: float = quantity(0.2, "-", "deviation of the noise on the target's actions in [-1, 1]", ge=0, le=1e6)


class TD3(DDPG):
    """DDPG that trusts the smaller of two critics."""

    name = "td3"
    meaning = "DDPG with twin critics, a delayed actor and smoothed targets"
    Settings = TD3Settings

    def critics(self, run: Run) -> dict[str, Any]:
        s = run.settings
        return {
            "twin_q": True, "policy_delay": s.policy_delay, "target_noise": s.target_noise,
            "target_noise_clip": s.target_noise_clip,
        }  # fmt: skip
