"""What every registered controller of every scenario must fulfil: it plays, it stays local, it can be stored."""

from __future__ import annotations

import copy
import dataclasses
from functools import cache
from typing import Any

import numpy as np
import pytest

from agents.api import Act, Policy, Team
from agents.registry import controllers, make_policy, reference_name, role_controllers, scenarios_with_controllers
from envs import make_scenario
from envs.api import Scenario

SMALL: dict[str, dict[str, Any]] = {"sequential_offloading": {"num_devices": 3}}
BLOCKS = 8
ALL = [(scenario, name) for scenario in scenarios_with_controllers() for name in controllers(scenario)]


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
        other._inbox = copy.deepcopy(policy._inbox)  # messages are in the air, not in anybody's memory
    other_rng, other_state = copy.deepcopy(rng), state
    for t in (BLOCKS, BLOCKS + 1):
        state = advance(policy, scenario, trace, state, t, rng)
        other_state = advance(other, scenario, trace, other_state, t, other_rng)
        assert_same(state, other_state)


@pytest.mark.parametrize(("name", "controller"), ALL)
def test_decisions_depend_on_the_own_row_only(name: str, controller: str) -> None:
    """Other agents' rows are perturbed in one slot; neither this slot's nor the next decision of an agent may move."""
    scenario, trace = small(name)
    team, state, rng = copy.deepcopy(warm_policy(name, controller))
    if not isinstance(team, Team) or team.information == "global":
        return
    exogenous = scenario.exogenous(trace, BLOCKS)
    rows = scenario.observe(state, exogenous)
    noise = np.random.default_rng(5)
    for role, spec in scenario.roles.items():
        for agent in {0, spec.count - 1}:
            space = spec.observation_space
            perturbed = {r: _perturbed(rows[r], noise) for r in rows}
            perturbed[role][:, agent] = rows[role][:, agent]
            assert (space.low <= perturbed[role]).all()
            _assert_agent_unmoved(team, rows, perturbed, role, agent, spec.count, rng)


def _perturbed(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Other plausible rows: entries of all agents of the role and cells, mixed and scaled."""
    scale = rng.uniform(0.3, 0.9, rows.shape).astype(rows.dtype)
    return np.ascontiguousarray(rows[::-1, ::-1] * scale)


def _assert_agent_unmoved(
    team: Team, rows: Any, perturbed: Any, role: str, agent: int, count: int, rng: np.random.Generator
) -> None:
    as_seen, disturbed = copy.deepcopy(team), copy.deepcopy(team)
    one_rng, other_rng = copy.deepcopy(rng), copy.deepcopy(rng)
    for own_rows in (perturbed, rows):
        expected = as_seen.act(rows, one_rng)[role]
        found = disturbed.act(own_rows, other_rng)[role]
        assert_same(part_of(expected, agent, count), part_of(found, agent, count))
        disturbed._inbox = copy.deepcopy(as_seen._inbox)  # messages held fixed


def part_of(act: Act, agent: int, count: int) -> dict[str, np.ndarray]:
    """One agent's actions and decisions."""
    arrays = dict(act.decisions)
    if act.actions is not None:
        arrays["actions"] = act.actions
    return {n: a[:, agent] if a.ndim > 1 and a.shape[1] == count else a for n, a in arrays.items()}


@pytest.mark.parametrize("name", scenarios_with_controllers())
def test_reference_and_roles_exist(name: str) -> None:
    assert reference_name(name) in controllers(name)
    scenario, _ = small(name)
    for role, builders in role_controllers(name).items():
        assert role in scenario.roles
        assert all(builder(scenario) is not None for builder in builders.values())


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    scenario, _ = small("sequential_offloading")
    with pytest.raises(ValueError, match="did you mean 'parametric_q'"):
        make_policy(scenario, "parametricq")
