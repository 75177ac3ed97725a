"""Turn a `torch.nn.Module` into a table of logical layers. Imports torch when a function is called.

The module runs on one request; the operators of this run (`trace`) give work and data flow, and are held against a
plain run. A cut is possible where exactly one tensor crosses (`layers`); what lies between two cuts, such as a residual
block, is one piece. Times are those of the operators on this CPU.
"""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgemarl.envs.dnn.profiles import LayerProfile
from edgemarl.envs.files import write_text

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class LayerTable:
    """Measured logical layers 1..L of one network for one input; every tuple has L entries.

    Attributes:
        input_elements, input_bytes: the raw input.
        names: path of the largest module whose parameters serve this layer alone.
        macs: multiply-accumulate operations (convolutions and matrix products).
        parameters, parameter_bytes: parameters first used in the layer (biases and norm scales included, no buffers).
        output_elements, output_bytes: the one tensor that leaves the layer.
        time_s: median run time on this CPU, or empty if it was not measured.
    """

    input_elements: int
    input_bytes: int
    names: tuple[str, ...]
    macs: tuple[int, ...]
    parameters: tuple[int, ...]
    parameter_bytes: tuple[int, ...]
    output_elements: tuple[int, ...]
    output_bytes: tuple[int, ...]
    time_s: tuple[float, ...] = ()

    @property
    def layers(self) -> int:
        """Number L of logical layers."""
        return len(self.names)

    def as_profile(self, energy_budget_j: float, memory_budget_bytes: float) -> LayerProfile:
        """The table as the scenarios take it, with a device's budgets."""
        return LayerProfile(
            input_elements=self.input_elements, macs=self.macs, parameters=self.parameters,
            output_elements=self.output_elements, energy_budget_j=energy_budget_j,
            memory_budget_bytes=memory_budget_bytes, names=self.names, time_s=self.time_s,
        )  # fmt: skip

    def write_csv(self, path: str | os.PathLike[str]) -> None:
        """Write all columns; row 0 is the raw input. `load_profile` reads the file."""
        columns = ["macs", "parameters", "output_elements", "parameter_bytes", "output_bytes"]
        first = [0, 0, self.input_elements, 0, self.input_bytes]
        if self.time_s:
            columns.append("time_s")
            first.append(0)
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["layer", "name", *columns])
        writer.writerow([0, "input", *first])
        for i, name in enumerate(self.names):
            row = [getattr(self, column)[i] for column in columns]
            writer.writerow([i + 1, name, *(f"{v:.6g}" if isinstance(v, float) else v for v in row)])
        write_text(Path(path), out.getvalue())


def profile(module: nn.Module, example: Any, *, repeats: int = 5) -> LayerTable:
    """Table of the logical layers of a module.

    A logical layer is a piece with multiply-accumulate work and what follows it without any (activation, norm,
    pooling); after a piece with branches (a residual block) only what keeps the number of elements joins it.

    Args:
        module: any module; it is run in evaluation mode and left as it was.
        example: one request: a tensor, or a tuple of the arguments of `forward`: tensors, lists and dicts of them.
        repeats: runs of the time measurement (the median counts); 0 measures nothing, and weights may be on the meta
            device.

    Raises:
        ValueError: a module that cannot be traced or run on the example, or one without convolution or matrix product;
            one line that names the place.
    """
    from torch import nn

    from edgemarl.launch.dnn.layers import logical_layers, names, pieces
    from edgemarl.launch.dnn.tape import tensors_in
    from edgemarl.launch.dnn.trace import seconds, trace
    from edgemarl.launch.dnn.user_code import network_name

    inputs = tuple(example) if isinstance(example, tuple | list) else (example,)
    if not isinstance(module, nn.Module):
        raise ValueError(f"module is a {type(module).__name__}, must be a torch.nn.Module")
    tensors = tensors_in(inputs)
    if not tensors:
        raise ValueError(f"example is a {type(example).__name__} without tensors, must be one request")
    tape = trace(module, inputs)
    layers = logical_layers(pieces(tape))
    assert sum(p.macs for layer in layers for p in layer) in (0, sum(o.macs for o in tape.operations)), "work is lost"
    if not any(p.macs for layer in layers for p in layer):
        raise ValueError(f"{network_name(module)} has no convolution and no matrix product: nothing to divide")
    times = seconds(tape, module, inputs, repeats) if repeats > 0 else []
    owned = [[w for p in layer for w in p.owned.values()] for layer in layers]
    return LayerTable(
        input_elements=sum(t.numel() for t in tensors),
        input_bytes=sum(t.numel() * t.element_size() for t in tensors),
        names=tuple(names(layers)),
        macs=tuple(sum(p.macs for p in layer) for layer in layers),
        parameters=tuple(sum(w.numel() for w in weights) for weights in owned),
        parameter_bytes=tuple(sum(w.numel() * w.element_size() for w in weights) for weights in owned),
        output_elements=tuple(layer[-1].elements for layer in layers),
        output_bytes=tuple(layer[-1].bytes for layer in layers),
        time_s=tuple(sum(times[i] for p in layer for i in p.operations) for layer in layers) if times else (),
    )
