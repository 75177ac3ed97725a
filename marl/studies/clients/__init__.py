"""Our training and that of other libraries on the same network: cost against decisions and against seconds.

    edgemarl check clients --devices 10,50 --training-seeds 3 --agent-steps 100000,300000

Every client trains in a process of its own, with one thread, and its greedy policy is played on the traces of
`edgemarl compare --networks 20`. See docs/clients.md.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

BENCHMARL = {"decisions_per_batch": 6000, "decisions_per_minibatch": 400, "epochs": 10, "lr": 3e-4, "slots": 100}
"""Batch and minibatch are its defaults; `slots`: about so many of a batch are of one environment."""
CLIENTS: dict[str, str] = {
    "ours": "ours",
    "ours_mappo": "ours",
    "benchmarl_ippo": "benchmarl_client",
    "benchmarl_mappo": "benchmarl_client",
    "sb3": "sb3_client",
    "rllib": "rllib_client",
}
"""Client -> module here, whose `learn(job, at)` trains."""
NAMES = {
    "ours": "EdgeMARL PPO",
    "ours_mappo": "EdgeMARL MAPPO",
    "benchmarl_ippo": "BenchMARL IPPO",
    "benchmarl_mappo": "BenchMARL MAPPO",
    "sb3": "Stable-Baselines3 PPO",
    "rllib": "RLlib PPO, its own runner",
}
"""Client -> its name in tables and figures."""
LIBRARIES = {
    "benchmarl_ippo": ("benchmarl", "torchrl"),
    "benchmarl_mappo": ("benchmarl", "torchrl"),
    "sb3": ("stable_baselines3", "supersuit"),
}
"""Client -> modules of the extra `clients` that it needs."""
SETTINGS: dict[str, dict[str, Any]] = {
    "sb3": {"decisions_per_rollout": 4000, "batch_size": 256, "n_epochs": 10, "lr": 1e-3, "lr_final": 0.1},
    "benchmarl_ippo": BENCHMARL,
    "benchmarl_mappo": BENCHMARL,
    "rllib": {"decisions_per_batch": 4000, "minibatch_size": 128, "num_epochs": 10, "lr": 3e-4, "lambda": 0.95},
}
"""Client -> what differs from its library's defaults; decisions are of all agents. Why: docs/clients.md."""
OURS = tuple(name for name, module in CLIENTS.items() if module == "ours")
TOLD = (*OURS, "sb3")
"""Clients whose learning rate falls over their budget, which are trained for every budget anew."""


def load_client(name: str) -> Callable[[Any, Any], None]:
    """The function that trains a client; its library is imported here."""
    learn: Callable[[Any, Any], None] = import_module(f"edgemarl.marl.studies.clients.{CLIENTS[name]}").learn
    return learn
