"""Tables in the terminal and on the report page."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgemarl.launch.console import TABLE_WIDTH
from edgemarl.launch.report.names import short_names
from edgemarl.launch.report.numerals import duration, percent, significant, with_interval

if TYPE_CHECKING:
    from rich.table import Table

    from edgemarl.launch.experiment.calculations import Calculated
    from edgemarl.launch.experiment.run import PointResult
    from edgemarl.marl.evaluation.compare import Comparison, Interval, Row

GAP_LEAST = -1.0
"""Share of the gap below which a number says no more than that it is far below."""
_LESS = "<-100%"
MAIN_COLUMNS = 6
"""Columns of a scenario that a terminal shows before those that every scenario has."""
GUTTER = 2
"""Columns of the terminal between two columns of a table."""


def training_time(row: Row) -> str:
    """Training beforehand, planning of a reference, or that the controller learns while it runs."""
    if row.training_s is not None:
        return duration(row.training_s)
    if row.kind == "reference":
        return f"{duration(row.setup_s)} plan"
    return "online" if row.kind == "learned" else "none"


def headings(comparison: Comparison, cost_label: str) -> list[str]:
    """Column titles of a comparison table."""
    reference = comparison.reference or "reference"
    names = ["controller", "information", f"{cost_label} [95% CI]"]
    names += [f"gap closed ({comparison.baseline} to {reference})"] if comparison.baseline else []
    names += [f"above {reference}"] if comparison.reference else []
    names += ["above the bound"] if comparison.bound else []
    return [*names, *comparison.rows[0].columns, "decision / slot", "signalling [B/slot]", "training"]


def cells(row: Row, comparison: Comparison) -> list[tuple[str, str]]:
    """One row of a comparison table, in the order of `headings`: text and, where there is one, its interval."""
    texts = [row.controller, row.information, with_interval(row.cost)]
    texts += [gap_cell(row.gap_closed)] if comparison.baseline else []
    texts += [percent(row.excess)] if comparison.reference else []
    texts += [percent(row.above_bound)] if comparison.bound else []
    texts += [with_interval(value) for value in row.columns.values()]
    texts += [duration(row.decision_s), f"{row.signalling_bytes:,.0f}", training_time(row)]
    return [(text.partition(" [")[0], text[len(text.partition(" [")[0]) :].strip()) for text in texts]


def sort_keys(row: Row, comparison: Comparison) -> list[str | float]:
    """What the cells of a row are sorted by, in the order of `headings`; NaN where there is nothing."""
    from edgemarl.marl.evaluation.compare import Interval

    nothing = Interval(float("nan"), float("nan"), float("nan"))
    keys: list[str | float] = [row.controller, row.information, row.cost.value]
    keys += [(row.gap_closed or nothing).value] if comparison.baseline else []
    keys += [(row.excess or nothing).value] if comparison.reference else []
    keys += [(row.above_bound or nothing).value] if comparison.bound else []
    keys += [value.value for value in row.columns.values()]
    trained_s = row.training_s if row.training_s is not None else row.setup_s if row.kind == "reference" else 0.0
    return [*keys, row.decision_s, row.signalling_bytes, trained_s]


def bound_cells(comparison: Comparison) -> list[tuple[str, str]]:
    """The last row of a comparison table, what no controller can do better than; none without a bound."""
    if comparison.bound is None:
        return []
    text = with_interval(comparison.bound.cost)
    cost = (text.partition(" [")[0], text[len(text.partition(" [")[0]) :].strip())
    return [("lower bound", ""), ("", ""), cost] + [("", "")] * (len(headings(comparison, "")) - 3)


def bound_keys(comparison: Comparison) -> list[str | float]:
    """What the cells of `bound_cells` are sorted by."""
    if comparison.bound is None:
        return []
    rest = [float("nan")] * (len(headings(comparison, "")) - 3)
    return ["lower bound", "", comparison.bound.cost.value, *rest]


def bound_sentence(comparison: Comparison) -> str:
    """What a comparison's lower bound binds, or why there is none."""
    bound = comparison.bound
    if bound is None:
        return f"No lower bound: {comparison.no_bound}." if comparison.no_bound else ""
    part = f" It is of the first {bound.cells} of {comparison.cells} networks."
    return f"The lower bound binds {bound.binds}.{part if bound.cells < comparison.cells else ''}"


def gap_sentence(comparison: Comparison) -> str:
    """The ends of the gap, and how a share below -100% reads; empty where there is no gap."""
    gaps = [row.gap_closed for row in comparison.rows if row.gap_closed is not None]
    if not gaps:
        return ""
    baseline, reference = comparison.baseline, comparison.reference
    text = f"Gap closed: from `{baseline}` (0%) to `{reference}` (100%)"
    if max(gap.value for gap in gaps) > 1.0:
        text += f"; above 100%: costs less than `{reference}`"
    if min(gap.value for gap in gaps) < 0.0:
        text += f"; below 0%: costs more than `{baseline}`"
    if min(gap.value for gap in gaps) < GAP_LEAST:
        text += f"; {_LESS}: more by over the whole gap"
    return text + "."


