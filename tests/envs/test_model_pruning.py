"""What must hold in `model_pruning` for any config and any in-space action, beside the golden vectors."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgemarl.envs import make_scenario
from edgemarl.envs.physics.inference import repaired_share, share_for_time, shared_inference_s
from edgemarl.envs.physics.layout import Blocks, rank_within
from edgemarl.envs.scenario import total_cost
from edgemarl.envs.scenarios.model_pruning import (
    DROP_REASONS,
    ModelPruning,
    ModelPruningDecisions,
    ModelPruningExogenous,
    ModelPruningState,
)
from edgemarl.envs.scenarios.model_pruning.config import ModelPruningConfig, preset, scaled

Case = tuple[ModelPruning, ModelPruningState, ModelPruningDecisions, ModelPruningExogenous]
quick = settings(max_examples=60, deadline=None)


@st.composite
def cases(draw: st.DrawFn, **fixed: Any) -> Case:
    """A config, a state, decisions and exogenous values of two cells; every accounting switch occurs."""
    fields: dict[str, Any] = {
        "num_devices": draw(st.integers(1, 40)),
        "num_gateways": draw(st.integers(1, 6)),
        "num_criticality_levels": draw(st.integers(1, 6)),
        "task_bits": draw(st.sampled_from([16e3, 64e3, 256e3])),
        "gateway_flops": draw(st.sampled_from([64e9, 128e9, 768e9])),
        "utilisation_weight": draw(st.sampled_from([0.0, 1.0])),
        "delay_weight": draw(st.sampled_from([0.0, 1.0])),
        "allow_idle_edge_share": draw(st.booleans()),
    }
    scenario = ModelPruning(ModelPruningConfig(**{**fields, **fixed}))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return (scenario, *sample(scenario, rng))


def sample(scenario: ModelPruning, rng: np.random.Generator, cells: int = 2) -> tuple[Any, Any, Any]:
    c = scenario.config
    trace = scenario.sample_trace(rng, cells, 1)
    sparse = rng.random((cells, c.num_gateways)) * (rng.random((cells, c.num_gateways)) < 0.7)
    decisions = ModelPruningDecisions(
        (rng.random((cells, c.num_devices)) < rng.random()).astype(int),
        rng.integers(0, c.num_models, (cells, c.num_gateways)),
        sparse,
    )
    return scenario.initial_state(trace), decisions, scenario.exogenous(trace, 0)


def replaced(decisions: Any, **parts: Any) -> ModelPruningDecisions:
    return dataclasses.replace(decisions, **parts)


def reason_sum(metrics: Any) -> np.ndarray:
    return np.sum([metrics[f"drop_{reason}_ratio"] for reason in DROP_REASONS], axis=0)


def naive_drops(scenario: ModelPruning, state: Any, decisions: Any, share: np.ndarray, b: int) -> list[str | None]:
    """The drop reason of every task of cell b, device by device, straight from the definitions."""
    c, owner = scenario.config, scenario.blocks.gateway
    link, tau = scenario.uplink(state.channel_gain), c.slot_s / c.mini_slots_per_slot
    reasons: list[str | None] = []
    for m in range(c.num_devices):
        g, level = owner[m], state.criticality_level[b, m]
        peers = [j for j in range(c.num_devices) if owner[j] == g]
        sent = [j for j in peers if decisions.offload[b, j]]
        k = level / max(1, c.num_criticality_levels - 1)
        bound_s = c.max_delay_s - k * (c.max_delay_s - c.min_delay_s) + 1e-9
        if not decisions.offload[b, m]:
            v = decisions.model[b, g]
            batch_s = (len(peers) - len(sent)) * (1 - c.model_pruning_rates[v]) * c.task_flop / c.gateway_flops
            wanted = c.min_accuracy + k * (c.max_accuracy - c.min_accuracy) - 1e-9
            reasons.append(
                "accuracy" if c.model_accuracies[v] < wanted else ("local_deadline" if batch_s > bound_s else None)
            )
            continue
        levels = state.criticality_level[b]
        ahead = sum(levels[j] > level for j in sent)
        same = sum(levels[j] == level for j in sent)
        before = sum(levels[j] == level and j < m for j in sent)
        omega_s = link.transmission_s[b, g]
        edge_s = c.task_flop / (c.edge_flops * (share[b, g] + c.edge_share_regulariser))
        slots = max(1, int(np.ceil(omega_s / tau - 1e-9)))
        delay_s = slots * tau * (ahead + (same - 1) / 2) + omega_s + edge_s
        if edge_s > omega_s + 1e-9:
            reasons.append("edge_rate")
        elif delay_s > bound_s:
            reasons.append("offload_deadline")
        else:
            reasons.append("slot_capacity" if ahead + before >= c.mini_slots_per_slot // slots else None)
    return reasons


# --- definitions -----------------------------------------------------------------------------------------------------


def test_default_numbers_of_the_uplink_the_edge_and_the_models() -> None:
    """Rates, airtimes and inference times that follow from the paper's parameters (errata E1 to E3)."""
    scenario = ModelPruning(ModelPruningConfig(num_gateways=5))
    link = scenario.uplink(np.array([[2e-13, 4e-13, 6e-13, 2e-13, 4e-13]]))
    np.testing.assert_allclose(link.transmission_s[0, :3], [40.38e-3, 27.56e-3, 22.80e-3], rtol=2e-4)
    np.testing.assert_allclose(link.reserved_s[0, :3], [43.23e-3, 28.82e-3, 23.05e-3], rtol=3e-4)
    np.testing.assert_array_equal(link.capacity_tasks[0, :3], [23, 34, 43])
    np.testing.assert_allclose(scenario.edge_task_s(np.array([0.2, 1.0])), [2.456e-3, 0.492e-3], rtol=3e-4)
    np.testing.assert_allclose(scenario.edge_task_s(np.array(0.0)), 1.0)
    np.testing.assert_allclose(
        scenario.local_task_s, [11.72e-3, 9.11e-3, 6.51e-3, 3.91e-3, 2.60e-3, 1.30e-3], rtol=2e-3
    )
    served = [(scenario.required_accuracy <= a + 1e-9).sum() for a in scenario.accuracies]
    assert served == [6, 5, 4, 3, 2, 1]


