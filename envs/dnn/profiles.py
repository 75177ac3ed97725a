"""Layer tables of deep networks: what each logical layer costs to run, to store and to send.

A logical layer is a stretch of the network between two points where exactly one tensor crosses (a linear layer with its
activation and pooling, or a whole residual block). Cut l of L runs layers 1..l on the device and the others at the
edge; l = 0 sends the raw input, l = L sends nothing.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.config import unknown_name
from edgemarl.envs.files import write_text

FOLDER = Path(__file__).parent
BUDGETS = {"alexnet": (0.040, 100e6), "resnet18": (0.060, 30e6)}
"""Shipped network -> energy budget in J per slot and memory budget in B (model_partitioning paper, Table I)."""
TIMES = ("time_s", "edge_time_s")
"""Columns that a table may have beside `COLUMNS`."""
COLUMNS = ("layer", "name", "macs", "parameters", "output_elements")
LARGEST_BYTES = {".csv": 5_000_000, ".yaml": 300_000}
"""Size of the largest table that is read: some hundred thousand layers, some thousand in a YAML file."""


@dataclass(frozen=True, repr=False)
class LayerProfile:
    """The logical layers 1..L of one network, and the budgets of a device that runs it.

    Attributes:
        input_elements: elements of the raw input (one sample).
        macs: multiply-accumulate operations of each layer (L entries).
        parameters: stored parameters of each layer (L).
        output_elements: elements of the tensor that leaves each layer (L).
        energy_budget_j: long-run energy per slot.
        memory_budget_bytes: long-run weighted memory.
        names: name of each layer (L), or empty.
        time_s: measured run time of each layer on the device (L), or empty.
        edge_time_s: measured run time of each layer on the server, alone (L), or empty.

    Raises:
        ValueError: no layer, columns of different length, negative or non-finite entries, a budget <= 0.
    """

    input_elements: float
    macs: tuple[float, ...]
    parameters: tuple[float, ...]
    output_elements: tuple[float, ...]
    energy_budget_j: float
    memory_budget_bytes: float
    names: tuple[str, ...] = ()
    time_s: tuple[float, ...] = field(default=())
    edge_time_s: tuple[float, ...] = field(default=())

    def __post_init__(self) -> None:
        for column in ("macs", "parameters", "output_elements", "names", *TIMES):
            object.__setattr__(self, column, _as_column(column, getattr(self, column)))
        if not self.macs:
            raise ValueError("macs is empty: a profile needs at least one layer")
        for column in ("parameters", "output_elements", "names", *TIMES):
            length = len(getattr(self, column))
            if length != self.layers and not (column in ("names", *TIMES) and length == 0):
                raise ValueError(f"{column} has {length} entries, must have one per layer as macs ({self.layers})")
        for column in ("macs", "parameters", "output_elements", *TIMES):
            _check_numbers(column, getattr(self, column))
        _check_numbers("input_elements", [self.input_elements])
        for name, unit in (("energy_budget_j", "J"), ("memory_budget_bytes", "B")):
            value = getattr(self, name)
            if not _is_number(value) or value <= 0:
                raise ValueError(f"{name} = {_shown(value)} {unit} is not legal: must be a finite number > 0")
        if sum(self.macs) <= 0:
            raise ValueError("macs are all 0: a network must have work")
        for name in self.names:
            if not isinstance(name, str):
                raise ValueError(f"names holds {_shown(name)}; every entry must be a text")

    def __repr__(self) -> str:
        return f"LayerProfile({self.layers} layers, {sum(self.macs) / 1e6:.1f} M MACs)"

    @property
    def layers(self) -> int:
        """Number L of logical layers."""
        return len(self.macs)

    @cached_property
    def local_macs(self) -> Array:
        """(L+1,) work of layers 1..l for every cut l."""
        return np.concatenate([[0.0], np.cumsum(np.asarray(self.macs, np.float64))])

    @cached_property
    def local_parameters(self) -> Array:
        """(L+1,) parameters of layers 1..l for every cut l."""
        return np.concatenate([[0.0], np.cumsum(np.asarray(self.parameters, np.float64))])

    @cached_property
    def activation_elements(self) -> Array:
        """(L+1,) elements of the tensor at every cut: the raw input, then each layer's output."""
        return np.concatenate([[self.input_elements], np.asarray(self.output_elements, np.float64)])


def _as_column(name: str, values: Any) -> tuple[Any, ...]:
    if not isinstance(values, list | tuple | np.ndarray):
        raise ValueError(f"{name} = {_shown(values)} is not legal: must be a list with one entry per layer")
    return tuple(values)


