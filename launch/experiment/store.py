"""Finished results of an experiment on disk: one file per controller and point, so that nothing is played twice."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from edgemarl.agents.registry import files_in, targets_in
from edgemarl.envs.arrays import Array
from edgemarl.envs.files import remove_temporaries, replacing
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.targets import load_target
from edgemarl.launch.experiment.columns import column
from edgemarl.marl.lock import locked

logger = logging.getLogger(__name__)

_KEY = b"edgemarl"
_SEAL = b"edgemarl result, SHA-256 of what follows: "
NAME_MAX = 60
"""Characters of a name in a file's name."""


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """The results' folder for one command alone; what killed ones left under temporary names is removed.

    Raises:
        ValueError: another command works there, or it cannot be written.
    """
    with locked(folder):
        for place in (folder, folder / "parts", folder / "figures"):
            remove_temporaries(place)
        yield


@dataclasses.dataclass(frozen=True)
class Part:
    """What one controller (one training seed of it) did at one point of the sweep.

    Attributes:
        means: metric -> (B,) means after warm-up, and `discounted_cost` where the scenario has a discount.
        cost_windows: (B, W) windowed means of the cost.
        about: names, information, timings, bytes; of a trained controller what it was made from (`made_from`: run,
            agent-steps, digest of the policies).
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
        """The file of a part: readable, and another one for other names."""
        names = (point, controller, str(seed))
        name = "__".join(slug(text) for text in names if text)
        if any(slug(text) != text or "__" in text for text in names):  # others may read the same
            name += f"-{digest_of(names)[:8]}"
        return self.folder / "parts" / f"{name}.part"

    def read(self, path: Path, digest: str) -> Part | None:
        """A finished part, or None if there is none, one of other settings, or one that is damaged."""
        import pyarrow.parquet

        content = self.read_sealed(path)
        if content is None:
            return None
        table = pyarrow.parquet.read_table(io.BytesIO(content))
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
        content = io.BytesIO()
        pyarrow.parquet.write_table(table, content)
        self.write_sealed(path, content.getvalue())

    def read_sealed(self, path: Path) -> bytes | None:
        """What was written to a file; None if it is not there, or not as it was written, which is said."""
        try:
            seal, _, content = path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        if seal == _SEAL + hashlib.sha256(content).hexdigest().encode():
            return content
        logger.warning("result %s is damaged: it is computed again", path)
        return None

    def write_sealed(self, path: Path, content: bytes) -> None:
        """Write a file with its checksum; it appears whole or not at all."""
        with replacing(path) as temporary:
            temporary.write_bytes(_SEAL + hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


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
    """File -> fingerprint of sources and policies outside this project that a result depends on; none if all is ours.

    Args:
        scenario: what was played.
        controller: name of the controller, which may hold targets.
    """
    modules = {type(scenario).__module__}
    for target in targets_in(controller):
        loaded = load_target(target, "controller")
        modules.add(getattr(loaded, "__module__", type(loaded).__module__))
    files: set[Path] = set()
    for name in modules:
        if name.split(".")[0] != "edgemarl":
            package = sys.modules[name.split(".")[0]]
            folders = [Path(folder) for folder in getattr(package, "__path__", ())]
            files.update(path for folder in folders for path in folder.rglob("*.py"))
            files.add(Path(sys.modules[name].__file__ or ""))
    sources = {path.name: path for path in sorted(files) if path.is_file()}
    sources.update({str(path): path for path in files_in(controller)})
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in sources.items()}


def versions() -> dict[str, str]:
    """Versions of this product and of what its numbers depend on."""
    installed = {}
    for name in ("edgemarl", "numpy", "scipy", "torch", "ray", "gymnasium", "pettingzoo", "pandas"):
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            installed[name] = "not installed"
    return installed


def slug(text: str) -> str:
    """A name as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", text).strip("_.")[:NAME_MAX]