@quick
@given(cases(), st.booleans(), st.sampled_from([1.0, 8.0]))
def test_drop_reasons_equal_the_definitions_task_by_task(case: Case, literal: bool, max_delay_s: float) -> None:
    """Deadlines beyond the slot let the slot's capacity bind."""
    scenario, state, decisions, exogenous = case
    changed = {"count_dropped_in_utilisation": literal, "max_delay_s": max_delay_s, "min_delay_s": max_delay_s / 5}
    scenario = ModelPruning(dataclasses.replace(scenario.config, **changed))
    step = scenario.step(state, decisions, exogenous)
    for b in range(2):
        reasons = naive_drops(scenario, state, decisions, step.details["edge_share"], b)
        np.testing.assert_array_equal(step.details["dropped"][b], [reason is not None for reason in reasons])
        for reason in DROP_REASONS:
            ratio = reasons.count(reason) / scenario.config.num_devices
            np.testing.assert_allclose(step.metrics[f"drop_{reason}_ratio"][b], ratio, atol=1e-12)


def test_lowest_indices_keep_their_place_when_the_slot_is_full() -> None:
    """42 tasks of the lowest level, 23 fit into the slot (bad channel, deadline beyond the slot)."""
    scenario = ModelPruning(ModelPruningConfig(num_devices=42, num_gateways=1, bandwidth_hz=1e6, max_delay_s=3.0))
    state = ModelPruningState(np.array([[2e-13]]), np.zeros((1, 42), int))
    decisions = ModelPruningDecisions(np.ones((1, 42), int), np.zeros((1, 1), int), np.ones((1, 1)))
    step = scenario.step(state, decisions, ModelPruningExogenous(state.channel_gain, state.criticality_level))
    np.testing.assert_array_equal(step.details["dropped"][0], np.arange(42) >= 23)
    assert (step.costs["device"][0, 23:] > 0).all() and (step.costs["device"][0, :23] < 0).all()


