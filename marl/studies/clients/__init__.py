"""Our training and that of other libraries on the same network: cost against decisions and against seconds.

    edgemarl check clients --devices 10,50 --training-seeds 3 --agent-steps 100000,300000

Every client trains in a process of its own, with one thread, and its greedy policy is played on the traces of
`edgemarl compare --networks 20`. See docs/clients.md.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

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
OURS = tuple(name for name, module in CLIENTS.items() if module == "ours")


def load_client(name: str) -> Callable[[Any, Any], None]:
    """The function that trains a client; its library is imported here."""
    found: Callable[[Any, Any], None] = import_module(f"edgemarl.marl.studies.clients.{CLIENTS[name]}").learn
    return found
