"""Small networks for tests of the profiler, from a function and its parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from edgemarl.launch.dnn.profiler import profile

T, D, H = 5, 8, 16
"""Steps, features, hidden features of the sequences below."""


def of(forward: Callable[..., Any], **parts: Any) -> nn.Module:
    """A module from its `forward(parts, *inputs)` and its parts: modules, parameters, buffers, other attributes."""

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, part in parts.items():
                if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                    self.register_buffer(name, part)
                else:
                    setattr(self, name, part)

        def forward(self, *inputs: Any) -> Any:
            return forward(self, *inputs)

    return Network()


def row(*shape: int) -> Tensor:
    return torch.rand(1, *shape, generator=torch.Generator("cpu").manual_seed(3), device="cpu")


def linear(size: int = 4, out: int = 4) -> nn.Linear:
    return nn.Linear(size, out)


def macs(module: nn.Module, *inputs: Any) -> int:
    return sum(profile(module, inputs, repeats=0).macs)
