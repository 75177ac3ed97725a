"""Near-optimal controllers of the sampling-rate scenario and a bound that no policy can beat.

The one-slot objective, -(20) / V, is a sum over devices of option costs plus the server's delay,
(sum_m sqrt(L_m))^2 / f_b, where L_m is linear in the bits that service m offloads. The server's delay is the minimum
over shares c of sum_m L_m / (c_m f_b), and for given shares the devices separate: each takes the lower envelope of its
options' lines cost + bits * price. With two services the shares are one number, so the minimum over all choices lies
between two neighbouring break points of the envelopes: the search is exact and sorts at most N K break points.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from edgemarl.agents.api import CentralController
from edgemarl.envs.arrays import Array
from edgemarl.envs.physics.queueing import virtual_queue
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.scenarios.sampling_rate import (
    SamplingRate,
    SamplingRateDecisions,
    SamplingRateExogenous,
    SamplingRateState,
    SamplingRateTrace,
)
from edgemarl.envs.scenarios.sampling_rate.config import reference_balance_per_s

SWEEPS_MAX = 50
"""Sweeps of the coordinate descent; it stops at the first that changes nothing."""


@dataclass(frozen=True)
class OptionProblem:
    """The one-slot problem of B cells.

    Attributes:
        scenario: where the devices' services and the server come from.
        cost_s: option costs without the server's time, (B, N, 2K).
        bits: offloaded bits of the options, (B, N, 2K).
        server_queue_bits: backlog Q, (B, M).
    """

    scenario: SamplingRate
    cost_s: Array
    bits: Array
    server_queue_bits: Array

    @classmethod
    def of(
        cls, scenario: SamplingRate, state: SamplingRateState, exogenous: SamplingRateExogenous, deficit_price_s: Array
    ) -> OptionProblem:
        """The problem in a state, with missed accuracy priced at `deficit_price_s` (B, M)."""
        cost, bits = scenario.option_costs_s(
            state.device_queue_bits,
            scenario.link_rate_bps(exogenous.channel_gain),
            scenario.raw_bits(exogenous.arrival_rate),
            deficit_price_s[:, scenario.service],
        )
        return cls(scenario, cost, np.broadcast_to(bits, cost.shape), state.server_queue_bits)

    def offloaded(self, options: Array) -> tuple[Array, Array]:
        """Offloaded bits a_m and devices n_m that wait at the server, (B, M) each, of choices (B, N)."""
        s = self.scenario
        sent = np.take_along_axis(self.bits, options[..., None], axis=2)[..., 0]
        return s.per_service(sent), s.charged_count(options // s.config.num_rates)

    def share(self, options: Array) -> Array:
        """The server's shares (B, M) for choices (B, N)."""
        bits, charged = self.offloaded(options)
        return self.scenario.shares(bits, self.server_queue_bits, charged, None)

    def objective_s(self, options: Array) -> Array:
        """Objective (B,) of choices (B, N) in s, under the scenario's share rule."""
        cost = np.take_along_axis(self.cost_s, options[..., None], axis=2)[..., 0].sum(axis=1)
        result: Array = cost + self.server_delay_s(*self.offloaded(options))
        return result

    def server_delay_s(self, offloaded_bits: Array, charged: Array) -> Array:
        """Process, queue and wait delay (B,) of all devices: sum_m L_m / (c_m f_b)."""
        s = self.scenario
        share = s.shares(offloaded_bits, self.server_queue_bits, charged, None)
        load = s.server_load_cycles(offloaded_bits, self.server_queue_bits, charged)
        time = np.divide(load, share, out=np.zeros_like(load), where=load > 0.0)
        return np.asarray(time.sum(axis=1) / s.config.server_hz)


def with_shares(scenario: SamplingRate, share_mode: Literal["optimal", "fixed"]) -> SamplingRate:
    """The same network under another share rule."""
    if scenario.config.share_mode == share_mode:
        return scenario
    return SamplingRate(dataclasses.replace(scenario.config, share_mode=share_mode))


def solve_slot(problem: OptionProblem) -> Array:
    """Choices (B, N) that minimise the one-slot objective.

    Exact for fixed shares, and for optimal shares of up to two services with `wait_mode="literal"`; otherwise
    coordinate descent from two starts, which can stop in a local minimum.

    Raises:
        ValueError: `share_mode="action"`, where the shares are not the solver's to know.
    """
    c = problem.scenario.config
    if c.share_mode == "action":
        raise ValueError("share_mode = 'action' is not legal for the joint optimum: must be 'optimal' or 'fixed'")
    if c.wait_mode == "literal" and c.share_mode == "fixed":
        return _separate(problem, problem.scenario.fixed_share)
    if c.wait_mode == "literal" and c.num_services == 1:
        return _separate(problem, np.ones(1))
    if c.wait_mode == "literal" and c.num_services == 2:
        return _solve_two_services(problem)
    return _coordinate_descent(problem)


