"""PPO with a centralized critic (MAPPO): Yu et al., arXiv:2103.01955."""

from __future__ import annotations

from edgemarl.marl.algorithms.base import Needs
from edgemarl.marl.algorithms.ppo import PPO


class MAPPO(PPO):
    """Policies of an agent's own row; critics see the pooled rows of all agents of the cell beside it."""

    name = "mappo"
    meaning = "ppo whose critics see the whole cell in training"
    needs = Needs(joint=False, pooled=False)
    critic_pool = True
