"""What every scenario must fulfil, whatever it models: a suite that a scenario anywhere inherits.

```
class TestCorridor(ScenarioTests):
    def make(self):
        return Corridor()
```
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import re
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils.env_checker import check_env
from pettingzoo.test import parallel_api_test, parallel_seed_test

from edgemarl.envs.actions import neutral_action
from edgemarl.envs.arrays import Array
from edgemarl.envs.capabilities import (
    CENTRAL,
    Described,
    Foreseeing,
    Masked,
    action_entries,
    masks_of,
    row_entries,
)
from edgemarl.envs.central import CentralEnv
from edgemarl.envs.parallel import ScenarioParallelEnv
from edgemarl.envs.scenario import Scenario, total_cost
from edgemarl.envs.trace import trace_fields
from edgemarl.envs.vector import CentralVectorEnv

SLOTS = 12


@contextlib.contextmanager
def refused(what: str = "", kind: type[Exception] = ValueError) -> Iterator[None]:
    """The block must raise an error, a `ValueError` if not said otherwise, whose message names something."""
    try:
        yield
    except kind as error:
        assert re.search(what, str(error)), f"'{what}' is not named in: {error}"
        return
    raise AssertionError(f"no {kind.__name__} that names '{what}'")


def random_actions(scenario: Scenario, rng: np.random.Generator, cells: int) -> dict[str, Array]:
    """Raw actions of every role, uniform in its space, (B, n, ...)."""
    return {name: draw(role.action_space, rng, (cells, role.count)) for name, role in scenario.roles.items()}


def draw(space: gymnasium.Space[Any], rng: np.random.Generator, lead: tuple[int, ...]) -> Array:
    shape = lead + tuple(space.shape or ())
    if isinstance(space, gymnasium.spaces.Box):
        return rng.uniform(space.low, space.high, shape)
    if isinstance(space, gymnasium.spaces.Discrete):
        return rng.integers(int(space.start), int(space.start) + int(space.n), shape)
    assert isinstance(space, gymnasium.spaces.MultiDiscrete)
    start = np.asarray(space.start, np.int64)
    return rng.integers(start, start + np.asarray(space.nvec, np.int64), shape)


def extreme(space: gymnasium.Space[Any], end: str) -> Any:
    """The lowest or highest action of a space; the first choice where there is none."""
    if isinstance(space, gymnasium.spaces.Box):
        return getattr(space, end)
    return neutral_action(space, ())


def play(scenario: Scenario, trace: Any, seed: int, slots: int) -> list[Any]:
    """(state, exogenous, decisions, step) of every slot under random raw actions."""
    rng, state, record = np.random.default_rng(seed), scenario.initial_state(trace), []
    for t in range(slots):
        exogenous = scenario.exogenous(trace, t)
        actions = random_actions(scenario, rng, trace.cells)
        decisions = scenario.decode(state, actions, exogenous)
        step = scenario.step(state, decisions, exogenous)
        record.append((state, exogenous, decisions, step))
        state = step.state
    return record


def arrays(value: Any) -> dict[str, Array]:
    """Every array of a dataclass, a dict, or nested ones, by path."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {f"{k}.{path}": a for k, v in value.items() for path, a in arrays(v).items()}
    return {} if value is None else {"": np.asarray(value)}


def assert_same(left: Any, right: Any, exact: bool = True) -> None:
    a, b = arrays(left), arrays(right)
    assert a.keys() == b.keys()
    for name in a:
        if exact:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)
        else:
            np.testing.assert_allclose(a[name], b[name], rtol=1e-9, atol=1e-9, err_msg=name)


def cell_of(value: Any, b: int) -> dict[str, Array]:
    return {name: a[b] for name, a in arrays(value).items()}


def run_parallel(env: ScenarioParallelEnv, seed: int | None, trace: Any = None) -> list[Any]:
    """Everything an episode shows, reset included, under actions from a fixed generator."""
    rng = np.random.default_rng(9)
    seen: list[Any] = [env.reset(seed=seed, options=None if trace is None else {"trace": trace})[0]]
    for _ in range(SLOTS):
        actions = {agent: draw(env.action_space(agent), rng, ()) for agent in env.agents}
        observations, rewards, *_ = env.step(actions)
        seen += [observations, rewards]
    return seen


