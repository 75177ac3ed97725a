"""Online learners of `model_partitioning`: what queues will cost, what others bring, the server's shares and prices."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgemarl.agents.api import Act, Controller, Team
from edgemarl.agents.least_squares import LeastSquares
from edgemarl.agents.model_partitioning.congestion import agreed_cuts, costs_beside, others_roots, taken
from edgemarl.agents.model_partitioning.q_priced import CutPricingServer, PricedCutLearner
from edgemarl.agents.model_partitioning.q_server import ShareLearner
from edgemarl.agents.model_partitioning.queue_worth import QueueWorth
from edgemarl.agents.model_partitioning.reference import CutProblem, slot_optimum
from edgemarl.agents.model_partitioning.rules import EvenServer, RandomCut
from edgemarl.agents.registry import make_policy
from edgemarl.envs.registry import make_scenario
from edgemarl.envs.scenarios.model_partitioning import ModelPartitioning, ModelPartitioningDecisions, scaled_resources
from edgemarl.launch.cli import main
from edgemarl.marl.evaluation.rollout import rollout


def scenario(**fields: Any) -> ModelPartitioning:
    made = make_scenario("model_partitioning", **{"mean_arrival_rate_hz": 2.5, **fields})
    assert isinstance(made, ModelPartitioning)
    return made


def costs(made: ModelPartitioning, names: tuple[str, ...], cells: int = 3, slots: int = 120) -> dict[str, float]:
    trace = made.sample_trace(np.random.default_rng(3), cells, slots)
    rng = np.random.default_rng
    return {n: float(rollout(make_policy(made, n), made, trace, rng(0)).means["objective"].mean()) for n in names}


def filled(made: ModelPartitioning, cells: int, seed: int = 0) -> tuple[Any, Any]:
    """A state whose energy queues are about as long as in long episodes, and exogenous values."""
    rng = np.random.default_rng(seed)
    trace = made.sample_trace(rng, cells, 1)
    queue = rng.exponential(20, (cells, made.config.num_devices))
    return dataclasses.replace(made.initial_state(trace), energy_queue=queue), made.exogenous(trace, 0)


# --- what queues will cost -------------------------------------------------------------------------------------------


def test_a_slope_is_how_the_cost_of_all_later_slots_rises_with_the_queue() -> None:
    """One device that stays local under a constant load, at the queue at which it rests: against two played futures."""
    made = scenario(num_devices=1, model_pattern="resnet18", arrival_process="constant", bandwidth_hz=1e6)
    trace = made.sample_trace(np.random.default_rng(0), 1, 1)
    exogenous, local = made.exogenous(trace, 0), ModelPartitioningDecisions(made.layers[None])

    def after(state: Any, slots: int, discount: float = 0.95) -> tuple[Any, float]:
        total = 0.0
        for k in range(slots):
            step = made.step(state, local, exogenous)
            state, total = step.state, total + discount**k * float(step.costs["device"].sum())
        return state, total

    rest, _ = after(made.initial_state(trace), 3000)
    energy_j = made.step(rest, local, exogenous).details["energy_j"]
    assert energy_j[0, 0] == pytest.approx(0.060, rel=1e-3)
    low, high = (after(dataclasses.replace(rest, energy_queue=rest.energy_queue + d), 400)[1] for d in (-0.5, 0.5))
    worth = QueueWorth(made, 1, 0.95, start=0.0)
    queue, rate = rest.energy_queue, exogenous.arrival_rate_hz
    for _ in range(400):
        worth.played(made.layers[None], energy_j, queue, 0.0 * queue, rate)
        worth.learn(queue, 0.0 * queue)
    assert worth.energy[0, 0] * 0.060 == pytest.approx(high - low, rel=0.01)
    assert worth.memory[0, 0] == 0.0  # a queue that is empty teaches nothing


def test_a_queue_that_empties_is_paid_once() -> None:
    made = scenario(num_devices=2, model_pattern="resnet18")
    worth = QueueWorth(made, 1, 0.95, start=0.0)
    queue, edge = np.array([[5.0, 5.0]]), np.zeros((1, 2), np.int64)
    for _ in range(400):
        worth.played(edge, np.array([[0.03, 0.03]]), queue, queue, np.ones((1, 2)))
        worth.learn(np.array([[0.0, 5.0]]), np.array([[0.0, 5.0]]))
    held = made.cuts.memory_bytes[0, 0] / made.memory_budget_bytes[0]
    np.testing.assert_allclose(worth.energy[0], [0.5, 0.5 / 0.05], rtol=0.01)
    np.testing.assert_allclose(worth.memory[0], [held, held / 0.05], rtol=0.01)


@pytest.mark.parametrize("fields", [{"delay_weight": 1.0, "energy_queue_scale": 100.0}, {"mean_arrival_rate_hz": 1.5}])
def test_devices_that_learn_what_queues_cost_beat_the_rule_with_the_same_information(fields: dict[str, Any]) -> None:
    """Where a slot moves the queue by as much as it holds, and where queues just begin to fill."""
    found = costs(scenario(**fields), ("parametric_q", "price_greedy"))
    assert found["parametric_q"] < 0.92 * found["price_greedy"]


def test_forgetting_does_not_wind_up_what_samples_do_not_teach() -> None:
    """Two thousand samples along one direction, then one across: a bounded model stays, the other jumps."""
    jumps = {}
    for bounded in (True, False):
        model = LeastSquares((1,), 2, variance=0.1, noise=0.01, forgetting=0.98, bounded=bounded)
        for _ in range(2000):
            model.update((), np.array([[1.0, 0.0]]), np.array([0.3]))
        model.update((), np.array([[0.0, 0.05]]), np.array([0.1]))
        np.testing.assert_allclose(model.weights[0, 0], 0.3, rtol=0.01)
        jumps[bounded] = abs(model.weights[0, 1])
    assert jumps[True] < 0.1 < 1.0 < jumps[False]


# --- what others bring -----------------------------------------------------------------------------------------------


def test_costs_beside_others_are_what_the_objective_gains_by_a_cut() -> None:
    """Of a device that offloads, against the exact objective with it and without it, the others as they are."""
    made = scenario()
    problem = CutProblem.of(made, *filled(made, 60))
    terms, cells, bandwidth_hz = problem.terms, np.arange(60), made.config.bandwidth_hz
    base = np.random.default_rng(1).integers(0, 2, (60, 5)) * made.layers
    cost, air = costs_beside(terms, others_roots(terms, base, bandwidth_hz), bandwidth_hz)
    for n in range(5):
        there, local = base.copy(), base.copy()
        there[:, n], local[:, n] = 0, made.layers[n]
        gain = problem.value(cells, there) - problem.value(cells, local)
        np.testing.assert_allclose(cost[:, n, 0] - cost[:, n, -1], gain, rtol=0.1, atol=0.05)
    assert (air >= terms.whole_band(bandwidth_hz) * (1.0 - 1e-9)).all()
    alone, own_air = costs_beside(terms, np.zeros((60, 5, 2)), bandwidth_hz)
    np.testing.assert_allclose(own_air, terms.whole_band(bandwidth_hz), rtol=1e-4)
    np.testing.assert_allclose(alone, terms.own_cost + own_air + terms.load, rtol=1e-12)


def test_costs_beside_others_rise_with_what_they_bring() -> None:
    """From nobody on: a little beside a device that brings much, where shares of the band come near to the whole."""
    made = scenario()
    terms = CutProblem.of(made, *filled(made, 20)).terms
    before, _ = costs_beside(terms, np.zeros((20, 5, 2)), made.config.bandwidth_hz)
    for root in (1e-3, 0.03, 0.1, 0.3, 1.0):
        cost, _ = costs_beside(terms, np.full((20, 5, 2), root), made.config.bandwidth_hz)
        assert (cost >= before * (1.0 - 1e-9)).all()
        most = 2.6 * root * (np.sqrt(terms.whole_band(made.config.bandwidth_hz)) + np.sqrt(terms.load) + root)
        assert (cost - terms.own_cost - terms.load - terms.whole_band(made.config.bandwidth_hz) <= most).all()
        before = cost


def test_learners_of_three_devices_find_that_the_others_bring_little() -> None:
    made = ModelPartitioning(scaled_resources(scenario(num_devices=3).config))
    found = costs(made, ("parametric_q", "price_greedy"), cells=4, slots=160)
    assert found["parametric_q"] < 0.92 * found["price_greedy"]


def test_agreed_cuts_are_near_the_optimum_and_nobody_parts_from_them() -> None:
    made = scenario()
    problem = CutProblem.of(made, *filled(made, 40))
    cut, optimum = agreed_cuts(problem), slot_optimum(problem)[1]
    excess = problem.value(np.arange(40), cut) / optimum - 1.0
    assert excess.min() > -1e-9 and excess.mean() < 0.003
    roots = others_roots(problem.terms, cut, made.config.bandwidth_hz)
    cost, _ = costs_beside(problem.terms, roots, made.config.bandwidth_hz)
    settled = (taken(cost, cut) <= cost.min(axis=2) * (1.0 + 1e-6)).all(axis=1)
    assert settled.mean() > 0.95  # a few cells would change more often than is tried


# --- the server ------------------------------------------------------------------------------------------------------


class Watched(ShareLearner):
    """Keeps what it weighed."""

    def act(self, observations: np.ndarray, rng: np.random.Generator) -> Act:
        act = super().act(observations, rng)
        assert act.actions is not None
        self.weights = act.actions
        return act


def played(made: ModelPartitioning, device: Controller, server: ShareLearner, slots: int) -> Any:
    """State, step and server after so many slots of a team, slot by slot."""
    trace = made.sample_trace(np.random.default_rng(5), 2, slots)
    team, rng, state = Team("x", {"device": device, "server": server}), np.random.default_rng(0), None
    team.reset(made, trace)
    state = made.initial_state(trace)
    for t in range(slots):
        exogenous = made.exogenous(trace, t)
        decisions = team.decide(state, exogenous, rng)
        step = made.step(state, decisions, exogenous)
        yield state, exogenous, decisions, step
        state = step.state


def test_a_server_that_learns_starts_at_the_convex_solution_to_the_last_bit() -> None:
    made, server = scenario(), Watched()
    moved = []
    for state, exogenous, decisions, step in played(made, RandomCut(), server, 30):
        even = made.step(state, ModelPartitioningDecisions(decisions.partition_layer), exogenous)
        moved.append(np.abs(step.details["bandwidth_share"] - even.details["bandwidth_share"]).max())
        np.testing.assert_array_equal(step.details["edge_cpu_share"], even.details["edge_cpu_share"])
    assert moved[0] == 0.0 and moved[-1] > 1e-3


def test_a_server_knows_what_devices_did_and_spent() -> None:
    """Cuts, memory queues and energy of the slot before, from its row alone and the shares that it gave."""
    made, server = scenario(num_devices=7), Watched()
    earlier: Any = None
    for state, _, _, step in played(made, RandomCut(), server, 25):
        if earlier is not None:
            np.testing.assert_allclose(server.memory_queue, state.memory_queue, atol=1e-9)
            np.testing.assert_allclose(server.worth._sample[0] * made.energy_budget_j, earlier, rtol=2e-4)
        earlier = step.details["energy_j"]
    assert (state.memory_queue > 0.0).any()


def test_a_server_favours_devices_whose_joules_will_be_dear() -> None:
    """Of two alike that offload now, the one whose queue never empties gets more of the band than the other."""
    made = scenario(num_devices=2, model_pattern="resnet18", bandwidth_hz=2e6, edge_cpu_hz=6e9)
    server = ShareLearner()
    server.reset(made, 1)
    server.worth.energy[:] = [[10.0, 0.0]]
    state, exogenous = filled(made, 1)
    same = np.ones((1, 2))
    state = dataclasses.replace(state, energy_queue=20.0 * same)
    exogenous = dataclasses.replace(exogenous, channel_gain=made.mean_gain * same, arrival_rate_hz=2.5 * same)
    act = server.act(made.observe(state, exogenous)["server"], np.random.default_rng(0))
    actions = {"device": np.zeros((1, 2), np.int64), "server": act.actions}
    share = made.step(state, made.decode(state, actions, exogenous), exogenous).details["bandwidth_share"][0]
    assert share[0] > 1.1 * share[1] and share.sum() == pytest.approx(1.0)


def test_a_server_that_learns_is_level_with_the_convex_solution() -> None:
    made = scenario()
    closed, learned = (f"device=price_greedy+server={server}" for server in ("closed_form", "parametric_q"))
    found = costs(made, (closed, learned))
    assert found[learned] < 1.004 * found[closed]


# --- told prices -----------------------------------------------------------------------------------------------------


def test_prices_of_this_slot_bring_devices_past_the_optimum_of_each_slot() -> None:
    """In the paper's cell, where what the others do now is most of what a device lacks."""
    found = costs(scenario(), ("parametric_q_priced", "parametric_q", "slot_optimal"))
    assert found["parametric_q_priced"] < 0.995 * found["slot_optimal"]
    assert found["parametric_q"] < 1.07 * found["slot_optimal"]


