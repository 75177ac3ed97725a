"""A learning algorithm: PPO that changes its policy little in every step."""

from __future__ import annotations

from typing import Any

from edgemarl.envs import config_class, quantity
from edgemarl.marl import Run
from edgemarl.marl.algorithms.ppo import PPO, PPOSettings


@config_class
class TimidSettings(PPOSettings):
    """Settings of PPO and one more."""

    timidity: float = quantity(4.0, "-", "how many times narrower the clip range is", ge=1)


class TimidPPO(PPO):
    """PPO with a narrow clip range."""

    name = "timid_ppo"
    meaning = "PPO that changes its policy little in every step"
    Settings = TimidSettings

    def build(self, run: Run) -> Any:
        return super().build(run).training(clip_param=run.settings.clip / run.settings.timidity)
