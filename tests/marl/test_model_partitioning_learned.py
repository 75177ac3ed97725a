"""What learners of `model_partitioning` need: rows, rewards, and a comparison under a policy's own rules."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgemarl.agents.api import Team
from edgemarl.agents.model_partitioning.q_learner import CutLearner
from edgemarl.agents.model_partitioning.rules import EvenServer, PriceGreedy
from edgemarl.agents.registry import make_policy
from edgemarl.agents.trained.networks import PolicyNetwork
from edgemarl.agents.trained.policy import CENTRAL, TrainedPolicy
from edgemarl.agents.trained.spec import network_spec
from edgemarl.envs.registry import make_scenario
from edgemarl.envs.scenarios.model_partitioning import ModelPartitioning, ModelPartitioningDecisions
from edgemarl.marl.evaluation.compare import Outcome, signalling_bytes
from edgemarl.marl.evaluation.rollout import rollout
from edgemarl.marl.studies import price_of_locality as partitioning_locality
from edgemarl.marl.training.config import TrainConfig
from edgemarl.marl.training.trained import load_policy

ACTED = {"local_cpu_rule": "action", "bandwidth_rule": "action", "edge_cpu_rule": "action"}


def scenario(**fields: Any) -> ModelPartitioning:
    made = make_scenario("model_partitioning", **fields)
    assert isinstance(made, ModelPartitioning)
    return made


def some_slot(made: ModelPartitioning, cells: int = 40) -> tuple[Any, Any, ModelPartitioningDecisions]:
    """A state with filled queues, exogenous values, and cuts of which half are local."""
    rng, n = np.random.default_rng(0), made.config.num_devices
    trace = made.sample_trace(rng, cells, 1)
    state = dataclasses.replace(made.initial_state(trace), energy_queue=rng.exponential(25, (cells, n)))
    cut = np.where(rng.random((cells, n)) < 0.5, made.layers, rng.integers(0, made.layers + 1, (cells, n)))
    weights = 0.01 + rng.random((2, cells, n))
    return state, made.exogenous(trace, 0), ModelPartitioningDecisions(cut, None, *weights)


@pytest.mark.parametrize(("rule", "tolerance"), [("equal", 1e-12), ("action", 1e-12), ("optimal", 1e-3)])
def test_a_difference_reward_is_what_the_sum_gains_by_a_device(rule: str, tolerance: float) -> None:
    """Sum of the ledger with a device's offload, less what the others would have paid if it had stayed local."""
    made = scenario(bandwidth_rule=rule, edge_cpu_rule=rule)
    state, exogenous, decisions = some_slot(made)
    step = made.step(state, decisions, exogenous)
    rewards = made.rewards(step, "difference")
    for n in range(made.config.num_devices):
        cut = step.details["partition_layer"].copy()
        cut[:, n] = made.layers[n]
        without = made.step(state, dataclasses.replace(decisions, partition_layer=cut), exogenous)
        others = np.arange(made.config.num_devices) != n
        gain = step.metrics["objective"] - without.costs["device"][:, others].sum(axis=1)
        np.testing.assert_allclose(-rewards["device"][:, n], gain, rtol=tolerance)
        if rule == "optimal":  # others who share anew can only gain more from a withdrawal
            assert (-rewards["device"][:, n] <= gain * (1 + 1e-9)).all()
    np.testing.assert_array_equal(rewards["server"][:, 0], -step.metrics["objective"])


def test_rows_can_name_the_network() -> None:
    plain, marked = scenario(num_devices=7), scenario(num_devices=7, show_model=True)
    state, exogenous, _ = some_slot(plain)
    rows = {made: made.observe(state, exogenous)["device"] for made in (plain, marked)}
    np.testing.assert_array_equal(rows[marked][..., :7], rows[plain])
    is_alexnet = [1, 1, 0, 0, 0, 1, 1]
    np.testing.assert_array_equal(rows[marked][0, :, 7:], np.stack([is_alexnet, np.logical_not(is_alexnet)], axis=1))
    assert marked.roles["device"].observation_space.contains(rows[marked][0, 0])


