"""`python -m launch ..`, also `edgemarl ..`: what a user runs.

Commands import what they need when they are called, so that help and errors come at once.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Decentralized control of DNN inference in edge networks.", no_args_is_help=True, add_completion=False,
    pretty_exceptions_enable=False,
)  # fmt: skip
trace_app = typer.Typer(help="Sample a trace to a file, or describe a file.", no_args_is_help=True)
app.add_typer(trace_app, name="trace")

Settings = Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a config field.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything that is drawn.")]


@app.command("scenarios")
def scenarios_command(
    name: Annotated[str | None, typer.Argument(help="Show this scenario's parameters and controllers.")] = None,
) -> None:
    """List the scenarios, or show one: parameters with units, legal range and source, and its controllers."""
    from launch import show

    show.scenarios() if name is None else show.scenario(name)


@app.command("compare")
def compare_command(
    preset: Annotated[str | None, typer.Option(help="Named experiment, such as quick, or a YAML file.")] = None,
    scenario: Annotated[str | None, typer.Option(help="Scenario at its defaults.")] = None,
    controllers: Annotated[str | None, typer.Option(help="Names, or paths of training runs, with commas.")] = None,
    trace: Annotated[Path | None, typer.Option(help="Trace file that replaces the sampled traces.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Number of networks, each drawn on its own.")] = None,
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
    seed: Seed = 0,
) -> None:
    """Compare controllers on the same traces; prints a table and writes a report page."""
    from launch.run import compare

    compare(preset, scenario, controllers, trace, seeds, settings or [], out, seed, command_line())


@trace_app.command("sample")
def trace_sample_command(
    scenario: Annotated[str, typer.Option(help="Scenario whose random processes draw.")],
    out: Annotated[Path, typer.Option(help="File to write: .parquet or .csv.")],
    cells: Annotated[int, typer.Option(help="Independent networks.")] = 1,
    slots: Annotated[int | None, typer.Option(help="Steps; default: an episode.")] = None,
    settings: Settings = None,
    seed: Seed = 0,
) -> None:
    """Draw a trace and write it to a file."""
    from launch.show import sample_trace

    sample_trace(scenario, out, cells, slots, settings or [], seed)


@trace_app.command("describe")
def trace_describe_command(
    file: Annotated[Path, typer.Argument(help="Trace file: .parquet or .csv.")],
    scenario: Annotated[str | None, typer.Option(help="Scenario, if the file does not say.")] = None,
    settings: Settings = None,
) -> None:
    """Check a trace file against a scenario and show what it holds."""
    from launch.show import describe_trace

    describe_trace(file, scenario, settings or [])


def command_line() -> str:
    """The command as it was typed, for the report."""
    return shlex.join(["python", "-m", "launch", *sys.argv[1:]])


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; bad input gives one line on stderr and exit code 2."""
    try:
        code = app(args=arguments, standalone_mode=False)
    except KeyboardInterrupt:
        _fail("stopped; finished results are kept, the same command goes on from there", 130)
    except typer.Abort:
        _fail("stopped", 130)
    except ValueError as error:
        if os.environ.get("EDGEMARL_DEBUG"):
            raise
        _fail(str(error), 2)
    except Exception as error:
        if not hasattr(error, "format_message"):  # not an error of the command line's parser
            raise
        _fail(error.format_message(), 2)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> None:
    sys.stderr.write("edgemarl: " + " ".join(message.split()) + "\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