class ScenarioTests:
    """The suite; a subclass says which scenario by `make`, small enough for checkers that step a dict per agent."""

    def make(self) -> Scenario:
        """A fresh scenario."""
        raise NotImplementedError(f"{type(self).__name__} must say which scenario it tests: def make(self)")

    def test_observations_costs_and_metrics_are_legal(self) -> None:
        scenario = self.make()
        trace = scenario.sample_trace(np.random.default_rng(0), 3, SLOTS)
        scenario.check_trace(trace)
        for state, exogenous, _, step in play(scenario, trace, 1, SLOTS):
            rows = scenario.observe(state, exogenous)
            for name, role in scenario.roles.items():
                assert rows[name].dtype == np.float32
                assert rows[name].shape == (3, role.count, *role.observation_space.shape)
                for row in rows[name].reshape(-1, *role.observation_space.shape):
                    assert role.observation_space.contains(row), f"{name}: {row}"
            world = scenario.global_state(state, exogenous)
            assert world.shape == (3, *scenario.global_state_space.shape)
            assert all(scenario.global_state_space.contains(row) for row in world)
            for name, count in scenario.ledger.items():
                assert step.costs[name].shape == (3, count)
            for name, values in {**step.costs, **step.metrics}.items():
                assert np.isfinite(values).all(), name
            assert all(values.shape == (3,) for values in step.metrics.values())
            assert all(values.shape[0] == 3 for values in step.details.values())
            for name, mask in masks_of(scenario, state, exogenous).items():
                assert mask.any(axis=-1).all(), f"role {name} has an agent without a legal choice"

    def test_ledger_sums_to_the_objective(self) -> None:
        scenario = self.make()
        trace = scenario.sample_trace(np.random.default_rng(0), 2, SLOTS)
        for _, _, _, step in play(scenario, trace, 1, SLOTS):
            team = scenario.rewards(step, "team")
            local = scenario.rewards(step, "local")
            np.testing.assert_allclose(total_cost(step), -sum(v.sum(axis=1) for v in local.values()), rtol=1e-12)
            for values in team.values():
                np.testing.assert_allclose(values, np.broadcast_to(-total_cost(step)[:, None], values.shape))

    def test_step_leaves_its_inputs_unchanged_and_repeats(self) -> None:
        scenario = self.make()
        trace = scenario.sample_trace(np.random.default_rng(0), 2, SLOTS)
        for state, exogenous, decisions, step in play(scenario, trace, 1, SLOTS):
            before = copy.deepcopy((state, exogenous, decisions))
            again = scenario.step(state, decisions, exogenous)
            for old, new in zip(before, (state, exogenous, decisions), strict=True):
                assert_same(old, new)
            assert_same(step.state, again.state)
            assert_same(step.costs, again.costs)

    def test_batch_rows_equal_single_runs(self) -> None:
        scenario = self.make()
        trace = scenario.sample_trace(np.random.default_rng(0), 3, SLOTS)
        state = scenario.initial_state(trace)
        singles = [scenario.initial_state(trace.select([b])) for b in range(3)]
        rng = np.random.default_rng(1)
        for t in range(SLOTS):
            actions = random_actions(scenario, rng, 3)
            exogenous = scenario.exogenous(trace, t)
            step = scenario.step(state, scenario.decode(state, actions, exogenous), exogenous)
            for b in range(3):
                one = scenario.exogenous(trace.select([b]), t)
                row = {name: values[[b]] for name, values in actions.items()}
                single = scenario.step(singles[b], scenario.decode(singles[b], row, one), one)
                for part in ("state", "costs", "metrics"):
                    left, right = cell_of(getattr(step, part), b), cell_of(getattr(single, part), 0)
                    for name in left:
                        np.testing.assert_allclose(left[name], right[name], rtol=1e-9, atol=1e-9, err_msg=name)
                singles[b] = single.state
            state = step.state

    def test_a_cells_trace_does_not_depend_on_the_others(self) -> None:
        scenario = self.make()
        many = scenario.sample_trace(np.random.default_rng(5), 4, SLOTS)
        few = scenario.sample_trace(np.random.default_rng(5), 2, SLOTS)
        assert_same(many.select(slice(0, 2)), few)
        other = scenario.sample_trace(np.random.default_rng(6), 2, SLOTS)
        assert any((a != arrays(other)[name]).any() for name, a in arrays(few).items())
        assert many.cells == 4 and many.slots == SLOTS and many.shortened(3).slots == 3

    def test_an_outlook_is_that_of_each_cell_and_agent(self) -> None:
        """What slots bring needs no state and no decision, so that a critic may see it ahead without a bias."""
        scenario = self.make()
        if not isinstance(scenario, Foreseeing):
            return
        trace = scenario.sample_trace(np.random.default_rng(3), 3, SLOTS)
        outlook = scenario.outlook(trace)
        assert set(outlook) == set(scenario.foreseen_roles)
        for role, rows in outlook.items():
            assert rows.shape[:3] == (SLOTS + 1, 3, scenario.roles[role].count)
            assert rows.dtype == np.float32 and np.isfinite(rows).all()
            np.testing.assert_array_equal(scenario.outlook(trace.select([1]))[role][:, 0], rows[:, 1])

    def test_constant_masks_are_the_masks_of_every_slot(self) -> None:
        scenario = self.make()
        if not isinstance(scenario, Masked):
            return
        trace = scenario.sample_trace(np.random.default_rng(0), 2, SLOTS)
        for state, exogenous, *_ in play(scenario, trace, 1, SLOTS):
            masks = scenario.action_masks(state, exogenous)
            for role, mask in scenario.constant_masks.items():
                np.testing.assert_array_equal(masks[role], np.broadcast_to(mask, masks[role].shape), err_msg=role)

    def test_every_number_of_rows_and_actions_has_a_name(self) -> None:
        scenario = self.make()
        spaces = {name: (role.observation_space, role.action_space) for name, role in scenario.roles.items()}
        spaces[CENTRAL] = (scenario.global_state_space, scenario.central_space)
        for role, (rows, actions) in spaces.items():
            for space, entries in ((rows, row_entries(scenario, role)), (actions, action_entries(scenario, role))):
                assert len(entries) == np.prod(space.shape or (), dtype=int), role
                assert len({entry.name for entry in entries}) == len(entries), role
                assert all(np.isfinite(entry.scale) and entry.scale > 0 for entry in entries), role
        if isinstance(scenario, Described):
            assert set(scenario.row_entries) == set(scenario.action_entries) == set(spaces)

    def test_actions_outside_their_space(self) -> None:
        scenario = self.make()
        trace = scenario.sample_trace(np.random.default_rng(0), 1, 1)
        state, exogenous = scenario.initial_state(trace), scenario.exogenous(trace, 0)
        good = random_actions(scenario, np.random.default_rng(1), 1)
        for name, role in scenario.roles.items():
            bad: list[Array] = [
                good[name][:, :-1],
                np.full(good[name].shape, np.nan),
                np.full(good[name].shape, np.inf),
            ]
            if isinstance(role.action_space, gymnasium.spaces.Box):
                far = {**good, name: np.full(good[name].shape, 1e6)}
                edge = {**good, name: np.broadcast_to(role.action_space.high, good[name].shape)}
                assert_same(scenario.decode(state, far, exogenous), scenario.decode(state, edge, exogenous))
            else:
                bad += [np.full(good[name].shape, 10_000), np.full(good[name].shape, -1)]
            for actions in bad:
                with refused(name):
                    scenario.decode(state, {**good, name: actions}, exogenous)

    def test_a_central_action_decides_for_all(self) -> None:
        scenario = self.make()
        trace = scenario.sample_trace(np.random.default_rng(0), 2, 2)
        state, exogenous = scenario.initial_state(trace), scenario.exogenous(trace, 0)
        action = draw(scenario.central_space, np.random.default_rng(1), (2,))
        step = scenario.step(state, scenario.decode_central(state, action, exogenous), exogenous)
        assert np.isfinite(total_cost(step)).all()
        with refused():
            scenario.decode_central(state, action[:, :-1], exogenous)

    def test_traces_that_do_not_fit_are_refused(self) -> None:
        scenario = self.make()
        trace = scenario.sample_trace(np.random.default_rng(0), 2, 3)
        for name in trace_fields(scenario.trace_type):
            values = getattr(trace, name)
            with refused(name):
                scenario.check_trace(dataclasses.replace(trace, **{name: values[..., :-1]}))
            if values.dtype.kind == "f":
                holed = values.copy()
                holed.flat[-1] = np.nan
                with refused(name):
                    scenario.check_trace(dataclasses.replace(trace, **{name: holed}))

    def test_signalling_counts_bytes(self) -> None:
        scenario = self.make()
        signalling = scenario.signalling()
        assert signalling.decentralized_bytes >= 0
        assert signalling.centralized_bytes > 0

    def test_parallel_env_episode_is_fixed_by_its_seed(self) -> None:
        scenario = self.make()
        env = ScenarioParallelEnv(scenario)
        first, second, other = run_parallel(env, 3), run_parallel(env, 3), run_parallel(env, 4)
        for a, b in zip(first, second, strict=True):
            assert_same(a, b)
        assert any(str(a) != str(b) for a, b in zip(first, other, strict=True))

    def test_parallel_env_replays_a_trace(self) -> None:
        scenario = self.make()
        env = ScenarioParallelEnv(scenario)
        trace = scenario.sample_trace(np.random.default_rng(2), 1, SLOTS + 1)
        for a, b in zip(run_parallel(env, 3, trace), run_parallel(env, 4, trace), strict=True):
            assert_same(a, b)
        with refused("cells"):
            env.reset(options={"trace": scenario.sample_trace(np.random.default_rng(2), 2, 2)})

    def test_parallel_env_equals_the_scenario(self) -> None:
        """The shell adds nothing: rewards are minus the ledger of the pure step."""
        scenario = self.make()
        trace = scenario.sample_trace(np.random.default_rng(2), 1, SLOTS + 1)
        env = ScenarioParallelEnv(scenario)
        env.reset(options={"trace": trace})
        rng, state = np.random.default_rng(9), scenario.initial_state(trace)
        names = {
            role: [agent for agent in env.possible_agents if env.role_of(agent) == role] for role in scenario.roles
        }
        for t in range(SLOTS):
            actions = {agent: draw(env.action_space(agent), rng, ()) for agent in env.agents}
            raw = {role: np.stack([actions[agent] for agent in agents])[None] for role, agents in names.items()}
            exogenous = scenario.exogenous(trace, t)
            step = scenario.step(state, scenario.decode(state, raw, exogenous), exogenous)
            _, rewards, *_ = env.step(actions)
            for role, agents in names.items():
                np.testing.assert_allclose([rewards[a] for a in agents], -step.costs[role][0], rtol=1e-12)
            state = step.state

    def test_episodes_end_by_truncation_at_the_horizon(self) -> None:
        scenario = self.make()
        env = ScenarioParallelEnv(scenario)
        env.reset(options={"trace": scenario.sample_trace(np.random.default_rng(2), 1, 2)})
        for last in (False, True):
            result = env.step({agent: env.action_space(agent).sample() for agent in env.agents})
            assert set(result[2].values()) == {False} and set(result[3].values()) == {last}
        assert env.agents == []
        assert env.step({}) == ({}, {}, {}, {}, {})  # as PettingZoo has it, with its warning
        shorter = ScenarioParallelEnv(scenario, max_cycles=1)
        shorter.reset(seed=0)
        ended = shorter.step({agent: shorter.action_space(agent).sample() for agent in shorter.agents})[3]
        assert set(ended.values()) == {True}

    def test_nothing_is_asked_before_reset(self) -> None:
        scenario = self.make()
        parallel, central = ScenarioParallelEnv(scenario, render_mode="rgb_array"), CentralEnv(scenario)
        for ask in (lambda: parallel.step({}), parallel.state, parallel.render):
            with refused("reset", AssertionError):  # PettingZoo's
                ask()
        with refused("reset", gymnasium.error.ResetNeeded):
            central.step(central.action_space.sample())

    def test_infos_have_the_same_numbers_at_reset_as_in_steps(self) -> None:
        """TorchRL takes the entries of a reset for those of every step, and makes a tensor of each."""
        scenario = self.make()
        env, central = ScenarioParallelEnv(scenario), CentralEnv(scenario)
        _, first = env.reset(seed=0)
        _, told = central.reset(seed=0)
        *_, then = env.step({agent: env.action_space(agent).sample() for agent in env.agents})
        *_, said = central.step(central.action_space.sample())
        assert told.keys() == said.keys() and scenario.cost_metric in {*said, *scenario.episode_metrics(said)}
        for agent in env.possible_agents:
            assert first[agent].keys() == then[agent].keys() >= said.keys()
            assert all(np.shape(first[agent][name]) == np.shape(value) for name, value in then[agent].items())
            assert all(np.asarray(value).dtype.kind in "fiub" for value in then[agent].values())

    def test_agents_are_named_and_grouped(self) -> None:
        scenario = self.make()
        env = ScenarioParallelEnv(scenario)
        assert [agent for group in env.group_map.values() for agent in group] == env.possible_agents
        assert "device" not in env.group_map  # means something else in TorchRL
        for (role, declared), group in zip(scenario.roles.items(), env.group_map.values(), strict=True):
            assert [env.role_of(agent) for agent in group] == [role] * declared.count
        assert env.reset(seed=0)[0].keys() == set(env.possible_agents)
        assert env.state_space.contains(env.state())

    def test_unit_actions_reach_from_bound_to_bound(self) -> None:
        scenario = self.make()
        trace = scenario.sample_trace(np.random.default_rng(2), 1, 2)
        for end in ("low", "high"):
            rewards = []
            for units in ("own", "unit"):
                env = ScenarioParallelEnv(scenario, actions=units)
                env.reset(options={"trace": trace})
                actions = {agent: extreme(env.action_space(agent), end) for agent in env.agents}
                rewards.append(env.step(actions)[1])
            np.testing.assert_allclose(list(rewards[0].values()), list(rewards[1].values()), rtol=1e-9)

    def test_a_vector_of_networks_equals_single_ones(self) -> None:
        scenario = self.make()
        ones = [CentralEnv(scenario) for _ in range(2)]
        seeded = CentralVectorEnv(scenario, 2).reset(seed=5)[0]
        np.testing.assert_array_equal(seeded, [env.reset(seed=5 + b)[0] for b, env in enumerate(ones)])
        many, rng = CentralVectorEnv(scenario, 2, max_episode_steps=3), np.random.default_rng(0)
        observations, _ = many.reset(seed=5)
        for _ in range(2):
            trace = many._episode.trace
            single = [env.reset(options={"trace": trace.select([b])})[0] for b, env in enumerate(ones)]
            np.testing.assert_array_equal(observations, single)
            for t in range(3):
                actions = np.stack([draw(many.single_action_space, rng, ()) for _ in ones])
                stepped: Any = many.step(actions)
                expected: Any = [env.step(action) for env, action in zip(ones, actions, strict=True)]
                for part in range(4):
                    np.testing.assert_allclose(stepped[part], [one[part] for one in expected], rtol=1e-6)
                assert stepped[3].tolist() == [t == 2] * 2
            observations, rewards, *_ = many.step(actions)  # starts the next episode
            assert not rewards.any()

    def test_pettingzoo_and_gymnasium_checkers(self) -> None:
        scenario = self.make()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parallel_api_test(ScenarioParallelEnv(scenario), num_cycles=30)
            parallel_seed_test(lambda: ScenarioParallelEnv(scenario), num_cycles=5)
            check_env(CentralEnv(scenario), skip_render_check=True)
            check_env(CentralEnv(scenario, actions="own"), skip_render_check=True)

    def test_central_env_episode_is_fixed_by_its_seed(self) -> None:
        scenario = self.make()

        def run(seed: int) -> list[Any]:
            env, rng = CentralEnv(scenario), np.random.default_rng(0)
            seen = [env.reset(seed=seed)[0]]
            for _ in range(SLOTS):
                observation, reward, *_ = env.step(draw(env.action_space, rng, ()))
                seen += [observation, np.asarray(reward)]
            return seen

        for a, b in zip(run(3), run(3), strict=True):
            np.testing.assert_array_equal(a, b)
        assert any((a != b).any() for a, b in zip(run(3), run(4), strict=True))
