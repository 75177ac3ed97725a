"""What one run of a network does: its operators in order, the tensors that they read, write and make.

A tape knows which memory depends on the input. In-place operators and views need no care of their own: dependence is
that of the memory (the storage), while a tensor is a view of one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ref:
    """A tensor of the tape, in the place of itself."""

    index: int


@dataclass
class Value:
    """One tensor.

    Attributes:
        elements, bytes: of the tensor.
        storage: number of the memory that it is a view of.
        parent: the tensor that it was made a view of.
        made: number of the operator that made it; -1: it was there before the run.
        kept: itself where it was there before and is no input.
    """

    elements: int
    bytes: int
    storage: int
    parent: int | None
    made: int
    kept: Tensor | None = None


@dataclass
class Operation:
    """One call of an operator.

    Attributes:
        function, arguments, keywords: the call, with a `Ref` for every tensor.
        results: tensors that it returned, in order.
        reads: tensors whose elements it reads or looks at; not those of which it takes the shape alone.
        writes: those of them that it changes.
        view: it only makes views of what it got.
        depends: what it makes or changes depends on the input.
        macs: multiply-accumulate operations.
        nonzero_macs: these without the weights that are 0, where they were looked at.
    """

    function: Any
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    results: tuple[int, ...]
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    view: bool
    depends: bool
    macs: int = 0
    nonzero_macs: int = 0

    @property
    def refs(self) -> set[int]:
        """All tensors of the call."""
        return {*(r.index for r in references((self.arguments, self.keywords))), *self.results}


@dataclass
class Tape:
    """One run.

    Attributes:
        operations, values: in the order in which they came.
        since: memory that depends on the input -> number of the operation with which that began, -1 for an input.
        inputs, outputs: the tensors that went in, and those that came out in the order in which they are found.
        parameters: tensors of the tape that are parameters, or views of them -> their paths and themselves.
        saved: what memory from before the run held, where the run changed it: (a tensor of it, copy of the memory).
        generators: random generators other than torch's own, and their state before the run.
    """

    operations: list[Operation] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    since: dict[int, int] = field(default_factory=dict)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    parameters: dict[int, list[tuple[str, Tensor]]] = field(default_factory=dict)
    saved: dict[int, tuple[Tensor, Any]] = field(default_factory=dict)
    generators: list[tuple[torch.Generator, Tensor]] = field(default_factory=list)

    def name(self, named: Iterable[tuple[str, Tensor]]) -> None:
        """Say what the parameters are called."""
        by_tensor = {id(p): [(name, p)] for name, p in named}
        by_memory: dict[int, list[tuple[str, Tensor]]] = {}
        for owners in by_tensor.values():
            by_memory.setdefault(_address(owners[0][1]), []).extend(owners)
        for i, value in enumerate(self.values):
            if value.kept is not None:
                owners = by_tensor.get(id(value.kept)) or by_memory.get(_address(value.kept), [])
                self.parameters[i] = owners

    def restore(self) -> None:
        """Undo what the run did to memory from before it."""
        with torch.no_grad():
            for tensor, memory in self.saved.values():
                tensor.untyped_storage().copy_(memory)
        for generator, state in self.generators:
            generator.set_state(state)

    def run(self, inputs: Sequence[Tensor], times: list[float] | None = None) -> list[Tensor]:
        """The outputs for other inputs of the same shapes; what the run changes stays changed until `restore`.

        Args:
            inputs: one request.
            times: takes the run time in s of every operation.
        """
        tensors = {i: v.kept for i, v in enumerate(self.values) if v.kept is not None}
        tensors |= {i: x.clone() for i, x in zip(self.inputs, inputs, strict=True)}
        gone = self._last_uses()
        for i, operation in enumerate(self.operations):
            arguments, keywords = substituted((operation.arguments, operation.keywords), tensors)
            start = time.perf_counter()
            made = operation.function(*arguments, **keywords)
            if times is not None:
                times.append(time.perf_counter() - start)
            tensors.update(zip(operation.results, tensors_in(made), strict=True))
            for value in gone.get(i, ()):
                del tensors[value]
        return [tensors[i] for i in self.outputs]

    def seconds(self, inputs: Sequence[Tensor], repeats: int) -> list[float]:
        """Median run time in s of every operation over `repeats` runs, after one that warms up."""
        runs: list[list[float]] = []
        for _ in range(repeats + 1):
            runs.append([])
            self.run(inputs, runs[-1])
            self.restore()
        return [median(times) for times in zip(*runs[1:], strict=True)]

    def _last_uses(self) -> dict[int, list[int]]:
        """Operation -> tensors that nothing needs after it."""
        last: dict[int, int] = {}
        for i, operation in enumerate(self.operations):
            last.update(dict.fromkeys(operation.refs, i))
        gone: dict[int, list[int]] = {}
        for value, i in last.items():
            if value not in self.outputs:
                gone.setdefault(i, []).append(value)
        return gone


def _address(tensor: Tensor) -> int:
    """Of a tensor's memory, or of the tensor where it has none of its own."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (RuntimeError, NotImplementedError):
        return id(tensor)


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors in a value, in order: in lists, tuples, dicts and the attributes of other objects."""
    tensors: list[Tensor] = []
    _collect(value, tensors, set())
    return tensors


def _collect(value: Any, tensors: list[Tensor], seen: set[int]) -> None:
    if isinstance(value, Tensor):
        tensors.append(value)
        return
    if value is None or isinstance(value, str | bytes | int | float | complex | torch.nn.Module) or id(value) in seen:
        return
    seen.add(id(value))
    parts: Iterable[Any]
    if isinstance(value, dict):
        parts = value.values()
    elif isinstance(value, list | tuple | set | frozenset):
        parts = value
    else:
        parts = getattr(value, "__dict__", {}).values() if not isinstance(value, type) else ()
    for part in list(parts):
        _collect(part, tensors, seen)


def references(value: Any) -> Iterator[Ref]:
    """All references in the arguments of a call."""
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from references(part)
    elif isinstance(value, dict):
        yield from references(list(value.values()))


def replaced(value: Any, change: Callable[[Any], Any]) -> Any:
    """Arguments of a call with every leaf changed."""
    if isinstance(value, list | tuple):
        return type(value)(replaced(part, change) for part in value) if type(value) in (list, tuple) else value
    if isinstance(value, dict):
        return {name: replaced(part, change) for name, part in value.items()}
    return change(value)


def substituted(value: Any, tensors: dict[int, Any]) -> Any:
    """Arguments of a call with tensors in the place of references."""
    return replaced(value, lambda leaf: tensors[leaf.index] if isinstance(leaf, Ref) else leaf)
