"""Compare policies that met the same traces: bootstrap intervals, paired differences, share of the gap closed.

Shapes: a policy's values are (S, B): S training seeds (1 for a policy that is not trained beforehand), B cells.
Cells are common to all policies, so differences are paired by cell. Seeds and cells are crossed (every trained
policy plays every cell) and are resampled independently of each other: A. B. Owen, "The pigeonhole bootstrap",
Ann. Appl. Stat. 1 (2007), which is conservative.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgemarl.agents.playbook import Bound
from edgemarl.envs.arrays import Array
from edgemarl.envs.checks import checked_integer, checked_kind, checked_seed
from edgemarl.envs.config import quoted, unknown_name
from edgemarl.envs.scenario import Scenario, checked_scenario
from edgemarl.marl.evaluation.bca import bootstrap_limits
from edgemarl.marl.evaluation.growth import Growth, growth_of

LEVEL = 0.95
RESAMPLES = 4000


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence limits (NaN where one cell alone gives none)."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2

    def separated_from(self, other: Interval) -> bool:
        """Whether the two intervals do not overlap."""
        return self.high < other.low or other.high < self.low


@dataclass(frozen=True)
class Outcome:
    """What one controller did on the common cells.

    Attributes:
        controller: name in tables.
        kind: "learned", "baseline" or "reference".
        information: "local" or "global".
        metrics: metric -> (S, B) means after warm-up; holds the scenario's cost metric.
        discounted_cost: (S, B) discounted sums, or None.
        decision_s: seconds in which one cell's slot is decided.
        message_bytes: bytes per slot beside the scenario's signalling.
        setup_s: planning time before the first slot, seconds.
        training_s: training time of one seed beforehand, seconds; None if nothing is trained beforehand.
        growth: metric of `Scenario.backlog_metrics` -> (S, B) growth per slot over the second half of the run.
        slots: of the run.
    """

    controller: str
    kind: str
    information: str
    metrics: Mapping[str, Array]
    discounted_cost: Array | None = None
    decision_s: float = float("nan")
    message_bytes: float = 0.0
    setup_s: float = 0.0
    training_s: float | None = None
    growth: Mapping[str, Array] = field(default_factory=dict)
    slots: int = 0


@dataclass(frozen=True)
class LowerBound:
    """What no controller can do better than, divided by `Scenario.cost_divisor`.

    Attributes:
        cost: its mean over the cells that it covers.
        cells: how many it covers, the first ones of the comparison.
        each_trace: whether it holds on every single trace, or in expectation only.
        binds: which controllers, in words.
    """

    cost: Interval
    cells: int
    each_trace: bool
    binds: str


@dataclass(frozen=True)
class Row:
    """One line of a comparison table; costs are divided by `Scenario.cost_divisor`.

    Attributes:
        gap_closed: share of the gap from the baseline to the reference, or None where one of them is absent or the
            reference is not better than the baseline.
        excess: relative cost above the reference, paired; None without a reference.
        above_bound: relative cost above the lower bound on the cells that it covers, paired; None without one.
        columns: the scenario's further columns (`Scenario.summary_metrics`).
        signalling_bytes: bytes per slot and cell.
        message_bytes: those of them that are the policy's own messages, such as a price.
        parts: the cost's weighted terms (`Scenario.cost_parts`), which add up to it; none where it is a single term.
        growth: how every backlog moved over the second half of the run.
    """

    controller: str
    kind: str
    information: str
    training_seeds: int
    cost: Interval
    discounted_cost: Interval | None
    gap_closed: Interval | None
    excess: Interval | None
    above_bound: Interval | None
    columns: dict[str, Interval]
    decision_s: float
    signalling_bytes: float
    setup_s: float
    training_s: float | None
    message_bytes: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)
    growth: list[Growth] = field(default_factory=list)


@dataclass(frozen=True)
class Comparison:
    """Rows in the order given, and what they were measured against.

    Attributes:
        bound: what no controller can do better than, if there is such a bound.
        no_bound: why there is none.
    """

    scenario: str
    cells: int
    baseline: str | None
    reference: str | None
    rows: list[Row] = field(default_factory=list)
    bound: LowerBound | None = None
    no_bound: str = ""

    def row(self, controller: str) -> Row:
        """The row of a controller; ValueError if it is not part of the comparison."""
        for row in self.rows:
            if row.controller == controller:
                return row
        raise ValueError(unknown_name("controller", controller, [r.controller for r in self.rows]))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)


def compare(
    scenario: Scenario,
    outcomes: Sequence[Outcome],
    *,
    baseline: str | None = "random",
    reference: str | None = None,
    bound: Bound | None = None,
    no_bound: str = "",
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Comparison:
    """The table of a comparison.

    Args:
        scenario: names the cost metric, further columns and the signalling.
        outcomes: one per controller, all on the same cells.
        baseline: controller that closes 0 of the gap; ignored if absent.
        reference: controller that closes all of the gap; ignored if absent.
        bound: lower bounds of the costs of the first cells, before the division by `Scenario.cost_divisor`.
        no_bound: why there is none.
        seed: of the bootstrap.
        resamples: bootstrap resamples.

    Raises:
        ValueError: no outcome, outcomes on different numbers of cells, two of one name, a missing metric.
    """
    if not hasattr(scenario, "cost_metric"):
        checked_scenario(scenario)
    seed, resamples = checked_seed("seed", seed), checked_integer("resamples", resamples, 1)
    outcomes = _checked_outcomes(outcomes)
    costs = {o.controller: _cost(scenario, o) for o in outcomes}
    if not outcomes or len(costs) < len(outcomes):
        raise ValueError(f"a comparison needs controllers of different names, got {[o.controller for o in outcomes]}")
    cells = {values.shape[1] for values in costs.values()}
    if len(cells) > 1:
        raise ValueError(f"controllers must meet the same cells, got {sorted(cells)} cells")
    base = baseline if isinstance(baseline, str) and baseline in costs else None
    best = reference if isinstance(reference, str) and reference in costs else None
    if bound is not None:
        checked_kind("bound", bound, Bound)
    rows = [_row(scenario, outcome, costs, base, best, seed, resamples) for outcome in outcomes]
    table = Comparison(scenario.name, cells.pop(), base, best, rows, no_bound=no_bound)
    return table if bound is None else _bounded(table, bound, costs, scenario.cost_divisor, seed, resamples)


def _checked_outcomes(outcomes: Any) -> list[Outcome]:
    if isinstance(outcomes, str) or not isinstance(outcomes, Iterable):
        raise ValueError(f"outcomes = {quoted(outcomes)} is not legal: must be a list of Outcome")
    return [checked_kind("outcome", outcome, Outcome) for outcome in outcomes]


def _bounded(
    table: Comparison, bound: Bound, costs: Mapping[str, Array], divisor: float, seed: int, resamples: int
) -> Comparison:
    """The table with a bound, and how far each row is above it on the cells that it covers."""
    values = bound.values / divisor
    count = len(values)
    if not 1 <= count <= table.cells:
        raise ValueError(f"a bound of {count} cells does not fit a comparison of {table.cells}")
    rows = []
    for row in table.rows:
        above = relative_difference(costs[row.controller][:, :count], values, seed=seed, resamples=resamples)
        rows.append(dataclasses.replace(row, above_bound=above))
    limit = LowerBound(mean_interval(values, seed=seed, resamples=resamples), count, bound.each_trace, bound.binds)
    return dataclasses.replace(table, rows=rows, bound=limit)


def _cost(scenario: Scenario, outcome: Outcome) -> Array:
    """(S, B) compared cost; every metric that the table needs is there, and of its shape."""
    further = [name for names in scenario.summary_metrics.values() for name in names]
    for name in (scenario.cost_metric, *further):
        if name not in outcome.metrics:
            raise ValueError(f"controller '{outcome.controller}' has no metric '{name}'")
        values = np.asarray(outcome.metrics[name])
        if values.dtype.kind not in "fiu" or values.ndim not in (1, 2) or not values.size:
            raise ValueError(
                f"metric '{name}' of controller '{outcome.controller}' is {values.dtype} of shape {values.shape}: must "
                "be numbers of shape (training seeds, cells)"
            )
    return np.atleast_2d(outcome.metrics[scenario.cost_metric]) / scenario.cost_divisor


def _row(
    scenario: Scenario, outcome: Outcome, costs: Mapping[str, Array], base: str | None, best: str | None,
    seed: int, resamples: int,
) -> Row:  # fmt: skip
    cost = costs[outcome.controller]
    excess = gap = None
    if best is not None:
        excess = _against(outcome.controller, best, costs, seed, resamples)
        if base is not None:
            gap = gap_closed(cost, costs[base], costs[best], seed=seed, resamples=resamples)
    discounted = None
    if outcome.discounted_cost is not None:
        values = np.atleast_2d(outcome.discounted_cost) / scenario.cost_divisor
        discounted = mean_interval(values, seed=seed, resamples=resamples)
    columns = {}
    for label, names in scenario.summary_metrics.items():
        total = np.sum([np.atleast_2d(outcome.metrics[name]) for name in names], axis=0)
        columns[label] = mean_interval(total, seed=seed, resamples=resamples)
    return Row(
        controller=outcome.controller,
        kind=outcome.kind,
        information=outcome.information,
        training_seeds=cost.shape[0],
        cost=mean_interval(cost, seed=seed, resamples=resamples),
        discounted_cost=discounted,
        gap_closed=gap,
        excess=excess,
        above_bound=None,
        columns=columns,
        decision_s=outcome.decision_s,
        signalling_bytes=signalling_bytes(scenario, outcome),
        setup_s=outcome.setup_s,
        training_s=outcome.training_s,
        message_bytes=outcome.message_bytes,
        parts=_parts(scenario, outcome),
        growth=[
            growth_of(label, outcome.growth[name], np.atleast_2d(outcome.metrics[name]), outcome.slots)
            for label, name in scenario.backlog_metrics.items()
            if name in outcome.growth
        ],
    )


def _parts(scenario: Scenario, outcome: Outcome) -> dict[str, float]:
    """Means over seeds and cells of the cost's terms, divided as the cost is."""
    means = {name: np.atleast_2d(values) for name, values in outcome.metrics.items()}
    return {term: float(np.mean(v)) / scenario.cost_divisor for term, v in scenario.cost_parts(means).items()}


