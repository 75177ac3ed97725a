"""Networks that people bring to the profiler: each is counted as it runs, or refused in one line that names the place.

The work of every network is known by hand.
"""

from __future__ import annotations

import functools
import inspect
import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgemarl.launch.dnn.profiler import profile
from tests.small_networks import D, H, T, linear, macs, of, row

ATTENTION = 4 * T * D * D + 2 * T * T * D
ENCODER = ATTENTION + 2 * T * D * H
DECODER = ENCODER + 4 * T * D * D + 2 * T * T * D


def encoder(**options: Any) -> nn.Module:
    return nn.TransformerEncoderLayer(D, 2, H, batch_first=True, **options)


# --- torch's own layers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "inputs", "expected"),
    [
        (nn.LSTM(D, H, 2, batch_first=True, bidirectional=True), [row(T, D)], 2 * T * 4 * H * (D + H + 2 * H + H)),
        (nn.LSTM(D, H, proj_size=3, batch_first=True), [row(T, D)], T * (4 * H * (D + 3) + H * 3)),
        (nn.GRU(D, H, 2, batch_first=True), [row(T, D)], T * 3 * H * (D + H + H + H)),
        (nn.RNN(D, H, batch_first=True), [row(T, D)], T * H * (D + H)),
        (nn.LSTMCell(D, H), [row(D)], 4 * H * (D + H)),
        (nn.MultiheadAttention(D, 2, batch_first=True), [row(T, D)] * 3, ATTENTION),
        (of(lambda m, x: m.a(x, x, x, need_weights=False)[0], a=nn.MultiheadAttention(D, 2, batch_first=True)),
         [row(T, D)], ATTENTION),
        (nn.TransformerEncoder(encoder(), 3), [row(T, D)], 3 * ENCODER),
        (nn.TransformerDecoderLayer(D, 2, H, batch_first=True), [row(T, D), row(T, D)], DECODER),
        (nn.Transformer(D, 2, 1, 1, H, batch_first=True), [row(T, D), row(T, D)], ENCODER + DECODER),
        (nn.Bilinear(3, 4, 5), [row(3), row(4)], 60),
        (nn.Conv2d(4, 8, 3, groups=4, padding=1), [row(4, 6, 6)], 36 * 8 * 9),
        (nn.Conv2d(4, 8, 3, dilation=2), [row(4, 9, 9)], 25 * 8 * 4 * 9),
        (nn.ConvTranspose2d(4, 6, 3, 2, groups=2), [row(4, 5, 5)], 25 * 4 * 3 * 9),
        (nn.Conv3d(2, 3, 2), [row(2, 3, 3, 3)], 8 * 3 * 2 * 8),
        (nn.Sequential(nn.EmbeddingBag(9, D), nn.Linear(D, 2)), [torch.zeros(1, T, dtype=torch.int64)], 2 * D),
    ],
)  # fmt: skip
def test_torch_layers_are_counted(module: nn.Module, inputs: list[Tensor], expected: int) -> None:
    """Alone and inside another network; the fused kernels, which torch's counter does not know, as well."""
    found = profile(module, tuple(inputs), repeats=0)
    assert sum(found.macs) == expected
    assert sum(found.parameters) == sum(p.numel() for p in module.parameters())
    head = of(lambda m, *x: m.head(torch.as_tensor(_first(m.body(*x)))[..., :1]), body=module, head=linear(1, 3))
    places = _first(module(*inputs)).numel() // _first(module(*inputs)).shape[-1]
    assert macs(head, *inputs) == expected + 3 * places


