"""State, traces and clock of B cells that run in step: what the PettingZoo and the Gymnasium shells share."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgemarl.envs.actions import neutral_action
from edgemarl.envs.arrays import Array
from edgemarl.envs.checks import checked_mapping, checked_seed
from edgemarl.envs.config import quoted
from edgemarl.envs.scenario import Scenario, Step
from edgemarl.envs.trace import joined


class Episode:
    """Cells that start and end together.

    Args:
        scenario: what is played.
        cells: B; each draws its traces from a generator of its own.
    """

    def __init__(self, scenario: Scenario, cells: int = 1) -> None:
        self.scenario, self.cells = scenario, cells
        self._rngs: list[np.random.Generator | None] = [None] * cells
        self._metric_names: tuple[str, ...] = ()
        self.trace: Any = None
        self.last: Step[Any] | None = None
        """The step that led to the present slot, None at its start."""

    def reset(
        self,
        seed: int | Sequence[int | None] | None = None,
        options: Mapping[str, Any] | None = None,
        slots: int | None = None,
    ) -> None:
        """Draw a trace (from `seed`, or on from the last one), or replay `options["trace"]`.

        Args:
            seed: of the episode and all that follow; cell b draws from `seed + b`, or from entry b of a sequence.
            options: may hold a trace of B cells and any length; others are not read, and a warning names them.
            slots: length of the episode; default: the scenario's horizon, or the given trace's length.

        Raises:
            ValueError: a trace that does not fit, seeds for another number of cells or below 0.
        """
        seeds = self.checked_seeds(seed)
        given = dict(checked_mapping("options", {} if options is None else options, "'trace' to a trace"))
        self._seed(seeds)
        trace = given.pop("trace", None)
        if given:  # PettingZoo's own checks give some of their own: named, not refused
            warnings.warn(f"reset reads options['trace'] alone, not {quoted(', '.join(map(str, given)))}", stacklevel=3)
        if trace is None:
            trace = joined([self.scenario.sample_trace(rng, 1, slots) for rng in self._rngs if rng is not None])
        self.scenario.check_trace(trace)
        if trace.cells != self.cells:
            raise ValueError(
                f"options['trace'] has {trace.cells} cells; this environment plays {self.cells}: use trace.select([..])"
            )
        if slots is not None and trace.slots > slots:
            trace = trace.shortened(slots)
        self.trace, self.t, self.last = trace, 0, None
        self.state = self.scenario.initial_state(trace)

    def checked_seeds(self, seed: int | Sequence[int | None] | None) -> int | list[int | None] | None:
        """A seed, one for every cell, or none.

        Raises:
            ValueError: a seed that is no integer from 0 on, seeds for another number of cells.
        """
        if seed is None:
            return None
        if isinstance(seed, str) or not isinstance(seed, Sequence | np.ndarray):
            return checked_seed("seed", seed)
        if len(seed) != self.cells:
            raise ValueError(f"seed has {len(seed)} entries; this environment plays {self.cells} cells")
        return [None if own is None else checked_seed("seed", own) for own in seed]

    def _seed(self, seed: int | list[int | None] | None) -> None:
        if not isinstance(seed, list):
            seed = [None if seed is None else seed + b for b in range(self.cells)]
        for b, own in enumerate(seed):
            if own is not None or self._rngs[b] is None:
                self._rngs[b] = np.random.default_rng(own)

    @property
    def started(self) -> bool:
        """Whether there has been a reset."""
        return self.trace is not None

    @property
    def over(self) -> bool:
        """Whether the trace is played to its end."""
        return self.started and self.t >= self.trace.slots

    @property
    def exogenous(self) -> Any:
        return self.scenario.exogenous(self.trace, self.t)

    def step(self, decisions: Any) -> Step[Any]:
        """Play one slot."""
        step = self.scenario.step(self.state, decisions, self.exogenous)
        self.state, self.t, self.last = step.state, self.t + 1, step
        return step

    def metrics(self) -> dict[str, Array]:
        """Metric -> (B,) of the slot just played; 0 where none has been: a reset names what steps will name."""
        if self.last is not None:
            return dict(self.last.metrics)
        if not self._metric_names:
            self._metric_names = self._asked_for_names()
        return {name: np.zeros(self.cells) for name in self._metric_names}

    def _asked_for_names(self) -> tuple[str, ...]:
        """What a step measures: a step is a pure function, so one may be taken and thrown away."""
        state, exogenous = self.state, self.exogenous
        raw = {
            name: neutral_action(role.action_space, (self.cells, role.count))
            for name, role in self.scenario.roles.items()
        }
        return tuple(self.scenario.step(state, self.scenario.decode(state, raw, exogenous), exogenous).metrics)
