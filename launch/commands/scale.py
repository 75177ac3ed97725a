"""`scale`: what each way of control costs, and what it needs, as the network grows."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgemarl.agents.registry import playbook_of
from edgemarl.envs.config import unknown_name
from edgemarl.envs.registry import make_scenario, scenario_class
from edgemarl.launch.experiment.alone import AloneExperiment
from edgemarl.launch.experiment.plan import Learned, Plan, Preset, Sweep, load_preset, make_plan, parse_overrides
from edgemarl.launch.experiment.run import PointResult
from edgemarl.launch.experiment.store import Part, working_in
from edgemarl.launch.experiment.trained import Notify, learned_config
from edgemarl.launch.progress import Bars
from edgemarl.launch.recipes import resolved
from edgemarl.launch.report.numerals import percent
from edgemarl.launch.report.tables import terminal_table, wide_console
from edgemarl.marl.evaluation.compare import Interval, relative_difference

ITERATION_AGENT_STEPS = 10_000
"""Agent-steps of an iteration that the preset was tuned for (50 devices, 8 cells, 25 slots)."""
CELLS_MAX = 32
"""Cells beyond which smaller networks are not given more: their iterations are shorter instead."""
MIB, KIB = 2.0**20, 2.0**10


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
    """What the command line says; None keeps the preset's value."""

    scenario: str = "sequential_offloading"
    field: str = "num_devices"
    controllers: Sequence[str] = ()
    agent_steps: int | None = None
    minutes: float | None = None
    training_seeds: int = 1
    networks: int | None = None
    within: float = 0.1
    scaled_above: int = 140
    settings: Sequence[str] = ()
    seed: int = 0


