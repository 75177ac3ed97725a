"""Play a policy on traces of many cells at once and keep what a comparison needs.

Shapes: B cells, L slots. Cells are played in chunks, so no array is larger than the trace chunk in use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from agents.api import Policy
from envs.api import Array, Scenario

CHUNK_CELLS = 64
"""Cells that are played at once: large enough to hide call overhead, small enough to stay in the cache."""


class TraceSource(Protocol):
    """Traces of B cells that are handed out in chunks."""

    @property
    def cells(self) -> int: ...

    @property
    def slots(self) -> int: ...

    def chunks(self, chunk_cells: int) -> Iterator[Any]: ...


@dataclass(frozen=True)
class SampledTraces:
    """Traces drawn when they are played; cell b is the same whatever the chunk size.

    Attributes:
        scenario: whose `sample_trace` draws.
        seed: seed of the parent generator, an integer or a `SeedSequence`.
        cells: B >= 1.
        slots: steps L >= 1.
    """

    scenario: Scenario
    seed: int | np.random.SeedSequence
    cells: int
    slots: int

    def __post_init__(self) -> None:
        for name in ("cells", "slots"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} is not legal: must be an integer >= 1")

    def chunks(self, chunk_cells: int) -> Iterator[Any]:
        """Traces of at most `chunk_cells` cells; a generator spawns on, so chunks together equal one draw."""
        # a SeedSequence counts its children: a fresh one each time, so that every policy meets the same traces
        entropy: Any = self.seed
        if isinstance(entropy, np.random.SeedSequence):
            entropy = np.random.SeedSequence(entropy.entropy, spawn_key=entropy.spawn_key)
        rng = np.random.default_rng(entropy)
        for first in range(0, self.cells, chunk_cells):
            yield self.scenario.sample_trace(rng, min(chunk_cells, self.cells - first), self.slots)


@dataclass(frozen=True)
class GivenTraces:
    """A trace that exists already (measured, or loaded from a file), cut into chunks of cells."""

    trace: Any

    @property
    def cells(self) -> int:
        return int(self.trace.cells)

    @property
    def slots(self) -> int:
        return int(self.trace.slots)

    def chunks(self, chunk_cells: int) -> Iterator[Any]:
        """Views of at most `chunk_cells` cells each."""
        for first in range(0, self.cells, chunk_cells):
            yield self.trace.select(slice(first, first + chunk_cells))


@dataclass(frozen=True)
class Rollout:
    """What a policy did on B cells.

    Attributes:
        policy: name of the policy.
        information: "local" or "global".
        means: metric -> (B,) mean over the slots after warm-up.
        windows: metric -> (B, W) means over successive windows, from the first slot on; a last partial window counts.
        window_slots: slots per window.
        discounted_cost: (B,) discounted sum of the cost from the first slot on, or None without a discount.
        setup_s: wall time of `reset`, seconds, all chunks (planning of a reference).
        decide_s: wall time of `decide` and `feedback` per slot and cell, seconds.
        step_s: wall time of the scenario's step per slot and cell, seconds.
        message_bytes: bytes per slot and cell that the policy's messages take.
        records: metric -> (L, B), the full series of the metrics asked for.
    """

    policy: str
    information: str
    means: dict[str, Array]
    windows: dict[str, Array]
    window_slots: int
    discounted_cost: Array | None
    setup_s: float
    decide_s: float
    step_s: float
    message_bytes: float
    records: dict[str, Array] = field(default_factory=dict)


def rollout(
    policy: Policy,
    scenario: Scenario,
    traces: Any,
    rng: np.random.Generator,
    *,
    warmup: int = 0,
    window_slots: int = 50,
    window_metrics: Sequence[str] | None = None,
    discount: float | None = None,
    record: Sequence[str] = (),
    chunk_cells: int = CHUNK_CELLS,
    progress: Callable[[int], None] | None = None,
) -> Rollout:
    """Play a policy on every cell of a trace.

    Args:
        policy: anything that answers to `agents.api.Policy`; it is reset once per chunk.
        scenario: the scenario played.
        traces: a trace of the scenario, or a `TraceSource`.
        rng: the policy's own randomness; each chunk has a spawned generator.
        warmup: slots left out of `means`.
        window_slots: slots per window of `windows`.
        window_metrics: metrics of `windows`; default: the scenario's cost.
        discount: per-slot discount of `discounted_cost`.
        record: metrics whose full series is kept.
        chunk_cells: cells played at once.
        progress: called with the number of cell-slots played since the last call.

    Raises:
        ValueError: a trace that does not fit, warm-up not in [0, slots), a window or chunk below 1, a metric
            that the scenario does not have.
    """
    source: TraceSource = traces if hasattr(traces, "chunks") else GivenTraces(traces)
    if not 0 <= warmup < source.slots:
        raise ValueError(f"warmup = {warmup} slots is not legal: must be >= 0 and < {source.slots} slots of the trace")
    for name, value in (("window_slots", window_slots), ("chunk_cells", chunk_cells)):
        if value < 1:
            raise ValueError(f"{name} = {value} is not legal: must be an integer >= 1")
    windowed = (scenario.cost_metric,) if window_metrics is None else tuple(window_metrics)
    parts: list[_Chunk] = []
    for trace in source.chunks(chunk_cells):
        chunk = _Chunk(scenario, trace, warmup, window_slots, windowed, discount, tuple(record))
        chunk.play(policy, trace, rng.spawn(1)[0], progress)
        parts.append(chunk)
    cell_slots = source.cells * source.slots
    return Rollout(
        policy=policy.name,
        information=policy.information,
        means=_joined([p.means() for p in parts]),
        windows=_joined([p.windows() for p in parts]),
        window_slots=window_slots,
        discounted_cost=None if discount is None else np.concatenate([p.discounted for p in parts]),
        setup_s=sum(p.setup_s for p in parts),
        decide_s=sum(p.decide_s for p in parts) / cell_slots,
        step_s=sum(p.step_s for p in parts) / cell_slots,
        message_bytes=policy.message_bytes(),
        records=_joined([p.records for p in parts], axis=1),
    )


def decision_latency_s(
    policy: Policy, scenario: Scenario, trace: Any, rng: np.random.Generator, slots: int = 40
) -> float:
    """Median wall time, seconds, in which a policy decides (and learns from) one slot of ONE cell.

    Args:
        policy: reset on the trace's first cell.
        scenario: the scenario played.
        trace: any trace; its first cell is played.
        rng: the policy's own randomness.
        slots: slots timed, at most those of the trace; the first quarter warms up.
    """
    one = trace.select(slice(0, 1))
    one = one.shortened(min(slots, one.slots))
    policy.reset(scenario, one)
    state, times = scenario.initial_state(one), []
    for t in range(one.slots):
        exogenous = scenario.exogenous(one, t)
        started = perf_counter()
        decisions = policy.decide(state, exogenous, rng)
        decided = perf_counter()
        step = scenario.step(state, decisions, exogenous)
        stepped = perf_counter()
        policy.feedback(step.costs)
        times.append(decided - started + perf_counter() - stepped)
        state = step.state
    return float(np.median(times[one.slots // 4 :]))


class _Chunk:
    """Running sums of one chunk of cells."""

    def __init__(
        self, scenario: Scenario, trace: Any, warmup: int, window_slots: int, windowed: tuple[str, ...],
        discount: float | None, record: tuple[str, ...],
    ) -> None:  # fmt: skip
        scenario.check_trace(trace)
        self.scenario, self.warmup, self.window_slots = scenario, warmup, window_slots
        self.discount = discount
        cells, slots = trace.cells, trace.slots
        self._slots = slots
        self._sums: dict[str, Array] = {}
        self._windows = {name: np.zeros((cells, -(-slots // window_slots))) for name in windowed}
        self.discounted = np.zeros(cells)
        self.records = {name: np.empty((slots, cells)) for name in record}
        self.setup_s = self.decide_s = self.step_s = 0.0

    def play(
        self, policy: Policy, trace: Any, rng: np.random.Generator, progress: Callable[[int], None] | None
    ) -> None:
        """Reset the policy and play every slot of the chunk."""
        scenario = self.scenario
        started = perf_counter()
        policy.reset(scenario, trace)
        self.setup_s = perf_counter() - started
        state = scenario.initial_state(trace)
        for t in range(trace.slots):
            exogenous = scenario.exogenous(trace, t)
            started = perf_counter()
            decisions = policy.decide(state, exogenous, rng)
            decided = perf_counter()
            step = scenario.step(state, decisions, exogenous)
            stepped = perf_counter()
            policy.feedback(step.costs)
            self.decide_s += decided - started + perf_counter() - stepped
            self.step_s += stepped - decided
            if t == 0:
                self._check_metrics(step.metrics)
            self._add(t, step.metrics)
            state = step.state
            if progress is not None:
                progress(trace.cells)

    def means(self) -> dict[str, Array]:
        return {name: total / (self._slots - self.warmup) for name, total in self._sums.items()}

    def windows(self) -> dict[str, Array]:
        slots, width = self._slots, self.window_slots
        counts = np.minimum(width, slots - width * np.arange(-(-slots // width)))
        return {name: total / counts for name, total in self._windows.items()}

    def _check_metrics(self, metrics: Mapping[str, Array]) -> None:
        for name in (*self._windows, *self.records):
            if name not in metrics:
                raise ValueError(f"unknown metric '{name}'. Known: {', '.join(metrics)}")

    def _add(self, t: int, metrics: Mapping[str, Array]) -> None:
        if t >= self.warmup:
            for name, values in metrics.items():
                if name in self._sums:
                    self._sums[name] += values
                else:
                    self._sums[name] = np.array(values, np.float64)
        for name, windows in self._windows.items():
            windows[:, t // self.window_slots] += metrics[name]
        for name, series in self.records.items():
            series[t] = metrics[name]
        if self.discount is not None:
            self.discounted += self.discount**t * metrics[self.scenario.cost_metric]


def _joined(parts: Sequence[Mapping[str, Array]], axis: int = 0) -> dict[str, Array]:
    return {name: np.concatenate([part[name] for part in parts], axis=axis) for name in parts[0]}
