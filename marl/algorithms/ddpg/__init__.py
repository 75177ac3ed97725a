"""Deep deterministic policy gradients: Lillicrap et al., arXiv:1509.02971. How it learns: docs/algorithms.md."""

from __future__ import annotations

from typing import Any, Literal

from edgemarl.agents.trained.spec import NetworkSpec
from edgemarl.envs.config import config_class, quantity
from edgemarl.marl.algorithms.base import Algorithm, Needs, Run, off_policy_training, set_replay
from edgemarl.marl.algorithms.ddpg.algorithm import DDPGConfig
from edgemarl.marl.algorithms.ddpg.module import DDPGModule
from edgemarl.marl.algorithms.settings import OffPolicySettings, Width


@config_class
class DDPGSettings(OffPolicySettings):
    """Settings of DDPG."""

    lr: float = quantity(1e-4, "-", "first learning rate of the actor", gt=0, le=1e6)
    critic_lr: float = quantity(1e-3, "-", "first learning rate of the critic", gt=0, le=1e6)
    critic_hidden: tuple[Width, ...] | None = quantity(
        None, "-", "widths of the critic's layers; default as the policy"
    )
    activation: Literal["tanh", "relu"] = quantity("relu", "-", "of hidden layers")
    output_gain: float = quantity(0.1, "-", "gain of the actor's last layer at the start", gt=0, le=1e6)
    random_steps: int = quantity(1000, "-", "cell-slots with random actions, played first", ge=0, le=10**9)
    noise: float = quantity(0.2, "-", "deviation of the noise on actions in [-1, 1]", ge=0, le=1e6)
    noise_final: float | None = quantity(
        None, "-", "the same at the end of the budget, linear; default constant", ge=0, le=1e6
    )
    action_penalty: float = quantity(
        0.0, "-", "weight of the mean squared actor output before tanh in its loss", ge=0, le=1e6
    )
    target_noise: float = quantity(0.0, "-", "deviation of the noise on the target's actions in [-1, 1]", ge=0, le=1e6)
    target_noise_clip: float = quantity(0.5, "-", "largest such noise", ge=0, le=1e6)


class DDPG(Algorithm):
    """A deterministic actor and a critic, for Box actions."""

    name = "ddpg"
    meaning = "deep deterministic policy gradients, for Box actions"
    Settings = DDPGSettings
    needs = Needs(actions="box")
    output = "transitions"
    shares_minibatches = True

    def check(self, run: Run) -> None:
        super().check(run)
        if run.config.num_learners and run.settings.target_noise:
            raise ValueError(
                f"num_learners = {run.config.num_learners} is not legal with target_noise = "
                f"{run.settings.target_noise}, of which several Learners would draw other than one: one of them must "
                "be 0"
            )

    def build(self, run: Run) -> DDPGConfig:
        s = run.settings
        built = DDPGConfig().training(**off_policy_training(run))
        set_replay(built, run)
        built.actor_lr, built.critic_lr = run.falling(s.lr), run.falling(s.critic_lr)
        built.noise, built.noise_steps = s.noise, run.env_steps
        built.noise_final = s.noise if s.noise_final is None else s.noise_final
        built.random_steps, built.action_penalty = s.random_steps, s.action_penalty
        return built

    def module_class(self) -> type:
        return DDPGModule

    def spec(self, run: Run, role: str, **kind: Any) -> NetworkSpec:
        return super().spec(run, role, deterministic=True, squash="tanh", **kind)

    def module_config(self, run: Run, role: str) -> dict[str, Any]:
        hidden = tuple(run.settings.critic_hidden or run.hidden)
        return {**super().module_config(run, role), "critic_hidden": hidden, **self.critics(run)}

    def critics(self, run: Run) -> dict[str, Any]:
        """What `DDPGModule` needs to know of critics and targets."""
        s = run.settings
        return {
            "twin_q": False, "policy_delay": 1, "target_noise": s.target_noise,
            "target_noise_clip": s.target_noise_clip,
        }  # fmt: skip
