"""`scale`: what each way of control costs, and what it needs, as the network grows."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgemarl.agents.registry import playbook_of
from edgemarl.envs.config import cut
from edgemarl.envs.registry import make_scenario, scenario_class
from edgemarl.launch.console import wide_console
from edgemarl.launch.experiment.alone import AloneExperiment, check_concurrent, play_at_once
from edgemarl.launch.experiment.elsewhere import play_on_ray
from edgemarl.launch.experiment.plan import (
    POINTS_MAX,
    FigureSpec,
    Learned,
    Plan,
    Preset,
    Sweep,
    fields_at_size,
    load_preset,
    make_plan,
    parse_overrides,
    preset_names,
)
from edgemarl.launch.experiment.run import PointResult
from edgemarl.launch.experiment.store import Part, working_in
from edgemarl.launch.experiment.trained import Notify, learned_config
from edgemarl.launch.progress import Bars
from edgemarl.launch.recipes import resolved
from edgemarl.launch.report import numerals
from edgemarl.launch.report.answer import more_or_less
from edgemarl.launch.report.tables import terminal_table
from edgemarl.marl.evaluation.compare import Interval, relative_difference
from edgemarl.marl.training.local_copy import local_copy, storage_path

ITERATIONS, ITERATION_STEPS = 100, (2_000, 10_000)
"""Iterations of a recipe that does not say how many cells it plays, and the agent-steps that one has at least and at
most: a short budget in large iterations ends before much is learned (100 devices, 300,000 decisions: 15% above the
reference in iterations of 20,000, 2% in iterations of 2,500 with half the minibatch and two thirds of the rate)."""
CELLS_MAX = 32
"""Cells beyond which smaller networks are not given more: their iterations are shorter instead."""
DIGITS = 9
"""Of a number of devices."""
MIB, KIB = 2.0**20, 2.0**10
DEFAULT_SIZES = (10, 50, 200)
"""Sizes of a scenario whose preset names none."""
AT = "@"
"""Between a learner's name and the size that it was trained at."""


@dataclasses.dataclass(frozen=True)
class Study:
    """A scaling study.

    Attributes:
        plan: all sizes, for tables and figures.
        sizes: one plan per size, whose training settings fit the size.
        within: share above the reference's cost that `time to` asks for.
        remarks: what the page says about resources and budgets.
    """

    plan: Plan
    sizes: tuple[Plan, ...]
    within: float
    remarks: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class ScaleOptions:
    """What the command line says; None keeps the preset's value, or the recipes' budget.

    Attributes:
        trained_at: sizes at which every learner is trained too, and then played unchanged at all sizes.
        concurrent: processes that train and play at once.
        storage: a folder that all nodes see, or a URL, below which the results are kept; jobs are tasks of Ray.
    """

    scenario: str = "sequential_offloading"
    controllers: Sequence[str] = ()
    trained_at: Sequence[int] = ()
    agent_steps: int | None = None
    minutes: float | None = None
    training_seeds: int = 1
    networks: int | None = None
    within: float = 0.1
    settings: Sequence[str] = ()
    seed: int = 0
    concurrent: int = 1
    storage: str | None = None


def parse_sizes(text: str, option: str = "--devices") -> tuple[int, ...]:
    """`10,50,100` as rising numbers.

    Raises:
        ValueError: something else.
    """
    words = [word.strip() for word in text.split(",")]
    legal = all(word.isdecimal() and len(word) <= DIGITS and int(word) > 0 for word in words)
    if not legal or len(words) > POINTS_MAX or len(set(words)) < len(words):
        raise ValueError(f"{option} {cut(text)} is not legal: must be different integers >= 1 with commas")
    return tuple(sorted(int(word) for word in words))


