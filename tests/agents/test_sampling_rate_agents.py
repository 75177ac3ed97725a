"""Rules and references of the sampling-rate scenario: exactness, bounds, locality, published choices."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgemarl.agents.api import Team, check_heard
from edgemarl.agents.registry import check_fixed, make_policy, playbook_of
from edgemarl.agents.sampling_rate.q_learner import OptionLearner
from edgemarl.agents.sampling_rate.q_priced import PricedOptionLearner, PriceTellingServer
from edgemarl.agents.sampling_rate.reference import (
    ConstantPrice,
    JointMyopic,
    OptionProblem,
    WarmReference,
    dual_ascent,
    dual_value,
    solve_slot,
)
from edgemarl.agents.sampling_rate.rules import DeviceRows, Myopic, NominalPopulation
from edgemarl.agents.sampling_rate.static import static_mixed, static_uniform
from edgemarl.envs.registry import make_scenario
from edgemarl.envs.scenario import total_cost
from edgemarl.envs.scenarios.sampling_rate import SamplingRate, SamplingRateExogenous, SamplingRateState
from edgemarl.envs.scenarios.sampling_rate.config import (
    PRESETS,
    SamplingRateConfig,
    default_config,
    reference_balance_per_s,
    scaled,
    tight_config,
)
from edgemarl.marl.evaluation.rollout import rollout

SEEDS = st.integers(0, 2**32 - 1)
NAMES = tuple(playbook_of("sampling_rate").controllers)
CELLS = 3


def random_state(s: SamplingRate, rng: np.random.Generator, cells: int = CELLS) -> tuple[Any, Any]:
    """State and exogenous values, some of them 0."""
    n, m = s.config.num_devices, s.config.num_services
    state = SamplingRateState(
        rng.uniform(0, 3.84e6, (cells, n)) * (rng.random((cells, n)) < 0.4),
        rng.uniform(0, 2e6, (cells, m)) * (rng.random((cells, m)) < 0.5),
        rng.uniform(0, 2, (cells, m)) * (rng.random((cells, m)) < 0.8),
    )
    exogenous = SamplingRateExogenous(
        rng.choice(s.config.channel_gains, (cells, n)), rng.uniform(0, 1.5, (cells, n)) * (rng.random((cells, n)) < 0.9)
    )
    return state, exogenous


def slot_problem(s: SamplingRate, state: Any, exogenous: Any) -> OptionProblem:
    return OptionProblem.of(s, state, exogenous, state.accuracy_deficit / s.config.balance_per_s)


def play(s: SamplingRate, policy: Any, trace: Any) -> dict[str, np.ndarray]:
    """Episode means (B,) of every metric, and the episode's own metrics."""
    policy.reset(s, trace)
    state, rng, sums = s.initial_state(trace), np.random.default_rng(0), {}
    for t in range(trace.slots):
        exogenous = s.exogenous(trace, t)
        step = s.step(state, policy.decide(state, exogenous, rng), exogenous)
        state = step.state
        policy.feedback(step.costs)
        for name, values in step.metrics.items():
            sums[name] = sums.get(name, 0.0) + values / trace.slots
    return {**sums, **s.episode_metrics(sums)}


@given(SEEDS, st.sampled_from(["optimal", "fixed"]), st.sampled_from([3e7, 3e8, 1e9]))
@settings(max_examples=25, deadline=None)
def test_joint_optimum_equals_brute_force(seed: int, share_mode: Any, server_hz: float) -> None:
    rng = np.random.default_rng(seed)
    population = tuple(rng.choice([(1, 1), (1, 2), (2, 1), (3, 1), (2, 2)]).tolist())
    s = SamplingRate(
        SamplingRateConfig(
            devices_per_service=population, bandwidth_hz=2e6 * sum(population), server_hz=server_hz,
            share_mode=share_mode,
        )
    )  # fmt: skip
    problem = slot_problem(s, *random_state(s, rng, cells=1))
    every = np.asarray(list(itertools.product(range(8), repeat=sum(population))))
    repeat = len(every)
    wide = OptionProblem(
        s, np.repeat(problem.cost_s, repeat, axis=0), np.repeat(problem.bits, repeat, axis=0),
        np.repeat(problem.server_queue_bits, repeat, axis=0),
    )  # fmt: skip
    found = problem.objective_s(solve_slot(problem))[0]
    assert found == pytest.approx(wide.objective_s(every).min(), rel=1e-12)


