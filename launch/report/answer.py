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
    sentences = []
    for result in results:
        sentence = _answer(result)
        if sentence:
            sentences.append(
                f"{result.point.label}: {sentence}" if result.point.label else sentence[0].upper() + sentence[1:]
            )
    return sentences


def _answer(result: PointResult) -> str:
    """What deciding alone costs, then what a price makes of it; without either, what the best one takes off."""
    comparison = result.comparison
    others = [row for row in comparison.rows if row.controller != comparison.baseline]
    own = [row for row in others if row.information == "local"]
    playing = [row for row in own if row.kind != "reference"]
    unpriced = min((row for row in playing if PRICED not in row.controller), key=_cost, default=None)
    priced = min((row for row in playing if PRICED in row.controller), key=_cost, default=None)
    central = min((row for row in others if row.information == "global"), key=_cost, default=None)
    against = central or next((row for row in own if row.controller == comparison.reference), None)
    if unpriced is not None and against is not None and against is not unpriced:
        text = _alone(result, unpriced, against)
        if priced is not None and priced is not against:
            text += f"; with a price ({priced.controller}) it costs {_above(result, priced, against)}"
        return text + "."
    if unpriced is not None and priced is not None:
        return (
            f"with a price ({priced.controller}) the devices cost {_above(result, priced, unpriced)} than where each "
            f"decides for itself ({unpriced.controller})."
        )
    base = next((row for row in comparison.rows if row.controller == comparison.baseline), None)
    best = min(others, key=_cost, default=None)
    if base is None or best is None:
        return ""
    return f"the best, {best.controller}, costs {_above(result, best, base)} than {base.controller}."


def _alone(result: PointResult, best: Row, against: Row) -> str:
    """Every device for itself against the best that sees everything, or against the reference."""
    central = against.information == "global"
    whom = f"the best that sees everything ({against.controller})" if central else f"the reference {against.controller}"
    text = (
        f"letting every device decide for itself ({best.controller}) costs {_above(result, best, against)} than {whom}"
    )
    if not central or against.signalling_bytes <= 0:
        return text
    saved = 1.0 - best.signalling_bytes / against.signalling_bytes
    if saved > 0.005:
        text += f" and saves {share(saved)} of the signalling"
    elif saved < -0.005:
        text += f" and takes {1.0 - saved:.2g} times the signalling"
    return text


def _cost(row: Row) -> float:
    return row.cost.value


def _costs(result: PointResult, row: Row) -> Array:
    return np.stack([part.means[result.point.scenario.cost_metric] for part in result.parts[row.controller]])


def _above(result: PointResult, row: Row, against: Row) -> str:
    """The paired difference in words: `0.8% [0.5, 1.1] more`."""
    difference = relative_difference(_costs(result, row), _costs(result, against))
    if difference.value >= 0:
        return f"{percent(difference)} more"
    return f"{percent(Interval(-difference.value, -difference.high, -difference.low))} less"


def share(value: float) -> str:
    """A share as people say it: `2/3` where that is near enough, else percent."""
    near = Fraction(value).limit_denominator(5)
    if 0 < near < 1 and abs(float(near) - value) < 0.004:
        return f"{near.numerator}/{near.denominator}"
    return f"{100 * value:.0f}%"
