"""Layer times of profilers become layer tables: Neurosurgeon's, TensorRT's (excerpts of our own), torch.profiler's."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgemarl.envs.dnn import load_profile, save_profile
from edgemarl.envs.dnn.profiles import shipped_profiles
from edgemarl.envs.registry import make_scenario
from edgemarl.envs.scenarios.model_partitioning import ModelPartitioningDecisions, ModelPartitioningExogenous
from edgemarl.launch.dnn.import_profile import told_to_layers
from tests.launch.test_cli import run

ALEXNET = shipped_profiles()["alexnet"]
TENSORRT = [
    {"count": 500},
    *(
        {"name": name, "timeMs": 500 * ms, "averageMs": ms, "medianMs": ms, "percentage": 1.0}
        for name, ms in [
            ("Reformatting CopyNode for Input Tensor 0 to /conv1/Conv", 0.1), ("/conv1/Conv + /relu1/Relu", 0.4),
            ("/pool1/MaxPool", 0.2), ("/conv2/Conv + /relu2/Relu", 1.0), ("/pool2/MaxPool", 0.1), ("/conv3/Conv", 0.5),
            ("/conv4/Conv", 0.6), ("/conv5/Conv", 0.3), ("/pool5/MaxPool", 0.1), ("/fc6/Gemm + /relu6/Relu", 2.0),
            ("/fc7/Gemm + /relu7/Relu", 1.0), ("/fc8/Gemm", 0.25), ("prob", 0.05),
        ]
    ),
]  # fmt: skip
TENSORRT_MS = [0.7, 1.1, 0.5, 0.6, 0.4, 2.0, 1.0, 0.3]
NEUROSURGEON = """index,layerName,computation_time(ms),output_shape,transport_num,transport_size(MB),accumulate_time(ms)
1,"Conv2d(3, 64, kernel_size=(11, 11), stride=(4, 4))",4.5,"torch.Size([1, 64, 55, 55])",193600,0.774,4.5
2,"MaxPool2d(kernel_size=3, stride=2)",0.5,"torch.Size([1, 64, 27, 27])",46656,0.187,5.0
3,"Linear(in_features=9216, out_features=1000)",2.0,"torch.Size([1, 1000])",1000,0.004,7.0
"""
CONV_KERNELS = "HW,kernel,stride,Cin,Cout,FLOPs,latency\n" + "".join(
    f"224,3,1,3,{k},{f},{0.2 + f * 5e-9}\n" for k, f in ((8, 1e7), (64, 1e8), (512, 1e9))
)
LINEAR_KERNELS = "in_features,out_features,FLOPs,latency\n10,10,1e5,0.011\n10,100,1e6,0.02\n"


def imported(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[Any, str]:
    code, out, err = run("profile", "import", *words, "--name", "net", "--out", str(folder), capsys=capsys)
    assert code == 0, err
    return load_profile(folder / "net.yaml"), out


def write(path: Path, content: Any) -> str:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_a_profile_of_tensorrt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Copies, activations and pooling belong to the layer that they stand beside."""
    device = write(tmp_path / "jetson.json", TENSORRT)
    faster = [{**e, "medianMs": 0.1 * e["medianMs"]} if "name" in e else e for e in TENSORRT]
    server = write(tmp_path / "server.json", faster)
    profile, out = imported(tmp_path, capsys, device, "--layers", "alexnet", "--server", server)
    np.testing.assert_allclose(profile.time_s, 1e-3 * np.array(TENSORRT_MS))
    np.testing.assert_allclose(profile.edge_time_s, 1e-4 * np.array(TENSORRT_MS))
    assert (profile.macs, profile.energy_budget_j) == (ALEXNET.macs, ALEXNET.energy_budget_j)
    words = out[out.index("compare --scenario") :].split()
    words += ["--controllers", "local,edge,price_greedy", "--slots", "8", "--networks", "2"]
    words += ["--out", str(tmp_path / "o")]
    code, out, err = run(*words, capsys=capsys)
    assert code == 0, err