def _against(name: str, best: str, costs: Mapping[str, Array], seed: int, resamples: int) -> Interval:
    if name == best:
        return Interval(0.0, 0.0, 0.0)
    return relative_difference(costs[name], costs[best], seed=seed, resamples=resamples)


def signalling_bytes(scenario: Scenario, outcome: Outcome) -> float:
    """Bytes per slot and cell: the scenario's own for this kind of information, and the policy's messages.

    A scenario whose decentralized signalling follows from the decisions counts it in the metric `signalling_bytes`.
    """
    signalling = scenario.signalling()
    own = signalling.centralized_bytes if outcome.information == "global" else signalling.decentralized_bytes
    if outcome.information != "global" and "signalling_bytes" in outcome.metrics:
        own = float(np.mean(outcome.metrics["signalling_bytes"]))
    return own + outcome.message_bytes


# --- intervals -----------------------------------------------------------------------------------------------


def mean_interval(values: Any, *, level: float = LEVEL, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Mean over cells (and training seeds) with its bootstrap interval; values (B,) or (S, B)."""
    return _bootstrap(lambda a: a, [values], level, seed, resamples)


def paired_difference(a: Any, b: Any, *, level: float = LEVEL, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Mean of a - b on the same cells; (B,) or (S, B) each."""
    return _bootstrap(lambda x, y: x - y, [a, b], level, seed, resamples)


def relative_difference(a: Any, b: Any, *, level: float = LEVEL, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """(mean a - mean b) / |mean b| on the same cells."""
    return _bootstrap(lambda x, y: (x - y) / np.abs(y), [a, b], level, seed, resamples)


def gap_closed(
    values: Any, baseline: Any, reference: Any, *, level: float = LEVEL, seed: int = 0, resamples: int = RESAMPLES
) -> Interval | None:
    """Share of the gap from the baseline's mean cost to the reference's that a controller closes, paired by cell.

    0 for the baseline itself, 1 for the reference, above 1 for a controller that is better than the reference.
    None where the reference is not better than the baseline.
    """
    if not np.mean(reference) < np.mean(baseline):
        return None
    if values is baseline or values is reference:
        share = 0.0 if values is baseline else 1.0
        return Interval(share, share, share)
    return _bootstrap(lambda v, b, r: (b - v) / (b - r), [values, baseline, reference], level, seed, resamples)


def _bootstrap(
    statistic: Callable[..., Array], groups: Sequence[Any], level: float, seed: int, resamples: int
) -> Interval:
    """Interval of `statistic(mean of group 0, mean of group 1, ..)` over cells and, where S > 1, training seeds."""
    tables = [np.atleast_2d(np.asarray(group, np.float64)) for group in groups]
    cells = tables[0].shape[1]
    if any(table.ndim != 2 or table.shape[1] != cells for table in tables):
        raise ValueError(f"values must be (cells,) or (seeds, cells) of one length, got {[t.shape for t in tables]}")
    seeded = [i for i, table in enumerate(tables) if table.shape[0] > 1]

    def resampled(*indices: Array) -> Array:
        chosen = indices[-1]
        means = []
        for i, table in enumerate(tables):
            if i in seeded:
                rows = indices[seeded.index(i)]
                means.append(table[rows[..., :, None], chosen[..., None, :]].mean(axis=(-2, -1)))
            else:
                means.append(table[0][chosen].mean(axis=-1))
        return np.asarray(statistic(*means))

    value = float(statistic(*(table.mean() for table in tables)))
    if cells < 2:
        return Interval(value, float("nan"), float("nan"))
    sizes = [tables[i].shape[0] for i in seeded] + [cells]
    with np.errstate(all="ignore"):
        return Interval(value, *bootstrap_limits(resampled, sizes, level, resamples, np.random.default_rng(seed)))
