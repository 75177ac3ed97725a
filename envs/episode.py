"""One cell's state, trace and clock: what the PettingZoo and the Gymnasium shell share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgemarl.envs.scenario import Scenario


class Episode:
    """A cell's state, trace and clock: what the two environment shells share."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self._rng: np.random.Generator | None = None
        self.trace: Any = None

    def started(self, what: str) -> None:
        """Raise `ValueError` unless there was a `reset()` before what is asked for now."""
        if self.trace is None:
            raise ValueError(f"{what} before reset(): call reset() first")

    def reset(self, seed: int | None, options: Mapping[str, Any] | None) -> None:
        """Draw a trace (from `seed`, or on from the last one), or replay `options["trace"]`, one cell of any length."""
        if seed is not None or self._rng is None:
            self._rng = np.random.default_rng(seed)
        trace = (options or {}).get("trace")
        if trace is None:
            trace = self.scenario.sample_trace(self._rng, cells=1)
        self.scenario.check_trace(trace)
        if trace.cells != 1:
            raise ValueError(
                f"options['trace'] has {trace.cells} cells; an environment plays one: use trace.select([i])"
            )
        self.trace, self.t = trace, 0
        self.state = self.scenario.initial_state(trace)

    @property
    def exogenous(self) -> Any:
        return self.scenario.exogenous(self.trace, self.t)

    def step(self, decisions: Any) -> tuple[Any, bool]:
        """Play one slot; returns the step and whether the episode is over."""
        step = self.scenario.step(self.state, decisions, self.exogenous)
        self.state, self.t = step.state, self.t + 1
        return step, self.t >= self.trace.slots