@given(st.integers(1, 60), st.integers(1, 9))
def test_blocks_partition_the_devices(num_devices: int, num_gateways: int) -> None:
    blocks = Blocks(num_devices, num_gateways)
    assert blocks.size.sum() == num_devices and blocks.size.max() - blocks.size.min() <= 1
    assert (np.diff(blocks.size) <= 0).all()
    np.testing.assert_array_equal(np.bincount(blocks.gateway, minlength=num_gateways), blocks.size)


@given(st.lists(st.integers(0, 70_000), min_size=1, max_size=30))
def test_ranks_count_equals_with_a_lower_index(keys: list[int]) -> None:
    want = [keys[:i].count(key) for i, key in enumerate(keys)]
    np.testing.assert_array_equal(rank_within(np.array([keys, keys])), [want, want])


@given(st.lists(st.floats(-1e300, 1e300), min_size=3, max_size=3), st.lists(st.booleans(), min_size=3, max_size=3))
def test_repaired_shares_are_a_split(raw: list[float], busy: list[bool]) -> None:
    active = np.array([busy])
    share = repaired_share(np.array([raw]), active, allow_idle=False)[0]
    assert (share >= 0).all() and share.sum() == pytest.approx(1.0)
    kept = repaired_share(np.array([raw]), active, allow_idle=True)[0]
    assert kept.sum() == pytest.approx(1.0)
    if any(busy):
        assert not share[~active[0]].any()
    else:
        np.testing.assert_allclose(share, kept, rtol=1e-12)
    ratio = kept * max(max(raw), 0.0) - np.maximum(raw, 0.0) * kept.max()
    assert max(raw) <= 0 or np.abs(ratio).max() <= 1e-9 * max(raw)


@given(st.floats(1e-3, 0.9))
def test_share_for_a_time_inverts_the_edge_time(time_s: float) -> None:
    c = ModelPruningConfig()
    share = share_for_time(c.task_flop, c.edge_flops, time_s, c.edge_share_regulariser)
    assert shared_inference_s(c.task_flop, c.edge_flops, share, c.edge_share_regulariser) == pytest.approx(time_s)


# --- accounting ------------------------------------------------------------------------------------------------------


@quick
@given(cases())
def test_ledger_cells_and_reasons_add_up(case: Case) -> None:
    scenario, state, decisions, exogenous = case
    c = scenario.config
    step = scenario.step(state, decisions, exogenous)
    m = step.metrics
    np.testing.assert_allclose(total_cost(step), -m["reward"], atol=1e-9)
    np.testing.assert_allclose(step.details["cell_cost"].sum(axis=1), -m["reward"], atol=1e-9)
    np.testing.assert_allclose(reason_sum(m), m["drop_ratio"], atol=1e-12)
    np.testing.assert_allclose(step.details["dropped"].mean(axis=1), m["drop_ratio"], atol=1e-12)
    assert (m["drop_ratio"] >= 0).all() and (m["drop_ratio"] <= 1 + 1e-12).all()
    assert (m["reward"] >= -c.drop_penalty - c.delay_weight - 1e-9).all()
    for name in ("local", "bandwidth", "edge"):
        used = m[f"{name}_utilisation"]
        assert (used >= 0).all() and (used <= c.num_gateways + 1e-9).all()
    everything = m["drop_ratio"] > 1 - 1e-12
    assert (m["utilisation"][everything] == 0).all()
    assert (-step.costs["gateway"] <= c.utilisation_weight * (1 + 1e-9)).all()
    expected = c.utilisation_weight * m["utilisation"] - c.drop_penalty * m["drop_ratio"]
    expected = expected - c.delay_weight * m["mean_delay_s"] * (1 - m["drop_ratio"]) / c.slot_s
    np.testing.assert_allclose(m["reward"], expected, atol=1e-9)


@quick
@given(cases())
def test_shares_after_repair(case: Case) -> None:
    scenario, state, decisions, exogenous = case
    share = scenario.step(state, decisions, exogenous).details["edge_share"]
    assert (share >= 0).all()
    np.testing.assert_allclose(share.sum(axis=1), 1.0)
    if not scenario.config.allow_idle_edge_share:
        for b in range(2):
            sending = np.bincount(scenario.blocks.gateway, decisions.offload[b], scenario.config.num_gateways) > 0
            assert not sending.any() or not share[b][~sending].any()