def test_learners_of_a_larger_cell_are_below_the_rule_that_hears_as_much() -> None:
    """Forty devices, where prices of past slots are nearly enough for a rule."""
    made = ModelPartitioning(scaled_resources(scenario(num_devices=40).config))
    found = costs(made, ("parametric_q_priced", "parametric_q", "price_greedy"), cells=2)
    assert found["parametric_q_priced"] < 0.985 * found["parametric_q"] < 0.985 * found["price_greedy"]


def test_a_device_learns_how_far_told_prices_come_true() -> None:
    """A server that tells half of what the others bring: every device that offloads finds the factor."""

    class Halving(CutPricingServer):
        def act(self, observations: np.ndarray, rng: np.random.Generator) -> Act:
            act = super().act(observations, rng)
            return dataclasses.replace(act, messages={"device": 0.5 * act.messages["device"]})

    made, weights = scenario(), {}
    trace = made.sample_trace(np.random.default_rng(3), 3, 150)
    for server in (CutPricingServer, Halving):
        device = PricedCutLearner(prior_weight=10.0)
        rollout(Team("x", {"device": device, "server": server()}, order=[["server"], ["device"]]), made, trace,
                np.random.default_rng(0))  # fmt: skip
        weights[server] = device.model.weights[:, 2:].mean(axis=(0, 1))
    np.testing.assert_allclose(weights[CutPricingServer], 1.0, atol=0.12)
    assert 1.7 < weights[Halving][0] < 2.3 and weights[Halving][1] > 1.05  # edge CPU is a small part of the ledger


