"""`profile import`: measured times of layers, as profilers write them, become times of a network's logical layers.

Forms: TensorRT's profile (`trtexec --exportProfile`), torch.profiler's trace (`export_chrome_trace`), Neurosurgeon's
table of layers (name, time, what crosses) and its tables of single kernels (shape, FLOPs, latency), from which the
times of a network's layers are predicted.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from edgemarl.envs.dnn.profiles import LayerProfile, load_profile, save_profile, shipped_profiles
from edgemarl.launch.console import wide_console
from edgemarl.launch.report.numerals import duration, significant
from edgemarl.marl.evaluation.tables import read_table, unpacked

if TYPE_CHECKING:
    import pandas as pd

JSON_BYTES_MAX = 2**28
NUMBER_MAX = 1e18
WORK = re.compile(r"conv|gemm|linear|fc|matmul|dense|addmm|attention|inner", re.IGNORECASE)
"""Names of what computes, beside activations, pooling and copies."""
FULLY_CONNECTED = re.compile(r"fc|linear|dense|classifier", re.IGNORECASE)
MACS_PER_S = 1.5e9 / 0.12
"""MACs that the default device of model_partitioning does in a second, for tables that count none."""
BYTES_PER_ELEMENT = 4.0
UNIT = re.compile(r"\((us|µs|ms|s)\)|_(us|ms|s)$")


@dataclass(frozen=True)
class Timed:
    """What a profiler timed: its name, seconds of one run, elements that leave it if the file says so."""

    name: str
    time_s: float
    elements: float | None = None


@dataclass(frozen=True)
class Kernels:
    """Times of single kernels of one kind against their FLOPs: time = `start_s` + FLOP * `s_per_flop`."""

    fully_connected: bool
    start_s: float
    s_per_flop: float


def import_command(
    files: Sequence[Path], layers: str | None, server: Sequence[Path], maps: Sequence[str], name: str | None,
    input_elements: float | None, energy_budget_j: float, memory_budget_bytes: float, out: Path,
) -> None:  # fmt: skip
    """Write `NAME.yaml`, a layer table with measured times, and say how to use it.

    Args:
        files: times on the device.
        layers: the network's layer table: a shipped one by name, or a file.
        server: times on the server, alone on it.
        maps: `LAYER=TEXT`: what has TEXT in its name belongs to a layer.
        name: of the network; default: of the first file.
        input_elements: of the raw input, where there is no layer table.
        energy_budget_j, memory_budget_bytes: where the table has none.
        out: folder.

    Raises:
        ValueError: files of another form, times that cannot be told to layers, a folder that cannot be written.
    """
    budgets = (energy_budget_j, memory_budget_bytes)
    measured = read_times(files)
    if layers is None:
        profile = profile_of(measured, files[0], input_elements, *budgets)
    else:
        profile = _table_of(layers, *budgets)
        profile = dataclasses.replace(profile, time_s=layer_times(measured, profile, maps, files[0]))
    if server:
        profile = dataclasses.replace(profile, edge_time_s=layer_times(read_times(server), profile, maps, server[0]))
    known = name or re.sub(r"\W+", "_", files[0].name.partition(".")[0])
    path = out / f"{known}.yaml"
    try:
        out.mkdir(parents=True, exist_ok=True)
        save_profile(profile, path)
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror or error}") from None
    console = wide_console()
    console.print(_printed(profile, known))
    missing = [] if server else ["the server's times follow from MACs (give --server FILE)"]
    if layers is None:
        missing.append("the file counts no MACs and no parameters: MACs stand for times, no memory of parameters")
    for line in missing:
        console.print(line, soft_wrap=True)
    words = f"--set profiles={path} --set model_pattern={known} --set layer_work=times"
    console.print(f"use it: edgemarl compare --scenario model_partitioning {words}", soft_wrap=True)


def _table_of(layers: str, energy_budget_j: float, memory_budget_bytes: float) -> LayerProfile:
    if layers in shipped_profiles():
        return shipped_profiles()[layers]
    if not Path(layers).is_file():
        raise ValueError(f"--layers {layers} is neither a file nor one of {', '.join(shipped_profiles())}")
    if Path(layers).suffix == ".csv":
        return load_profile(layers, energy_budget_j, memory_budget_bytes)
    return load_profile(layers)


# --- files -------------------------------------------------------------------------------------------------------


def read_times(files: Sequence[Path]) -> list[Timed] | list[Kernels]:
    """What a profiler's files hold: entries in order of execution, or kernels from which times are predicted.

    Raises:
        ValueError: not there, another form, several files of entries.
    """
    parts = [_read(path) for path in files]
    kernels = [entry for part in parts for entry in part if isinstance(entry, Kernels)]
    if kernels and len(kernels) == sum(map(len, parts)):
        return kernels
    if len(parts) > 1:
        raise ValueError(f"{files[0]} and {files[1]}: one file holds a network's times; several only tables of kernels")
    return [entry for entry in parts[0] if isinstance(entry, Timed)]


def _read(path: Path) -> Sequence[Timed | Kernels]:
    if not path.is_file():
        raise ValueError(f"profile {path} does not exist")
    head = unpacked(path, 64).removeprefix(b"\xef\xbb\xbf").lstrip()
    if head[:1] in (b"[", b"{"):
        return _from_json(path)
    frame = read_table(path).frame
    return [_kernels(path, frame)] if {"FLOPs", "latency"} <= set(frame) else _from_table(path, frame)


def _from_json(path: Path) -> list[Timed]:
    data = unpacked(path, JSON_BYTES_MAX + 1)
    if len(data) > JSON_BYTES_MAX:
        raise ValueError(f"{path} holds more than {JSON_BYTES_MAX / 2**20:g} MiB: profile fewer runs")
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not readable JSON: {str(error)[:100]}") from None
    if isinstance(values, Mapping) and isinstance(values.get("traceEvents"), list):
        return _torch(path, values["traceEvents"])
    if isinstance(values, list) and any(isinstance(v, Mapping) and "name" in v and "timeMs" in v for v in values):
        return _tensorrt(path, values)
    advice = "trtexec's --exportProfile, torch.profiler's export_chrome_trace"
    raise ValueError(f"{path} holds no times of layers that are known; known: {advice}")


def _tensorrt(path: Path, values: Sequence[Any]) -> list[Timed]:
    runs = next((v["count"] for v in values if isinstance(v, Mapping) and "count" in v), 1)
    entries = []
    for value in (v for v in values if isinstance(v, Mapping) and "name" in v):
        ms = value.get("medianMs", value.get("averageMs"))
        ms = _number(path, value["name"], value.get("timeMs") if ms is None else ms) / (1 if ms is not None else runs)
        entries.append(Timed(_shown(value["name"]), 1e-3 * ms))
    return entries


def _torch(path: Path, events: Sequence[Any]) -> list[Timed]:
    """Innermost `record_function` blocks, or else innermost modules (`with_stack=True`); the median over runs."""
    spans = [e for e in events if isinstance(e, Mapping) and e.get("ph") == "X" and isinstance(e.get("name"), str)]
    kinds = (
        [e for e in spans if e.get("cat") == "gpu_user_annotation" and not e["name"].startswith("ProfilerStep")],
        [e for e in spans if e.get("cat") == "user_annotation" and not e["name"].startswith("ProfilerStep")],
        [e for e in spans if e["name"].startswith("nn.Module: ")],
    )
    chosen = next((kind for kind in kinds if kind), None)
    if chosen is None:
        raise ValueError(
            f"{path} names no layers: put each into torch.profiler.record_function(NAME), or profile with_stack=True"
        )
    times: dict[str, list[float]] = {}
    rows = [(_number(path, e["name"], e.get("ts")), _number(path, e["name"], e.get("dur")), e["name"]) for e in chosen]
    rows.sort(key=lambda row: (row[0], -row[1]))
    for (start, took, name), after in zip(rows, [*rows[1:], None], strict=True):
        if after is None or after[0] >= start + took:  # nothing of its kind inside
            times.setdefault(name.removeprefix("nn.Module: "), []).append(1e-6 * took)
    return [Timed(_shown(name), float(np.median(values))) for name, values in times.items()]


def _number(path: Path, name: object, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < NUMBER_MAX:
        raise ValueError(f"{path}: '{_shown(name)[:60]}' has {str(value)[:20]!r}, must be a number >= 0")
    return float(value)


def _shown(name: object) -> str:
    """A name in one line of bounded length."""
    return " ".join(str(name).split())[:200]


def _from_table(path: Path, frame: pd.DataFrame) -> list[Timed]:
    """A table of layers: name, time and, if it says so, elements or megabytes that leave each."""
    names = _column(frame, r"layer.?name|^name$|^layer$")
    time = _column(frame, r"^(?!.*(accum|transp|upload|total)).*(time|latency)")
    if names is None or time is None:
        raise ValueError(
            f"{path} has the columns {', '.join(map(str, frame))[:200]}: a table of layers has a name (layerName) and "
            "a time (computation_time(ms)), one of kernels FLOPs and latency"
        )
    unit = UNIT.search(time)
    factor = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}[next(filter(None, unit.groups())) if unit else "ms"]
    count, size = _column(frame, r"transport_num|elements"), _column(frame, r"size.*\(MB\)|size_mb")
    entries = []
    for row in frame.to_dict("records"):
        elements = None
        if count is not None:
            elements = _number(path, row[names], row[count])
        elif size is not None:
            elements = _number(path, row[names], row[size]) * 1e6 / BYTES_PER_ELEMENT
        entries.append(Timed(_shown(row[names]), factor * _number(path, row[names], row[time]), elements))
    return entries


def _column(frame: pd.DataFrame, pattern: str) -> str | None:
    return next((str(c) for c in frame if re.search(pattern, str(c), re.IGNORECASE)), None)


def _kernels(path: Path, frame: pd.DataFrame) -> Kernels:
    """A line through latencies in ms against FLOPs, by least squares of relative errors; neither part negative."""
    if any(frame[column].dtype.kind not in "iuf" for column in ("FLOPs", "latency")):
        raise ValueError(f"{path}: the columns FLOPs and latency must hold numbers")
    flop, ms = (frame[c].to_numpy(np.float64) for c in ("FLOPs", "latency"))
    known = np.isfinite(flop) & np.isfinite(ms) & (ms > 0.0) & (flop > 0.0)
    if known.sum() < 2:
        raise ValueError(f"{path} holds {known.sum()} kernels with FLOPs and latency; two or more are needed")
    a = np.stack([1.0 / ms[known], flop[known] / ms[known]], axis=1)
    start, slope = np.linalg.lstsq(a, np.ones(len(a)), rcond=None)[0]
    if start < 0.0 or slope < 0.0:  # the best with one part alone
        start, slope = (0.0, 1.0 / np.mean(a[:, 1])) if start < 0.0 else (1.0 / np.mean(a[:, 0]), 0.0)
    return Kernels("in_features" in frame, 1e-3 * float(start), 1e-3 * float(slope))


# --- layers ------------------------------------------------------------------------------------------------------


def profile_of(
    measured: Sequence[Timed | Kernels], path: Path, input_elements: float | None, energy_budget_j: float,
    memory_budget_bytes: float,
) -> LayerProfile:  # fmt: skip
    """A layer table from times and sizes alone."""
    timed = [entry for entry in measured if isinstance(entry, Timed)]
    if not timed or any(entry.elements is None for entry in timed):
        raise ValueError(
            f"{path} does not say how large the layers' outputs are: give the network's table with --layers "
            f"({', '.join(shipped_profiles())}, or a file that edgemarl profile wrote)"
        )
    if input_elements is None or not input_elements > 0:
        raise ValueError("without --layers the size of the raw input is needed: --input-elements N, such as 150528")
    times = tuple(entry.time_s for entry in timed)
    return LayerProfile(
        input_elements=input_elements, macs=tuple(t * MACS_PER_S for t in times), parameters=(0.0,) * len(times),
        output_elements=tuple(float(entry.elements or 0.0) for entry in timed), names=tuple(e.name for e in timed),
        time_s=times, energy_budget_j=energy_budget_j, memory_budget_bytes=memory_budget_bytes,
    )  # fmt: skip


def layer_times(
    measured: Sequence[Timed | Kernels], profile: LayerProfile, maps: Sequence[str], path: Path
) -> tuple[float, ...]:
    """Seconds of each logical layer of a table."""
    kernels = [entry for entry in measured if isinstance(entry, Kernels)]
    if kernels:
        return _predicted(kernels, profile)
    timed = [entry for entry in measured if isinstance(entry, Timed)]
    owner = told_to_layers([entry.name for entry in timed], _names(profile), maps, path)
    return tuple(np.bincount(owner, [entry.time_s for entry in timed], profile.layers).tolist())


def _names(profile: LayerProfile) -> tuple[str, ...]:
    return profile.names or tuple(f"layer{i + 1}" for i in range(profile.layers))


def _predicted(kernels: Sequence[Kernels], profile: LayerProfile) -> tuple[float, ...]:
    """Times of a network's layers from kernels of their kind (of any kind, where theirs was not timed)."""
    times = []
    for name, macs in zip(_names(profile), profile.macs, strict=True):
        connected = FULLY_CONNECTED.search(name) is not None
        kernel = next((k for k in kernels if k.fully_connected == connected), kernels[0])
        times.append(kernel.start_s + 2.0 * macs * kernel.s_per_flop)
    return tuple(times)