def _check_numbers(name: str, values: Iterable[Any]) -> None:
    total = 0.0
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
            raise ValueError(f"{name} holds {_shown(value)}; every entry must be a number")
        if not _is_number(value) or value < 0:
            raise ValueError(f"{name} holds {_shown(value)}; every entry must be finite and >= 0")
        total += float(value)
    if not isfinite(total):
        raise ValueError(f"{name} add up to more than a floating-point number can hold")


def _is_number(value: Any) -> bool:
    """Whether a value is a finite number that a floating-point number can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    try:
        return isfinite(value)
    except OverflowError:
        return False


def _shown(value: Any) -> str:
    """A value in a message: short, whatever it is."""
    if not isinstance(value, str | int | float | None | np.number):
        return f"a {type(value).__name__}"
    try:
        text = repr(value)
    except ValueError:  # whole numbers of many thousand digits
        return "a number of many digits"
    return text if len(text) <= 50 else f"{text[:50]}.."


@lru_cache(maxsize=1)
def shipped_profiles() -> dict[str, LayerProfile]:
    """AlexNet and ResNet18 at 3 x 224 x 224, the two networks of the model_partitioning paper."""
    return {
        name: load_profile(FOLDER / f"{name}.csv", energy_budget_j=energy, memory_budget_bytes=memory)
        for name, (energy, memory) in BUDGETS.items()
    }


def load_profile(
    path: str | os.PathLike[str], energy_budget_j: float | None = None, memory_budget_bytes: float | None = None
) -> LayerProfile:
    """Read a layer table.

    Args:
        path: a `.csv` file with columns layer, name, macs, parameters, output_elements (row 0 is the raw input; further
            columns such as time_s are allowed), or a `.yaml` file that `save_profile` wrote, with its budgets.
        energy_budget_j: replaces the file's budget; a CSV file has none, so it is needed there.
        memory_budget_bytes: likewise.

    Raises:
        ValueError: the file does not exist or does not hold a table; the message names the file and the column.
    """
    path = Path(path)
    what = f"layer table '{path}'"
    text = _read(path, what)
    values = _from_csv(what, text) if path.suffix == ".csv" else _from_yaml(what, text)
    for name, given in (("energy_budget_j", energy_budget_j), ("memory_budget_bytes", memory_budget_bytes)):
        if given is not None:
            values[name] = given
        elif name not in values:
            raise ValueError(f"{what} has no {name}: give one, or use a .yaml table that has it")
    return _profile_of(values, str(path))


def _read(path: Path, what: str) -> str:
    """The text of a table's file."""
    if not path.is_file():
        raise ValueError(f"{what} does not exist")
    largest = LARGEST_BYTES.get(path.suffix, LARGEST_BYTES[".yaml"])
    try:
        with path.open("rb") as file:
            content = file.read(largest + 1)
    except OSError as error:
        raise ValueError(f"{what} cannot be read: {error.strerror or error}") from None
    if len(content) > largest:
        raise ValueError(f"{what} is too large: must have at most {largest} B")
    try:
        return content.decode("utf-8-sig")  # spreadsheets put a mark before the first column
    except UnicodeDecodeError as error:
        raise ValueError(f"{what} is no text in UTF-8: {error.reason} at byte {error.start}") from None


def _from_csv(what: str, text: str) -> dict[str, Any]:
    reader = csv.DictReader(io.StringIO(text))
    try:
        rows = list(reader)
    except csv.Error as error:
        raise ValueError(f"{what} is not CSV: {error}") from None
    columns = list(reader.fieldnames or ())
    missing = [column for column in COLUMNS if column not in columns]
    if missing:
        raise ValueError(f"{what} has no column '{missing[0]}'; needed: {', '.join(COLUMNS)}")
    numbers = ["macs", "parameters", "output_elements", *(column for column in TIMES if column in columns)]
    for column in (*numbers, "layer", "name"):
        if columns.count(column) > 1:
            raise ValueError(f"{what} has the column '{column}' more than once")
    if not rows or rows[0]["layer"] != "0":
        raise ValueError(f"{what}: the first row must be layer 0, the raw input")
    for i, row in enumerate(rows):
        if row["layer"] != str(i):
            raise ValueError(f"{what}: row {i} is layer {_shown(row['layer'])}, must be {i}: in order, none left out")
        if None in row or None in row.values():
            raise ValueError(f"{what}: row {i} must have {len(columns)} entries, one per column")
    values: dict[str, Any] = {"names": [row["name"] for row in rows[1:]]}
    for column in numbers:
        try:
            values[column] = [float(row[column]) for row in rows]
        except ValueError:
            raise ValueError(f"{what}: column {column} holds something that is not a number") from None
    values["input_elements"] = values["output_elements"][0]
    for column in numbers:
        values[column] = values[column][1:]
    return values


