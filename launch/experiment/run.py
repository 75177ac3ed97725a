"""Run a plan: train what is learned, play every controller on the same traces, keep each result as it is done."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgemarl.agents.clients.files import is_policy_file
from edgemarl.agents.registry import is_controller, make_policy, playbook_of
from edgemarl.envs.arrays import Array
from edgemarl.envs.scenario import Scenario
from edgemarl.launch.experiment.bounds import bound_of_point
from edgemarl.launch.experiment.plan import Plan, Point
from edgemarl.launch.experiment.played import PlayedTrace, check_apart, played_trace
from edgemarl.launch.experiment.store import Part, Store, digest, digest_of, foreign_code, slug
from edgemarl.launch.experiment.trained import (
    Made,
    Notify,
    SharedRay,
    finished,
    learned_config,
    loaded_policy,
    trained_policy,
)
from edgemarl.marl.evaluation.compare import Comparison, Outcome, compare
from edgemarl.marl.evaluation.rollout import GivenTraces, SampledTraces, TraceSource, decision_latency_s, rollout

logger = logging.getLogger(__name__)

GROWTH = "_growth_per_slot"
"""Ends the name of a result's column that says how a backlog grew over the second half of the run."""


@dataclass(frozen=True)
class PointResult:
    """All controllers at one point of the sweep.

    Attributes:
        comparison: the table.
        parts: controller -> parts, one per training seed.
        runs: learned controller -> folders of its training runs, one per training seed.
    """

    point: Point
    comparison: Comparison
    parts: dict[str, list[Part]]
    runs: dict[str, list[Path]]

    def cost_windows(self, controller: str) -> Array:
        """(B, W) windowed costs, the mean over training seeds, divided as the tables' costs are."""
        seeds = np.stack([part.cost_windows for part in self.parts[controller]])
        windows: Array = seeds.mean(axis=0) / self.point.scenario.cost_divisor
        return windows


@dataclass(frozen=True)
class Job:
    """One rollout: a controller at a point, from one training seed (0 where nothing is trained).

    Attributes:
        controller: what tables and files call it.
        name: what the preset calls it: the controller's name, the learned controller's, or a run's path.
        make: makes the controller, trains it where that is not done.
        settings: of its training.
        run: the folder of its training run, if it has one.
        digest: of the policies that `make` would give, without training; None where there are none yet.
    """

    point: Point
    controller: str
    name: str
    kind: str
    seed: int
    make: Callable[[], Made]
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    run: Path | None = None
    digest: Callable[[], str | None] | None = None


