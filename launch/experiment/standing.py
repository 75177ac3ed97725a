"""Where a training run stands: its cost in the unit of comparison tables, against `random` and the reference."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from edgemarl.agents.registry import make_policy, playbook_of
from edgemarl.envs.scenario import Scenario
from edgemarl.launch.interrupt import held
from edgemarl.launch.report.numerals import significant
from edgemarl.marl.evaluation.rollout import SampledTraces, rollout

BASELINE = "random"
NETWORKS = 4
"""Networks on which the levels are measured, whole episodes from the first slot on, as training plays them."""


def table_cost(scenario: Scenario, row: Mapping[str, float]) -> float | None:
    """Cost of a row of a learning curve, exploration included, in the unit of comparison tables, if it has one."""
    cost = row.get(scenario.cost_metric)
    if cost is None:  # some scenarios have it of whole episodes only
        means = {name: np.array([value]) for name, value in row.items()}
        with contextlib.suppress(KeyError):
            cost = float(scenario.episode_metrics(means)[scenario.cost_metric][0])
    return None if cost is None else float(cost) / scenario.cost_divisor


def level(scenario: Scenario, name: str, seed: int = 0, networks: int = NETWORKS) -> float:
    """Cost of a named controller over whole episodes, in the unit of comparison tables."""
    traces = SampledTraces(scenario, np.random.SeedSequence([seed, 1]), networks, scenario.horizon)
    result = rollout(make_policy(scenario, name), scenario, traces, np.random.default_rng(seed))
    return float(result.means[scenario.cost_metric].mean()) / scenario.cost_divisor


class Standing:
    """Says what a row of the learning curve means; the levels are computed beside the training, which does not wait.

    Args:
        scenario: what is trained on.
        seed: of the networks on which the levels are measured.
    """

    def __init__(self, scenario: Scenario, seed: int = 0) -> None:
        self.scenario, self.seed = scenario, seed
        known = playbook_of(scenario)
        ends = (BASELINE, known.reference)
        self.names = [name for name in dict.fromkeys(ends) if name in known.controllers]
        self.levels: dict[str, float] = {}
        self._process: Any = None
        self._receiver: Connection | None = None

    def start(self) -> None:
        """Begin to compute the levels in a process of low priority; further calls do nothing."""
        if self._process is not None or not self.names:
            return
        context = multiprocessing.get_context("spawn")
        self._receiver, sender = context.Pipe(duplex=False)
        arguments = (self.scenario, self.names, self.seed, sender)
        self._process = context.Process(target=_send_levels, args=arguments, daemon=True)
        with held():
            self._process.start()
        sender.close()

    def stop(self) -> None:
        """End the process, whatever it has done."""
        if self._process is not None and self._process.is_alive():
            self._process.terminate()
            self._process.join()

    def said(self, row: Mapping[str, float]) -> str:
        """`cost per device and block 7.12 (random 9.23, vi 6.67: 82% of the gap)`; levels as far as they are known."""
        self._receive()
        cost = table_cost(self.scenario, row)
        if cost is None or not np.isfinite(cost):
            return f"episode_return {row['episode_return']:.6g}"
        text = f"{self.scenario.cost_label} {significant(cost)}"
        if not self.levels:
            return text
        levels = ", ".join(f"{name} {significant(value)}" for name, value in self.levels.items())
        return f"{text} ({levels}{self._gap(cost)})"

    def _gap(self, cost: float) -> str:
        if len(self.levels) < 2:
            return ""
        worst, best = self.levels.values()
        if worst <= best:
            return ""
        if cost > worst:
            return f": {cost / worst:.2g} times {BASELINE}" if worst > 0 else f": above {BASELINE}"
        return f": {100 * (worst - cost) / (worst - best):.0f}% of the gap"

    def _receive(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while self._receiver is not None and self._receiver.poll():
                name, value = self._receiver.recv()
                self.levels[name] = value


def _send_levels(scenario: Scenario, names: Sequence[str], seed: int, sender: Connection) -> None:
    """The other process: it yields to the training."""
    with contextlib.suppress(AttributeError, OSError):
        os.nice(10)
    with contextlib.suppress(BrokenPipeError), contextlib.closing(sender):
        for name in names:
            sender.send((name, level(scenario, name, seed)))
