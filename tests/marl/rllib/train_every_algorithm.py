"""Train short runs with every algorithm, without Ray, and print name -> SHA-256 of all weights; a script of tests.

With the word `ray` after the folder Ray is then asked for.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray

from edgemarl.marl.algorithms.registry import shipped
from edgemarl.marl.rllib import node
from edgemarl.marl.training.config import TrainConfig
from edgemarl.marl.training.run import train
from edgemarl.marl.training.trained import saved_policies

TINY: dict[str, Any] = {"cells": 2, "slots": 10, "minibatch": 20, "hidden": (8,), "seed": 3}
OFFLOADING = {
    "scenario": "sequential_offloading", "set": {"device_action": "split", "num_devices": 2, "episode_blocks": 10},
}  # fmt: skip
SAMPLING = {"scenario": "sampling_rate", "set": {"devices_per_service": (2, 2), "share_mode": "optimal"}}
JOINT = {**SAMPLING, "control": "central", "central_policy": "joint", "updates": 2, "random_steps": 10}
PRUNING = {"scenario": "model_pruning", "set": {"num_devices": 4, "num_gateways": 1}}
REPLAY = {**OFFLOADING, "updates": 2, "replay": 300}
RUNS: dict[str, dict[str, Any]] = {
    "ppo": OFFLOADING,
    "mappo": OFFLOADING,
    "sac": REPLAY,
    "dqn": {**REPLAY, "fixed": {"server": "parametric_q"}, "grid": {"device": (3, 4)}},
    "ddpg": JOINT,
    "td3": JOINT,
    "priced_dqn": {**SAMPLING, "discount": 0.0, "updates": 2, "price_updates": 1},
    "hybrid_sac": {**PRUNING, "control": "central", "central_policy": "joint", "updates": 2, "discount": 0.0},
    "counterfactual": {**PRUNING, "fixed": {"server": "equal"}, "discount": 0.0},
}


def weights(run: Path) -> str:
    total = hashlib.sha256()
    for role, policy in sorted(saved_policies(run).policies.items()):
        for name, value in policy.network.state_dict().items():
            total.update(f"{role} {name} ".encode() + value.numpy().tobytes())
    return total.hexdigest()


def refuse(num_env_runners: int, folder: Path) -> None:
    raise AssertionError("training in one process asks for Ray")


def main(folder: Path, ask: bool) -> None:
    found, start = {}, node._start_node
    node._start_node = refuse
    with node.local_ray(0):
        for name in shipped():
            config = TrainConfig(algorithm=name, agent_steps=1, **{**TINY, **RUNS[name]})
            train(config, folder / name)
            found[name] = weights(folder / name)
        train(replace(config, agent_steps=config.agent_steps + 1), folder / name, resume=True)
        node._start_node = start
        assert not ask or ray.get(ray.put(7)) == 7, "who asks for Ray gets it"
    assert not ray.is_initialized()
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), "ray" in sys.argv[2:])
