"""PPO with a centralized critic (MAPPO): Yu et al., arXiv:2103.01955."""

from __future__ import annotations

from edgemarl.marl.algorithms.base import Needs
from edgemarl.marl.algorithms.ppo import PPO, PPOSettings


class MAPPO(PPO):
    """Policies of an agent's own row; the critic of a role sees the global state of the cell."""

    name = "mappo"
    meaning = "ppo whose critics see the whole cell in training"
    Settings = PPOSettings
    needs = Needs(joint=False, pooled=False)
    global_state = True
