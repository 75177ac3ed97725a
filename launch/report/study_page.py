"""The page of a study: per scenario and size what decentralized and central control cost, need and send."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg

from edgemarl.envs.files import replacing
from edgemarl.launch.experiment.answers import Answer
from edgemarl.launch.experiment.store import versions
from edgemarl.launch.report.answer import heard, told
from edgemarl.launch.report.figures import log_scale, save
from edgemarl.launch.report.marked import InlineFigure, MarkedFigure, inline
from edgemarl.launch.report.numerals import duration, percent, significant, with_interval
from edgemarl.marl.evaluation.compare import Interval

MIB = 2.0**20
_LINES = (
    ("learned, decentralized", "#0072B2", "o", "-"),
    ("learned, central", "#D55E00", "s", "-"),
    ("best rule or online learner of own rows", "#8C8C8C", "^", ":"),
    ("best of all, computed ones included", "#000000", "D", "--"),
)
"""What a line of a figure is, its colour (told apart by colour-blind readers too), marker and dash."""

WIDE = 3
"""Panels beside each other below which a legend takes two lines."""
Table = tuple[list[str], list[list[str]]]
Draw = Callable[[MarkedFigure, Any, Sequence[Answer]], None]


def said(answers: Sequence[Answer]) -> list[str]:
    """The question's answer in words, a sentence per scenario, of its largest size."""
    lines = []
    for group in _by_scenario(answers).values():
        a = group[-1]
        local, central = a.decentralized.row, a.central.row
        more = f"{'costs' if a.price.value >= 0 else 'saves'} {abs(100 * a.price.value):.1f}%"
        clear = "" if a.price.low > 0 or a.price.high < 0 else " (its interval holds 0)"
        alone = f"from its own row and {heard(local)}" if told(local) else "for itself"
        sent = central.signalling_bytes / max(local.signalling_bytes, 1.0)
        bought = "; ".join(
            f"hearing {of} {'lowers' if change.value < 0 else 'raises'} the cost by {abs(100 * change.value):.1f}%"
            for of, change in a.exchanges
        )
        lines.append(
            f"{a.title}, {a.size} devices: letting every agent decide {alone} {more}{clear} against learned central "
            f"control, which sends {sent:.1f} times the bytes" + (f"; {bought}." if bought else ".")
        )
    return lines


