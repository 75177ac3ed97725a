"""What the numbers of rows and raw actions of `model_pruning` are."""

from __future__ import annotations

from edgemarl.envs.capabilities import CENTRAL, Described, RowEntry
from edgemarl.envs.scenarios.model_pruning.config import ModelPruningConfig


class PruningEntries(Described):
    """Rows as `ModelPruning.observe` and `global_state` fill them, actions as `decode` reads them."""

    config: ModelPruningConfig

    @property
    def row_entries(self) -> dict[str, tuple[RowEntry, ...]]:
        c = self.config
        told = "" if c.gateway_broadcast != "channel" else "; 0 with gateway_broadcast = channel"
        device = (
            RowEntry("criticality", "-", 1.0, "of this slot's task: 0 the least critical level, 1 the most"),
            self._gain("gain"),
            RowEntry("position", "-", 1.0, "number of the device among its gateway's over their count, the first is 0"),
            *self._levels("", told),
            RowEntry(
                "rank", "-", 1.0, "devices of the same level before it over its gateway's count; 0 unless broadcast"
            ),
        )
        gateways = [f"_{g}" for g in range(c.num_gateways)]
        criticality = [RowEntry(f"criticality_{n}", "-", 1.0, device[0].meaning) for n in range(c.num_devices)]
        return {
            "device": device,
            "gateway": self._gateway(""),
            "server": tuple(entry for mark in gateways for entry in self._gateway(mark)),
            CENTRAL: (*(self._gain(f"gain{mark}") for mark in gateways), *criticality),
        }

    def _gateway(self, mark: str) -> tuple[RowEntry, ...]:
        size = RowEntry(f"devices{mark}", "-", float(self.config.num_devices), "devices of the gateway")
        return (self._gain(f"gain{mark}"), size, *self._levels(mark, ""))

    def _gain(self, name: str) -> RowEntry:
        return RowEntry(name, "-", max(self.config.channel_gains), "power gain of the gateway's uplink in this slot")

    def _levels(self, mark: str, told: str) -> list[RowEntry]:
        return [
            RowEntry(
                f"share_level_{i}{mark}",
                "-",
                1.0,
                f"share of the gateway's tasks that have criticality level {i}{told}",
            )
            for i in range(self.config.num_criticality_levels)
        ]

    @property
    def action_entries(self) -> dict[str, tuple[RowEntry, ...]]:
        c = self.config
        devices, gateways = range(c.num_devices), range(c.num_gateways)
        share = f"the edge shares are the softmax of {c.edge_logit_scale:g} times these numbers"
        shares = tuple(RowEntry(f"share_logit_{g}", "-", 1.0, share) for g in gateways)
        pick = f"x in [-1, 1]: pruned model min({c.num_models - 1}, floor((x + 1)/2 {c.num_models}))"
        return {
            "device": (RowEntry("offload", "-", 1.0, "1 sends the task to the server, 0 leaves it at the gateway"),),
            "gateway": (RowEntry("model", "-", 1.0, "index of the pruned model in model_pruning_rates"),),
            "server": shares,
            CENTRAL: (
                *(RowEntry(f"offload_{n}", "-", 1.0, "> 0 sends the task to the server") for n in devices),
                *(RowEntry(f"model_{g}", "-", 1.0, pick) for g in gateways),
                *shares,
            ),
        }
