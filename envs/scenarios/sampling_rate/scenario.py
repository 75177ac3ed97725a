"""Accuracy-guaranteed inference with adaptive sampling (W. Wu, P. Yang, W. Zhang, C. Zhou, X. Shen, IEEE TII, 2021).

N devices serve M inference services. Once per slot a device picks its sampling rate (less data, less accuracy) and
where the DNN runs: compressed on the device, or whole at the server, which divides its CPU over the services. Delay is
minimised; a deficit queue per service keeps its long-run mean accuracy. Numbers in brackets are the paper's equations;
E1..E17 are the errata listed in docs/sampling_rate.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

import gymnasium
import numpy as np

from edgemarl.envs.actions import check_given, checked_actions
from edgemarl.envs.arrays import Array
from edgemarl.envs.capabilities import Portrait, Portrayed
from edgemarl.envs.physics.allocation import (
    corrected_shares,
    proportional_shares,
    softmax_shares,
    square_root_shares,
)
from edgemarl.envs.physics.processes import markov_channel, uniform_arrivals
from edgemarl.envs.physics.radio import shannon_rate_bps
from edgemarl.envs.scenario import Role, Scenario, Signalling, Step
from edgemarl.envs.scenarios.sampling_rate.config import (
    SamplingRateConfig,
    accuracy_prices_s,
    training_balance_per_s,
)
from edgemarl.envs.scenarios.sampling_rate.entries import SamplingEntries
from edgemarl.envs.scenarios.sampling_rate.slot import (
    BEST,
    CORRECTED,
    DETAILS,
    FIXED,
    GIVEN,
    PARTS,
    SERVICE_PARTS,
    SUMS,
    SamplingConstants,
    Services,
    run_slot,
)
from edgemarl.envs.trace import Trace, drawn

WORK_MAX = 10.0
"""Slots of backlog, and accuracy deficit, above which an observation saturates."""
RATIO_MAX = 2.0
"""Rate and batch, relative to their largest ordinary value, above which an observation saturates."""
DEFICIT_MIDDLE = 0.15
"""Deficit at which the training price of accuracy equals its multiplier."""
SHORTFALL_TOLERANCE = 0.005
"""Relative accuracy shortfall of an episode that counts as an error (E10)."""


@dataclass(frozen=True)
class SamplingRateState:
    device_queue_bits: Array  # (B, N) B_n
    server_queue_bits: Array  # (B, M) Q_m
    accuracy_deficit: Array  # (B, M) Z_m


@dataclass(frozen=True)
class SamplingRateTrace(Trace):
    channel_gain: Array = drawn("slot", "-", "num_devices", process="markov_channel", low=0.0, high=1.0)
    arrival_rate: Array = drawn("slot", "task/slot", "num_devices", process="uniform_arrivals", low=0.0)


@dataclass(frozen=True)
class SamplingRateExogenous:
    channel_gain: Array  # (B, N) visible before acting
    arrival_rate: Array  # (B, N) visible before acting


@dataclass(frozen=True)
class SamplingRateDecisions:
    rate_level: Array  # (B, N) int, k = 1..K
    local: Array  # (B, N) int or bool, o: 1 = compute on the device, 0 = offload
    share: Array | None = None  # (B, M) CPU shares, read where the server acts; None: Theorem 1, if "corrected"
    share_weight: Array | None = None  # (B, M) > 0, factors on the shares of Theorem 1, read in share_mode="corrected"


class SamplingRate(
    Scenario[SamplingRateConfig, SamplingRateState, SamplingRateTrace, SamplingRateExogenous, SamplingRateDecisions],
    SamplingEntries,
    Portrayed,
):
    """The scenario; see the module's docstring. The cost of a slot is minus the reward (20)."""

    name = "sampling_rate"
    title = "Accuracy-guaranteed inference with adaptive sampling rates"
    paper = "W. Wu, P. Yang, W. Zhang, C. Zhou, X. Shen, IEEE Transactions on Industrial Informatics (2021)"
    config_type = SamplingRateConfig
    state_type = SamplingRateState
    trace_type = SamplingRateTrace
    exogenous_type = SamplingRateExogenous
    decisions_type = SamplingRateDecisions
    reward_modes = ("local", "priced", "multiplier", "team")
    joint_reward_modes = ("team", "multiplier")
    cost_metric = "priced_delay_s"
    cost_label = "priced delay per slot [s]"
    summary_metrics = MappingProxyType(
        {
            "service delay [s]": ("service_delay_s",),
            "accuracy shortfall [-]": ("accuracy_shortfall",),
            "tasks computed locally [-]": ("local_task_ratio",),
            "accuracy error probability [-]": ("accuracy_error",),
            "delay per device [s]": ("delay_per_device_s",),
            "edge backlog [bit]": ("server_queue_bits_total",),
            "server load [-]": ("server_utilisation",),
            "overflows [1/slot]": ("device_overflow_count", "server_overflow_count"),
        }
    )
    backlog_metrics = MappingProxyType(
        {
            "queues of the devices [bit/device]": "device_queue_bits_mean",
            "queues of the server [bit]": "server_queue_bits_total",
        }
    )

    config: SamplingRateConfig

    # --- constants as arrays ----------------------------------------------------------------------------------------

    @cached_property
    def service(self) -> Array:
        """(N,) m(n): devices are numbered service by service."""
        return np.repeat(np.arange(self.config.num_services), self.config.devices_per_service)

    @cached_property
    def service_size(self) -> Array:
        """(M,) N_m as floats."""
        return np.asarray(self.config.devices_per_service, np.float64)

    @cached_property
    def _starts(self) -> Array:
        return np.concatenate([[0], np.cumsum(self.config.devices_per_service)[:-1]])

    def per_service(self, values: Array) -> Array:
        """Sums over the devices of each service: (.., N) -> (.., M)."""
        return np.asarray(np.add.reduceat(values, self._starts, axis=-1))

    @cached_property
    def raw_bits_per_task(self) -> Array:
        """(N,) nu of each device's service."""
        return np.asarray(self.config.raw_task_bits)[self.service]

    @cached_property
    def device_bits_per_slot(self) -> Array:
        """(N,) f_n tau / eta_{m,c}: bits that a device can work off in one slot."""
        c = self.config
        return c.device_hz * c.slot_s / np.asarray(c.device_cycles_per_bit)[self.service]

    @cached_property
    def server_cycles_per_bit(self) -> Array:
        """(M,) eta_{m,u}."""
        return np.asarray(self.config.server_cycles_per_bit, np.float64)

    @cached_property
    def accuracy_of_options(self) -> Array:
        """(M, 2K) accuracy (12) of each option: offloaded at rates 1..K, then local at rates 1..K."""
        c = self.config
        return np.concatenate(
            [np.outer(c.server_model_accuracy, c.rate_accuracy), np.outer(c.device_model_accuracy, c.rate_accuracy)],
            axis=1,
        )

    @cached_property
    def accuracy_target(self) -> Array:
        """(M,) A_m^th."""
        return np.asarray(self.config.accuracy_target, np.float64)

    @cached_property
    def fixed_share(self) -> Array:
        """(M,) shares proportional to the services' cycles per task at the full rate, N_m nu_m eta_{m,u}."""
        return proportional_shares(
            self.service_size * np.asarray(self.config.raw_task_bits) * self.server_cycles_per_bit
        )

    @cached_property
    def accuracy_price_s(self) -> Array:
        """(M,) mu of `priced_delay_s`."""
        return np.asarray(accuracy_prices_s(self.config))

    @cached_property
    def rate_bps_max(self) -> float:
        """Link rate at the best ordinary gain, which an observation shows as 1."""
        return float(self.link_rate_bps(np.asarray(max(self.config.channel_gains))))

    # --- spaces -----------------------------------------------------------------------------------------------------

    @cached_property
    def roles(self) -> dict[str, Role]:
        c = self.config
        broadcast = [WORK_MAX] * (2 * c.num_services)
        device = _box([WORK_MAX, RATIO_MAX, RATIO_MAX, *[1.0] * c.num_services, *broadcast])
        roles = {"device": Role("device", c.num_devices, device, gymnasium.spaces.Discrete(2 * c.num_rates))}
        if c.server_acts:
            roles["server"] = Role("server", 1, _box(broadcast), self._share_space)
        return roles

    @property
    def ledger(self) -> dict[str, int]:
        return {"device": self.config.num_devices, "server": 1}

    @cached_property
    def _share_space(self) -> gymnasium.spaces.Box:
        return gymnasium.spaces.Box(-1.0, 1.0, (self.config.num_services,), np.float32)

    @cached_property
    def central_space(self) -> gymnasium.spaces.Box:
        c = self.config
        entries = 2 * c.num_devices + (c.num_services if c.share_mode == "action" else 0)
        return gymnasium.spaces.Box(-1.0, 1.0, (entries,), np.float32)

    @cached_property
    def central_discrete_space(self) -> gymnasium.spaces.MultiDiscrete:
        """The devices' own action indices: what a centralized controller may give instead of `central_space`."""
        return gymnasium.spaces.MultiDiscrete([2 * self.config.num_rates] * self.config.num_devices)

    @cached_property
    def global_state_space(self) -> gymnasium.spaces.Box:
        n, m = self.config.num_devices, self.config.num_services
        return _box([WORK_MAX] * n + [RATIO_MAX] * (2 * n) + [WORK_MAX] * (2 * m))

    @property
    def horizon(self) -> int:
        return self.config.horizon_slots

    # --- randomness -------------------------------------------------------------------------------------------------

    def sample_cell(self, rng: np.random.Generator, slots: int) -> dict[str, Array]:
        c = self.config
        channels, arrivals = rng.spawn(2)
        states = markov_channel(channels, np.asarray(c.channel_transition), slots + 1, c.num_devices)
        rates = uniform_arrivals(arrivals, c.arrival_mean, c.arrival_half_width, (slots + 1, c.num_devices))
        return {"channel_gain": np.asarray(c.channel_gains)[states], "arrival_rate": rates}

    def check_trace(self, trace: SamplingRateTrace) -> None:
        super().check_trace(trace)
        if (trace.channel_gain <= 0.0).any():
            raise ValueError("trace field channel_gain holds 0; every value must be > 0 (a gain of 0 never delivers)")

    def initial_state(self, trace: SamplingRateTrace) -> SamplingRateState:
        cells, m = trace.cells, self.config.num_services
        return SamplingRateState(np.zeros((cells, self.config.num_devices)), np.zeros((cells, m)), np.zeros((cells, m)))

    # --- information ------------------------------------------------------------------------------------------------

    def _own(self, state: SamplingRateState, exogenous: SamplingRateExogenous) -> tuple[Array, Array, Array]:
        """Normalised backlog, link rate and raw batch of every device, each (B, N)."""
        queue = state.device_queue_bits / self.device_bits_per_slot
        rate = self.link_rate_bps(exogenous.channel_gain) / self.rate_bps_max
        batch = exogenous.arrival_rate / self.config.arrival_max
        return np.clip(queue, 0.0, WORK_MAX), np.clip(rate, 0.0, RATIO_MAX), np.clip(batch, 0.0, RATIO_MAX)

    @cached_property
    def server_bits_per_slot(self) -> Array:
        """(M,) f_b tau / eta_{m,u}: bits that the whole server can work off in one slot."""
        return self.config.server_hz * self.config.slot_s / self.server_cycles_per_bit

    def _broadcast(self, state: SamplingRateState) -> tuple[Array, Array]:
        """Normalised deficits and server backlogs, each (B, M)."""
        queue = state.server_queue_bits / self.server_bits_per_slot
        return np.clip(state.accuracy_deficit, 0.0, WORK_MAX), np.clip(queue, 0.0, WORK_MAX)

    def observe(self, state: SamplingRateState, exogenous: SamplingRateExogenous) -> dict[str, Array]:
        m = self.config.num_services
        deficit, backlog = self._broadcast(state)
        row = np.zeros((len(deficit), self.config.num_devices, 3 + 3 * m), np.float32)
        row[..., 0], row[..., 1], row[..., 2] = self._own(state, exogenous)
        row[..., 3 : 3 + m] = np.eye(m)[self.service]
        row[..., 3 + m : 3 + 2 * m] = deficit[:, None]
        row[..., 3 + 2 * m :] = backlog[:, None]
        rows = {"device": row}
        if "server" in self.roles:
            rows["server"] = np.concatenate([deficit, backlog], axis=1).astype(np.float32)[:, None]
        return rows

    def global_state(self, state: SamplingRateState, exogenous: SamplingRateExogenous) -> Array:
        deficit, backlog = self._broadcast(state)
        row: Array = np.concatenate([*self._own(state, exogenous), backlog, deficit], axis=1).astype(np.float32)
        return row

    def portrait(self, state: SamplingRateState, exogenous: SamplingRateExogenous) -> dict[str, Portrait]:
        c = self.config
        work = (state.device_queue_bits + self.raw_bits(exogenous.arrival_rate)) / self.device_bits_per_slot
        backlog = (state.server_queue_bits / self.server_bits_per_slot).sum(axis=1, keepdims=True)
        return {
            "device": Portrait(
                work,
                "backlog and full batch [slot of own CPU]",
                2.0,
                link=np.minimum(self.link_rate_bps(exogenous.channel_gain) / self.rate_bps_max, 1.0),
                link_label=f"rate of {c.bandwidth_hz / c.num_devices / 1e6:g} MHz",
            ),
            "server": Portrait(backlog, "server backlog [slot]", 1.0),
        }

    # --- actions ----------------------------------------------------------------------------------------------------

    def decode(
        self, state: SamplingRateState, actions: Mapping[str, Array], exogenous: SamplingRateExogenous
    ) -> SamplingRateDecisions:
        check_given(actions, self.roles if self.config.share_mode == "action" else ["device"])
        cells, n = state.device_queue_bits.shape
        option = checked_actions("device", n, self.roles["device"].action_space, actions["device"], cells)
        decisions = self.decisions_of(option)
        if "server" not in actions:
            return decisions
        logits = checked_actions("server", 1, self._share_space, actions["server"], cells)[:, 0]
        if self.config.share_mode == "action":
            return replace(decisions, share=softmax_shares(logits, self.config.share_logit_scale))
        if self.config.share_mode == "corrected":
            return replace(decisions, share_weight=np.exp(self.config.share_logit_scale * logits))
        return decisions  # the server decides nothing: its action is checked and ignored

    def decisions_of(self, option: Array, share: Array | None = None) -> SamplingRateDecisions:
        """Decisions of action indices a (B, N): level a mod K + 1, local a div K; shares (B, M) if they are given."""
        rates = self.config.num_rates
        return SamplingRateDecisions(option % rates + 1, option // rates, share)

    def decode_central(
        self, state: SamplingRateState, action: Array, exogenous: SamplingRateExogenous
    ) -> SamplingRateDecisions:
        c, who = self.config, "the centralized controller"
        cells, n = state.device_queue_bits.shape
        values = np.asarray(action)
        if values.dtype.kind in "iu" and values.shape[1:] == (n,) and c.share_mode != "action":
            return self.decisions_of(checked_actions(who, 0, self.central_discrete_space, values, cells))
        joint = checked_actions(who, 0, self.central_space, values, cells)
        level = np.minimum(c.num_rates, 1 + np.floor((joint[:, :n] + 1.0) / 2.0 * c.num_rates)).astype(np.int64)
        share = softmax_shares(joint[:, 2 * n :], c.share_logit_scale) if c.share_mode == "action" else None
        return SamplingRateDecisions(level, (joint[:, n : 2 * n] > 0.0).astype(np.int64), share)

    # --- one slot ---------------------------------------------------------------------------------------------------

    def link_rate_bps(self, channel_gain: Array) -> Array:
        """Rate R_n (5) in bit/s of an equal share W/N of the band, any shape."""
        c = self.config
        band_hz = c.bandwidth_hz / c.num_devices
        return shannon_rate_bps(
            band_hz, channel_gain / (c.noise_figure * c.noise_density_w_per_hz * band_hz), c.transmit_power_w
        )

    def raw_bits(self, arrival_rate: Array) -> Array:
        """Bits (B, N) of the slot's batch at the full sampling rate."""
        return arrival_rate * self.raw_bits_per_task

    def device_accuracy(self, decisions: SamplingRateDecisions) -> Array:
        """Accuracy (12) that each device's decision gives, (B, N)."""
        option = np.asarray(decisions.local, np.int64) * self.config.num_rates + decisions.rate_level - 1
        return np.asarray(self.accuracy_of_options[self.service, option])

    def service_accuracy(self, decisions: SamplingRateDecisions) -> Array:
        """Mean accuracy A_m of each service, (B, M); a device with an empty batch counts."""
        return self.per_service(self.device_accuracy(decisions)) / self.service_size

    def option_costs_s(
        self, queue_bits: Array, rate_bps: Array, raw_bits: Array, deficit_price_s: Array, service: Array | None = None
    ) -> tuple[Array, Array]:
        """What each of a device's 2K options costs in s apart from the server's time, and the bits it sends there.

        The cost is the local delay (1) and its overflow penalty, or the upload delay (4), plus the priced accuracy
        that is missed, price (A_m^th - acc) / N_m.

        Args:
            queue_bits: backlog B_n, (.., n).
            rate_bps: link rate R_n, (.., n).
            raw_bits: batch at the full sampling rate, (.., n).
            deficit_price_s: price of a unit of service accuracy, Z_m / V of each device's service, (.., n).
            service: (n,) service of each device; default: the scenario's own devices.

        Returns:
            cost_s and offloaded_bits, (.., n, 2K) in the order of the action indices.
        """
        c, rates = self.config, self.config.num_rates
        service = self.service if service is None else service
        batch = np.asarray(raw_bits)[..., None] * (np.arange(1, rates + 1) / rates)
        capacity = (c.device_hz * c.slot_s / np.asarray(c.device_cycles_per_bit))[service][:, None]
        work = np.asarray(queue_bits)[..., None] + batch
        overflow = work - capacity > c.device_queue_limit_bits
        on_device = work / capacity * c.slot_s + c.overflow_penalty_s * overflow
        uploaded = batch / np.asarray(rate_bps)[..., None]
        price = np.asarray(deficit_price_s / self.service_size[service])[..., None]
        missing = self.accuracy_target[service][:, None] - self.accuracy_of_options[service]
        cost = np.concatenate([uploaded, on_device], axis=-1) + price * missing
        return cost, np.concatenate([batch, np.zeros_like(batch)], axis=-1)

    def charged_count(self, local: Array) -> Array:
        """(B, M) n_m: devices that wait for each other at the server, all of the service or those that offload (E2)."""
        if self.config.wait_mode == "literal":
            return np.broadcast_to(self.service_size, (len(local), self.config.num_services))
        return self.per_service(1.0 - local)

    def server_load_cycles(self, offloaded_bits: Array, backlog_bits: Array, charged: Array) -> Array:
        """L_m of (26) in cycles: eta ((n_m + 1)/2 a_m + n_m Q_m), any shape (.., M).

        The server's part of the delay is sum L_m / (c_m f_b). The backlog counts once per waiting device (E3).
        """
        result: Array = self.server_cycles_per_bit * ((charged + 1.0) / 2.0 * offloaded_bits + charged * backlog_bits)
        return result

    def shares(
        self,
        offloaded_bits: Array,
        backlog_bits: Array,
        charged: Array,
        given: Array | None,
        weight: Array | None = None,
    ) -> Array:
        """CPU shares c (B, M) of the slot under `share_mode`.

        Args:
            offloaded_bits: a_m (B, M).
            backlog_bits: Q_m (B, M).
            charged: n_m (B, M); at least 1 is used, so that a backlog that nobody adds to is served.
            given: the server's own shares (B, M), read where it acts; in mode "corrected" None means Theorem 1.
            weight: factors (B, M) on the shares of Theorem 1, read in mode "corrected".
        """
        mode = self.config.share_mode
        if mode == "fixed":
            return np.broadcast_to(self.fixed_share, offloaded_bits.shape)
        if mode == "action":
            if given is None:
                raise ValueError("decisions carry no share, which share_mode = 'action' needs: (cells, services)")
            return proportional_shares(given)
        if mode == "corrected" and given is not None:
            return proportional_shares(given)
        best = square_root_shares(self.server_load_cycles(offloaded_bits, backlog_bits, np.maximum(charged, 1.0)))
        return corrected_shares(best, weight) if mode == "corrected" else best

    def step(
        self, state: SamplingRateState, decisions: SamplingRateDecisions, exogenous: SamplingRateExogenous
    ) -> Step[SamplingRateState]:
        c = self.config
        cells, n, m = len(state.device_queue_bits), c.num_devices, c.num_services
        rule, given = self._rule(decisions)
        parts, service = np.empty((len(PARTS), cells * n)), np.empty((len(SERVICE_PARTS), cells * m))
        sums, counts = np.empty((len(SUMS), cells)), np.empty((2, cells), np.int64)
        server_cost, by_service = np.empty((cells, 1)), np.empty((m, 3, cells))
        run_slot(
            _flat(state.device_queue_bits),
            _flat(state.server_queue_bits),
            _flat(state.accuracy_deficit),
            _flat(self.link_rate_bps(exogenous.channel_gain)),
            _flat(exogenous.arrival_rate),
            np.ascontiguousarray(decisions.rate_level, np.int64).reshape(-1),
            np.ascontiguousarray(np.asarray(decisions.local) != 0).reshape(-1),
            given, rule, self._services, self._constants, parts, service, sums, counts, server_cost, by_service,
        )  # fmt: skip
        part = dict(zip(PARTS, parts.reshape(-1, cells, n), strict=True))
        of_service = dict(zip(SERVICE_PARTS, service.reshape(-1, cells, m), strict=True))
        costs = {"device": part.pop("cost"), "server": server_cost}
        next_state = SamplingRateState(part.pop("queue_bits"), of_service.pop("queue_bits"), of_service.pop("deficit"))
        details = {name: part[name] if name in part else of_service[name] for name in DETAILS}
        details["accuracy_deficit"] = state.accuracy_deficit  # (B, M) that the slot was booked with
        return Step(next_state, costs, self._metrics(sums, counts, by_service), details)

    def shifted_price_s(self, deficit: Array) -> Array:
        """(.., M) training price of service accuracy in s: the multipliers, shifted by the deficits Z (.., M)."""
        shift = (deficit - DEFICIT_MIDDLE) / training_balance_per_s(self.config)
        return np.maximum(0.0, self.accuracy_price_s + shift)

    def _rule(self, decisions: SamplingRateDecisions) -> tuple[int, Array]:
        """Who divides the server's CPU, and the shares or weights (B M,) of the decisions that it takes."""
        mode, share, weight = self.config.share_mode, decisions.share, decisions.share_weight
        if mode == "fixed":
            return FIXED, np.empty(0)
        if mode == "action" and share is None:
            raise ValueError("decisions carry no share, which share_mode = 'action' needs: (cells, services)")
        if mode != "optimal" and share is not None:
            return GIVEN, _flat(share)
        return (BEST, np.empty(0)) if mode == "optimal" or weight is None else (CORRECTED, _flat(weight))

    @cached_property
    def _constants(self) -> SamplingConstants:
        c = self.config
        return SamplingConstants(
            slot_s=c.slot_s,
            num_rates=float(c.num_rates),
            server_hz=c.server_hz,
            device_queue_limit_bits=c.device_queue_limit_bits,
            server_queue_limit_bits=c.server_queue_limit_bits,
            overflow_penalty_s=c.overflow_penalty_s,
            balance_per_s=c.balance_per_s,
            literal_wait=float(c.wait_mode == "literal"),
        )

    @cached_property
    def _services(self) -> Services:
        first = self._starts
        return Services(
            ends=np.append(first, self.config.num_devices).astype(np.int64),
            size=self.service_size,
            raw_bits_per_task=np.asarray(self.config.raw_task_bits, np.float64),
            device_bits_per_slot=np.ascontiguousarray(self.device_bits_per_slot[first]),
            server_cycles_per_bit=self.server_cycles_per_bit,
            server_bits_per_slot=self.server_bits_per_slot,
            accuracy_target=self.accuracy_target,
            fixed_share=self.fixed_share,
            accuracy_of_options=self.accuracy_of_options,
        )

    def _metrics(self, sums: Array, counts: Array, by_service: Array) -> dict[str, Array]:
        named = dict(zip(SUMS, sums, strict=True))
        delays = {name: named.pop(name) for name in SUMS[: SUMS.index("reward")]}
        overflows = {"device_overflow_count": counts[0], "server_overflow_count": counts[1]}
        of_service = {
            f"{name}_{m}": by_service[m, i]
            for m in range(self.config.num_services)
            for i, name in enumerate(("accuracy", "accuracy_deficit", "share"))
        }
        return {**delays, **overflows, **named, **of_service}

    def rewards(self, step: Step[SamplingRateState], mode: str = "local") -> dict[str, Array]:
        """As the contract; two further modes.

        "priced": a device's own entry and V times the waiting of the others of its service for its bits (10), at the
        slot's shares. Its effect on the shares counts for nothing where they are the best ones (envelope theorem).

        "multiplier": the own entry with missed accuracy at `shifted_price_s` in place of Z/V, so that learners are
        paid, slot by slot, by what `priced_delay_s` compares over an episode; its sum judges joint actions too.
        """
        rewards = super().rewards(step, "local" if mode in ("priced", "multiplier") else mode)
        if mode == "priced":
            rewards["device"] = rewards["device"] - self.config.balance_per_s * self.waiting_caused_s(step)
        if mode == "multiplier":
            deficit = step.details["accuracy_deficit"]
            further = (self.config.balance_per_s * self.shifted_price_s(deficit) - deficit) / self.service_size
            missed = self.accuracy_target[self.service] - step.details["device_accuracy"]
            rewards["device"] = rewards["device"] - further[:, self.service] * missed
        return rewards

    def waiting_caused_s(self, step: Step[SamplingRateState]) -> Array:
        """(B, N) seconds that the others of its service wait for the bits of each device: eta (n_m - 1)/2 y / (c f_b).

        All bits of a service make as many wait for as long, so that a device causes its share of them of the service's
        waiting (10).
        """
        sent, offloaded = step.details["device_sent_bits"], step.details["offloaded_bits"]
        waited_s = self.per_service(step.details["device_wait_delay_s"])
        per_bit_s = np.divide(waited_s, offloaded, out=np.zeros_like(waited_s), where=offloaded > 0.0)
        return np.asarray(per_bit_s[:, self.service] * sent)

    def episode_metrics(self, means: Mapping[str, Array]) -> dict[str, Array]:
        """`priced_delay_s`, `accuracy_shortfall_m`, their largest, and `accuracy_error`, 0 or 1 (its mean: E10)."""
        accuracy = np.stack([means[f"accuracy_{m}"] for m in range(self.config.num_services)], axis=-1)
        missed = np.maximum(self.accuracy_target - accuracy, 0.0)
        shortfall = np.divide(missed, self.accuracy_target, out=np.zeros_like(missed), where=missed > 0.0)
        return {
            "priced_delay_s": means["service_delay_s"] + missed @ self.accuracy_price_s,
            **{f"accuracy_shortfall_{m}": shortfall[..., m] for m in range(self.config.num_services)},
            "accuracy_shortfall": shortfall.max(axis=-1),
            "accuracy_error": (shortfall > SHORTFALL_TOLERANCE).any(axis=-1).astype(np.float64),
        }

    def cost_parts(self, means: Mapping[str, Array]) -> dict[str, Array]:
        """The five delays, the overflows and what is missed of the accuracy, each at its price, in seconds."""
        overflows = means["device_overflow_count"] + means["server_overflow_count"]
        return {
            "computing on devices": means["local_delay_s"],
            "sending": means["offload_delay_s"],
            "computing on the server": means["process_delay_s"],
            "backlog of the server": means["queue_delay_s"],
            "tasks ahead in the slot": means["wait_delay_s"],
            "overflows": self.config.overflow_penalty_s * overflows,
            "missed accuracy": means["priced_delay_s"] - means["service_delay_s"],
        }

    def signalling(self) -> Signalling:
        c = self.config
        n, m = float(c.num_devices), float(c.num_services)
        uplink = {"device -> server: action": n}
        if c.shares_by_theorem:
            uplink["device -> server: offloaded bits"] = 4.0 * n
        return Signalling(
            decentralized={**uplink, "server -> device: accuracy deficits, backlogs": 8.0 * m},
            centralized={
                "device -> server: backlog, link rate, raw batch": 12.0 * n,
                "server -> device: action": n,
            },
        )


def _flat(values: Array) -> Array:
    """As compiled code takes them; no copy if they are so already."""
    return np.ascontiguousarray(values, np.float64).reshape(-1)


def _box(high: list[float]) -> gymnasium.spaces.Box:
    return gymnasium.spaces.Box(np.zeros(len(high), np.float32), np.asarray(high, np.float32), dtype=np.float32)