class Experiment:
    """A plan and the folder of its results.

    Args:
        plan: what to run.
        folder: where results are kept; finished ones of the same settings are taken from there.
        notify: told about progress.
        runs: folder of the training runs, which several experiments may share; by default in the folder.

    Raises:
        ValueError: a folder that cannot be written, a trace that does not fit.
    """

    def __init__(
        self, plan: Plan, folder: Path, notify: Notify | None = None, runs: Path | None = None
    ) -> None:  # fmt: skip
        self.played: PlayedTrace | None = None
        if plan.trace is not None:
            scenarios = {point.label: point.scenario for point in plan.points}
            self.played = played_trace(plan.trace, scenarios, plan.seed, plan.slots_asked, plan.networks_asked)
            compared = [run for run in plan.runs.values() if run.is_dir()]
            check_apart(plan.trace, self.played.file_slots, compared)
            plan = plan_of_trace(plan, self.played.loaded.trace)
        self.plan, self.folder, self.runs = plan, folder, runs or folder / "runs"
        self.store = Store(folder)
        self.notify: Notify = notify or (lambda text, done, total: None)
        self.reused = 0
        trained = (learned.train for learned in plan.preset.learned.values())
        self.ray = SharedRay(max((t.get("num_env_runners", 0) + t.get("num_learners", 0) for t in trained), default=0))
        self.jobs_at = {point.label: list(self._jobs(point)) for point in plan.points}
        for name in plan.preset.controllers:  # what does not load, or a run of another scenario, fails now
            if name not in plan.preset.learned:
                self._made(plan.points[0].scenario, name)

    def _made(self, scenario: Scenario, name: str) -> Made:
        """A controller that is not trained here."""
        if is_controller(scenario, name):
            return Made(make_policy(scenario, name))
        return loaded_policy(self.plan.runs[name], scenario)

    def run(self) -> list[PointResult]:
        """Play everything that is not finished yet and compare."""
        with self.ray:
            return self._results()

    def _results(self) -> list[PointResult]:
        results = []
        for point in self.plan.points:
            parts: dict[str, list[Part]] = {}
            runs: dict[str, list[Path]] = {}
            kinds = {}
            for job in self.jobs_at[point.label]:
                if job.run is not None:
                    runs.setdefault(job.controller, []).append(job.run)
                parts.setdefault(job.controller, []).append(self.part(job))
                kinds[job.controller] = job.kind
            outcomes = [_outcome(name, kinds[name], own, self.plan.slots) for name, own in parts.items()]
            bound, no_bound = bound_of_point(self.plan, point, self.traces(point.scenario), self.store, self.notify)
            table = compare(
                point.scenario, outcomes, baseline=self.plan.preset.baseline, reference=self.plan.reference,
                bound=bound, no_bound=no_bound, seed=self.plan.seed,
            )  # fmt: skip
            results.append(PointResult(point, table, parts, runs))
        return results

    def traces(self, scenario: Scenario) -> TraceSource:
        """The traces that every controller of a point meets."""
        if self.played is not None:
            return GivenTraces(self.played.loaded.trace)
        slots = self.plan.preset.slots or scenario.horizon
        return SampledTraces(scenario, np.random.SeedSequence([self.plan.seed, 1]), self.plan.preset.networks, slots)

    def _jobs(self, point: Point) -> Iterator[Job]:
        preset, scenario = self.plan.preset, point.scenario
        known = playbook_of(scenario).controllers
        for name in preset.controllers:
            make = partial(self._made, scenario, name)
            if name in preset.learned and not preset.learned[name].is_at(point.value):
                continue
            if name in preset.learned:
                yield from self._trained_jobs(point, name)
            elif is_controller(scenario, name):
                kind = known[name].kind if name in known else "learned" if is_policy_file(name) else "baseline"
                yield Job(point, name, name, kind, 0, make)
            else:
                path = self.plan.runs[name]
                now = partial(_newest_digest, path)
                yield Job(point, self.plan.labels[name], name, "learned", 0, make, run=path, digest=now)

    def _trained_jobs(self, point: Point, name: str) -> Iterator[Job]:
        """A job for each training seed of a learned controller."""
        learned = self.plan.preset.learned[name]
        for seed in range(learned.training_seeds):
            config = learned_config(self.plan.preset.scenario, learned, point, self.plan.seed + seed)
            settings = config.to_dict()
            folder = self.runs / f"{slug(name)}-{seed}-{digest_of(settings)}"
            label = _label("train " + name, point, seed if learned.training_seeds > 1 else None)
            make = partial(trained_policy, config, folder, point.scenario, label, self.notify, self.ray)
            now = partial(_finished_digest, config, folder)
            yield Job(point, name, name, "learned", seed, make, settings, folder, now)

    def _settings(self, job: Job) -> dict[str, Any]:
        preset, scenario = self.plan.preset, job.point.scenario
        outside = foreign_code(scenario, "" if job.run is not None else job.name)  # of a run its digest counts
        return {
            **({"code": outside} if outside else {}),
            "scenario": scenario.name, "config": dataclasses.asdict(scenario.config), "controller": job.controller,
            "cells": preset.networks, "slots": self.plan.slots, "warmup": preset.warmup, "window": preset.window,
            "seed": self.plan.seed, "training": job.settings,
            "trace": None if self.plan.trace is None else self.plan.trace.digest(),
        }  # fmt: skip

    def finished(self, job: Job) -> Part | None:
        """What a job gave, if the folder holds it and nothing has changed since."""
        part = self.store.read(*self._place(job))
        return part if part is not None and self._up_to_date(job, part) else None

    @property
    def all_finished(self) -> bool:
        """Whether the folder holds what every job gives."""
        return all(self.finished(job) is not None for jobs in self.jobs_at.values() for job in jobs)

    def part(self, job: Job) -> Part:
        """What a job gives, from the folder if it is finished."""
        kept = self.finished(job)
        if kept is not None:
            self.reused += 1
            return kept
        learned = self.plan.preset.learned.get(job.controller)
        several = learned is not None and learned.training_seeds > 1
        part = self.play(job, _label(job.controller, job.point, job.seed if several else None))
        path, mark = self._place(job)
        self.store.write(path, part, mark)
        return part

    def _place(self, job: Job) -> tuple[Path, str]:
        """The file of a job's part, and the mark of what it is made from."""
        return self.store.path(job.point.label, job.controller, job.seed), digest(self._settings(job))

    def _up_to_date(self, job: Job, part: Part) -> bool:
        """Whether a result was made from the policies that its run has now; one whose run was removed is kept."""
        if job.digest is None or job.run is None or not job.run.exists():
            return True
        now = job.digest()
        if now is None:  # the run lost its newest save: it is trained on, and compared again
            now = (job.make().made_from or {}).get("digest")
        then = part.about.get("made_from") or {}
        if now == then.get("digest"):
            return True
        logger.warning(
            "the result of %s was made from other policies of %s (%s agent-steps): it is played again",
            job.controller, job.run, then.get("agent_steps"),
        )  # fmt: skip
        return False

    def play(self, job: Job, label: str) -> Part:
        """What a job's controller does on the traces of its point."""
        scenario, preset = job.point.scenario, self.plan.preset
        source = self.traces(scenario)
        total, done = source.cells * source.slots, 0
        made = job.make()
        policy = made.policy
        self.notify(label, 0, 0)  # a reference plans before its first slot

        def played(cell_slots: int) -> None:
            nonlocal done
            done += cell_slots
            self.notify(label, done, total)

        seed = np.random.SeedSequence([self.plan.seed, 2, job.seed])
        result = rollout(
            policy, scenario, source, np.random.default_rng(seed), warmup=preset.warmup, window_slots=preset.window,
            discount=getattr(scenario.config, "discount", None), progress=played,
        )  # fmt: skip
        first = next(source.chunks(1))
        latency = decision_latency_s(policy, scenario, first, np.random.default_rng(seed))
        means = dict(result.means)
        if result.discounted_cost is not None:
            means["discounted_cost"] = result.discounted_cost
        means |= {name + GROWTH: values for name, values in result.growth.items()}
        about = {
            "controller": job.controller, "seed": job.seed, "information": result.information,
            "message_bytes": result.message_bytes, "decision_s": latency, "decision_batched_s": result.decide_s,
            "step_s": result.step_s, "setup_s": result.setup_s, "training_s": made.training_s,
            "made_from": made.made_from,
        }  # fmt: skip
        return Part(means, result.windows[scenario.cost_metric], about)


