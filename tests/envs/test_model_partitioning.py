"""The scenario `model_partitioning`: its tables, and what must hold whatever the numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgemarl.envs.dnn import LayerProfile, load_profile, save_profile, shipped_profiles
from edgemarl.envs.registry import make_scenario
from edgemarl.envs.scenario import total_cost
from edgemarl.envs.scenarios.model_partitioning import (
    ModelPartitioning,
    ModelPartitioningDecisions,
    ModelPartitioningExogenous,
)
from edgemarl.envs.scenarios.model_partitioning.config import scaled_resources

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=30, deadline=None)
RULES = ("corrected", "optimal", "equal", "action")


def scenario(**fields: Any) -> ModelPartitioning:
    made = make_scenario("model_partitioning", **fields)
    assert isinstance(made, ModelPartitioning)
    return made


def random_slot(made: ModelPartitioning, rng: np.random.Generator, cells: int = 3) -> tuple[Any, Any, Any]:
    """A state with queues, exogenous values and decisions, none of them typical."""
    n = made.config.num_devices
    state = made.initial_state(made.sample_trace(rng, cells, 1))
    state = dataclasses.replace(
        state,
        energy_queue=rng.exponential(30, (cells, n)) * (rng.random((cells, n)) < 0.7),
        memory_queue=rng.exponential(2, (cells, n)) * (rng.random((cells, n)) < 0.5),
    )
    exogenous = ModelPartitioningExogenous(
        made.mean_gain * rng.exponential(1, (cells, n)), rng.uniform(0, 6, (cells, n)) * (rng.random((cells, n)) < 0.9)
    )
    cut = np.minimum(rng.integers(0, made.layers + 1, (cells, n)), made.layers)
    decisions = ModelPartitioningDecisions(
        np.where(rng.random((cells, n)) < 0.3, made.layers, cut),
        rng.uniform(0.3, 1, (cells, n)) * made.config.device_cpu_hz,
        0.01 + rng.random((cells, n)),
        0.01 + rng.random((cells, n)),
    )
    return state, exogenous, decisions


# --- tables ----------------------------------------------------------------------------------------------------------

MCYCLES = {
    "alexnet": [0, 8.433, 35.307, 48.764, 66.706, 78.668, 83.198, 85.211, 85.703],
    "resnet18": [0, 14.162, 41.907, 69.652, 91.232, 118.977, 140.557, 168.302, 189.882, 217.627, 217.689],
}
SENT_MBIT = {
    "alexnet": [4.817, 0.746, 0.519, 1.038, 0.692, 0.147, 0.066, 0.066, 0],
    "resnet18": [4.817, 3.211, 3.211, 3.211, 1.606, 1.606, 0.803, 0.803, 0.401, 0.401, 0],
}
MEMORY_MB = {
    "alexnet": [196.38, 196.33, 195.59, 193.91, 191.65, 190.21, 99.61, 59.32, 49.48],
    "resnet18": [38.81, 38.99, 38.81, 38.23, 37.68, 36.77, 34.56, 31.63, 22.82, 11.39, 10.15],
}


def test_published_totals_and_the_derived_table() -> None:
    totals = {n: (sum(p.macs), sum(p.parameters)) for n, p in shipped_profiles().items()}
    assert totals == {"alexnet": (714_188_480, 61_100_840), "resnet18": (1_814_073_344, 11_689_512)}
    for name, layers in (("alexnet", 8), ("resnet18", 10)):
        cuts = scenario(num_devices=1, model_pattern=(name,)).cuts
        assert cuts.local_cycles.shape == (1, layers + 1)
        np.testing.assert_allclose(cuts.local_cycles[0] / 1e6, MCYCLES[name], atol=5.1e-4)
        np.testing.assert_allclose(cuts.sent_bits[0] / 1e6, SENT_MBIT[name], atol=5.1e-4)
        np.testing.assert_allclose(cuts.memory_bytes[0] / 1e6, MEMORY_MB[name], atol=5.1e-3)
        np.testing.assert_allclose(cuts.local_cycles + cuts.edge_cycles, cuts.local_cycles[0, -1])


def test_mean_gain_and_reference_queues() -> None:
    made = scenario()
    np.testing.assert_allclose(made.mean_gain, 1.5788e-11, rtol=1e-4)
    exogenous = ModelPartitioningExogenous(made.mean_gain[None], np.full((1, 5), 1.5))
    np.testing.assert_allclose(made.full_band_snr(exogenous), 79.3, atol=0.05)
    energy, memory = made.queue_reference
    np.testing.assert_allclose(energy, [14.3, 14.3, 24.2, 24.2, 24.2], atol=0.05)
    np.testing.assert_allclose(memory, [5.7, 5.7, 48.4, 48.4, 48.4], atol=0.05)


def test_stability_limits_and_local_energy_of_both_networks() -> None:
    """57 ms and 19.3 mJ (AlexNet), 145 ms and 49.0 mJ (ResNet18) at 1.5 GHz; stable up to 17.5 and 6.89 requests/s."""
    made = scenario(num_devices=2, model_pattern=("alexnet", "resnet18"))
    np.testing.assert_allclose(made.total_cycles / 1.5e9, [0.057, 0.145], atol=5e-4)
    np.testing.assert_allclose(1e-28 * made.total_cycles * 1.5e9**2 * 1e3, [19.3, 49.0], atol=0.05)
    np.testing.assert_allclose(1.5e9 / made.total_cycles, [17.5, 6.89], atol=5e-3)


# --- configuration and files -----------------------------------------------------------------------------------------

TINY = {"input_elements": 12, "macs": [3, 2], "parameters": [1, 1], "output_elements": [4, 2], "energy_budget_j": 1e-3,
        "memory_budget_bytes": 1e4}  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_pattern": ["alexnet", "resnet"]}, "unknown network 'resnet'.*did you mean 'resnet18'"),
        ({"model_pattern": ()}, "model_pattern"),
        ({"distance_m": [100.0, -1.0]}, "distance_m"),
        ({"distance_m": "far"}, "distance_m"),
        ({"surge_start_slot": 50, "surge_end_slot": 40}, "surge_end_slot = 40 must not lie before"),
        ({"mean_arrival_rate_max_hz": 1.0}, "mean_arrival_rate_max_hz = 1.0 1/s must not lie below"),
        ({"fading_floor": 0.0}, "fading_floor = 0.0"),
        ({"bandwidth_rule": "fair"}, "bandwidth_rule = 'fair'.*'equal'"),
        ({"profiles": {"tiny": {**TINY, "energy_budget_j": -2.0}}}, r"profiles\.tiny\.energy_budget_j = -2\.0 J"),
        ({"profiles": {"tiny": {**TINY, "parameters": [1]}}}, "parameters has 1 entries, must have one per layer"),
        ({"profiles": {"tiny": {**TINY, "mac": []}}}, r"profiles\.tiny: unknown field 'mac'; did you mean 'macs'"),
        ({"profiles": {"tiny": {**TINY, "macs": [-3, 2]}}}, r"profiles\.tiny\.macs holds -3"),
        ({"profiles": {"tiny": {**TINY, "macs": ["x", 2]}}}, r"profiles\.tiny\.macs holds 'x'"),
        ({"profiles": {"tiny": {"macs": [1]}}}, r"profiles\.tiny\.input_elements is missing"),
        ({"profiles": "nowhere.yaml"}, "'nowhere.yaml' does not exist"),
        ({"profiles": 3}, "profiles = 3"),
    ],
)
def test_bad_configurations_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scenario(**fields)


def test_own_networks_join_the_shipped_ones_and_survive_a_file(tmp_path: Any) -> None:
    own = LayerProfile(**TINY, names=("a", "b"), time_s=(0.25, 0.5))
    save_profile(own, tmp_path / "tiny.yaml")
    save_profile(own, tmp_path / "tiny.csv")
    assert load_profile(tmp_path / "tiny.yaml") == own
    assert load_profile(tmp_path / "tiny.csv", energy_budget_j=1e-3, memory_budget_bytes=1e4) == own
    with pytest.raises(ValueError, match="no energy_budget_j"):
        load_profile(tmp_path / "tiny.csv")
    made = scenario(num_devices=3, model_pattern="tiny,alexnet", profiles=str(tmp_path / "tiny.yaml"))
    assert made.layers.tolist() == [2, 8, 2] and made.profiles[0] == own
    budgets = {"energy_budget_j": 0.5, "memory_budget_bytes": 1e6}
    table = {"tiny": {"table": str(tmp_path / "tiny.csv"), **budgets}}
    assert scenario(num_devices=1, model_pattern="tiny", profiles=table).energy_budget_j == [0.5]
    with pytest.raises(ValueError, match="profiles = tiny: given, but no device runs it"):
        scenario(profiles={"tiny": TINY})
    config = scenario(profiles={"tiny": TINY}, model_pattern="tiny,alexnet").config
    assert type(config)(**dataclasses.asdict(config)) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layer,name,macs\n0,input,0\n", "no column 'parameters'"),
        ("layer,name,macs,parameters,output_elements\n1,a,1,1,1\n", "first row must be layer 0"),
        ("layer,name,macs,parameters,output_elements\n0,input,0,0,5\n1,a,many,1,1\n", "macs holds something"),
        ("layer,name,macs,parameters,output_elements\n0,input,0,0,5\n", "at least one layer"),
    ],
)
def test_bad_tables_are_named(tmp_path: Any, text: str, message: str) -> None:
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_profile(tmp_path / "bad.csv", 1.0, 1.0)


# --- actions ---------------------------------------------------------------------------------------------------------


def test_cuts_that_a_network_lacks_are_masked_and_read_as_local() -> None:
    made = scenario()
    trace = made.sample_trace(np.random.default_rng(0), 2, 1)
    state, exogenous = made.initial_state(trace), made.exogenous(trace, 0)
    mask = made.action_masks(state, exogenous)["device"]
    assert mask.shape == (2, 5, 11) and mask.sum(axis=2).tolist() == [[9, 9, 11, 11, 11]] * 2
    decoded = made.decode(state, {"device": np.full((2, 5), 10)}, exogenous)
    assert decoded.partition_layer.tolist() == [[8, 8, 10, 10, 10]] * 2


def test_raw_numbers_become_cuts_frequencies_and_weights() -> None:
    made = scenario(local_cpu_rule="action", bandwidth_rule="action", edge_cpu_rule="equal")
    trace = made.sample_trace(np.random.default_rng(0), 1, 1)
    state, exogenous = made.initial_state(trace), made.exogenous(trace, 0)
    device = np.array([[[0.0, 0.5], [1.0, 0.0], [1 / 11, 1.0], [0.999, 0.5], [0.5, 0.2]]])
    decoded = made.decode(state, {"device": device}, exogenous)
    assert decoded.partition_layer.tolist() == [[0, 8, 1, 10, 5]]
    np.testing.assert_allclose(decoded.device_cpu_hz, [[0, 1.5e7, 1.5e9, 7.5e8, 3e8]])
    np.testing.assert_allclose(
        made.step(state, decoded, exogenous).details["bandwidth_share"], [[1 / 3, 0, 1 / 3, 0, 1 / 3]]
    )
    joint = np.concatenate([device[..., 0], device[..., 1], np.zeros((1, 10))], axis=1)
    central = made.decode_central(state, joint, exogenous)
    for f in dataclasses.fields(central):
        np.testing.assert_array_equal(getattr(central, f.name), getattr(decoded, f.name))


def test_one_controller_of_all_can_give_cuts_as_numbers() -> None:
    made, chosen = scenario(central_cuts="number"), scenario()
    assert made.central_space.shape == (5,) and made.roles.keys() == chosen.roles.keys()
    trace = made.sample_trace(np.random.default_rng(0), 1, 1)
    state, exogenous = made.initial_state(trace), made.exogenous(trace, 0)
    decoded = made.decode_central(state, np.array([[0.0, 1.0, 1 / 11, 0.999, 0.5]]), exogenous)
    same = chosen.decode_central(state, np.array([[0, 8, 1, 10, 5]]), exogenous)
    for f in dataclasses.fields(same):
        np.testing.assert_array_equal(getattr(decoded, f.name), getattr(same, f.name))


def test_the_server_is_an_agent_that_corrects_the_convex_solution() -> None:
    """Even weights are the convex solution to the last bit; others move the shares in proportion."""
    made, solved = scenario(), scenario(bandwidth_rule="optimal", edge_cpu_rule="optimal")
    assert list(made.roles) == ["device", "server"] and list(solved.roles) == ["device"]
    assert made.central_space == solved.central_space
    assert made.signalling() == solved.signalling()
    state, exogenous, decisions = random_slot(made, np.random.default_rng(3))
    cut = decisions.partition_layer
    cells, n = cut.shape
    best = solved.step(state, decisions, exogenous).details
    weights = np.random.default_rng(4).random((cells, 1, 2 * n))
    for given_weights in (None, np.zeros_like(weights), np.full_like(weights, 0.5)):
        actions = {"device": cut} if given_weights is None else {"device": cut, "server": given_weights}
        found = made.step(state, made.decode(state, actions, exogenous), exogenous).details
        for share in ("bandwidth_share", "edge_cpu_share"):
            np.testing.assert_array_equal(found[share], best[share])
    found = made.step(state, made.decode(state, {"device": cut, "server": weights}, exogenous), exogenous).details
    for share, part in (("bandwidth_share", weights[:, 0, :n]), ("edge_cpu_share", weights[:, 0, n:])):
        held = best[share] * (0.01 + part)
        total = np.where(held.sum(axis=1, keepdims=True) > 0, held.sum(axis=1, keepdims=True), 1.0)
        np.testing.assert_allclose(found[share], held / total, rtol=1e-9)


# --- properties ------------------------------------------------------------------------------------------------------


@few
@given(seeds, st.sampled_from(RULES), st.sampled_from(RULES), st.sampled_from(("optimal", "action")))
def test_ledger_shares_and_queues(seed: int, band: str, edge: str, cpu: str) -> None:
    """Properties 1 and 3, with eqs. (8), (9) and (11) written out once more."""
    made = scenario(bandwidth_rule=band, edge_cpu_rule=edge, local_cpu_rule=cpu)
    state, exogenous, decisions = random_slot(made, np.random.default_rng(seed))
    step = made.step(state, decisions, exogenous)
    d, q, w = step.details, state.energy_queue, state.memory_queue
    slot = (q * d["energy_j"] + w * d["memory_bytes"] / 1e9 + 10.0 * d["delay_s"]).sum(axis=1)
    np.testing.assert_allclose(total_cost(step), slot, rtol=1e-12)
    np.testing.assert_allclose(step.metrics["objective"], slot, rtol=1e-12)
    assert (step.costs["server"] == 0).all()
    next_q = np.maximum(q + 100 * (d["energy_j"] - made.energy_budget_j), 0)
    np.testing.assert_allclose(step.state.energy_queue, next_q, rtol=1e-9, atol=1e-9)
    next_w = np.maximum(w + 1e-8 * (d["memory_bytes"] - made.memory_budget_bytes), 0)
    np.testing.assert_allclose(step.state.memory_queue, next_w, rtol=1e-9, atol=1e-9)
    offloads = d["partition_layer"] < made.layers
    for name in ("bandwidth_share", "edge_cpu_share"):
        assert ((d[name] > 0) == offloads).all() and (d[name] <= 1).all()
        np.testing.assert_allclose(d[name].sum(axis=1), offloads.any(axis=1), rtol=1e-12)


def test_all_local_uses_nothing_shared() -> None:
    made = scenario()
    state, exogenous, _ = random_slot(made, np.random.default_rng(0))
    step = made.step(state, ModelPartitioningDecisions(np.broadcast_to(made.layers, (3, 5))), exogenous)
    for name in ("bandwidth_share", "edge_cpu_share", "transmission_delay_s", "edge_delay_s"):
        assert (step.details[name] == 0).all()
    assert (step.metrics["bandwidth_price"] == 0).all() and (step.metrics["edge_cpu_price"] == 0).all()


@settings(max_examples=8, deadline=None)
@given(seeds, st.sampled_from((0.5, 2.5)))
def test_budgets_hold_up_to_the_queue_that_is_left(seed: int, load: float) -> None:
    """Property 2: mean use <= budget + Q(K)/(scale K), for any cuts."""
    made = scenario(mean_arrival_rate_hz=load)
    rng, slots = np.random.default_rng(seed), 60
    trace = made.sample_trace(rng, 2, slots)
    state, energy, memory = made.initial_state(trace), 0.0, 0.0
    for t in range(slots):
        step = made.step(
            state, ModelPartitioningDecisions(rng.integers(0, made.layers + 1, (2, 5))), made.exogenous(trace, t)
        )
        state, energy, memory = step.state, energy + step.details["energy_j"], memory + step.details["memory_bytes"]
        assert (state.energy_queue >= 0).all() and (state.memory_queue >= 0).all()
    assert (energy / slots <= made.energy_budget_j + state.energy_queue / (100 * slots) + 1e-12).all()
    assert (memory / slots <= made.memory_budget_bytes + state.memory_queue * 1e8 / slots + 1e-3).all()


@few
@given(seeds)
def test_optimal_rules_are_never_worse(seed: int) -> None:
    """Property 4: against equal shares, any shares, and any frequency that keeps the queue stable."""
    rng = np.random.default_rng(seed)
    best = scenario(bandwidth_rule="optimal", edge_cpu_rule="optimal")
    state, exogenous, decisions = random_slot(best, rng)
    least = total_cost(best.step(state, decisions, exogenous)) * (1 - 1e-9)
    for fields in ({"bandwidth_rule": "equal"}, {"edge_cpu_rule": "equal"}, {"bandwidth_rule": "action"},
                   {"edge_cpu_rule": "action"}, {}):  # fmt: skip
        assert (least <= total_cost(scenario(**fields).step(state, decisions, exogenous))).all(), fields
    load = exogenous.arrival_rate_hz * best.cuts.at(decisions.partition_layer).local_cycles
    lowest = np.minimum(np.maximum(load / 0.99, 1.5e7), 1.5e9)
    hz = lowest + rng.random(lowest.shape) * (1.5e9 - lowest)
    acted = scenario(local_cpu_rule="action").step(state, dataclasses.replace(decisions, device_cpu_hz=hz), exogenous)
    assert (least <= total_cost(acted)).all()


@few
@given(seeds)
def test_more_resources_never_hurt_and_more_load_never_helps(seed: int) -> None:
    """Property 5."""
    made = scenario()
    state, exogenous, decisions = random_slot(made, np.random.default_rng(seed))
    base = total_cost(made.step(state, decisions, exogenous))
    for fields in ({"bandwidth_hz": 6e6}, {"edge_cpu_hz": 18e9}):
        assert (total_cost(scenario(**fields).step(state, decisions, exogenous)) <= base * (1 + 1e-9)).all(), fields
    better = dataclasses.replace(exogenous, channel_gain=exogenous.channel_gain * 1.3)
    assert (total_cost(made.step(state, decisions, better)) <= base * (1 + 1e-9)).all()
    # the highest frequency counts only where the smallest one, 1 % of it, is not what the device runs at
    step = made.step(state, decisions, exogenous)
    if (step.metrics["unstable_devices"] == 0).all() and not np.isclose(step.details["device_cpu_hz"], 1.5e7).any():
        faster = scenario(device_cpu_hz=1.6e9)
        if not np.isclose(faster.step(state, decisions, exogenous).details["device_cpu_hz"], 1.6e7).any():
            assert (total_cost(faster.step(state, decisions, exogenous)) <= base * (1 + 1e-9)).all()
    lighter = dataclasses.replace(exogenous, arrival_rate_hz=exogenous.arrival_rate_hz * 0.8)
    assert (total_cost(made.step(state, decisions, lighter)) <= base * (1 + 1e-9)).all()


@few
@given(seeds, st.integers(0, 4))
def test_an_offload_withdrawn_helps_all_others(seed: int, who: int) -> None:
    """Properties 6 and 7: and what stays local depends on nobody."""
    made = scenario()
    rng = np.random.default_rng(seed)
    state, exogenous, decisions = random_slot(made, rng)
    before = made.step(state, decisions, exogenous)
    cut = decisions.partition_layer.copy()
    cut[:, who] = made.layers[who]
    after = made.step(state, dataclasses.replace(decisions, partition_layer=cut), exogenous)
    others = np.arange(5) != who
    # the shares come from an iteration, so "equal" is equal to rounding
    assert (after.details["delay_s"][:, others] <= before.details["delay_s"][:, others] * (1 + 1e-9)).all()
    gain = exogenous.channel_gain * rng.uniform(0.1, 10, (3, 5))
    moved = dataclasses.replace(
        decisions, partition_layer=np.where(others, rng.integers(0, made.layers + 1, (3, 5)), cut)
    )
    alone = made.step(state, moved, dataclasses.replace(exogenous, channel_gain=gain))
    np.testing.assert_array_equal(alone.costs["device"][:, who], after.costs["device"][:, who])
    np.testing.assert_array_equal(alone.state.energy_queue[:, who], after.state.energy_queue[:, who])
    np.testing.assert_array_equal(alone.state.memory_queue[:, who], after.state.memory_queue[:, who])


@few
@given(seeds)
def test_no_requests_and_no_local_work(seed: int) -> None:
    """Property 7: without load no energy and full speed; an all-edge device idles."""
    made = scenario()
    state, exogenous, decisions = random_slot(made, np.random.default_rng(seed))
    quiet = made.step(state, decisions, dataclasses.replace(exogenous, arrival_rate_hz=np.zeros((3, 5))))
    assert (quiet.details["energy_j"] == 0).all()
    working = decisions.partition_layer > 0
    assert (quiet.details["device_cpu_hz"][working] == 1.5e9).all()
    assert (quiet.details["device_cpu_hz"][~working] == 0).all()
    assert (quiet.details["device_delay_s"][~working] == 0).all()


@few
@given(seeds, st.integers(2, 4))
def test_order_and_scale_do_not_matter(seed: int, factor: int) -> None:
    """Property 8: k copies of the cell with k times the resources are k times the cell."""
    made = scenario()
    state, exogenous, decisions = random_slot(made, np.random.default_rng(seed))
    step = made.step(state, decisions, exogenous)
    many = scenario(num_devices=5 * factor, bandwidth_hz=5e6 * factor, edge_cpu_hz=15e9 * factor)

    def tiled(part: Any) -> Any:
        values = {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
        return type(part)(**{k: np.tile(v, (1, factor)) if np.ndim(v) == 2 else v for k, v in values.items()})

    copies = many.step(tiled(state), tiled(decisions), tiled(exogenous))
    np.testing.assert_allclose(copies.costs["device"], np.tile(step.costs["device"], (1, factor)), rtol=1e-9)
    order = np.array([1, 0, 4, 2, 3])

    def permuted(part: Any) -> Any:
        values = {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
        return type(part)(**{k: v[:, order] if np.ndim(v) == 2 else v for k, v in values.items()})

    shuffled = made.step(permuted(state), permuted(decisions), permuted(exogenous))
    np.testing.assert_allclose(shuffled.costs["device"], step.costs["device"][:, order], rtol=1e-9)


def test_all_edge_shares_of_the_server() -> None:
    """Property 9: P4 has the value V (sum sqrt D)^2 / F, which is also its price."""
    made = scenario()
    state, exogenous, _ = random_slot(made, np.random.default_rng(1))
    step = made.step(state, ModelPartitioningDecisions(np.zeros((3, 5), int)), exogenous)
    value = 10.0 * np.sqrt(made.total_cycles).sum() ** 2 / 15e9
    np.testing.assert_allclose(10.0 * step.details["edge_delay_s"].sum(axis=1), value, rtol=1e-12)
    np.testing.assert_allclose(step.metrics["edge_cpu_price"], value, rtol=1e-12)
    np.testing.assert_allclose(np.ptp(step.details["edge_cpu_share"][:, 2:], axis=1), 0, atol=1e-15)
    one = scenario(num_devices=1)
    state, exogenous, _ = random_slot(one, np.random.default_rng(1))
    alone = one.step(state, ModelPartitioningDecisions(np.full((3, 1), 2)), exogenous)
    assert (alone.details["bandwidth_share"] == 1).all() and (alone.details["edge_cpu_share"] == 1).all()


def test_overload_is_clipped_and_counted() -> None:
    made = scenario()
    state, exogenous, _ = random_slot(made, np.random.default_rng(0))
    hard = dataclasses.replace(exogenous, arrival_rate_hz=np.full((3, 5), 9.0))
    step = made.step(state, ModelPartitioningDecisions(np.broadcast_to(made.layers, (3, 5))), hard)
    assert (step.metrics["unstable_devices"] == 3).all()  # ResNet18 is stable up to 6.89 requests/s, AlexNet to 17.5
    np.testing.assert_allclose(step.details["delay_s"][:, 2:], 50.5 * made.total_cycles[2] / 1.5e9, rtol=1e-12)
    np.testing.assert_allclose(step.details["energy_j"][:, 2:], 9 * 1e-28 * made.total_cycles[2] * 1.5e9**2)


# --- signals and traces ----------------------------------------------------------------------------------------------


def test_signals_are_averages_of_past_slots() -> None:
    made = scenario(signal_smoothing=0.25)
    state, exogenous, decisions = random_slot(made, np.random.default_rng(2))
    step = made.step(state, decisions, exogenous)
    for mean, value in (("crowd", "offload_ratio"), ("bandwidth_price_mean", "bandwidth_price"),
                        ("edge_cpu_price_mean", "edge_cpu_price")):  # fmt: skip
        np.testing.assert_allclose(
            getattr(step.state, mean), 0.75 * getattr(state, mean) + 0.25 * step.metrics[value], rtol=1e-12
        )
    rows = made.observe(step.state, exogenous)["device"]
    b = step.state.bandwidth_price_mean
    np.testing.assert_allclose(rows[:, 0, 5], b / (b + 10.0), rtol=1e-6)
    np.testing.assert_allclose(rows[:, 3, 4], step.state.crowd, rtol=1e-6)


def test_every_episode_draws_its_load() -> None:
    """Means of cells fill the range evenly; fading and the pattern of the rates are those without a range."""
    ranged, fixed = (
        scenario(mean_arrival_rate_hz=0.5, num_devices=20, **more) for more in ({"mean_arrival_rate_max_hz": 2.5}, {})
    )
    drawn, plain = (s.sample_trace(np.random.default_rng(1), 300, 50) for s in (ranged, fixed))
    means = drawn.arrival_rate_hz.mean(axis=(0, 2))
    assert means.mean() == pytest.approx(1.5, rel=0.06) and means.std() == pytest.approx(2.0 / 12**0.5, rel=0.1)
    np.testing.assert_array_equal(drawn.channel_gain, plain.channel_gain)
    ratio = drawn.arrival_rate_hz / plain.arrival_rate_hz
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:1, :, :1], ratio.shape), rtol=1e-12)


def test_traces_have_the_stated_means_and_the_surge() -> None:
    made = scenario(mean_arrival_rate_hz=2.5, arrival_process="surge", num_devices=50)
    trace = made.sample_trace(np.random.default_rng(0), 8, 200)
    surge = np.arange(201)[(np.arange(201) >= 75) & (np.arange(201) < 110)]
    calm = np.setdiff1d(np.arange(201), surge)
    assert trace.arrival_rate_hz[calm].mean() == pytest.approx(2.5, rel=0.01)
    assert trace.arrival_rate_hz[surge].mean() == pytest.approx(4.0, rel=0.01)
    assert 3.7 < trace.arrival_rate_hz[calm].max() <= 3.75 and 5.9 < trace.arrival_rate_hz.max() <= 6.0
    assert (trace.channel_gain / made.mean_gain).mean() == pytest.approx(1.0, rel=0.02)
    same = scenario(mean_arrival_rate_hz=0.5, num_devices=50).sample_trace(np.random.default_rng(0), 8, 200)
    np.testing.assert_array_equal(same.channel_gain, trace.channel_gain)
    constant = scenario(arrival_process="constant").sample_trace(np.random.default_rng(0), 1, 10)
    assert (constant.arrival_rate_hz == 1.5).all()


def test_signalling_bytes_follow_the_offloads() -> None:
    made = scenario()
    state, exogenous, decisions = random_slot(made, np.random.default_rng(2))
    step = made.step(state, decisions, exogenous)
    np.testing.assert_allclose(step.metrics["signalling_bytes"], 20 * 5 * step.metrics["offload_ratio"] + 12)
    assert made.signalling().centralized_bytes == 28 * 5 and made.signalling().decentralized_bytes == 112
    equal = scenario(bandwidth_rule="equal", edge_cpu_rule="equal")
    assert equal.signalling().decentralized_bytes == 4 * 5 + 16
    acted = scenario(local_cpu_rule="action", bandwidth_rule="action", edge_cpu_rule="action")
    assert acted.signalling().centralized_bytes == 32 * 5


def test_scaled_resources() -> None:
    config = scaled_resources(scenario(num_devices=20).config)
    assert (config.bandwidth_hz, config.edge_cpu_hz) == (20e6, 60e9)