def test_neurosurgeon_s_table_of_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Times in place of MACs: the table says what crosses, so that it is a network by itself."""
    file = write(tmp_path / "edge.csv", NEUROSURGEON)
    profile, out = imported(tmp_path, capsys, file, "--input-elements", "150528")
    np.testing.assert_allclose(profile.time_s, [4.5e-3, 0.5e-3, 2e-3])
    assert profile.output_elements == (193600, 46656, 1000)
    assert "counts no MACs" in out
    network = {"num_devices": 1, "model_pattern": "net", "profiles": str(tmp_path / "net.yaml"), "layer_work": "times"}
    made: Any = make_scenario("model_partitioning", **network)
    np.testing.assert_allclose(made.cuts.local_cycles[0] / made.config.device_cpu_hz, [0.0, 4.5e-3, 5e-3, 7e-3])


def test_neurosurgeon_s_tables_of_kernels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0.2 ms and 5 ns per 1000 FLOP of a convolution, 10 us and 10 ns of a fully connected layer."""
    words = [write(tmp_path / "conv_lat.csv", CONV_KERNELS), write(tmp_path / "linear_lat.csv", LINEAR_KERNELS)]
    profile, _ = imported(tmp_path, capsys, *words, "--layers", "alexnet")
    flop = 2.0 * np.array(ALEXNET.macs)
    np.testing.assert_allclose(profile.time_s[:5], 2e-4 + 5e-12 * flop[:5], rtol=1e-6)
    np.testing.assert_allclose(profile.time_s[5:], 1e-5 + 1e-11 * flop[5:], rtol=1e-6)


@pytest.mark.parametrize("named", [True, False])
def test_a_trace_of_torch_s_profiler(named: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A real trace: blocks of `record_function`, or modules where nothing is named."""
    import torch
    from torch.profiler import ProfilerActivity, profile, record_function

    net = torch.nn.Sequential(torch.nn.Linear(512, 512), torch.nn.ReLU(), torch.nn.Linear(512, 8))
    x = torch.zeros(1, 512)
    with profile(activities=[ProfilerActivity.CPU], with_stack=not named) as taken, torch.no_grad():
        for _ in range(3):
            if not named:
                net(x)
                continue
            y = x
            with record_function("whole"):
                for name, layer in zip(("first", "act", "last"), net, strict=True):
                    with record_function(name):
                        y = layer(y)
    taken.export_chrome_trace(str(tmp_path / "trace.json"))
    table = {
        "input_elements": 512.0, "macs": [262144.0, 4096.0], "parameters": [1.0, 1.0], "output_elements": [512.0, 8.0],
        "names": ["first", "last"], "energy_budget_j": 0.1, "memory_budget_bytes": 1e6,
    }  # fmt: skip
    write(tmp_path / "table.yaml", table)
    words = [str(tmp_path / "trace.json"), "--layers", str(tmp_path / "table.yaml")]
    found, _ = imported(tmp_path, capsys, *words, *(["--map", "first=first", "--map", "last=last"] if named else []))
    spans = [e for e in json.loads((tmp_path / "trace.json").read_text())["traceEvents"] if e.get("ph") == "X"]
    wanted = ("first", "act") if named else ("nn.Module: Linear_0", "nn.Module: ReLU_0")
    took = [np.median([e["dur"] for e in spans if e["name"] == name]) for name in wanted]
    assert found.time_s[0] == pytest.approx(1e-6 * sum(took), rel=1e-5) and len(found.time_s) == 2


def test_measured_times_are_the_delays_of_a_scenario() -> None:
    """A cut's delay is the sum of measured times, at the highest rates and without a queue; MACs do not enter."""
    times = {"time_s": tuple(0.01 * (i + 1) for i in range(8)), "edge_time_s": tuple(0.001 * (i + 1) for i in range(8))}
    profile = dataclasses.replace(ALEXNET, **times)
    made: Any = make_scenario(
        "model_partitioning", num_devices=1, model_pattern="net", profiles={"net": profile}, layer_work="times"
    )
    cuts = np.arange(9)[:, None]
    state = made.initial_state(made.sample_trace(np.random.default_rng(0), 9, 1))
    exogenous = ModelPartitioningExogenous(np.full((9, 1), 1e-10), np.zeros((9, 1)))
    details = made.step(state, ModelPartitioningDecisions(cuts), exogenous).details
    np.testing.assert_allclose(details["device_delay_s"][:, 0], np.concatenate([[0], np.cumsum(times["time_s"])]))
    beyond = [sum(times["edge_time_s"][cut:]) for cut in range(9)]
    np.testing.assert_allclose(details["edge_delay_s"][:, 0], beyond, atol=1e-15)
    half = make_scenario(
        "model_partitioning", num_devices=1, model_pattern="net", layer_work="times",
        profiles={"net": dataclasses.replace(profile, edge_time_s=())},
    )  # fmt: skip
    plain = make_scenario("model_partitioning", num_devices=1, model_pattern="alexnet")
    np.testing.assert_array_equal(half.cuts.edge_cycles, plain.cuts.edge_cycles)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"layer_work = .times. is not legal: profiles.alexnet has no measured times"):
        make_scenario("model_partitioning", layer_work="times")


