"""The profiler of deep networks: cut points, operations and parameters of modules whose answers are known by hand."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgemarl.envs.dnn import load_profile, save_profile
from edgemarl.envs.registry import make_scenario
from edgemarl.launch.cli import main
from edgemarl.launch.dnn.examples import alexnet, resnet18
from edgemarl.launch.dnn.profiler import LayerTable, profile

SHIPPED = Path(importlib.util.find_spec("edgemarl.envs.dnn").origin or "").parent  # type: ignore[union-attr]


def table(module: nn.Module, *shape: int, repeats: int = 0) -> LayerTable:
    found = profile(module, torch.zeros(1, *shape), repeats=repeats)
    assert isinstance(found, LayerTable)
    return found


@pytest.mark.parametrize(
    ("make", "macs", "parameters"), [(alexnet, 714_188_480, 61_100_840), (resnet18, 1_814_073_344, 11_689_512)]
)
def test_published_totals_and_the_shipped_tables(make: Any, macs: int, parameters: int, tmp_path: Path) -> None:
    """The command of `edgemarl.launch.dnn.examples` gives the shipped files, byte by byte."""
    with torch.device("meta"):
        module = make()
    found = table(module, 3, 224, 224)
    assert (sum(found.macs), sum(found.parameters)) == (macs, parameters)
    assert sum(found.parameter_bytes) == 4 * parameters and found.input_elements == 150_528
    save_profile(found.as_profile(1.0, 1.0), tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_text() == (SHIPPED / f"{make.__name__}.csv").read_text()


def test_a_plain_chain() -> None:
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.Linear(8, 6, bias=False), nn.Softmax(1)
    )
    found = table(net, 3, 4)
    assert found.names == ("1", "4")
    assert found.macs == (96, 48)
    assert found.parameters == (12 * 8 + 8 + 16, 48)  # the norm's scale and shift go with the layer before it
    assert found.output_elements == (8, 6) and found.output_bytes == (32, 24) and found.input_bytes == 48


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(10, 4)
        self.one, self.two = nn.Linear(4, 16), nn.Linear(16, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        y = x + self.two(torch.relu(self.one(x)))
        return self.head(torch.relu(y))  # type: ignore[no-any-return]


def test_a_residual_block_is_one_layer() -> None:
    """Inside it two tensors cross every cut, so a cut there would have to send both."""
    found = table(Residual(), 10)
    assert found.macs == (40, 128, 8)
    assert found.parameters == (44, 4 * 16 + 16 + 16 * 4 + 4, 10)
    assert found.output_elements == (4, 4, 2)
    assert found.names[0] == "stem" and found.names[2] == "head"


class Inception(nn.Module):
    """Three branches that are joined, between two plain layers; pooling after the join shrinks it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.branches = nn.ModuleList(nn.Conv2d(4, 5, k, padding=k // 2) for k in (1, 3, 5))
        self.head = nn.Linear(15, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.cat([branch(x) for branch in self.branches], dim=1)
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


def test_branches_are_one_layer_and_pooling_after_them_goes_on() -> None:
    found = table(Inception(), 3, 8, 8)
    pixels = 64
    assert found.macs == (pixels * 27 * 4, pixels * 4 * 5 * (1 + 9 + 25), 105)
    assert found.output_elements == (4 * pixels, 15 * pixels, 7)
    assert found.names == ("stem", "branches", "head")


class TwoOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.left, self.right = nn.Linear(6, 6), nn.Linear(6, 2), nn.Linear(6, 3)

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        x = self.body(a) + b
        left, right = x.split(3, dim=1)
        return self.left(x) + left.sum(), self.right(x) + right.sum()


def test_several_inputs_and_outputs() -> None:
    """Before the sum two inputs cross, after it one tensor, at the end both results leave."""
    found = profile(TwoOutputs(), (torch.zeros(1, 6), torch.zeros(1, 6)), repeats=0)
    assert found.macs == (36, 12 + 18) and found.output_elements == (6, 5) and found.input_elements == 12


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.relu(self.layer(x) * self.scale))  # type: ignore[no-any-return]


def test_shared_weights_count_once() -> None:
    found = table(Shared(), 4)
    assert found.macs == (16, 16) and sum(found.parameters) == 24
    assert found.parameters == (24, 0) and len(set(found.names)) == 2


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 8)
        self.position = nn.Parameter(torch.zeros(1, 6, 8))
        self.query, self.key, self.value = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x) + self.position
        weights = torch.softmax(self.query(x) @ self.key(x).transpose(1, 2), dim=-1)
        return x + weights @ self.value(x)