def test_devices_that_bid_see_their_own_bids_and_the_sum_of_the_others() -> None:
    plain, made = scenario(num_devices=7, show_model=True), scenario(num_devices=7, show_model=True, share_bids=True)
    state, exogenous, decisions = some_slot(plain)
    rows, before = made.observe(state, exogenous)["device"], plain.observe(state, exogenous)["device"]
    np.testing.assert_array_equal(np.delete(rows, slice(7, 11), axis=2), before)
    assert made.roles["device"].observation_space.contains(rows[0, 0])
    own, others = rows[..., 7:9], rows[..., 9:11]
    np.testing.assert_allclose(own + others, np.broadcast_to(own.sum(axis=1, keepdims=True), own.shape), rtol=1e-5)
    extra = made.step(state, decisions, exogenous).metrics["signalling_bytes"]
    np.testing.assert_array_equal(
        extra - plain.step(state, decisions, exogenous).metrics["signalling_bytes"], 4 * 2 * 8
    )


def test_a_bid_is_what_the_best_cut_saves_at_the_prices() -> None:
    """Against the ledger: a device that offloads by itself, with the shares that it would buy at the prices."""
    made = scenario(bandwidth_rule="action", edge_cpu_rule="action", mean_arrival_rate_hz=2.5)
    state, exogenous, _ = some_slot(made, cells=30)
    state = dataclasses.replace(state, bandwidth_price_mean=np.full(30, 1.0), edge_cpu_price_mean=np.full(30, 0.2))
    bid = made.bids(state, exogenous)
    penalty = made.config.delay_weight * made.total_cycles.mean() / made.config.device_cpu_hz
    for n in range(made.config.num_devices):
        reckoned, roots = [], []
        for cut in range(made.layers[n] + 1):
            alone = np.tile(made.layers, (30, 1))
            alone[:, n] = cut
            step = made.step(state, ModelPartitioningDecisions(alone), exogenous)
            t2, s2 = step.details["transmission_cost"][:, n], 10.0 * step.details["edge_delay_s"][:, n]
            own = step.costs["device"][:, n] - t2 - s2
            reckoned.append(own + 2 * np.sqrt(t2) + 2 * np.sqrt(s2 * 0.2))
            roots.append(np.sqrt(t2))
        best = np.argmin(reckoned, axis=0)
        np.testing.assert_allclose(bid[:, n, 0] * penalty, reckoned[-1] - np.min(reckoned, axis=0), atol=1e-9)
        np.testing.assert_allclose(bid[:, n, 1] * np.sqrt(penalty), np.choose(best, roots), rtol=1e-9)
    assert 0.1 < (bid[..., 0] > 0).mean() < 0.8
    dear = dataclasses.replace(state, bandwidth_price_mean=np.full(30, 1e4))
    assert not made.bids(dear, exogenous).any()


def test_rows_can_show_what_every_cut_costs_at_the_prices() -> None:
    """Against the rule that plays these costs; the rest of the row is what it was."""
    fields = {"num_devices": 7, "mean_arrival_rate_hz": 2.5, "show_model": True, "share_bids": True}
    plain, made = scenario(**fields), scenario(**fields, show_costs=True)
    state, exogenous, _ = some_slot(plain)
    state = dataclasses.replace(state, bandwidth_price_mean=np.full(40, 1.0), edge_cpu_price_mean=np.full(40, 0.2))
    rows, before = made.observe(state, exogenous)["device"], plain.observe(state, exogenous)["device"]
    cuts = int(made.layers.max()) + 1
    np.testing.assert_array_equal(np.delete(rows, slice(11, 11 + 2 * cuts), axis=2), before)
    assert made.roles["device"].observation_space.contains(rows[0, 0])
    rule = PriceGreedy()
    rule.reset(plain, len(rows))
    chosen = rule.act(before, np.random.default_rng(0)).actions
    np.testing.assert_array_equal(rows[..., 11 : 11 + cuts].argmin(axis=2), chosen)
    assert 0.1 < (chosen < made.layers).mean() < 0.9


