"""Train two short iterations with every algorithm and print name -> SHA-256 of all weights; a script of tests."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from edgemarl.marl.algorithms.registry import shipped
from edgemarl.marl.rllib.node import local_ray
from edgemarl.marl.training.config import TrainConfig
from edgemarl.marl.training.run import train
from edgemarl.marl.training.trained import saved_policies

TINY: dict[str, Any] = {"cells": 2, "slots": 10, "minibatch": 20, "seed": 3}
OFFLOADING = {"set": {"device_action": "split", "num_devices": 2, "episode_blocks": 10}}
PLACES: dict[str, dict[str, Any]] = {
    "dqn": {"scenario": "sampling_rate"},
    "priced_dqn": {"scenario": "sampling_rate"},
    "hybrid_sac": {"scenario": "model_partitioning"},
    "counterfactual": {"scenario": "sequential_offloading", **OFFLOADING},
}
"""Algorithms that need another scenario's actions, or a capability."""


def weights(run: Path) -> str:
    total = hashlib.sha256()
    for role, policy in sorted(saved_policies(run).policies.items()):
        for name, value in policy.network.state_dict().items():
            total.update(f"{role} {name} ".encode() + value.numpy().tobytes())
    return total.hexdigest()


def main(folder: Path) -> None:
    found = {}
    with local_ray(0):
        for name in shipped():
            fields = {**TINY, **PLACES.get(name, {"scenario": "sequential_offloading", **OFFLOADING})}
            config = TrainConfig(algorithm=name, agent_steps=1, **fields)
            train(config, folder / name)
            found[name] = weights(folder / name)
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
