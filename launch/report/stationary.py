"""What is said of backlogs that still grow when a comparison ends."""

from __future__ import annotations

from edgemarl.launch.report.numerals import significant
from edgemarl.marl.evaluation.compare import Comparison


def growth_sentences(comparison: Comparison) -> list[str]:
    """A sentence per backlog that grew clearly, with the controllers under which it did."""
    found: dict[str, list[str]] = {}
    for row in comparison.rows:
        for growth in row.growth:
            if growth.not_stationary:
                found.setdefault(growth.backlog, []).append(f"`{row.controller}` by {significant(growth.per_slot)}")
    sentences = []
    for backlog, rows in found.items():
        name, _, unit = backlog.partition(" [")
        unit = unit.rstrip("]")
        per = f"{unit} per slot" if unit not in ("", "-") else "per slot"
        sentences.append(
            f"Not stationary: the backlog '{name}' still grew in the second half of the run, of {_listed(rows)} {per}. "
            "Their costs depend on how many slots are played."
        )
    return sentences


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
