"""What the numbers of rows and raw actions of `model_partitioning` are, and which cuts a device has."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.capabilities import CENTRAL, Described, Masked, RowEntry
from edgemarl.envs.scenarios.model_partitioning.config import ModelPartitioningConfig

CUT = "layers that run on the device"
WEIGHT = "shares are proportional to share_floor plus this among those that take part"


class PartitioningEntries(Described, Masked):
    """Rows as `ModelPartitioning.observe` and `global_state` fill them, actions as `decode` reads them."""

    config: ModelPartitioningConfig

    @property
    @abstractmethod
    def layers(self) -> Array:
        """(N,) layers of each device's network."""

    @property
    @abstractmethod
    def price_reference(self) -> float:
        """Price that a row shows as 1/2."""

    @property
    def row_entries(self) -> dict[str, tuple[RowEntry, ...]]:
        c = self.config
        own = self._own()
        devices = range(c.num_devices)
        rows = {"device": (*own, *self._told())}
        if self._server_decides:
            last = (
                RowEntry("last_sent", "-", 1.0, "bits that it sent in the slot before over those of cut 0"),
                RowEntry("last_edge", "-", 1.0, "its edge work in the slot before over the work of its network"),
            )
            rows["server"] = _of_each((own[0], own[1], *last, own[2]), devices)
        world = tuple(RowEntry(f"{e.name}_{n}", e.unit, e.scale, e.meaning) for e in own for n in devices)
        return {**rows, CENTRAL: world}

    @staticmethod
    def _own() -> tuple[RowEntry, ...]:
        penalty = "V T_ref over its budget, with T_ref the time of a local run at the highest clock"
        return (
            RowEntry("fading", "decade", 1.0, "log10 of the channel's gain over its mean"),
            RowEntry("load", "-", 1.0, "request rate times the time of a local run at the highest clock"),
            RowEntry("energy_queue", "-", 1.0, f"virtual queue of energy over {penalty}"),
            RowEntry("memory_queue", "-", 1.0, f"virtual queue of memory over {penalty}"),
        )

    def _told(self) -> list[RowEntry]:
        """What a device's row holds beside its own four numbers."""
        c = self.config
        price = f"p/(p + {self.price_reference:g}) of the smoothed price p of the"
        told = [
            RowEntry("crowd", "-", 1.0, "smoothed share of devices that offload"),
            RowEntry("bandwidth_price", "-", 1.0, f"{price} band"),
            RowEntry("edge_cpu_price", "-", 1.0, f"{price} edge CPU"),
        ]
        if c.share_queues:
            told.append(RowEntry("energy_queue_mean", "-", 1.0, "mean of all devices' energy_queue"))
        if c.share_bids:
            saving = "what its best cut at these prices saves, over the mean V T_ref"
            load = "root of that cut's load on the band, over the root of the mean V T_ref"
            bid = [RowEntry("saving", "-", 1.0, saving), RowEntry("load_root", "-", 1.0, load)]
            others = [RowEntry(f"{e.name}_others", "-", 1.0, f"sum over the other devices: {e.meaning}") for e in bid]
            told += [*bid, *others]
        if c.show_costs:
            cuts = range(int(self.layers.max()) + 1)
            cost = "less that of the local run, over the mean V T_ref; shares are bought at the prices"
            told += [RowEntry(f"cost_{cut}", "-", 1.0, f"cost of cut {cut} {cost}") for cut in cuts]
            spent = "over its budget, less 1"
            told += [RowEntry(f"energy_{cut}", "-", 1.0, f"energy of cut {cut} {spent}") for cut in cuts]
        if c.show_model:
            names = dict.fromkeys(c.model_pattern)
            told += [RowEntry(f"runs_{name}", "-", 1.0, f"1 if the device runs {name}, else 0") for name in names]
        return told

    @property
    def action_entries(self) -> dict[str, tuple[RowEntry, ...]]:
        c = self.config
        devices = range(c.num_devices)
        cut = RowEntry("cut", "-", 1.0, f"x in [0, 1]: min(L, floor(x (L + 1))) of the L layers: {CUT}")
        clock = RowEntry(
            "device_cpu", "Hz", c.device_cpu_hz, "CPU rate of the device, at least cpu_floor_fraction of it"
        )
        weights = [RowEntry(f"{what}_weight", "-", 1.0, WEIGHT) for what in ("bandwidth", "edge_cpu")]
        server = _blocks(weights, devices)
        own = (cut, clock) if c.local_cpu_rule == "action" else (RowEntry("cut", "layer", 1.0, CUT),)
        roles = {"device": own, **({"server": server} if self._server_decides else {})}
        if "action" not in c.rules:
            return {**roles, CENTRAL: _blocks(own, devices)}
        joint = [cut, *([clock] if c.local_cpu_rule == "action" else []), *(weights if "action" in c.rules[1:] else [])]
        return {**roles, CENTRAL: _blocks(joint, devices)}

    @property
    def _server_decides(self) -> bool:
        """Whether the server is an agent."""
        return bool({"action", "corrected"} & set(self.config.rules[1:]))

    @property
    def constant_masks(self) -> dict[str, Array]:
        """Cuts that a device's network has, (N, M+1)."""
        if self.config.local_cpu_rule == "action":
            return {}
        return {"device": np.arange(int(self.layers.max()) + 1) <= self.layers[:, None]}


def _of_each(entries: Iterable[RowEntry], devices: range) -> tuple[RowEntry, ...]:
    listed = list(entries)
    return tuple(RowEntry(f"{e.name}_{n}", e.unit, e.scale, e.meaning) for n in devices for e in listed)


def _blocks(entries: Iterable[RowEntry], devices: range) -> tuple[RowEntry, ...]:
    return tuple(RowEntry(f"{e.name}_{n}", e.unit, e.scale, e.meaning) for e in entries for n in devices)