def write(answers: Sequence[Answer], folder: Path, command: str) -> Path:
    """Write `study.md` and `study.html` with their figures; returns the path of the first."""
    drawn = list(_figures(answers))
    files = [(caption, save(figure, folder / "figures" / name)) for name, caption, figure in drawn]
    text = _markdown(answers, files, command)
    page = folder / "study.md"
    with replacing(page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    with replacing(page.with_suffix(".html")) as temporary:
        figures = [(caption, inline(figure, f"f{i}")) for i, (_, caption, figure) in enumerate(drawn)]
        temporary.write_text(_html(answers, figures, command), encoding="utf-8")
    return page


def cost_table(answers: Sequence[Answer]) -> Table:
    """Costs above what no controller can be below, or above the best that is known."""
    headings = [
        "devices",
        "learned, decentralized",
        "learned, central",
        "best rule or online learner",
        "best of all",
        "price of decentralization",
    ]
    return headings, [
        [
            str(a.size), *(_above(a, name) for name in _names(a)),
            percent(a.price),
        ]
        for a in answers
    ]  # fmt: skip


def needs_table(answers: Sequence[Answer]) -> Table:
    """What both learned sides send, and what deciding and learning take."""
    headings = [
        "devices",
        "control",
        "controller",
        "cost",
        "sent [B/slot]",
        "decision per slot",
        "training",
        "memory [MiB]",
    ]
    rows = []
    for a in answers:
        for what, side in (("decentralized", a.decentralized), ("central", a.central)):
            row = side.row
            rows.append([
                str(a.size), what, row.controller, with_interval(row.cost), f"{row.signalling_bytes:,.0f}",
                duration(row.decision_s), duration(row.training_s),
                significant(side.measured.get("peak_memory_bytes", float("nan")) / MIB),
            ])  # fmt: skip
    return headings, rows


def exchange_table(answers: Sequence[Answer]) -> Table:
    """What a message buys."""
    rows = [[str(a.size), of, percent(change)] for a in answers for of, change in a.exchanges]
    return ["devices", "told", "change of the cost"], rows


def _names(a: Answer) -> list[str | None]:
    rule = None if a.rule is None else a.rule.controller
    return [a.decentralized.row.controller, a.central.row.controller, rule, a.reference.controller]


def _above(a: Answer, name: str | None) -> str:
    return "-" if name is None else f"{percent(a.above[name])} `{name}`"


def _by_scenario(answers: Sequence[Answer]) -> dict[str, list[Answer]]:
    by_scenario: dict[str, list[Answer]] = {}
    for a in answers:
        by_scenario.setdefault(a.scenario, []).append(a)
    return by_scenario


def _against(group: Sequence[Answer]) -> str:
    if all(a.bounded for a in group):
        return "above the certified bound"
    if any(a.bounded for a in group):
        return "above the certified bound where there is one, else above the best of all"
    return "above the best of all (no bound was computed)"


# --- figures -----------------------------------------------------------------------------------------------------


def _figures(answers: Sequence[Answer]) -> Iterable[tuple[str, str, MarkedFigure]]:
    groups = list(_by_scenario(answers).values())
    yield (
        "cost",
        "Cost above the certified bound, or above the best of all where none was computed; bars are 95% intervals.",
        (_panels(groups, "cost above [%]", _draw_cost)),
    )
    yield "bytes", "Bytes that one slot of one network takes.", _panels(groups, "bytes per slot", _draw_bytes)


def _panels(groups: Sequence[list[Answer]], label: str, draw: Draw) -> MarkedFigure:
    figure = MarkedFigure(figsize=(max(9.0, 3.2 * len(groups)), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for i, group in enumerate(groups):
        axes = figure.add_subplot(1, len(groups), i + 1)
        draw(figure, axes, group)
        axes.set_title(group[0].scenario.replace("_", " "), fontsize=10)
        axes.set_xlabel("devices")
        axes.set_xscale("log")
        sizes = [a.size for a in group]
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        axes.grid(color="#E4E4E4")
        if i == 0:
            axes.set_ylabel(label)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    columns = len(labels) if len(groups) > WIDE else 2  # a narrow figure has no room for all beside each other
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    return figure


def _draw_cost(figure: MarkedFigure, axes: Any, group: Sequence[Answer]) -> None:
    for i, (label, colour, marker, line) in enumerate(_LINES):
        above = [(a.size, a.above[name]) for a in group if (name := _names(a)[i]) is not None]
        points = [(size, v) for size, v in above if v is not None]
        x = [size for size, _ in points]
        y = [100 * v.value for _, v in points]
        bars = [
            [100 * _half(v, v.value - v.low) for _, v in points],
            [100 * _half(v, v.high - v.value) for _, v in points],
        ]
        drawn = axes.errorbar(x, y, bars, color=colour, marker=marker, linestyle=line, label=label, capsize=2)
        named = {a.size: _names(a)[i] for a in group}
        words = [f"{size} devices, {named[size]}: {percent(v)}" for size, v in points]
        figure.mark(label, axes, drawn.get_children(), x, y, words)


def _half(interval: Interval, width: float) -> float:
    return max(width, 0.0) if width == width else 0.0


def _draw_bytes(figure: MarkedFigure, axes: Any, group: Sequence[Answer]) -> None:
    for (label, colour, marker, line), side in zip(_LINES[:2], ("decentralized", "central"), strict=True):
        y = [getattr(a, side).row.signalling_bytes for a in group]
        x = [a.size for a in group]
        lines = axes.plot(x, y, color=colour, marker=marker, linestyle=line, label=label)
        words = [f"{a.size} devices: {sent:,.0f} byte/slot" for a, sent in zip(group, y, strict=True)]
        figure.mark(label, axes, lines, x, y, words)
    sent = [side.row.signalling_bytes for a in group for side in (a.decentralized, a.central)]
    log_scale(axes, "y", sent, 1.0)


# --- pages -------------------------------------------------------------------------------------------------------


def _parts(group: Sequence[Answer]) -> list[tuple[str, Table]]:
    tables = [
        (
            f"Cost {_against(group)}; the price of decentralization is the difference of the learned ones, paired",
            cost_table(group),
        ),
        ("What it takes", needs_table(group)),
    ]
    exchanges = exchange_table(group)
    return [*tables, ("What a message buys", exchanges)] if exchanges[1] else tables


def _head(command: str) -> str:
    seen = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"Made by `{command}` on {datetime.now(UTC):%Y-%m-%d} ({seen})."


QUESTION = "What is lost, and what is saved, if every device decides for itself?"


def _markdown(answers: Sequence[Answer], figures: Sequence[tuple[str, Path]], command: str) -> str:
    lines = [f"# {QUESTION}", "", *(f"- {line}" for line in said(answers)), ""]
    for caption, path in figures:
        lines += [f"![{caption}](figures/{path.name})", "", f"*{caption}*", ""]
    lines += [_head(command), ""]
    for group in _by_scenario(answers).values():
        lines += [f"## {group[0].title}", ""]
        for title, (headings, rows) in _parts(group):
            lines += [f"{title}:", "", f"| {' | '.join(headings)} |", "|" + " --- |" * len(headings)]
            lines += [f"| {' | '.join(row)} |" for row in rows] + [""]
    return "\n".join(lines)


def sort_key(text: str) -> str | float:
    """What a cell is sorted by: the number that it begins with, times in seconds, else its words."""
    number = re.match(r"(-?[\d,]*\.?\d+)(%|\s*(?:µs|ms|s)\b)?", text)
    if number is None:
        return text.replace("`", "")
    unit = {"µs": 1e-6, "ms": 1e-3}.get((number[2] or "").strip(), 1.0)
    return float(number[1].replace(",", "")) * unit


def _html(answers: Sequence[Answer], figures: Sequence[tuple[str, InlineFigure]], command: str) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("edgemarl.launch", "report"), autoescape=True, undefined=StrictUndefined
    )
    groups = [
        (
            group[0].title,
            [
                (title, headings, [[(cell.replace("`", ""), sort_key(cell)) for cell in row] for row in rows])
                for title, (headings, rows) in _parts(group)
            ],
        )
        for group in _by_scenario(answers).values()
    ]
    return environment.get_template("study.html.j2").render(
        question=QUESTION, said=said(answers), figures=figures, groups=groups, head=_head(command),
        points=[{"parts": figure.parts, "points": figure.points} for _, figure in figures],
    )  # fmt: skip
