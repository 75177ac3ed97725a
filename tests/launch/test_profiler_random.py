"""Random networks: work as by formula, outputs as the module's, cuts where one tensor crosses and as good as no cut.

A network is drawn block by block on sequences (1, T, features). Each block comes with its work by formula, so that the
count does not come from torch, and nothing is shared with the profiler.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgemarl.launch.dnn.layers import pieces
from edgemarl.launch.dnn.profiler import profile
from edgemarl.launch.dnn.tape import Tape, tensors_in
from edgemarl.launch.dnn.trace import trace

T = 4
Block = tuple[Callable[[Tensor], Tensor], list[nn.Module], int, int]
"""What it does to (1, T, features), its modules, its work, features that leave it."""
EVEN = st.sampled_from([2, 4, 6])


@st.composite
def linear(draw: st.DrawFn, size: int) -> Block:
    out = draw(EVEN)
    layer = nn.Linear(size, out, bias=draw(st.booleans()))
    return layer, [layer], T * size * out, out


@st.composite
def convolution(draw: st.DrawFn, size: int) -> Block:
    """Over time, with groups and dilation; or transposed."""
    out, kernel, groups = draw(EVEN), draw(st.sampled_from([1, 3])), draw(st.sampled_from([1, 2]))
    if draw(st.booleans()):
        up = nn.ConvTranspose1d(size, out, kernel, padding=kernel // 2, groups=groups)
        return lambda x: up(x.mT).mT, [up], T * size * out * kernel // groups, out
    dilation = draw(st.sampled_from([1, 2]))
    layer = nn.Conv1d(size, out, kernel, padding=dilation * (kernel // 2), dilation=dilation, groups=groups)
    return lambda x: layer(x.mT).mT, [layer], T * size * out * kernel // groups, out


@st.composite
def recurrent(draw: st.DrawFn, size: int) -> Block:
    kind, gates = draw(st.sampled_from([(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)]))
    hidden, layers, ways = draw(EVEN) // 2, draw(st.sampled_from([1, 2])), draw(st.sampled_from([1, 2]))
    layer = kind(size, hidden, layers, batch_first=True, bidirectional=ways == 2)
    widths = [size] + [ways * hidden] * (layers - 1)
    work = sum(T * ways * gates * hidden * (width + hidden) for width in widths)
    return lambda x: layer(x)[0], [layer], work, ways * hidden


@st.composite
def attention(draw: st.DrawFn, size: int) -> Block:
    """torch's, in one call or by hand, masked or not."""
    work = 4 * T * size * size + 2 * T * T * size
    kind = draw(st.sampled_from(["torch", "weights", "call", "hand"]))
    if kind in ("torch", "weights"):
        whole = nn.MultiheadAttention(size, 2, batch_first=True)
        return lambda x: whole(x, x, x, need_weights=kind == "weights")[0], [whole], work, size
    q, k, v, o = parts = [nn.Linear(size, size) for _ in range(4)]
    if kind == "call":
        return lambda x: o(F.scaled_dot_product_attention(q(x), k(x), v(x), is_causal=True)), parts, work, size

    def by_hand(x: Tensor) -> Tensor:
        late = torch.ones(T, T, dtype=torch.bool).triu(1)
        weights = torch.einsum("bqd,bkd->bqk", q(x), k(x)).masked_fill(late, -1e9).softmax(-1)
        return o(weights @ v(x))  # type: ignore[no-any-return]

    return by_hand, parts, work, size


@st.composite
def encoder(draw: st.DrawFn, size: int) -> Block:
    inner = draw(EVEN)
    layer = nn.TransformerEncoderLayer(size, 2, inner, batch_first=True, norm_first=draw(st.booleans()))
    return layer, [layer], 4 * T * size * size + 2 * T * T * size + 2 * T * size * inner, size


