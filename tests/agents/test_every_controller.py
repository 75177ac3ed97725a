"""What every registered controller of every scenario must fulfil: it plays, it stays local, it can be stored."""

from __future__ import annotations

import copy
import dataclasses
from functools import cache
from typing import Any

import numpy as np
import pytest

from edgemarl.agents.api import Act, Policy, Team
from edgemarl.agents.registry import make_policy, playbook_of
from edgemarl.envs import make_scenario, scenario_names
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.scenarios.model_placement import scaled

SMALL: dict[str, dict[str, Any]] = {
    "sequential_offloading": {"num_devices": 3},
    "model_placement": dataclasses.asdict(scaled(2, 5)),
}
BLOCKS = 8
ALL = [(scenario, name) for scenario in scenario_names() for name in playbook_of(scenario).controllers]


@cache
def small(name: str) -> tuple[Scenario, Any]:
    scenario = make_scenario(name, **SMALL.get(name, {}))
    return scenario, scenario.sample_trace(np.random.default_rng(11), cells=2, slots=BLOCKS + 2)


@cache
def warm_policy(name: str, controller: str) -> tuple[Policy, Any, np.random.Generator]:
    """A policy in mid-episode, its state and its generator; copy before use."""
    scenario, trace = small(name)
    policy = make_policy(scenario, controller)
    return policy, *played(policy, scenario, trace, BLOCKS)


def played(
    policy: Policy, scenario: Scenario, trace: Any, blocks: int, seed: int = 3
) -> tuple[Any, np.random.Generator]:
    """Reset and play; returns the state after the last block and the policy's generator."""
    rng = np.random.default_rng(seed)
    policy.reset(scenario, trace)
    state = scenario.initial_state(trace)
    for t in range(blocks):
        state = advance(policy, scenario, trace, state, t, rng)
    return state, rng


def advance(policy: Policy, scenario: Scenario, trace: Any, state: Any, t: int, rng: np.random.Generator) -> Any:
    exogenous = scenario.exogenous(trace, t)
    step = scenario.step(state, policy.decide(state, exogenous, rng), exogenous)
    policy.feedback(step.costs)
    return step.state


def flat(value: Any) -> dict[str, np.ndarray]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {f"{key}.{path}": array for key, entry in value.items() for path, array in flat(entry).items()}
    return {} if value is None else {"": np.asarray(value)}


def assert_same(left: Any, right: Any) -> None:
    a, b = flat(left), flat(right)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize(("name", "controller"), ALL)
def test_a_restored_policy_acts_identically(name: str, controller: str) -> None:
    scenario, trace = small(name)
    policy, state, rng = copy.deepcopy(warm_policy(name, controller))
    other = make_policy(scenario, controller)
    other.reset(scenario, trace)
    other.load_state_dict(copy.deepcopy(policy.state_dict()))
    if isinstance(policy, Team) and isinstance(other, Team):
        other.inbox = copy.deepcopy(policy.inbox)  # messages are in the air, not in anybody's memory
    other_rng, other_state = copy.deepcopy(rng), state
    for t in (BLOCKS, BLOCKS + 1):
        state = advance(policy, scenario, trace, state, t, rng)
        other_state = advance(other, scenario, trace, other_state, t, other_rng)
        assert_same(state, other_state)
        if isinstance(policy, Team) and isinstance(other, Team):
            assert_same(policy.inbox, other.inbox)


@pytest.mark.parametrize(("name", "controller"), ALL)
def test_decisions_depend_on_the_own_row_only(name: str, controller: str) -> None:
    """An episode is repeated with other rows and costs for everybody else, from the first slot on, own messages fixed.

    Whatever an agent has learned meanwhile, none of its decisions may move.
    """
    scenario, trace = small(name)
    team = make_policy(scenario, controller)
    if not isinstance(team, Team) or team.information == "global" or controller == "uniform":  # it reads no row
        return
    record = recorded(team, scenario, trace)
    noise = np.random.default_rng(5)
    for role, spec in scenario.roles.items():
        for agent in {0, spec.count - 1}:
            team.reset(scenario, trace)
            rng = np.random.default_rng(3)
            for rows, acts, costs in record:
                for other, values in others_perturbed(rows, role, agent, noise).items():
                    found = team.controllers[other].act(values, rng)
                    if other == role:
                        assert_same(part_of(acts[role], agent, spec.count), part_of(found, agent, spec.count))
                team.feedback(others_perturbed(costs, role, agent, noise))


def recorded(team: Team, scenario: Scenario, trace: Any) -> list[tuple[Any, Any, Any]]:
    """Of every slot of an episode: rows with messages and acts, by role in the order of acting, and costs."""
    rows: dict[str, np.ndarray] = {}
    acts: dict[str, Act] = {}
    record: list[tuple[Any, Any, Any]] = []
    rng, state = np.random.default_rng(3), scenario.initial_state(trace)
    team.reset(scenario, trace)
    plain = {role: controller.act for role, controller in team.controllers.items()}

    def listening(role: str) -> Any:
        def act(observations: np.ndarray, rng: np.random.Generator) -> Act:
            rows[role] = observations.copy()
            acts[role] = copy.deepcopy(plain[role](observations, rng))
            return acts[role]

        return act

    for role, controller in team.controllers.items():
        controller.act = listening(role)  # type: ignore[method-assign]
    for t in range(trace.slots):
        exogenous = scenario.exogenous(trace, t)
        step = scenario.step(state, team.decide(state, exogenous, rng), exogenous)
        team.feedback(step.costs)
        record.append((dict(rows), dict(acts), step.costs))
        state = step.state
        rows.clear()
    for controller in team.controllers.values():
        del controller.act
    return record


def others_perturbed(values: Any, role: str, agent: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Rows or costs of all agents and cells, mixed and scaled; those of one agent as they were."""
    perturbed = {r: v[::-1, ::-1] * rng.uniform(0.3, 0.9, v.shape).astype(v.dtype) for r, v in values.items()}
    perturbed[role][:, agent] = values[role][:, agent]
    return perturbed


def part_of(act: Act, agent: int, count: int) -> dict[str, np.ndarray]:
    """One agent's actions and decisions."""
    arrays = dict(act.decisions)
    if act.actions is not None:
        arrays["actions"] = act.actions
    return {n: a[:, agent] if a.ndim > 1 and a.shape[1] == count else a for n, a in arrays.items()}


@pytest.mark.parametrize("name", scenario_names())
def test_reference_and_roles_exist(name: str) -> None:
    assert playbook_of(name).reference in playbook_of(name).controllers
    scenario, _ = small(name)
    for role, builders in playbook_of(name).roles.items():
        assert role in scenario.ledger  # some roles decide under some configs only
        assert all(builder(scenario) is not None for builder in builders.values())


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    scenario, _ = small("sequential_offloading")
    with pytest.raises(ValueError, match="did you mean 'parametric_q'"):
        make_policy(scenario, "parametricq")