def test_shown_costs_are_those_of_the_ledger_where_nothing_else_is_to_pay() -> None:
    """At prices of 0 a device reckons with the whole band and edge CPU, which it has if it offloads by itself."""
    made = scenario(mean_arrival_rate_hz=2.5, show_costs=True)
    state, exogenous, _ = some_slot(made, cells=30)
    state = dataclasses.replace(state, bandwidth_price_mean=np.zeros(30), edge_cpu_price_mean=np.zeros(30))
    cost, energy = np.split(made.shown_costs(state, exogenous), 2, axis=2)
    local = made.step(state, ModelPartitioningDecisions(np.tile(made.layers, (30, 1))), exogenous)
    for n in range(made.config.num_devices):
        for cut in range(made.layers[n] + 1):
            alone = np.tile(made.layers, (30, 1))
            alone[:, n] = cut
            step = made.step(state, ModelPartitioningDecisions(alone), exogenous)
            saved = (step.costs["device"] - local.costs["device"])[:, n]
            np.testing.assert_allclose(cost[:, n, cut] * made.penalty, saved, rtol=1e-9, atol=1e-9)
            spent = step.details["energy_j"][:, n] / made.energy_budget_j[n] - 1.0
            np.testing.assert_allclose(energy[:, n, cut], spent, rtol=1e-9, atol=1e-9)


def central_run(folder: Path, **fields: Any) -> Path:
    """The folder of a training run that never trained: a random central policy."""
    torch.manual_seed(0)
    made = scenario(**fields)
    config = TrainConfig(
        scenario=made.name, set=fields, control="central", central_policy="joint", agent_steps=1
    )  # fmt: skip
    network = PolicyNetwork(network_spec(made.global_state_space.shape[0], made.central_space))
    network.body.weights[-1].data.mul_(100.0)  # a fresh output layer puts out nearly nothing
    TrainedPolicy(network, made.name, CENTRAL, {"train": config.to_dict()}).save(folder / "policy" / f"{CENTRAL}.pt")
    return folder


def test_a_policy_is_compared_under_its_own_rules_on_the_same_traces(tmp_path: Path) -> None:
    """4N actions in a comparison whose own rule for all resources is the optimum."""
    compared, own = scenario(), scenario(**ACTED)
    trace = compared.sample_trace(np.random.default_rng(1), 3, 20)
    policy = load_policy(central_run(tmp_path, **ACTED), compared)
    found = rollout(policy, compared, trace, np.random.default_rng(0))
    state, objective = own.initial_state(trace), []
    network = policy.policy  # type: ignore[attr-defined]
    for t in range(trace.slots):
        exogenous = own.exogenous(trace, t)
        action = network.act(own.global_state(state, exogenous), np.random.default_rng(0))
        step = own.step(state, own.decode_central(state, action, exogenous), exogenous)
        objective.append(step.metrics["objective"])
        state = step.state
    np.testing.assert_allclose(found.means["objective"], np.mean(objective, axis=0), rtol=1e-12)
    outcome = Outcome("ppo", "learned", found.information, found.means, message_bytes=found.message_bytes)
    assert signalling_bytes(compared, outcome) == 32 * 5  # 32 N against 28 N of LyMDO


def test_smoothing_of_signals_comes_with_the_policy(tmp_path: Path) -> None:
    compared, own = scenario(), scenario(signal_smoothing=1.0)
    trace = compared.sample_trace(np.random.default_rng(1), 2, 5)
    policy = load_policy(central_run(tmp_path, signal_smoothing=1.0), compared)
    world = policy.world(compared)  # type: ignore[attr-defined]
    assert world.config == own.config
    assert policy.world(scenario(mean_arrival_rate_hz=0.5)).config.mean_arrival_rate_hz == 0.5  # type: ignore[attr-defined]
    found = rollout(policy, compared, trace, np.random.default_rng(0))
    plain = rollout(load_policy(central_run(tmp_path / "plain"), compared), compared, trace, np.random.default_rng(0))
    np.testing.assert_array_equal(found.means["objective"], plain.means["objective"])  # it changes no cost


# --- parametric Q-learning -------------------------------------------------------------------------------------------


def played(made: ModelPartitioning, policy: Any, trace: Any) -> Any:
    return rollout(policy, made, trace, np.random.default_rng(0)).means


def test_a_short_sighted_device_that_is_alone_is_optimal() -> None:
    """Nobody else: nothing to learn, and the Q-function is the slot's objective."""
    made = scenario(num_devices=1, model_pattern="resnet18", mean_arrival_rate_hz=3.0, bandwidth_hz=1e6)
    trace = made.sample_trace(np.random.default_rng(0), 4, 60)
    found, best = (
        played(made, policy, trace)
        for policy in (
            Team("alone", {"device": CutLearner(discount=0.0), "server": EvenServer()}),
            make_policy(made, "slot_optimal"),
        )
    )
    assert 0.1 < best["offload_ratio"].mean() < 0.9
    np.testing.assert_allclose(found["objective"], best["objective"], rtol=1e-9)