@quick
@given(cases())
def test_the_next_state_does_not_depend_on_the_actions(case: Case) -> None:
    scenario, state, decisions, exogenous = case
    for offload in (decisions.offload, 1 - decisions.offload):
        following = scenario.step(state, replaced(decisions, offload=offload), exogenous).state
        np.testing.assert_array_equal(following.channel_gain, exogenous.next_channel_gain)
        np.testing.assert_array_equal(following.criticality_level, exogenous.next_criticality_level)


@quick
@given(cases(), st.integers(0, 2**32))
def test_permuting_devices_of_a_gateway_changes_no_metric(case: Case, seed: int) -> None:
    scenario, state, decisions, exogenous = case
    owner = scenario.blocks.gateway
    order = np.lexsort((np.random.default_rng(seed).random(len(owner)), owner))
    moved = dataclasses.replace(state, criticality_level=state.criticality_level[:, order])
    before = scenario.step(state, decisions, exogenous).metrics
    after = scenario.step(moved, replaced(decisions, offload=decisions.offload[:, order]), exogenous).metrics
    for name in before:
        np.testing.assert_allclose(after[name], before[name], atol=1e-9, err_msg=name)


@quick
@given(cases(allow_idle_edge_share=True), st.integers(0, 5))
def test_cells_of_other_gateways_are_untouched_at_fixed_shares(case: Case, which: int) -> None:
    scenario, state, decisions, exogenous = case
    g = which % scenario.config.num_gateways
    flipped = np.where(scenario.blocks.gateway == g, 1 - decisions.offload, decisions.offload)
    before = scenario.step(state, decisions, exogenous).details["cell_cost"]
    after = scenario.step(state, replaced(decisions, offload=flipped), exogenous).details["cell_cost"]
    others = np.arange(scenario.config.num_gateways) != g
    np.testing.assert_array_equal(after[:, others], before[:, others])


@quick
@given(cases(), st.floats(1.0, 8.0))
def test_more_resources_never_hurt(case: Case, factor: float) -> None:
    scenario, state, decisions, _ = case
    count = np.zeros((2, scenario.config.num_gateways, scenario.config.num_criticality_levels, 2), int)
    for b in range(2):
        place = (scenario.blocks.gateway, state.criticality_level[b], decisions.offload[b])
        np.add.at(count[b], place, 1)
    edge_s = np.full((2, scenario.config.num_gateways), 5e-3)

    def lost(gain: np.ndarray, edge: np.ndarray, owner: ModelPruning = scenario) -> Any:
        result = owner.outcome(count, owner.uplink(gain), edge, decisions.model)
        return result.tasks - result.completed, result.reason

    base, _ = lost(state.channel_gain, edge_s)
    quicker, _ = lost(state.channel_gain, edge_s / factor)
    assert (quicker <= base).all()
    near, near_reason = lost(state.channel_gain * factor, edge_s)
    for reason in (2, -1):  # deadline and slot capacity; a larger gain may add edge_rate drops
        assert ((near * (near_reason == reason))[..., 1].sum(axis=2) <= base[..., 1].sum(axis=2)).all()
    faster = ModelPruning(dataclasses.replace(scenario.config, gateway_flops=scenario.config.gateway_flops * factor))
    assert (lost(state.channel_gain, edge_s, faster)[0][..., 0] <= base[..., 0]).all()


@quick
@given(cases())
def test_all_local_is_decided_by_accuracy_and_batch_time(case: Case) -> None:
    scenario, state, decisions, exogenous = case
    step = scenario.step(state, replaced(decisions, offload=np.zeros_like(decisions.offload)), exogenous)
    model = decisions.model[:, scenario.blocks.gateway]
    batch_s = scenario.local_task_s[model] * scenario.blocks.size[scenario.blocks.gateway]
    late = batch_s > scenario.deadline_s[state.criticality_level] + 1e-9
    wrong = scenario.accuracies[model] < scenario.required_accuracy[state.criticality_level] - 1e-9
    np.testing.assert_array_equal(step.details["dropped"], late | wrong)
    assert not step.metrics["edge_utilisation"].any() and not step.metrics["bandwidth_utilisation"].any()


