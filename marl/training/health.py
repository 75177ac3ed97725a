"""Whether training goes wrong: losses and costs that are no numbers, and costs far above the untrained policy's."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Mapping

logger = logging.getLogger(__name__)

FAR = 3.0
"""Times the untrained policy's cost from which a cost is far above it (queues that fill up from empty stay below)."""
ROWS = 10
"""Iterations whose mean cost is compared: one of a few slots may be unlucky."""
LOSSES = "_loss"
"""Ending of a role's columns that are losses."""


class Health:
    """Judges a learning curve row by row, also the rows that a resumed run begins with.

    Attributes:
        problem: what is wrong with the newest row, "" if nothing is.
        since: the iteration from which on something was wrong without a break; 0 if nothing is.
        finite: whether the newest row's losses and costs are numbers.
    """

    def __init__(self) -> None:
        self.problem, self.since, self.finite = "", 0, True
        self._costs: deque[float] = deque(maxlen=ROWS)
        self._untrained: float | None = None

    def see(self, row: Mapping[str, float]) -> None:
        """Judge the next row; a problem that begins is said."""
        far, problem = self._far_above(row), _not_finite(row)
        self.finite = not problem
        problem = problem or far
        if problem and not self.problem:
            self.since = int(row["iteration"])
            logger.warning("training goes wrong in iteration %d: %s", self.since, problem)
        elif not problem:
            self.since = 0
        self.problem = problem

    def _far_above(self, row: Mapping[str, float]) -> str:
        """The mean cost of the last rows against the first one's, which an untrained policy sampled."""
        cost = row.get("cost", math.nan)
        if not math.isfinite(cost):
            return ""  # of whole episodes, and none has ended
        self._costs.append(cost)
        if self._untrained is None:
            self._untrained = abs(cost)
        mean = sum(self._costs) / len(self._costs)
        if len(self._costs) < ROWS or mean <= FAR * self._untrained:
            return ""
        return f"cost = {mean:.6g} (mean of {ROWS} iterations), the untrained policy's was {self._untrained:.6g}"


def _not_finite(row: Mapping[str, float]) -> str:
    for name, value in row.items():
        if name.endswith(LOSSES) and not math.isfinite(value):
            return f"{name} = {value}"
    return "" if not math.isinf(row.get("cost", 0.0)) else f"cost = {row['cost']}"