def make_study(sizes: Sequence[int], options: ScaleOptions) -> Study:
    """Check everything before anything runs.

    Args:
        sizes: numbers of devices; none: the preset's.
        options: what the command line says.

    Raises:
        ValueError: an unknown scenario or controller, a value outside its range, a size that the scenario cannot have.
    """
    if options.training_seeds < 1:
        raise ValueError(f"training_seeds = {options.training_seeds} is not legal: must be an integer >= 1")
    if options.networks is not None and options.networks < 1:
        raise ValueError(f"networks = {options.networks} is not legal: must be an integer >= 1")
    check_concurrent(options.concurrent)
    if not 0 < options.within < math.inf:
        raise ValueError(f"within = {100 * options.within:g} % is not legal: must be > 0")
    overrides = parse_overrides(options.settings)
    preset = sizes_preset(options.scenario)
    scenario = preset.scenario
    sizes = list(sizes or (preset.sweep.values if preset.sweep else DEFAULT_SIZES))
    fields = {**preset.set, **overrides}
    grown = grown_fields(scenario, fields, [*sizes, *options.trained_at])
    learned = {name: _budgeted(scenario, entry, options) for name, entry in preset.learned.items()}
    small = {
        f"{name}{AT}{size}": trained_elsewhere(scenario, entry, size, grown[size])
        for size in options.trained_at for name, entry in learned.items()
    }  # fmt: skip
    chosen = list(options.controllers or preset.controllers)
    chosen += [f"{name}{AT}{size}" for size in options.trained_at for name in chosen if name in learned]

    def plan_of(some: Sequence[int], training: Mapping[str, Learned]) -> Plan:
        sweep = Sweep(field="devices", values=list(some), label="devices", at_size=True)
        return make_plan(
            "scale", preset.model_copy(update={"sweep": sweep, "learned": {**training, **small}}),
            overrides=overrides, seed=options.seed, networks=options.networks, chosen=chosen,
        )  # fmt: skip

    plans = tuple(
        plan_of([size], {name: sized(scenario, entry, size) for name, entry in learned.items()}) for size in sizes
    )
    for plan in plans:
        for name in (c for c in plan.preset.controllers if c in plan.preset.learned):
            from edgemarl.marl.training.config import resolve  # with PyTorch, which rules do without

            resolve(learned_config(scenario, plan.preset.learned[name], plan.points[0], options.seed))
    remarks = (_resources(scenario, grown), ("Budget", _budget(options, plans[0])))
    return Study(plan_of(sizes, learned), plans, options.within, remarks)


