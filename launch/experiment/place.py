"""Where a comparison's results go: never silently in the place of results of another network."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from edgemarl.launch.experiment.plan import Plan
from edgemarl.launch.experiment.store import digest_of, slug
from edgemarl.marl.evaluation.tables import file_digest


def experiment_digest(plan: Plan) -> str:
    """A fingerprint of what is played, whoever plays it: networks, traces, seed and length."""
    trace = None if plan.trace is None else [file_digest(plan.trace.path), plan.networks_asked, plan.slots_asked]
    points = [[point.label, dataclasses.asdict(point.scenario.config)] for point in plan.points]
    return digest_of([plan.preset.scenario, points, plan.seed, plan.preset.networks, plan.slots, trace])


def holds_others(folder: Path, plan: Plan) -> bool:
    """Whether a folder has a report of another network, other traces or another seed."""
    file = folder / "summary.json"
    if not file.is_file():
        return False
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return True  # nobody knows of what
    return not isinstance(report, dict) or report.get("experiment") != experiment_digest(plan)


def default_folder(named: str) -> Path:
    """`results/NAME`, below the working folder whatever the name: of a file's preset or class the file's and its own.

    Args:
        named: a preset, a scenario, a preset's file, `module:Class` or `path/to/file.py:Class`.
    """
    path, _, target = named.partition(":")
    if target or path.endswith((".yaml", ".yml", ".py")):
        stem = Path(path).name
        for ending in (".yaml", ".yml", ".py"):
            stem = stem.removesuffix(ending)
        named = slug(f"{stem}-{target}" if target else stem)
    return Path("results") / named


def free_folder(default: Path, plan: Plan) -> Path:
    """The default folder, or one beside it that is named after the experiment where others' results lie there."""
    return (
        default.with_name(f"{default.name}-{experiment_digest(plan)[:8]}") if holds_others(default, plan) else default
    )
