"""`profile`: a network of the user's own as a table of logical layers, and the delay of each of its cuts."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from edgemarl.envs.dnn.profiles import LayerProfile, save_profile
from edgemarl.envs.files import replacing
from edgemarl.envs.registry import make_scenario
from edgemarl.envs.scenarios.model_partitioning import (
    ModelPartitioning,
    ModelPartitioningDecisions,
    ModelPartitioningExogenous,
)
from edgemarl.launch.console import wide_console
from edgemarl.launch.dnn.user_code import load_module, user_code
from edgemarl.launch.experiment.plan import parse_overrides
from edgemarl.launch.report.numerals import duration, significant
from edgemarl.launch.report.style import own_style

if TYPE_CHECKING:
    from edgemarl.launch.dnn.profiler import LayerTable

SHARE_OF = 5
"""The picture gives the one device a fifth of the default cell, as with five devices that share equally."""
WIDEST_IN = 60.0
"""Width of the picture in inches at most; of more than a hundred cuts not all are named."""


def profile(
    target: str, inputs: Sequence[str], csv: Path | None, out: Path | None, repeats: int, energy_budget_j: float,
    memory_budget_bytes: float, settings: Sequence[str],
) -> None:  # fmt: skip
    """Profile a module, print its table, write `NAME.csv`, `NAME.yaml` and the picture `NAME.png`/`.svg` to a folder.

    Args:
        target: "module:Name" or "path/to/file.py:Name": a `torch.nn.Module`, or what makes one without arguments.
        inputs: shape of each input without the batch axis, and its type: "3,224,224" or "128:int64".
        csv: write only the layer table, to this file.
        out: folder of the files; default `results/profile`.
        repeats: runs of the time measurement; 0 measures none.
        energy_budget_j, memory_budget_bytes: the device's budgets that go with the table.
        settings: config fields of `model_partitioning` that the picture uses.

    Raises:
        ValueError: a target that does not exist or gives no module, a shape that is none, illegal settings, a file that
            cannot be written, whatever goes wrong in the user's code.
    """
    from edgemarl.launch.dnn.profiler import profile as run

    _check_options(csv, repeats, energy_budget_j, memory_budget_bytes, settings)
    folder = out or Path("results") / "profile" if csv is None else csv.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"output folder {folder} cannot be used: {error.strerror or error}") from None
    example = tuple(_example(text) for text in inputs)
    table = run(load_module(target), example, repeats=repeats)
    layer_profile = table.as_profile(energy_budget_j, memory_budget_bytes)
    name = target.rpartition(":")[2]
    console = wide_console()
    console.print(_printed(table, name))
    if csv is not None:
        save_profile(layer_profile, csv)
        console.print(f"table: {csv}")
        return
    table.write_csv(folder / f"{name}.csv")
    save_profile(layer_profile, folder / f"{name}.yaml")
    with own_style():
        figure = draw_cuts(name, layer_profile, cut_delays(name, layer_profile, settings))
        for ending in ("png", "svg"):
            with replacing(folder / f"{name}.{ending}") as temporary:
                figure.savefig(temporary, format=ending, dpi=160)
    console.print(f"table: {folder / f'{name}.csv'}, picture: {folder / f'{name}.png'}", soft_wrap=True)
    words = shlex.join(["--set", f"profiles={folder / f'{name}.yaml'}", "--set", f"model_pattern={name}"])
    console.print(f"use it: {words}", soft_wrap=True)


def _example(text: str) -> Any:
    """A batch of one request, from "3,224,224" or "128:int64": real numbers in [0, 1), whole ones 0."""
    import torch

    shape, _, kind = text.partition(":")
    dtype = getattr(torch, kind or "float32", None)
    try:
        sizes = tuple(int(part) for part in shape.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1 or not isinstance(dtype, torch.dtype):
        raise ValueError(
            f"input = '{text}' is not legal: must be whole numbers >= 1 with commas, such as 3,224,224, and the torch"
            " type after a colon where it is not float32, such as 128:int64"
        )
    with user_code(f"input = '{text}' cannot be made"):
        if dtype.is_floating_point or dtype.is_complex:
            return torch.rand(1, *sizes, generator=torch.Generator().manual_seed(0)).to(dtype)
        return torch.zeros(1, *sizes, dtype=dtype)


def _check_options(
    csv: Path | None, repeats: int, energy_budget_j: float, memory_budget_bytes: float, settings: Sequence[str]
) -> None:
    """Raises ValueError for what would fail after the work."""
    if repeats < 0:
        raise ValueError(f"repeats = {repeats} is not legal: must be an integer >= 0")
    if csv is not None and (csv.suffix not in (".csv", ".yaml", ".yml") or csv.is_dir()):
        raise ValueError(f"csv = {csv} is not legal: must be a file whose name ends with .csv or .yaml")
    LayerProfile(1, (1,), (0,), (1,), energy_budget_j, memory_budget_bytes)
    make_scenario("model_partitioning", **parse_overrides(settings))


def _printed(table: LayerTable, name: str) -> Table:
    shown = Table("layer", "name", "MACs [M]", "parameters [KB]", "output [KB]", "time", title=f"{name}, one request")
    shown.add_row("0", "input", "", "", significant(table.input_bytes / 1e3), "")
    for i, layer in enumerate(table.names):
        shown.add_row(
            str(i + 1), layer, significant(table.macs[i] / 1e6), significant(table.parameter_bytes[i] / 1e3),
            significant(table.output_bytes[i] / 1e3), duration(table.time_s[i]) if table.time_s else "-",
        )  # fmt: skip
    total = duration(sum(table.time_s)) if table.time_s else "-"
    weights = significant(sum(table.parameter_bytes) / 1e3)
    shown.add_row("", "total", significant(sum(table.macs) / 1e6), weights, "", total, style="bold")
    return shown


def cut_delays(name: str, layer_profile: LayerProfile, settings: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Delay parts in s of every cut (L+1,): one device at its mean channel, with a fifth of the cell by default."""
    fields: dict[str, Any] = {
        "bandwidth_hz": 5e6 / SHARE_OF,
        "edge_cpu_hz": 15e9 / SHARE_OF,
        **parse_overrides(settings),
    }
    fields |= {"num_devices": 1, "model_pattern": (name,), "profiles": {name: layer_profile}}
    scenario = make_scenario("model_partitioning", **fields)
    assert isinstance(scenario, ModelPartitioning)
    cuts = np.arange(layer_profile.layers + 1)[:, None]  # every cut is a cell of its own
    state = scenario.initial_state(scenario.sample_trace(np.random.default_rng(0), len(cuts), 1))
    rate = np.full(cuts.shape, scenario.config.mean_arrival_rate_hz)
    exogenous = ModelPartitioningExogenous(np.broadcast_to(scenario.mean_gain, cuts.shape), rate)
    details = scenario.step(state, ModelPartitioningDecisions(cuts), exogenous).details
    parts = ("device", "transmission", "edge")
    return {part: details[f"{part}_delay_s"][:, 0] for part in parts}


