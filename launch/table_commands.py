"""The words of `edgemarl trace`, `profile` and `profile-pruning`; what they do is loaded when they are given."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from edgemarl.launch.options import Ignore, Seed, Settings
from edgemarl.launch.whole_numbers import whole_number

trace_app = typer.Typer(help="Import measurements, sample a trace to a file, describe a file.", no_args_is_help=True)


@trace_app.command("sample")
def trace_sample_command(
    scenario: Annotated[str, typer.Option(help="Scenario whose random processes draw.")],
    out: Annotated[Path, typer.Option(help="File to write: .parquet or .csv.")],
    cells: Annotated[int, typer.Option(parser=whole_number, metavar="INTEGER", help="Independent networks.")] = 1,
    slots: Annotated[
        int | None, typer.Option(parser=whole_number, metavar="INTEGER", help="Steps; default: an episode.")
    ] = None,
    settings: Settings = None,
    seed: Seed = 0,
) -> None:
    """Draw a trace and write it to a file."""
    from edgemarl.launch.commands.trace import sample

    sample(scenario, out, cells, slots, settings or [], seed)


@trace_app.command("import")
def trace_import_command(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Measurements, all of one layout.")],
    scenario: Annotated[str, typer.Option(help="Scenario whose trace they become.")],
    out: Annotated[Path, typer.Option(help="File to write: .parquet or .csv.")] = Path("trace.parquet"),
    form: Annotated[str | None, typer.Option(help="Layout of a public form, or a .yaml file with one.")] = None,
    maps: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="FIELD=COLUMN", help="Column of a field; A,B: an agent each; X:Y: a position."),
    ] = None,
    unit: Annotated[
        list[str] | None, typer.Option(metavar="[FIELD=]UNIT", help="dB, dBm, kbit/s, Mbit/s, m, deg, task, 1/s, ..")
    ] = None,
    time: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of the stamps.")] = None,
    time_unit: Annotated[
        str | None,
        typer.Option(help="Of stamps that are numbers: s, ms, us, ns, min, h, d, slot (the scenario's step)."),
    ] = None,
    time_format: Annotated[str | None, typer.Option(help="Of stamps that are texts, as in strptime.")] = None,
    agent: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column that says whose row it is; file.")] = None,
    without: Annotated[list[str] | None, typer.Option(metavar="AGENT", help="Leave an agent out.")] = None,
    align: Annotated[str | None, typer.Option(help="clock, or start: every agent from its first sample on.")] = None,
    tasks: Annotated[bool, typer.Option("--tasks", help="A row is a task, not a sample.")] = False,
    weight: Annotated[str | None, typer.Option(metavar="COLUMN", help="How many tasks a row is.")] = None,
    missing: Annotated[
        list[str] | None, typer.Option(metavar="TEXT|COLUMN=NUMBER", help="What means that nothing was measured.")
    ] = None,
    resample: Annotated[float | None, typer.Option(metavar="S", help="Seconds of a step; default: its own.")] = None,
    aggregate: Annotated[str | None, typer.Option(help="Of the samples of a slot: mean, last, max, min.")] = None,
    fill: Annotated[str | None, typer.Option(help="A slot without sample: hold, interpolate, none.")] = None,
    counts: Annotated[str | None, typer.Option(help="More tasks than a slot takes: spread, refuse.")] = None,
    deal: Annotated[
        int | None,
        typer.Option(parser=whole_number, metavar="INTEGER", help="Deal tasks to so many agents by what --agent says."),
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option(parser=whole_number, metavar="INTEGER", help="Agents of a network; default: all in one."),
    ] = None,
    power_dbm: Annotated[float | None, typer.Option(help="Power that was sent in the measured band.")] = None,
    noise_dbm: Annotated[float | None, typer.Option(help="Noise in the measured band.")] = None,
    bandwidth_hz: Annotated[float | None, typer.Option(help="Band that carried a throughput.")] = None,
    path_loss: Annotated[str | None, typer.Option(metavar="DB_AT_1M,DB_PER_DECADE", help="Of distances.")] = None,
    base: Annotated[str | None, typer.Option(metavar="X,Y", help="Where the base station stands.")] = None,
    fit: Annotated[bool, typer.Option("--fit/--no-fit", help="Set config fields that follow from the data.")] = True,
    add_to: Annotated[Path | None, typer.Option(metavar="TRACE", help="Keep this trace file's other fields.")] = None,
    keep: Annotated[Path | None, typer.Option("--save-mapping", help="Keep the layout as YAML.")] = None,
    settings: Settings = None,
) -> None:
    """Turn measurements (SNR, throughput, positions, task lists) into a trace file; see docs/measured_data.md."""
    from edgemarl.launch.commands.trace_import import Words, import_command

    words = Words(
        form, maps or (), unit or (), time, time_unit, time_format, agent, without or (), align, tasks, weight,
        missing or (), resample, aggregate, fill, counts, deal, devices, power_dbm, noise_dbm, bandwidth_hz, path_loss,
        base, fit, add_to,
    )  # fmt: skip
    import_command(files, scenario, words, settings or [], out, keep)


@trace_app.command("forms")
def trace_forms_command() -> None:
    """List the public forms of measurements that are known by name."""
    from edgemarl.launch.commands.trace_import import forms

    forms()


@trace_app.command("describe")
def trace_describe_command(
    file: Annotated[Path, typer.Argument(help="Trace file: .parquet or .csv.")],
    scenario: Annotated[str | None, typer.Option(help="Scenario, if the file does not say.")] = None,
    ignore: Ignore = None,
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(help="Picture to write: .png or .svg.")] = None,
) -> None:
    """Check a trace file against a scenario, show what it holds and what will be drawn."""
    from edgemarl.launch.commands.trace import describe

    describe(file, scenario, ignore or [], settings or [], out)


class _ModuleByDefault(TyperGroup):
    """`profile TARGET` is short for `profile module TARGET`."""

    def parse_args(self, context: Any, words: list[str]) -> list[str]:
        if words and words[0] not in (*self.commands, "--help"):
            words = ["module", *words]
        return super().parse_args(context, words)

    def format_help(self, context: Any, formatter: Any) -> None:
        """The commands, and below them what the one by default takes, as it is called without its name."""
        super().format_help(context, formatter)
        module = self.commands["module"]
        module.format_help(type(context)(module, info_name=context.info_name, parent=context.parent), formatter)


PROFILE = (
    "Layer tables of networks of your own: profile FILE.py:NAME --input C,H,W (short for profile module ..), with the "
    "options below."
)
profile_app = typer.Typer(cls=_ModuleByDefault, no_args_is_help=True, help=PROFILE)


@profile_app.command("import")
def profile_import_command(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Times on the device, of one profiler.")],
    layers: Annotated[str | None, typer.Option(help="Layer table of the network: alexnet, a file, ..")] = None,
    server: Annotated[list[Path] | None, typer.Option(metavar="FILE", help="Times on the server, likewise.")] = None,
    maps: Annotated[
        list[str] | None, typer.Option("--map", metavar="LAYER=TEXT", help="What has TEXT in its name is of LAYER.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the network; default: the file's.")] = None,
    input_elements: Annotated[float | None, typer.Option(help="Elements of the raw input, without --layers.")] = None,
    energy_budget_j: Annotated[float, typer.Option(help="Energy budget of a device per slot, J.")] = 0.05,
    memory_budget_bytes: Annotated[float, typer.Option(help="Memory budget of a device, B.")] = 1e8,
    out: Annotated[Path, typer.Option(help="Folder of the table.")] = Path("results/profile"),
) -> None:
    """Measured layer times (TensorRT, torch.profiler, Neurosurgeon) as a layer table for model_partitioning."""
    from edgemarl.launch.dnn.import_profile import import_command

    import_command(
        files, layers, server or [], maps or [], name, input_elements, energy_budget_j, memory_budget_bytes, out
    )


@profile_app.command("module")
def profile_command(
    target: Annotated[
        str, typer.Argument(metavar="MODULE:NAME|FILE.py:NAME", help="A torch.nn.Module, or what makes one; it is run.")
    ],
    inputs: Annotated[list[str], typer.Option("--input", metavar="C,H,W[:TYPE]", help="Shape of an input, no batch.")],
    csv: Annotated[Path | None, typer.Option(help="Write only the layer table, to this file.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of table and picture.")] = None,
    repeats: Annotated[
        int, typer.Option(parser=whole_number, metavar="INTEGER", help="Runs of the time measurement; 0: none.")
    ] = 5,
    energy_budget_j: Annotated[float, typer.Option(help="Energy budget of a device per slot, J.")] = 0.05,
    memory_budget_bytes: Annotated[float, typer.Option(help="Memory budget of a device, B.")] = 1e8,
    settings: Settings = None,
) -> None:
    """Turn a network of your own into a layer table, and draw the delay of each cut.

    This runs your code: it imports the file, makes the module and calls it on numbers of the shapes given. A module on
    torch's meta device is called without numbers, which is fast for large networks (with --repeats 0).
    """
    from edgemarl.launch.dnn.profile_command import profile

    profile(target, inputs, csv, out, repeats, energy_budget_j, memory_budget_bytes, settings or [])


def profile_pruning_command(
    model: Annotated[
        str, typer.Option(metavar="MODULE:NAME|FILE.py:NAME", help="Returns a trained torch.nn.Module; it is run.")
    ],
    data: Annotated[
        str, typer.Option(metavar="MODULE:NAME|FILE.py:NAME", help="Returns test batches, or (train, test); it is run.")
    ],
    rates: Annotated[str, typer.Option(help="Pruning rates, with commas.")] = "0.1,0.3,0.5,0.7,0.8,0.9",
    epochs: Annotated[
        int, typer.Option(parser=whole_number, metavar="INTEGER", help="Training after pruning, passes over the data.")
    ] = 0,
    learning_rate: Annotated[float, typer.Option(help="Of that training.")] = 1e-3,
    out: Annotated[Path, typer.Option(help="YAML file to write, a preset for compare.")] = Path("pruning.yaml"),
    seed: Seed = 0,
) -> None:
    """Prune a network of your own, measure FLOP and accuracy, write the table that model_pruning loads.

    This runs your code: it imports the files, makes the network and the data, and calls the one on the other.
    """
    from edgemarl.launch.dnn.prune_command import profile_pruning_command as profile

    profile(model, data, rates, epochs, learning_rate, out, seed)