@quick
@given(cases(count_dropped_in_utilisation=True))
def test_literal_accounting_counts_every_task(case: Case) -> None:
    scenario, state, decisions, exogenous = case
    step = scenario.step(state, decisions, exogenous)
    sent = decisions.offload * scenario.uplink(state.channel_gain).transmission_s[:, scenario.blocks.gateway]
    np.testing.assert_allclose(step.metrics["bandwidth_utilisation"], sent.sum(axis=1) / scenario.config.slot_s)
    np.testing.assert_allclose(total_cost(step), -step.metrics["reward"], atol=1e-9)
    np.testing.assert_allclose(step.details["cell_cost"].sum(axis=1), -step.metrics["reward"], atol=1e-9)


# --- information -----------------------------------------------------------------------------------------------------


@quick
@given(cases(), st.sampled_from(["channel", "histogram", "rank"]))
def test_a_device_sees_its_own_cell_only(case: Case, broadcast: str) -> None:
    scenario, state, _, exogenous = case
    scenario = ModelPruning(dataclasses.replace(scenario.config, gateway_broadcast=broadcast))
    c, owner = scenario.config, scenario.blocks.gateway
    others = owner != owner[0]
    altered = ModelPruningState(
        np.where(np.arange(c.num_gateways) == owner[0], state.channel_gain, 1e-12),
        np.where(others, (state.criticality_level + 1) % c.num_criticality_levels, state.criticality_level),
    )
    before, after = (scenario.observe(s, exogenous)["device"] for s in (state, altered))
    np.testing.assert_array_equal(before[:, ~others], after[:, ~others])
    if broadcast == "channel":
        level = (state.criticality_level + 1) % c.num_criticality_levels
        level[:, 0] = state.criticality_level[:, 0]
        after = scenario.observe(dataclasses.replace(state, criticality_level=level), exogenous)["device"]
        np.testing.assert_array_equal(before[:, 0], after[:, 0])
        assert not before[..., 3:].any()


def test_observations_show_what_the_broadcast_says() -> None:
    scenario = make_scenario("model_pruning", num_devices=5, num_gateways=3, gateway_broadcast="rank")
    state = ModelPruningState(np.array([[2e-13, 6e-13, 4e-13]]), np.array([[5, 5, 0, 3, 1]]))
    rows = scenario.observe(state, None)
    third = np.float32(1 / 3)
    np.testing.assert_allclose(rows["device"][0, 1], [1, third, 0.5, 0, 0, 0, 0, 0, 1, 0.5])
    np.testing.assert_allclose(rows["gateway"][0, 1], [1, 0.4, 0.5, 0, 0, 0.5, 0, 0])
    np.testing.assert_allclose(rows["server"][0, 0], rows["gateway"][0].ravel())
    np.testing.assert_allclose(scenario.global_state(state, None)[0], [third, 1, 2 * third, 1, 1, 0, 0.6, 0.2])
    empty = make_scenario("model_pruning", num_devices=2, num_gateways=3)
    shown = empty.observe(ModelPruningState(state.channel_gain, np.array([[5, 5]])), None)["gateway"][0]
    assert shown[1].any() and not shown[2].any()


def test_learning_signals() -> None:
    scenario = make_scenario("model_pruning")
    state, decisions, exogenous = sample(scenario, np.random.default_rng(0))
    step = scenario.step(state, decisions, exogenous)
    cell = scenario.rewards(step, "group")
    np.testing.assert_allclose(cell["gateway"].sum(axis=1), step.metrics["reward"])
    np.testing.assert_array_equal(cell["device"], cell["gateway"][:, scenario.blocks.gateway])
    np.testing.assert_allclose(cell["server"][:, 0], step.metrics["reward"])
    with pytest.raises(ValueError, match="reward mode"):
        scenario.rewards(step, "own cell")


