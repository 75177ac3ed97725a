"""`trace`: draw a trace to a file, say what a file holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from edgemarl.envs.measured import measured
from edgemarl.envs.registry import make_scenario, scenario_names
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.trace import trace_fields
from edgemarl.launch.console import wide_console
from edgemarl.launch.experiment.plan import NETWORKS_MAX, SLOTS_MAX, parse_overrides
from edgemarl.launch.experiment.played import field_origin, file_network, file_scenario
from edgemarl.launch.report.trace_figure import check_ending, draw_trace
from edgemarl.marl.evaluation.series import INDEPENDENT, Series, longest_memory, of_trace
from edgemarl.marl.evaluation.traces import LoadedTrace, load_trace, save_trace

NETWORKS_PROPOSED = 100
"""Most stretches of a file that are proposed as networks."""


def sample(name: str, out: Path, cells: int, slots: int | None, settings: Sequence[str], seed: int) -> None:
    """Draw a trace and write it."""
    built = make_scenario(name, **parse_overrides(settings))
    for what, value, largest in (("cells", cells, NETWORKS_MAX), ("slots", slots or built.horizon, SLOTS_MAX)):
        if not 1 <= value <= largest:
            raise ValueError(f"{what} = {value} is not legal: must be an integer >= 1 and <= {largest:,}")
    trace = built.sample_trace(np.random.default_rng(seed), cells, slots)
    path = save_trace(out, built, trace)
    wide_console().print(f"{path}: {trace.cells} cells, {trace.slots} steps of {name}", soft_wrap=True)


def described_scenario(file: Path, name: str | None, settings: Sequence[str]) -> Scenario:
    """The network that a file is of: what it says of itself, or a named scenario, with the fields that are set.

    Raises:
        ValueError: a file that does not say of which scenario it is.
    """
    scenario = name or file_scenario(file)
    if scenario is None:
        raise ValueError(
            f"{file} does not say of which scenario it is: give --scenario, one of {', '.join(scenario_names())}"
        )
    return make_scenario(scenario, **{**file_network(file, scenario), **parse_overrides(settings)})


def describe(file: Path, name: str | None, ignore: Sequence[str], settings: Sequence[str], out: Path | None) -> None:
    """Check a file against its scenario, print what its fields hold and what will be drawn, and draw a picture.

    Args:
        file: trace file.
        name: scenario, if the file does not say.
        ignore: columns to leave out.
        settings: config fields.
        out: picture to write, .png or .svg.
    """
    if out is not None:
        check_ending(out)
    built = described_scenario(file, name, settings)
    loaded = load_trace(file, built, ignore=ignore)
    trace, console = loaded.trace, wide_console()
    step_s = measured(type(built)).step_s(built.config)
    size = f"{trace.cells} network{'s' * (trace.cells != 1)}, {trace.slots} steps of {step_s:g} s"
    lines = [f"{file}: {size} ({_duration(trace.slots * step_s)}) of {built.name}"]
    lines += [str(line) for line in _import_lines(loaded)]
    lines.append(f"drawn when it is played: {', '.join(loaded.sampled) or 'nothing'}")
    if loaded.differences:
        lines.append(f"made in a network with {', '.join(loaded.differences)}")
    for line in lines:
        console.print(line, soft_wrap=True)
    origins = {field: field_origin(loaded, field) for field in trace_fields(type(trace))}
    series = of_trace(trace)
    console.print(_table(built, series, origins, step_s))
    stretch = _stretch_slots(series, trace.slots)
    networks = trace.cells * (trace.slots // stretch)
    console.print(f"as networks of their own: --cells-from {stretch} gives {networks}", soft_wrap=True)
    if out is not None:
        console.print(f"picture: {draw_trace(trace, step_s, origins, lines[0], out)}", soft_wrap=True)


def stretch_slots(file: Path, built: Scenario) -> int:
    """Slots of the stretches of a trace file that are as good as networks of their own."""
    trace = load_trace(file, built).trace
    return _stretch_slots(of_trace(trace), trace.slots)


def _stretch_slots(series: Mapping[str, Series], slots: int) -> int:
    """Ten times what the field that remembers longest does, at least 20 slots, so long that they are 100 at most."""
    _, longest = longest_memory(series)
    return int(min(max(20, INDEPENDENT * longest, slots // NETWORKS_PROPOSED), slots))


def _import_lines(loaded: LoadedTrace) -> Sequence[str]:
    """How the file was imported, if it was."""
    about = loaded.about.get("import")
    lines = about.get("lines", []) if isinstance(about, dict) else []
    return [str(line)[:300] for line in lines[:20]] if isinstance(lines, list) else []


def _table(built: Scenario, series: Mapping[str, Series], origins: Mapping[str, str], step_s: float) -> Table:
    """A row per field, beside what the scenario itself would draw."""
    drawn = built.sample_trace(np.random.default_rng(0), 4, min(built.horizon, 200))
    numbered = ("mean", "deviation", "lowest", "highest", "forgets after", "mean of draws")
    table = Table("field", "unit", "taken", "from", *numbered)
    for field, meta in trace_fields(built.trace_type).items():
        s = series[field]
        numbers = [f"{number:.4g}" for number in (s.mean, s.deviation, s.low, s.high)]
        usual = f"{getattr(drawn, field).mean():.4g}"
        table.add_row(field, meta["unit"], f"per {meta['kind']}", origins[field], *numbers, _memory(s, step_s), usual)
    return table


def _memory(s: Series, step_s: float) -> str:
    """Autocorrelation time in s, and in slots where it is more than one."""
    slots = s.autocorrelation_slots
    if np.isnan(slots):
        return "-"
    sign = "> " if s.autocorrelation_is_bound else ""
    return "1 slot" if slots < 1.5 else f"{sign}{slots * step_s:.3g} s ({slots:.0f} slots)"


def _duration(time_s: float) -> str:
    minutes, rest = divmod(time_s, 60.0)
    hours, minutes = divmod(minutes, 60.0)
    words = [f"{hours:.0f} h"] * (hours > 0) + [f"{minutes:.0f} min"] * (minutes > 0) + [f"{rest:.3g} s"] * (rest > 0)
    return " ".join(words) or "0 s"
