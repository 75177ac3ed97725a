"""Whether an actor of TorchRL does as a controller what it does in its environment."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sections import costs
from torchrl.envs import PettingZooWrapper
from torchrl.envs.utils import ExplorationType, set_exploration_type

from edgemarl.agents import PartneredParallelEnv, make_policy, policy_of
from edgemarl.envs import make_scenario
from edgemarl.marl.evaluation.rollout import rollout

SCENARIO = make_scenario("sequential_offloading", num_devices=3)


def acts_as_its_file(actor: Any, file: str) -> None:
    """The actor in TorchRL's environment, its file in a rollout, the actor itself as a controller: the same costs."""
    trace = SCENARIO.sample_trace(np.random.default_rng(0), 1, 20)

    class Replay(PartneredParallelEnv):
        def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            return super().reset(seed, {"trace": trace})

    env = PettingZooWrapper(Replay(SCENARIO, fixed={"server": "parametric_q"}))
    with set_exploration_type(ExplorationType.DETERMINISTIC), torch.no_grad():
        played = env.rollout(20, policy=actor)
    spent = played["next", "wd", "info", "cost"][:, 0].mean().item()
    policy = make_policy(SCENARIO, file)
    result = rollout(policy, SCENARIO, trace, np.random.default_rng(1)).means["cost"][0]
    assert spent == pytest.approx(result, rel=1e-4)
    np.testing.assert_array_equal(costs(policy, SCENARIO), costs(policy_of(SCENARIO, actor, "actor"), SCENARIO))
