"""`study`: what is lost and what is saved if every device decides for itself, in every scenario, as it grows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgemarl.agents.registry import playbook_of
from edgemarl.envs.registry import scenario_names
from edgemarl.launch.commands.scale import ScaleOptions, Study, make_study, run_study, sizes_preset
from edgemarl.launch.commands.scale import write as write_scale
from edgemarl.launch.experiment.answers import Answer, answer
from edgemarl.launch.experiment.run import PointResult
from edgemarl.launch.experiment.store import working_in
from edgemarl.launch.progress import Bars


@dataclass(frozen=True)
class StudyOptions:
    """What the command line says.

    Attributes:
        scenarios: names; none: all that are installed and say how they grow.
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


def make_studies(options: StudyOptions) -> dict[str, Study]:
    """Scenario -> its scaling study; everything is checked before anything runs.

    Raises:
        ValueError: an unknown scenario, a value outside its range.
    """
    names = options.scenarios or [name for name in scenario_names() if playbook_of(name).at_size is not None]
    return {name: _study_of(name, options) for name in names}


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
    with working_in(folder), Bars() as bars:
        for name, plan in studies.items():
            results: list[PointResult] = []
            for result in run_study(plan, folder / name, bars, options.concurrent):
                results.append(result)
                answers.append(answer(result, plan.plan))
            write_scale(plan, results, folder / name, command)
            page = write(answers, folder, command)
    for line in said(answers):
        print(line)
    print(f"study: {page} and {page.with_suffix('.html')}")