def sizes_preset(scenario: str) -> Preset:
    """The scaling study of a scenario: its preset `sizes`, or PPO for one that has none, such as a user's own.

    Raises:
        ValueError: an unknown scenario, or one that does not say how it grows.
    """
    cls = scenario_class(scenario)
    name = f"{cls.name}/sizes"
    if name in preset_names():
        return load_preset(name)
    book = playbook_of(scenario)
    names = [n for n, e in book.controllers.items() if n in ("random", book.reference) or e.kind == "learned"]
    horizon = cls().horizon
    return Preset(
        title=f"{cls.title}: sizes", scenario=scenario, controllers=[*names, "ppo", "ppo_central"],
        learned={"ppo": Learned(), "ppo_central": Learned(train={"control": "central"})},
        networks=5, slots=min(400, horizon), warmup=min(100, horizon // 4), window=min(25, horizon),
        reference=book.reference, figures=[FigureSpec(kind="scaling")],
    )  # fmt: skip


def grown_fields(scenario: str, fields: Mapping[str, Any], sizes: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Size -> every config field that differs anywhere, at that size.

    Raises:
        ValueError: as `edgemarl.launch.experiment.plan.fields_at_size`.
    """
    changed = {size: fields_at_size(scenario, fields, size) for size in sizes}
    names = list(dict.fromkeys(name for fields_there in changed.values() for name in fields_there))
    base = make_scenario(scenario, **fields).config
    return {
        size: {name: fields_there.get(name, getattr(base, name)) for name in names}
        for size, fields_there in changed.items()
    }


def trained_elsewhere(scenario: str, learned: Learned, size: int, fields: Mapping[str, Any]) -> Learned:
    """A learner that is trained at one size, whatever the size that it plays at."""
    entry = sized(scenario, learned, size)
    train = {**entry.train, "set": {**entry.train.get("set", {}), **fields}}
    return Learned(training_seeds=entry.training_seeds, train=train)


def _resources(scenario: str, grown: Mapping[int, Mapping[str, Any]]) -> tuple[str, str]:
    names = list(next(iter(grown.values())))
    if not names:
        return "Resources", "There is one size only, that of the default configuration."
    rows = "; ".join(
        f"{name} " + ", ".join(numerals.significant(value) if isinstance(value, float) else str(value) for value in
                               (fields[name] for fields in grown.values()))
        for name in names
    )  # fmt: skip
    sizes = ", ".join(map(str, grown))
    return "Resources", f"What grows with the network is the scenario's own knowledge. At {sizes} devices: {rows}."


def _budgeted(scenario: str, learned: Learned, options: ScaleOptions) -> Learned:
    budget = {"agent_steps": options.agent_steps, "minutes": options.minutes}
    train = {
        **resolved(scenario, learned.train),
        **{name: value for name, value in budget.items() if value is not None},
    }
    return Learned(training_seeds=options.training_seeds, train=train)


def sized(scenario: str, learned: Learned, size: int) -> Learned:
    """Training settings at one size and budget: fewer cells in larger networks, so that an iteration stays as short.

    An iteration is no longer than a hundredth of the budget, and a minibatch no more than a quarter of it. The number
    of cells that a recipe gives is of the scenario's default size.
    """
    train = dict(learned.train)
    given, longest = train.get("cells"), train.get("iteration_steps")
    if given is None:
        steps = int(np.clip(train.get("agent_steps", 500_000) // ITERATIONS, *ITERATION_STEPS))
        train["iteration_steps"] = steps if longest is None else min(steps, int(longest))
        train["minibatch"] = max(1, min(int(train.get("minibatch", 1000)), steps // 4))
    else:
        default = max(role.count for role in scenario_class(scenario)().roles.values())
        train["cells"] = int(np.clip(round(given * default / size), 1, max(given, CELLS_MAX)))
    return Learned(training_seeds=learned.training_seeds, train=train)


def _budget(options: ScaleOptions, plan: Plan) -> str:
    compared = {name: entry for name, entry in plan.preset.learned.items() if name in plan.preset.controllers}
    steps = {
        name: learned_config(plan.preset.scenario, entry, plan.points[0], options.seed).agent_steps
        for name, entry in compared.items()
    }
    agent_steps = ", ".join(f"{name} {count:,}" for name, count in steps.items()) or "none"
    minutes = "" if options.minutes is None else f", or {options.minutes:g} minutes if they are over sooner"
    return (
        f"Agent-steps for each of {options.training_seeds} training seed(s), at every size alike: {agent_steps}"
        f"{minutes}. {plan.preset.networks} networks of {plan.slots} slots to compare on. Every result comes from a "
        "process of its own with one computing thread."
    )


def run_study(study: Study, folder: Path, notify: Notify | None = None, concurrent: int = 1) -> Iterator[PointResult]:
    """Results size by size; what the folder holds already is taken from there.

    Args:
        study: what is run.
        folder: of its results.
        notify: told about progress.
        concurrent: processes that train and play at once; with more than one the results come when all are done.
    """
    experiments = [AloneExperiment(plan, folder, notify) for plan in study.sizes]
    if concurrent > 1:
        play_at_once(experiments, concurrent)
    for plan, experiment in zip(study.sizes, experiments, strict=True):
        yield with_measures(experiment.run()[0], study.within, plan.preset.window)


# --- measures ------------------------------------------------------------------------------------------------


def with_measures(result: PointResult, within: float, window: int) -> PointResult:
    """The result with what was measured as columns of its table, in place of the scenario's own columns."""
    goal = target_cost(result, within, window)
    parts = {name: [_with_time_to(part, goal, result) for part in measured] for name, measured in result.parts.items()}
    rows = [dataclasses.replace(row, columns=_columns(parts[row.controller], within)) for row in result.comparison.rows]
    return dataclasses.replace(result, comparison=dataclasses.replace(result.comparison, rows=rows), parts=parts)


def target_cost(result: PointResult, within: float, window: int) -> float | None:
    """Cost metric that counts as learned: a share above the reference's, over one episode from its first slot.

    Learning curves are of whole episodes too, so both contain the same start from empty queues.
    """
    name = result.comparison.reference
    if name is None:
        return None
    windows = np.mean([part.cost_windows for part in result.parts[name]], axis=(0, 1))
    mean = float(windows[: max(1, result.point.scenario.horizon // window)].mean())
    return mean + within * abs(mean)


def _with_time_to(part: Part, goal: float | None, result: PointResult) -> Part:
    curve = part.about.get("curve")
    if goal is None or not curve or "cost" not in curve:  # a cost of whole episodes is in no iteration
        return part
    run = part.about.get("training_s") is not None
    slots = result.point.scenario.horizon
    reached_at = first_below(curve, goal, smooth_slots=slots if run else 0, agents=_agents(result))
    reached = {"reached_agent_steps": reached_at[0], "reached_s": reached_at[1]}
    return dataclasses.replace(part, about={**part.about, "measured": {**part.about["measured"], **reached}})


def _agents(result: PointResult) -> int:
    return sum(role.count for role in result.point.scenario.roles.values())


def first_below(
    curve: Mapping[str, Sequence[float]], goal: float, smooth_slots: int, agents: int
) -> tuple[float, float]:
    """Agent-steps and seconds after which a learning curve first lies at or below a cost; infinite if it never does.

    Args:
        curve: lists `agent_steps`, `time_s`, `cost`.
        goal: the cost.
        smooth_slots: the curve is averaged over the last iterations, as many as play this many slots of a cell.
        agents: agents of a cell.
    """
    steps, cost = np.array(curve["agent_steps"]), np.array(curve["cost"])
    count = 1
    if smooth_slots and len(steps) > 1:
        cell_slots = (steps[-1] - steps[0]) / (len(steps) - 1) / agents
        count = int(np.clip(round(smooth_slots / cell_slots), 1, len(steps)))
    means = np.convolve(cost, np.full(count, 1.0 / count), mode="valid")
    below = np.flatnonzero(means <= goal)
    if not len(below):
        return math.inf, math.inf
    at = int(below[0]) + count - 1
    return float(steps[at]), float(curve["time_s"][at])


def _columns(parts: Sequence[Part], within: float) -> dict[str, Interval]:
    """Heading -> mean and range over training seeds."""
    share = f"{100 * within:g}%"
    columns = {
        "agent-steps/s": ("agent_steps_per_s", 1.0),
        f"time to {share} [s]": ("reached_s", 1.0),
        f"agent-steps to {share}": ("reached_agent_steps", 1.0),
        "peak memory [MiB]": ("peak_memory_bytes", MIB),
        "checkpoint [KiB]": ("checkpoint_bytes", KIB),
        "policy [KiB]": ("policy_bytes", KIB),
    }
    measured = [part.about.get("measured", {}) for part in parts]
    return {
        heading: _range([numbers.get(name, math.nan) / unit for numbers in measured])
        for heading, (name, unit) in columns.items()
    }


def _range(values: Sequence[float]) -> Interval:
    mean = float(np.mean(values))
    return Interval(mean, min(values), max(values)) if math.isfinite(mean) else Interval(math.nan, math.nan, math.nan)


def findings(results: Sequence[PointResult]) -> list[str]:
    """What central control costs against decentralized control trained in the same way, size by size."""
    lines = []
    for result in results:
        cost = {name: np.stack([p.means[result.point.scenario.cost_metric] for p in result.parts[name]])
                for name in result.parts}  # fmt: skip
        rows = [row for row in result.comparison.rows if row.training_s is not None]
        local = [row for row in rows if row.information == "local"]
        if not local:
            continue
        best = min(local, key=lambda row: row.cost.value)
        for row in (row for row in rows if row.information == "global"):
            more = relative_difference(cost[row.controller], cost[best.controller])
            lines.append(
                f"{result.point.label}: {row.controller} costs {more_or_less(more)} than {best.controller} and sends "
                f"{row.signalling_bytes / max(best.signalling_bytes, 1.0):.1f} times the bytes."
            )
    return lines


def notes(study: Study) -> list[tuple[str, str]]:
    """What the page must explain beside a comparison's own terms."""
    share = f"{100 * study.within:g}%"
    reference = study.plan.reference
    return [
        *study.remarks,
        ("Agent-steps/s", "Decisions of agents per second of training, learning included, after the first iteration. "
         "Of an online learner: decisions per second of playing the networks at once, learning included."),
        (f"Time to {share}", f"Until the learning curve, averaged over one episode's slots, first is within {share} of "
         f"what {reference} costs over one episode from empty queues on the comparison's networks. The curve holds "
         "exploration noise and is of freshly drawn networks. Of an online learner: computing time of one network "
         "until its first window within that cost. A dash: not reached by every training seed."),
        ("Peak memory", "Largest resident memory of the process that trained and played, imports included; "
         "Ray's service processes are not counted."),
        ("Checkpoint, policy", "Files that training goes on from, with the optimiser's state; files that act. Of an "
         "online learner: the state of one network's learners as pickled."),
        ("Intervals of measured columns", "Range over training seeds."),
    ]  # fmt: skip


def scale(devices: str | None, options: ScaleOptions, out: Path | None, command: str) -> None:
    """Run a study, print its tables, write its page after every size that others wait behind.

    Raises:
        ValueError: anything that `make_study` rejects, a folder that cannot be written.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that are started here
    study = make_study(parse_sizes(devices) if devices else (), options)
    out = out or Path("results") / "scale" / options.scenario
    results: list[PointResult] = []
    paths: dict[str, Path] = {}
    place: contextlib.AbstractContextManager[Path] = contextlib.nullcontext(out)
    where = storage_path(options.storage, str(out))
    if options.storage is not None:
        with local_copy(where) as folder, Bars() as bars:
            experiments = [AloneExperiment(plan, folder) for plan in study.sizes]
            play_on_ray(experiments, where, None if options.concurrent == 1 else options.concurrent, bars)
        place = local_copy(where)
    with place as folder, working_in(folder), Bars() as bars:
        for result in run_study(study, folder, bars, options.concurrent):
            results.append(result)
            rest = study.sizes[len(results) :]
            if not rest or not AloneExperiment(rest[0], folder).all_finished:
                paths = write(study, results, folder, command)
    console = wide_console()
    for result in results:
        console.print(terminal_table(result))
    for line in findings(results):
        console.print(line)
    report = paths["report"] if options.storage is None else f"{where}/{paths['report'].name}"
    console.print(f"report: {report}", soft_wrap=True)


def write(study: Study, results: Sequence[PointResult], folder: Path, command: str) -> dict[str, Path]:
    """Everything about the sizes that are finished."""
    from edgemarl.launch.report.page import write_all  # drawing libraries take a second to load

    experiment = AloneExperiment(study.plan, folder)
    return write_all(experiment, results, [], command, notes=notes(study), findings=findings(results))
