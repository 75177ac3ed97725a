"""Figures of an experiment; a controller has the same colour and marker in all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from edgemarl.envs.arrays import Array
from edgemarl.envs.files import replacing
from edgemarl.launch.experiment.calculations import Calculated
from edgemarl.launch.experiment.plan import FigureSpec, Plan
from edgemarl.launch.experiment.run import PointResult
from edgemarl.launch.report import numerals, parts
from edgemarl.launch.report.looks import MARKERS, PALETTE, looks
from edgemarl.launch.report.marked import InlineFigure, MarkedFigure, inline, name_lines
from edgemarl.launch.report.names import short_names
from edgemarl.launch.report.style import STYLE, own_style, write_png, write_svg
from edgemarl.launch.report.training_figure import draw_training
from edgemarl.marl.evaluation.compare import Interval, Row

DECISION, SIGNALLING = "decision per slot [ms]", "signalling [byte/slot]"
_BOUND: Any = {"color": "black", "ls": ":", "lw": 1.4}


def draw_all(
    plan: Plan, results: Sequence[PointResult], calculated: Sequence[Calculated], folder: Path
) -> list[tuple[str, InlineFigure]]:
    """Draw the preset's figures and its calculations' shares as PNG and SVG; returns (caption, what a page holds)."""
    drawn: list[tuple[str, InlineFigure]] = []
    for i, spec in enumerate(plan.preset.figures):
        if (spec.kind in ("sweep", "scaling", "frontier") and len(results) < 2) or not _shown(results[0], spec):
            continue
        figure, caption = draw(plan, results, spec)
        name = "-".join(part for part in (str(i + 1), spec.kind, spec.metric.replace(" ", "_")) if part)
        drawn.append((spec.caption or caption, _saved(figure, folder / name, len(drawn))))
    if plan.preset.figures and parts.terms(results[0]):
        figure, caption = draw_cost_parts(results)
        drawn.append((caption, _saved(figure, folder / "cost-parts", len(drawn))))
    for i, calculation in enumerate(calculated):
        if calculation.spec.percent:
            path = folder / f"calculation-{i + 1}"
            drawn.append((f"{calculation.spec.title}.", _saved(_draw_calculated(calculation), path, len(drawn))))
    return drawn


def _saved(figure: Figure, path: Path, number: int) -> InlineFigure:
    """Write a figure as files; returns it as the page's figure of this number."""
    save(figure, path)
    return inline(figure, f"f{number}")


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG and SVG; returns the SVG's path."""
    for ending, write in (("png", write_png), ("svg", write_svg)):
        with own_style(STYLE), replacing(path.with_name(f"{path.name}.{ending}")) as temporary:
            write(figure, temporary)
    return path.with_name(f"{path.name}.svg")


def _draw_calculated(calculation: Calculated) -> Figure:
    """The shares of a calculation over its argument."""
    with own_style(STYLE):
        figure = MarkedFigure(layout="constrained", figsize=(7.4, 4.2))
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        x = np.array(calculation.spec.values)
        for i, name in enumerate(calculation.spec.percent):
            y = [100 * row[name] for row in calculation.rows]
            label = calculation.spec.columns[name]
            colour = PALETTE[i % len(PALETTE)]
            lines = axes.plot(x, y, marker=MARKERS[i % len(MARKERS)], color=colour, lw=1.6, label=label)
            figure.mark(label, axes, lines, x, y, [f"{v:g}: {share:.3g}%" for v, share in zip(x, y, strict=True)])
        if x.min() > 0 and x.max() / x.min() >= 10:
            axes.set_xscale("log")
        axes.set_xticks(x, [f"{v:g}" for v in x])
        axes.minorticks_off()
        axes.set_xlabel(calculation.spec.columns.get(calculation.spec.argument, calculation.spec.argument))
        axes.set_ylabel("%")
        axes.legend()
    return figure


def draw(plan: Plan, results: Sequence[PointResult], spec: FigureSpec) -> tuple[MarkedFigure, str]:
    """One figure and its caption."""
    painters = {
        "bars": _bars, "curves": _curves, "sweep": _sweep, "tradeoff": _tradeoff, "scaling": _scaling,
        "training": _training, "frontier": _frontier,
    }  # fmt: skip
    with own_style(STYLE):
        figure = MarkedFigure(layout="constrained")
        FigureCanvasAgg(figure)
        caption = painters[spec.kind](figure, plan, results, spec)
    return figure, caption + (f" Left out: {', '.join(spec.without)}." if spec.without else "")


