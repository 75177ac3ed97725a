"""What the numbers of rows and raw actions of `sampling_rate` are."""

from __future__ import annotations

from abc import abstractmethod

from edgemarl.envs.capabilities import CENTRAL, Described, RowEntry
from edgemarl.envs.scenarios.sampling_rate.config import SamplingRateConfig

LOGIT = (
    "the server's share is the softmax of the logits times share_logit_scale; where share_mode is corrected, their "
    "exponential is the factor on its share by Theorem 1"
)


class SamplingEntries(Described):
    """Rows as `SamplingRate.observe` and `global_state` fill them, actions as `decode` reads them."""

    config: SamplingRateConfig

    @property
    @abstractmethod
    def rate_bps_max(self) -> float:
        """Link rate that a row shows as 1."""

    @property
    def row_entries(self) -> dict[str, tuple[RowEntry, ...]]:
        c = self.config
        services, devices = range(c.num_services), range(c.num_devices)
        deficit = tuple(RowEntry(f"accuracy_deficit_{m}", "-", 1.0, f"deficit queue of service {m}") for m in services)
        backlog = tuple(
            RowEntry(f"server_backlog_{m}", "slot", 1.0, f"slots of the whole server for its backlog of service {m}")
            for m in services
        )
        own = self._own_row()
        mark = tuple(RowEntry(f"service_{m}", "-", 1.0, f"1 if the device is of service {m}, else 0") for m in services)
        world = tuple(RowEntry(f"{e.name}_{n}", e.unit, e.scale, e.meaning) for e in own for n in devices)
        rows = {"device": (*own, *mark, *deficit, *backlog)}
        if c.server_acts:
            rows["server"] = (*deficit, *backlog)
        return {**rows, CENTRAL: (*world, *backlog, *deficit)}

    def _own_row(self) -> tuple[RowEntry, ...]:
        return (
            RowEntry("backlog", "slot", 1.0, "slots that the device needs for its own backlog"),
            RowEntry(
                "link_rate", "bit/s", self.rate_bps_max, "rate of the device's equal part of the band in this slot"
            ),
            RowEntry("arrival", "task/slot", self.config.arrival_max, "tasks of this slot"),
        )

    @property
    def action_entries(self) -> dict[str, tuple[RowEntry, ...]]:
        c = self.config
        k = c.num_rates
        option = RowEntry(
            "option", "-", 1.0,
            f"a: sampling rate (a mod {k} + 1)/{k}; a < {k} computes at the server, a >= {k} on the device",
        )  # fmt: skip
        logits = tuple(RowEntry(f"share_logit_{m}", "-", 1.0, LOGIT) for m in range(c.num_services))
        rates = [
            RowEntry(f"rate_{n}", "-", 1.0, f"x in [-1, 1]: sampling rate min({k}, 1 + floor((x + 1)/2 {k}))/{k}")
            for n in range(c.num_devices)
        ]
        places = [RowEntry(f"local_{n}", "-", 1.0, "> 0 computes on the device") for n in range(c.num_devices)]
        joint = (*rates, *places, *logits) if c.share_mode == "action" else (*rates, *places)
        server = {"server": logits} if c.server_acts else {}
        return {"device": (option,), **server, CENTRAL: joint}
