"""Sensors along a corridor share one access point; each decides in every slot how much of its backlog it offers.

A slot carries at most `capacity_bits`. What all sensors offer beyond it is lost for the slot: offers shrink in
proportion, and every sensor pays for the energy of what it offered. Far sensors need more energy per bit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import gymnasium
import numpy as np

from edgemarl.envs import Array, Role, Scenario, Signalling, Step, Trace, config_class, drawn, quantity
from edgemarl.envs.actions import checked_actions


@config_class
class CorridorConfig:
    num_devices: int = quantity(6, "-", "sensors along the corridor", ge=1, le=10_000)
    arrival_bits: float = quantity(1e3, "bit/slot", "mean data of a sensor", gt=0, le=1e12)
    capacity_bits: float = quantity(5e3, "bit/slot", "what the access point carries in a slot", gt=0, le=1e15)
    energy_per_bit_j: float = quantity(
        1e-6, "J/bit", "energy of the nearest sensor; the farthest needs twice as much", ge=0, le=1
    )
    backlog_weight: float = quantity(1e-3, "1/bit", "cost of a waiting bit", ge=0, le=1)
    energy_weight: float = quantity(500.0, "1/J", "cost of energy", ge=0, le=1e9)
    horizon_slots: int = quantity(50, "slot", "slots of an episode", ge=1, le=100_000)


@dataclass(frozen=True)
class CorridorState:
    backlog_bits: Array  # (B, n)


@dataclass(frozen=True)
class CorridorTrace(Trace):
    arrived_bits: Array = drawn("slot", "bit", "num_devices", process="exponential", low=0.0)


@dataclass(frozen=True)
class CorridorExogenous:
    arrived_bits: Array  # (B, n)


@dataclass(frozen=True)
class CorridorDecisions:
    offered_bits: Array  # (B, n)


class Corridor(Scenario[CorridorConfig, CorridorState, CorridorTrace, CorridorExogenous, CorridorDecisions]):
    """The scenario; see the module's docstring."""

    name = "corridor"
    title = "Sensors along a corridor"
    paper = "an example"
    config_type = CorridorConfig
    state_type = CorridorState
    trace_type = CorridorTrace
    exogenous_type = CorridorExogenous
    decisions_type = CorridorDecisions
    playbook = "corridor.playbook:PLAYBOOK"

    @cached_property
    def roles(self) -> dict[str, Role]:
        rows = gymnasium.spaces.Box(0.0, 1.0, (2,), np.float32)
        share = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)
        return {"device": Role("device", self.config.num_devices, rows, share)}

    @property
    def central_space(self) -> gymnasium.Space[Array]:
        return gymnasium.spaces.Box(0.0, 1.0, (self.config.num_devices,), np.float32)

    @property
    def global_state_space(self) -> gymnasium.spaces.Box:
        return gymnasium.spaces.Box(0.0, 1.0, (self.config.num_devices,), np.float32)

    @property
    def horizon(self) -> int:
        return self.config.horizon_slots

    @property
    def cost_divisor(self) -> float:
        return float(self.config.num_devices)

    @property
    def energy_per_bit_j(self) -> Array:
        """(n,) J/bit, from the nearest to the farthest sensor."""
        return self.config.energy_per_bit_j * np.linspace(1.0, 2.0, self.config.num_devices)

    def sample_cell(self, rng: np.random.Generator, slots: int) -> dict[str, Array]:
        shape = (slots + 1, self.config.num_devices)
        return {"arrived_bits": rng.exponential(self.config.arrival_bits, shape)}

    def initial_state(self, trace: CorridorTrace) -> CorridorState:
        return CorridorState(np.zeros((trace.cells, self.config.num_devices)))

    def _waiting(self, state: CorridorState, exogenous: CorridorExogenous) -> Array:
        return state.backlog_bits + exogenous.arrived_bits

    def _shown(self, bits: Array) -> Array:
        """Bits as a number from 0 to 1, half of it at three slots' arrivals."""
        return bits / (bits + 3.0 * self.config.arrival_bits)

    def observe(self, state: CorridorState, exogenous: CorridorExogenous) -> dict[str, Array]:
        waiting = self._shown(self._waiting(state, exogenous))
        place = np.broadcast_to(np.linspace(0.0, 1.0, self.config.num_devices), waiting.shape)
        return {"device": np.stack([waiting, place], axis=2).astype(np.float32)}

    def global_state(self, state: CorridorState, exogenous: CorridorExogenous) -> Array:
        return self._shown(self._waiting(state, exogenous)).astype(np.float32)

    def decode(
        self, state: CorridorState, actions: Mapping[str, Array], exogenous: CorridorExogenous
    ) -> CorridorDecisions:
        if "device" not in actions:
            raise ValueError("no action of role 'device'")
        role = self.roles["device"]
        share = checked_actions("device", role.count, role.action_space, actions["device"], len(state.backlog_bits))
        return CorridorDecisions(share[..., 0] * self._waiting(state, exogenous))

    def decode_central(self, state: CorridorState, action: Array, exogenous: CorridorExogenous) -> CorridorDecisions:
        share = checked_actions("the controller", 0, self.central_space, action, len(state.backlog_bits))
        return CorridorDecisions(share * self._waiting(state, exogenous))

    def step(
        self, state: CorridorState, decisions: CorridorDecisions, exogenous: CorridorExogenous
    ) -> Step[CorridorState]:
        c = self.config
        offered = decisions.offered_bits
        total = offered.sum(axis=1, keepdims=True)
        carried = offered * np.minimum(1.0, c.capacity_bits / np.maximum(total, 1e-300))
        backlog = self._waiting(state, exogenous) - carried
        energy_j = offered * self.energy_per_bit_j
        cost = c.backlog_weight * backlog + c.energy_weight * energy_j
        metrics = {"cost": cost.sum(axis=1), "backlog": backlog.sum(axis=1), "energy [J]": energy_j.sum(axis=1)}
        return Step(CorridorState(backlog), {"device": cost}, metrics)

    def signalling(self) -> Signalling:
        return Signalling({}, {"backlogs and offers": 8.0 * self.config.num_devices})


def at_size(config: CorridorConfig, num_devices: int) -> CorridorConfig:
    """The same corridor with another number of sensors and a capacity that grows with it."""
    factor = num_devices / config.num_devices
    return dataclasses.replace(config, num_devices=num_devices, capacity_bits=config.capacity_bits * factor)