def draw_cuts(name: str, layer_profile: LayerProfile, delays: dict[str, np.ndarray]) -> Any:
    """Stacked bars of the delay of every cut, and the measured time of the local part on this CPU if there is one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = layer_profile.layers + 1
    figure = Figure(figsize=(min(max(5.0, 0.55 * count + 2.5), WIDEST_IN), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    bottom, where = np.zeros(count), np.arange(count)
    for (part, values), colour in zip(delays.items(), ("#0072B2", "#E69F00", "#009E73"), strict=True):
        axes.bar(where, 1e3 * values, 0.72, bottom=bottom, color=colour, label=part)
        bottom += 1e3 * values
    best = int(bottom.argmin())
    axes.plot(best, bottom[best], "v", color="black", ms=8, label=f"least: cut {best}, {bottom[best]:.0f} ms")
    if layer_profile.time_s:
        measured = 1e3 * np.concatenate([[0.0], np.cumsum(layer_profile.time_s)])
        axes.plot(where, measured, "k.--", lw=1, label="layers 1..l measured on this CPU")
    names = layer_profile.names or tuple(str(i) for i in where[1:])
    labels = ["input", *names]
    named = where[:: 1 + int(0.55 * count / WIDEST_IN)]
    axes.set_xticks(named, [f"{i}: {labels[i]}" for i in named], rotation=55, ha="right", fontsize=8)
    axes.set_xlabel("cut after layer")
    axes.set_ylabel("delay of a request [ms]")
    axes.set_title(f"{name}: delay against the cut", loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return figure