def _from_yaml(what: str, text: str) -> dict[str, Any]:
    import yaml  # only needed for tables in this form

    try:
        values = yaml.safe_load(text)
    except Exception as error:  # besides its own errors the parser lets those of its conversions through
        said = " ".join(str(error).split())[:200]
        raise ValueError(f"{what} is not YAML: {type(error).__name__}: {said}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{what} must be a mapping with {', '.join(f.name for f in fields(LayerProfile))}")
    return values


def save_profile(profile: LayerProfile, path: str | os.PathLike[str]) -> None:
    """Write a layer table as `.csv` (without budgets) or `.yaml` (with them), to be read by `load_profile`."""
    path = Path(path)
    if path.suffix == ".csv":
        text = _as_csv(profile)
    elif path.suffix in (".yaml", ".yml"):
        import yaml

        values = {f.name: getattr(profile, f.name) for f in fields(profile)}
        text = yaml.safe_dump({k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}, sort_keys=False)
    else:
        raise ValueError(f"layer table '{path}': the name must end with .csv or .yaml")
    write_text(path, text)


def _as_csv(profile: LayerProfile) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    timed = [column for column in TIMES if getattr(profile, column)]
    writer.writerow([*COLUMNS, *timed])
    writer.writerow([0, "input", 0, 0, _whole(profile.input_elements), *[0.0] * len(timed)])
    names = profile.names or tuple(f"layer{i}" for i in range(1, profile.layers + 1))
    for i, row in enumerate(zip(names, profile.macs, profile.parameters, profile.output_elements, strict=True)):
        entries = [i + 1, row[0], *map(_whole, row[1:])]
        writer.writerow([*entries, *(f"{getattr(profile, column)[i]:.6g}" for column in timed)])
    return out.getvalue()


def _whole(value: float) -> float | int:
    return int(value) if value == int(value) else value


def profile_from(values: Any, name: str) -> LayerProfile:
    """A profile from a mapping of its fields; a key `table` names a file that gives the columns.

    Raises:
        ValueError: unknown or missing fields, illegal entries; the message begins with `name`.
    """
    if isinstance(values, LayerProfile):
        return values
    if isinstance(values, str | os.PathLike):
        return load_profile(values)
    if not isinstance(values, Mapping):
        raise ValueError(
            f"{name} = {_shown(values)} is not legal: must be a layer table, a mapping of one, or a file's name"
        )
    if "table" not in values:
        return _profile_of(values, name)
    table, budgets = values["table"], {k: v for k, v in values.items() if k != "table"}
    if not isinstance(table, str | os.PathLike):
        raise ValueError(f"{name}.table = {_shown(table)} is not legal: must be a file's name")
    known = ("table", "energy_budget_j", "memory_budget_bytes")
    for key in budgets:
        if key not in known:
            raise ValueError(f"{name}: " + unknown_name("field", _key(key), known))
    return load_profile(table, **budgets)


def _profile_of(values: Mapping[Any, Any], name: str) -> LayerProfile:
    """A profile from its fields alone."""
    known = [f.name for f in fields(LayerProfile)]
    for key in values:
        if key not in known:
            raise ValueError(f"{name}: " + unknown_name("field", _key(key), known))
    for field_name in known:
        if field_name not in values and field_name not in ("names", *TIMES):
            raise ValueError(f"{name}.{field_name} is missing")
    try:
        return LayerProfile(**values)
    except ValueError as error:
        raise ValueError(f"{name}.{error}") from None


def _key(key: Any) -> str:
    return key[:50] if isinstance(key, str) else _shown(key)


def profiles_from(values: Any) -> Any:
    """Name -> profile, from a mapping or from the name of a `.yaml` table (named after its file).

    The shipped networks stay known under their names unless they are replaced.
    """
    if isinstance(values, str | os.PathLike):
        values = {Path(values).stem: values}
    if not isinstance(values, Mapping):
        raise ValueError(f"profiles = {_shown(values)} is not legal: must map a network's name to its layer table")
    given = {str(name): profile_from(entry, f"profiles.{_key(name)}") for name, entry in values.items()}
    return {**shipped_profiles(), **given}
