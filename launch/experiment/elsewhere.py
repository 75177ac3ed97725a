"""Jobs of experiments on the nodes of a Ray cluster, each in a worker process of its own; results meet in one storage.

The storage is a folder that all nodes see, or an fsspec URL. A worker takes from it what is finished, and leaves there
its result and its training run; what is lost with a node is played again, elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgemarl.launch.experiment.alone import AloneExperiment, measured_part, plan_of_job
from edgemarl.launch.experiment.plan import Plan
from edgemarl.launch.experiment.run import Job
from edgemarl.launch.experiment.store import Part
from edgemarl.launch.experiment.trained import Notify
from edgemarl.marl.training.local_copy import local_copy

RESTARTS = 3
"""How often a job whose node was lost is started again."""


class _Here(AloneExperiment):
    """Plays in this process, which is nobody else's."""

    def play(self, job: Job, label: str) -> Part:
        with self.ray:
            return measured_part(self, job, label)


def play_on_ray(
    experiments: Sequence[AloneExperiment],
    where: str,
    concurrent: int | None,
    notify: Notify,
    root: Path | None = None,
) -> None:
    """Play all jobs of several experiments on the nodes that Ray has; `run` in the storage then finds every result.

    Jobs that share a training run are one task: the first trains it.

    Args:
        experiments: of one storage.
        where: the storage, a folder that every node sees or a URL.
        concurrent: tasks at once; None: as many as the cluster has CPUs for.
        notify: told how many tasks are done.
        root: the local folder that stands for the storage; by default that of every experiment.

    Raises:
        ValueError: what a task found wrong.
    """
    groups: dict[Any, list[tuple[AloneExperiment, Job]]] = {}
    for experiment in experiments:
        for job in (job for jobs in experiment.jobs_at.values() for job in jobs):
            if experiment.finished(job) is None:
                groups.setdefault(job.run or object(), []).append((experiment, job))
    tasks = [
        [(plan_of_job(e.plan, job), job.seed, *_below(e, root or e.folder)) for e, job in group]
        for group in groups.values()
    ]
    if not tasks:  # a local Ray takes seconds to start
        return
    import ray

    from edgemarl.marl.rllib.node import local_ray

    with local_ray((os.cpu_count() or 1) - 1):
        task = ray.remote(num_cpus=1, max_calls=1, max_retries=RESTARTS)(_play_group)
        waiting: list[Any] = []
        rest, done = list(tasks), 0
        notify("tasks", 0, len(tasks))
        while rest or waiting:
            while rest and (concurrent is None or len(waiting) < concurrent):
                waiting.append(task.remote(rest.pop(0), where))
            (ended,), waiting = ray.wait(waiting, num_returns=1)
            wrong = ray.get(ended)
            if wrong:
                raise ValueError(wrong)
            done += 1
            notify("tasks", done, len(tasks))


def _below(experiment: AloneExperiment, root: Path) -> tuple[str, str]:
    """The folders of an experiment's results and of its training runs, below the storage."""
    return str(experiment.folder.relative_to(root)), str(experiment.runs.relative_to(root))


def _play_group(jobs: Sequence[tuple[Plan, int, str, str]], where: str) -> str:
    """What a task does; what is wrong with its input, or nothing."""
    os.environ["OMP_NUM_THREADS"] = "1"  # PyTorch, which takes a second to load, is loaded after it, where it is needed
    try:
        with local_copy(where) as folder:
            for plan, seed, results, runs in jobs:
                experiment = _Here(plan, folder / results, runs=folder / runs)
                experiment.part(next(job for job in experiment.jobs_at[plan.points[0].label] if job.seed == seed))
    except ValueError as error:
        return str(error)
    return ""
