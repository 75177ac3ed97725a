"""A Q-network that sets its own price: shared by all devices, each evaluates it on its own row.

Devices that share a server play a coordination game in every slot: whether to use it depends on which group of them the
others leave it to. Here every device reads from what is broadcast to all (the same numbers in every row) which of a few
ways of sharing the server, the candidates, is best in this slot, and then values its options under its group's share.
Nothing is exchanged beyond the broadcast.

Shapes: rows (..., d); C candidates, M groups of devices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from edgemarl.agents.trained.heads import head_of
from edgemarl.agents.trained.layers import Perceptron
from edgemarl.agents.trained.spec import NetworkSpec


@dataclass(frozen=True)
class PriceSpec:
    """How a row becomes the inputs of the two networks.

    Attributes:
        scale: factor on every entry of a row (d,); 0 hides an entry.
        broadcast: entries that are the same in all rows of a cell and tell the best candidate.
        group: entries that hold the one-hot group of the device (M,).
        log_share: (C, M) logarithm of each group's share under each candidate.
    """

    scale: tuple[float, ...]
    broadcast: tuple[int, ...]
    group: tuple[int, ...]
    log_share: tuple[tuple[float, ...], ...]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PriceSpec:
        return cls(
            tuple(values["scale"]),
            tuple(values["broadcast"]),
            tuple(values["group"]),
            tuple(tuple(row) for row in values["log_share"]),
        )


class PricedQNetwork(nn.Module):
    """Values of a device's options at the candidate that its broadcast entries call for.

    Args:
        spec: of a Discrete role, with `price` set.
    """

    scale: torch.Tensor
    log_share: torch.Tensor

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        price = PriceSpec.from_dict(spec.price or {})
        self.spec, self.head = spec, head_of(spec)
        self.broadcast, self.group = list(price.broadcast), list(price.group)
        self.register_buffer("scale", torch.tensor(price.scale))
        self.register_buffer("log_share", torch.tensor(price.log_share))
        self.q = _network(spec, spec.observation_size + 1, self.head.outputs)
        self.price = _network(spec, len(self.broadcast), len(price.log_share))

    def forward(self, rows: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """(..., choices) values of rows (..., d) at each row's own candidate."""
        return self.head.masked(self.values(rows, self.candidates(rows)), mask)

    def costs(self, rows: torch.Tensor) -> torch.Tensor:
        """(..., C) estimated cost of each candidate, up to a constant."""
        out: torch.Tensor = self.price((rows * self.scale)[..., self.broadcast])
        return out

    def candidates(self, rows: torch.Tensor) -> torch.Tensor:
        """(...,) index of the cheapest candidate."""
        return self.costs(rows).argmin(dim=-1)

    def values(self, rows: torch.Tensor, candidate: torch.Tensor) -> torch.Tensor:
        """(..., choices) values under given candidates (...,)."""
        own = (self.log_share[candidate] * rows[..., self.group]).sum(dim=-1, keepdim=True)
        out: torch.Tensor = self.q(torch.cat([rows * self.scale, own], dim=-1))
        return out

    def values_of_all(self, rows: torch.Tensor) -> torch.Tensor:
        """(..., C, choices) values under every candidate."""
        wide = rows[..., None, :].expand(*rows.shape[:-1], len(self.log_share), rows.shape[-1])
        return self.values(wide, torch.arange(len(self.log_share)))


def _network(spec: NetworkSpec, inputs: int, outputs: int) -> Perceptron:
    hidden: Sequence[int] = spec.hidden
    return Perceptron(inputs, hidden, outputs, output_gain=spec.output_gain, activation=spec.activation)
