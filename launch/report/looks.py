"""How a controller looks in every figure: colour, marker and line, which no other controller has all alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgemarl.marl.evaluation.compare import Row

PALETTE = ("#0072B2", "#D55E00", "#882255", "#56B4E9", "#E69F00", "#332288", "#5C4B00", "#888888")
"""Told apart with any colour vision (a test measures it); learned controllers take theirs first."""
REFERENCE = "#000000"
MARKERS = "osD^vP*Xhd<>p8"
SOLID: Any = "-"
DASHES: dict[str, tuple[Any, ...]] = {
    "learned": (SOLID, (0, (7, 2, 1, 2)), (0, (9, 3))),
    "baseline": ((0, (1, 1.2)), (0, (3, 1, 1, 1)), (0, (1, 3))),
    "reference": ((0, (5, 2)), (0, (5, 2, 1, 2)), (0, (5, 2, 1, 2, 1, 2)), (0, (2, 2)), (0, (8, 2, 2, 2))),
}
"""Line of each kind, and what it becomes when the colours have all been used."""


@dataclass(frozen=True)
class Look:
    colour: str
    marker: str
    line: Any


def looks(rows: Sequence[Row]) -> dict[str, Look]:
    """Controller -> look. References are black; the others share one palette, learned ones first."""
    look_of: dict[str, Look] = {}
    used: set[tuple[str, Any]] = set()
    order = sorted(range(len(rows)), key=lambda i: rows[i].kind != "learned")  # stable
    coloured = 0
    for i in order:
        row = rows[i]
        if row.kind == "reference":
            colour = REFERENCE
        else:
            colour, coloured = PALETTE[coloured % len(PALETTE)], coloured + 1
        lines = DASHES[row.kind]
        line = next((line for line in lines if (colour, line) not in used), lines[-1])
        used.add((colour, line))
        look_of[row.controller] = Look(colour, MARKERS[i % len(MARKERS)], line)
    return {row.controller: look_of[row.controller] for row in rows}