@given(SEEDS, st.sampled_from(["optimal", "fixed"]), st.sampled_from(["literal", "offloaders"]))
@settings(max_examples=25, deadline=None)
def test_the_slot_problem_is_the_scenarios_cost(seed: int, share_mode: Any, wait_mode: Any) -> None:
    """Objective of any choice times V is the ledger's sum, server overflow apart."""
    rng = np.random.default_rng(seed)
    s = SamplingRate(SamplingRateConfig(share_mode=share_mode, wait_mode=wait_mode, device_hz=3e7))
    state, exogenous = random_state(s, rng)
    options = rng.integers(0, 8, (CELLS, 10))
    step = s.step(state, s.decisions_of(options), exogenous)
    expected = slot_problem(s, state, exogenous).objective_s(options) * s.config.balance_per_s
    np.testing.assert_allclose(total_cost(step) - step.costs["server"][:, 0], expected, rtol=1e-9, atol=1e-12)


@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_joint_optimum_is_below_every_other_controller(seed: int) -> None:
    rng = np.random.default_rng(seed)
    s = SamplingRate()
    state, exogenous = random_state(s, rng)
    trace = s.sample_trace(rng, CELLS, 1)
    costs = {}
    for name in NAMES:
        policy = make_policy(s, name)
        policy.reset(s, trace)
        costs[name] = total_cost(s.step(state, policy.decide(state, exogenous, rng), exogenous))
    for name, cost in costs.items():
        assert (cost >= costs["joint_myopic"] - 1e-9).all(), name


def test_exact_search_beats_a_grid_of_shares_at_any_size() -> None:
    s = SamplingRate(scaled(default_config(), (40, 60)))
    state, exogenous = random_state(s, np.random.default_rng(0), cells=4)
    problem = slot_problem(s, state, exogenous)
    exact = problem.objective_s(solve_slot(problem))
    price = s.server_cycles_per_bit * (s.service_size + 1) / (2 * s.config.server_hz)
    grid = []
    for share in np.linspace(0.002, 0.998, 400):
        own = (price / np.array([share, 1 - share]))[s.service]
        grid.append(problem.objective_s(np.argmin(problem.cost_s + problem.bits * own[:, None], axis=2)))
    best = np.min(grid, axis=0)
    assert (exact <= best + 1e-9).all()
    np.testing.assert_allclose(exact, best, rtol=1e-3)


def test_coordinate_descent_serves_other_networks() -> None:
    """Three services, and charged offloaders: no worse than its starts, no move of one device improves it."""
    for config in (
        SamplingRateConfig(wait_mode="offloaders"),
        SamplingRateConfig(
            devices_per_service=(2, 2, 2), raw_task_bits=(768e3, 512e3, 600e3), device_cycles_per_bit=(80, 160, 100),
            server_cycles_per_bit=(200, 400, 300), device_model_accuracy=(0.8, 0.8, 0.8),
            server_model_accuracy=(1, 1, 1), accuracy_target=(0.8, 0.9, 0.85),
        ),
    ):  # fmt: skip
        s = SamplingRate(config)
        problem = slot_problem(s, *random_state(s, np.random.default_rng(1)))
        options = solve_slot(problem)
        value = problem.objective_s(options)
        for start in (1, 7):
            assert (value <= problem.objective_s(np.full_like(options, start)) + 1e-9).all()
        for n, option in itertools.product(range(s.config.num_devices), range(8)):
            moved = options.copy()
            moved[:, n] = option
            assert (value <= problem.objective_s(moved) + 1e-9).all()


