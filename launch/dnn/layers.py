"""Cut a tape where exactly one tensor crosses, and join the pieces to logical layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from edgemarl.launch.dnn.tape import Tape


@dataclass
class Piece:
    """Operations between two neighbouring cut points.

    Attributes:
        operations: their numbers.
        macs: multiply-accumulate operations.
        owned: parameters by path, first used here.
        elements, bytes: what leaves.
        branches: more than one tensor crosses somewhere inside.
        weighted: paths of modules with parameters that are used here.
    """

    operations: list[int]
    macs: int
    owned: dict[str, Tensor]
    elements: int
    bytes: int
    branches: bool
    weighted: list[str]


def pieces(tape: Tape) -> list[Piece]:
    """Cut the run, in the order in which it went, wherever exactly one tensor that depends on the input crosses.

    What does not depend on the input stands with the first operation that needs it.
    """
    body = [i for i, operation in enumerate(tape.operations) if operation.depends]
    constants = _constants_by_user(tape, body)
    crossing = _crossing(tape)
    seen: set[int] = set()
    cut: list[Piece] = []
    taken: list[int] = []
    branches = False
    for i in body:
        taken += [*constants.get(i, ()), i]
        count, elements, size = crossing[i]
        if i != body[-1] and count != 1:
            branches |= count > 1
            continue
        if i == body[-1]:
            elements, size = _returned(tape)
        owned, weighted = _parameters(tape, taken, seen)
        work = sum(tape.operations[k].macs for k in taken)
        cut.append(Piece(taken, work, owned, elements, size, branches, weighted))
        taken, branches = [], False
    return cut


def _returned(tape: Tape) -> tuple[int, int]:
    """Elements and bytes of what the network returns, as far as it depends on the input."""
    values = [tape.values[i] for i in dict.fromkeys(tape.outputs) if tape.values[i].storage in tape.since]
    return sum(v.elements for v in values), sum(v.bytes for v in values)


def _constants_by_user(tape: Tape, body: Sequence[int]) -> dict[int, list[int]]:
    """First operation of the body that needs them -> operations that do not depend on the input.

    One whose result nothing uses stands with the next operation of the body after it.
    """
    user: dict[int, int] = {}  # memory -> the first operation of the body, from here on, that reads it
    homes: dict[int, int] = {}
    following = body[-1] if body else 0
    for i in range(len(tape.operations) - 1, -1, -1):
        operation = tape.operations[i]
        memory = {tape.values[k].storage for k in (*operation.writes, *operation.results)}
        if operation.depends:
            following = home = i
        else:
            home = homes[i] = min((user[s] for s in memory if s in user), default=following)
        for k in operation.reads:
            user[tape.values[k].storage] = home
    by_user: dict[int, list[int]] = {}
    for i in sorted(homes):
        by_user.setdefault(homes[i], []).append(i)
    return by_user


def _crossing(tape: Tape) -> list[tuple[int, int, int]]:
    """For every operation, what crosses between it and the next: number of tensors, their elements and bytes.

    A tensor is memory that depends on the input and is read later, with as many elements of it as are read: views of
    the same memory are one. Found from the end to the beginning.
    """
    whole = {value.storage: value for value in reversed(tape.values)}
    needed: dict[int, set[int]] = {}  # memory -> its tensors that are read later
    begins: dict[int, list[int]] = {}
    for storage, i in tape.since.items():
        begins.setdefault(i, []).append(storage)

    def need(value: int, at: int) -> None:
        storage = tape.values[value].storage
        if tape.since.get(storage, at) < at:
            needed.setdefault(storage, set()).add(value)

    last = len(tape.operations)
    for value in tape.outputs:
        need(value, last)
    crossing: list[tuple[int, int, int]] = []
    for i in range(last - 1, -1, -1):
        elements = size = 0
        if len(needed) == 1:
            ((storage, values),) = needed.items()
            elements = min(sum(tape.values[k].elements for k in values), whole[storage].elements)
            size = min(sum(tape.values[k].bytes for k in values), whole[storage].bytes)
        crossing.append((len(needed), elements, size))
        for storage in begins.get(i, ()):
            needed.pop(storage, None)
        operation = tape.operations[i]
        for value in operation.results:
            view = tape.values[value]
            if view.made == i and value in needed.get(view.storage, ()):
                needed[view.storage].discard(value)
                if view.parent is not None:
                    need(view.parent, i)
        for value in () if operation.view else operation.reads:
            need(value, i)
    return crossing[::-1]


def _parameters(tape: Tape, operations: Sequence[int], seen: set[int]) -> tuple[dict[str, Tensor], list[str]]:
    """Parameters that these operations use first, and the paths of the modules of all that they use.

    `seen` keeps the ids of the parameters met before.
    """
    owned: dict[str, Tensor] = {}
    weighted: list[str] = []
    for i in operations:
        for value in tape.operations[i].reads:
            for name, parameter in tape.parameters.get(value, ()):
                weighted.append(name.rpartition(".")[0] or name)
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    owned[name] = parameter
    return owned, weighted


def logical_layers(cut: Sequence[Piece]) -> list[list[Piece]]:
    """Join pieces without work to the layer before them, or to the next one where they shrink a block's output."""
    layers: list[list[Piece]] = []
    waiting: list[Piece] = []
    for piece in cut:
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


def _is_block(layer: Sequence[Piece]) -> bool:
    return any(piece.branches for piece in layer)


def _principal(layer: Sequence[Piece]) -> str:
    """Path of the module with the largest parameter that a layer owns, or nothing."""
    owned = [(tensor.numel(), path) for piece in layer for path, tensor in piece.owned.items()]
    path = max(owned, key=lambda entry: entry[0], default=(0, ""))[1]
    return path.rpartition(".")[0] or path


def names(layers: Sequence[Sequence[Piece]]) -> list[str]:
    """Path of the largest module around the largest parameter whose parameters serve this layer alone; unique."""
    used = [[path for piece in layer for path in piece.weighted] for layer in layers]
    unique: list[str] = []
    for i, own in enumerate(used):
        others = [path for j, paths in enumerate(used) if j != i for path in paths]
        name = _principal(layers[i]) or (own[0] if own else f"layer{i + 1}")
        while "." in name:
            parent = name.rpartition(".")[0]
            if any(path == parent or path.startswith(f"{parent}.") for path in others):
                break
            name = parent
        unique.append(name if name not in unique else f"{name}#{i + 1}")
    return unique