@st.composite
def without_work(draw: st.DrawFn, size: int) -> Block:
    plain: list[tuple[Callable[[Tensor], Tensor], list[nn.Module]]] = [
        (lambda x: x.relu(), []),
        (lambda x: x.clone().sigmoid_(), []),
        (lambda x: x + torch.arange(T)[:, None] / T, []),
        (lambda x: torch.cat([x[:, T // 2 :], x[:, : T // 2]], 1), []),
        *((layer, [layer]) for layer in (nn.LayerNorm(size), nn.Dropout(0.3), nn.GroupNorm(1, T))),
    ]
    forward, parts = draw(st.sampled_from(plain))
    return forward, parts, 0, size


@st.composite
def twice(draw: st.DrawFn, size: int) -> Block:
    """A layer that is called twice, or that multiplies itself before it is used."""
    layer = nn.Linear(size, size, bias=False)
    if draw(st.booleans()):
        return lambda x: layer(layer(x)), [layer], 2 * T * size * size, size
    return lambda x: x @ (layer.weight @ layer.weight), [layer], size**3 + T * size * size, size


def chain(blocks: list[Block], size: int) -> Block:
    """One after another."""

    def forward(x: Tensor) -> Tensor:
        for block, *_ in blocks:
            x = block(x)
        return x

    out = blocks[-1][3] if blocks else size
    return forward, [m for block in blocks for m in block[1]], sum(block[2] for block in blocks), out


@st.composite
def residual(draw: st.DrawFn, size: int, depth: int) -> Block:
    """x + f(x), as an expression or in place; a projection brings f back to the size of x."""
    inner, parts, work, out = draw(sequence(size, depth - 1))
    back = nn.Linear(out, size)
    in_place = draw(st.booleans())

    def forward(x: Tensor) -> Tensor:
        y = back(inner(x))
        return y.add_(x) if in_place else x + y  # type: ignore[no-any-return]

    return forward, [*parts, back], work + T * out * size, size


@st.composite
def branches(draw: st.DrawFn, size: int, depth: int) -> Block:
    """Two paths joined by `cat`, or written into one tensor by views."""
    one, two = draw(sequence(size, depth - 1)), draw(sequence(size, depth - 1))
    out, by_views = one[3] + two[3], draw(st.booleans())

    def forward(x: Tensor) -> Tensor:
        if not by_views:
            return torch.cat([one[0](x), two[0](x)], -1)
        y = x.new_empty(1, T, out)
        y[..., : one[3]], y[..., one[3] :] = one[0](x), two[0](x)
        return y

    return forward, one[1] + two[1], one[2] + two[2], out


@st.composite
def halves(draw: st.DrawFn, size: int, depth: int) -> Block:
    """One half of the features gates the other."""
    inner = draw(sequence(size // 2, depth - 1))
    back = nn.Linear(inner[3], size)

    def forward(x: Tensor) -> Tensor:
        value, gate = x.chunk(2, -1)
        y = back(inner[0](value).tanh())
        y *= torch.cat([gate, gate], -1).sigmoid()
        return y  # type: ignore[no-any-return]

    return forward, [*inner[1], back], inner[2] + T * inner[3] * size, size


@st.composite
def sequence(draw: st.DrawFn, size: int, depth: int = 2) -> Block:
    leaves = [linear, convolution, recurrent, attention, encoder, without_work, twice]
    nested = [residual, branches, halves] if depth > 0 else []
    blocks: list[Block] = []
    for _ in range(draw(st.integers(1, 3))):
        width = blocks[-1][3] if blocks else size
        able = [kind for kind in leaves if kind not in (attention, encoder, convolution) or width % 2 == 0]
        able += [kind for kind in nested if kind is not halves or (width % 2 == 0 and width > 2)]  # type: ignore[misc]
        kind: Any = draw(st.sampled_from(able))
        blocks.append(draw(kind(width, depth) if kind in nested else kind(width)))
    return chain(blocks, size)


class Network(nn.Module):
    def __init__(self, forward: Callable[[Tensor], Tensor], parts: list[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self._forward = forward
        self.head = nn.Linear(T, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self._forward(x).mean(-1))  # type: ignore[no-any-return]


@st.composite
def networks(draw: st.DrawFn) -> tuple[Network, int, int]:
    """A network, its input features and its work."""
    torch.manual_seed(draw(st.integers(0, 9)))
    size = draw(EVEN)
    forward, parts, work, _ = draw(sequence(size))
    return Network(forward, parts), size, work + 3 * T


def crossing(tape: Tape, i: int) -> set[int]:
    """Memory that depends on the input after operation i and is read after it: by definition."""
    later = [v for o in tape.operations[i + 1 :] if not o.view for v in o.reads]
    memory = {tape.values[v].storage for v in (*later, *tape.outputs)}
    return {s for s in memory if tape.since.get(s, len(tape.operations)) <= i}


@settings(max_examples=60)
@given(networks())
def test_work_outputs_and_cuts_are_those_of_the_module(drawn: tuple[Network, int, int]) -> None:
    network, size, work = drawn
    x = torch.rand(1, T, size)
    found = profile(network, x, repeats=0)
    assert sum(found.macs) == work
    assert sum(found.parameters) == sum(p.numel() for p in network.parameters())
    assert min(found.output_elements) > 0 and found.output_elements[-1] == 3 and len(set(found.names)) == found.layers

    tape = trace(network, (x,))
    assert sum(o.macs for o in tape.operations) == work
    other = torch.randn(1, T, size)
    with torch.no_grad():
        (mine,), expected = tape.run([other]), network.eval()(other)
    torch.testing.assert_close(mine, expected)  # attention has a fused kernel

    body = [i for i, o in enumerate(tape.operations) if o.depends]
    ends = [p.operations[-1] for p in pieces(tape)]
    assert ends == [i for i in body if i == body[-1] or len(crossing(tape, i)) == 1]
    assert sorted(i for p in pieces(tape) for i in p.operations) == list(range(len(tape.operations)))


@settings(max_examples=15)
@given(networks())
def test_fake_tensors_give_the_table_of_a_real_run(drawn: tuple[Network, int, int]) -> None:
    network, size, _ = drawn
    x = torch.rand(1, T, size)
    real = profile(network, x, repeats=0)
    for part in network.modules():
        for name, parameter in list(part._parameters.items()):
            if parameter is not None:
                setattr(part, name, nn.Parameter(parameter.to("meta")))
    assert profile(network, x, repeats=0) == real


@settings(max_examples=25)
@given(networks(), st.data())
def test_a_cut_can_be_carried_out(drawn: tuple[Network, int, int], data: st.DataObject) -> None:
    """A device that runs the first operations and sends one tensor is enough for the edge to find the same result."""
    network, size, _ = drawn
    tape = trace(network, (torch.rand(1, T, size),))
    ends = [p.operations[-1] for p in pieces(tape)][:-1]
    if not ends:
        return
    cut = data.draw(st.sampled_from(ends))
    x = torch.randn(1, T, size)
    with torch.no_grad():
        expected = network.eval()(x)
        tensors: dict[int, Any] = {i: v.kept for i, v in enumerate(tape.values) if v.kept is not None}
        tensors[tape.inputs[0]] = x.clone()
        run(tape, tensors, range(cut + 1))
        (sent,) = crossing(tape, cut)
        for i in list(tensors):  # what is not sent is lost
            storage = tape.values[i].storage
            if storage != sent and tape.since.get(storage, cut + 1) <= cut:
                tensors[i].fill_(float("nan"))
        run(tape, tensors, range(cut + 1, len(tape.operations)))
    torch.testing.assert_close(tensors[tape.outputs[0]], expected)


def run(tape: Tape, tensors: dict[int, Any], operations: range) -> None:
    def real(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [real(part) for part in value]
        return tensors[value.index] if type(value).__name__ == "Ref" else value

    for i in operations:
        o = tape.operations[i]
        made = o.function(*real(o.arguments), **{k: real(v) for k, v in o.keywords.items()})
        tensors.update(zip(o.results, tensors_in(made), strict=True))


@pytest.mark.parametrize("shape", [(3, 5), (1, 7, 2)])
def test_the_formula_of_a_linear_layer(shape: tuple[int, ...]) -> None:
    layer = nn.Linear(shape[-1], 4)
    assert sum(profile(layer, torch.rand(1, *shape), repeats=0).macs) == prod(shape) * 4