@pytest.mark.parametrize("share_mode", ["optimal", "fixed", "action"])
def test_every_controller_stays_above_the_dual_bound(share_mode: Any) -> None:
    s = SamplingRate(SamplingRateConfig(share_mode=share_mode))
    trace = s.sample_trace(np.random.default_rng(11), 4, 60)
    bound, _ = dual_value(s, trace, s.accuracy_price_s)
    for name in NAMES:
        priced = play(s, make_policy(s, name), trace)["priced_delay_s"]
        assert (priced >= bound * (1 - 1e-12)).all(), name


def test_dual_bound_is_concave_with_its_supergradient() -> None:
    s = SamplingRate()
    trace = s.sample_trace(np.random.default_rng(1), 2, 20)
    low, high = np.array([10.0, 9.0]), np.array([18.0, 20.0])
    (value_low, slope_low), (value_high, _) = dual_value(s, trace, low), dual_value(s, trace, high)
    middle, _ = dual_value(s, trace, (low + high) / 2)
    assert (middle >= (value_low + value_high) / 2 - 1e-12).all()
    assert (value_high <= value_low + slope_low @ (high - low) + 1e-12).all()


@pytest.mark.parametrize("each", [10, 25])
def test_prices_of_larger_networks_bound_better_than_those_of_ten_devices_times_their_number(each: int) -> None:
    """They are near the maximum of the dual, where a device's price has fallen: fewer wait twice as long each."""
    s = SamplingRate(scaled(SamplingRateConfig(), (each, each)))
    trace = s.sample_trace(np.random.default_rng(3), 2, 60)
    bounds = [dual_value(s, trace, np.asarray(mu))[0].mean() for mu in (
        s.accuracy_price_s, 0.95 * s.accuracy_price_s, 1.05 * s.accuracy_price_s, np.array([14.05, 12.90]) * each / 5
    )]  # fmt: skip
    assert bounds[0] == max(bounds)
    assert bounds[0] > 1.01 * bounds[3]


def test_dual_ascent_finds_the_listed_prices() -> None:
    s = SamplingRate()
    trace = s.sample_trace(np.random.default_rng(2), 4, 100)
    found = dual_ascent(s, trace, prices_s=np.array([5.0, 25.0]))
    np.testing.assert_allclose(found, [14.05, 12.90], rtol=0.1)
    assert dual_value(s, trace, found)[0].mean() >= dual_value(s, trace, s.accuracy_price_s)[0].mean() - 0.01
    with pytest.raises(ValueError, match="prices_s"):
        dual_value(s, trace, np.array([-1.0, 1.0]))
    with pytest.raises(ValueError, match="wait_mode"):
        dual_value(SamplingRate(SamplingRateConfig(wait_mode="offloaders")), trace, s.accuracy_price_s)


def test_constant_price_reaches_the_bound_without_backlog() -> None:
    """Weak duality with the bound's own minimiser: its Lagrangian equals the bound as long as no queue forms."""
    s = SamplingRate()
    trace = s.sample_trace(np.random.default_rng(3), 3, 40)
    means = play(s, ConstantPrice(s.accuracy_price_s), trace)
    bound, missed = dual_value(s, trace, s.accuracy_price_s)
    assert (means["server_queue_bits_total"] == 0).all() and (means["device_queue_bits_mean"] == 0).all()
    np.testing.assert_allclose(means["service_delay_s"] + missed @ s.accuracy_price_s, bound, rtol=1e-12)


def test_calibrated_order_of_controllers() -> None:
    """Delay in s on default traces within the published spread, in the published order."""
    s = SamplingRate()
    trace = s.sample_trace(np.random.default_rng(7), 6, 200)
    expected = {
        "joint_myopic": 3.987, "broadcast_price": 4.021, "social_myopic": 4.320, "delay_myopic": 4.935,
        "static_mixed": 5.140, "local_full": 5.757, "static_uniform": 7.74,
    }  # fmt: skip
    found = {name: play(s, make_policy(s, name), trace)["service_delay_s"].mean() for name in expected}
    assert sorted(found, key=found.__getitem__) == list(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=0.02 if name != "static_uniform" else 0.06), name
    warm = play(s, make_policy(s, "warm_reference"), trace)
    assert warm["accuracy_shortfall"].max() < 0.0025 and (warm["accuracy_error"] == 0).all()
    assert warm["priced_delay_s"].mean() < play(s, JointMyopic(), trace)["priced_delay_s"].mean()


