"""Stable-Baselines3 trains, and its models are controllers that do what the model predicts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("sb3_contrib")
pytest.importorskip("supersuit")

from sections import Section, costs

from edgemarl.agents import PartneredParallelEnv, make_policy, policy_of
from edgemarl.envs import CentralEnv, make_scenario
from edgemarl.marl import compare_controllers

TITLE = "Stable-Baselines3"
SCENARIO = make_scenario("sequential_offloading", num_devices=3)


def test_a_central_model_does_what_it_predicts(section: Section) -> None:
    found = section(TITLE)
    env, trace = CentralEnv(SCENARIO), SCENARIO.sample_trace(np.random.default_rng(0), 1, 20)
    observation, _ = env.reset(options={"trace": trace})
    spent = []
    for _ in range(20):
        observation, *_, info = env.step(found["model"].predict(observation, deterministic=True)[0])
        spent.append(info["cost"])
    policy = make_policy(SCENARIO, f"{found['folder']}/central.zip")
    assert policy.information == "global"
    assert np.mean(spent) == pytest.approx(_mean(policy, trace), rel=1e-5)


def _mean(policy: Any, trace: Any) -> float:
    from edgemarl.marl.evaluation.rollout import rollout

    return float(rollout(policy, SCENARIO, trace, np.random.default_rng(1)).means["cost"][0])


def test_a_shared_model_does_what_it_predicts(section: Section) -> None:
    found = section(TITLE)
    env = PartneredParallelEnv(SCENARIO, fixed={"server": "parametric_q"}, actions="unit")
    trace = SCENARIO.sample_trace(np.random.default_rng(0), 1, 20)
    rows, _ = env.reset(seed=1, options={"trace": trace})
    spent = []
    for _ in range(20):
        actions = found["shared"].predict(np.stack(list(rows.values())), deterministic=True)[0]
        rows, *_ = env.step(dict(zip(env.possible_agents, actions, strict=True)))
        spent.append(env.metrics["cost"])
    name = f"device={found['folder']}/shared.zip+server=parametric_q"
    policy = make_policy(SCENARIO, name)
    assert policy.information == "local" and np.mean(spent) == pytest.approx(_mean(policy, trace), rel=1e-5)


def test_models_are_rows_of_a_table(section: Section) -> None:
    found = section(TITLE)
    table = compare_controllers(
        SCENARIO,
        {"file": f"{found['folder']}/shared.zip", "object": found["shared"], "central": found["model"], "vi": "vi"},
        networks=2, slots=20,
    )  # fmt: skip
    assert table.row("file").cost == table.row("object").cost
    assert [row.information for row in table.rows][:3] == ["local", "local", "global"]


def test_a_masked_model_decides_cuts(section: Section) -> None:
    found, scenario = section(TITLE), make_scenario("model_partitioning")
    of_file, of_object = make_policy(scenario, f"{found['folder']}/cuts.zip"), policy_of(scenario, found["masked"], "m")
    np.testing.assert_array_equal(costs(of_file, scenario, 5), costs(of_object, scenario, 5))


def test_a_model_of_another_network_is_refused(section: Section) -> None:
    found = section(TITLE)
    other = make_scenario("sampling_rate")
    with pytest.raises(ValueError, match="fits nothing in sampling_rate"):
        make_policy(other, f"{found['folder']}/shared.zip")
