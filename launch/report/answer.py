"""The question in one sentence: what does it cost, and what does it save, if every agent decides for itself?"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.launch.experiment.run import PointResult
from edgemarl.launch.report.numerals import percent
from edgemarl.marl.evaluation.compare import Interval, Row, relative_difference

PRICED = "priced"
"""Part of the name of controllers that act on a price."""


def answers(results: Sequence[PointResult]) -> list[str]:
    """A sentence for every point at which it can be given."""
    found = []
    for result in results:
        sentence = _answer(result)
        if sentence:
            found.append(
                f"{result.point.label}: {sentence}" if result.point.label else sentence[0].upper() + sentence[1:]
            )
    return found


def _answer(result: PointResult) -> str:
    """Against the best that sees everything, else against the reference."""
    comparison = result.comparison
    others = [row for row in comparison.rows if row.controller != comparison.baseline]
    own = [row for row in others if row.information == "local"]
    unpriced = [row for row in own if PRICED not in row.controller and row.kind != "reference"]
    if not unpriced:
        return ""
    best = min(unpriced, key=_cost)
    central = [row for row in others if row.information == "global"]
    against = (
        min(central, key=_cost) if central else next((r for r in own if r.controller == comparison.reference), None)
    )
    if against is None or against is best:
        return ""
    whom = f"the best that sees everything ({against.controller})" if central else f"the reference {against.controller}"
    text = (
        f"letting every device decide for itself ({best.controller}) costs {_above(result, best, against)} than {whom}"
    )
    saved = 1.0 - best.signalling_bytes / against.signalling_bytes if against.signalling_bytes > 0 else 0.0
    if central and saved > 0.005:
        text += f" and saves {share(saved)} of the signalling"
    elif central and saved < -0.005:
        text += f" and takes {best.signalling_bytes / against.signalling_bytes:.2g} times the signalling"
    priced = [row for row in own if PRICED in row.controller and row.kind != "reference"]
    if priced:
        with_price = min(priced, key=_cost)
        text += f"; with a price ({with_price.controller}) it costs {_above(result, with_price, against)}"
    return text + "."


def _cost(row: Row) -> float:
    return row.cost.value


def _costs(result: PointResult, row: Row) -> Array:
    return np.stack([part.means[result.point.scenario.cost_metric] for part in result.parts[row.controller]])


def _above(result: PointResult, row: Row, against: Row) -> str:
    """The paired difference in words: `0.8% [0.5, 1.1] more`."""
    found = relative_difference(_costs(result, row), _costs(result, against))
    if found.value >= 0:
        return f"{percent(found)} more"
    return f"{percent(Interval(-found.value, -found.high, -found.low))} less"


def share(value: float) -> str:
    """A share as people say it: `2/3` where that is near enough, else percent."""
    near = Fraction(value).limit_denominator(5)
    if 0 < near < 1 and abs(float(near) - value) < 0.004:
        return f"{near.numerator}/{near.denominator}"
    return f"{100 * value:.0f}%"
