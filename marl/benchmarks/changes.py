"""What became slower between two runs of the benchmarks, whatever the two machines were busy with.

Ratios (speed-ups, growth, shares) hold their own reference. A speed or a time is put against `reference_s`, fixed work
that is measured before and after every group and takes longer where the machine is slower or busier.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgemarl.marl.benchmarks.sequential_offloading import best_seconds

REFERENCE = "reference_s_"
"""Prefix of the keys of the reference, one per group."""
SLOWER = 1.25
"""How many times as slow counts as slower; less is the machine's noise."""
_KINDS = (
    (re.compile(r"_per_s(_|$)"), "speed"),
    (re.compile(r"speedup_limit|_share_|difference|checkpoint_files|^reference_s_"), "other"),
    (re.compile(r"speedup|_times_as_soon"), "ratio"),
    (re.compile(r"growth"), "inverse ratio"),
    (re.compile(r"_(ms|s)(_|$)"), "time"),
)


def kind_of(key: str) -> str:
    """What a key's number is: "speed", "time", "ratio" (more is better), "inverse ratio" (less is) or "other"."""
    return next((kind for pattern, kind in _KINDS if pattern.search(key)), "other")


def reference_s(repeats: int = 20) -> float:
    """Seconds of fixed work in NumPy and in Python, the least disturbed of several times."""
    values = np.linspace(0.0, 1.0, 20_000)
    square = np.ones((96, 96))

    def work() -> float:
        total = float(np.exp(values * values).sum()) + float((square @ square).sum())
        for number in range(5_000):
            total += number % 7
        return total

    return best_seconds(work, repeats)


@dataclass(frozen=True)
class Change:
    """One number of both runs; `factor` is how many times as fast it became, NaN where that cannot be said."""

    key: str
    old: float
    new: float
    factor: float

    @property
    def slower(self) -> bool:
        """Whether it became slower by more than noise."""
        return self.factor * SLOWER < 1.0


def changes(old: Mapping[str, float], new: Mapping[str, float], group_of: Mapping[str, str]) -> list[Change]:
    """Every number that both runs have, the slowest first; those that are no speed are left out.

    Args:
        old: key -> number of an earlier run.
        new: of this run.
        group_of: key -> group in which it was measured, whose reference counts.
    """
    listed = []
    for key in new:
        kind = kind_of(key)
        if kind != "other" and key in old:
            listed.append(Change(key, old[key], new[key], _factor(kind, key, old, new, group_of)))
    return sorted(listed, key=lambda change: (math.isnan(change.factor), change.factor))


def _factor(
    kind: str, key: str, old: Mapping[str, float], new: Mapping[str, float], group_of: Mapping[str, str]
) -> float:
    if min(old[key], new[key]) <= 0.0:
        return math.nan
    ratio = new[key] / old[key]
    if kind in ("ratio", "inverse ratio"):
        return ratio if kind == "ratio" else 1.0 / ratio
    reference = REFERENCE + group_of.get(key, "")
    if reference not in old or reference not in new:
        return math.nan
    slowness = new[reference] / old[reference]
    return ratio * slowness if kind == "speed" else slowness / ratio