def test_attention_counts_its_matrix_products() -> None:
    """A learned constant such as a position code does not cross a cut: both sides have it."""
    found = table(Attention(), 6, 5)
    assert found.macs == (6 * 5 * 8, 3 * 6 * 64 + 2 * 6 * 6 * 8)
    assert found.output_elements == (48, 48) and found.parameters[0] == 48 + 48


class Branching(nn.Module):
    """Python looks at the shape, which a symbolic trace cannot do."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] != 4:
            raise ValueError("four features are needed")
        x = self.one(x)
        if x.shape[0] > 100:
            x = x[:100]
        return self.two(torch.relu(x))  # type: ignore[no-any-return]


def test_python_branches_on_shapes_are_exported() -> None:
    found = table(Branching(), 4)
    assert found.macs == (16, 12) and found.parameters == (20, 15) and found.output_elements == (4, 3)
    assert found.names == ("one", "two")


class DataDependent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if float(x.sum()) > 0 else x


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (
            DataDependent(),
            "DataDependent cannot be profiled: its path depends on the values .* torch.where",
        ),
        (nn.Sequential(nn.ReLU()), "no convolution and no matrix product"),
        (nn.Linear(5, 2), r"cannot run on an input of shape \[\(1, 4\)\]"),
    ],
)
def test_modules_that_have_no_table(module: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        profile(module, torch.zeros(1, 4), repeats=0)


def test_the_module_is_left_as_it_was_and_times_add_up() -> None:
    net = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Dropout(), nn.BatchNorm1d(512), nn.Linear(512, 8))
    net[3].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    start = time.perf_counter()
    found = table(net, 64, repeats=3)
    took_s = time.perf_counter() - start
    assert net.training and net[2].training and not net[3].training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert len(found.time_s) == 2 and min(found.time_s) > 0 and sum(found.time_s) < took_s


def test_a_profile_becomes_a_scenario(tmp_path: Path) -> None:
    """From a module to an environment through a file."""
    found = table(Inception(), 3, 8, 8, repeats=1)
    found.write_csv(tmp_path / "own.csv")
    again = load_profile(tmp_path / "own.csv", 0.05, 1e6)
    assert again.macs == found.macs and again.names == found.names
    np.testing.assert_allclose(again.time_s, found.time_s, rtol=1e-5)
    budgets = {"energy_budget_j": 0.05, "memory_budget_bytes": 1e6}
    made: Any = make_scenario(
        "model_partitioning", model_pattern="own,resnet18", profiles={"own": {"table": tmp_path / "own.csv", **budgets}}
    )
    assert made.layers.tolist() == [3, 10, 3, 10, 3]


def test_the_command_writes_table_and_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(
            [
                "profile",
                "tests.launch.test_profiler:Inception",
                "--input",
                "3,8,8",
                "--out",
                str(tmp_path),
                "--repeats",
                "1",
            ]
        )
    assert end.value.code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"Inception.{e}" for e in ("csv", "png", "svg", "yaml")]
    shown = capsys.readouterr().out
    assert "branches" in shown and "model_pattern=Inception" in shown
    assert load_profile(tmp_path / "Inception.yaml").layers == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere:net", "--input", "3"], "no module 'nowhere' is installed or in the working folder"),
        (["edgemarl.launch.dnn.examples:vgg", "--input", "3"], "has no 'vgg'"),
        (["edgemarl.launch.dnn.examples", "--input", "3"], "must be module:Name or path/to/file.py:Name"),
        (["edgemarl.launch.experiment.plan:preset_names", "--input", "3"], "gives a tuple"),
        (["edgemarl.launch.dnn.examples:alexnet", "--input", "3,x"], "input = '3,x'"),
        (["edgemarl.launch.dnn.examples:alexnet", "--input", "3,4:float99"], "the torch type"),
        (["edgemarl.launch.dnn.examples:alexnet", "--input", "3,224,224", "--repeats", "-1"], "repeats = -1"),
    ],
)
def test_bad_input_gives_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["profile", *arguments])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
