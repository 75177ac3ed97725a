"""`compare`: from the command line's words to a table and a report page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from edgemarl.launch.console import wide_console
from edgemarl.launch.experiment.alone import AtOnceExperiment, check_concurrent, play_at_once
from edgemarl.launch.experiment.calculations import Calculated, calculate
from edgemarl.launch.experiment.place import default_folder, free_folder, holds_others
from edgemarl.launch.experiment.plan import load_preset, make_plan, parse_overrides, scenario_preset
from edgemarl.launch.experiment.played import TraceFile, file_scenario
from edgemarl.launch.experiment.run import Experiment, PointResult
from edgemarl.launch.experiment.store import working_in
from edgemarl.launch.progress import Bars
from edgemarl.launch.report.cautions import cautions
from edgemarl.launch.report.tables import calculation_table, terminal_table


def compare(
    preset: str | None, scenario: str | None, controllers: str | None, trace: TraceFile | None, networks: int | None,
    slots: int | None, warmup: int | None, settings: Sequence[str], out: Path | None, seed: int, command: str,
    concurrent: int = 1,
) -> None:  # fmt: skip
    """Run a comparison and print its table; with `concurrent` controllers are trained and played at once.

    Raises:
        ValueError: concurrent below 1, neither or both of preset and scenario, or anything that `make_plan` or
            `Experiment` rejects.
    """
    check_concurrent(concurrent)
    if preset is None and scenario is None and trace is not None:
        scenario = file_scenario(trace.path)
    if (preset is None) == (scenario is None):
        raise ValueError("compare needs either --preset NAME or --scenario NAME")
    named = preset or scenario or ""
    chosen = load_preset(preset) if preset else scenario_preset(named)
    names = [name.strip() for name in (controllers or "").split(",") if name.strip()]
    plan = make_plan(
        named, chosen, overrides=parse_overrides(settings), seed=seed, networks=networks, chosen=names, trace=trace,
        slots=slots, warmup=warmup, quarter_warmup=preset is None,
    )  # fmt: skip
    default = default_folder(named)
    folder = out or free_folder(default, plan)
    remarks = []
    if folder != (out or default):
        remarks.append(f"{default} holds results of other settings, which are kept; these are in {folder}")
    if out is not None and holds_others(out, plan):
        remarks.append(f"{out} held the report of other settings, which this one replaces; their results are kept")
    with working_in(folder), Bars() as bars:
        experiment = Experiment(plan, folder, bars)
        if concurrent > 1:
            os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that are started here
            play_at_once([AtOnceExperiment(plan, folder, bars)], concurrent)
        played = play_and_report(experiment, bars, command)
    show(experiment, *played, remarks)


def play_and_report(
    experiment: Experiment, bars: Bars, command: str
) -> tuple[list[PointResult], list[Calculated], Path]:
    """Play what is not finished and write the report page; results, exact calculations and the page's file."""
    calculated = calculate(experiment.plan, experiment.store, bars)
    results = experiment.run()
    bars("report", 0, 1)
    from edgemarl.launch.report.page import (
        write_all,  # after the first results: drawing libraries take a second to load
    )

    paths = write_all(experiment, results, calculated, command)
    bars("report", 1, 1)
    return results, calculated, paths["report"]


def show(
    experiment: Experiment,
    results: Sequence[PointResult],
    calculated: Sequence[Calculated],
    report: Path | str,
    remarks: Sequence[str] = (),
) -> None:
    """Print the tables, and where the page is."""
    console = wide_console()
    for result in results:
        console.print(terminal_table(result))
        for line in cautions(result.comparison):
            console.print(line, soft_wrap=True)
    for table in calculated:
        console.print(calculation_table(table))
    if experiment.played is not None and experiment.plan.trace is not None:
        sentences = "; ".join(experiment.played.sentences())
        console.print(f"trace {experiment.plan.trace.path}: {sentences}.", soft_wrap=True)
        if experiment.played.doubts:
            console.print(f"Warning: {'; '.join(experiment.played.doubts)}.", soft_wrap=True)
    if experiment.reused:
        console.print(
            f"{experiment.reused} finished results of the same settings were taken from {experiment.folder}",
            soft_wrap=True,
        )
    for remark in remarks:
        console.print(remark, soft_wrap=True)
    console.print(f"report: {report}", soft_wrap=True)