def test_episodes_weight_delay_and_accuracy_by_completed_tasks() -> None:
    scenario = make_scenario("model_pruning", num_devices=30)
    trace = scenario.sample_trace(np.random.default_rng(3), 1, 3)
    steps = []
    for t, offload in enumerate((0, 1, 1)):
        state = ModelPruningState(trace.next_channel_gain[t], trace.next_criticality_level[t])
        model = np.full((1, 5), 5 - t)
        decisions = ModelPruningDecisions(np.full((1, 30), offload), model, np.full((1, 5), 0.2))
        steps.append(scenario.step(state, decisions, scenario.exogenous(trace, t)))
    means = {name: np.mean([s.metrics[name] for s in steps], axis=0) for name in steps[0].metrics}
    episode = scenario.episode_metrics(means)
    done = [~s.details["dropped"].astype(bool) for s in steps]
    delays = np.concatenate([s.details["delay_s"][d] for s, d in zip(steps, done, strict=True)])
    np.testing.assert_allclose(episode["mean_delay_s"], delays.mean())
    assert abs(means["mean_delay_s"][0] - delays.mean()) > 1e-3  # the plain mean over slots differs
    weights = [d.sum() for d in done]
    accuracies = [s.metrics["mean_accuracy"][0] for s in steps]
    np.testing.assert_allclose(episode["mean_accuracy"], np.average(accuracies, weights=weights))


def test_signalling_bytes() -> None:
    def radio(links: Any) -> float:
        return sum(size for link, size in links.items() if link.startswith("radio"))

    assert radio(make_scenario("model_pruning").signalling().decentralized) == 120
    assert radio(make_scenario("model_pruning").signalling().centralized) == 820
    wide = make_scenario("model_pruning", num_devices=200, gateway_broadcast="rank").signalling()
    assert radio(wide.centralized) == 1620
    assert wide.decentralized_bytes == 120 + 4 * 200 + 4 * 5 * 7 + 4 * 200


# --- configs, traces, presets ----------------------------------------------------------------------------------------


def test_presets() -> None:
    assert preset("printed") == ModelPruningConfig()
    assert preset("light", num_devices=150).task_bits == 48e3
    assert preset("contended").num_devices == 200 and preset("contended").gateway_flops == 128e9
    assert preset("qos").utilisation_weight == 0 and preset("qos").delay_weight == 1
    assert dataclasses.replace(scaled(100), edge_share_regulariser=preset("printed").edge_share_regulariser) == preset(
        "printed"
    )
    with pytest.raises(ValueError, match="did you mean 'printed'"):
        preset("print")