def told_to_layers(names: Sequence[str], layers: Sequence[str], maps: Sequence[str], path: Path) -> list[int]:
    """(n,) layer of each timed entry: as `maps` says, one to one, by their names, or by what computes.

    An entry that nothing tells to a layer, such as an activation, belongs to the layer before it.

    Raises:
        ValueError: a layer without an entry, or layers in another order.
    """
    guesses = [_mapped(names, layers, maps)] if maps else [g(names, layers) for g in (_by_name, _by_work, _one_to_one)]
    for guess in (g for g in guesses if g is not None):
        owner = _filled(guess)
        if set(owner) == set(range(len(layers))) and all(a <= b for a, b in itertools.pairwise(owner)):
            return owner
    shown = ", ".join(name[:30] for name in names[:8]) + (" .." if len(names) > 8 else "")
    raise ValueError(
        f"{path} times {len(names)} entries ({shown}), the network has {len(layers)} layers ({', '.join(layers)}): say "
        "for each layer what is in the names of its entries, --map LAYER=TEXT"
    )


def _mapped(names: Sequence[str], layers: Sequence[str], maps: Sequence[str]) -> list[int | None]:
    owner: list[int | None] = [None] * len(names)
    for text in maps:
        layer, sign, part = text.partition("=")
        if not sign or not part or layer not in layers:
            raise ValueError(f"--map {text} is not legal: must be LAYER=TEXT, LAYER one of {', '.join(layers)}")
        owner = [layers.index(layer) if part in name else o for name, o in zip(names, owner, strict=True)]
    return owner


