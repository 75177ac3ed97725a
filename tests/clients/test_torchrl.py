"""TorchRL and BenchMARL train, and their actors are controllers that do what the actor does in its environment."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("benchmarl")

import torch
from sections import Section, costs
from torchrl.envs import PettingZooWrapper
from torchrl.envs.utils import ExplorationType, set_exploration_type

from edgemarl.agents import PartneredParallelEnv, make_policy, policy_of
from edgemarl.envs import ScenarioParallelEnv, make_scenario, scenario_names
from edgemarl.marl.evaluation.rollout import rollout

SCENARIO = make_scenario("sequential_offloading", num_devices=3)
SMALL: dict[str, dict[str, Any]] = {
    "model_placement": {"num_gateways": 2, "devices_per_gateway": 3},
    "model_pruning": {"num_devices": 10},
}


@pytest.mark.parametrize("scenario", scenario_names())
def test_every_scenario_is_wrapped_with_its_groups(scenario: str) -> None:
    env = PettingZooWrapper(ScenarioParallelEnv(scenario, **SMALL.get(scenario, {})), return_state=True)
    played = env.rollout(2)
    assert set(env.group_map) == set(ScenarioParallelEnv(scenario, **SMALL.get(scenario, {})).group_map)
    assert all(played["next", group, "reward"].isfinite().all() for group in env.group_map)
    assert played["state"].shape[-1] == make_scenario(scenario, **SMALL.get(scenario, {})).global_state_space.shape[0]


@pytest.mark.parametrize(("title", "name", "file"), [("TorchRL", "actor", "actor.pt"), ("BenchMARL", None, "ippo.pt")])
def test_an_actor_does_what_it_does_in_its_environment(
    section: Section, title: str, name: str | None, file: str
) -> None:
    found = section(title)
    actor = found[name] if name else found["experiment"].policy
    trace = SCENARIO.sample_trace(np.random.default_rng(0), 1, 20)

    class Replay(PartneredParallelEnv):
        def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            return super().reset(seed, {"trace": trace})

    env = PettingZooWrapper(Replay(SCENARIO, fixed={"server": "parametric_q"}))
    with set_exploration_type(ExplorationType.DETERMINISTIC), torch.no_grad():
        played = env.rollout(20, policy=actor)
    spent = played["next", "wd", "info", "cost"][:, 0].mean().item()
    policy = make_policy(SCENARIO, f"{found['folder']}/{file}")
    result = rollout(policy, SCENARIO, trace, np.random.default_rng(1)).means["cost"][0]
    assert spent == pytest.approx(result, rel=1e-4)
    np.testing.assert_array_equal(costs(policy, SCENARIO), costs(policy_of(SCENARIO, actor, "actor"), SCENARIO))


def test_a_checkpoint_of_an_experiment_is_a_policy(section: Section) -> None:
    found = section("BenchMARL")
    (checkpoint,) = found["folder"].glob("experiments/*/checkpoints/*.pt")
    of_file = make_policy(SCENARIO, str(checkpoint))
    of_object = policy_of(SCENARIO, found["experiment"].policy, "ippo")
    np.testing.assert_array_equal(costs(of_file, SCENARIO), costs(of_object, SCENARIO))


def test_an_actor_of_unknown_agents_is_refused(section: Section) -> None:
    found = section("TorchRL")
    with pytest.raises(ValueError, match="does not take rows of shape"):
        costs(policy_of(make_scenario("sampling_rate"), found["actor"], "actor"), make_scenario("sampling_rate"))