def draw_cost_parts(results: Sequence[PointResult]) -> tuple[MarkedFigure, str]:
    """The parts of the cost, stacked, and the caption."""
    with own_style(STYLE):
        figure = MarkedFigure(layout="constrained")
        FigureCanvasAgg(figure)
        rows = min(len(results[0].comparison.rows), parts.ROWS_MAX)
        grid = _grid(figure, results, 6.4, 0.34 * rows + 1.3)
        caption = parts.draw_parts(figure, results, [axes for axes, _ in grid])
    return figure, caption


def _shown(result: PointResult, spec: FigureSpec) -> list[Row]:
    """Rows that a figure shows."""
    return [row for row in result.comparison.rows if row.controller not in spec.without]


def _grid(
    figure: MarkedFigure, results: Sequence[PointResult], width: float, height: float
) -> list[tuple[Any, PointResult]]:
    """One panel per point, at most three in a row."""
    columns = min(len(results), 3)
    rows = -(-len(results) // columns)
    figure.set_size_inches(width * columns + (2.0 if columns == 1 else 1.0), height * rows)
    panels = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for panel in panels[len(results) :]:
        panel.set_axis_off()
    return list(zip(panels, results, strict=False))


def _bars(figure: MarkedFigure, plan: Plan, results: Sequence[PointResult], spec: FigureSpec) -> str:
    names = len(_shown(results[0], spec))
    label = _label(results[0], spec.metric)
    for axes, result in _grid(figure, results, 5.6, 0.34 * names + 1.3):
        rows = sorted(_shown(result, spec), key=lambda row: _value(row, spec.metric).value, reverse=True)
        look = looks(result.comparison.rows)
        values = [_value(row, spec.metric) for row in rows]
        for y, (row, value) in enumerate(zip(rows, values, strict=True)):
            style = look[row.controller]
            lines = axes.plot([value.low, value.high], [y, y], color=style.colour, lw=2.2, solid_capstyle="butt")
            lines += axes.plot(value.value, y, style.marker, color=style.colour, ms=7, mec="white", mew=0.8)
            figure.mark(row.controller, axes, lines, value.value, y, [numerals.with_interval(value)])
        names_shown = short_names([row.controller for row in rows])
        axes.set_yticks(range(len(rows)), [names_shown[row.controller] for row in rows])
        axes.set_ylim(-0.7, len(rows) - 0.3)
        limit = _limit(result, spec.metric)
        if limit is not None:
            axes.axvline(limit, **_BOUND)
        axes.grid(axis="y", visible=False)
        ends = [end for v in values for end in (v.low, v.value, v.high)]
        log_scale(axes, "x", ends if limit is None else [*ends, limit])
        axes.set_xlabel(label)
        axes.set_title(result.point.label, loc="left")
    return (
        f"{label.capitalize()} of every controller on the same {results[0].comparison.cells} networks, 95% intervals."
        + _bound_caption(results, spec.metric)
    )


def _curves(figure: MarkedFigure, plan: Plan, results: Sequence[PointResult], spec: FigureSpec) -> str:
    window = plan.preset.window
    label = _label(results[0], spec.metric)
    panels = _grid(figure, results, 6.2, 4.2)
    for axes, result in panels:
        look = looks(result.comparison.rows)
        heights = []
        for row in _shown(result, spec):
            mean, spread = _series(result, row.controller, spec.metric)
            slots = np.arange(len(mean)) * window + window / 2
            style = look[row.controller]
            lines = axes.plot(slots, mean, ls=style.line, color=style.colour, lw=1.6, label=row.controller)
            band = axes.fill_between(slots, mean - spread, mean + spread, color=style.colour, alpha=0.10, lw=0)
            words = [
                _at(f"slot {t:.0f}", Interval(m, m - w, m + w)) for t, m, w in zip(slots, mean, spread, strict=True)
            ]
            figure.mark(row.controller, axes, [*lines, band], slots, mean, words)
            heights += list(mean)
        limit = _limit(result, spec.metric)
        if limit is not None:
            axes.plot([plan.preset.warmup, plan.slots], [limit, limit], label="lower bound of the mean", **_BOUND)
            heights.append(limit)
        if plan.preset.warmup:
            axes.axvspan(0, plan.preset.warmup, color="#F3F3F3", zorder=0, lw=0)
        axes.set_xlim(0, plan.slots)
        if spec.metric == "excess":
            _percent_scale(axes, heights)
        else:
            log_scale(axes, "y", heights)
            low, high = min(heights), max(heights)  # of the means: a wide band may leave the panel
            if low == high:
                pass  # a single window: matplotlib leaves room by itself
            elif axes.get_yscale() == "log":
                axes.set_ylim(low * (low / high) ** 0.06, high * (high / low) ** 0.06)
            else:
                axes.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))
        axes.set_xlabel("slot")
        axes.set_ylabel(label)
        axes.set_title(result.point.label, loc="left")
    handles, labels = panels[0][0].get_legend_handles_labels()
    name_lines(figure, handles, labels)
    shaded = "; the shaded slots are left out of the means" if plan.preset.warmup else ""
    said = f"{label.capitalize()} over time, means over windows of {window} slots with 95% bands{shaded}."
    return said + _bound_caption(results, spec.metric)


