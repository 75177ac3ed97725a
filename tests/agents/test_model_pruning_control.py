"""Rules, exact plans, near-optimal control and bounds of `model_pruning`."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgemarl.agents.api import Controller, Team
from edgemarl.agents.model_pruning.gateway_plans import CellPlanner, GatewayTasks, offload_bits
from edgemarl.agents.model_pruning.reference import NearOptimal, critical_edge_times, own_plans, upper_bound
from edgemarl.agents.model_pruning.rules import (
    AccuracyGuaranteedDelayMinimisation,
    ChosenTimes,
    PlanFollower,
    PlanningGateway,
    StaticShares,
    mid_model,
    static_shares,
)
from edgemarl.agents.model_pruning.share_grid import ShareGridSearch
from edgemarl.agents.model_pruning.threshold import tuned_table
from edgemarl.agents.registry import make_policy, playbook_of
from edgemarl.envs import make_scenario
from edgemarl.envs.physics.layout import rank_within
from edgemarl.envs.scenarios.model_pruning import (
    ModelPruning,
    ModelPruningDecisions,
    ModelPruningExogenous,
    ModelPruningState,
)
from edgemarl.envs.scenarios.model_pruning.config import ModelPruningConfig, preset
from edgemarl.launch.experiment.plan import load_preset, make_plan
from edgemarl.marl.evaluation.compare import Outcome, signalling_bytes
from edgemarl.marl.evaluation.rollout import rollout
from edgemarl.marl.studies.criticality import obtained, requirements_met

LOCAL = ("all_local", "all_offload", "accuracy_rule", "threshold", "cell_plan", "cell_plan_static_100")


def evaluate(network: ModelPruning, state: Any, bits: Any, model: Any, share: Any) -> Any:
    """Steps of one state under many decisions (P, ..)."""
    many = len(bits)
    states = ModelPruningState(*(np.repeat(a, many, axis=0) for a in (state.channel_gain, state.criticality_level)))
    exogenous = ModelPruningExogenous(states.channel_gain, states.criticality_level)
    decisions = ModelPruningDecisions(*(np.asarray(a) for a in (bits, model, share)))
    return network.step(states, decisions, exogenous)


def drawn(network: ModelPruning, seed: int) -> tuple[Any, Any, Any]:
    trace = network.sample_trace(np.random.default_rng(seed), 1, 1)
    return network.initial_state(trace), network.exogenous(trace, 0), trace


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 6), st.integers(1, 3), st.sampled_from([40e9, 768e9]), st.booleans(), st.integers(0, 10**6),
    st.sampled_from([0.02, 0.05, 0.3, 1.0]),
)  # fmt: skip
def test_a_cell_plan_equals_enumeration(
    tasks: int, levels: int, flops: float, delay: bool, seed: int, share: float
) -> None:
    """Every number sent of every level, every model: one gateway whose capacity and deadlines bind."""
    weights = {"utilisation_weight": 0.0, "delay_weight": 1.0} if delay else {}
    network = ModelPruning(
        ModelPruningConfig(
            num_devices=tasks,
            num_gateways=1,
            num_criticality_levels=levels,
            gateway_flops=flops,
            bandwidth_hz=4e5,
            mini_slots_per_slot=9,
            allow_idle_edge_share=True,
            model_pruning_rates=(0.1, 0.5, 0.9),
            model_accuracies=(0.9976, 0.9752, 0.9221),
            max_delay_s=2.0,
            **weights,
        )
    )
    state, _, _ = drawn(network, seed)
    level = state.criticality_level
    patterns = np.array(list(itertools.product((0, 1), repeat=tasks)))
    bits, models = np.repeat(patterns, 3, axis=0), np.tile(np.arange(3), len(patterns))[:, None]
    # with one gateway every split is (1,): a smaller share is a smaller server
    small = ModelPruning(dataclasses.replace(network.config, edge_flops=network.config.edge_flops * share))
    best = -evaluate(small, state, bits, models, np.ones((len(bits), 1))).details["cell_cost"].min()
    histogram, uplink = small.histogram(level), small.uplink(state.channel_gain)
    plan = CellPlanner(small).plan(GatewayTasks.of(histogram, uplink, small.edge_task_s(np.ones((1, 1)))))
    assert plan.value[0] == pytest.approx(best, abs=1e-9)
    followed = offload_bits(small, level, rank_within(level.astype(int)), plan.sent[None])
    step = evaluate(small, state, followed, plan.model[None], np.ones((1, 1)))
    assert step.metrics["reward"][0] == pytest.approx(best, abs=1e-9)


def small_network(**fields: Any) -> ModelPruning:
    return ModelPruning(
        ModelPruningConfig(
            num_devices=6,
            num_gateways=3,
            allow_idle_edge_share=True,
            model_pruning_rates=(0.1, 0.7, 0.9),
            model_accuracies=(0.9976, 0.9517, 0.9221),
            **fields,
        )
    )


@pytest.mark.parametrize("fields", [{}, {"utilisation_weight": 0.0, "delay_weight": 1.0}, {"gateway_flops": 20e9}])
def test_three_gateways_and_six_sensors_by_brute_force(fields: dict[str, Any]) -> None:
    """All offload patterns, models and splits in fifths; the near-optimum is at least as good and below the bound."""
    network = small_network(**fields)
    units = np.array([(i, j, 5 - i - j) for i in range(6) for j in range(6 - i)]) / 5
    patterns = np.array(list(itertools.product((0, 1), repeat=6)))
    models = np.array(list(itertools.product(range(3), repeat=3)))
    bits = np.repeat(patterns, len(models), axis=0)
    model = np.tile(models, (len(patterns), 1))
    for seed in range(2):
        state, exogenous, trace = drawn(network, seed)
        best = max(
            evaluate(network, state, bits, model, np.broadcast_to(split, (len(bits), 3))).metrics["reward"].max()
            for split in units
        )
        search = ShareGridSearch(5)
        search.reset(network, trace)
        found = network.step(state, search.decide(state, exogenous, np.random.default_rng(0)), exogenous)
        assert found.metrics["reward"][0] == pytest.approx(best, abs=1e-9)
        near = NearOptimal()
        near.reset(network, trace)
        step = network.step(state, near.decide(state, exogenous, np.random.default_rng(0)), exogenous)
        assert best - 2e-3 <= step.metrics["reward"][0] <= upper_bound(network, state)[0] + 1e-9


def test_idle_gateways_hold_no_share_in_the_grid_search() -> None:
    """With the repair of (17c) a split in units is kept as it is: its value is the planned one."""
    network = make_scenario("model_pruning", num_devices=5, num_gateways=4, gateway_flops=5e12)
    trace = network.sample_trace(np.random.default_rng(0), 8, 1)
    search = ShareGridSearch()
    search.reset(network, trace)
    state, exogenous = network.initial_state(trace), network.exogenous(trace, 0)
    decisions = search.decide(state, exogenous, np.random.default_rng(0))
    step = network.step(state, decisions, exogenous)
    np.testing.assert_allclose(step.details["edge_share"], decisions.edge_share, atol=1e-12)
    np.testing.assert_allclose(decisions.edge_share * 20, np.rint(decisions.edge_share * 20), atol=1e-9)


@pytest.mark.parametrize(
    ("name", "devices", "gateways"), [("printed", 45, 3), ("printed", 50, 2), ("contended", 44, 2), ("qos", 45, 3)]
)
def test_near_optimal_beats_every_rule_on_every_slot_and_keeps_the_bound(
    name: str, devices: int, gateways: int
) -> None:
    network = ModelPruning(
        preset(
            name,
            num_devices=devices,
            num_gateways=gateways,
            gateway_broadcast="rank",
            drop_penalty=99.0,
            bandwidth_hz=5e6 * gateways / 5,
        )
    )
    trace = network.sample_trace(np.random.default_rng(1), 4, 1)
    state, exogenous = network.initial_state(trace), network.exogenous(trace, 0)
    rewards = {}
    for controller in playbook_of("model_pruning").controllers:
        if controller == "share_grid" and name != "printed":
            continue  # slow
        policy = make_policy(network, controller)
        policy.reset(network, trace)
        step = network.step(state, policy.decide(state, exogenous, np.random.default_rng(0)), exogenous)
        rewards[controller] = step.metrics["reward"]
    for controller, reward in rewards.items():
        assert (reward <= rewards["near_optimal"] + 0.02).all(), controller
        assert (reward <= upper_bound(network, state) + 1e-9).all(), controller
    one = (mid_model(network),)
    assert (rewards["near_optimal_one_model"] <= upper_bound(network, state, one) + 1e-9).all()
    assert (upper_bound(network, state, one) <= upper_bound(network, state) + 1e-9).all()
    close = upper_bound(network, state) - rewards["near_optimal"]
    assert close.mean() < (0.02 if name == "qos" else 0.12), close


def test_no_edge_time_is_worth_more_than_the_critical_ones() -> None:
    """A fine grid of edge times below the transmission time finds nothing better than the few that are planned."""
    network = ModelPruning(ModelPruningConfig())
    trace = network.sample_trace(np.random.default_rng(0), 4, 1)
    state = network.initial_state(trace)
    histogram, uplink = network.histogram(state.criticality_level), network.uplink(state.channel_gain)
    planner = CellPlanner(network)
    edge_s, share, used = critical_edge_times(network, histogram, uplink)
    np.testing.assert_allclose(network.edge_task_s(share), edge_s, rtol=1e-9)
    values = planner.plan(GatewayTasks.of(histogram, uplink, edge_s)).value.reshape(edge_s.shape)
    critical = np.where(used, values, -np.inf).max(axis=2)
    grid = uplink.transmission_s[..., None] * np.linspace(0.05, 1.0, 60)
    fine = planner.plan(GatewayTasks.of(histogram, uplink, grid)).value.reshape(grid.shape).max(axis=2)
    assert (fine <= critical + 1e-9).all()
    assert (fine > values[..., 1] + 1e-3).any()  # the transmission time alone would not do


def test_the_reference_refuses_literal_accounting() -> None:
    network = make_scenario("model_pruning", count_dropped_in_utilisation=True)
    with pytest.raises(ValueError, match="count_dropped_in_utilisation"):
        CellPlanner(network)  # type: ignore[arg-type]


def test_edge_times_of_the_static_rule() -> None:
    """Edge time = fraction of the transmission time but for the last gateway; equal shares where that is too much."""
    network = ModelPruning(ModelPruningConfig())
    gain = np.array([[2e-13, 4e-13, 6e-13, 4e-13, 2e-13]])
    share = static_shares(network, gain, 0.5)
    np.testing.assert_allclose(
        network.edge_task_s(share)[0, :-1], 0.5 * network.uplink(gain).transmission_s[0, :-1], rtol=1e-9
    )
    assert share.sum() == pytest.approx(1.0)
    np.testing.assert_array_equal(static_shares(network, gain, 0.01), 0.2)
    np.testing.assert_array_equal(static_shares(network, gain, None), 0.2)
    with pytest.raises(ValueError, match="fraction"):
        StaticShares(0.0)


def test_the_decentralized_plan_is_carried_out_by_the_devices() -> None:
    """From rows and messages alone the team reaches the plan that sees the whole cell."""
    network = make_scenario("model_pruning", num_devices=60, num_gateways=4, gateway_broadcast="rank")
    assert isinstance(network, ModelPruning)
    trace = network.sample_trace(np.random.default_rng(2), 3, 1)
    state, exogenous = network.initial_state(trace), network.exogenous(trace, 0)
    team = make_policy(network, "cell_plan_static_100")
    team.reset(network, trace)
    decisions = team.decide(state, exogenous, np.random.default_rng(0))
    share = static_shares(network, state.channel_gain, 1.0)
    histogram, uplink = network.histogram(state.criticality_level), network.uplink(state.channel_gain)
    plans = CellPlanner(network).plan(GatewayTasks.of(histogram, uplink, network.edge_task_s(share)))
    rank = rank_within(network.blocks.class_key(state.criticality_level, 6))
    bits = offload_bits(network, state.criticality_level, rank, plans.sent.reshape(histogram.shape))
    np.testing.assert_array_equal(decisions.offload, bits)
    np.testing.assert_array_equal(decisions.model, plans.model.reshape(3, 4))
    np.testing.assert_allclose(decisions.edge_share, share)


def test_devices_without_rank_toss_the_plans_coins() -> None:
    network = make_scenario("model_pruning", num_devices=40, num_gateways=1)
    device = PlanFollower(sampled=True)
    device.reset(network, 1)
    trace = network.sample_trace(np.random.default_rng(0), 1, 1)
    row = network.observe(network.initial_state(trace), None)["device"]
    plan = np.broadcast_to(np.array([0.0, 0.0, 0.25, 1.0, 1.0, 1.0], np.float32), (1, 40, 6))
    rng = np.random.default_rng(1)
    sent = np.mean([device.act(np.concatenate([row, plan], axis=2), rng).actions for _ in range(2000)], axis=0)[0]
    level = trace.criticality_level[0]
    np.testing.assert_allclose(sent, np.array([0.0, 0.0, 0.25, 1.0, 1.0, 1.0])[level], atol=0.04)


def role_members(network: ModelPruning) -> list[tuple[str, str, Controller]]:
    members = [
        (role, name, build(network)) for role, named in playbook_of("model_pruning").roles.items()
        for name, build in named.items()
    ]  # fmt: skip
    for controller in LOCAL:
        team = make_policy(network, controller)
        assert isinstance(team, Team)
        members += [(role, controller, member) for role, member in team.controllers.items()]
    return members


def test_an_agent_acts_on_its_own_row_and_messages() -> None:
    network = ModelPruning(ModelPruningConfig(num_devices=12, num_gateways=3, gateway_broadcast="rank"))
    trace = network.sample_trace(np.random.default_rng(0), 2, 1)
    rows = network.observe(network.initial_state(trace), None)
    other = network.observe(network.initial_state(network.sample_trace(np.random.default_rng(9), 2, 1)), None)
    for role, name, member in role_members(network):
        if role == "server":
            continue  # there is one
        member.reset(network, 2)
        told = {"device": 6 * isinstance(member, PlanFollower), "gateway": int(isinstance(member, PlanningGateway))}[
            role
        ]
        mixed = rows[role].copy()
        mixed[:, 1:] = other[role][:, 1:]
        acts = []
        for seen in (rows[role], mixed):
            message = np.full((*seen.shape[:2], told), 0.2, np.float32)
            acts.append(member.act(np.concatenate([seen, message], axis=2), np.random.default_rng(4)).actions)
        assert acts[0] is not None and acts[1] is not None
        np.testing.assert_array_equal(acts[0][:, 0], acts[1][:, 0], err_msg=f"{role} {name}")


def test_agdm_minimises_the_delay_that_it_believes_in() -> None:
    network = ModelPruning(ModelPruningConfig(num_devices=23, num_gateways=2, gateway_flops=20e9))
    state, exogenous, trace = drawn(network, 5)
    policy = AccuracyGuaranteedDelayMinimisation()
    policy.reset(network, trace)
    rng = np.random.default_rng(0)
    decisions = policy.decide(state, exogenous, rng)
    believed = np.random.default_rng(0).integers(0, 6, (1, 23))[0]
    assert (decisions.model == mid_model(network)).all() and network.config.model_pruning_rates[3] == 0.7
    forced = network.required_accuracy[believed] > 0.9517 + 1e-9
    assert decisions.offload[0][forced].all()
    assert (decisions.offload[0] > forced).any()
    link, x = network.uplink(state.channel_gain), network.local_task_s[3]
    edge_s = network.edge_task_s(decisions.edge_share)
    for g in range(2):
        own = np.flatnonzero(network.blocks.gateway == g)
        candidates = sorted((believed[m], m) for m in own if not forced[m])
        extra = int(decisions.offload[0][own].sum() - forced[own].sum())
        assert all(decisions.offload[0][m] == (i < extra) for i, (_, m) in enumerate(candidates))

        def delay(e: int, g: int = g, own: Any = own) -> float:
            n, r = forced[own].sum() + e, (~forced[own]).sum() - e
            wait = link.reserved_s[0, g] * (n - 1) / 2
            return float(n * (link.transmission_s[0, g] + edge_s[0, g] + wait) + r * r * x)

        assert delay(extra) <= min(delay(e) for e in range(len(candidates) + 1)) + 1e-9
    again = policy.decide(dataclasses.replace(state, criticality_level=(state.criticality_level + 1) % 6), None, rng)
    np.testing.assert_array_equal(again.offload, decisions.offload)  # what the tasks really need does not matter


def test_the_tuned_table_serves_critical_tasks_first() -> None:
    config = ModelPruningConfig(num_devices=40, num_gateways=2)
    table = tuned_table(config, None)
    assert table.offload_probability.shape == (3, 6) and set(np.unique(table.offload_probability)) <= {0.0, 0.5, 1.0}
    network = ModelPruning(config)
    trace = network.sample_trace(np.random.default_rng(0), 4, 20)
    reward = {
        name: rollout(make_policy(network, name), network, trace, np.random.default_rng(0)).means["reward"].mean()
        for name in ("threshold", "all_offload", "all_local", "accuracy_rule")
    }
    assert reward["threshold"] > max(v for name, v in reward.items() if name != "threshold")


def test_rules_reach_the_rewards_that_are_documented() -> None:
    """100 sensors, 5 gateways (docs/model_pruning.md): order and size of the rewards, and near-zero drops."""
    network = ModelPruning(preset("printed", gateway_broadcast="rank"))
    trace = network.sample_trace(np.random.default_rng(0), 8, 2)
    expected = {
        "near_optimal": (5.2, 0.5), "cell_plan_static_100": (5.1, 0.5), "cell_plan_static_50": (4.05, 0.4),
        "cell_plan": (3.15, 0.3), "all_local": (-15.5, 3.0), "all_local_pruned": (-82.5, 3.0), "random": (-37, 8.0),
        "agdm": (-23.5, 7.0),
    }  # fmt: skip
    for name, (centre, width) in expected.items():
        played = rollout(make_policy(network, name), network, trace, np.random.default_rng(0))
        assert abs(played.means["reward"].mean() - centre) < width, name
        if name.startswith(("near", "cell")):
            assert played.means["drop_ratio"].mean() < 0.002, name


def test_bytes_of_teams() -> None:
    """Equal shares need no radio, `static(f)` tells every gateway its share, a cell plan is one broadcast per cell."""
    network = make_scenario("model_pruning", gateway_broadcast="rank")
    trace = network.sample_trace(np.random.default_rng(0), 1, 1)
    wired = 4 * 100 + 4 * 5 * 7 + 4 * 100
    want = {"all_local": wired, "threshold_static_50": wired + 20, "cell_plan": wired + 120,
            "cell_plan_static_100": wired + 140, "accuracy_rule": wired + 120, "near_optimal": 400 + 820,
            "random": wired, "bandit_q": wired + 20 + 400, "parametric_q": wired + 20 + 400 + 120,
            "cell_plan_chosen": wired + 240}  # fmt: skip
    for name, total in want.items():
        policy = make_policy(network, name)
        policy.reset(network, trace)
        outcome = Outcome(name, "baseline", policy.information, {}, message_bytes=policy.message_bytes())
        assert signalling_bytes(network, outcome) == total, name


def test_rules_of_this_scenario_refuse_others() -> None:
    with pytest.raises(ValueError, match="model_pruning"):
        StaticShares(None).reset(make_scenario("sequential_offloading"), 1)


@pytest.mark.parametrize("name", ["fig9", "light", "contended", "qos", "scale"])
def test_experiments_use_the_named_configs(name: str) -> None:
    """`launch/presets/model_pruning`: fields typed in YAML against the presets of the scenario."""
    named = {"fig9": "printed", "scale": "scaled"}.get(name, name)
    plan = make_plan(name, load_preset(f"model_pruning/{name}"), overrides={})
    for point in plan.points:
        want = preset(named, num_devices=point.value, gateway_broadcast="rank")
        for field in dataclasses.fields(want):
            value, expected = getattr(point.scenario.config, field.name), getattr(want, field.name)
            if isinstance(expected, float):
                assert value == pytest.approx(expected, rel=1e-12), (point.label, field.name)
            else:
                assert value == expected, (point.label, field.name)


def test_tasks_that_were_served_got_what_they_asked_for() -> None:
    """Fig. 10: by task and by level; who believes requirements static drops tasks of the critical levels only."""
    scenario = ModelPruning(ModelPruningConfig(num_devices=40, gateway_broadcast="rank"))
    level, delay_s, accuracy, dropped = obtained(scenario.config, "agdm")
    kept = ~dropped
    assert (delay_s[kept] <= scenario.deadline_s[level[kept]] + 1e-9).all()
    assert (accuracy[kept] >= scenario.required_accuracy[level[kept]] - 1e-9).all()
    loose, strict = (requirements_met(scenario.config, level) for level in (0, 5))
    assert loose["deadline_s"] > strict["deadline_s"]
    assert loose["near_optimal_delay_s"] > strict["near_optimal_delay_s"]
    assert loose["agdm_dropped"] == 0.0
    assert strict["agdm_dropped"] == pytest.approx(dropped[level == 5].mean())
    assert strict["near_optimal_dropped"] < 0.1 < strict["agdm_dropped"]
    with pytest.raises(ValueError, match=r"level = 6 is not legal: must be a whole number in \[0, 5\]"):
        requirements_met(scenario.config, 6)


@pytest.mark.parametrize("fields", [{}, {"gateway_flops": 1.28e11}])
def test_gateways_that_choose_their_edge_time_come_near_joint_control(fields: dict[str, Any]) -> None:
    """Smallest shares fit the server, the split is what the choices need, and little is left to the joint plan."""
    network = make_scenario("model_pruning", gateway_broadcast="rank", **fields)
    trace = network.sample_trace(np.random.default_rng(5), 10, 4)
    played = {name: rollout(make_policy(network, name), network, trace, np.random.default_rng(0)).means
              for name in ("near_optimal", "cell_plan_chosen", "cell_plan_static_100")}  # fmt: skip
    best, chosen, static = (played[name]["reward"].mean() for name in played)
    assert static < chosen <= best + 1e-9
    assert chosen > 0.98 * best
    assert played["cell_plan_chosen"]["drop_ratio"].mean() <= played["near_optimal"]["drop_ratio"].mean() + 1e-3


def test_split_gives_every_gateway_what_its_own_plan_needs_and_one_the_rest() -> None:
    network = ModelPruning(ModelPruningConfig(gateway_broadcast="rank"))
    trace = network.sample_trace(np.random.default_rng(1), 20, 1)
    state = network.initial_state(trace)
    server = ChosenTimes()
    server.reset(network, 20)
    row = network.observe(state, network.exogenous(trace, 0))["server"]
    share = server.act(row, np.random.default_rng(0)).decisions["edge_share"]
    own = own_plans(network, CellPlanner(network), network.histogram(state.criticality_level),
                    network.uplink(state.channel_gain))  # fmt: skip
    np.testing.assert_allclose(share.sum(axis=1), 1.0)
    more = share > own.share * (1 + 1e-6)
    assert (more.sum(axis=1) == 1).all()
    np.testing.assert_allclose(share[~more], own.share[~more], rtol=1e-6)
