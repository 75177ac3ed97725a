"""Exact calculations beside the simulated comparison: a function of the product over a range of one argument."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from edgemarl.launch.experiment.plan import Calculation, Plan
from edgemarl.launch.experiment.store import Store, digest
from edgemarl.launch.report.numerals import significant

Notify = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Calculated:
    """The rows that a calculation returned, one for each value of its argument."""

    spec: Calculation
    rows: list[dict[str, float]]

    def headings(self) -> list[str]:
        return list(self.spec.columns.values())

    def cells(self) -> list[list[str]]:
        """The table's texts, a row per value."""
        return [[_text(row[name], name in self.spec.percent) for name in self.spec.columns] for row in self.rows]


def calculate(plan: Plan, store: Store, notify: Notify) -> list[Calculated]:
    """Do the preset's calculations on its first network; each row is kept in the folder as it is done.

    Raises:
        ValueError: a function that the product does not have, a column that it does not return.
    """
    calculated = []
    config = plan.points[0].scenario.config
    for spec in plan.preset.calculations:
        function = load(spec)
        rows = []
        for i, value in enumerate(spec.values):
            notify(spec.title, i, len(spec.values))
            rows.append(_row(function, config, spec, value, store))
        notify(spec.title, len(spec.values), len(spec.values))
        calculated.append(Calculated(spec, rows))
    return calculated


def load(spec: Calculation) -> Callable[..., Mapping[str, float]]:
    """The function of a calculation; only the product's own may be named."""
    module, _, name = spec.function.partition(":")
    try:
        if not module.startswith(("edgemarl.agents.", "edgemarl.marl.")):
            raise ImportError(module)
        function: Callable[..., Mapping[str, float]] = getattr(import_module(module), name)
    except (ImportError, AttributeError):
        raise ValueError(f"calculation '{spec.function}' is not a function of agents or marl") from None
    return function


def _row(function: Callable[..., Any], config: Any, spec: Calculation, value: float, store: Store) -> dict[str, float]:
    mark = digest([spec.function, spec.argument, value, str(config)])
    path = store.folder / "parts" / f"calculation-{mark}.part"
    content = store.read_sealed(path)
    if content is not None:
        row: dict[str, float] = json.loads(content)
        return row
    row = {name: float(number) for name, number in function(config, **{spec.argument: value}).items()}
    for name in spec.columns:
        if name not in row:
            raise ValueError(f"calculation '{spec.function}' returns no '{name}'. Known: {', '.join(row)}")
    store.write_sealed(path, json.dumps(row).encode())
    return row


def _text(value: float, percent: bool) -> str:
    return f"{100 * value:.2f}%" if percent else significant(value, 4)


def as_summary(calculations: Sequence[Calculated]) -> list[dict[str, Any]]:
    """Plain values for JSON."""
    return [{**calculated.spec.model_dump(mode="json"), "rows": calculated.rows} for calculated in calculations]