def test_both_times_survive_files(tmp_path: Path) -> None:
    profile = dataclasses.replace(ALEXNET, time_s=(0.5,) * 8, edge_time_s=(0.25,) * 8)
    for ending in ("csv", "yaml"):
        save_profile(profile, tmp_path / f"t.{ending}")
        assert load_profile(tmp_path / f"t.{ending}", 0.04, 1e8).edge_time_s == (0.25,) * 8


def test_entries_are_told_to_layers(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    blocks = ["stem", "layer1.0.conv1", "relu", "layer1.1.conv1", "layer2.0.conv1", "fc"]
    maps = ["stem_pool=stem", "block1=layer1.0", "block2=layer1.1", "head=fc"]
    assert told_to_layers(blocks, ["stem_pool", "block1", "block2", "head"], maps, path) == [0, 1, 1, 2, 2, 3]
    assert told_to_layers(["Conv_0", "Relu_1", "Gemm_2"], ["a", "b"], [], path) == [0, 0, 1]
    assert told_to_layers(["x", "y"], ["a", "b"], [], path) == [0, 1]
    with pytest.raises(ValueError, match=r"p.json times 6 entries .* the network has 2 layers .a, b.: .* --map"):
        told_to_layers(blocks, ["a", "b"], [], path)
    with pytest.raises(ValueError, match="--map c=x is not legal: must be LAYER=TEXT, LAYER one of a, b"):
        told_to_layers(blocks, ["a", "b"], ["c=x"], path)


BAD = {
    "not there": (None, [], "does not exist"),
    "not JSON": ("[{", [], "not readable JSON"),
    "other JSON": ('{"Layers": []}', [], "no times of layers that are known"),
    "a negative time": ('[{"name": "conv1", "timeMs": 1, "averageMs": -1}]', [], "must be a number >= 0"),
    "no layers named": (
        '{"traceEvents": [{"ph": "X", "cat": "cpu_op", "name": "aten::conv2d", "ts": 1, "dur": 1}]}', [],
        "put each into torch.profiler.record_function",
    ),
    "another table": ("a,b\n1,2\n", [], "a table of layers has a name"),
    "no sizes": (json.dumps(TENSORRT), [], "does not say how large the layers' outputs are"),
    "no input": (NEUROSURGEON, [], "--input-elements N"),
    "no such table": (NEUROSURGEON, ["--layers", "alexnett"], "neither a file nor one of alexnet, resnet18"),
    "other layers": (NEUROSURGEON, ["--layers", "resnet18"], "times 3 entries .* the network has 10 layers"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_input_gives_one_line(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, words, message = BAD[what]
    file = tmp_path / "in.csv"
    if content is not None:
        file.write_text(content)
    code, _, err = run("profile", "import", str(file), *words, "--out", str(tmp_path / "o"), capsys=capsys)
    assert code == 2 and err.count("\n") == 1
    with pytest.raises(ValueError, match=message):
        raise ValueError(err)