def _first(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else _first(value[0])


@pytest.mark.parametrize(
    ("module", "inputs"),
    [
        (lambda: nn.LSTM(D, H, 2, batch_first=True), [row(T, D)]),
        (lambda: nn.Sequential(encoder(), nn.Flatten(), linear(T * D)), [row(T, D)]),
        (lambda: of(lambda m, x: m.a(x) + torch.arange(4) * (torch.ones(4) > 0), a=linear()), [row(4)]),
        (lambda: of(lambda m, x: m.a(x) + m.shift, a=linear(), shift=torch.ones(4)), [row(4)]),
        (lambda: nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(5)), [row(3, 5, 5)]),
        (lambda: torch.jit.script(nn.Sequential(linear(), nn.ReLU(), linear())), [row(4)]),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_weights_without_memory_give_the_same_table(module: Callable[[], nn.Module], inputs: list[Tensor]) -> None:
    """On the meta device a network runs on fake tensors: large ones are counted without their weights."""
    with torch.device("meta"):
        empty = module()
    assert profile(empty, tuple(inputs), repeats=0) == profile(module(), tuple(inputs), repeats=0)
    assert all(p.device.type == "meta" and type(p).__name__ != "FakeTensor" for p in empty.parameters())
    with pytest.raises(ValueError, match=r"weights on meta, times are measured on this CPU"):
        profile(empty, tuple(inputs), repeats=1)


def test_without_memory_nothing_is_read_and_nothing_is_missed() -> None:
    """On the meta device there is no plain run to hold the count against."""
    parts = {"a": linear(), "b": linear(), "times": torch.tensor(3)}
    empty = {name: part.to("meta") for name, part in parts.items()}
    with pytest.raises(
        ValueError, match=r"numbers are read that weights on the meta device do not have .*make it with"
    ):
        profile(of(constant_count, **empty), row(4), repeats=0)
    with pytest.raises(ValueError, match="operators that are not seen, such as those of another thread"):
        profile(of(in_a_thread, **empty), row(4), repeats=0)
    with torch.device("meta"):  # also while the user's default is another device
        assert sum(profile(of(grid_head, a=nn.Conv2d(3, 2, 3)), row(3, 4, 4), repeats=0).macs) == 4 * 2 * 27


def test_torch_does_not_say_at_length_what_fails_without_memory() -> None:
    said: list[logging.LogRecord] = []
    handler, logger = logging.Handler(), logging.getLogger("torch._subclasses.fake_tensor")
    handler.emit = said.append  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        with pytest.raises(ValueError, match="cannot run on an input of shape") as refusal:
            profile(nn.Linear(5, 2, device="meta"), row(4), repeats=0)
    finally:
        logger.removeHandler(handler)
    assert "\n" not in str(refusal.value) and said == []


# --- code of the user ---------------------------------------------------------------------------------------------


def type_branch(m: Any, x: Any) -> Tensor:
    if isinstance(x, Tensor):
        x = m.a(x)
    return m.b(x)  # type: ignore[no-any-return]


def left_out(m: Any, x: Tensor, mask: Tensor | None = None) -> Tensor:
    return m.a(x if mask is None else x * mask)  # type: ignore[no-any-return]


def written_parts(m: Any, x: Tensor) -> Tensor:
    """The result flows through memory that is written in place and by views."""
    y = torch.zeros(1, 2, 4)
    y[:, 0] = m.a(x)
    y[:, 1].add_(x)
    x.mul_(2)
    return m.b(F.relu(y, inplace=True))  # type: ignore[no-any-return]


def hand_lstm(m: Any, x: Tensor) -> Tensor:
    h, c = torch.zeros_like(x[:, 0]), x.new_zeros(1, D)
    for t in range(x.shape[1]):
        h, c = m.cell(x[:, t], (h, c))
    return h


def grid_head(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    rows = torch.stack(torch.meshgrid(torch.arange(y.shape[2]), torch.arange(y.shape[3]), indexing="ij"))
    return y.sigmoid() + rows  # type: ignore[no-any-return]


def energy_gradient(m: Any, x: Tensor) -> Tensor:
    with torch.enable_grad():
        x = x.requires_grad_()
        (found,) = torch.autograd.grad((m.a(x) ** 2).sum(), x)
    return found


def dead_work(m: Any, x: Tensor) -> Tensor:
    m.b(x)
    y = m.a(x)
    _ = torch.ones(2, 3) @ torch.ones(3, 2)
    return y  # type: ignore[no-any-return]


def constant_count(m: Any, x: Tensor) -> Tensor:
    for _ in range(int(m.times)):
        x = m.a(x)
    return x


def set_weight(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    m.a.weight.data = m.b.weight * 2
    return m.a(y)  # type: ignore[no-any-return]


def no_backend(graph: Any, inputs: Any) -> Any:
    raise RuntimeError("there is no compiler here")


def printing(m: Any, x: Tensor) -> Tensor:
    print("mean", f"{x.mean():.2f}", x)
    return m.a(x)  # type: ignore[no-any-return]


@torch.inference_mode()
def whole_operators(m: Any, x: Tensor) -> Tensor:
    return torch.matmul(m.a(x), m.a.weight)


def shared_pair() -> nn.Module:
    net = nn.Sequential(linear(), linear())
    net[1].weight = net[0].weight
    return net


def hooked() -> nn.Module:
    net, extra = nn.Sequential(linear()), linear()
    net[0].register_forward_hook(lambda module, inputs, out: extra(out))
    return net


class ViaSubclass(Tensor):
    pass


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        return x @ w


@functools.lru_cache
def remembered(size: int) -> Tensor:
    return torch.ones(size, size) @ torch.ones(size, size)


COUNTED: dict[str, tuple[Callable[[], nn.Module], list[Any], int]] = {
    "a branch on a type": (lambda: of(type_branch, a=linear(), b=linear(4, 2)), [row(4)], 24),
    "an optional argument left out": (lambda: of(left_out, a=linear()), [row(4)], 16),
    "a grid made in forward": (lambda: of(grid_head, a=nn.Conv2d(3, 2, 3, 2, 1)), [row(3, 8, 8)], 16 * 2 * 27),
    "hidden states made in forward": (lambda: of(hand_lstm, cell=nn.LSTMCell(D, D)), [row(T, D)], T * 8 * D * D),
    "in-place writes into views": (lambda: of(written_parts, a=linear(), b=linear(4, 3)), [row(4)], 16 + 24),
    "work whose result nobody needs": (lambda: of(dead_work, a=linear(), b=linear(4, 9)), [row(4)], 16 + 36 + 12),
    "a loop by a constant": (lambda: of(constant_count, a=linear(), times=torch.tensor(3)), [row(4)], 48),
    "a gradient in forward": (lambda: of(energy_gradient, a=nn.Linear(4, 4, bias=False)), [row(4)], 32),
    "inference mode": (lambda: of(whole_operators, a=linear()), [row(4)], 32),
    "tied weights": (shared_pair, [row(4)], 32),
    "a module called twice": (lambda: of(lambda m, x: m.a(m.a(x)), a=linear()), [row(4)], 32),
    "a weight that is computed": (
        lambda: of(lambda m, x: x @ m.g(m.z).view(4, 4), g=linear(3, 16), z=nn.Parameter(row(3)[0])), [row(4)], 64),
    "a hook": (hooked, [row(4)], 32),
    "old weight norm": (lambda: nn.Sequential(torch.nn.utils.weight_norm(linear())), [row(4)], 16),
    "weight norm": (lambda: nn.Sequential(torch.nn.utils.parametrizations.weight_norm(linear())), [row(4)], 16),
    "lazy layers": (lambda: nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(5)), [row(3, 5, 5)],
                    9 * 4 * 27 + 36 * 5),
    "TorchScript": (lambda: torch.jit.script(nn.Sequential(linear(), nn.ReLU(), linear())), [row(4)], 32),
    "TorchScript inside": (lambda: nn.Sequential(torch.jit.script(linear()), nn.ReLU(), linear()), [row(4)], 32),
    "a traced module": (lambda: torch.jit.trace(nn.Sequential(linear(), linear()), row(4)), [row(4)], 32),
    "an exported program": (lambda: torch.export.export(nn.Sequential(linear()).eval(), (row(4),)).module(), [row(4)],
                            16),
    "torch.compile": (lambda: torch.compile(nn.Sequential(linear())), [row(4)], 16),
    "DataParallel": (lambda: nn.DataParallel(linear()), [row(4)], 16),
    "no parameters": (lambda: of(lambda m, x: (x @ x.transpose(1, 2)).softmax(-1) @ x), [row(T, D)], 2 * T * T * D),
    "einsum": (lambda: of(lambda m, a, b: torch.einsum("bij,bjk->bik", a, b)), [row(3, 4), row(4, 5)], 60),
    "a product with a vector": (lambda: of(lambda m, x: x @ torch.ones(4)), [row(4)], 4),
    "attention in one call": (
        lambda: of(lambda m, q: F.scaled_dot_product_attention(q, q, q, is_causal=True)), [row(2, T, D)],
        4 * T * T * D),
    "grouped queries": (
        lambda: of(lambda m, q, k: F.scaled_dot_product_attention(q, k, k, enable_gqa=True)),
        [row(4, T, D), row(2, T, D)], 8 * T * T * D),
    "complex numbers": (lambda: nn.Linear(4, 3, dtype=torch.complex64), [row(4).to(torch.complex64)], 4 * 12),
    "whole numbers": (lambda: of(lambda m, x: x @ x.T), [torch.ones(1, 4, dtype=torch.int32)], 4),
    "bfloat16": (lambda: nn.Sequential(linear(40, 30), nn.ReLU(), linear(30, 20)).bfloat16(), [row(40).bfloat16()],
                 1800),
    "a sparse matrix": (
        lambda: of(lambda m, x: torch.sparse.mm(m.near, m.a(x[0])), a=linear(4, 3), near=torch.eye(T).to_sparse()),
        [row(T, 4)], T * 12 + T * 3),
    "vmap": (lambda: of(lambda m, x: torch.func.vmap(lambda r: torch.ones(3, 4) @ r)(x)), [torch.rand(5, 4)], 60),
    "an operation of one's own": (lambda: of(lambda m, x: Product.apply(x, m.w), w=nn.Parameter(torch.ones(4, 4))),
                                  [row(4)], 16),
    "a tensor subclass": (lambda: of(lambda m, x: m.a(x.as_subclass(ViaSubclass)).as_subclass(Tensor), a=linear()),
                          [row(4)], 16),
    "a value that is printed": (lambda: of(printing, a=linear()), [row(4)], 16),
    "one-hot codes": (lambda: of(lambda m, i: m.a(F.one_hot(i, 9).float()), a=linear(9)),
                      [torch.zeros(1, T, dtype=torch.int64)], T * 36),
    "a mask as an input": (
        lambda: of(lambda m, x, mask: m.e(x, mask=mask[0]), e=nn.TransformerEncoder(encoder(), 1)),
        [row(T, D), torch.zeros(1, T, T)], ENCODER),
    "lengths that are constant": (
        lambda: of(lambda m, x: m.l(nn.utils.rnn.pack_padded_sequence(x, torch.tensor([T]), batch_first=True))[0].data,
                   l=nn.LSTM(D, D)), [row(T, D)], T * 8 * D * D),
    "a distribution": (lambda: of(lambda m, x: torch.distributions.Normal(m.a(x), 1.0).rsample(), a=linear()),
                       [row(4)], 16),
    "dropout that never ends": (lambda: of(lambda m, x: m.a(F.dropout(x, 0.5)), a=linear()), [row(4)], 16),
    "a weight that is set in forward": (lambda: of(set_weight, a=linear(), b=linear()), [row(4)], 32),
    "a place that depends on values": (lambda: of(lambda m, x: m.a(x)[:, x.argsort()[0]], a=linear()), [row(4)], 16),
    "a compiler that does not run": (
        lambda: of(lambda m, x: m.compiled(x), a=(a := linear()), compiled=torch.compile(a, backend=no_backend)),
        [row(4)], 16),
    "a generator of its own": (
        lambda: of(lambda m, x: m.a(x + torch.rand(1, 4, generator=m.g)), a=linear(), g=torch.Generator()), [row(4)],
        16),
    "something remembered from call to call": (
        lambda: (remembered.cache_clear(), of(lambda m, x: m.a(x) @ remembered(4), a=linear()))[1], [row(4)],
        16 + 64 + 16),
    "results in a dict": (lambda: of(lambda m, x: {"y": m.a(x), "n": 3, "z": [(x,)]}, a=linear()), [row(4)], 16),
    "results in an object": (lambda: of(lambda m, x: Answer(m.a(x)), a=linear()), [row(4)], 16),
    "a list as an input": (lambda: of(lambda m, xs: m.a(xs[0]) + m.a(xs[1]), a=linear()), [[row(4), row(4)]], 32),
    "a dict as an input": (lambda: of(lambda m, d: d["a"] @ d["b"].T), [{"a": row(4), "b": row(4)}], 4),
}  # fmt: skip


@dataclass
class Answer:
    y: Tensor
    note: str = "fine"


@pytest.mark.parametrize("name", COUNTED)
@pytest.mark.filterwarnings("ignore")
def test_what_runs_is_counted(name: str) -> None:
    make, inputs, expected = COUNTED[name]
    assert macs(make(), *inputs) == expected


# --- refusals -----------------------------------------------------------------------------------------------------


def early_exit(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    return y if y.softmax(-1).max() > 0.9 else m.b(y)  # here


def experts(m: Any, x: Tensor) -> Tensor:
    chosen = m.a(x).argmax(-1)
    y = torch.zeros_like(x)
    y[chosen == 1] = m.b(x[chosen == 1])  # here
    return y


def counted_indices(m: Any, x: Tensor) -> Tensor:
    return m.a(x) + (x > 0.5).nonzero().sum()  # type: ignore[no-any-return]  # here


def by_numpy(m: Any, x: Tensor) -> Tensor:
    return m.a(torch.from_numpy(np.sin(x.numpy())))  # type: ignore[no-any-return]  # here


def by_list(m: Any, x: Tensor) -> Tensor:
    return m.a(torch.tensor(x.tolist()))  # type: ignore[no-any-return]  # here


def caught(m: Any, x: Tensor) -> Tensor:
    try:
        if x.sum() > 0:  # here
            return m.a(x)  # type: ignore[no-any-return]
    except Exception:
        x = m.b(x)
    return m.a(x)  # type: ignore[no-any-return]


def drawn_path(m: Any, x: Tensor) -> Tensor:
    return m.a(x) if torch.rand(1) < 0.5 else x  # here


def drawn_by_python(m: Any, x: Tensor) -> Tensor:
    return m.a(x) if random.random() < 0.5 else m.b(x)  # type: ignore[no-any-return]


def noise_by_numpy(m: Any, x: Tensor) -> Tensor:
    return m.a(x + float(m.g.normal()))  # type: ignore[no-any-return]


def in_a_thread(m: Any, x: Tensor) -> Tensor:
    found: list[Tensor] = []
    thread = threading.Thread(target=lambda: found.append(m.a(x)))
    thread.start()
    thread.join()
    return m.b(found[0] + x)  # type: ignore[no-any-return]


def own_error(m: Any, x: Tensor) -> Tensor:
    raise KeyError("first line\nsecond line")  # here


def leaves(m: Any, x: Tensor) -> Tensor:
    raise SystemExit("no\nmore")  # here


def with_lengths(m: Any, x: Tensor, lengths: Tensor) -> Any:
    return nn.utils.rnn.pack_padded_sequence(m.a(x), lengths, batch_first=True)  # here


def conditional(m: Any, x: Tensor) -> Tensor:
    found: Tensor = torch.cond(x.sum() > 0, lambda x: x @ x.T, lambda x: x + 1, (x,))  # here
    return found


class ScriptedBranch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = linear()

    def forward(self, x: Tensor) -> Tensor:
        if bool(x.sum() > 0):
            x = self.a(x)
        return self.a(x)  # type: ignore[no-any-return]


def quantised() -> nn.Module:
    quantise = torch.ao.quantization.quantize_dynamic
    found: nn.Module = quantise(nn.Sequential(linear()), {nn.Linear}, dtype=torch.qint8)  # type: ignore[no-untyped-call]
    return found


def frozen() -> nn.Module:
    found: nn.Module = torch.jit.freeze(torch.jit.script(nn.Sequential(linear()).eval()))
    return found


@torch.library.custom_op("edgemarl_test::mystery", mutates_args=())
def mystery(x: Tensor) -> Tensor:
    return x @ x.T


REFUSED: dict[str, tuple[Callable[..., Any] | Callable[[], nn.Module], list[Tensor], str]] = {
    "a path by values": (early_exit, [row(4)], "its path depends on the values of the input"),
    "experts": (experts, [row(4)], "a shape in it depends on the values"),
    "nonzero": (counted_indices, [row(4)], "a shape in it depends on the values"),
    "NumPy": (by_numpy, [row(4)], r"by numpy\(\) its result depends on the values"),
    "a list": (by_list, [row(4)], r"by tolist\(\) its result depends on the values"),
    "a refusal that the code catches": (caught, [row(4)], "its path depends on the values"),
    "a path at random": (drawn_path, [row(4)], "its path depends on random numbers"),
    "Python's random numbers": (drawn_by_python, [row(4)], "draws random numbers from Python or NumPy"),
    "noise from outside": (noise_by_numpy, [row(4)], "a second run gives another result"),
    "a thread": (in_a_thread, [row(4)], "a second run gives another result"),
    "an error": (own_error, [row(4)], "KeyError"),
    "leaving": (leaves, [row(4)], r"left the program \(no more\)"),
    "lengths as an input": (with_lengths, [row(T, 4), torch.ones(1, dtype=torch.int64)], "its work depends on"),
    "torch.cond": (conditional, [row(4)], "higher-order operator cond is not counted"),
    "an operator of one's own": (lambda m, x: mystery(x) @ x, [row(4)], "edgemarl_test::mystery is not one of torch's"),
    "too few inputs": (lambda m, x: m.c(x), [row(4)], "has no attribute 'c'"),
    "no result": (lambda m, x: None, [row(4)], "returns no tensor that depends on its input"),
    "a constant result": (lambda m, x: torch.ones(3), [row(4)], "returns no tensor that depends on its input"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_counted_is_refused_with_its_place(name: str) -> None:
    forward, inputs, words = REFUSED[name]
    with pytest.raises(ValueError, match=words) as refusal:
        profile(of(forward, a=linear(), b=linear(), g=np.random.default_rng(0)), tuple(inputs), repeats=0)
    message = str(refusal.value)
    assert message.startswith("Network ") and "\n" not in message and len(message) < 500
    lines, start = inspect.getsourcelines(forward)
    marked = [start + i for i, line in enumerate(lines) if line.rstrip().endswith("# here")]
    if marked:
        assert f"{Path(__file__).name}, line {marked[0]}" in message


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (quantised, r"quantized layers \(quantized::linear_dynamic\) are not counted.* \(in module '0' \(Linear\)\)"),
        (frozen, "constants of its TorchScript: profile it before torch.jit.freeze"),
        (
            lambda: torch.jit.script(ScriptedBranch()),
            r"ScriptedBranch cannot .* depends on the values .*, line \d+",
        ),
        (lambda: nn.Sequential(linear(), linear(5)), r"shapes cannot be multiplied .*\(in module '1' \(Linear\)\)"),
        (
            lambda: torch.jit.script(nn.Sequential(linear(5))),
            r"\]: RuntimeError: mat1 .* \(.*, line \d+\)",
        ),
        (lambda: nn.ModuleList([linear()]), "ModuleList cannot run on an input of shape"),
    ],
)
def test_whole_modules_that_are_refused(make: Callable[[], nn.Module], words: str) -> None:
    with pytest.raises(ValueError, match=words) as refusal:
        profile(make(), row(4), repeats=0)
    assert "\n" not in str(refusal.value)


def test_a_work_that_is_told_is_counted() -> None:
    from torch.utils.flop_counter import register_flop_formula

    @torch.library.custom_op("edgemarl_test::told", mutates_args=())
    def told(x: Tensor) -> Tensor:
        return x @ x.T

    register_flop_formula(torch.ops.edgemarl_test.told)(lambda shape, out_shape: 2 * shape[0] ** 2 * shape[1])
    assert macs(of(lambda m, x: told(x) @ x), torch.rand(3, 4)) == 36 + 36
