"""Learner `rank` of two that share minibatches, beside one that learns alone from the same batches; a script of tests.

Prints name -> largest difference between their weights after two iterations, and how far the networks moved. No Ray:
the two processes meet in a file.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from torch import distributed
from train_every_algorithm import RUNS, TINY

from edgemarl.marl.algorithms.registry import make_algorithm, shipped
from edgemarl.marl.rllib import node
from edgemarl.marl.training.config import TrainConfig, resolve
from edgemarl.marl.training.setup import set_up

SMALL = {**TINY, "slots": 5, "minibatch": 3, "agent_steps": 1000}
"""Of three rows two Learners take one and two; of a server's single row one takes none."""
ITERATIONS = 2
CASES = {name: {"algorithm": name, **RUNS[name]} for name in shipped() if make_algorithm(name).shares_minibatches}
CASES["td3"]["target_noise"] = 0.0
CASES["ppo_independent"] = {**CASES["ppo"], "policies": "independent", "normalise": True}
for name in ("ppo", "mappo", "counterfactual", "ppo_independent"):
    CASES[name]["epochs"] = 2


class Both:
    """RLlib's LearnerGroup, and a Learner that is told the same."""

    def __init__(self, group: Any, beside: Any) -> None:
        self._group, self.beside = group, beside

    def __getattr__(self, name: str) -> Any:
        return getattr(self._group, name)

    def update(self, *, batch: Any, **how: Any) -> Any:
        self.beside.update(batch=batch.copy(), **how)
        return self._group.update(batch=batch, **how)

    def foreach_learner(self, func: Any) -> Any:
        func(self.beside)
        return self._group.foreach_learner(func)


def weights(learner: Any) -> dict[str, Any]:
    return {f"{m} {n}": v.clone() for m, part in learner.module.items() for n, v in part.state_dict().items()}


def moved(learner: Any, first: dict[str, Any]) -> float:
    """Largest change of a parameter, of the module in which it is smallest."""
    parts = (dict(part.policy.named_parameters(prefix=f"{m} policy")) for m, part in learner.module.items())
    return min(difference(now, first) for now in parts)


def difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    return max(float((one[name] - other[name]).detach().abs().max()) for name in one if one[name].numel())


def compared(fields: dict[str, Any]) -> tuple[float, float]:
    algorithm = set_up(resolve(TrainConfig(**{**SMALL, **fields})))
    alone = algorithm.learner_group._learner
    config = algorithm.config.copy(copy_frozen=False).learners(num_learners=2)
    beside = config.learner_class(config=config, module_spec=alone._module_spec)
    beside.build()
    assert beside.share.count == 2
    algorithm.learner_group = Both(algorithm.learner_group, beside)
    first = weights(alone)
    assert difference(first, weights(beside)) == 0.0
    for _ in range(ITERATIONS):
        algorithm.train()
    algorithm.stop()
    return difference(weights(alone), weights(beside)), moved(alone, first)


def main(rank: int, meeting: Path) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    with node.local_ray(0):
        print(json.dumps({name: compared(fields) for name, fields in CASES.items()}))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
