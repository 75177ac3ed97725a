"""The question in one sentence: what does it cost, and what does it save, if every agent decides for itself?"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.targets import is_target
from edgemarl.launch.experiment.run import PointResult
from edgemarl.launch.report.numerals import percent
from edgemarl.marl.evaluation.compare import Interval, Row, relative_difference

PRICE = "price"
"""Part of the name of controllers that act on a price, told by another or of the scenario's own broadcast."""


def answers(results: Sequence[PointResult]) -> list[str]:
    """A sentence for every point at which it can be given."""
    sentences = []
    for result in results:
        sentence = _answer(result)
        if sentence:
            named = sentence.partition(" ")[0] in result.parts  # a name keeps its letters
            begun = sentence if named else sentence[0].upper() + sentence[1:]
            sentences.append(f"{result.point.label}: {sentence}" if result.point.label else begun)
    return sentences


def _answer(result: PointResult) -> str:
    """What deciding alone costs, then what a price makes of it; without either, what the best one takes off."""
    comparison = result.comparison
    others = [row for row in comparison.rows if row.controller != comparison.baseline]
    own = [row for row in others if row.information == "local"]
    central = min((row for row in others if row.information == "global"), key=_cost, default=None)
    reference = next((row for row in own if row.controller == comparison.reference), None)
    against = central or reference
    playing = [row for row in own if row.kind != "reference"]
    alone = min((row for row in playing if not told(row)), key=_cost, default=None)
    if central is None and reference is not None and reference.kind == "reference":  # computed against computed
        computed = [row for row in own if row.kind == "reference" and row is not reference and not told(row)]
        alone = min(computed, key=_cost, default=alone)
    hearing = min((row for row in playing if told(row)), key=_cost, default=None)
    equal = central is None and against is not None and not told(against)  # it sees no more than the others
    if equal and against is not None and alone is not None and alone is not against and hearing is None:
        return _among_equals(result, against, alone, playing)
    if alone is not None and against is not None and against is not alone and not equal:
        text = _sentence(result, alone, against, f"letting every device decide {_by_what(result)} ({alone.controller})")
        if hearing is not None and hearing is not against:
            text += f"; with {heard(hearing)} ({hearing.controller}) it costs {_above(result, hearing, against)}"
        return text + "."
    if alone is not None and hearing is not None:
        return (
            f"with {heard(hearing)} ({hearing.controller}) the devices cost {_above(result, hearing, alone)} than "
            f"where each decides for itself ({alone.controller})."
        )
    if hearing is not None and against is not None and against is not hearing:
        return _sentence(result, hearing, against, hearing.controller) + "."
    base = next((row for row in comparison.rows if row.controller == comparison.baseline), None)
    best = min(others, key=_cost, default=None)
    if base is None or best is None:
        return ""
    return f"the best, {best.controller}, costs {_above(result, best, base)} than {base.controller}."


def _among_equals(result: PointResult, reference: Row, alone: Row, playing: Sequence[Row]) -> str:
    """Where nothing central was played and the reference sees no more than the others: how far each is from it."""
    own = [row for row in playing if is_target(row.controller) and row is not alone]
    best = min((row for row in playing if row is not reference), key=_cost, default=alone)
    text = "; ".join(
        f"{row.controller} costs {_above(result, row, reference)} than {_whom(reference)}" for row in [*own, best]
    )
    return f"{text}. No controller that sees everything was played."


def _by_what(result: PointResult) -> str:
    """What an agent goes by where each decides alone: in some scenarios its own row holds what is broadcast to all."""
    links = result.point.scenario.signalling().decentralized
    return (
        "from its own row and what is broadcast"
        if any("-> device" in link or "broadcast" in link for link in links)
        else "for itself"
    )


def told(row: Row) -> bool:
    """Whether its agents hear of others: a message of another controller, or a price that was computed for them."""
    return PRICE in row.controller or row.message_bytes > 0.0


def heard(row: Row) -> str:
    """In words what the agents of a controller hear that is `told`."""
    return "a price" if PRICE in row.controller else "what is broadcast"


def _whom(against: Row) -> str:
    sees = against.information == "global"
    return f"the best that sees everything ({against.controller})" if sees else f"the reference {against.controller}"


def _sentence(result: PointResult, row: Row, against: Row, opening: str) -> str:
    """A controller of local rows against the best that sees everything, or against the reference."""
    text = f"{opening} costs {_above(result, row, against)} than {_whom(against)}"
    if against.information != "global" or against.signalling_bytes <= 0:
        return text
    saved = 1.0 - row.signalling_bytes / against.signalling_bytes
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
    return more_or_less(relative_difference(_costs(result, row), _costs(result, against)))


def more_or_less(difference: Interval) -> str:
    """A relative difference in words, without a sign: `0.8% [0.5, 1.1] more`, `0.3% [0.1, 0.6] less`."""
    if difference.value >= 0:
        return f"{percent(difference)} more"
    return f"{percent(Interval(-difference.value, -difference.high, -difference.low))} less"


def share(value: float) -> str:
    """A share as people say it: `2/3` where that is near enough, else percent."""
    near = Fraction(value).limit_denominator(5)
    if 0 < near < 1 and abs(float(near) - value) < 0.004:
        return f"{near.numerator}/{near.denominator}"
    return f"{100 * value:.0f}%"
