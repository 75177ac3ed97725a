"""What the numbers of rows and raw actions of `sequential_offloading` are."""

from __future__ import annotations

from edgemarl.envs.capabilities import CENTRAL, Described, RowEntry
from edgemarl.envs.scenarios.sequential_offloading.config import SLIVER_TASKS, SequentialOffloadingConfig


class OffloadingEntries(Described):
    """Rows as `SequentialOffloading.observe` and `global_state` fill them, actions as `decode` reads them."""

    config: SequentialOffloadingConfig

    @property
    def row_entries(self) -> dict[str, tuple[RowEntry, ...]]:
        c = self.config
        devices = range(c.num_devices)
        csi = [self._csi_entry(f"spectral_efficiency_{k}") for k in devices]
        coming = (
            [entry for k in devices for entry in self._arrival_entries(f"device_{k}_")] if c.arrival_lookahead else []
        )
        return {
            "device": (self._queue_entry("queue"), self._csi_entry("spectral_efficiency"), *self._arrival_entries("")),
            "server": self._server_row(),
            CENTRAL: (*(self._queue_entry(f"queue_{k}") for k in devices), *csi, self._server_queue_entry(), *coming),
        }

    def _server_row(self) -> tuple[RowEntry, ...]:
        c = self.config
        if c.server_observation == "full":
            return (self._server_queue_entry(), *(self._queue_entry(f"queue_{k}") for k in range(c.num_devices)))
        taken = RowEntry(
            "offloaded", "cycle", c.num_devices * c.task_cycles, "residuals that the server took in the block before"
        )
        told = ("mean", "max") if c.server_observation == "aggregate" else ()
        queues = (self._queue_entry(f"queue_{name}", f"{name} work in the devices' queues") for name in told)
        return (self._server_queue_entry(), taken, *queues)

    def _queue_entry(self, name: str, meaning: str = "work in the device's queue") -> RowEntry:
        return RowEntry(name, "cycle", self.config.queue_scale_tasks * self.config.task_cycles, meaning)

    def _server_queue_entry(self) -> RowEntry:
        scale = self.config.num_devices * self.config.queue_scale_tasks * self.config.task_cycles
        return RowEntry("server_queue", "cycle", scale, "work in the server's queue")

    def _csi_entry(self, name: str) -> RowEntry:
        c = self.config
        meaning = f"log2(1 + h p / Gamma) of this block's channel at p = {c.reference_power_w:g} W"
        return RowEntry(name, "bit/s/Hz", c.spectral_efficiency_scale, meaning)

    def _arrival_entries(self, whose: str) -> list[RowEntry]:
        block = "this block, foreseen" if self.config.arrival_lookahead else "the block before"
        return [
            RowEntry(f"{whose}arrived_{i}", "task", 1.0, f"tasks that arrived in slot {i} of {block}")
            for i in range(self.config.slots_per_block)
        ]

    @property
    def action_entries(self) -> dict[str, tuple[RowEntry, ...]]:
        c = self.config
        device = self._device_action()
        server = (RowEntry("server_cpu", "Hz", c.server_cpu_hz_max, "CPU rate of the server in this block"),)
        joint = [
            RowEntry(f"{entry.name}_{k}", entry.unit, entry.scale, entry.meaning)
            for k in range(c.num_devices)
            for entry in device
        ]
        return {"device": device, "server": server, CENTRAL: (*joint, *server)}

    def _device_action(self) -> tuple[RowEntry, ...]:
        c = self.config
        if c.device_action == "cpu":
            return (RowEntry("device_cpu", "Hz", c.device_cpu_hz_max, "CPU rate of the device in this block"),)
        effort = RowEntry("work_max", "cycle", c.device_work_cycles_max, "most local work of this block")
        power = RowEntry(
            "power", "W", c.transmit_power_w_max,
            "local work leaves the residual task that this power carries, and as few whole tasks as can be",
        )  # fmt: skip
        leaving = RowEntry(
            "work_leaving", "cycle", c.device_work_cycles_max,
            "work that leaves the device in this block, computed or sent; whole tasks stay, by rounding",
        )  # fmt: skip
        share = RowEntry(
            "residual", "-", 1.0,
            "residual that is sent, as a share of what full power carries in this block, at most "
            f"{1.0 - SLIVER_TASKS:g} of a task",
        )  # fmt: skip
        return {"power": (power,), "split": (effort, power), "residual": (leaving, share)}[c.device_action]