def _one_to_one(names: Sequence[str], layers: Sequence[str]) -> list[int | None] | None:
    return list(range(len(layers))) if len(names) == len(layers) else None


def _by_name(names: Sequence[str], layers: Sequence[str]) -> list[int | None]:
    """`conv1_pool1` owns what has conv1, pool1 or conv1_pool1 as a word of its name."""
    parts = [(word, i) for i, layer in enumerate(layers) for word in layer.split("_") if re.match(r"[A-Za-z]+\d", word)]
    alone = collections.Counter(word for word, _ in parts)
    words = {word: i for word, i in parts if alone[word] == 1} | {layer: i for i, layer in enumerate(layers)}
    owner: list[int | None] = []
    for name in names:
        owners = [words[w] for w in re.split(r"[^A-Za-z0-9_]+", name) if w in words]
        owner.append(owners[0] if owners else None)
    return owner


def _by_work(names: Sequence[str], layers: Sequence[str]) -> list[int | None] | None:
    work = [i for i, name in enumerate(names) if WORK.search(name)]
    if len(work) != len(layers):
        return None
    return [work.index(i) if i in work else None for i in range(len(names))]


def _filled(owner: Sequence[int | None]) -> list[int]:
    filled, last = [], 0
    for o in owner:
        last = last if o is None else o
        filled.append(last)
    return filled


def _printed(profile: LayerProfile, name: str) -> Table:
    shown = Table("layer", "name", "MACs [M]", "output [KB]", "device", "server", title=f"{name}, one request")
    edge = profile.edge_time_s or (float("nan"),) * profile.layers
    columns = zip(_names(profile), profile.macs, profile.output_elements, profile.time_s, edge, strict=True)
    for i, (layer, macs, elements, device_s, edge_s) in enumerate(columns):
        shown.add_row(
            str(i + 1), layer[:60], significant(macs / 1e6), significant(elements * BYTES_PER_ELEMENT / 1e3),
            duration(device_s), duration(edge_s) if profile.edge_time_s else "-",
        )  # fmt: skip
    total = duration(sum(profile.edge_time_s)) if profile.edge_time_s else "-"
    device = duration(sum(profile.time_s))
    shown.add_row("", "total", significant(sum(profile.macs) / 1e6), "", device, total, style="bold")
    return shown