def test_devices_learn_the_roots_of_the_others() -> None:
    """Own ledger entries that hold a known congestion: every device that offloads finds its own two numbers."""
    made = scenario(mean_arrival_rate_hz=2.5, model_pattern="resnet18")
    learner = CutLearner(prior_weight=1e-2, noise=1e-6)
    learner.reset(made, 2)
    rng = np.random.default_rng(0)
    true = rng.uniform(0.1, 0.4, (2, 5, 2))
    n = made.config.num_devices
    for _ in range(150):
        trace = made.sample_trace(rng, 2, 1)
        queues = rng.uniform(20, 60, (2, n))
        state = dataclasses.replace(made.initial_state(trace), energy_queue=queues)
        learner.act(made.observe(state, made.exogenous(trace, 0))["device"], rng)
        congestion = (true * learner._features).sum(axis=2)
        learner.feedback(learner._known + congestion + 0.01 * rng.standard_normal((2, n)))
    np.testing.assert_allclose(learner.model.weights, true, atol=0.05)


def test_learning_devices_beat_prices_in_the_papers_cell() -> None:
    made = scenario(mean_arrival_rate_hz=2.5)
    trace = made.sample_trace(np.random.default_rng(3), 3, 80)
    cost = {n: played(made, make_policy(made, n), trace)["objective"].mean()
            for n in ("parametric_q", "price_greedy", "slot_optimal")}  # fmt: skip
    assert cost["slot_optimal"] < cost["parametric_q"] < 1.08 * cost["slot_optimal"]
    assert cost["parametric_q"] < 0.97 * cost["price_greedy"]


def test_what_devices_learn_does_not_depend_on_the_unit_of_cost() -> None:
    """V ten times as large with queues of ten times the size: the same problem in another unit."""
    cuts = []
    for v in (1.0, 10.0):
        made = scenario(mean_arrival_rate_hz=2.5, delay_weight=v, energy_queue_scale=10 * v, memory_queue_scale=v)
        trace = made.sample_trace(np.random.default_rng(3), 2, 60)
        found = played(made, make_policy(made, "parametric_q"), trace)
        assert found["offload_ratio_resnet18"].mean() > 0.1
        cuts.append(found["objective"] / v)
    np.testing.assert_allclose(cuts[0], cuts[1], rtol=1e-6)


def test_devices_try_the_edge_where_nobody_uses_it() -> None:
    """At 1.5 requests/s prices that are guessed at the start keep everybody local; prices that fall do not."""
    made = scenario(mean_arrival_rate_hz=1.5)
    trace = made.sample_trace(np.random.default_rng(3), 2, 120)
    found = played(made, make_policy(made, "parametric_q"), trace)
    assert (found["offload_ratio_resnet18"] > 0.1).all()
    assert found["objective"].mean() < 0.9 * played(made, make_policy(made, "local"), trace)["objective"].mean()


@pytest.mark.parametrize(("field", "value"), [("discount", 1.0), ("noise", 0.0), ("prior_weight", -1.0)])
def test_illegal_settings_are_named(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field} = {value}"):
        CutLearner(**{field: value})


# --- the price of locality -------------------------------------------------------------------------------------------


def test_a_device_that_is_alone_loses_nothing_by_being_local(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that shares does, but less than by never offloading."""
    for name, value in {"DRAWS": 40, "OTHERS": 30, "SWEEPS": 3, "SLOTS": 200}.items():
        monkeypatch.setattr(partitioning_locality, name, value)
    alone = {"num_devices": 1, "model_pattern": "resnet18", "mean_arrival_rate_hz": 3.0, "bandwidth_hz": 1e6}
    found = partitioning_locality.price_of_locality(scenario(**alone).config, 1.0)
    assert 0.1 < found["offload_ratio"] < 0.9
    assert found["excess"] == pytest.approx(0.0, abs=1e-12)
    shared = scenario(num_devices=3, model_pattern="resnet18", mean_arrival_rate_hz=2.5, bandwidth_hz=3e6)
    found = partitioning_locality.price_of_locality(shared.config, 1.0)
    assert found["error"] < found["excess"] < 0.15
    cell = partitioning_locality._Cell(shared, 1.0)
    slots = cell.draw(np.random.default_rng(0), 200)
    assert found["local"] < cell.objective(np.broadcast_to(shared.layers, (200, 3)), slots).mean()