def plan_of_trace(plan: Plan, trace: Any) -> Plan:
    """The plan with the networks and slots of the trace that is played, and a warm-up that it has room for.

    Raises:
        ValueError: the warm-up leaves no slot.
    """
    warmup = trace.slots // 4 if plan.quarter_warmup else plan.preset.warmup
    if warmup >= trace.slots:
        raise ValueError(
            f"{plan.trace_file} is played for {trace.slots} slots; warmup = {warmup} slots leaves none: "
            f"give --warmup below {trace.slots}"
        )
    update = {"networks": trace.cells, "slots": trace.slots, "warmup": warmup}
    return dataclasses.replace(plan, preset=plan.preset.model_copy(update=update))


def _label(what: str, point: Point, seed: int | None) -> str:
    """What a progress bar says."""
    details = [point.label] * bool(point.label) + ([] if seed is None else [f"seed {seed}"])
    return f"{what} ({', '.join(details)})" if details else what


def _newest_digest(run: Path) -> str:
    """Of a run's policies as they are now."""
    from edgemarl.marl.training.trained import policies_digest

    return policies_digest(run)


def _finished_digest(config: Any, folder: Path) -> str | None:
    """Of the policies of a run that is finished, else None."""
    policies = finished(config, folder)
    return None if policies is None else policies.digest


def _outcome(name: str, kind: str, parts: list[Part], slots: int) -> Outcome:
    """One controller's parts, a row per training seed."""
    metrics = {metric: np.stack([part.means[metric] for part in parts]) for metric in parts[0].means}
    discounted = metrics.pop("discounted_cost", None)
    growth = {key.removesuffix(GROWTH): metrics.pop(key) for key in [*metrics] if key.endswith(GROWTH)}
    first = parts[0].about
    trained = [part.about["training_s"] for part in parts if part.about["training_s"] is not None]
    return Outcome(
        controller=name,
        kind=kind,
        information=first["information"],
        metrics=metrics,
        discounted_cost=discounted,
        decision_s=float(np.median([part.about["decision_s"] for part in parts])),
        message_bytes=first["message_bytes"],
        setup_s=first["setup_s"],
        training_s=float(np.mean(trained)) if trained else None,
        growth=growth,
        slots=slots,
    )
