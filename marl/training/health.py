"""Whether training goes wrong: losses and costs that are no numbers, and costs far above the untrained policy's."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Mapping

logger = logging.getLogger(__name__)

FAR = 3.0
"""Times the untrained policy's cost from which a cost is far above it."""
ROWS = 10
"""Iterations whose mean cost is compared: one of a few slots may be unlucky."""
LOSSES = "_loss"
"""Ending of a role's columns that are losses."""


class Health:
    """Judges a learning curve row by row, also the rows that a resumed run begins with.

    Attributes:
        problem: what is wrong with the newest row, "" if nothing is.
        since: the iteration from which on something was wrong without a break; 0 if nothing is.
    """

    def __init__(self) -> None:
        self.problem, self.since = "", 0
        self._costs: deque[float] = deque(maxlen=ROWS)
        self._untrained = 0.0
        self._seen = 0

    def see(self, row: Mapping[str, float]) -> None:
        """Judge the next row; a problem that begins is said."""
        problem = _not_finite(row) or self._far_above(row)
        if problem and not self.problem:
            self.since = int(row["iteration"])
            logger.warning("training goes wrong in iteration %d: %s", self.since, problem)
        elif not problem:
            self.since = 0
        self.problem = problem

    def _far_above(self, row: Mapping[str, float]) -> str:
        """The mean cost of the last rows against the largest of the first ones, whose policy is hardly trained yet."""
        cost = row.get("cost", math.nan)
        if not math.isfinite(cost):
            return ""  # of whole episodes, and none has ended
        self._costs.append(cost)
        self._seen += 1
        if self._seen <= ROWS:
            self._untrained = max(self._untrained, abs(cost))
            return ""
        mean = sum(self._costs) / len(self._costs)
        if mean <= FAR * self._untrained:
            return ""
        return f"cost = {mean:.6g} (mean of {ROWS} iterations), the untrained policy's was {self._untrained:.6g}"


def _not_finite(row: Mapping[str, float]) -> str:
    for name, value in row.items():
        if name.endswith(LOSSES) and not math.isfinite(value):
            return f"{name} = {value}"
    return "" if not math.isinf(row.get("cost", 0.0)) else f"cost = {row['cost']}"
