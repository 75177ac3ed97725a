"""An experiment each of whose results comes from a fresh process of its own, so that its memory can be measured."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import pickle
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from edgemarl.launch.experiment.plan import Plan
from edgemarl.launch.experiment.run import Experiment, Job
from edgemarl.launch.experiment.store import Part
from edgemarl.launch.experiment.trained import Made, Notify
from edgemarl.launch.interrupt import held, raise_interrupts

_running: set[Any] = set()
"""Processes that play at this moment."""

STOP_S = 10.0
"""Time that a process has to end when it is asked to, in s."""


class AloneExperiment(Experiment):
    """Plays every job in a fresh process; `about` of its parts has `measured` (name -> number) and `curve`.

    measured: `agent_steps_per_s` (training; playing and learning of an online learner), `peak_memory_bytes` of the
    process, `checkpoint_bytes` and `policy_bytes` on disk. curve: lists `agent_steps`, `time_s` and `cost`, the latter
    as the scenario's cost metric. Entries that a controller does not have are absent.
    """

    def _settings(self, job: Job) -> dict[str, Any]:
        return {**super()._settings(job), "alone": True}

    def play(self, job: Job, label: str) -> Part:
        """As `Experiment.play`, elsewhere.

        Raises:
            ValueError: what the other process found wrong.
            RuntimeError: the other process ended without a result.
        """
        context = multiprocessing.get_context("spawn")  # nothing of this process is in the other's memory
        receiver, sender = context.Pipe(duplex=False)
        arguments = (plan_of_job(self.plan, job), self.folder, self.runs, job.seed, label, sender)
        process = context.Process(target=_play, args=arguments, name=label)
        try:
            with held():  # Ctrl-C is for this process, which ends the other one
                process.start()
            _running.add(process)
            sender.close()
            while True:
                kind, content = receiver.recv()
                if kind == "part":
                    part: Part = content
                    process.join()
                    return part
                if kind == "error":
                    raise ValueError(content)
                self.notify(*content)
        except EOFError:
            process.join()
            raise RuntimeError(f"{label}: the process ended with exit code {process.exitcode}") from None
        finally:
            _running.discard(process)
            _end(process)


class AtOnceExperiment(AloneExperiment):
    """Processes of their own for speed alone: what they find are results of an `Experiment`, which takes them up."""

    def _settings(self, job: Job) -> dict[str, Any]:
        return Experiment._settings(self, job)


def plan_of_job(plan: Plan, job: Job) -> Plan:
    """The plan whose only controller and point are a job's."""
    preset = plan.preset.model_copy(update={"controllers": [job.name], "sweep": None})
    return dataclasses.replace(plan, preset=preset, points=(job.point,))


def check_concurrent(concurrent: int) -> None:
    """Refuse fewer than one process, before anything is played.

    Raises:
        ValueError: concurrent below 1.
    """
    if concurrent < 1:
        raise ValueError(f"concurrent = {concurrent} is not legal: must be an integer >= 1")


def play_at_once(experiments: Sequence[AloneExperiment], concurrent: int) -> None:
    """Play all jobs of several experiments, so many at a time; `run` then finds every result.

    Jobs that share a training run follow one another: the first trains it.

    Raises:
        ValueError, RuntimeError: as `AloneExperiment.play`, of the first job that fails; others end with it.
    """
    groups: dict[Any, list[tuple[AloneExperiment, Job]]] = {}
    for experiment in experiments:
        for job in (job for jobs in experiment.jobs_at.values() for job in jobs):
            groups.setdefault(job.run or object(), []).append((experiment, job))
    stopped = threading.Event()

    def play_group(group: Sequence[tuple[AloneExperiment, Job]]) -> None:
        for experiment, job in group:
            if not stopped.is_set():
                experiment.part(job)

    pool = ThreadPoolExecutor(concurrent)
    try:
        for done in as_completed([pool.submit(play_group, group) for group in groups.values()]):
            done.result()
    finally:
        stopped.set()
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list(_running):
            process.terminate()  # the thread that waits for its result sees the end
        pool.shutdown(wait=True)


