"""Play a policy on traces of many cells at once and keep what a comparison needs.

Shapes: B cells, L slots. Cells are played in chunks, so no array is larger than the trace chunk in use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from edgemarl.agents.api import Policy, checked_policy
from edgemarl.envs.arrays import Array
from edgemarl.envs.checks import (
    checked_function,
    checked_generator,
    checked_integer,
    checked_kind,
    checked_names,
    checked_number,
    checked_seed,
)
from edgemarl.envs.scenario import Scenario, Step, checked_scenario
from edgemarl.envs.trace import Trace

CHUNK_CELLS = 64
"""Cells that are played at once: large enough to hide call overhead, small enough to stay in the cache."""


QUARTER_MIN = 10
"""Fewest slots of a quarter of a run from which the growth of a backlog is told."""


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
        checked_scenario(self.scenario)
        if not isinstance(self.seed, np.random.SeedSequence):
            checked_seed("seed", self.seed)
        for name in ("cells", "slots"):
            checked_integer(name, getattr(self, name), 1)

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

    def __post_init__(self) -> None:
        checked_kind("trace", self.trace, Trace, "scenario.sample_trace(rng, cells)")

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
class Played:
    """One slot of all cells: its step, seconds to decide (and to learn from the costs), seconds to step."""

    t: int
    step: Step
    decide_s: float
    step_s: float


def play(policy: Policy, scenario: Scenario, trace: Any, rng: np.random.Generator) -> Iterator[Played]:
    """Play every slot of a trace in the policy's world; the policy has been reset on it."""
    scenario = policy.world(scenario)
    state = scenario.initial_state(trace)
    for t in range(trace.slots):
        exogenous = scenario.exogenous(trace, t)
        started = perf_counter()
        decisions = policy.decide(state, exogenous, rng)
        decided = perf_counter()
        step = scenario.step(state, decisions, exogenous)
        stepped = perf_counter()
        policy.feedback(step.costs)
        yield Played(t, step, decided - started + perf_counter() - stepped, stepped - decided)
        state = step.state


