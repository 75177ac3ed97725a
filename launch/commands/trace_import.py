"""`trace import`: measurements as people have them become a trace file of a scenario."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from edgemarl.envs.registry import make_scenario
from edgemarl.envs.trace import trace_fields
from edgemarl.launch.commands.trace import stretch_slots
from edgemarl.launch.console import wide_console
from edgemarl.launch.experiment.plan import parse_overrides
from edgemarl.launch.experiment.played import file_network
from edgemarl.marl.evaluation.measured import units
from edgemarl.marl.evaluation.measured.importer import Imported, Request, import_trace
from edgemarl.marl.evaluation.measured.mapping import Layout, changed, form_names, load_mapping, save_mapping
from edgemarl.marl.evaluation.traces import write_table


@dataclasses.dataclass(frozen=True)
class Words:
    """The command line's words, as typed; None and empty ones keep the form's."""

    form: str | None = None
    maps: Sequence[str] = ()
    unit: Sequence[str] = ()
    time: str | None = None
    time_unit: str | None = None
    time_format: str | None = None
    agent: str | None = None
    without: Sequence[str] = ()
    align: str | None = None
    tasks: bool = False
    weight: str | None = None
    missing: Sequence[str] = ()
    resample: float | None = None
    aggregate: str | None = None
    fill: str | None = None
    counts: str | None = None
    deal: int | None = None
    devices: int | None = None
    power_dbm: float | None = None
    noise_dbm: float | None = None
    bandwidth_hz: float | None = None
    path_loss: str | None = None
    base: str | None = None
    fit: bool = True
    add_to: Path | None = None


def import_command(
    files: Sequence[Path], scenario: str, words: Words, settings: Sequence[str], out: Path, keep: Path | None
) -> None:
    """Import, write the trace file, say what was read and what will be drawn.

    Raises:
        ValueError: anything that `import_trace` rejects, a file that cannot be written.
    """
    layout = layout_of(words)
    overrides = parse_overrides(settings)
    base = {} if words.add_to is None else file_network(words.add_to, scenario)
    request = Request(
        files=tuple(files), layout=layout, radio=radio_of(words), step_s=words.resample, devices=words.devices,
        without=tuple(words.without), given=tuple(overrides), fit=words.fit, add_to=words.add_to,
    )  # fmt: skip
    imported = import_trace(request, make_scenario(scenario, **{**base, **overrides}))
    path = write_table(out, imported.table, imported.about)
    if keep is not None:
        save_mapping(layout, keep)
    for line in told(path, imported):
        wide_console().print(line, soft_wrap=True)


def layout_of(words: Words) -> Layout:
    """The layout that a form and the words on top of it give."""
    form = load_mapping(words.form) if words.form is not None else Layout()
    texts, absent = [], dict(form.absent)
    for word in words.missing:
        column, sign, number = word.rpartition("=")
        if not sign:
            texts.append(word)
            continue
        try:
            absent[column] = (*absent.get(column, ()), float(number))
        except ValueError:
            raise ValueError(f"--missing {word} is not legal: must be TEXT or COLUMN=NUMBER") from None
    return changed(
        form, words.maps, words.unit, time=words.time, time_unit=words.time_unit, time_format=words.time_format,
        agent=words.agent, align=words.align, tasks=words.tasks or None, weight=words.weight,
        missing=(*form.missing, *texts), absent=absent, aggregate=words.aggregate, fill=words.fill, counts=words.counts,
        deal=words.deal,
    )  # fmt: skip


def radio_of(words: Words) -> units.Radio:
    """The link that was measured."""
    if words.bandwidth_hz is not None and not words.bandwidth_hz > 0.0:
        raise ValueError(f"bandwidth_hz = {words.bandwidth_hz} Hz is not legal: must be > 0")
    radio = units.Radio(
        bandwidth_hz=words.bandwidth_hz, path_loss=_pair("path-loss", words.path_loss), base=_pair("base", words.base)
    )
    return units.with_power(radio, words.power_dbm, words.noise_dbm)


def _pair(option: str, text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        first, second = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--{option} {text} is not legal: must be two numbers with a comma") from None
    return first, second


def told(path: Path, imported: Imported) -> list[str]:
    """What is said of an import."""
    scenario = imported.scenario
    drawn = [name for name in trace_fields(scenario.trace_type) if name not in imported.fields]
    usual = scenario.config_type()
    network = [
        f"{field.name}={_text(getattr(scenario.config, field.name))}"
        for field in dataclasses.fields(usual)
        if getattr(scenario.config, field.name) != getattr(usual, field.name)
    ]
    size = f"{imported.cells} network{'s' * (imported.cells != 1)}, {imported.slots} steps of {scenario.name}"
    lines = [f"{path}: {size}", *imported.lines]
    lines.append(f"network: {', '.join(network)}" if network else "network: the default one")
    lines.append(f"drawn when it is played: {', '.join(drawn) or 'nothing'}")
    lines.append(f"play it: edgemarl compare --trace {path}")
    stretch = stretch_slots(path, scenario) if imported.cells == 1 and imported.slots >= 40 else imported.slots
    if imported.slots >= 2 * stretch:  # as `trace describe` proposes it
        lines[-1] += f" --cells-from {stretch}"
    return lines


def _text(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}.."


def forms() -> None:
    """The public forms that are known by name."""
    table = Table("form", "what it is", "source")
    for name in form_names():
        mapping = load_mapping(name)
        table.add_row(name, mapping.title, mapping.source)
    wide_console().print(table)