def test_who_tells_what_is_counted_and_who_hears_nothing_is_refused() -> None:
    made = scenario()
    trace = made.sample_trace(np.random.default_rng(0), 1, 2)
    told = {name: make_policy(made, name) for name in ("parametric_q_priced", "parametric_q", "price_greedy")}
    for policy in told.values():
        policy.reset(made, trace)
    assert {n: p.message_bytes() for n, p in told.items()} == {
        "parametric_q_priced": (12 + 8) * 5, "parametric_q": 12 * 5, "price_greedy": 0
    }  # fmt: skip
    alone = Team("x", {"device": PricedCutLearner(), "server": EvenServer()})
    with pytest.raises(ValueError, match="waits for messages of 2 entries"):
        alone.reset(made, trace)
    without = scenario(bandwidth_rule="optimal", edge_cpu_rule="equal")
    assert "server" not in without.roles
    found = costs(without, ("parametric_q_priced", "parametric_q"), 1, 20)
    assert found["parametric_q_priced"] == found["parametric_q"]


def test_what_a_learning_server_cannot_play_is_named() -> None:
    with pytest.raises(ValueError, match="discount = 1"):
        ShareLearner(discount=1.0)
    with pytest.raises(ValueError, match="plays model_partitioning, not sampling_rate"):
        CutPricingServer().reset(make_scenario("sampling_rate"), 1)


