"""Tables in the terminal and on the report page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgemarl.launch.report.numerals import duration, percent, significant, with_interval

if TYPE_CHECKING:
    from rich.table import Table

    from edgemarl.launch.experiment.calculations import Calculated
    from edgemarl.launch.experiment.run import PointResult
    from edgemarl.marl.evaluation.compare import Comparison, Row


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
    texts += [percent(row.gap_closed)] if comparison.baseline else []
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


def terminal_table(result: PointResult) -> Table:
    """The comparison of one point for the terminal; intervals only for the cost, so that it fits a screen."""
    from rich import box
    from rich.table import Table

    comparison = result.comparison
    where = f", {result.point.label}" if result.point.label else ""
    table = Table(
        title=f"{comparison.scenario}{where}: {comparison.cells} networks, paired",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    shown = list(comparison.rows[0].columns)[:2]
    table.add_column("controller", no_wrap=True)
    table.add_column("infor-\nmation", no_wrap=True, min_width=6)
    table.add_column("cost [95% CI]", justify="right", no_wrap=True)
    measured = ["gap closed", *(["above\nbound"] if comparison.bound else []), *(_broken(label) for label in shown)]
    for name in [*measured, "decision\nper slot", "signalling\n[B/slot]"]:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("training\ntime", justify="right", no_wrap=True)
    styles = {"reference": "dim", "learned": "bold"}
    for row in sorted(comparison.rows, key=lambda r: -r.cost.value):
        gap = "-" if row.gap_closed is None else f"{100 * row.gap_closed.value:.1f}%"
        table.add_row(
            row.controller, row.information, with_interval(row.cost), gap,
            *([] if row.above_bound is None else [f"{100 * row.above_bound.value:.1f}%"]),
            *(significant(row.columns[label].value) for label in shown), duration(row.decision_s),
            f"{row.signalling_bytes:,.0f}", training_time(row), style=styles.get(row.kind),
        )  # fmt: skip
    if comparison.bound is not None:
        table.add_row("lower bound", "", with_interval(comparison.bound.cost), style="dim italic")
    table.caption = bound_sentence(comparison) or None
    table.caption_justify = "left"
    return table


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


def _broken(label: str) -> str:
    """A label with its unit on a second line."""
    return label.replace(" [", "\n[", 1)
