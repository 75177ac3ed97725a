"""The profiler leaves a module as it was, and cuts where exactly one tensor crosses."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgemarl.launch.dnn.profiler import LayerTable, profile
from tests.small_networks import D, H, T, linear, macs, of, row

# --- the module afterwards ----------------------------------------------------------------------------------------


class Remembering(nn.Module):
    """Changes itself in all ways: attributes, lists, buffers, memory behind a parameter; cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.a = linear()
        self.lock = threading.Lock()
        self.last: Tensor | None = None
        self.calls, self.log, self.more = 0, [1], {"x": {2}}
        self.register_buffer("rows", torch.zeros(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        with self.lock:
            y: Tensor = self.a(x)
        if self.last is not None:
            y = self.a(y + self.last)
        self.last = y
        self.calls += 1
        self.log.append(self.calls)
        self.more.setdefault("y", set())
        self.more["x"].add(3)
        self.rows[self.calls] = y[0]  # type: ignore[operator]
        self.a.weight.data = torch.ones(4, 4) * self.a.weight
        return y * self.rows.sum()  # type: ignore[operator]


def test_a_module_that_changes_itself_is_left_as_it_was() -> None:
    module = Remembering()
    module.a.train(False)
    weight, bias = module.a.weight, module.a.bias
    before = {name: value.clone() for name, value in module.state_dict().items()}
    place = weight.data_ptr()
    drawn = random.getstate()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert macs(module, row(4)) == 16
    assert sum(profile(module, row(4), repeats=2).macs) == 16
    assert torch.equal(torch.get_rng_state(), state) and random.getstate() == drawn
    assert module.a.weight is weight and module.a.bias is bias and weight.data_ptr() == place
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert module.last is None and (module.calls, module.log, module.more) == (0, [1], {"x": {2}})
    assert module.training and not module.a.training


def test_a_module_is_left_as_it_was_when_it_fails() -> None:
    module = of(
        lambda m, x: (m.log.append(x), m.count.add_(1), m.a(x[:, :3])), a=linear(), count=torch.zeros(1), log=[]
    )
    with pytest.raises(ValueError, match="cannot run on an input of shape"):
        profile(module, row(4), repeats=0)
    assert module.log == [] and float(module.count) == 0.0 and module.training  # type: ignore[arg-type]


class MergesInEval(nn.Module):
    """`train` itself changes weights, as adapters of low rank do."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = linear(), linear()
        self.merged = False

    def train(self, mode: bool = True) -> MergesInEval:
        if not mode and not self.merged:
            self.a.weight.data += self.b.weight
        self.merged = not mode
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) if self.merged else self.a(x) + self.b(x)  # type: ignore[no-any-return]


def test_what_eval_changes_is_put_back() -> None:
    module = MergesInEval()
    before = module.a.weight.detach().clone()
    assert macs(module, row(4)) == 16
    assert torch.equal(module.a.weight, before) and not module.merged and module.training


def test_an_example_may_be_changed_by_the_module() -> None:
    x = row(4)
    kept = x.clone()
    assert macs(of(lambda m, x: m.a(x.mul_(3)), a=linear()), x) == 16
    assert torch.equal(x, kept)


@pytest.mark.parametrize(
    ("module", "example", "message"),
    [(len, row(4), "must be a torch.nn.Module"), (linear(), 3, "without tensors"), (linear(), (), "without tensors")],
)
def test_what_is_no_network_and_no_request(module: Any, example: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        profile(module, example, repeats=0)


# --- cuts ---------------------------------------------------------------------------------------------------------


def table(module: nn.Module, *inputs: Tensor) -> LayerTable:
    return profile(module, inputs, repeats=0)


def test_a_cut_sends_what_is_read_later() -> None:
    """After a transformer block only the first token goes on: a cut there would send D elements, not T times D."""
    net = of(lambda m, x: m.head(m.pick(m.body(x))), body=linear(D, H), pick=First(), head=linear(H, 3))
    assert table(net, row(T, D)).output_elements == (H, 3)


class First(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0]


def test_views_of_one_tensor_are_one_tensor() -> None:
    """Two halves of one tensor cross as one; two tensors do not."""
    halves = of(lambda m, x: m.b(sum(m.a(x).chunk(2, -1))), a=linear(4, 8), b=linear(4, 2))
    assert table(halves, row(4)).output_elements == (4, 2) and table(halves, row(4)).macs == (32, 8)
    two = of(lambda m, x: m.b(m.a(x)) + m.c(x.relu()), a=linear(), b=linear(), c=linear())
    assert table(two, row(4)).macs == (48,)


def test_a_residual_written_in_place_is_one_layer() -> None:
    def residual(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        y = m.b(m.a(x).relu_())
        x += y
        return m.head(x.relu_())  # type: ignore[no-any-return]

    found = table(of(residual, stem=linear(), a=linear(), b=linear(), head=linear(4, 2)), row(4))
    assert found.macs == (16, 32, 8) and found.names == ("stem", "a", "head")


def test_what_has_the_shape_of_a_tensor_alone_does_not_cross() -> None:
    """Zeros of the input's shape are made on both sides of a cut."""

    def forward(m: Any, x: Tensor) -> Tensor:
        zeros = torch.zeros_like(x)
        return m.b(m.a(x)) + zeros  # type: ignore[no-any-return]

    assert table(of(forward, a=linear(), b=linear()), row(4)).macs == (16, 16)


def test_what_does_not_depend_on_the_input_stands_with_its_first_user() -> None:
    """A weight is computed at the beginning and used in the second layer: work and parameters are the second's."""

    def forward(m: Any, x: Tensor) -> Tensor:
        weight = m.g(m.z).view(4, 4)
        return m.a(x).relu() @ weight  # type: ignore[no-any-return]

    found = table(of(forward, a=linear(), g=linear(3, 16), z=nn.Parameter(torch.ones(3))), row(4))
    assert found.macs == (16, 48 + 16) and found.parameters == (20, 3 * 16 + 16 + 3) and found.names == ("a", "g")


def test_results_given_twice_leave_once() -> None:
    assert table(of(lambda m, x: (m.a(x), [m.b(x)] * 3), a=linear(), b=linear()), row(4)).output_elements == (8,)


def test_a_view_that_nobody_reads_does_not_cross() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.a(x)
        z = m.c(m.b(y))
        _ = y[:, :2]
        return z  # type: ignore[no-any-return]

    assert table(of(forward, a=linear(), b=linear(), c=linear()), row(4)).macs == (16, 16, 16)


def test_a_block_that_is_read_by_views_has_its_size() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.a(x) + x
        return m.b(y)  # type: ignore[no-any-return]

    found = table(of(forward, a=linear(), b=linear(4, 3)), row(T, 4))  # a linear layer on a sequence begins with a view
    assert found.output_elements == (4 * T, 3 * T)


def test_a_parameter_that_is_used_by_a_view_counts() -> None:
    half = linear(4, 6)
    module = of(lambda m, x: x @ m.part.T, half=half)
    object.__setattr__(module, "part", half.weight.detach()[:3])
    assert table(module, row(4)).parameters == (24,)


def test_a_compiled_module_runs_as_it_is_written_and_is_compiled_afterwards() -> None:
    graphs: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph

    module = torch.compile(nn.Sequential(linear()), backend=backend)
    assert macs(module, row(4)) == 16 and not graphs
    module(row(4))
    assert len(graphs) == 1
