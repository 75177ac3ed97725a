"""Files that this project writes, as disks, editors and other people hand them back: read, or refused in one line.

A hundred inputs per reader in `make test`, the same in every run; 2,000 fresh ones with `pytest -m soak`.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
import pytest
import torch
from hypothesis import strategies as st

from edgemarl.agents.clients.files import policy_file
from edgemarl.agents.trained.networks import PolicyNetwork
from edgemarl.agents.trained.policy import TrainedPolicy, _with_checksum
from edgemarl.agents.trained.spec import network_spec
from edgemarl.envs.dnn.profiles import load_profile
from edgemarl.launch.commands.bench import _numbers
from edgemarl.launch.commands.replay import _runs
from edgemarl.launch.commands.train import saved_config
from edgemarl.launch.dnn.import_profile import read_times
from edgemarl.marl.evaluation.measured.mapping import load_mapping
from edgemarl.marl.training.config import TrainConfig, resolve
from edgemarl.marl.training.folder import RunFolder
from edgemarl.marl.training.health import Health
from edgemarl.marl.training.saves import MANIFEST, commit
from edgemarl.marl.training.trained import load_policy
from tests.test_fuzz import LONG, SHORT, edited, hold

CONFIG = TrainConfig(set={"device_action": "split", "num_devices": 2}, agent_steps=100)
SCENARIO = CONFIG.make_scenario()
TEXT = json.dumps(CONFIG.to_dict(), indent=2)
CURVE = pd.DataFrame({"iteration": [1, 2], "agent_steps": [50, 100], "time_s": [1.0, 2.0], "cost": [3.0, 2.5]})
TOKENS = (
    b"",
    b"\0" * 8,
    b"\xff" * 4,
    b"{",
    b"[" * 3000,
    b"nan",
    b"1e400",
    b"9" * 400,
    b"PAR1",
    b"PK\x03\x04",
    b"PK\x05\x06",
)

numbers = st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from([0, -1, 10**9, 2**31, 2**63])
leaves = st.none() | st.booleans() | numbers | st.text(max_size=8) | st.sampled_from(["device", "ppo", "mine.py:Name"])
trees = st.recursive(
    leaves, lambda t: st.lists(t, max_size=3) | st.dictionaries(st.text(max_size=5), t, max_size=3), max_leaves=8
)


@st.composite
def mangled(draw: st.DrawFn, data: bytes) -> bytes:
    """The bytes after a few cuts, insertions, repetitions and flips."""
    for _ in range(draw(st.integers(1, 4))):
        at, to = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
        kind = draw(st.sampled_from(["insert", "cut", "repeat", "flip", "end"]))
        if kind == "insert":
            data = data[:at] + draw(st.sampled_from(TOKENS)) + data[at:]
        elif kind == "cut":
            data = data[:at] + data[to:]
        elif kind == "repeat":
            data = data[:to] + data[at:to] * 2 + data[to:]
        elif kind == "flip" and at < len(data):
            data = data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
        elif kind == "end":
            data = data[:to]
    return data


def places(value: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where the parts of plain values are: keys and indices, one after another."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [p for key, part in items for p in [(*before, key), *places(part, (*before, key))]]


@st.composite
def altered(draw: st.DrawFn, value: Any) -> Any:
    """Plain values of which some parts are others, or left out."""
    value = json.loads(json.dumps(value))
    for _ in range(draw(st.integers(1, 3))):
        where = places(value)
        if not where:
            return draw(trees)
        *path, last = draw(st.sampled_from(where))
        part = value
        for key in path:
            part = part[key]
        if draw(st.integers(0, 3)) == 0:
            del part[last]
        else:
            part[last] = draw(trees)
    return value


def network(role: str = "device") -> TrainedPolicy:
    torch.manual_seed(0)
    spaces = SCENARIO.roles[role]
    spec = network_spec(spaces.observation_space.shape[0], spaces.action_space, hidden=(4,))
    told = {"train": json.loads(TEXT), "agent_steps": 100, "message_entries": {}}
    return TrainedPolicy(PolicyNetwork(spec), SCENARIO.name, role, told)


POLICIES = {role: network(role).to_bytes() for role in SCENARIO.roles}
WHOLE = POLICIES["device"]
HEADER = json.loads(torch.load(io.BytesIO(WHOLE), weights_only=True)["header"])


def policy_bytes(header: Any) -> bytes:
    """A policy file of any header, whose checksum is right."""
    buffer = io.BytesIO()
    weights = network().network.state_dict()
    torch.save({"header": json.dumps(header), "weights": weights}, buffer)
    return _with_checksum(buffer.getvalue())


def table_bytes(columns: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    try:
        pd.DataFrame({name: pd.Series(values) for name, values in columns.items()}).to_parquet(out, index=False)
    except (pyarrow.ArrowException, ValueError, TypeError, OverflowError):  # no table at all
        return b""
    return out.getvalue()


columns = st.dictionaries(
    st.sampled_from(["iteration", "agent_steps", "time_s", "cost", "device_loss"]), st.lists(leaves, max_size=3)
).map(lambda given: table_bytes({**CURVE.to_dict("list"), **given}))
POLICY_FILES = mangled(WHOLE) | altered(HEADER).map(policy_bytes) | st.binary(max_size=100)


def old_run(folder: Path, **content: bytes) -> Path:
    """A run of an earlier version, some of whose files hold something else."""
    run = folder / "run"
    (run / "policy").mkdir(parents=True, exist_ok=True)
    for name, own in POLICIES.items():
        (run / "policy" / f"{name}.pt").write_bytes(content.get(name, own))
    (run / "config.json").write_bytes(content.get("config", TEXT.encode()))
    (run / "curve.parquet").write_bytes(content.get("curve", table_bytes(CURVE.to_dict("list"))))
    (run / "checkpoint").mkdir(exist_ok=True)
    return run


def saved_run(folder: Path) -> Path:
    """A run with a save."""
    run = folder / "saved"
    if not run.exists():
        run.mkdir()
        (run / "config.json").write_text(TEXT)

        def write(save: Path) -> None:
            (save / "policy").mkdir()
            for role, content in POLICIES.items():
                (save / "policy" / f"{role}.pt").write_bytes(content)
            (save / "curve.parquet").write_bytes(table_bytes(CURVE.to_dict("list")))

        about = {"iteration": 1, "agent_steps": 100, "time_s": 2.0, "config": json.loads(TEXT), "problem": ""}
        commit(run, about, write)
    return run


def read_all(run: Path) -> None:
    """What `train --resume`, `compare`, `replay` and a sweep read of a run; each may refuse it."""
    readers: tuple[Callable[[], Any], ...] = (
        lambda: resolve(saved_config(run, None)),
        lambda: load_policy(run, SCENARIO),
        lambda: _runs([str(run)]),
        lambda: learned(RunFolder(run)),
        lambda: RunFolder(run).start(tuple(SCENARIO.roles)),
    )
    for read in readers:
        try:
            read()
        except ValueError as error:
            assert "\n" not in str(error)


def learned(folder: RunFolder) -> None:
    """The curve as a resumed run and a table take it."""
    health, curve = Health(), folder.curve()
    for row in curve.to_dict("records"):
        health.see(row)
    CONFIG.finished_at(row)
    float(curve["time_s"].iloc[-1])


def read_config(content: bytes, folder: Path) -> None:
    run = old_run(folder, config=content)
    _runs([str(run)])
    resolve(saved_config(run, None))


def read_policy_of_run(content: bytes, folder: Path) -> None:
    load_policy(old_run(folder, device=content), SCENARIO)


def read_policy_file(content: bytes, folder: Path) -> None:
    file = folder / "device.pt"
    file.write_bytes(content)
    policy_file(file, SCENARIO)


def read_curve(content: bytes, folder: Path) -> None:
    learned(RunFolder(old_run(folder, curve=content)))


def resealed(values: Any) -> bytes:
    """A manifest whose digest is right, whatever it says."""
    if isinstance(values, dict):
        values = {n: v for n, v in values.items() if n != "digest"}
        plain = json.loads(json.dumps(values))
        values["digest"] = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    return json.dumps(values).encode()


def read_manifest(change: Callable[[Any], bytes], folder: Path) -> None:
    run = saved_run(folder)
    file = run / "saves" / "00000001" / MANIFEST
    whole = file.read_bytes()
    file.write_bytes(change(whole))
    try:
        read_all(run)
    finally:
        file.write_bytes(whole)


@st.composite
def manifests(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """What becomes of a manifest: bytes lost, or other entries under a digest that is right."""
    data = draw(st.data())
    if draw(st.booleans()):
        return lambda whole: data.draw(mangled(whole))
    return lambda whole: resealed(data.draw(altered(json.loads(whole))))


def from_file(name: str, read: Callable[[Path], Any]) -> Callable[[bytes, Path], None]:
    def of_bytes(content: bytes, folder: Path) -> None:
        (folder / name).write_bytes(content)
        read(folder / name)

    return of_bytes


LAYERS = (
    "layer,name,macs,parameters,output_elements,time_s\n0,input,0,0,100,0\n1,a,2000,20,50,0.1\n2,b,1000,10,10,0.2\n"
)
LAYERS_YAML = (
    "names: [input, a, b]\nmacs: [0, 2000, 1000]\nparameters: [0, 20, 10]\noutput_elements: [100, 50, 10]\n"
    "energy_budget_j: 1.0\nmemory_budget_bytes: 1000.0\n"
)
TIMES = '[{"count": 100}, {"name": "conv1", "timeMs": 3.0, "averageMs": 0.03, "percentage": 60.0}]'
TIMES_CSV = "name,time_ms,elements\nconv1,0.5,100\nconv2,0.25,50\n"
MAPPING = "time: t\nfields: {channel_gain: gain}\nunits: {gain: dB}\nagent: ue\nalign: start\n"
READERS: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any, Path], None]]] = {
    "config.json": (
        mangled(TEXT.encode())
        | edited(TEXT, ("algorithm", "scenario", "set", "fixed", "settings", "cells", "policies"))
        | altered(json.loads(TEXT)).map(lambda v: json.dumps(v).encode()),
        read_config,
    ),
    "curve.parquet": (mangled(table_bytes(CURVE.to_dict("list"))) | columns | st.binary(max_size=100), read_curve),
    "policy of a run": (POLICY_FILES, read_policy_of_run),
    "policy file": (POLICY_FILES, read_policy_file),
    "manifest of a save": (manifests(), read_manifest),
    "bench --json": (
        mangled(b'{"a_per_s": 1.5, "b_s": 2}') | trees.map(lambda v: json.dumps(v).encode()),
        from_file("bench.json", _numbers),
    ),
    "layer table, CSV": (
        edited(LAYERS, ("layer", "macs")) | mangled(LAYERS.encode()),
        from_file("layers.csv", lambda file: load_profile(file, 1.0, 1000.0)),
    ),
    "layer table, YAML": (
        edited(LAYERS_YAML, ("macs", "names", "energy_budget_j")) | mangled(LAYERS_YAML.encode()),
        from_file("layers.yaml", load_profile),
    ),
    "profiler's times, JSON": (
        edited(TIMES, ("name", "averageMs"))
        | mangled(TIMES.encode())
        | altered(json.loads(TIMES)).map(lambda v: json.dumps(v).encode()),
        from_file("times.json", lambda file: read_times([file])),
    ),
    "profiler's times, CSV": (
        edited(TIMES_CSV, ("name", "time_ms")) | mangled(TIMES_CSV.encode()),
        from_file("times.csv", lambda file: read_times([file])),
    ),
    "mapping of measurements": (
        edited(MAPPING, ("time", "fields", "units", "align", "agent", "time_format")),
        from_file("mapping.yaml", lambda file: load_mapping(str(file))),
    ),
}


@pytest.mark.parametrize("size", [10**6, 10**9, 2**63])
@pytest.mark.parametrize("field", ["observation_size", "hidden", "agents", "choices", "pool"])
def test_a_policy_that_is_larger_than_its_file_is_refused_before_it_is_built(field: str, size: int) -> None:
    spec = {**HEADER["spec"], field: [size] if field in ("hidden", "choices") else size}
    with pytest.raises(ValueError, match="the file has"):
        TrainedPolicy.from_bytes(policy_bytes({**HEADER, "spec": spec}), "a.pt")


@pytest.mark.parametrize("reader", READERS)
def test_any_file_is_read_or_refused_in_one_line(reader: str, tmp_path: Path) -> None:
    hold(READERS[reader], tmp_path, SHORT)


@pytest.mark.soak
@pytest.mark.parametrize("reader", READERS)
def test_thousands_of_files_are_read_or_refused_in_one_line(reader: str, tmp_path: Path) -> None:
    hold(READERS[reader], tmp_path, LONG)
