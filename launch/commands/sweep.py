"""`sweep`: training runs over seeds, controllers and sizes, on this machine or a cluster; results in one file."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from edgemarl.envs.config import cut, unknown_name
from edgemarl.envs.files import replacing
from edgemarl.envs.reading import parse_yaml, read_mapping
from edgemarl.envs.registry import scenario_class
from edgemarl.launch.console import plain_console
from edgemarl.launch.experiment.plan import POINTS_MAX, parse_overrides
from edgemarl.launch.progress import Bars
from edgemarl.launch.recipes import recipes, resolved
from edgemarl.launch.report.numerals import significant

if TYPE_CHECKING:
    import pandas as pd

CONTROLLERS: Mapping[str, Mapping[str, Any]] = {
    "shared": {},
    "independent": {"policies": "independent"},
    "mappo": {"algorithm": "mappo"},
    "central": {"control": "central"},
}
"""Controllers by name; a YAML file of the same form replaces them."""

LAST_SHARE = 0.1
"""Share of a learning curve, at its end, whose mean cost the table gives."""


def chosen_controllers(text: str, scenario: str) -> dict[str, Mapping[str, Any]]:
    """Controllers from names with commas, or from a YAML file: name -> fields of the training config.

    A name is one of `CONTROLLERS` or a recipe of the scenario; fields may name a recipe.

    Raises:
        ValueError: an unknown name, or a file that is not such a mapping.
    """
    if text.endswith((".yaml", ".yml")):
        content = read_mapping(text, f"controllers {text}")
        if not content or not all(isinstance(v, dict | None) for v in content.values()):
            raise ValueError(f"controllers {cut(text)} is not legal: must map names to training settings")
        return {str(name): resolved(scenario, fields or {}) for name, fields in content.items()}
    names = [name.strip() for name in text.split(",") if name.strip()]
    known = {**{name: {"recipe": name} for name in recipes(scenario)}, **CONTROLLERS}
    for name in names:
        if name not in known:
            raise ValueError(unknown_name("controller", name, known))
    return {name: resolved(scenario, known[name]) for name in names}


def chosen_sizes(settings: Sequence[str]) -> dict[str, list[Any]]:
    """`field=v1,v2` texts as field -> values, read as YAML."""
    sizes = {
        field: [parse_yaml(value, f"--sizes {cut(field)}") for value in values.split(",")]
        for field, values in parse_overrides(settings, "--sizes").items()
    }
    points = math.prod(map(len, sizes.values()))
    if points > POINTS_MAX:
        raise ValueError(f"--sizes give {points:,} points: at most {POINTS_MAX:,} are legal")
    return sizes


def sweep(
    scenario: str,
    controllers: str,
    sizes: Sequence[str],
    training_seeds: int,
    training: Mapping[str, Any],
    settings: Sequence[str],
    out: Path,
    storage: str | None,
    concurrent: int | None,
) -> int:
    """Train what is not finished, write `sweep.parquet` and print a table.

    Returns:
        exit code: 1 if a trial failed.

    Raises:
        ValueError: a misspelt or illegal setting; found before anything runs.
    """
    from edgemarl.marl.lock import locked
    from edgemarl.marl.training.local_copy import storage_path
    from edgemarl.marl.training.sweep import make_trials, run_sweep

    base = {"scenario": scenario, "set": dict(parse_overrides(settings)), **training}
    trials = make_trials(
        base, chosen_controllers(controllers, scenario_class(scenario).name), chosen_sizes(sizes), range(training_seeds)
    )
    where = storage_path(storage, str(out))
    folder = contextlib.nullcontext() if "://" in where else locked(Path(where))
    with folder:
        with Bars() as bars:
            rows, errors = run_sweep(
                trials, str(out), storage, concurrent, lambda done, total: bars("trials", done, total)
            )
        console = plain_console()
        if len(rows):
            _write(rows, f"{where}/sweep.parquet")
            console.print(results_table(rows, list(chosen_sizes(sizes))))
            console.print(f"{where}/sweep.parquet: {rows['trial'].nunique()} runs, {len(rows)} rows", soft_wrap=True)
    for name, error in errors.items():
        console.print(f"failed: {name}: {error}", style="red", soft_wrap=True)
    return 1 if errors else 0


def _write(rows: pd.DataFrame, file: str) -> None:
    if "://" in file:
        rows.to_parquet(file, index=False)
        return
    with replacing(Path(file)) as temporary:
        rows.to_parquet(temporary, index=False)


def results_table(rows: pd.DataFrame, sizes: Sequence[str]) -> Table:
    """Controller and size -> the mean cost at the end of training, over seeds, and its spread."""
    last = rows["agent_steps"] >= (1 - LAST_SHARE) * rows.groupby("trial")["agent_steps"].transform("max")
    per_run = rows[last].groupby([*sizes, "controller", "seed"], sort=False)["cost"].mean()
    table = Table(*sizes, "controller", "training seeds", "cost at the end", "standard deviation")
    for key, costs in per_run.groupby([*sizes, "controller"], sort=False):
        labels = key if isinstance(key, tuple) else (key,)
        spread = significant(float(costs.std())) if len(costs) > 1 else "-"
        table.add_row(*map(str, labels), str(len(costs)), significant(float(costs.mean())), spread)
    return table