@dataclass(frozen=True)
class Rollout:
    """What a policy did on B cells.

    Attributes:
        policy: name of the policy.
        information: "local" or "global".
        means: metric -> (B,) mean over the slots after warm-up, and `Scenario.episode_metrics` of these means.
        windows: the same over successive windows from the first slot on, (B, W); a last partial window counts.
        window_slots: slots per window.
        discounted_cost: (B,) discounted sum of the cost from the first slot on; None without a discount, or where the
            cost is a metric of the whole episode.
        setup_s: wall time of `reset`, seconds, all chunks (planning of a reference).
        decide_s: wall time of `decide` and `feedback` per slot and cell, seconds.
        step_s: wall time of the scenario's step per slot and cell, seconds.
        message_bytes: bytes per slot and cell that the policy's messages take.
        growth: metric of `Scenario.backlog_metrics` -> (B,) growth per slot over the second half; none in short runs.
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
    growth: dict[str, Array] = field(default_factory=dict)
    records: dict[str, Array] = field(default_factory=dict)


def rollout(
    policy: Policy,
    scenario: Scenario,
    traces: Any,
    rng: np.random.Generator,
    *,
    warmup: int = 0,
    window_slots: int = 50,
    discount: float | None = None,
    record: Sequence[str] = (),
    chunk_cells: int = CHUNK_CELLS,
    progress: Callable[[int], None] | None = None,
) -> Rollout:
    """Play a policy on every cell of a trace.

    Args:
        policy: anything that answers to `edgemarl.agents.api.Policy`; it is reset once per chunk.
        scenario: the scenario played.
        traces: a trace of the scenario, or a `TraceSource`.
        rng: the policy's own randomness; each chunk has a spawned generator.
        warmup: slots left out of `means`.
        window_slots: slots per window of `windows`.
        discount: per-slot discount of `discounted_cost`.
        record: metrics whose full series is kept.
        chunk_cells: cells played at once.
        progress: called with the number of cell-slots played since the last call.

    Raises:
        ValueError: no policy, no scenario, no generator, a trace that does not fit, warm-up not in [0, slots), a window
            or chunk below 1, a discount not in [0, 1], a recorded metric that the scenario does not have.
    """
    policy, scenario, rng = checked_policy(policy, "policy"), checked_scenario(scenario), checked_generator("rng", rng)
    source: TraceSource = traces if hasattr(traces, "chunks") else GivenTraces(traces)
    warmup = checked_integer("warmup", warmup, 0, "slots", high=source.slots - 1)
    window_slots = checked_integer("window_slots", window_slots, 1)
    chunk_cells = checked_integer("chunk_cells", chunk_cells, 1)
    discount = None if discount is None else checked_number("discount", discount, 0.0, 1.0)
    record = checked_names("record", record)
    progress = checked_function("progress", progress, "cell-slots")
    chunks: list[_Sums] = []
    for trace in source.chunks(chunk_cells):
        scenario.check_trace(trace)
        sums = _Sums(scenario, trace, warmup, window_slots, discount, record)
        sums.play(policy, trace, rng.spawn(1)[0], progress)
        chunks.append(sums)
    cell_slots = source.cells * source.slots
    discounted = [c.discounted for c in chunks if c.discounted is not None]
    return Rollout(
        policy=policy.name,
        information=policy.information,
        means=_joined([c.means() for c in chunks]),
        windows=_joined([c.window_means() for c in chunks]),
        window_slots=window_slots,
        discounted_cost=np.concatenate(discounted) if discounted else None,
        setup_s=sum(c.setup_s for c in chunks),
        decide_s=sum(c.decide_s for c in chunks) / cell_slots,
        step_s=sum(c.step_s for c in chunks) / cell_slots,
        message_bytes=policy.message_bytes() + _further_bytes(policy, scenario),
        growth=_joined([c.growth() for c in chunks]),
        records=_joined([c.records for c in chunks], axis=1),
    )


def _further_bytes(policy: Policy, scenario: Scenario) -> float:
    """Bytes per slot by which a centralized policy's world signals more than the scenario."""
    if policy.information != "global":
        return 0.0  # what is decentralized counts in its world's own metrics
    world = policy.world(scenario)
    return world.signalling().centralized_bytes - scenario.signalling().centralized_bytes


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
    times = [played.decide_s for played in play(policy, scenario, one, rng)]
    return float(np.median(times[one.slots // 4 :]))


class _Sums:
    """Running sums over one chunk of cells; the trace itself is not kept."""

    def __init__(
        self, scenario: Scenario, trace: Any, warmup: int, window_slots: int, discount: float | None,
        record: tuple[str, ...],
    ) -> None:  # fmt: skip
        self.scenario, self.slots, self.cells = scenario, trace.slots, trace.cells
        self.warmup, self.window_slots, self.discount = warmup, window_slots, discount
        self._totals: dict[str, Array] = {}
        self._windows: dict[str, Array] = {}
        self.discounted: Array | None = None
        self.quarter = self.slots // 4
        self._quarters: dict[str, Array] = {}
        self.records = {name: np.empty((self.slots, self.cells)) for name in record}
        self.setup_s = self.decide_s = self.step_s = 0.0

    def play(
        self, policy: Policy, trace: Any, rng: np.random.Generator, progress: Callable[[int], None] | None
    ) -> None:
        """Reset the policy and play every slot of the chunk."""
        started = perf_counter()
        policy.reset(self.scenario, trace)
        self.setup_s = perf_counter() - started
        for played in play(policy, self.scenario, trace, rng):
            if played.t == 0:
                self._start(played.step.metrics)
            self._add(played.t, played.step.metrics)
            self.decide_s += played.decide_s
            self.step_s += played.step_s
            if progress is not None:
                progress(self.cells)

    def means(self) -> dict[str, Array]:
        means = {name: total / (self.slots - self.warmup) for name, total in self._totals.items()}
        return {**means, **self.scenario.episode_metrics(means)}

    def window_means(self) -> dict[str, Array]:
        width = self.window_slots
        counts = np.minimum(width, self.slots - width * np.arange(-(-self.slots // width)))
        means = {name: total / counts for name, total in self._windows.items()}
        episodes = [self.scenario.episode_metrics({n: m[:, w] for n, m in means.items()}) for w in range(len(counts))]
        return {**means, **{name: np.stack([e[name] for e in episodes], axis=1) for name in episodes[0]}}

    def growth(self) -> dict[str, Array]:
        """Growth per slot of the backlogs: the difference of the means of the third and of the fourth quarter."""
        if self.quarter < QUARTER_MIN:
            return {}
        return {name: (sums[1] - sums[0]) / self.quarter**2 for name, sums in self._quarters.items()}

    def _start(self, metrics: Mapping[str, Array]) -> None:
        for name in self.records:
            if name not in metrics:
                raise ValueError(f"unknown metric '{name}'. Known: {', '.join(metrics)}")
        windows = -(-self.slots // self.window_slots)
        self._totals = {name: np.zeros(self.cells) for name in metrics}
        self._windows = {name: np.zeros((self.cells, windows)) for name in metrics}
        self._quarters = {name: np.zeros((2, self.cells)) for name in self.scenario.backlog_metrics.values()}
        if self.discount is not None and self.scenario.cost_metric in metrics:
            self.discounted = np.zeros(self.cells)

    def _add(self, t: int, metrics: Mapping[str, Array]) -> None:
        for name, values in metrics.items():
            if t >= self.warmup:
                self._totals[name] += values
            self._windows[name][:, t // self.window_slots] += values
        back = (self.slots - 1 - t) // self.quarter if self.quarter else 2  # quarters before the last one
        if back < 2:
            for name, sums in self._quarters.items():
                sums[1 - back] += metrics[name]
        for name, series in self.records.items():
            series[t] = metrics[name]
        if self.discounted is not None and self.discount is not None:
            self.discounted += self.discount**t * metrics[self.scenario.cost_metric]


def _joined(parts: Sequence[Mapping[str, Array]], axis: int = 0) -> dict[str, Array]:
    return {name: np.concatenate([part[name] for part in parts], axis=axis) for name in parts[0]}
