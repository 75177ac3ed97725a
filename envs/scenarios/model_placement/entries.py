"""What the numbers of rows and raw actions of `model_placement` are."""

from __future__ import annotations

from collections.abc import Iterable

from edgemarl.envs.capabilities import CENTRAL, Described, RowEntry
from edgemarl.envs.scenarios.model_placement.config import ModelPlacementConfig

SCORE = "score in [-1, 1]: shares are proportional to (1 + score)/2 among the tasks that have their model"
KEEP = ">= 0 keeps the model in the cache, < 0 deletes it after the slot"


class PlacementEntries(Described):
    """Rows as `ModelPlacement.observe` and `global_state` fill them, actions as `decode` reads them."""

    config: ModelPlacementConfig

    @property
    def row_entries(self) -> dict[str, tuple[RowEntry, ...]]:
        c = self.config
        own, free = self._own(), self._free()
        gateway = self._of_each(own[:12], range(c.devices_per_gateway))
        server = self._of_each([own[i] for i in (0, 1, 6, 7, 8, 9, 10, 11)], range(c.num_devices))
        relays = [self._efficiency(f"relay_efficiency_{g}", "gateway to server") for g in range(c.num_gateways)]
        world = self._of_each([own[i] for i in (0, 1, 2, 4, 5, 6, 7, 3)], range(c.num_devices))
        return {
            "device": (*own, *free),
            "gateway": (*gateway, self._efficiency("relay_efficiency", "gateway to server"), *free),
            "server": (*server, *relays, free[1]),
            CENTRAL: (*world, *relays),
        }

    def _own(self) -> tuple[RowEntry, ...]:
        """What a device sees of itself; the first twelve are also in its gateway's row."""
        c = self.config
        cached = [
            RowEntry(
                f"cached_{where}_{level}", "-", 1.0, f"1 if its {level} model is in the cache of the {node}, else 0"
            )
            for where, node in (("gateway", "gateway"), ("edge", "server"))
            for level in ("light", "heavy")
        ]
        sizes = [
            RowEntry(f"{name}_{level}", unit, scale, f"{what} of its {level} model")
            for name, unit, scale, what in (
                ("model_bits", "bit", c.model_bits_heavy[1], "size"),
                ("model_cycles", "cycle", c.cycles_heavy[1], "work"),
            )
            for level in ("light", "heavy")
        ]
        return (
            RowEntry("task_bits", "bit", c.task_bits_max, "data of this slot's task"),
            RowEntry("deadline", "s", c.deadline_max_s, "of this slot's task"),
            RowEntry("noisy", "-", 1.0, "1 if this slot's task is noisy, else 0"),
            self._efficiency("efficiency", "device to gateway"),
            *cached,
            *sizes,
            *(
                RowEntry(f"accuracy_{name}", "-", 1.0, f"of its {name} model on this task")
                for name in ("light", "heavy")
            ),
            RowEntry("position", "-", 1.0, "number of the device among its gateway's over their count, the first is 0"),
        )

    def _free(self) -> tuple[RowEntry, RowEntry]:
        c = self.config
        return (
            RowEntry("free_gateway_cache", "bit", c.gateway_cache_bits, "free space of the gateway's cache"),
            RowEntry("free_edge_cache", "bit", c.edge_cache_bits, "free space of the server's cache"),
        )

    def _efficiency(self, name: str, link: str) -> RowEntry:
        return RowEntry(name, "bit/s/Hz", self.config.spectral_efficiency_scale, f"spectral efficiency, {link}")

    @staticmethod
    def _of_each(entries: Iterable[RowEntry], devices: range) -> list[RowEntry]:
        listed = list(entries)
        return [
            RowEntry(f"{entry.name}_{n}", entry.unit, entry.scale, entry.meaning) for n in devices for entry in listed
        ]

    @property
    def action_entries(self) -> dict[str, tuple[RowEntry, ...]]:
        n, k = self.config.num_devices, self.config.devices_per_gateway
        local = "1 at the own gateway, 0 relayed to the server"
        gateway = (("band", SCORE), ("cpu", SCORE), ("keep_light", KEEP), ("keep_heavy", KEEP))
        server = (("relay", SCORE), ("edge_cpu", SCORE), ("edge_keep_light", KEEP), ("edge_keep_heavy", KEEP))
        joint = (
            ("local", ">= 0: " + local), ("heavy", ">= 0 takes the heavy model"), ("band", SCORE), ("relay", SCORE),
            ("cpu", SCORE), ("edge_cpu", SCORE), *gateway[2:], *server[2:],
        )  # fmt: skip
        return {
            "device": (
                RowEntry("local", "-", 1.0, local),
                RowEntry("heavy", "-", 1.0, "1 heavy model, 0 light model"),
            ),
            "gateway": _blocks(gateway, k),
            "server": _blocks(server, n),
            CENTRAL: _blocks(joint, n),
        }


def _blocks(names: Iterable[tuple[str, str]], devices: int) -> tuple[RowEntry, ...]:
    """A block of `devices` entries for each (name, meaning)."""
    return tuple(RowEntry(f"{name}_{n}", "-", 1.0, meaning) for name, meaning in names for n in range(devices))