def gap_cell(gap: Interval | None) -> str:
    """A share of the gap with its interval; far below 0 only that it is, which the table's note explains."""
    return _LESS if gap is not None and gap.value < GAP_LEAST else percent(gap)


def terminal_table(result: PointResult) -> Table:
    """The comparison of one point for a terminal of `TABLE_WIDTH` columns; the report has every column."""
    from rich import box
    from rich.table import Table

    comparison = result.comparison
    where = f", {result.point.label}" if result.point.label else ""
    table = Table(
        title=f"{comparison.scenario}{where}: {result.point.scenario.cost_label}, {comparison.cells} networks, paired",
        title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, collapse_padding=True,
    )  # fmt: skip
    rows = sorted(comparison.rows, key=lambda r: -r.cost.value)
    shown, left_out = _fitting(_columns(rows, comparison))
    for column in shown:
        table.add_column(column.heading, justify="left" if column.left else "right", no_wrap=True)
    styles = {"reference": "dim", "learned": "bold"}
    for i, row in enumerate(rows):
        table.add_row(*(column.cells[i] for column in shown), style=styles.get(row.kind))
    if comparison.bound is not None:
        table.add_row("lower bound", "", with_interval(comparison.bound.cost), style="dim italic")
    more = f"Further columns are in the report: {', '.join(left_out)}." if left_out else ""
    table.caption = "\n".join(line for line in (gap_sentence(comparison), bound_sentence(comparison), more) if line)
    table.caption_justify = "left"
    return table


@dataclass(frozen=True)
class _Column:
    """A column of the terminal's table.

    Attributes:
        name: what the report calls it.
        heading: lines above it.
        rank: columns of a higher rank are left out first.
    """

    name: str
    heading: str
    cells: list[str]
    rank: int
    left: bool = False

    @property
    def width(self) -> int:
        return max(map(len, [*self.heading.split("\n"), *self.cells]))


def _columns(rows: Sequence[Row], comparison: Comparison) -> list[_Column]:
    """All columns in their order."""
    names = short_names([row.controller for row in rows])
    columns = [
        _Column("controller", "controller", [names[row.controller] for row in rows], 0, left=True),
        _Column("information", "infor-\nmation", [row.information for row in rows], 1, left=True),
        _Column("cost", "cost [95% CI]", [with_interval(row.cost) for row in rows], 0),
    ]
    if comparison.baseline and comparison.reference:
        gaps = [gap_cell(row.gap_closed).partition(" [")[0] for row in rows]
        columns.append(_Column("gap closed", "gap\nclosed", gaps, 0))
    if comparison.bound is not None:
        above = ["-" if row.above_bound is None else f"{100 * row.above_bound.value:.1f}%" for row in rows]
        columns.append(_Column("above the bound", "above\nbound", above, 3))
    for i, label in enumerate(rows[0].columns):
        values = [significant(row.columns[label].value) for row in rows]
        if any(value not in ("0", "-") for value in values):  # such as drops: a column where there are some
            columns.append(_Column(label.partition(" [")[0], _stacked(label), values, 2 if i < MAIN_COLUMNS else 4 + i))
    sent = [f"{row.signalling_bytes:,.0f}" for row in rows]
    return [
        *columns,
        _Column("signalling", "sent\n[B/slot]", sent, 1),
        _Column("training", "training\ntime", [training_time(row) for row in rows], 3),
        _Column("decision per slot", "decision\nper slot", [duration(row.decision_s) for row in rows], 5),
    ]


def _fitting(columns: Sequence[_Column]) -> tuple[list[_Column], list[str]]:
    """As many columns as a terminal has room for, those of low rank first, and the names of the others."""
    left, shown = TABLE_WIDTH, []
    for column in sorted(columns, key=lambda c: c.rank):  # stable
        if column.rank == 0 or column.width + GUTTER <= left:
            left -= column.width + GUTTER
            shown.append(column)
    return [c for c in columns if c in shown], [c.name for c in columns if c not in shown]


def calculation_table(calculated: Calculated) -> Table:
    """A calculation for the terminal."""
    from rich import box
    from rich.table import Table

    table = Table(title=calculated.spec.title, title_justify="left", box=box.SIMPLE_HEAD)
    for heading in calculated.headings():
        table.add_column(heading, justify="right")
    for row in calculated.cells():
        table.add_row(*row)
    return table


def _stacked(label: str) -> str:
    """A label in narrow lines, its unit on the last one: `device\nenergy\n[J/block]`."""
    name, bracket, unit = label.partition(" [")
    lines = textwrap.wrap(name, max(8, len(unit) + 1), break_long_words=False)
    return "\n".join([*lines, *([f"[{unit}"] if bracket and unit != "-]" else [])])
