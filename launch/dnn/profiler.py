"""Turn a `torch.nn.Module` into a table of logical layers. Imports torch when a function is called.

The module's graph is traced (torch.fx, or torch.export where a Python branch depends on shapes), shapes and
multiply-accumulate operations come from a run on the meta device (torch's own FLOP counter), times from this CPU. A cut
is possible where exactly one tensor crosses; what lies between two cuts, such as a residual block, is one piece.
"""

from __future__ import annotations

import copy
import csv
import io
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgemarl.envs.dnn.profiles import LayerProfile

if TYPE_CHECKING:
    from torch import Tensor, fx, nn


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
        path = Path(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(out.getvalue(), encoding="utf-8")
        os.replace(temporary, path)


@dataclass
class _Piece:
    """Nodes between two neighbouring cut points."""

    nodes: list[Any]
    macs: int
    owned: dict[str, Any]  # parameters by path, first used here
    elements: int
    bytes: int
    time_s: float
    branches: bool  # more than one tensor crosses somewhere inside
    weighted: list[str]  # paths of modules with parameters that are used here


def profile(module: nn.Module, example: Any, *, repeats: int = 5) -> LayerTable:
    """Table of the logical layers of a module.

    A logical layer is a piece with multiply-accumulate work and what follows it without any (activation, norm,
    pooling); after a piece with branches (a residual block) only what keeps the number of elements joins it.

    Args:
        module: any module; it is run in evaluation mode and left as it was.
        example: one request: a tensor, or a tuple of tensors.
        repeats: runs of the time measurement (the median counts); 0 measures nothing and runs on the meta device only.

    Raises:
        ValueError: a module that cannot be traced or run on the example, or one without convolution or matrix product.
    """
    inputs = tuple(example) if isinstance(example, tuple | list) else (example,)
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        graph = _trace(module, inputs)
        values, macs = _run_on_meta(graph, inputs)
        seconds = _measure(graph, inputs, repeats) if repeats > 0 else {}
        pieces = _pieces(graph, values, macs, seconds)
    finally:
        for part, training in modes:
            part.training = training
    layers = _logical_layers(pieces)
    if not any(sum(p.macs for p in layer) for layer in layers):
        raise ValueError(f"{type(module).__name__} has no convolution and no matrix product: nothing to divide")
    return LayerTable(
        input_elements=sum(t.numel() for t in inputs),
        input_bytes=sum(t.numel() * t.element_size() for t in inputs),
        names=tuple(_names(layers)),
        macs=tuple(sum(p.macs for p in layer) for layer in layers),
        parameters=tuple(sum(w.numel() for p in layer for w in p.owned.values()) for layer in layers),
        parameter_bytes=tuple(
            sum(w.numel() * w.element_size() for p in layer for w in p.owned.values()) for layer in layers
        ),
        output_elements=tuple(layer[-1].elements for layer in layers),
        output_bytes=tuple(layer[-1].bytes for layer in layers),
        time_s=tuple(sum(p.time_s for p in layer) for layer in layers) if repeats > 0 else (),
    )


def _trace(module: nn.Module, inputs: tuple[Any, ...]) -> fx.GraphModule:
    """The module's graph; its leaves are torch's own layers, or single operations where it had to be exported."""
    import torch

    try:
        return torch.fx.symbolic_trace(module)
    except Exception as first:  # tracing runs the user's code, which may fail in any way
        try:
            exported = torch.export.export(module, inputs).module()
        except Exception:
            raise ValueError(f"{type(module).__name__} cannot be traced: {' '.join(str(first).split())}") from None
        assert isinstance(exported, torch.fx.GraphModule)
        return exported


def _run_on_meta(graph: fx.GraphModule, inputs: tuple[Any, ...]) -> tuple[dict[str, Any], dict[str, int]]:
    """Value (meta tensors) and multiply-accumulate operations of every node."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    weights: dict[int, Any] = {}
    for kind in (graph.named_parameters, graph.named_buffers):
        for _, tensor in kind(remove_duplicate=True):
            empty = torch.empty_like(tensor, device="meta")
            weights[id(tensor)] = (
                torch.nn.Parameter(empty, requires_grad=tensor.requires_grad)
                if isinstance(tensor, torch.nn.Parameter)
                else empty
            )
    shadow = copy.deepcopy(graph, weights)  # the copy takes the empty tensors and allocates nothing
    values: dict[str, Any] = {}
    macs: dict[str, int] = {}

    class Recorder(torch.fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            with FlopCounterMode(display=False) as counter:
                values[n.name] = super().run_node(n)
            macs[n.name] = counter.get_total_flops() // 2
            return values[n.name]

    try:
        Recorder(shadow).run(*(t.to("meta") for t in inputs))
    except Exception as error:  # the user's layers may refuse the example in any way
        shapes = [tuple(t.shape) for t in inputs]
        raise ValueError(f"the module cannot run on an input of shape {shapes}: {_first_line(error)}") from None
    return values, macs


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def _measure(graph: fx.GraphModule, inputs: tuple[Any, ...], repeats: int) -> dict[str, float]:
    """Median run time of every node over `repeats` runs, after one that warms up."""
    import torch

    runs: dict[str, list[float]] = {}

    class Stopwatch(torch.fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            start = time.perf_counter()
            value = super().run_node(n)
            runs.setdefault(n.name, []).append(time.perf_counter() - start)
            return value

    with torch.no_grad():
        for _ in range(repeats + 1):
            Stopwatch(graph).run(*inputs)
    return {name: float(np.median(times[1:])) for name, times in runs.items()}


def _pieces(
    graph: fx.GraphModule, values: dict[str, Any], macs: dict[str, int], seconds: dict[str, float]
) -> list[_Piece]:
    """Cut the graph, in execution order, wherever exactly one tensor that depends on the input crosses."""
    nodes = list(graph.graph.nodes)
    place = {n.name: i for i, n in enumerate(nodes)}
    from_input: set[str] = set()
    last_use: dict[str, int] = {}
    for n in nodes:
        if n.op == "placeholder" or any(parent.name in from_input for parent in n.all_input_nodes):
            from_input.add(n.name)
        for parent in n.all_input_nodes:
            last_use[parent.name] = place[n.name]
    pieces: list[_Piece] = []
    alive: dict[str, list[Tensor]] = {}
    taken: list[Any] = []
    seen: set[int] = set()
    branches = False
    body = [n for n in nodes if n.op not in ("placeholder", "output") and n.name in from_input]
    constants = {n.name for n in nodes} - from_input
    for n in nodes:
        if n.op == "output":
            break
        if n.name in constants:
            continue
        tensors = _tensors(values[n.name])
        if tensors:
            alive[n.name] = tensors
        alive = {name: kept for name, kept in alive.items() if last_use.get(name, -1) > place[n.name]}
        if n.op == "placeholder":
            continue
        taken += [*_constants_of(n, constants), n]
        crossing = [t for kept in alive.values() for t in kept]
        if n is not body[-1] and len(crossing) != 1:
            branches |= len(crossing) > 1
            continue
        leaving = crossing if n is not body[-1] else _tensors(values[nodes[-1].name])
        owned, weighted = _owned(graph, taken, seen)
        pieces.append(
            _Piece(
                taken, sum(macs[m.name] for m in taken), owned, sum(t.numel() for t in leaving),
                sum(t.numel() * t.element_size() for t in leaving),
                sum(seconds.get(m.name, 0.0) for m in taken), branches, weighted,
            )
        )  # fmt: skip
        taken, branches = [], False
    return pieces


def _constants_of(node: Any, constants: set[str]) -> list[Any]:
    """Nodes that a node needs and that do not depend on the input, once each: they stand with their first user."""
    found: list[Any] = []
    for parent in node.all_input_nodes:
        if parent.name in constants:
            constants.remove(parent.name)
            found += [*_constants_of(parent, constants), parent]
    return found


def _tensors(value: Any) -> list[Tensor]:
    """All tensors in a value."""
    import torch

    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for part in value for t in _tensors(part)] if isinstance(value, tuple | list) else []


def _owned(graph: fx.GraphModule, nodes: Sequence[Any], seen: set[int]) -> tuple[dict[str, Any], list[str]]:
    """Parameters that these nodes use first, and the modules whose parameters they use at all.

    `seen` keeps the ids of the parameters met before.
    """
    import torch

    owned: dict[str, Any] = {}
    weighted: list[str] = []
    for n in nodes:
        if n.op == "call_module":
            found = dict(graph.get_submodule(n.target).named_parameters(prefix=n.target))
        elif n.op == "get_attr":
            path, _, attribute = n.target.rpartition(".")
            found = {n.target: getattr(graph.get_submodule(path), attribute)}
        else:
            continue
        for name, tensor in found.items():
            if not isinstance(tensor, torch.nn.Parameter):
                continue
            weighted.append(name.rpartition(".")[0] or name)
            if id(tensor) not in seen:
                seen.add(id(tensor))
                owned[name] = tensor
    return owned, weighted


def _logical_layers(pieces: Sequence[_Piece]) -> list[list[_Piece]]:
    """Join pieces without work to the layer before them, or to the next one where they shrink a block's output."""
    layers: list[list[_Piece]] = []
    waiting: list[_Piece] = []
    for piece in pieces:
        if piece.macs > 0:
            layers.append([*waiting, piece])
            waiting = []
        elif not layers or waiting or (layers[-1][-1].elements != piece.elements and _is_block(layers[-1])):
            waiting.append(piece)
        else:
            layers[-1].append(piece)
    if layers:
        layers[-1] += waiting
        return layers
    return [waiting]


def _is_block(layer: Sequence[_Piece]) -> bool:
    return any(piece.branches for piece in layer)


def _names(layers: Sequence[Sequence[_Piece]]) -> list[str]:
    """Path of the largest module whose parameters serve this layer alone; unique."""
    used = [[path for piece in layer for path in piece.weighted] for layer in layers]
    names: list[str] = []
    for i, own in enumerate(used):
        others = [path for j, paths in enumerate(used) if j != i for path in paths]
        name = own[0] if own else f"layer{i + 1}"
        while "." in name:
            parent = name.rpartition(".")[0]
            if any(path == parent or path.startswith(f"{parent}.") for path in others):
                break
            name = parent
        names.append(name if name not in names else f"{name}#{i + 1}")
    return names
