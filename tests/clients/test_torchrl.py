"""TorchRL trains, and its actors are controllers that do what the actor does in its environment."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torchrl")

from actors import acts_as_its_file
from sections import Section, costs
from torchrl.envs import PettingZooWrapper

from edgemarl.agents import policy_of
from edgemarl.envs import ScenarioParallelEnv, make_scenario, scenario_names

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


def test_an_actor_does_what_it_does_in_its_environment(section: Section) -> None:
    found = section("TorchRL")
    acts_as_its_file(found["actor"], f"{found['folder']}/actor.pt")


def test_an_actor_of_unknown_agents_is_refused(section: Section) -> None:
    found = section("TorchRL")
    with pytest.raises(ValueError, match="does not take rows of shape"):
        costs(policy_of(make_scenario("sampling_rate"), found["actor"], "actor"), make_scenario("sampling_rate"))