def test_selfish_devices_collapse_in_a_tight_network() -> None:
    s = SamplingRate(tight_config())
    trace = s.sample_trace(np.random.default_rng(7), 3, 200)
    joint = play(s, JointMyopic(), trace)["service_delay_s"].mean()
    assert play(s, make_policy(s, "broadcast_price"), trace)["service_delay_s"].mean() < 1.02 * joint
    assert play(s, make_policy(s, "delay_myopic"), trace)["service_delay_s"].mean() > 12 * joint


def test_static_choices() -> None:
    for name in ("default", "printed"):
        np.testing.assert_array_equal(static_uniform(SamplingRate(PRESETS[name]())), [1] * 5 + [2] * 5)
    np.testing.assert_array_equal(static_mixed(SamplingRate()), [1, 6, 7, 7, 7, 1, 1, 1, 1, 3])
    printed = static_mixed(SamplingRate(PRESETS["printed"]()))
    np.testing.assert_array_equal(printed[:5], [1, 1, 1, 1, 4])
    assert printed[5:].tolist() in ([1, 1, 1, 2, 2], [1, 1, 1, 1, 3])
    even = SamplingRate(scaled(default_config(), (4, 6)))
    np.testing.assert_array_equal(static_uniform(even), [1] * 4 + [2] * 6)
    large = SamplingRate(scaled(default_config(), (10, 7)))
    options = static_mixed(large)
    accuracy = large.service_accuracy(large.decisions_of(options[None]))
    assert options.shape == (17,) and (accuracy >= large.accuracy_target - 1e-12).all()
    impossible = SamplingRate(SamplingRateConfig(accuracy_target=(0.99, 0.9)))
    np.testing.assert_array_equal(static_uniform(impossible)[:5], [3] * 5)  # the most accurate there is


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share_mode", ["optimal", "action"])
def test_local_rules_read_their_own_row_only(name: str, share_mode: Any) -> None:
    s = SamplingRate(SamplingRateConfig(share_mode=share_mode))
    policy = make_policy(s, name)
    if not isinstance(policy, Team):
        assert policy.information == "global"
        return
    cells = 60
    state, exogenous = random_state(s, np.random.default_rng(5), cells)
    policy.reset(s, s.sample_trace(np.random.default_rng(0), cells, 1))
    rows, noise = s.observe(state, exogenous), np.random.default_rng(6)
    mine = copy.deepcopy(policy).combine(rows, state, exogenous, np.random.default_rng(1))
    for me in (0, 4, 9):
        device = (rows["device"] * noise.uniform(0, 2, rows["device"].shape)).astype(np.float32)
        device[:, me] = rows["device"][:, me]
        moved = copy.deepcopy(policy).combine({**rows, "device": device}, state, exogenous, np.random.default_rng(1))
        for field in ("rate_level", "local"):
            np.testing.assert_array_equal(getattr(moved, field)[:, me], getattr(mine, field)[:, me])
        if share_mode == "action":
            np.testing.assert_array_equal(moved.share, mine.share)


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_rows_hold_what_a_device_needs(seed: int) -> None:
    s = SamplingRate()
    state, exogenous = random_state(s, np.random.default_rng(seed))
    rows = DeviceRows.read(s, s.observe(state, exogenous)["device"])
    np.testing.assert_allclose(rows.queue_bits, state.device_queue_bits, rtol=1e-6, atol=0.1)
    np.testing.assert_allclose(rows.rate_bps, s.link_rate_bps(exogenous.channel_gain), rtol=1e-6)
    np.testing.assert_allclose(rows.raw_bits, s.raw_bits(exogenous.arrival_rate), rtol=1e-6, atol=0.1)
    np.testing.assert_allclose(rows.deficit[:, 3], state.accuracy_deficit, rtol=1e-6)
    np.testing.assert_allclose(rows.server_queue_bits[:, 3], state.server_queue_bits, rtol=1e-6, atol=1.0)