def _at(where: str, value: Interval) -> str:
    """A point in words: where it is, its value and interval."""
    return f"{where}: {numerals.with_interval(value)}"


def _series(result: PointResult, controller: str, metric: str) -> tuple[Array, Array]:
    """Windowed cost, or its excess over the reference in percent, and half its 95% band over networks; (W,) each."""
    cost = result.cost_windows(controller)
    best = result.comparison.reference
    if metric == "excess" and best is not None:
        reference = result.cost_windows(best)
        values = 100.0 * (cost - reference) / reference.mean(axis=0)
    elif metric in ("", "cost"):
        values = cost
    else:
        raise ValueError(f"curves show the cost or its 'excess' over a reference, not '{metric}'")
    cells = len(values)
    spread = 1.96 * values.std(axis=0, ddof=1) / np.sqrt(cells) if cells > 1 else np.zeros(values.shape[1])
    return values.mean(axis=0), spread


def _percent_scale(axes: Any, heights: Sequence[float]) -> None:
    """A scale that is linear near 0 and logarithmic further out, so that 0.5% and 90% are both seen."""
    axes.set_yscale("symlog", linthresh=1.0)
    ticks = np.array([-100, -30, -10, -3, -1, 0, 1, 3, 10, 30, 100, 300, 1000])
    low, high = min(heights) - 0.5, 1.3 * max(heights) + 0.5
    axes.set_yticks(ticks, [f"{tick}" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(low, high)
    axes.axhline(0, color="black", lw=0.8)


def _sweep(figure: MarkedFigure, plan: Plan, results: Sequence[PointResult], spec: FigureSpec) -> str:
    figure.set_size_inches(8.4, 4.6)
    axes = figure.subplots()
    _draw_sweep(figure, axes, plan, results, spec.metric, _shown(results[0], spec))
    name_lines(figure, *axes.get_legend_handles_labels())
    said = f"{axes.get_ylabel().capitalize()} against {axes.get_xlabel() or 'the sweep'}, 95% intervals."
    return said + _bound_caption(results, spec.metric)


def _scaling(figure: MarkedFigure, plan: Plan, results: Sequence[PointResult], spec: FigureSpec) -> str:
    """A panel for the cost, for its excess, for every measured column, for decision time and for signalling."""
    rows = [row for result in results for row in result.comparison.rows]
    names = ["cost", "excess", *results[0].comparison.rows[0].columns, DECISION, SIGNALLING]
    shown = [name for name in names if any(np.isfinite(_value(row, name).value) for row in rows)]
    columns = min(len(shown), 4)
    rows_of_panels = -(-len(shown) // columns)
    figure.set_size_inches(4.0 * columns + 1.6, 3.2 * rows_of_panels)
    panels = figure.subplots(rows_of_panels, columns, squeeze=False).reshape(-1)
    for panel in panels[len(shown) :]:
        panel.set_axis_off()
    for axes, name in zip(panels, shown, strict=False):
        _draw_sweep(figure, axes, plan, results, name, results[0].comparison.rows, always_log=True)
    name_lines(figure, *panels[0].get_legend_handles_labels())
    return (
        f"Cost, speed, memory and signalling against {panels[0].get_xlabel()}, logarithmic axes (the excess over "
        f"{results[0].comparison.reference} is linear up to 1%). Bars: 95% intervals of costs, range over seeds "
        "elsewhere. No point: nothing to measure, or not reached."
    )


def _draw_sweep(
    figure: MarkedFigure, axes: Any, plan: Plan, results: Sequence[PointResult], metric: str, rows: Sequence[Row],
    always_log: bool = False,
) -> None:  # fmt: skip
    values = [result.point.value for result in results]
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    x = np.asarray(values, float) if numeric else np.arange(len(values))
    look = looks(results[0].comparison.rows)
    heights = []
    for row in rows:
        there = [i for i, result in enumerate(results) if row.controller in result.parts]  # a learner: where trained
        intervals = [_value(results[i].comparison.row(row.controller), metric) for i in there]
        y = np.array([f.value for f in intervals])
        bars = np.nan_to_num(np.abs(np.array([[f.value - f.low, f.high - f.value] for f in intervals]).T))
        style = look[row.controller]
        drawn = axes.errorbar(
            x[there], y, bars, ls=style.line, marker=style.marker, color=style.colour, lw=1.6, ms=5.5, capsize=2.5,
            label=row.controller,
        )  # fmt: skip
        words = [_at(results[i].point.label, value) for i, value in zip(there, intervals, strict=True)]
        figure.mark(row.controller, axes, drawn.get_children(), x[there], y, words)
        heights += list(y)
    limits = [_limit(result, metric) for result in results]
    if any(limit is not None for limit in limits):
        known = np.array([np.nan if limit is None else limit for limit in limits])
        axes.plot(x, known, marker="_", label="lower bound", **_BOUND)
        heights += list(known[np.isfinite(known)])
    if numeric and x.min() > 0 and (always_log or x.max() / x.min() >= 10):
        axes.set_xscale("log")
    axes.set_xticks(x, [f"{v:g}" if numeric else str(v) for v in values])
    axes.minorticks_off()
    if always_log and metric == "excess":
        _percent_scale(axes, [height for height in heights if np.isfinite(height)])
    else:
        log_scale(axes, "y", heights, 1.0 if always_log else 4.0)
    sweep = plan.preset.sweep
    axes.set_xlabel((sweep.label or sweep.field) if sweep else "")
    axes.set_ylabel(_label(results[0], metric))


def _tradeoff(figure: MarkedFigure, plan: Plan, results: Sequence[PointResult], spec: FigureSpec) -> str:
    label = results[0].point.scenario.cost_label
    for axes, result in _grid(figure, results, 5.4, 4.0):
        look = looks(result.comparison.rows)
        for row in _shown(result, spec):
            style, value = look[row.controller], row.cost
            drawn = axes.errorbar(
                row.signalling_bytes, value.value,
                np.nan_to_num(np.abs([[value.value - value.low], [value.high - value.value]])), fmt=style.marker,
                color=style.colour, ms=7, capsize=2.5, label=row.controller,
            )  # fmt: skip
            words = [_at(f"{row.signalling_bytes:,.0f} byte/slot", value)]
            figure.mark(row.controller, axes, drawn.get_children(), row.signalling_bytes, value.value, words)
        axes.margins(x=0.1)
        sent = [row.signalling_bytes for row in _shown(result, spec)]
        if min(sent) > 0:
            log_scale(axes, "x", sent)
        else:
            axes.set_xscale("symlog", linthresh=1)
            axes.set_xlim(-0.3, 2.0 * max(1.0, *sent))
        limit = _limit(result, "")
        if limit is not None:
            axes.axhline(limit, label="lower bound", **_BOUND)
        log_scale(axes, "y", [row.cost.value for row in _shown(result, spec)] + ([] if limit is None else [limit]))
        axes.set_xlabel("signalling [byte/slot]")
        axes.set_ylabel(label)
        axes.set_title(result.point.label, loc="left")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    name_lines(figure, handles, labels)
    return f"{label.capitalize()} against signalling." + _bound_caption(results, "")


def _frontier(figure: MarkedFigure, plan: Plan, results: Sequence[PointResult], spec: FigureSpec) -> str:
    """One metric against another; a line per controller joins the points of the sweep, which are named along it."""
    figure.set_size_inches(8.4, 4.6)
    axes = figure.subplots()
    look = looks(results[0].comparison.rows)
    reached: dict[str, list[float]] = {"x": [], "y": []}
    for row in _shown(results[0], spec):
        here = [result.comparison.row(row.controller) for result in results]
        x, y = ([_value(r, name).value for r in here] for name in (spec.against, spec.metric))
        style = look[row.controller]
        lines = axes.plot(
            x, y, ls=style.line, marker=style.marker, color=style.colour, lw=1.6, ms=5.5, label=row.controller
        )
        words = [_at(r.point.label, _value(one, spec.metric)) for r, one in zip(results, here, strict=True)]
        figure.mark(row.controller, axes, lines, x, y, words)
        if row.controller == plan.reference:
            clear = {"fc": "white", "ec": "none", "pad": 0.6}
            for result, a, b in zip(results, x, y, strict=True):
                side = "left" if 2 * a < min(x) + max(x) else "right"  # towards the middle, where there is room
                offset = (7 if side == "left" else -7, -9)
                axes.annotate(
                    result.point.label, (a, b), offset, textcoords="offset points", ha=side, fontsize=7.5, bbox=clear
                )
        reached["x"] += x
        reached["y"] += y
    for name, values in reached.items():
        log_scale(axes, name, values)
    axes.set_xlabel(_label(results[0], spec.against))
    axes.set_ylabel(_label(results[0], spec.metric))
    name_lines(figure, *axes.get_legend_handles_labels())
    return f"{axes.get_ylabel().capitalize()} against {axes.get_xlabel()}; lines join the points of the sweep."


def _training(figure: MarkedFigure, plan: Plan, results: Sequence[PointResult], spec: FigureSpec) -> str:
    first = results[0]
    scenario, rows = first.point.scenario, first.comparison.rows
    metric = spec.metric or scenario.cost_metric
    labels = [label for label, parts in scenario.summary_metrics.items() if parts == (metric,)]
    known = [label for label in rows[0].columns if labels and label.startswith(labels[0])]
    caption = draw_training(figure, first.runs, rows, looks(rows), metric, known[0] if known else "", scenario.horizon)
    axes = figure.axes[0]
    log_scale(axes, "y", [float(v) for line in axes.lines for v in np.asarray(line.get_ydata())])
    return caption


def _limit(result: PointResult, metric: str) -> float | None:
    """The lower bound of what a figure shows: of the cost, or of its excess over the reference in percent."""
    bound, best = result.comparison.bound, result.comparison.reference
    if bound is None or metric not in ("", "cost", "excess"):
        return None
    if metric != "excess":
        return bound.cost.value
    above = None if best is None else result.comparison.row(best).above_bound
    if above is None:
        return None
    reference = np.sign(bound.cost.value) + above.value  # in units of |bound|
    return float(-100.0 * above.value / abs(reference))


def _bound_caption(results: Sequence[PointResult], metric: str) -> str:
    if all(_limit(result, metric) is None for result in results):
        return ""
    return " Dotted: what no controller can do better than."


def _value(row: Row, metric: str) -> Interval:
    """A number of a row by name: the cost, its discounted sum, the excess in percent, or one of its columns."""
    nothing = Interval(float("nan"), float("nan"), float("nan"))
    if metric in ("", "cost"):
        return row.cost
    if metric == "discounted_cost":
        return row.discounted_cost or nothing
    if metric == "excess":
        return (
            nothing
            if row.excess is None
            else Interval(*(100 * v for v in (row.excess.value, row.excess.low, row.excess.high)))
        )
    if metric == DECISION:
        return Interval(*[1e3 * row.decision_s] * 3)
    if metric == SIGNALLING:
        return Interval(*[row.signalling_bytes] * 3)
    for label, value in row.columns.items():
        if label.startswith(metric):
            return value
    raise ValueError(
        f"unknown metric '{metric}' of a figure. Known: cost, discounted_cost, excess, {', '.join(row.columns)}"
    )


def _label(result: PointResult, metric: str) -> str:
    if metric in ("", "cost"):
        return result.point.scenario.cost_label
    if metric == "discounted_cost":
        return "discounted sum of the cost"
    if metric == "excess":
        return f"cost above {result.comparison.reference} [%]"
    return next((label for label in result.comparison.rows[0].columns if label.startswith(metric)), metric)


def log_scale(axes: Any, which: str, values: Sequence[float], factor: float = 4.0) -> None:
    """A logarithmic axis with plain numbers where positive values spread over at least a factor."""
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    finite = [v for v in values if np.isfinite(v)]
    if not finite or min(finite) <= 0 or max(finite) / min(finite) < factor:
        return
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    decades = np.log10(max(finite) / min(finite))
    steps = (1.0, 2.0, 3.0, 5.0, 7.0) if decades < 1.3 else (1.0, 2.0, 5.0) if decades < 2.2 else (1.0,)
    axis.set_major_locator(LogLocator(subs=steps))
    if min(finite) > 1e-3 and max(finite) < 1e5:
        axis.set_major_formatter(ScalarFormatter())
    axis.set_minor_formatter(NullFormatter())
