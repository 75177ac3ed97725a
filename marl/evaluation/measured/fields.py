"""One field of a trace from its columns: averaged in its own quantity, then in the units of the scenario."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.measured import Measured
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.trace import trace_fields
from edgemarl.marl.evaluation.measured import units
from edgemarl.marl.evaluation.measured.grid import (
    MISSING_MAX,
    Aggregate,
    Gaps,
    SlotGrid,
    counts,
    gaps,
    per_slot,
    spread,
)
from edgemarl.marl.evaluation.measured.mapping import Column, Layout
from edgemarl.marl.evaluation.measured.samples import Samples


@dataclass
class FieldReader:
    """One field from its column."""

    field: str
    column: Column
    samples: Samples
    layout: Layout
    radio: units.Radio
    grid: SlotGrid
    scenario: Scenario
    what: Measured
    agents: int

    def values(self) -> tuple[Array, list[str]]:
        """(steps, agents) or, with several slots in a step, (steps, agents, slots), and what is to be said."""
        if self.field == self.what.arrivals and (self.layout.tasks or self.column.unit in ("task", "tasks")):
            return self._counted()
        meta = trace_fields(self.scenario.trace_type)[self.field]
        aggregate: Aggregate = self.layout.aggregate or ("last" if meta["integer"] else "mean")
        series, kinds, said = [], set(), []
        for agent in range(self.agents):
            times_s, values, kind, concluded, missing = self._series(agent)
            self._check_gaps(agent, missing)
            said.append((missing, concluded))
            kinds.add(kind)
            try:
                series.append(per_slot(times_s, values, self.grid, aggregate, self.layout.fill))
            except ValueError as error:
                asked = "; do the stamps count slots? --time-unit slot" if self.samples.counted else ""
                raise ValueError(f"{error}{asked}") from None
        if len(kinds) > 1:
            raise ValueError(f"{self.field}: some agents' decibels look like an SNR, others' like a path gain: name it")
        link = self.what.links.get(self.field)
        stacked = np.stack(series, axis=1)
        notes: tuple[str, ...] = ()
        if link is None:
            result = units.field_values(self.field, kinds.pop(), stacked, meta)
        else:
            kind = kinds.pop()
            if stacked.ndim == 3:
                stacked, kind = self._distances(kind, stacked), "distance"
            if kind == "plain":
                result = stacked
            else:
                result, notes = units.path_gain(kind, self.field, stacked, link(self.scenario.config), self.radio)
        return result, self._said(said, notes)

    def _series(self, agent: int) -> tuple[Array, Array, str, str, Gaps]:
        """Stamps and values of one agent, where something was measured."""
        wide = len(self.column.columns) > 1
        entry = self.column.columns[agent if wide else 0]
        rows = self.samples.of(0 if wide else agent)
        raw = np.stack([self.samples.columns[name][rows] for name in entry.split(":")], axis=-1)
        there = np.isfinite(raw).all(axis=-1)
        if not there.any():
            raise ValueError(f"{self.field}: column '{entry}' holds no number for {self._name(agent)}")
        times_s, raw = self.samples.times_s[rows][there], raw[there]
        kind, values, concluded = units.natural(self.column.unit, self.field, raw, np.zeros(raw.shape, bool))
        if (raw.shape[1] == 2) != (kind == "degree") and not (raw.shape[1] == 2 and kind == "distance"):
            raise ValueError(f"{self.field}: a position is two columns, x:y in m or longitude:latitude in deg")
        return times_s, values[:, 0] if raw.shape[1] == 1 else values, kind, concluded, gaps(times_s, self.grid)

    def _name(self, agent: int) -> str:
        return self.column.columns[agent] if len(self.column.columns) > 1 else self.samples.agents[agent]

    def _check_gaps(self, agent: int, gaps: Gaps) -> None:
        if gaps.missing > MISSING_MAX:
            raise ValueError(
                f"{self.field}: {self._name(agent)} is missing {gaps.missing:.0%} of the time ({gaps.count} gaps, "
                f"the longest {gaps.longest_s:g} s): leave it out (--without), or cut the file to where it was there"
            )

    def _distances(self, kind: str, positions: Array) -> Array:
        """(steps, agents) distance from the base station, by default at the mean of all positions."""
        centre = positions.reshape(-1, 2).mean(axis=0)
        base = self.radio.base or (float(centre[0]), float(centre[1]))
        least = float(getattr(self.scenario.config, "distance_m_min", 1.0))
        distance = units.distances_m(kind, positions.reshape(-1, 2), base).reshape(positions.shape[:2])
        return np.maximum(distance, least)

    def _counted(self) -> tuple[Array, list[str]]:
        """Arrivals from a task list, or from counts in a column."""
        parts = self.what.slots_in_step(self.scenario.config)
        fine = SlotGrid(self.grid.start_s, self.grid.step_s / parts, self.grid.slots * parts)
        series = [self._events(agent, fine) for agent in range(self.agents)]
        arrived = np.stack(series, axis=1)
        each = arrived.mean() / fine.step_s
        said = [f"{self.field}: {arrived.sum():g} tasks of {self.agents} agents, {each:.3g}/s each"]
        most = self.what.counts_max
        if most is not None and (arrived > most).any():
            at = np.argwhere(arrived > most)[0]
            if self.layout.counts == "refuse":
                raise ValueError(
                    f"{self.field}: {arrived[tuple(at)]:g} tasks of {self._name(int(at[1]))} arrive in one slot of "
                    f"{fine.step_s:g} s, {self.scenario.name} takes {most}: --counts spread lets further ones come in "
                    "the slots that follow, or take shorter slots (--resample)"
                )
            beyond = np.maximum(arrived - most, 0.0).sum()
            arrived, left = spread(arrived, most)
            said.append(
                f"{beyond:g} of them arrived beside another one and come in a later slot of {fine.step_s:g} s; "
                f"{left.sum():g} of these after the end"
            )
        if trace_fields(self.scenario.trace_type)[self.field]["unit"] == "1/s":
            arrived = arrived / fine.step_s
        if parts == 1:
            return arrived, said
        return np.moveaxis(arrived.reshape(self.grid.slots, parts, self.agents), 1, 2), said

    def _events(self, agent: int, grid: SlotGrid) -> Array:
        layout = self.layout
        wide = len(self.column.columns) > 1
        rows = self.samples.of(0 if wide else agent)
        times_s = self.samples.times_s[rows]
        name = layout.weight if layout.tasks else self.column.columns[agent if wide else 0]
        weights = self.samples.columns[name][rows] if name else np.ones(len(times_s))
        if (weights < 0.0).any() or (np.nan_to_num(weights) % 1.0 != 0.0).any():
            raise ValueError(f"{self.field}: column '{name}' must hold whole numbers of tasks >= 0")
        return counts(times_s, np.nan_to_num(weights), grid)

    def _said(self, each: Sequence[tuple[Gaps, str]], notes: Sequence[str]) -> list[str]:
        gaps = [gap for gap, _ in each]
        concluded = [text for text in dict.fromkeys(text for _, text in each) if text]
        unit = ", ".join([self.column.unit, *concluded])
        interval = float(np.median([gap.interval_s for gap in gaps]))
        source = ", ".join(self.column.columns[:4]) + (" .." if len(self.column.columns) > 4 else "")
        samples = sum(gap.samples for gap in gaps)
        text = f"{self.field} from {source} [{unit}]: {samples} samples, one every {interval:.3g} s"
        repeated, count = sum(g.repeated for g in gaps), sum(g.count for g in gaps)
        text += f"; {repeated} bear the stamp of another one" if repeated else ""
        longest = max(g.longest_s for g in gaps)
        text += f"; {count} gap{'s' * (count > 1)}, the longest {longest:g} s" if count else "; no gaps"
        empty = float(np.mean([g.empty for g in gaps]))
        text += f"; {empty:.1%} of the slots hold no sample ({self.layout.fill})" if empty > 0.0 else ""
        return [text, *notes]