@pytest.mark.parametrize("social", [False, True])
def test_myopic_rule_as_written(social: bool) -> None:
    """One device at a time, in plain Python, from the definition."""
    s = SamplingRate()
    c, rng = s.config, np.random.default_rng(8)
    state, exogenous = random_state(s, rng, cells=1)
    rule = Myopic(social)
    rule.reset(s, 1)
    found = rule.act(s.observe(state, exogenous)["device"], rng).actions
    assert found is not None
    for n in range(10):
        m = int(n >= 5)
        guess = (3 / 7, 4 / 7)[m]
        costs = []
        for option in range(8):
            x = exogenous.arrival_rate[0, n] * c.raw_task_bits[m] * (option % 4 + 1) / 4
            accuracy = c.rate_accuracy[option % 4] * (0.8 if option > 3 else 1.0)
            if option > 3:
                work = state.device_queue_bits[0, n] + x
                delay = c.device_cycles_per_bit[m] * work / 1e8
                delay += work - 1e8 / c.device_cycles_per_bit[m] > c.device_queue_limit_bits
            else:
                delay = x / s.link_rate_bps(exogenous.channel_gain[0, n])
                delay += x * c.server_cycles_per_bit[m] / (guess * 1e9) * (3.0 if social else 1.0)
            missing = c.accuracy_target[m] - accuracy
            costs.append(delay + state.accuracy_deficit[0, m] / c.balance_per_s / 5 * missing)
        assert found[0, n] == np.argmin(costs)


def test_nominal_shares_follow_the_deficit() -> None:
    s = SamplingRate()
    nominal = NominalPopulation(s)
    assert nominal.weight.sum() == pytest.approx(10)
    empty = np.zeros((3, 2))
    share = nominal.share(np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]), empty)
    assert share[0] > 0.9 and share[2] < 0.1
    waiting = nominal.share(np.zeros((2, 2)), np.array([[3e6, 0.0], [0.0, 3e6]]))
    assert waiting[0] > waiting[1]
    alone = SamplingRateConfig(
        devices_per_service=(4,), raw_task_bits=(1e5,), device_cycles_per_bit=(80,), server_cycles_per_bit=(200,),
        device_model_accuracy=(0.8,), server_model_accuracy=(1,), accuracy_target=(0.8,),
    )  # fmt: skip
    with pytest.raises(ValueError, match="devices_per_service"):
        NominalPopulation(SamplingRate(alone))


def test_a_server_of_its_own_takes_the_shares_that_devices_assume() -> None:
    s = SamplingRate(SamplingRateConfig(share_mode="action"))
    trace = s.sample_trace(np.random.default_rng(0), CELLS, 1)
    state, exogenous = random_state(s, np.random.default_rng(2))
    policy = make_policy(s, "broadcast_price")
    policy.reset(s, trace)
    share = policy.decide(state, exogenous, np.random.default_rng(0)).share
    expected = NominalPopulation(s).share(state.accuracy_deficit, state.server_queue_bits)
    np.testing.assert_allclose(share[:, 0], expected, atol=0.011)
    constant = make_policy(s, "delay_myopic")
    constant.reset(s, trace)
    share = constant.decide(state, exogenous, np.random.default_rng(0)).share
    np.testing.assert_allclose(share, [[3 / 7, 4 / 7]] * CELLS)


def test_references_and_names() -> None:
    assert playbook_of("sampling_rate").reference == "warm_reference"
    needed = {
        "broadcast_price", "delay_myopic", "social_myopic", "static_uniform", "static_mixed", "proposed_fixed",
        "random", "local_full", "offload_full", "joint_myopic", "warm_reference",
    }  # fmt: skip
    assert needed <= set(NAMES)
    assert reference_balance_per_s(default_config()) == 0.2
    assert reference_balance_per_s(tight_config()) == 0.05
    assert reference_balance_per_s(scaled(default_config(), (50, 50))) == pytest.approx(0.02)
    with pytest.raises(ValueError, match="balance_per_s"):
        WarmReference(0.0)
    s = SamplingRate(SamplingRateConfig(share_mode="action"))
    with pytest.raises(ValueError, match="share_mode"):
        solve_slot(slot_problem(s, *random_state(s, np.random.default_rng(0))))