def test_a_state_of_the_former_learner_is_refused_before_any_of_it_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In Python by what it lacks; as a file given to `compare` or `export` by what it is."""
    team = make_policy(scenario(num_devices=2), "parametric_q")
    team.reset(scenario(num_devices=2), scenario(num_devices=2).sample_trace(np.random.default_rng(0), 1, 2))
    former: dict[str, Any] = team.state_dict()
    del former["device"]["worth"]
    former["device"]["weights"] = np.zeros((1, 2, 4))
    with pytest.raises(ValueError, match=r"CutLearner lacks worth; .* another version saved it, so let it learn anew"):
        team.load_state_dict(former)
    with pytest.raises(ValueError, match=r"ShareLearner lacks last, memory_queue, worth; it holds "):
        team.controllers["server"].load_state_dict({})  # type: ignore[attr-defined]
    file = tmp_path / "former.pt"
    torch.save(former, file)
    for words in (["compare", "--scenario", "model_partitioning", "--controllers", f"random,{file}"], ["export"]):
        with pytest.raises(SystemExit) as stop:
            main([*words, *([str(file)] if words == ["export"] else ["--out", str(tmp_path / "out")])])
        err = capsys.readouterr().err
        assert stop.value.code == 2
        assert f"{file} holds what an online learner has learned (cost, covariance, " in err
        assert "load_state_dict" in err and err.count("\n") == 1
