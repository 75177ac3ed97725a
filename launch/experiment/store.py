"""Finished results of an experiment on disk: one file per controller and point, so that nothing is played twice."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from edgemarl.agents.registry import targets_in
from edgemarl.envs.arrays import Array
from edgemarl.envs.files import replacing
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.targets import load_target
from edgemarl.launch.experiment.columns import column

_KEY = b"edgemarl"


@dataclasses.dataclass(frozen=True)
class Part:
    """What one controller (one training seed of it) did at one point of the sweep.

    Attributes:
        means: metric -> (B,) means after warm-up, and `discounted_cost` where the scenario has a discount.
        cost_windows: (B, W) windowed means of the cost.
        about: names, information, timings, bytes.
    """

    means: Mapping[str, Array]
    cost_windows: Array
    about: Mapping[str, Any]


class Store:
    """The folder of an experiment.

    Raises:
        ValueError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            (folder / "parts").mkdir(parents=True, exist_ok=True)
            probe = folder / f".write-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ValueError(f"output folder {folder} cannot be written: {error.strerror or error}") from None

    def path(self, point: str, controller: str, seed: int) -> Path:
        name = "__".join(_slug(text) for text in (point, controller, str(seed)) if text)
        return self.folder / "parts" / f"{name}.parquet"

    def read(self, path: Path, digest: str) -> Part | None:
        """A finished part, or None if there is none, or one of other settings."""
        import pyarrow.parquet

        if not path.is_file():
            return None
        table = pyarrow.parquet.read_table(path)
        about = json.loads((table.schema.metadata or {}).get(_KEY, b"{}"))
        if about.pop("digest", "") != digest:
            return None
        columns = {name: table.column(name) for name in table.column_names}
        windows = np.array(columns.pop("cost_windows").to_pylist(), np.float64)
        return Part({name: column.to_numpy() for name, column in columns.items()}, windows, about)

    def write(self, path: Path, part: Part, digest: str) -> None:
        """Write a part; it appears whole or not at all."""
        import pyarrow
        import pyarrow.parquet

        columns = {**part.means, "cost_windows": part.cost_windows}
        table = pyarrow.table({name: column(np.asarray(values, np.float64)) for name, values in columns.items()})
        about = {**part.about, "digest": digest}
        table = table.replace_schema_metadata({_KEY: json.dumps(about).encode()})
        with replacing(path) as temporary:
            pyarrow.parquet.write_table(table, temporary)


def digest(settings: Any) -> str:
    """A fingerprint of settings and of the code that turns them into results."""
    return digest_of([settings, code_digest()])


def digest_of(settings: Any) -> str:
    """A fingerprint of settings."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@lru_cache
def code_digest() -> str:
    """Fingerprint of the sources of envs, agents and marl: results of other code are not reused."""
    total = hashlib.sha256()
    root = Path(__file__).parents[2]
    for package in ("envs", "agents", "marl"):
        for path in sorted((root / package).rglob("*.py")):
            total.update(path.read_bytes())
    return total.hexdigest()[:16]


def foreign_code(scenario: Scenario, controller: str) -> dict[str, str]:
    """File -> fingerprint of sources outside this project that a result depends on; none if all is ours.

    Args:
        scenario: what was played.
        controller: name of the controller, which may hold targets.
    """
    modules = {type(scenario).__module__}
    for target in targets_in(controller):
        found = load_target(target, "controller")
        modules.add(getattr(found, "__module__", type(found).__module__))
    files: set[Path] = set()
    for name in modules:
        if name.split(".")[0] != "edgemarl":
            package = sys.modules[name.split(".")[0]]
            folders = [Path(folder) for folder in getattr(package, "__path__", ())]
            files.update(path for folder in folders for path in folder.rglob("*.py"))
            files.add(Path(sys.modules[name].__file__ or ""))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files) if path.is_file()}


def versions() -> dict[str, str]:
    """Versions of this product and of what its numbers depend on."""
    found = {}
    for name in ("edgemarl", "numpy", "scipy", "torch", "ray", "gymnasium", "pettingzoo", "pandas"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "_", text).strip("_")
