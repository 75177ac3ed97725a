"""Results of an experiment in files: results.parquet, summary.json, figures and one self-contained report page."""

from __future__ import annotations

import dataclasses
import json
import math
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from edgemarl.envs.config import config_fields
from edgemarl.envs.files import replacing
from edgemarl.launch.experiment.calculations import Calculated, as_summary
from edgemarl.launch.experiment.columns import column
from edgemarl.launch.experiment.place import experiment_digest
from edgemarl.launch.experiment.plan import Plan
from edgemarl.launch.experiment.played import PlayedTrace
from edgemarl.launch.experiment.run import Experiment, PointResult
from edgemarl.launch.experiment.store import versions
from edgemarl.launch.report import answer, figures, numerals, tables
from edgemarl.launch.report.cautions import cautions, growth_sentences, reference_sentences
from edgemarl.launch.report.marked import InlineFigure
from edgemarl.launch.report.parts import parts_table


def write_all(
    experiment: Experiment, results: Sequence[PointResult], calculated: Sequence[Calculated], command: str,
    *, notes: Sequence[tuple[str, str]] = (), findings: Sequence[str] = (),
) -> dict[str, Path]:  # fmt: skip
    """Write everything about finished results; returns name -> path.

    Args:
        experiment: what was run, and the folder.
        results: one per point.
        calculated: exact calculations beside them.
        command: as the user typed it.
        notes: further terms that the page explains.
        findings: further sentences of its head.
    """
    folder, plan = experiment.folder, experiment.plan
    paths = {
        "results": write_results(results, folder / "results.parquet"),
        "summary": write_summary(plan, results, calculated, command, folder / "summary.json", experiment.played),
    }
    drawn = figures.draw_all(plan, results, calculated, folder / "figures")  # numbers first: drawing needs more
    said = [*answer.answers(results), *headline(results), *findings]
    trace = [] if experiment.played is None else [*experiment.played.sentences(), *experiment.played.doubts]
    path = folder / "report.html"
    paths["report"] = write_report(plan, results, calculated, drawn, command, path, said, notes, trace)
    return paths


def write_results(results: Sequence[PointResult], path: Path) -> Path:
    """One row per point, controller, training seed and cell: the metrics' means after warm-up."""
    import pyarrow
    import pyarrow.parquet

    tables = []
    for result in results:
        for controller, parts in result.parts.items():
            for part in parts:
                rows = len(next(iter(part.means.values())))
                lead: dict[str, Any] = {
                    "point": result.point.label, "controller": controller, "information": part.about["information"],
                    "training_seed": part.about["seed"], "cell": np.arange(rows),
                    **part.about.get("measured", {}),
                }  # fmt: skip
                columns = {**lead, **part.means}
                tables.append(pyarrow.table({name: column(_repeated(value, rows)) for name, value in columns.items()}))
    with replacing(path) as temporary:
        pyarrow.parquet.write_table(pyarrow.concat_tables(tables, promote_options="permissive"), temporary)
    return path


def _repeated(value: Any, rows: int) -> Any:
    return [value] * rows if isinstance(value, str) else np.broadcast_to(value, rows)


def write_summary(
    plan: Plan, results: Sequence[PointResult], calculated: Sequence[Calculated], command: str, path: Path,
    played: PlayedTrace | None = None,
) -> Path:  # fmt: skip
    """All numbers with their intervals, versions, seeds and the full config of every point; NaN becomes null."""
    summary = {
        "name": plan.name,
        "experiment": experiment_digest(plan),
        "command": command,
        "versions": {"python": platform.python_version(), **versions()},
        "machine": {"processor": platform.machine(), "system": platform.system()},
        "seed": plan.seed,
        "preset": plan.preset.model_dump(mode="json"),
        "trace": None if played is None else {"path": str(plan.trace_file), **played.summary()},
        "points": [
            {
                "label": result.point.label,
                "value": result.point.value,
                "config": dataclasses.asdict(result.point.scenario.config),
                "comparison": result.comparison.as_dict(),
                "not_stationary": growth_sentences(result.comparison),
                "reference_doubt": reference_sentences(result.comparison),
                "timing": {name: [dict(p.about) for p in parts] for name, parts in result.parts.items()},
            }
            for result in results
        ],
        "calculations": as_summary(calculated),
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(_finite(summary), indent=1, default=str) + "\n", encoding="utf-8")
    return path


def write_report(
    plan: Plan, results: Sequence[PointResult], calculated: Sequence[Calculated],
    drawn: Sequence[tuple[str, InlineFigure]], command: str, path: Path, said: Sequence[str],
    notes: Sequence[tuple[str, str]], trace: Sequence[str] = (),
) -> Path:  # fmt: skip
    """One HTML file that needs nothing else: figures, style and the script that works on them are inside."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("edgemarl.launch", "report"), autoescape=True, undefined=StrictUndefined
    )
    scenario = results[0].point.scenario
    text = environment.get_template("report.html.j2").render(
        plan=plan,
        scenario=scenario,
        command=command,
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        versions=versions(),
        tables=[_table(result) for result in results],
        parts=[table for table in map(parts_table, results) if table],
        calculated=calculated,
        figures=drawn,
        points=[{"parts": figure.parts, "points": figure.points} for _, figure in drawn],
        parameters=config_fields(scenario.config),
        sweep_field=plan.preset.sweep.field if plan.preset.sweep else None,
        headline=said,
        notes=notes,
        trace=trace,
    )
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def headline(results: Sequence[PointResult]) -> list[str]:
    """What the comparison found, in sentences computed from its numbers."""
    sentences = []
    for result in results:
        comparison = result.comparison
        learned = [row for row in comparison.rows if row.kind == "learned" and row.information == "local"]
        if not learned:
            continue
        best = min(learned, key=lambda row: row.cost.value)
        where = f"{result.point.label}: " if result.point.label else ""
        text = f"{where}best decentralized learner {best.controller}, cost {numerals.with_interval(best.cost)}"
        if best.gap_closed is not None:
            ends = f"from {comparison.baseline} to {comparison.reference}"
            text += f"; it closes {numerals.percent(best.gap_closed)} of the gap {ends}"
        sentences.append(text + ".")
    return sentences


def _table(result: PointResult) -> dict[str, Any]:
    comparison = result.comparison
    rows = sorted(comparison.rows, key=lambda row: -row.cost.value)
    return {
        "title": result.point.label,
        "headings": tables.headings(comparison, result.point.scenario.cost_label),
        "rows": [
            *(
                {"kind": row.kind, "cells": _keyed(tables.cells(row, comparison), tables.sort_keys(row, comparison))}
                for row in rows
            ),
            *(
                [{"kind": "bound", "cells": _keyed(tables.bound_cells(comparison), tables.bound_keys(comparison))}]
                if comparison.bound
                else []
            ),
        ],
        "bound": tables.bound_sentence(comparison),
        "gap": tables.gap_sentence(comparison),
        "cautions": cautions(comparison),
        "cells": comparison.cells,
    }


def _keyed(cells: Sequence[tuple[str, str]], keys: Sequence[str | float]) -> list[tuple[tuple[str, str], str | float]]:
    """Cells, each with what it is sorted by."""
    return list(zip(cells, keys, strict=True))


def _finite(value: Any) -> Any:
    """Plain JSON values: NaN and infinity, which JSON lacks, become null."""
    if isinstance(value, dict):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
