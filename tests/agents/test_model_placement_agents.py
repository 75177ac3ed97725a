"""Rules and reference of model placement: shares under deadlines, locality, plans, bounds, calibration."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from edgemarl.agents.model_placement.reference import (
    NOWHERE,
    clairvoyant_bound,
    empty_state,
    network_bounds,
    pack,
    problem,
    relax,
    upper_bound,
)
from edgemarl.agents.model_placement.rules import Prices, static_local_count
from edgemarl.agents.registry import make_policy, playbook_of
from edgemarl.envs.physics.deadlines import deadline_shares, split_deadline_s
from edgemarl.envs.scenarios.model_placement import ModelPlacement, ModelPlacementConfig, scaled, slow_backhaul
from edgemarl.launch.experiment.plan import Sweep, load_preset, make_plan, preset_names
from edgemarl.marl.evaluation.rollout import SampledTraces

NAMES = tuple(playbook_of("model_placement").controllers)
SMALL = {
    "scaled": scaled(2, 5),
    "slow links": slow_backhaul(scaled(2, 4)),
    "tight caches": scaled(3, 3, gateway_cache_bits=1.2e8, edge_cache_bits=2.4e8),
    "free first hop": scaled(2, 4, first_hop_counted_for_relayed=False),
}


def play(scenario: ModelPlacement, name: str, trace: Any, slots: int) -> list[tuple[Any, Any, Any, Any]]:
    """(state, exogenous, decisions, step) of every slot under a named controller."""
    policy, rng, state, record = (
        make_policy(scenario, name),
        np.random.default_rng(1),
        scenario.initial_state(trace),
        [],
    )
    policy.reset(scenario, trace)
    for t in range(slots):
        exogenous = scenario.exogenous(trace, t)
        decisions = policy.decide(state, exogenous, rng)
        step = scenario.step(state, decisions, exogenous)
        record.append((state, exogenous, decisions, step))
        state = step.state
    return record


def accuracy(record: list[tuple[Any, Any, Any, Any]]) -> np.ndarray:
    return np.stack([step.metrics["mean_accuracy"] for *_, step in record])


def random_pool(seed: int, n: int, load: float) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    band, cpu = rng.uniform(0.5, 4.0, (1, n)), rng.uniform(0.5, 2.0, (1, n))
    band, cpu = load * band / band.sum(), load * cpu / cpu.sum()
    return band, cpu, rng.uniform(1.5, 2.0, (1, n)), rng.uniform(0.0, 1.4, (1, n))


def least_band(band: np.ndarray, cpu: np.ndarray, deadline: np.ndarray, fetch: np.ndarray) -> float:
    """Band that a set of tasks needs at least, by an independent convex solver; infinite if the CPU cannot do it."""
    import cvxpy as cp  # takes a second to load, in every process that collects tests

    y = cp.Variable(len(band))
    limits = [cp.sum(cp.multiply(cpu, cp.inv_pos(y))) <= 1, y <= deadline - fetch, y <= 0.999 * deadline, y >= 1e-3]
    task = cp.Problem(cp.Minimize(cp.sum(cp.multiply(band, cp.inv_pos(deadline - y)))), limits)
    task.solve(solver=cp.CLARABEL)
    return float(task.value) if task.value is not None else np.inf


@pytest.mark.parametrize("seed", range(4))
def test_deadline_shares_are_least_and_shed_no_more_than_needed(seed: int) -> None:
    band, cpu, deadline, fetch = random_pool(seed, 8, 1.0)
    everyone, burden = np.ones(band.shape, bool), (band + cpu) / deadline
    found = deadline_shares(band, cpu, deadline, fetch, everyone, everyone, burden)
    assert found.band.sum() <= 1 and found.cpu.sum() <= 1
    with np.errstate(divide="ignore", invalid="ignore"):
        delay = np.maximum(np.where(found.served, band / found.band, 0), fetch) + np.where(
            found.served, cpu / found.cpu, 0
        )
    assert (delay[found.served] <= deadline[found.served]).all()
    assert 0 < found.served.sum() < 8, "the case is meant to shed some and serve some"
    kept = found.served[0]
    np.testing.assert_allclose(
        found.band.sum(), least_band(*(v[0, kept] for v in (band, cpu, deadline, fetch))), rtol=1e-4
    )
    worst = np.argsort(burden[0])[: kept.sum() + 1]
    assert kept[worst[:-1]].all(), "the greatest burdens go first"
    assert least_band(*(v[0, worst] for v in (band, cpu, deadline, fetch))) > 1, "one task more does not fit"


def test_tasks_that_only_transmit_and_hopeless_ones() -> None:
    band, cpu = np.array([[0.2, np.inf, 0.3]]), np.array([[9.0, 0.1, 0.1]])
    computing = np.array([[False, True, True]])
    found = deadline_shares(
        band, cpu, np.full((1, 3), 2.0), np.zeros((1, 3)), np.ones((1, 3), bool), computing, np.zeros((1, 3))
    )
    np.testing.assert_array_equal(found.served, [[True, False, True]])
    np.testing.assert_allclose(found.band[0, 0], 0.1, rtol=1e-6)
    assert found.cpu[0, 0] == 0 and found.cpu[0, 1] == 0 and found.band[0, 1] == 0


def test_times_are_split_at_the_least_cost() -> None:
    x, y = split_deadline_s(2.0, 3.0, 1.0, 9.0)
    assert (x, y) == (1.5, 0.5)
    grid = np.linspace(0.01, 1.99, 5000)
    assert 9 / x + 1 / y <= (9 / (2.0 - grid) + 1 / grid).min() + 1e-12
    assert split_deadline_s(2.0, 3.0, 1.0, 0.2) == (1.8, 0.2)


@pytest.mark.parametrize("case", sorted(SMALL))
def test_nobody_is_above_the_bounds(case: str) -> None:
    scenario = ModelPlacement(SMALL[case])
    trace = scenario.sample_trace(np.random.default_rng(3), 2, 4)
    limit = np.stack([clairvoyant_bound(scenario, scenario.exogenous(trace, t)) for t in range(4)])
    states, slots, reached = [], [], []
    for name in NAMES:
        record = play(scenario, name, trace, 4)
        assert (accuracy(record) <= limit + 1e-9).all(), name
        states += [state for state, *_ in record]
        slots += [exogenous for _, exogenous, *_ in record]
        reached += [step.metrics["mean_accuracy"] for *_, step in record]
    bound = upper_bound(scenario, joined(states), joined(slots))
    assert (np.concatenate(reached) <= bound + 1e-9).all()


def joined(parts: list[Any]) -> Any:
    """Dataclasses of arrays (B, ...) as one whose cells are those of all."""
    names = [f.name for f in dataclasses.fields(parts[0])]
    return type(parts[0])(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def test_bounds_are_near_the_best_of_many_random_decisions_in_a_tiny_network() -> None:
    """One gateway, two devices: the best of thousands of random decisions comes near the bound, and never above."""
    scenario = ModelPlacement(scaled(1, 2, gateway_cache_bits=1.4e8))
    trace = scenario.sample_trace(np.random.default_rng(1), 1, 1)
    many = 4000
    trace = trace.select(np.zeros(many, int))
    state, exogenous = scenario.initial_state(trace), scenario.exogenous(trace, 0)
    rng = np.random.default_rng(0)
    raw = {
        "device": rng.integers(0, 2, (many, 2, 2)),
        "gateway": rng.uniform(-1, 1, (many, 1, 8)),
        "server": rng.uniform(-1, 1, (many, 1, 8)),
    }
    step = scenario.step(state, scenario.decode(state, raw, exogenous), exogenous)
    best, bound = step.metrics["mean_accuracy"].max(), upper_bound(scenario, state, exogenous)[0]
    assert best <= bound
    assert best >= 0.9 * bound


@pytest.mark.parametrize("case", sorted(SMALL))
def test_plans_use_no_more_than_there_is_and_come_true(case: str) -> None:
    scenario = ModelPlacement(SMALL[case])
    trace = scenario.sample_trace(np.random.default_rng(0), 6, 5)
    planned, realised = [], []
    for state, exogenous, _, step in play(scenario, "plan_used", trace, 5):
        p = problem(scenario, state, exogenous)
        found = relax(p)
        plan = pack(p, found.kept)
        assert (plan.accuracy <= found.bound + 1e-9).all()
        gateway = plan.take[..., :3].sum(axis=2)
        assert (gateway[..., :2] <= 1).all() and (gateway[..., 2] <= p.free_gateway).all()
        edge = plan.take[..., 3:].sum(axis=(1, 2))
        assert (edge[..., :2] <= 1).all() and (edge[..., 2] <= p.free_edge).all()
        assert not plan.take[plan.option == NOWHERE].any()
        planned.append(plan.accuracy / scenario.config.num_devices)
        realised.append(step.metrics["mean_accuracy"])
    lost = np.stack(realised) < np.stack(planned) - 1e-9
    assert lost.mean() <= 0.1, "a dropped task's request rarely costs a planned one its place"
    assert np.mean(realised) > np.mean(accuracy(play(scenario, "random", trace, 5))) + 0.2


def test_a_relaxation_of_a_batch_equals_its_cells() -> None:
    scenario = ModelPlacement(SMALL["scaled"])
    trace = scenario.sample_trace(np.random.default_rng(0), 3, 1)
    exogenous = scenario.exogenous(trace, 0)
    p = problem(scenario, empty_state(exogenous), exogenous)
    together = pack(p, relax(p).kept)
    for b in range(3):
        one = scenario.exogenous(trace.select([b]), 0)
        q = problem(scenario, empty_state(one), one)
        alone = pack(q, relax(q).kept)
        np.testing.assert_array_equal(alone.option[0], together.option[b])
        np.testing.assert_allclose(alone.take[0], together.take[b], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith(("plan", "best_plan"))])
def test_a_rule_reads_its_own_row_and_its_messages_only(name: str) -> None:
    scenario = ModelPlacement(SMALL["slow links"])
    trace = scenario.sample_trace(np.random.default_rng(2), 1, 1)
    state, exogenous = scenario.initial_state(trace), scenario.exogenous(trace, 0)
    policy: Any = make_policy(scenario, name)
    policy.reset(scenario, trace)
    rows = scenario.observe(state, exogenous)
    policy.act(rows, np.random.default_rng(0))
    for role, controller in policy.controllers.items():
        told = [policy.inbox[role][sender] for sender in policy.controllers if sender in policy.inbox[role]]
        own = np.concatenate([rows[role], *told], axis=2)
        base = controller.act(own, np.random.default_rng(5)).actions
        for i in range(own.shape[1]):
            others = own * np.random.default_rng(i).uniform(0.5, 1.5, own.shape).astype(np.float32)
            others[:, i] = own[:, i]
            np.testing.assert_array_equal(controller.act(others, np.random.default_rng(5)).actions[:, i], base[:, i])


def test_messages_are_the_bytes_that_the_scenario_counts() -> None:
    scenario = ModelPlacement(SMALL["scaled"])
    policy: Any = make_policy(scenario, "static_rule")
    policy.reset(scenario, scenario.sample_trace(np.random.default_rng(0), 1, 1))
    assert policy.controllers["device"].messages == {"gateway": 5, "server": 10}
    assert policy.message_bytes() == 0


def test_a_gateway_plans_from_its_own_row_whatever_its_devices_tell_it_after_it() -> None:
    scenario = ModelPlacement()
    gateways: Any = make_policy(scenario, "cell_plan").controllers["gateway"]  # type: ignore[attr-defined]
    trace = scenario.sample_trace(np.random.default_rng(0), 2, 3)
    rows = scenario.observe(scenario.initial_state(trace), scenario.exogenous(trace, 0))["gateway"]
    plans = []
    for told in (np.zeros((*rows.shape[:2], 0)), np.ones((*rows.shape[:2], 5))):
        gateways.reset(scenario, 2)
        plans.append(gateways.act(np.concatenate([rows, told], axis=-1), np.random.default_rng(1)).actions)
    np.testing.assert_array_equal(*plans)


def test_devices_do_what_their_gateway_plans_and_the_server_hears_of_it() -> None:
    scenario = ModelPlacement()
    trace = scenario.sample_trace(np.random.default_rng(0), 1, 1)
    policy: Any = make_policy(scenario, "cell_plan")
    policy.reset(scenario, trace)
    rows = scenario.observe(scenario.initial_state(trace), scenario.exogenous(trace, 0))
    acts = policy.act(rows, np.random.default_rng(0))
    told = acts["gateway"].messages["device"][..., 0]
    choice = acts["device"].actions
    np.testing.assert_array_equal(told, choice[..., 0] + 2 * choice[..., 1])
    np.testing.assert_array_equal(acts["device"].messages["server"][:, 0], told)
    assert 0 < choice[..., 0].mean() < 1 and choice[..., 1].any()


def test_a_resource_is_worth_more_the_more_devices_share_it() -> None:
    prices = Prices(1.0, 2.0, 3.0, 4.0)
    assert prices.shared_by(ModelPlacementConfig()) == prices
    assert prices.shared_by(scaled(20, 35)) == Prices(1.0, 2.0, 6.0, 8.0)
    assert prices.shared_by(scaled(10, 70)) == Prices(2.0, 4.0, 6.0, 8.0)


def test_static_assignment_fills_the_gateways_cache() -> None:
    assert static_local_count(ModelPlacementConfig()) == 28
    assert static_local_count(scaled(2, 5)) == 4
    assert static_local_count(ModelPlacementConfig(gateway_cache_bits=9e9)) == 35


def test_controllers_of_other_scenarios_are_refused() -> None:
    from edgemarl.envs.registry import make_scenario

    other = make_scenario("sequential_offloading")
    trace = other.sample_trace(np.random.default_rng(0), 1, 1)
    for name in ("plan_used", "static_rule"):
        with pytest.raises(ValueError, match=r"model_placement|no controller"):
            make_policy(ModelPlacement(SMALL["scaled"]), name).reset(other, trace)
    needy = ModelPlacement(dataclasses.replace(SMALL["scaled"], share_prior="need"))
    with pytest.raises(ValueError, match="share_prior"):
        make_policy(needy, "plan_used").reset(needy, needy.sample_trace(np.random.default_rng(0), 1, 1))


CALIBRATION = {  # published means of five traces of 20 slots; the tolerance also covers two traces of three slots
    "random": (0.266, 0.03),
    "random_equal": (0.370, 0.03),
    "static_equal": (0.486, 0.05),
    "static_rule": (0.904, 0.02),
    "static_rule2": (0.930, 0.015),
    "static_level2": (0.938, 0.012),
    "cell_plan": (0.944, 0.012),
    "alllocal_light": (0.907, 0.008),
    "plan_used": (0.935, 0.012),
}


@pytest.mark.parametrize("name", CALIBRATION)
def test_full_network_lies_where_it_was_measured(name: str) -> None:
    scenario = ModelPlacement()
    trace = scenario.sample_trace(np.random.default_rng(0), 2, 3)
    mean, tolerance = CALIBRATION[name]
    assert accuracy(play(scenario, name, trace, 3)).mean() == pytest.approx(mean, abs=tolerance)


def test_over_slow_links_placement_takes_two_slots_and_a_margin() -> None:
    """The staged rule warms its caches; leaving time for the task beside the model is what makes it work."""
    scenario = ModelPlacement(slow_backhaul())
    trace = scenario.sample_trace(np.random.default_rng(0), 1, 5)
    plain, margin = (accuracy(play(scenario, name, trace, 5)) for name in ("staged", "staged2"))
    assert margin[-1, 0] > margin[0, 0] + 0.3
    assert margin.mean() > plain.mean() + 0.2


def test_every_preset_is_a_legal_plan() -> None:
    presets = [name for name in preset_names() if name.startswith("model_placement/")]
    assert len(presets) >= 12
    for name in presets:
        make_plan(name, load_preset(name), overrides={})
    sizes = make_plan("size", load_preset("model_placement/size"), overrides={}).points
    assert [point.scenario.config.num_devices for point in sizes] == [10, 40, 120, 350, 700]
    for point in sizes:
        config = point.scenario.config
        wanted = scaled(config.num_gateways, config.devices_per_gateway)
        for name, value in dataclasses.asdict(config).items():
            want = getattr(wanted, name)
            assert value == (pytest.approx(want, rel=1e-6) if isinstance(want, float) else want), name


def test_fields_that_change_along_need_as_many_values() -> None:
    with pytest.raises(ValueError, match="devices_per_gateway has 1 values, must have 2"):
        Sweep(field="num_gateways", values=[1, 2], also={"devices_per_gateway": [3]})


def test_bounds_of_a_comparison_are_those_of_its_traces() -> None:
    scenario = ModelPlacement(dataclasses.replace(SMALL["slow links"], episode_slots=3))
    row = network_bounds(scenario.config, network=1, seed=4)
    source = SampledTraces(scenario, np.random.SeedSequence([4, 1]), 2, scenario.horizon)
    played = next(source.chunks(2)).select([1])
    limit = np.mean([clairvoyant_bound(scenario, scenario.exogenous(played, t)) for t in range(3)])
    assert row["clairvoyant"] == pytest.approx(limit)
    none = accuracy(play(scenario, "plan_none", played, 3)).mean()
    assert none <= row["no_caching"] <= row["clairvoyant"]


def test_even_scores_under_shares_by_deadline_are_the_rule() -> None:
    """What learned gateways and a learned server start from: the rule that hears what the devices decide."""
    config = SMALL["scaled"]
    rule = "device=static_level+gateway=deadline_cacheless+server=deadline_cacheless"
    scenarios = [ModelPlacement(dataclasses.replace(config, share_prior=prior)) for prior in ("equal", "deadline")]
    trace = scenarios[0].sample_trace(np.random.default_rng(0), 3, 6)
    told, corrected = (accuracy(play(scenario, rule, trace, 6)) for scenario in scenarios)
    np.testing.assert_array_equal(told, corrected)
    assert 0.5 < told.mean() < 1.0
