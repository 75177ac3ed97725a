"""What is said of backlogs that still grow when a comparison ends."""

from __future__ import annotations

from edgemarl.launch.report.numerals import significant
from edgemarl.marl.evaluation.compare import Comparison


def growth_sentences(comparison: Comparison) -> list[str]:
    """A sentence per backlog that grew clearly, with the controllers under which it did."""
    growing: dict[str, list[tuple[str, float]]] = {}
    for row in comparison.rows:
        for growth in row.growth:
            if growth.not_stationary:
                growing.setdefault(growth.backlog, []).append((row.controller, growth.per_slot))
    return [_sentence(backlog, grown) for backlog, grown in growing.items()]


def _sentence(backlog: str, grown: list[tuple[str, float]]) -> str:
    name, _, unit = backlog.partition(" [")
    unit = unit.rstrip("]")
    per = f" {unit} per slot" if unit not in ("", "-") else " per slot"
    parts = [
        f"by {significant(per_slot)}{per if i == 0 else ''} under `{controller}`"
        for i, (controller, per_slot) in enumerate(grown)
    ]
    text = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return (
        f"Not stationary: the backlog '{name}' still grew in the second half of the run, {text}. "
        f"{'Its cost depends' if len(parts) == 1 else 'Their costs depend'} on how many slots are played."
    )