def _separate(problem: OptionProblem, share: Array) -> Array:
    """Each device's cheapest option (B, N) at given shares (M,)."""
    s = problem.scenario
    price = _seconds_per_bit(s) / share
    return np.asarray(np.argmin(problem.cost_s + problem.bits * price[s.service][:, None], axis=2))


def _seconds_per_bit(s: SamplingRate) -> Array:
    """(M,) delay per offloaded bit with the whole server: eta (N_m + 1) / (2 f_b)."""
    return np.asarray(s.server_cycles_per_bit * (s.service_size + 1.0) / (2.0 * s.config.server_hz))


@dataclass(frozen=True)
class Envelope:
    """Lower envelopes of the options' lines cost + bits * price, from price infinity down to 0.

    Attributes:
        options: option of each piece, (B, N, J + 1); the first has the fewest bits.
        break_price: price at which the next piece takes over, (B, N, J), falling; -inf where there is none.
    """

    options: Array
    break_price: Array

    @classmethod
    def of(cls, cost: Array, bits: Array, pieces: int) -> Envelope:
        """Envelope of lines (B, N, O) with at most `pieces` pieces after the first."""
        fewest = bits.min(axis=2, keepdims=True)
        current = np.argmin(np.where(bits == fewest, cost, np.inf), axis=2)[..., None]
        options, breaks = [current], []
        for _ in range(pieces):
            here_cost = np.take_along_axis(cost, current, axis=2)
            more = bits - np.take_along_axis(bits, current, axis=2)
            gain = here_cost - cost
            crossing = np.divide(gain, more, out=np.full_like(more, -np.inf), where=(more > 0.0) & (gain > 0.0))
            following = np.argmax(crossing, axis=2)[..., None]
            price = np.take_along_axis(crossing, following, axis=2)
            current = np.where(price > 0.0, following, current)
            options.append(current)
            breaks.append(price)
        return cls(np.concatenate(options, axis=2), np.concatenate(breaks, axis=2))


def _solve_two_services(problem: OptionProblem) -> Array:
    """Exact choices (B, N): walk the share of service 0 from 0 to 1, one break point at a time.

    Along the walk the price of service 0 falls, so its devices step forward on their envelopes; that of service 1 rises
    and its devices step back. Every interval is a candidate, evaluated with its own optimal shares.
    """
    s = problem.scenario
    cells = len(problem.cost_s)
    envelope = Envelope.of(problem.cost_s, problem.bits, s.config.num_rates)
    cost = np.take_along_axis(problem.cost_s, envelope.options, axis=2)
    bits = np.take_along_axis(problem.bits, envelope.options, axis=2)
    forward = (s.service == 0)[None, :, None]
    share = _seconds_per_bit(s)[s.service][:, None] / envelope.break_price  # own share at the break point
    live = (share > 0.0) & (share < 1.0)
    position = np.where(live, np.where(forward, share, 1.0 - share), np.inf).reshape(cells, -1)
    order = np.argsort(position, axis=1, kind="stable")
    steps = {
        name: np.where(live, np.where(forward, 1.0, -1.0) * np.diff(line, axis=2), 0.0)
        for name, line in (("cost", cost), ("bits", bits))
    }
    start = np.where(forward[..., 0], 0, live.sum(axis=2))[..., None]  # piece of each device at share 0
    begin_bits = s.per_service(np.take_along_axis(bits, start, axis=2)[..., 0])  # (B, 2)
    total = np.take_along_axis(cost, start, axis=2)[..., 0].sum(axis=1)[:, None] + _walk(steps["cost"], order)
    offloaded = np.stack(
        [begin_bits[:, m, None] + _walk(steps["bits"] * (s.service == m)[None, :, None], order) for m in (0, 1)], axis=2
    )
    load = s.server_load_cycles(np.maximum(offloaded, 0.0), problem.server_queue_bits[:, None], s.service_size)
    objective = total + np.sqrt(load).sum(axis=2) ** 2 / s.config.server_hz
    best = np.argmin(objective, axis=1)
    rank = np.argsort(order, axis=1, kind="stable").reshape(live.shape)
    passed = (live & (rank < best[:, None, None])).sum(axis=2)
    piece = np.where(s.service == 0, passed, live.sum(axis=2) - passed)
    return np.asarray(np.take_along_axis(envelope.options, piece[..., None], axis=2)[..., 0])