def test_joint_controller_knows_or_ignores_fixed_shares() -> None:
    """Fig. 7: knowing the fixed shares helps, optimal shares help more."""
    fixed = SamplingRate(SamplingRateConfig(share_mode="fixed", arrival_mean=0.75))
    trace = fixed.sample_trace(np.random.default_rng(4), 3, 60)
    aware, unaware = (play(fixed, make_policy(fixed, n), trace)["reward"] for n in ("proposed_fixed", "joint_unaware"))
    assert (aware > unaware).all()
    np.testing.assert_array_equal(aware, play(fixed, make_policy(fixed, "joint_myopic"), trace)["reward"])
    optimal = SamplingRate(dataclasses.replace(fixed.config, share_mode="optimal"))
    assert (
        play(optimal, JointMyopic(), trace)["service_delay_s"] < play(fixed, JointMyopic(), trace)["service_delay_s"]
    ).all()


def test_parametric_q_starts_as_a_myopic_device() -> None:
    s = SamplingRate()
    state, exogenous = random_state(s, np.random.default_rng(9), cells=20)
    state = dataclasses.replace(state, device_queue_bits=np.zeros((20, 10)))
    rows = s.observe(state, exogenous)["device"]
    for social in (False, True):
        learner, rule = OptionLearner(exploration=0.0, social=social), Myopic(social=social)
        for controller in (learner, rule):
            controller.reset(s, 20)
        found, expected = (c.act(rows, np.random.default_rng(0)).actions for c in (learner, rule))
        np.testing.assert_array_equal(found, expected)


def test_the_price_of_a_known_population_is_the_slots_optimum() -> None:
    """A server that has heard exactly the devices of the slot prices them as the joint optimum divides the CPU."""
    s = SamplingRate()
    state, exogenous = random_state(s, np.random.default_rng(4), cells=30)
    state = dataclasses.replace(state, device_queue_bits=np.zeros((30, 10)), server_queue_bits=np.zeros((30, 2)))
    server = PriceTellingServer(memory=5)
    server.reset(s, 30)
    rows = s.observe(state, exogenous)
    server.reports[:] = rows["device"][..., 1:3].reshape(30, 2, 5, 2)
    server.heard = 5
    silent = np.zeros((30, 1, 4), np.float32)
    told = server.act(np.concatenate([rows["server"], silent], axis=2), np.random.default_rng(0)).messages["device"]
    devices = PricedOptionLearner()
    devices.reset(s, 30)
    found = devices.act(np.concatenate([rows["device"], told], axis=2), np.random.default_rng(0)).actions
    problem = slot_problem(s, state, exogenous)
    best, priced = problem.objective_s(solve_slot(problem)), problem.objective_s(np.asarray(found))
    excess_s = priced - best
    assert excess_s.max() < 0.02 and np.median(excess_s) < 1e-6, excess_s  # shares come in steps of 1 %


def test_learned_prices_come_up_to_the_rule_that_knows_the_population() -> None:
    """Online and from nothing: priced delay after 100 slots within 1% of `broadcast_price`, far below no price."""
    s = SamplingRate()
    trace = s.sample_trace(np.random.default_rng(7), 4, 200)
    names = ("parametric_q_priced", "broadcast_price", "parametric_q", "delay_myopic")
    learned, rule, plain, selfish = (
        rollout(make_policy(s, name), s, trace, np.random.default_rng(0), warmup=100).means["priced_delay_s"].mean()
        for name in names
    )
    assert learned < 1.01 * rule < plain < 0.95 * selfish


