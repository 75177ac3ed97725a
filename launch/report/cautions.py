"""What a reader of a comparison has to know first: few samples, backlogs that still grow, a reference that is none."""

from __future__ import annotations

from edgemarl.launch.report.numerals import percent, significant
from edgemarl.marl.evaluation.compare import Comparison

FAR_ABOVE_BOUND = 0.25
"""Share of the bound above which nothing shows that a reference is near the optimum."""
CLEARLY_BEATEN = 0.005
"""Share of the reference's cost that a controller saves, its whole interval, before it is named."""

FEW = 5
"""Networks, or training seeds, below which a 95% interval of a bootstrap covers the truth in under 80% of all cases:
51% with 2, 71% with 3, 78% with 4, 84% with 5, 89% with 10 (normal; `tests/marl/test_few_samples.py`)."""


def cautions(comparison: Comparison) -> list[str]:
    """All sentences of a comparison, those on its samples first."""
    return [*sample_sentences(comparison), *reference_sentences(comparison), *growth_sentences(comparison)]


def sample_sentences(comparison: Comparison) -> list[str]:
    """Where intervals come from few networks or training seeds."""
    said = []
    if 1 < comparison.cells < FEW:
        said.append(
            f"Intervals are too narrow: {comparison.cells} networks are few, and below {FEW} a 95% interval covers the "
            "mean in less than 80% of all cases."
        )
    seeds = [row.training_seeds for row in comparison.rows if 1 < row.training_seeds < FEW]
    if seeds:
        said.append(f"{min(seeds)} training seeds are few: intervals say little about what another seed would learn.")
    return said


def reference_sentences(comparison: Comparison) -> list[str]:
    """What speaks against the reference as the end of the gap: far above the certified bound, or beaten."""
    if comparison.reference is None:
        return []
    above = comparison.row(comparison.reference).above_bound
    beaten = [(r.cost.value, r.controller, r.excess) for r in comparison.rows if r.excess is not None]
    beaten = [row for row in beaten if row[2].high < -CLEARLY_BEATEN]
    said = []
    if above is not None and above.low > FAR_ABOVE_BOUND:
        said.append(f"it costs {percent(above)} more than the lower bound")
    if beaten:
        _, best, excess = min(beaten, key=lambda row: row[0])
        more = len(beaten) - 1
        others = f" (and {more} more {'is' if more == 1 else 'are'} below it)" if more else ""
        said.append(f"`{best}` costs {-100 * excess.value:.1f}% less than it{others}")
    if not said:
        return []
    return [f"`{comparison.reference}` is not shown to be near the optimum here: {', and '.join(said)}."]


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