def _walk(steps: Array, order: Array) -> Array:
    """Running sums (B, E + 1) of steps (B, N, J) taken in `order` (B, E), beginning with 0."""
    sorted_steps = np.take_along_axis(steps.reshape(order.shape), order, axis=1)
    return np.concatenate([np.zeros((len(order), 1)), np.cumsum(sorted_steps, axis=1)], axis=1)


def _coordinate_descent(problem: OptionProblem) -> Array:
    """Better of two descents (B, N), one device after another, from half rate offloaded and full rate local."""
    c = problem.scenario.config
    cells, n, _ = problem.cost_s.shape
    starts = (max(c.num_rates // 2 - 1, 0), 2 * c.num_rates - 1)
    descents = [_descend(problem, np.full((cells, n), option)) for option in starts]
    values = [problem.objective_s(options) for options in descents]
    return np.where((values[1] < values[0])[:, None], descents[1], descents[0])


def _descend(problem: OptionProblem, options: Array) -> Array:
    s = problem.scenario
    count = problem.cost_s.shape[2]
    for _ in range(SWEEPS_MAX):
        before = options
        for n in range(s.config.num_devices):  # sequential by definition
            tried = np.repeat(options[None], count, axis=0)
            tried[:, :, n] = np.arange(count)[:, None]
            options = options.copy()
            options[:, n] = np.argmin([problem.objective_s(t) for t in tried], axis=0)
        if (options == before).all():
            break
    return options


class JointMyopic(CentralController):
    """The minimiser of the one-slot objective, -(20), from the whole state.

    With `share_mode="action"` it sets the shares too, the optimal ones for its choices.
    """

    name = "joint_myopic"

    scenario: SamplingRate

    def reset(self, scenario: Scenario, trace: SamplingRateTrace) -> None:
        if not isinstance(scenario, SamplingRate):
            raise ValueError(f"{self.name} needs the scenario sampling_rate, got {scenario.name}")
        super().reset(scenario, trace)
        self._believed = self.believed(scenario)

    def believed(self, scenario: SamplingRate) -> SamplingRate:
        """The network that the controller plans for; it differs from the real one in `share_mode` only."""
        return scenario if scenario.config.share_mode == "fixed" else with_shares(scenario, "optimal")

    def deficit_price_s(self, state: SamplingRateState) -> Array:
        """Price of a unit of service accuracy in s, (B, M): Z_m / V."""
        return np.asarray(state.accuracy_deficit / self.scenario.config.balance_per_s)

    def decide(
        self, state: SamplingRateState, exogenous: SamplingRateExogenous, rng: np.random.Generator
    ) -> SamplingRateDecisions:
        problem = OptionProblem.of(self._believed, state, exogenous, self.deficit_price_s(state))
        options = solve_slot(problem)
        share = problem.share(options) if self.scenario.config.share_mode == "action" else None
        return self.scenario.decisions_of(options, share)


class UnawareJoint(JointMyopic):
    """`JointMyopic` that counts on optimal shares whatever the server does."""

    name = "joint_unaware"

    def believed(self, scenario: SamplingRate) -> SamplingRate:
        return with_shares(scenario, "optimal")


class ProposedFixed(JointMyopic):
    """`JointMyopic` that plans for fixed shares, the comparison of the paper's Fig. 7 where the server keeps them."""

    name = "proposed_fixed"

    def believed(self, scenario: SamplingRate) -> SamplingRate:
        return with_shares(scenario, "fixed")


class WarmReference(JointMyopic):
    """The exact minimiser with deficit queues of its own that start at their stationary level V_ref mu.

    Args:
        balance_per_s: V_ref; a larger one holds the prices steadier. Default: `reference_balance_per_s`.
    """

    name = "warm_reference"

    def __init__(self, balance_per_s: float | None = None) -> None:
        if balance_per_s is not None and balance_per_s <= 0.0:
            raise ValueError(f"balance_per_s = {balance_per_s} 1/s is not legal: must be > 0")
        self._given = balance_per_s

    def reset(self, scenario: Scenario, trace: SamplingRateTrace) -> None:
        super().reset(scenario, trace)
        self._balance = reference_balance_per_s(self.scenario.config) if self._given is None else self._given
        start = self._balance * self.scenario.accuracy_price_s
        self._deficit: Array = np.broadcast_to(start, (trace.cells, len(start)))

    def deficit_price_s(self, state: SamplingRateState) -> Array:
        return self._deficit / self._balance

    def decide(
        self, state: SamplingRateState, exogenous: SamplingRateExogenous, rng: np.random.Generator
    ) -> SamplingRateDecisions:
        decisions = super().decide(state, exogenous, rng)
        accuracy = self.scenario.service_accuracy(decisions)
        self._deficit = virtual_queue(self._deficit, self.scenario.accuracy_target, accuracy)
        return decisions

    def state_dict(self) -> dict[str, Any]:
        """The deficit queues (B, M)."""
        return {"accuracy_deficit": self._deficit.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if not state:
            return
        deficit = np.asarray(state["accuracy_deficit"], np.float64)
        if deficit.shape != self._deficit.shape:
            raise ValueError(
                f"accuracy_deficit has shape {deficit.shape}, must be (cells, services) {self._deficit.shape}"
            )
        self._deficit = deficit.copy()


class ConstantPrice(JointMyopic):
    """The exact minimiser with constant accuracy prices (M,), whatever the deficit."""

    name = "constant_price"

    def __init__(self, prices_s: Array) -> None:
        self.prices_s = np.asarray(prices_s, np.float64)

    def deficit_price_s(self, state: SamplingRateState) -> Array:
        return np.broadcast_to(self.prices_s, state.accuracy_deficit.shape)


def dual_value(scenario: SamplingRate, trace: SamplingRateTrace, prices_s: Array) -> tuple[Array, Array]:
    """Lower bound on the mean service delay of every policy that meets the accuracy targets on a trace.

    For mu >= 0 it is the mean over slots of min { D(B = 0, Q = 0) + sum_m mu_m (A_m^th - A_m) }: delay grows with the
    backlogs, and no shares are better than the optimal ones.

    Args:
        scenario: two services (or one), `wait_mode="literal"`; the bound holds for every `share_mode`.
        trace: (L + 1, B, ..); its last slot is not played and not counted.
        prices_s: mu >= 0 (M,), in s per unit of service accuracy.

    Returns:
        bound_s (B,) and its supergradient, mean A^th - A of the minimiser (B, M).

    Raises:
        ValueError: another `wait_mode`, more services, negative prices.
    """
    c, mu = scenario.config, np.asarray(prices_s, np.float64)
    if c.wait_mode != "literal" or c.num_services > 2:
        raise ValueError("the dual bound needs wait_mode = 'literal' and at most 2 services in devices_per_service")
    if mu.shape != (c.num_services,) or (mu < 0.0).any():
        raise ValueError(f"prices_s = {prices_s} s is not legal: {c.num_services} numbers >= 0")
    optimal = with_shares(scenario, "optimal")
    slots, cells = trace.slots, trace.cells
    gain, arrivals = (values[:slots].reshape(slots * cells, -1) for values in (trace.channel_gain, trace.arrival_rate))
    empty, m = np.zeros_like(gain), np.zeros((slots * cells, c.num_services))
    problem = OptionProblem.of(
        optimal,
        optimal.state_type(empty, m, m),
        optimal.exogenous_type(gain, arrivals),
        np.broadcast_to(mu, m.shape),
    )
    options = solve_slot(problem)
    missed = optimal.accuracy_target - optimal.service_accuracy(optimal.decisions_of(options))
    bound = problem.objective_s(options).reshape(slots, cells).mean(axis=0)
    return bound, missed.reshape(slots, cells, -1).mean(axis=0)


def dual_ascent(
    scenario: SamplingRate,
    trace: SamplingRateTrace,
    prices_s: Array | None = None,
    steps: int = 60,
    step_s: float | None = None,
) -> Array:
    """Prices mu (M,) near the maximum of the mean dual bound over a trace's cells.

    Args:
        scenario: as for `dual_value`.
        trace: a short one is enough.
        prices_s: start (default: the scenario's own prices).
        steps: supergradient steps.
        step_s: first step in s per unit of accuracy (default: three times the largest starting price); it falls with
            the square root of the step's number.

    Returns:
        the best prices that were met.
    """
    mu = np.asarray(scenario.accuracy_price_s if prices_s is None else prices_s, np.float64)
    first = 3.0 * max(float(mu.max()), 1.0) if step_s is None else step_s
    best, best_value = mu, -np.inf
    for i in range(steps):
        bound, missed = dual_value(scenario, trace, mu)
        if bound.mean() > best_value:
            best, best_value = mu, float(bound.mean())
        mu = np.maximum(mu + first / np.sqrt(i + 1.0) * missed.mean(axis=0), 0.0)
    return best
