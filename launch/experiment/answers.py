"""What one size of a scenario answers: what is lost, and what is saved, if every agent decides for itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.launch.experiment.plan import Plan
from edgemarl.launch.experiment.run import PointResult
from edgemarl.marl.evaluation.compare import Interval, Row, relative_difference


@dataclass(frozen=True)
class Side:
    """One way of control at one size: the controller that stands for it, and what it costs and needs."""

    row: Row
    measured: dict[str, float]


@dataclass(frozen=True)
class Answer:
    """What one size of a scenario says.

    Attributes:
        decentralized, central: the best learned controllers of either kind.
        rule: the best rule that devices follow with what they see themselves.
        reference: the best of all that were compared, whatever it sees.
        price: relative cost of learned decentralized above learned central control, paired.
        exchanges: (what is told, relative change of the cost by it).
        above: controller -> relative cost above the certified bound, or above the best of all where there is no bound.
    """

    scenario: str
    title: str
    size: int
    agents: int
    decentralized: Side
    central: Side
    rule: Row | None
    reference: Row
    price: Interval
    exchanges: tuple[tuple[str, Interval], ...]
    above: dict[str, Interval | None]
    bounded: bool


def answer(result: PointResult, plan: Plan) -> Answer:
    """What the results at one size say.

    Args:
        result: of that size.
        plan: names the exchanges.

    Raises:
        ValueError: no learned controller of one of the two kinds.
    """
    scenario, rows = result.point.scenario, result.comparison.rows
    costs = {name: _costs(result, name) for name in result.parts}
    trained = [row for row in rows if row.training_s is not None]
    best = {kind: _best([row for row in trained if row.information == kind]) for kind in ("local", "global")}
    local, central = best["local"], best["global"]
    if local is None or central is None:
        raise ValueError(f"a study of {scenario.name} needs a learned controller of either kind")
    rules = [row for row in rows if row.training_s is None and row.information == "local" and row.kind != "reference"]
    exchanges = tuple(
        (pair.of, relative_difference(costs[pair.hearing], costs[pair.without]))
        for pair in plan.preset.exchanges
        if pair.hearing in costs and pair.without in costs
    )
    reference = min(rows, key=lambda row: row.cost.value)
    bounded = result.comparison.bound is not None
    against = {name: relative_difference(values, costs[reference.controller]) for name, values in costs.items()}
    return Answer(
        scenario=scenario.name, title=scenario.title, size=int(result.point.value),
        agents=sum(role.count for role in scenario.roles.values()),
        decentralized=_side(result, local), central=_side(result, central), rule=_best(rules), reference=reference,
        price=relative_difference(costs[local.controller], costs[central.controller]), exchanges=exchanges,
        above={row.controller: row.above_bound if bounded else against[row.controller] for row in rows},
        bounded=bounded,
    )  # fmt: skip


def _costs(result: PointResult, name: str) -> Array:
    return np.stack([part.means[result.point.scenario.cost_metric] for part in result.parts[name]])


def _best(rows: Sequence[Row]) -> Row | None:
    return min(rows, key=lambda row: row.cost.value, default=None)


def _side(result: PointResult, row: Row) -> Side:
    """A controller with the means over its training seeds of what was measured."""
    measured = [part.about.get("measured", {}) for part in result.parts[row.controller]]
    return Side(row, {name: float(np.mean([f[name] for f in measured])) for name in measured[0]})
