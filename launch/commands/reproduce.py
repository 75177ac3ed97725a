"""`reproduce`: the experiments of a scenario, all or those of one figure, whole or in their short form."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from edgemarl.envs.checks import checked_integer
from edgemarl.envs.config import cut
from edgemarl.envs.registry import scenario_class
from edgemarl.launch.commands.compare import play_and_report, show
from edgemarl.launch.console import wide_console
from edgemarl.launch.experiment.alone import AloneExperiment, check_concurrent, play_at_once
from edgemarl.launch.experiment.elsewhere import play_on_ray
from edgemarl.launch.experiment.plan import SEEDS_MAX, Plan, Preset, load_preset, make_plan, preset_names
from edgemarl.launch.experiment.quick import quick_preset
from edgemarl.launch.experiment.run import Experiment
from edgemarl.launch.experiment.store import working_in
from edgemarl.launch.progress import Bars
from edgemarl.marl.training.local_copy import local_copy, storage_path

RUNS = "runs"
"""Folder of the trainings of all figures, so that figures of one configuration share them."""


@dataclass(frozen=True)
class ReproduceOptions:
    """What the command line says.

    Attributes:
        figures: names of the scenario's presets without the scenario, or `fig5` for `fig5a`, `fig5b`, ..; none: all.
        quick: short forms.
        networks: None keeps the presets' own.
        concurrent: processes that train and play at once.
        training_seeds: None keeps the presets' own.
        storage: a folder that all nodes see, or a URL, below which results are kept; jobs are tasks of Ray.
    """

    scenario: str
    figures: Sequence[str] = ()
    quick: bool = False
    networks: int | None = None
    seed: int = 0
    concurrent: int = 1
    storage: str | None = None
    training_seeds: int | None = None


def figures_of(scenario: str, asked: Sequence[str]) -> list[str]:
    """Names of presets, without the scenario, that figures stand for.

    Args:
        scenario: its name.
        asked: a preset's name, or the number of a figure whose parts are presets (`fig5`); none: all of them.

    Raises:
        ValueError: unknown scenario or one without presets, an unknown figure; the message lists the known ones.
    """
    name = scenario_class(scenario).name
    known = [preset.partition("/")[2] for preset in preset_names() if preset.startswith(f"{name}/")]
    if not known:
        raise ValueError(f"scenario '{scenario}' has no presets; known presets: {', '.join(preset_names())}")
    presets: list[str] = []
    for figure in asked:
        parts = [preset for preset in known if re.fullmatch(rf"{re.escape(figure)}[a-z]", preset)]
        chosen = [figure] if figure in known else parts
        if not chosen:
            figures, others = _sorted_presets(known)
            raise ValueError(
                f"unknown figure '{cut(figure)}' of {name}. Figures of the paper: {', '.join(figures)}. Other "
                f"experiments: {', '.join(others)}"
            )
        presets += [preset for preset in chosen if preset not in presets]
    return presets or known


def list_figures() -> None:
    """Print every scenario with its figures and other experiments, and how one is run."""
    table = Table("scenario", "figures of the paper", "other experiments")
    for scenario in dict.fromkeys(name.partition("/")[0] for name in preset_names() if "/" in name):
        table.add_row(scenario, *(", ".join(names) for names in _sorted_presets(figures_of(scenario, ()))))
    console = wide_console()
    console.print(table)
    console.print(
        "edgemarl reproduce SCENARIO FIGURE runs one; with --quick in its short form: fewer networks, seeds, points "
        "and slots, a tenth of every training",
        soft_wrap=True,
    )


def _sorted_presets(known: Sequence[str]) -> tuple[list[str], list[str]]:
    """Figures of the paper, and other experiments."""
    figures = [preset for preset in known if preset.startswith("fig")]
    return figures, [preset for preset in known if preset not in figures]


def plans_of(options: ReproduceOptions) -> dict[str, Plan]:
    """Figure -> its plan; everything is checked before anything runs.

    Raises:
        ValueError: as `figures_of` and `make_plan`; concurrent or training_seeds below 1.
    """
    check_concurrent(options.concurrent)
    if options.training_seeds is not None:
        checked_integer("--training-seeds", options.training_seeds, 1, high=SEEDS_MAX)
    plans = {}
    for figure in figures_of(options.scenario, options.figures):
        name = f"{scenario_class(options.scenario).name}/{figure}"
        preset = load_preset(name)
        preset = quick_preset(preset) if options.quick else preset
        if options.training_seeds is not None:
            preset = _with_seeds(preset, options.training_seeds)
        plans[figure] = make_plan(name, preset, overrides={}, seed=options.seed, networks=options.networks)
    return plans


def _with_seeds(preset: Preset, count: int) -> Preset:
    learned = {name: of.model_copy(update={"training_seeds": count}) for name, of in preset.learned.items()}
    return preset.model_copy(update={"learned": learned})


def reproduce(options: ReproduceOptions, out: Path, command: str) -> None:
    """Run presets of a scenario, each into a folder of its own; the same command again goes on where it stopped.

    Raises:
        ValueError: as `plans_of`; a folder that cannot be written.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that are started here
    plans = plans_of(options)
    out = out / options.scenario / "quick" if options.quick else out / options.scenario
    where = storage_path(options.storage, str(out))
    alone = options.concurrent > 1 or options.storage is not None
    if options.storage is not None:
        with local_copy(where) as root, Bars() as bars:
            experiments = [AloneExperiment(plan, root / name, runs=root / RUNS) for name, plan in plans.items()]
            play_on_ray(experiments, where, None if options.concurrent == 1 else options.concurrent, bars, root)
    with local_copy(where) as root:
        if alone and options.storage is None:
            with contextlib.ExitStack() as stack, Bars() as bars:
                for name in plans:
                    stack.enter_context(working_in(root / name))
                experiments = [
                    AloneExperiment(plan, root / name, bars, root / RUNS) for name, plan in plans.items()
                ]  # fmt: skip
                play_at_once(experiments, options.concurrent)
        for name, plan in plans.items():
            said = command if options.figures else f"{command} {name}"
            _report(plan, root, where, name, alone, said)
    if options.quick:
        wide_console().print(
            "short form (--quick): fewer networks, seeds, points and slots, a tenth of every training budget; numbers "
            "are not the figure's",
            soft_wrap=True,
        )


def _report(plan: Plan, root: Path, where: str, name: str, alone: bool, command: str) -> None:
    """What one figure gives, from its folder below `root`, which stands for the storage `where`."""
    kind = AloneExperiment if alone else Experiment
    with working_in(root / name), Bars() as bars:
        experiment = kind(plan, root / name, bars, root / RUNS)
        results, calculated, report = play_and_report(experiment, bars, command)
    show(experiment, results, calculated, f"{where}/{name}/{report.name}")