def _end(process: Any) -> None:
    """End a process if it still runs: nobody waits for its result. Ray ends what it started when it is asked to."""
    with held():
        for stop in (process.terminate, process.kill):
            if process.pid is not None and process.exitcode is None:
                stop()
                process.join(STOP_S)


def _play(plan: Plan, folder: Path, runs: Path, seed: int, label: str, sender: Connection) -> None:
    """The other process: its only job, measured. Asked to end, it ends what it started, such as Ray."""
    raise_interrupts()
    with contextlib.suppress(BrokenPipeError), contextlib.closing(sender):  # broken: the process that asked is gone
        try:
            notify: Notify = lambda text, done, total: sender.send(("progress", (text, done, total)))  # noqa: E731
            experiment = Experiment(plan, folder, notify, runs)
            job = next(job for job in experiment.jobs_at[plan.points[0].label] if job.seed == seed)
            with experiment.ray:
                sender.send(("part", measured_part(experiment, job, label)))
        except ValueError as error:
            sender.send(("error", str(error)))


def measured_part(experiment: Experiment, job: Job, label: str) -> Part:
    """The part that a job gives, with what this process can measure about it."""
    made: list[Made] = []

    def make() -> Made:
        made.append(job.make())
        return made[-1]

    part = Experiment.play(experiment, dataclasses.replace(job, make=make), label)
    agents = sum(role.count for role in job.point.scenario.roles.values())
    measured: dict[str, float] = {}
    curve: dict[str, list[float]] = {}
    if job.run is not None:
        curve = _training_curve(job.run, job.point.scenario.cost_metric)
        measured = {"agent_steps_per_s": _rate(curve), **_sizes(job.run)} if curve else _sizes(job.run)
    elif job.kind == "learned":
        seconds = part.about["decision_batched_s"] + part.about["step_s"]
        measured["agent_steps_per_s"] = agents / seconds
        # of one network: the latency measurement played one last
        measured["checkpoint_bytes"] = float(len(pickle.dumps(made[0].policy.state_dict())))
        curve = _online_curve(part, agents, experiment.plan.preset.window, experiment.plan.slots)
    measured["peak_memory_bytes"] = float(peak_memory_bytes())
    return dataclasses.replace(part, about={**part.about, "measured": measured, "curve": curve})


def _training_curve(run: Path, cost_metric: str) -> dict[str, list[float]]:
    from edgemarl.marl.training.folder import RunFolder

    files = RunFolder(run)
    if not files.has_curve:
        return {}
    curve = files.curve()
    names = {"agent_steps": "agent_steps", "time_s": "time_s", "cost": cost_metric}
    return {name: [float(v) for v in curve[column]] for name, column in names.items() if column in curve}


def _online_curve(part: Part, agents: int, window: int, slots: int) -> dict[str, list[float]]:
    """The learning curve of a controller that learns while it runs; its time is that of deciding and learning."""
    ends = [min(slots, (w + 1) * window) for w in range(part.cost_windows.shape[1])]
    return {
        "agent_steps": [float(end * agents) for end in ends],
        "time_s": [end * part.about["decision_s"] for end in ends],
        "cost": [float(cost) for cost in part.cost_windows.mean(axis=0)],
    }


def _rate(curve: dict[str, list[float]]) -> float:
    """Agent-steps per second after the first iteration, in which PyTorch warms up, where there is another one."""
    steps, times = curve["agent_steps"], curve["time_s"]
    if len(steps) > 1 and times[-1] > times[0]:
        return (steps[-1] - steps[0]) / (times[-1] - times[0])
    return steps[-1] / times[-1]


def _sizes(run: Path) -> dict[str, float]:
    """Bytes on disk: what training goes on from, and what acts."""
    from edgemarl.marl.training.saves import CHECKPOINT, POLICY, save_folders

    newest = next(iter(save_folders(run)), run)
    sizes = {}
    for name, folder in (("checkpoint_bytes", newest / CHECKPOINT), ("policy_bytes", newest / POLICY)):
        if folder.is_dir():
            sizes[name] = float(sum(file.stat().st_size for file in _files(folder)))
    return sizes


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far.

    Where the kernel tells it, by `VmHWM`: `ru_maxrss` counts the parent's memory at the moment of the fork too.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
