"""`study`: what is lost and what is saved if every device decides for itself, in every scenario, as it grows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.registry import scenario_names
from edgemarl.launch.commands.scale import ScaleOptions, Study, make_study, run_study, sizes_preset
from edgemarl.launch.commands.scale import write as write_scale
from edgemarl.launch.experiment.run import PointResult
from edgemarl.launch.progress import Bars
from edgemarl.marl.evaluation.compare import Interval, Row, relative_difference


@dataclass(frozen=True)
class StudyOptions:
    """What the command line says.

    Attributes:
        scenarios: names; none: all that are installed.
        quick: the presets' short forms.
        training_seeds, networks, agent_steps: None keeps the presets' and recipes' own.
        concurrent: processes that train and play at once.
    """

    scenarios: Sequence[str] = ()
    quick: bool = False
    training_seeds: int = 1
    networks: int | None = None
    agent_steps: int | None = None
    seed: int = 0
    concurrent: int = 1


@dataclass(frozen=True)
class Side:
    """One way of control at one size: the controller that stands for it, and what it costs and needs."""

    row: Row
    measured: dict[str, float]


@dataclass(frozen=True)
class Answer:
    """What one size of a scenario says.

    Attributes:
        decentralized, central: the best learned controllers of either kind.
        rule: the best rule that devices follow with what they see themselves.
        reference: the best that is known, whatever it sees.
        price: relative cost of learned decentralized above learned central control, paired.
        exchanges: (what is told, relative change of the cost by it).
        above: controller -> relative cost above the certified bound, or above the reference where there is no bound.
    """

    scenario: str
    title: str
    size: int
    agents: int
    decentralized: Side
    central: Side
    rule: Row | None
    reference: Row
    price: Interval
    exchanges: tuple[tuple[str, Interval], ...]
    above: dict[str, Interval | None]
    bounded: bool


def make_studies(options: StudyOptions) -> dict[str, Study]:
    """Scenario -> its scaling study; everything is checked before anything runs.

    Raises:
        ValueError: an unknown scenario, a value outside its range.
    """
    return {name: _study_of(name, options) for name in options.scenarios or scenario_names()}


def _study_of(scenario: str, options: StudyOptions) -> Study:
    preset = sizes_preset(scenario)
    scale = ScaleOptions(
        scenario, training_seeds=options.training_seeds, networks=options.networks,
        agent_steps=options.agent_steps, seed=options.seed, concurrent=options.concurrent,
    )  # fmt: skip
    quick = preset.quick if options.quick else None
    if quick is None:
        return make_study((), scale)
    budget = options.agent_steps or quick.agent_steps
    scale = replace(scale, networks=options.networks or quick.networks, agent_steps=budget)
    return make_study(quick.sizes, scale)


def answer(result: PointResult, study: Study) -> Answer:
    """What the results at one size say.

    Raises:
        ValueError: no learned controller of one of the two kinds.
    """
    scenario, rows = result.point.scenario, result.comparison.rows
    costs = {name: _costs(result, name) for name in result.parts}
    trained = [row for row in rows if row.training_s is not None]
    best = {kind: _best([row for row in trained if row.information == kind]) for kind in ("local", "global")}
    local, central = best["local"], best["global"]
    if local is None or central is None:
        raise ValueError(f"a study of {scenario.name} needs a learned controller of either kind")
    rules = [row for row in rows if row.training_s is None and row.information == "local" and row.kind != "reference"]
    exchanges = tuple(
        (pair.of, relative_difference(costs[pair.hearing], costs[pair.without]))
        for pair in study.plan.preset.exchanges
        if pair.hearing in costs and pair.without in costs
    )
    reference = result.comparison.row(study.plan.reference)
    bounded = result.comparison.bound is not None
    return Answer(
        scenario=scenario.name, title=scenario.title, size=int(result.point.value),
        agents=sum(role.count for role in scenario.roles.values()),
        decentralized=_side(result, local), central=_side(result, central), rule=_best(rules), reference=reference,
        price=relative_difference(costs[local.controller], costs[central.controller]), exchanges=exchanges,
        above={row.controller: row.above_bound if bounded else row.excess for row in rows}, bounded=bounded,
    )  # fmt: skip


def _costs(result: PointResult, name: str) -> Array:
    return np.stack([part.means[result.point.scenario.cost_metric] for part in result.parts[name]])


def _best(rows: Sequence[Row]) -> Row | None:
    return min(rows, key=lambda row: row.cost.value, default=None)


def _side(result: PointResult, row: Row) -> Side:
    """A controller with the means over its training seeds of what was measured."""
    found = [part.about.get("measured", {}) for part in result.parts[row.controller]]
    return Side(row, {name: float(np.mean([f[name] for f in found])) for name in found[0]})


def study(options: StudyOptions, out: Path | None, command: str) -> None:
    """Run every scenario's sizes, write its own report and, after each, the page of all.

    Raises:
        ValueError: anything that `make_studies` rejects, a folder that cannot be written.
    """
    from edgemarl.launch.report.study_page import said, write  # drawing libraries take a second to load

    os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that are started here
    studies = make_studies(options)
    folder = out or Path("results") / "study"
    answers: list[Answer] = []
    page = folder / "study.md"
    with Bars() as bars:
        for name, plan in studies.items():
            results: list[PointResult] = []
            for result in run_study(plan, folder / name, bars, options.concurrent):
                results.append(result)
                answers.append(answer(result, plan))
            write_scale(plan, results, folder / name, command)
            page = write(answers, folder, command)
    for line in said(answers):
        print(line)
    print(f"study: {page} and {page.with_suffix('.html')}")
