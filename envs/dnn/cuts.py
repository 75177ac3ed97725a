"""What each cut of each device's network costs: local and edge work, bits on the air, memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.dnn.profiles import LayerProfile


@dataclass(frozen=True)
class CutCosts:
    """Columns for every cut 0..M of every device, (N, M+1); M is the largest L_n, cuts above L_n repeat L_n."""

    local_cycles: Array  # d: work of layers 1..l per request
    edge_cycles: Array  # D: work of layers l+1..L
    sent_bits: Array  # psi: what is sent per request
    memory_bytes: Array  # C: weighted memory on both sides, eq. (6)

    @property
    def fractions(self) -> tuple[Array, Array]:
        """Bits sent and edge work over those of cut 0, (N, M+1) each."""
        raw_bits = self.sent_bits[:, :1]
        sent = self.sent_bits / np.where(raw_bits > 0.0, raw_bits, 1.0)
        return sent, self.edge_cycles / self.edge_cycles[:, :1]

    def at(self, layer: Array) -> CutCosts:
        """The columns at one cut per device, (..., N) each.

        Args:
            layer: l in 0..M, (..., N).
        """
        device = np.arange(layer.shape[-1])
        return CutCosts(*(getattr(self, f.name)[device, layer] for f in fields(self)))

    def of(self, device: int, layers: int) -> CutCosts:
        """The columns of one device's cuts 0..layers, (layers+1,) each."""
        return CutCosts(*(getattr(self, f.name)[device, : layers + 1] for f in fields(self)))


def cut_costs(
    profiles: Sequence[LayerProfile],
    *,
    cycles_per_mac: float,
    input_bits: float,
    feature_bits: float,
    parameter_bytes: float,
    activation_bytes: float,
    device_memory_factor: float,
    edge_memory_factor: float,
    transmit_result_when_local: bool,
    measured_hz: tuple[float, float] | None = None,
) -> CutCosts:
    """Tables of N devices' networks (model_partitioning paper, Sec. II; eq. 6 with errata 4 and 5).

    Args:
        profiles: the network of each device (N).
        cycles_per_mac: rho.
        input_bits, feature_bits: bits per element on the air, of the raw input and of feature maps.
        parameter_bytes, activation_bytes: bytes per element in memory.
        device_memory_factor, edge_memory_factor: weights of parameters stored on either side.
        transmit_result_when_local: l = L sends the result (the printed formula).
        measured_hz: CPU rates of device and server at which layers were timed; None: work follows from MACs.
    """
    width = max(p.layers for p in profiles) + 1
    rows: dict[int, Array] = {}
    for p in profiles:
        if id(p) in rows:
            continue
        local, remote = work_cycles(p, cycles_per_mac, measured_hz)
        sent = np.where(np.arange(p.layers + 1) == 0, input_bits, feature_bits) * p.activation_elements
        if not transmit_result_when_local:
            sent[-1] = 0.0
        bytes_at = activation_bytes * p.activation_elements
        largest_below = np.maximum.accumulate(bytes_at)
        largest_above = np.append(np.maximum.accumulate(bytes_at[:0:-1])[::-1], 0.0)
        stored_below = device_memory_factor * parameter_bytes * p.local_parameters
        stored_above = edge_memory_factor * parameter_bytes * (p.local_parameters[-1] - p.local_parameters)
        memory = stored_below + largest_below + stored_above + largest_above
        columns = np.stack([local, remote, sent, memory])
        rows[id(p)] = np.pad(columns, ((0, 0), (0, width - 1 - p.layers)), mode="edge")
    return CutCosts(*np.stack([rows[id(p)] for p in profiles], axis=1))


def work_cycles(
    profile: LayerProfile, cycles_per_mac: float, measured_hz: tuple[float, float] | None = None
) -> tuple[Array, Array]:
    """Work (L+1,) of layers 1..l on the device and of layers l+1..L at the edge, in cycles, for every cut l.

    Args:
        profile: the layers.
        cycles_per_mac: rho; layers that were not timed on a side take it there.
        measured_hz: CPU rates of device and server at which the layers took `time_s` and `edge_time_s`.
    """
    local = profile.local_macs * cycles_per_mac
    remote = local[-1] - local
    if measured_hz is not None and profile.time_s:
        local = measured_hz[0] * np.concatenate([[0.0], np.cumsum(profile.time_s)])
    if measured_hz is not None and profile.edge_time_s:
        below = measured_hz[1] * np.concatenate([[0.0], np.cumsum(profile.edge_time_s)])
        remote = np.maximum(below[-1] - below, 0.0)
    return local, remote