def parse_sizes(text: str) -> tuple[int, ...]:
    """`10,50,100` as rising numbers.

    Raises:
        ValueError: something else.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) > 0 for word in words) or len(set(words)) < len(words):
        raise ValueError(f"--devices {text} is not legal: must be different integers >= 1 with commas")
    return tuple(sorted(int(word) for word in words))


def make_study(sizes: Sequence[int], options: ScaleOptions) -> Study:
    """Check everything before anything runs.

    Raises:
        ValueError: an unknown scenario, field or controller, a value outside its range.
    """
    if options.training_seeds < 1:
        raise ValueError(f"training_seeds = {options.training_seeds} is not legal: must be an integer >= 1")
    if options.networks is not None and options.networks < 1:
        raise ValueError(f"networks = {options.networks} is not legal: must be an integer >= 1")
    if not 0 < options.within < math.inf:
        raise ValueError(f"within = {100 * options.within:g} % is not legal: must be > 0")
    if options.scaled_above < 0:
        raise ValueError(f"scaled_above = {options.scaled_above} is not legal: must be an integer >= 0")
    overrides = parse_overrides(options.settings)
    preset = _preset(options)
    check_field(options.scenario, options.field)
    also, remark = _resources(sizes, options, {**preset.set, **overrides})
    label = preset.sweep.label if preset.sweep else ""
    learned = {name: _budgeted(entry, options) for name, entry in preset.learned.items()}

    def plan_of(chosen: Sequence[int], training: Mapping[str, Learned]) -> Plan:
        values = {name: [found[size] for size in chosen] for name, found in also.items()}
        sweep = Sweep(field=options.field, values=list(chosen), label=label or options.field, also=values)
        return make_plan(
            "scale", preset.model_copy(update={"sweep": sweep, "learned": dict(training)}),
            overrides={n: v for n, v in overrides.items() if n != options.field}, seed=options.seed,
            networks=options.networks, chosen=options.controllers,
        )  # fmt: skip

    plans = tuple(plan_of([size], {name: sized(entry, size) for name, entry in learned.items()}) for size in sizes)
    for plan in plans:
        for name in (c for c in plan.preset.controllers if c in plan.preset.learned):
            learned_config(options.scenario, plan.preset.learned[name], plan.points[0], options.seed)
    remarks = (remark, ("Budget", _budget(options, plans[0])))
    return Study(plan_of(sizes, learned), plans, options.within, remarks)


def check_field(scenario: str, field: str) -> None:
    """Raise `ValueError` unless a config field is a whole number that can count devices."""
    config = scenario_class(scenario).config_type()
    fields = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    counts = [name for name, value in fields.items() if isinstance(value, int) and not isinstance(value, bool)]
    if field not in counts:
        raise ValueError(unknown_name(f"whole-number field of scenario '{scenario}'", field, counts))


def _preset(options: ScaleOptions) -> Preset:
    """The preset of the study; of another scenario its learners, `random` and its reference."""
    preset = load_preset("scale")
    if options.scenario == preset.scenario:
        return preset
    cls = scenario_class(options.scenario)
    book = playbook_of(options.scenario)
    known, reference = book.controllers, book.reference
    learned: dict[str, Learned] = {}
    for name, entry in preset.learned.items():
        fields = resolved(preset.scenario, entry.train)
        general = Learned(train={k: v for k, v in fields.items() if k not in ("set", "fixed", "reward")})
        if general not in learned.values():  # some differ by what only this scenario has
            learned[name] = general
    names = [n for n, e in known.items() if n in ("random", reference) or e.kind == "learned"]
    return preset.model_copy(
        update={
            "title": f"{cls.title}: scaling", "scenario": options.scenario, "reference": reference,
            "controllers": [*names, *(n for n in preset.controllers if n in learned)], "learned": learned,
            "slots": min(preset.slots or 400, cls().horizon), "warmup": min(preset.warmup, cls().horizon // 4),
            "sweep": None,
        }
    )  # fmt: skip


def _resources(
    sizes: Sequence[int], options: ScaleOptions, fields: Mapping[str, Any]
) -> tuple[dict[str, dict[int, Any]], tuple[str, str]]:
    """Config fields that grow with the size, field -> size -> value, and a remark about them."""
    grown = [size for size in sizes if size > options.scaled_above]
    at_size = playbook_of(options.scenario).at_size
    if at_size is None or not grown:
        return {}, ("Resources", "All sizes share the resources of the default configuration.")
    fields = {n: v for n, v in fields.items() if n != options.field}
    base = {size: make_scenario(options.scenario, **fields, **{options.field: size}).config for size in sizes}
    config = {size: at_size(base[size], size) if size in grown else base[size] for size in sizes}
    changed = [
        f.name for f in dataclasses.fields(base[sizes[0]])
        if any(getattr(config[s], f.name) != getattr(base[s], f.name) for s in sizes)
    ]  # fmt: skip
    text = (
        f"{', '.join(changed)} grow with the number of devices at "
        f"{', '.join(map(str, grown))}: sizes above {options.scaled_above} (--scaled-above). "
        "Smaller sizes share the default, so cost is comparable within a size, not from one side of that limit to the "
        "other."
    )
    return {n: {s: getattr(config[s], n) for s in sizes} for n in changed}, ("Resources", text)


def _budgeted(learned: Learned, options: ScaleOptions) -> Learned:
    budget = {"agent_steps": options.agent_steps, "minutes": options.minutes}
    train = {
        **resolved(options.scenario, learned.train),
        **{name: value for name, value in budget.items() if value is not None},
    }
    return Learned(training_seeds=options.training_seeds, train=train)


def sized(learned: Learned, size: int) -> Learned:
    """Training settings at one size: fewer cells in larger networks, so that an iteration stays as short."""
    slots = int(learned.train.get("slots", 50))
    cells = int(np.clip(ITERATION_AGENT_STEPS // (slots * size), 1, CELLS_MAX))
    return Learned(training_seeds=learned.training_seeds, train={"cells": cells, **learned.train})


def _budget(options: ScaleOptions, plan: Plan) -> str:
    from edgemarl.marl.training.config import TrainConfig

    compared = {name: entry for name, entry in plan.preset.learned.items() if name in plan.preset.controllers}
    steps = {name: entry.train.get("agent_steps", TrainConfig().agent_steps) for name, entry in compared.items()}
    agent_steps = ", ".join(f"{name} {count:,}" for name, count in steps.items()) or "none"
    minutes = "" if options.minutes is None else f", or {options.minutes:g} minutes if they are over sooner"
    return (
        f"Agent-steps for each of {options.training_seeds} training seed(s), at every size alike: {agent_steps}"
        f"{minutes}. {plan.preset.networks} networks of {plan.slots} slots to compare on. Every result comes from a "
        "process of its own with one computing thread."
    )


def run_study(study: Study, folder: Path, notify: Notify | None = None) -> Iterator[PointResult]:
    """Results size by size; what the folder holds already is taken from there."""
    for plan in study.sizes:
        experiment = AloneExperiment(plan, folder, notify)
        yield with_measures(experiment.run()[0], study.within, plan.preset.window)


# --- measures ------------------------------------------------------------------------------------------------


def with_measures(result: PointResult, within: float, window: int) -> PointResult:
    """The result with what was measured as columns of its table, in place of the scenario's own columns."""
    goal = target_cost(result, within, window)
    parts = {name: [_with_time_to(part, goal, result) for part in found] for name, found in result.parts.items()}
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
    if goal is None or not curve:
        return part
    run = part.about.get("training_s") is not None
    slots = result.point.scenario.horizon
    found = first_below(curve, goal, smooth_slots=slots if run else 0, agents=_agents(result))
    reached = {"reached_agent_steps": found[0], "reached_s": found[1]}
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
        heading: _range([found.get(name, math.nan) / unit for found in measured])
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
                f"{result.point.label}: {row.controller} costs {percent(more)} above {best.controller} and sends "
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


def scale(devices: str, options: ScaleOptions, out: Path | None, command: str) -> None:
    """Run a study, print its tables, write its page after every size.

    Raises:
        ValueError: anything that `make_study` rejects, a folder that cannot be written.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that are started here
    study = make_study(parse_sizes(devices), options)
    folder = out or Path("results") / "scale" / options.scenario
    results: list[PointResult] = []
    paths: dict[str, Path] = {}
    with working_in(folder), Bars() as bars:
        for result in run_study(study, folder, bars):
            results.append(result)
            paths = write(study, results, folder, command)
    console = wide_console()
    for result in results:
        console.print(terminal_table(result))
    for line in findings(results):
        console.print(line)
    console.print(f"report: {paths['report']}")


def write(study: Study, results: Sequence[PointResult], folder: Path, command: str) -> dict[str, Path]:
    """Everything about the sizes that are finished."""
    from edgemarl.launch.report.page import write_all  # drawing libraries take a second to load

    experiment = AloneExperiment(study.plan, folder)
    return write_all(experiment, results, [], command, notes=notes(study), findings=findings(results))
