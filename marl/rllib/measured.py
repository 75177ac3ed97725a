"""Episodes from a trace file: a stretch of what was measured, drawn at random, and everything else drawn anew."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from edgemarl.envs.scenario import Scenario
from edgemarl.marl.evaluation.stretches import part, training_slots
from edgemarl.marl.evaluation.tables import file_digest
from edgemarl.marl.evaluation.traces import load_trace
from edgemarl.marl.rllib.settings import RunnerSettings


class Stretches:
    """Draws an episode's trace (one cell) from the first slots of a file, the training part.

    Args:
        scenario: whose episodes.
        path: trace file.
        train_share: share of its slots that is the training part.
        ignore: columns to leave out.
        digest: what `file_digest` gave when the run began; "" does not ask.

    Raises:
        ValueError: a file that does not fit or has changed, a training part shorter than an episode.
    """

    def __init__(
        self, scenario: Scenario, path: str, train_share: float = 1.0, ignore: tuple[str, ...] = (), digest: str = ""
    ) -> None:
        self.scenario = scenario
        if digest and file_digest(path) != digest:
            raise ValueError(f"{path} is not the file that the run began with: its content has changed")
        loaded = load_trace(path, scenario, ignore=ignore)
        self.trace, self.fields = loaded.trace, (*loaded.measured, *loaded.derived)
        self.starts = training_slots(self.trace.slots, train_share) - scenario.horizon
        if self.starts < 1:
            raise ValueError(
                f"{path}: {train_share:g} of its {self.trace.slots} slots are fewer than an episode of "
                f"{scenario.horizon} slots and one more: give shorter episodes (--set), or a larger --train-share"
            )

    def __call__(self, rng: np.random.Generator) -> Any:
        """Cell and first slot are uniform; no slot beyond the training part is seen."""
        cell, first = int(rng.integers(self.trace.cells)), int(rng.integers(self.starts))
        drawn = self.scenario.sample_trace(rng, cells=1)
        measured = part(self.trace.select(slice(cell, cell + 1)), first, self.scenario.horizon, self.fields)
        return dataclasses.replace(drawn, **measured)


def trace_source(settings: RunnerSettings, scenario: Scenario) -> Callable[[np.random.Generator], Any] | None:
    """What draws the episodes of a runner; None is the scenario itself."""
    if not settings.trace:
        return None
    return Stretches(scenario, settings.trace, settings.train_share, settings.trace_ignore, settings.trace_digest)