def test_parametric_q_is_ridge_regression_towards_its_start() -> None:
    """Recursive least squares equals the closed form: minimise prior |w - w0|^2 + sum (c - w phi)^2 / noise."""
    s, rng = SamplingRate(), np.random.default_rng(3)
    learner = OptionLearner(prior_weight=2.0, noise=0.5, exploration=1.0)
    learner.reset(s, 1)
    start = learner.model.weights.copy()
    samples: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    trace = s.sample_trace(rng, 1, 40)
    for t in range(40):
        rows = s.observe(random_state(s, rng, cells=1)[0], s.exogenous(trace, t))["device"]
        actions = learner.act(rows, rng).actions
        assert actions is not None
        costs = rng.normal(size=(1, 10))
        learner.feedback(costs)
        features = learner.features(rows)[0]
        waiting = learner._caused[np.arange(10), actions[0]] * features[:, 1]
        samples.append((features, actions[0], costs[0] + waiting))
    learner.act(rows, rng)
    for n, option in ((0, 1), (7, 6)):
        mine = [(phi[n], cost[n]) for phi, actions, cost in samples if actions[n] == option]
        assert mine
        x, y = np.array([m[0] for m in mine]), np.array([m[1] for m in mine])
        w0 = start[0, n, option]
        closed = w0 + np.linalg.solve(2.0 * np.eye(5) + x.T @ x / 0.5, x.T @ (y - x @ w0) / 0.5)
        np.testing.assert_allclose(learner.model.weights[0, n, option], closed, rtol=1e-6, atol=1e-9)


def test_parametric_q_adds_the_discounted_future() -> None:
    s, rng = SamplingRate(), np.random.default_rng(3)
    state, exogenous = random_state(s, rng, cells=1)
    rows = s.observe(state, exogenous)["device"]
    learned = []
    for discount in (0.0, 0.5):
        learner = OptionLearner(discount=discount, exploration=0.0, social=False)
        learner.reset(s, 1)
        start = learner.model.weights.copy()
        best = np.einsum("bnof,bnf->bno", start, learner.features(rows)).min(axis=2)
        learner.act(rows, rng)
        learner.feedback(best * (1 - discount))  # the target is then what the start predicts
        learner.act(rows, rng)
        learned.append(np.abs(learner.model.weights - start).max())
    np.testing.assert_allclose(learned, 0.0, atol=1e-12)
    for field, value in (("discount", 1.0), ("noise", 0.0), ("exploration", 2.0)):
        with pytest.raises(ValueError, match=field):
            OptionLearner(**{field: value})


@pytest.mark.parametrize(
    ("name", "role", "controller", "fields"),
    [
        ("sampling_rate", "server", "parametric_q_priced", {"share_mode": "action"}),
        ("sequential_offloading", "device", "parametric_q_priced", {}),
        ("model_pruning", "device", "cell_plan", {}),
    ],
)
def test_who_waits_for_a_message_is_refused_beside_those_who_send_none(
    name: str, role: str, controller: str, fields: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match=f"role '{role}' waits for messages of .+ entries"):
        check_fixed(make_scenario(name, **fields), {role: controller})


@pytest.mark.parametrize(
    ("name", "team", "role"),
    [
        ("model_pruning", "cell_plan_static_50", "gateway"),
        ("model_pruning", "bandit_q", "gateway"),
        ("model_pruning", "parametric_q", "gateway"),
        ("model_placement", "cell_plan", "device"),
        ("model_placement", "parametric_q_priced", "device"),
        ("model_placement", "cell_plan_priced", "gateway"),
    ],
)
def test_members_of_a_team_say_what_they_wait_for(name: str, team: str, role: str) -> None:
    scenario = make_scenario(name)
    members = make_policy(scenario, team).controllers  # type: ignore[attr-defined]
    for controller in members.values():
        controller.reset(scenario, 1)
    told = {sender: controller.messages for sender, controller in members.items()}
    check_heard(members, told)
    for sender in members[role].hears:
        with pytest.raises(ValueError, match=f"role '{role}' waits for messages of .+ entries"):
            check_heard({role: members[role]}, {who: said for who, said in told.items() if who != sender})
    other = next(who for who in scenario.roles if who not in members[role].hears)
    with pytest.raises(ValueError, match=f"does not expect the messages of the controller of role '{other}'"):
        check_heard({role: members[role]}, {**told, other: {role: 1}})