@pytest.mark.parametrize("num_devices", [5, 20, 400])
def test_scaled_networks_have_like_cells(num_devices: int) -> None:
    small, large = ModelPruning(scaled(100)), ModelPruning(scaled(num_devices))
    at_equal_share = [s.edge_task_s(np.array(1 / s.config.num_gateways)) for s in (small, large)]
    if num_devices >= 20:
        np.testing.assert_allclose(*at_equal_share, rtol=0.05)
        gain = np.full((1, large.config.num_gateways), 4e-13)
        np.testing.assert_allclose(large.uplink(gain).transmission_s, 27.56e-3, rtol=2e-4)
    np.testing.assert_allclose(large.edge_task_s(np.array(0.0)), 1.0)
    assert large.config.drop_penalty / num_devices == pytest.approx(0.99)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"model_accuracies": (0.9,)}, "model_accuracies"),
        ({"model_pruning_rates": (0.1, 0.3, 0.5, 0.7, 0.8, 1.9)}, "model_pruning_rates"),
        ({"channel_gains": (1e-13, 0.0, 1e-13)}, "channel_gains"),
        ({"channel_transition": ((1.0,),)}, "channel_transition"),
        ({"channel_transition": ((0.3, 0.6, 0.0), (0.25, 0.5, 0.25), (0.0, 0.7, 0.3))}, "channel_transition"),
        ({"min_delay_s": 2.0}, "min_delay_s"),
        ({"max_accuracy": 0.5}, "max_accuracy"),
        ({"edge_model_accuracy": 0.95}, "edge_model_accuracy"),
        ({"slot_s": 0.0}, "slot_s"),
        ({"gateway_broadcast": "all"}, "gateway_broadcast"),
    ],
)
def test_illegal_configs_are_named(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        ModelPruningConfig(**fields)


def test_illegal_traces_and_decisions_are_named() -> None:
    scenario = make_scenario("model_pruning", num_devices=6)
    trace = scenario.sample_trace(np.random.default_rng(0), 1, 2)
    with pytest.raises(ValueError, match="criticality_level holds 6"):
        scenario.check_trace(dataclasses.replace(trace, criticality_level=np.full((1, 6), 6)))
    with pytest.raises(ValueError, match="must be an integer"):
        scenario.check_trace(dataclasses.replace(trace, criticality_level=np.full((1, 6), 0.5)))
    state, decisions, exogenous = sample(scenario, np.random.default_rng(0))
    for parts, named in (({"model": np.full((2, 5), 6)}, "model"), ({"edge_share": np.full((2, 5), np.nan)}, "share")):
        with pytest.raises(ValueError, match=named):
            scenario.step(state, replaced(decisions, **parts), exogenous)


def test_a_gateway_without_signal_only_drops() -> None:
    scenario = make_scenario("model_pruning", num_devices=6, num_gateways=2)
    state, decisions, exogenous = sample(scenario, np.random.default_rng(0))
    dead = dataclasses.replace(state, channel_gain=np.zeros((2, 2)))
    step = scenario.step(dead, replaced(decisions, offload=np.ones((2, 6), int), edge_share=np.ones((2, 2))), exogenous)
    np.testing.assert_array_equal(step.metrics["drop_offload_deadline_ratio"], 1.0)
    assert all(np.isfinite(v).all() for v in step.metrics.values())


def test_states_follow_their_processes() -> None:
    scenario = make_scenario("model_pruning", num_devices=50)
    trace = scenario.sample_trace(np.random.default_rng(0), 20, 200)
    law = [(trace.next_channel_gain == g).mean() for g in scenario.config.channel_gains]
    np.testing.assert_allclose(law, np.array([5, 14, 5]) / 24, atol=0.02)
    levels = np.bincount(trace.next_criticality_level.ravel(), minlength=6) / trace.next_criticality_level.size
    np.testing.assert_allclose(levels, 1 / 6, atol=0.005)
    jumps = (trace.next_channel_gain[:-1] == 2e-13) & (trace.next_channel_gain[1:] == 6e-13)
    assert not jumps.any()  # never from bad to good in one slot


def test_only_the_least_critical_complete_with_the_most_pruned_model() -> None:
    scenario = make_scenario("model_pruning")
    state, decisions, exogenous = sample(scenario, np.random.default_rng(0))
    local = replaced(decisions, offload=np.zeros_like(decisions.offload), model=np.full((2, 5), 5))
    step = scenario.step(state, local, exogenous)
    assert step.details["dropped"][state.criticality_level > 0].all()


# --- what another choice would have paid -----------------------------------------------------------------------------


@quick
@given(cases(), st.booleans(), st.integers(0, 2**32))
def test_choice_rewards_are_those_of_a_slot_with_one_choice_changed(case: Case, literal: bool, seed: int) -> None:
    """Shares are held at their repaired values; one device's bit and one gateway's model are changed."""
    given_scenario, state, decisions, exogenous = case
    scenario = ModelPruning(dataclasses.replace(given_scenario.config, count_dropped_in_utilisation=literal))
    share = scenario.step(state, decisions, exogenous).details["edge_share"]
    held = ModelPruning(dataclasses.replace(scenario.config, allow_idle_edge_share=True))
    rewards = scenario.choice_rewards(state, decisions, exogenous)
    rng = np.random.default_rng(seed)
    device, gateway = rng.integers(scenario.config.num_devices), rng.integers(scenario.config.num_gateways)

    def cells(offload: Any, model: Any) -> Any:
        return -held.step(state, ModelPruningDecisions(offload, model, share), exogenous).details["cell_cost"]

    for bit in (0, 1):
        offload = decisions.offload.copy()
        offload[:, device] = bit
        want = cells(offload, decisions.model)[:, scenario.blocks.gateway[device]]
        np.testing.assert_allclose(rewards["device"][:, device, bit], want, atol=1e-9)
    for index in range(scenario.config.num_models):
        model = decisions.model.copy()
        model[:, gateway] = index
        want = cells(decisions.offload, model)[:, gateway]
        np.testing.assert_allclose(rewards["gateway"][:, gateway, index], want, atol=1e-9)
